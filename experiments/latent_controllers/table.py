"""The table of experiments/latent_controllers: quality, paired differences to PSLD, and what each method spends.

    python experiments/latent_controllers/table.py [outputs/latent_controllers] [--out FILE.csv]

PSNR and SSIM are of single samples, averaged over those of an image first; "mean of n" is the PSNR of their mean. The
standard error of a difference is that of the mean over paired photographs and seeds, hence measurements. Ratios of time
come from outputs/latent_speed, where the methods of one task take turns in one process; memory from
outputs/latent_memory, one process per controller and a batch of four images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from rbctrl.report.runs import load_rows

TASKS = ("sr4", "deblur_gauss", "inpaint_freeform")
REFERENCE = "psld"
PAIR = ["item", "seed"]
NUMBERS = ("psnr", "ssim", "chi2", "nfe", "vjp", "decoder_vjp", "encoder_vjp")


def read(folder: Path) -> pd.DataFrame:
    """One row per task, method, photograph and seed."""
    rows = load_rows(folder)
    rows = rows[rows.status != "failed"].rename(columns={"sampler.n_steps": "steps"})
    rows.loc[rows.controller == "bicubic", "steps"] = 0
    keys = ["operator", "controller", "steps", *PAIR]
    single, mean = rows[rows["sample"] != "mean"], rows[rows["sample"] == "mean"]
    per_image = single.groupby(keys).agg(
        samples=("psnr", "size"),
        seconds=("seconds_per_image", "median"),
        diverged=("alive", lambda alive: int((~alive.astype(bool)).sum())),
        **{name: (name, "mean") for name in NUMBERS},
    )
    per_image["psnr_mean"] = mean.set_index(keys)["psnr"]
    return per_image.reset_index()


def peak_memory(folder: Path) -> pd.Series:
    """High-water mark of a process that ran one controller alone, less that of uncontrolled sampling, MiB."""
    rows = load_rows(folder)
    peak = rows.groupby("controller").peak_memory.max()
    return peak - peak["none"]


def times_faster(folder: Path) -> pd.Series:
    """PSLD's seconds per image over those of what took turns with it, by (task, controller, steps)."""
    rows = load_rows(folder).rename(columns={"sampler.n_steps": "steps"})
    seconds = rows.groupby(["operator", "controller", "steps"]).seconds_per_image.median()
    reference = seconds.xs(REFERENCE, level="controller").groupby("operator").first()
    return reference.reindex(seconds.index, level="operator") / seconds


def table(rows: pd.DataFrame, memory: pd.Series, speed: pd.Series) -> pd.DataFrame:
    """One line per task and method; `memory` in MiB by controller."""
    lines = []
    for (operator, controller, steps), cell in rows.groupby(["operator", "controller", "steps"]):
        reference = rows[(rows.operator == operator) & (rows.controller == REFERENCE)].set_index(PAIR)
        gain = (cell.set_index(PAIR).psnr - reference.psnr).dropna()
        numbers = {name: cell[name].mean() for name in NUMBERS}
        lines.append(
            {"operator": operator, "controller": controller, "steps": int(steps), "images": len(cell)}
            | {"samples": int(cell.samples.max()), **numbers, "psnr_mean": cell.psnr_mean.mean()}
            | {"gain": gain.mean(), "gain_se": gain.sem(), "seconds": cell.seconds.median()}
            | {"speed": speed.get((operator, controller, steps))}
            | {"mib": memory.get(controller), "diverged": int(cell.diverged.sum())}
        )
    return pd.DataFrame(lines)


def markdown(summary: pd.DataFrame) -> str:
    """One line per task and method, best first."""
    heads = ["task", "controller", "steps", "PSNR", "over PSLD", "mean of n", "SSIM", "chi2", "nfe", "vjp"]
    heads += ["decoder vjp", "encoder vjp", "s per sample", "PSLD's time / its", "MiB over none"]
    lines = [f"| {' | '.join(heads)} |", "|---|---|" + "---:|" * (len(heads) - 2)]
    for task in TASKS:
        for r in summary[summary.operator == task].sort_values("psnr", ascending=False).itertuples():
            mean = f"{r.psnr_mean:.2f} ({r.samples})" if r.psnr_mean == r.psnr_mean else "–"
            cells = [
                task,
                f"`{r.controller}`",
                str(r.steps or "–"),
                f"{r.psnr:.2f}",
                f"{r.gain:+.2f} ± {r.gain_se:.2f}",
                mean,
            ]
            cells += [f"{r.ssim:.3f}", f"{r.chi2:.2f}"]
            cells += [f"{count:.0f}" for count in (r.nfe, r.vjp, r.decoder_vjp, r.encoder_vjp)]
            cells += [f"{r.seconds:.2f}", "–" if pd.isna(r.speed) else f"{r.speed:.1f}"]
            cells.append("–" if pd.isna(r.mib) else f"{r.mib:.0f}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("outputs/latent_controllers"))
    parser.add_argument("--memory", type=Path, default=Path("outputs/latent_memory"))
    parser.add_argument("--speed", type=Path, default=Path("outputs/latent_speed"))
    parser.add_argument("--out", type=Path, default=Path("experiments/latent_controllers/expected.csv"))
    given = parser.parse_args()
    summary = table(read(given.folder), peak_memory(given.memory), times_faster(given.speed))
    summary.to_csv(given.out, index=False, float_format="%.4f")
    print(markdown(summary))


if __name__ == "__main__":
    main()
