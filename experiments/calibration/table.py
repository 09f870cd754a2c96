"""The table and the figure of experiments/calibration.

    python experiments/calibration/table.py [outputs/calibration]    # expected.csv, README.md, coverage.png
    python experiments/calibration/table.py --expected               # the last two from expected.csv

A sampler is rejected if p < 0.001 in the chi-square test of either rank, or in the paired test of either coverage at
0.9 against exact draws for the same truths: all controllers share the luck of the truths.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import pandas as pd
from omegaconf import OmegaConf
from scipy.stats import norm

from rbctrl.metrics import calibration_test

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

HERE = Path(__file__).parent
WORLDS = {"gmm2d": "Three modes in the plane", "patches": "500 patches of photographs"}
COVERAGES = {"coverage": 0.9, "coverage_projections": 0.9, "coverage_half": 0.5}
RANKS = ("rank", "rank_residual")
P = 1e-3


def read(folder: Path) -> pd.DataFrame:
    """One line per run: the newest where a cell ran twice."""
    frames = {}
    for file in sorted(folder.rglob("rows.csv"), key=lambda file: file.stat().st_mtime):
        choices = OmegaConf.load(file.with_name("config.yaml")).choices
        frames[choices.experiment.removeprefix("calibration_"), choices.controller] = file
    if not frames:
        raise SystemExit(f"no rows below {folder}: run experiments/calibration/run.sh first")
    lines = []
    for (world, controller), file in frames.items():
        rows, exact = (pd.read_csv(f).set_index("item") for f in (file, frames[world, "exact_posterior"]))
        samples = OmegaConf.load(file.with_name("config.yaml")).config.n_samples
        lines.append({"world": world, "controller": controller} | cell(rows, exact, samples))
    return pd.DataFrame(lines).sort_values(["world", "rank_residual_distance"], kind="stable")


def cell(rows: pd.DataFrame, exact: pd.DataFrame, samples: int) -> dict[str, float]:
    """`NAME_over` is the paired difference to exact draws."""
    found = {"images": len(rows), "samples": samples, "alive": rows.alive.mean()}
    found["evaluations"] = (rows.nfe + rows.vjp).mean() / samples
    for name in COVERAGES:
        over = (rows[name] - exact[name]).dropna()
        found |= {name: rows[name].mean(), f"{name}_se": rows[name].sem()}
        found |= {f"{name}_over": over.mean(), f"{name}_over_se": over.sem()}
    for name in RANKS:
        test = calibration_test(rows[name].to_numpy())
        found |= {f"{name}_distance": test.distance, f"{name}_p": test.chi2_p, "lost": test.lost}
    return found


def rejected(row: pd.Series) -> bool:
    names = ("coverage", "coverage_projections")
    far = [abs(row[f"{name}_over"]) > norm.isf(P / 2) * row[f"{name}_over_se"] for name in names]
    return any(far) or any(row[f"{name}_p"] < P for name in RANKS)


def markdown(table: pd.DataFrame, world: str) -> str:
    lines = [
        "| controller | pixels, 0.9 | minus exact | projections, 0.9 | pixels, 0.5 | rank of a projection "
        "| rank of the residual | images × samples | nfe + vjp |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for _, row in table[table.world == world].iterrows():
        name = f"`{row.controller}`" if rejected(row) else f"**`{row.controller}`**"
        covered = [f"{row[c]:.3f} ± {row[f'{c}_se']:.3f}" for c in COVERAGES]
        covered.insert(1, f"{row.coverage_over:+.3f} ± {row.coverage_over_se:.3f}")
        ranks = [f"{row[f'{r}_distance']:.2f} ({p_value(row[f'{r}_p'])})" for r in RANKS]
        numbers = f"{row.images:.0f} × {row.samples:.0f} | {row.evaluations:.0f}"
        lines.append(f"| {name} | {' | '.join([*covered, *ranks])} | {numbers} |")
    return "\n".join(lines)


def p_value(p: float) -> str:
    return "p < 0.001" if p < P else f"p = {p:.2g}"


def draw(table: pd.DataFrame) -> None:
    figure, axes = plt.subplots(1, len(WORLDS), figsize=(11, 6), layout="constrained")
    for axis, (world, title) in zip(axes, WORLDS.items()):
        rows = table[table.world == world].iloc[::-1].reset_index(drop=True)
        for name, colour, label in (("coverage", "C0", "coordinates"), ("coverage_projections", "C1", "projections")):
            shift = 0.15 if name == "coverage" else -0.15
            axis.errorbar(
                rows[name], rows.index + shift, xerr=2 * rows[f"{name}_se"], fmt="o", ms=4, color=colour, label=label
            )
        passed = [("" if rejected(row) else "✓ ") + row.controller for _, row in rows.iterrows()]
        axis.set(yticks=rows.index, yticklabels=passed, xlim=(-0.03, 1.03), title=title)
        axis.set_xlabel("truth inside the 90 % interval, share ± 2 s.e.")
        axis.axvline(0.9, color="0.5", lw=1)
        axis.grid(axis="x", alpha=0.3)
    axes[0].legend(loc="center left")
    figure.savefig(HERE / "coverage.png", dpi=110)


def update_readme(table: pd.DataFrame) -> None:
    readme = HERE / "README.md"
    text = readme.read_text()
    for world in WORLDS:
        before, rest = text.split(f"<!-- {world} -->")
        after = rest.split("<!-- end -->", 1)[1]
        text = f"{before}<!-- {world} -->\n{markdown(table, world)}\n<!-- end -->{after}"
    readme.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("outputs/calibration"))
    parser.add_argument("--expected", action="store_true", help="only print again what expected.csv holds")
    given = parser.parse_args()
    if not given.expected:
        read(given.folder).to_csv(HERE / "expected.csv", index=False, float_format="%.4g")
    table = pd.read_csv(HERE / "expected.csv")
    update_readme(table)
    draw(table)
    for world, title in WORLDS.items():
        print(f"\n{title}\n\n{markdown(table, world)}")


if __name__ == "__main__":
    main()
