"""The tables of experiments/nonlinear: means over photographs and seeds, and what tuning chose.

    python experiments/nonlinear/table.py [outputs/nonlinear] [--out experiments/nonlinear/expected.csv] [--tuning]

One row is one (photograph, seed). Where a cell drew restarts, `psnr` is the mean over them and `psnr_best` the restart
of least residual; both are means over rows, and so is their standard error.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from omegaconf import OmegaConf

TASKS = ("phase_retrieval", "phase_retrieval_signed", "hdr", "jpeg", "gamma_blur")
KNOBS = {"dps": "zeta", "rb_modulation": "inner_steps", "daps": "lr", "red_diff": "weight"}
KEYS = ["operator", "controller", "setting"]


def read(folder: Path) -> pd.DataFrame:
    frames = []
    for file in sorted(folder.rglob("rows.csv")):
        record = OmegaConf.load(file.with_name("config.yaml"))
        knob = KNOBS.get(record.choices.controller)
        rows = pd.read_csv(file)
        single = rows[rows["sample"].astype(str) != "mean"].groupby(["item", "seed"])
        best = rows[rows["sample"].astype(str) == "mean"].set_index(["item", "seed"])
        frame = single[["psnr", "residual", "nfe", "vjp", "seconds_per_image"]].mean()
        frame["restarts"] = single.size()
        frame = frame.join(best[["psnr_best", "ssim_best", "residual_best"]]).reset_index()
        setting = "" if knob is None else f"{knob}={record.config.controller[knob]}"
        frames.append(frame.assign(**record.choices, setting=setting))
    if not frames:
        raise SystemExit(f"no rows below {folder}: run experiments/nonlinear/run.sh first")
    return pd.concat(frames, ignore_index=True)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    grouped = rows.groupby(KEYS)
    return grouped.agg(
        n=("psnr", "size"), restarts=("restarts", "max"), psnr=("psnr", "mean"), psnr_se=("psnr", "sem"),
        psnr_best=("psnr_best", "mean"), psnr_best_se=("psnr_best", "sem"), ssim_best=("ssim_best", "mean"),
        residual=("residual", "mean"), residual_best=("residual_best", "mean"),
        nfe=("nfe", "mean"), vjp=("vjp", "mean"), seconds=("seconds_per_image", "median"),
    ).reset_index()  # fmt: skip


def markdown(summary: pd.DataFrame) -> str:
    """A line per controller, a column per task: PSNR ± standard error, `mean of the restarts / the best one`."""
    cells = {(r.operator, r.controller): r for r in summary.itertuples()}
    order = [c for c in ("guess", "hio", "guidance", *KNOBS) if c in set(summary.controller)]
    lines = [f"| controller | {' | '.join(TASKS)} | nfe + vjp |", "|---" * (len(TASKS) + 2) + "|"]
    for controller in order:
        found = [cells.get((task, controller)) for task in TASKS]
        spent = sorted({int(r.nfe + r.vjp) for r in found if r is not None})
        lines.append(f"| `{controller}` | {' | '.join(map(_text, found))} | {'–'.join(map(str, spent))} |")
    return "\n".join(lines)


def _text(r: object) -> str:
    if r is None:
        return "–"
    if r.restarts == 1:
        return f"{r.psnr:.2f} ± {r.psnr_se:.2f}"
    return f"{r.psnr:.2f} ± {r.psnr_se:.2f} / {r.psnr_best:.2f} ± {r.psnr_best_se:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("outputs/nonlinear"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tuning", action="store_true", help="every setting and, with a star, the chosen one")
    given = parser.parse_args()
    summary = table(read(given.folder))
    if given.tuning:
        chosen = summary.groupby(["operator", "controller"])["psnr_best"].transform("max") == summary["psnr_best"]
        summary = summary.assign(chosen=chosen)
        print(summary[[*KEYS, "n", "psnr", "psnr_best", "residual_best", "chosen"]].to_string(index=False))
    else:
        print(markdown(summary))
    if given.out is not None:
        summary.drop(columns="seconds").to_csv(given.out, index=False, float_format="%.4f")


if __name__ == "__main__":
    main()
