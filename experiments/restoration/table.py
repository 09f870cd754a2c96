"""The table of experiments/restoration: means over photographs and seeds, and paired differences to the best
classical method.

    python experiments/restoration/table.py [outputs/restoration] [--out experiments/restoration/expected.csv]

Where a controller drew several samples, its row is that of the posterior mean. The standard error of a difference is
that of the mean of the paired differences: same photograph, same seed, hence same measurement.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from omegaconf import OmegaConf

CLASSICAL = ("bicubic", "wiener", "biharmonic", "tv")
KEYS = ["operator", "item", "seed"]


def read(folder: Path) -> pd.DataFrame:
    frames = []
    for file in sorted(folder.rglob("rows.csv")):
        choices = OmegaConf.load(file.with_name("config.yaml")).choices
        rows = pd.read_csv(file)
        if (rows["sample"].astype(str) == "mean").any():
            rows = rows[rows["sample"].astype(str) == "mean"]
        frames.append(rows.assign(operator=choices.operator, controller=choices.controller))
    if not frames:
        raise SystemExit(f"no rows below {folder}: run experiments/restoration/run.sh first")
    return pd.concat(frames, ignore_index=True)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    grouped = rows.groupby(["operator", "controller"])
    summary = grouped.agg(
        n=("psnr", "size"), psnr=("psnr", "mean"), se=("psnr", "sem"), ssim=("ssim", "mean"), chi2=("chi2", "mean"),
        nfe=("nfe", "mean"), vjp=("vjp", "mean"), seconds=("seconds_per_image", "median"),
    )  # fmt: skip
    best = {}
    for operator in summary.index.unique("operator"):
        classical = summary.loc[operator].loc[lambda t: t.index.isin(CLASSICAL), "psnr"]
        best[operator] = classical.idxmax()
    wide = rows.pivot_table(index=KEYS, columns="controller", values="psnr")
    for operator, controller in summary.index:
        paired = (wide.loc[operator][controller] - wide.loc[operator][best[operator]]).dropna()
        summary.loc[(operator, controller), "gain"] = paired.mean()
        summary.loc[(operator, controller), "gain_se"] = paired.sem()
        summary.loc[(operator, controller), "over"] = best[operator]
    return summary.reset_index()


def markdown(summary: pd.DataFrame) -> str:
    """One line per method, one column per task: PSNR ± standard error over n images; in brackets the paired gain."""
    tasks = [t for t in ("sr4", "deblur_gauss", "inpaint_random", "inpaint_freeform") if t in set(summary.operator)]
    cells = {(r.operator, r.controller): r for r in summary.itertuples()}
    order = [*CLASSICAL, *(c for c in summary.controller.unique() if c not in CLASSICAL)]
    lines = [f"| controller | {' | '.join(tasks)} | n | nfe + vjp | s per image |", "|---" * (len(tasks) + 4) + "|"]
    for controller in order:
        found = [cells.get((task, controller)) for task in tasks]
        texts = ["–" if r is None else f"{r.psnr:.2f} ({r.gain:+.2f} ± {r.gain_se:.2f})" for r in found]
        rows = [r for r in found if r is not None]
        spent = sorted({int(r.nfe + r.vjp) for r in rows})
        evaluations = "0" if spent == [0] else "–".join(map(str, sorted({spent[0], spent[-1]})))
        seconds = sum(r.seconds for r in rows) / len(rows)
        counts = "–".join(map(str, sorted({r.n for r in rows})))
        lines.append(f"| `{controller}` | {' | '.join(texts)} | {counts} | {evaluations} | {seconds:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("outputs/restoration"))
    parser.add_argument("--out", type=Path, default=Path("experiments/restoration/expected.csv"))
    given = parser.parse_args()
    summary = table(read(given.folder))
    summary.to_csv(given.out, index=False, float_format="%.4f")
    print(markdown(summary))


if __name__ == "__main__":
    main()
