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
        nfe=("nfe", "mean"), vjp=("vjp", "mean"), seconds=("seconds_per_image", "mean"),
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("outputs/restoration"))
    parser.add_argument("--out", type=Path, default=Path("experiments/restoration/expected.csv"))
    given = parser.parse_args()
    summary = table(read(given.folder))
    summary.to_csv(given.out, index=False, float_format="%.4f")
    print(summary.to_string(index=False, float_format="%.2f"))


if __name__ == "__main__":
    main()
