"""The table of experiments/latent_controllers: quality, paired differences to PSLD, and what each method spends.

    python experiments/latent_controllers/table.py [outputs/latent_controllers] [--out FILE.csv]

The standard error of a difference is that of the mean of paired differences: same photograph, same seed, hence same
measurement. Times of `psld` and `rb_modulation_latent` come from one sweep that takes them in turn.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from rbctrl.report.runs import load_rows

TASKS = ("sr4", "deblur_gauss", "inpaint_freeform")
REFERENCE = "psld"
KEYS = ["operator", "item", "seed"]


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per task and method."""
    grouped = rows.groupby(["operator", "controller"])
    summary = grouped.agg(
        n=("psnr", "size"), psnr=("psnr", "mean"), ssim=("ssim", "mean"), chi2=("chi2", "mean"), nfe=("nfe", "mean"),
        vjp=("vjp", "mean"), decoder_vjp=("decoder_vjp", "mean"), seconds=("seconds_per_image", "median"),
        mib=("peak_memory", "max"), diverged=("alive", lambda alive: int((~alive).sum())),
    )  # fmt: skip
    wide = rows.pivot_table(index=KEYS, columns="controller", values="psnr")
    for operator, controller in summary.index:
        paired = (wide.loc[operator][controller] - wide.loc[operator][REFERENCE]).dropna()
        summary.loc[(operator, controller), ["gain", "gain_se"]] = paired.mean(), paired.sem()
        reference = summary.loc[(operator, REFERENCE), "seconds"]
        summary.loc[(operator, controller), "speed"] = reference / summary.loc[(operator, controller), "seconds"]
    return summary.reset_index()


def markdown(summary: pd.DataFrame) -> str:
    """PSNR (gain over PSLD ± its standard error), SSIM and chi2 per task; evaluations, time and memory of sr4."""
    cells = {(r.operator, r.controller): r for r in summary.itertuples()}
    lines = [
        f"| controller | {' | '.join(TASKS)} | nfe | vjp | decoder vjp | s per image | times PSLD's speed | MiB |",
        "|---|" + "---|" * len(TASKS) + "---:|" * 6,
    ]
    order = sorted(summary.controller.unique(), key=lambda c: -cells["sr4", c].psnr if ("sr4", c) in cells else 0)
    for controller in order:
        found = [cells.get((task, controller)) for task in TASKS]
        texts = [
            "–" if r is None else f"{r.psnr:.2f} ({r.gain:+.2f} ± {r.gain_se:.2f}), {r.ssim:.3f}, {r.chi2:.2f}"
            for r in found
        ]
        spent = [r for r in found if r is not None]
        mean = {name: sum(getattr(r, name) for r in spent) / len(spent) for name in ("nfe", "vjp", "decoder_vjp")}
        counts = " | ".join(f"{value:.0f}" for value in mean.values())
        seconds, mib = sum(r.seconds for r in spent) / len(spent), max(r.mib for r in spent)
        speeds = sorted(r.speed for r in spent)
        speed = f"{speeds[0]:.1f}–{speeds[-1]:.1f}" if all(s < 1e4 for s in speeds) else "–"
        lines.append(f"| `{controller}` | {' | '.join(texts)} | {counts} | {seconds:.2f} | {speed} | {mib:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("outputs/latent_controllers"))
    parser.add_argument("--out", type=Path, default=Path("experiments/latent_controllers/expected.csv"))
    given = parser.parse_args()
    rows = load_rows(given.folder)
    rows = rows[rows.status != "failed"]
    summary = table(rows)
    summary.to_csv(given.out, index=False, float_format="%.4f")
    print(markdown(summary))


if __name__ == "__main__":
    main()
