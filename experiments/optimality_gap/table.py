"""The table and the figure of experiments/optimality_gap.

python experiments/optimality_gap/table.py [outputs/optimality_gap]    # after run.sh: expected.csv, README.md, gap.png
python experiments/optimality_gap/table.py --expected                  # README.md and gap.png from expected.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from omegaconf import OmegaConf

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

HERE = Path(__file__).parent
KNOBS = {"dps": ("zeta",), "shooting": ("horizon",)}  # settings that make a row of their own
NEAR = 0.1  # nats: where Doob's own excess is smaller than this, differences are of the controllers


def read(folder: Path) -> pd.DataFrame:
    """One line per controller and number of steps: the newest where a cell ran twice."""
    cells = {}
    for file in sorted(folder.rglob("rows.csv"), key=lambda file: file.stat().st_mtime):
        record = OmegaConf.load(file.with_name("config.yaml"))
        name, steps = record.choices.controller, record.config.sampler.n_steps
        for knob in KNOBS.get(name, ()):
            name = f"{name}, {knob} {record.config.controller[knob]:g}"
        cells[name, steps] = pd.read_csv(file).set_index("item")
    if not cells:
        raise SystemExit(f"no rows below {folder}: run experiments/optimality_gap/run.sh first")
    lines = [{"controller": c, "steps": n} | cell(rows, cells["doob", n]) for (c, n), rows in cells.items()]
    table = pd.DataFrame(lines)
    table = table.sort_values("steps")
    last = table.groupby("controller").excess.last()
    return table.sort_values(["controller", "steps"], key=lambda v: v.map(last) if v.name == "controller" else v)


def cell(rows: pd.DataFrame, doob: pd.DataFrame) -> dict[str, float]:
    """Means over the paths with a finite price; the others are counted. `over_doob` is paired: same y, x_T, noise."""
    finite = rows[np.isfinite(rows.excess)]
    over_doob = (finite.excess - doob.excess).dropna()
    return {
        "n": len(rows),
        "lost": len(rows) - len(finite),
        "excess": finite.excess.mean(),
        "excess_se": finite.excess.sem(),
        "over_doob": over_doob.mean(),
        "over_doob_se": over_doob.sem(),
        "control_error": finite.control_error.mean(),
        "control_error_se": finite.control_error.sem(),
        "control_energy": finite.control_energy.mean(),
        "nfe": rows.nfe.mean(),
        "vjp": rows.vjp.mean(),
    }


def rankable(table: pd.DataFrame) -> set[int]:
    """The numbers of steps at which Doob's own excess is near 0."""
    doob = table[table.controller == "doob"]
    return set(doob[doob.excess.abs() < NEAR].steps)


def markdown(table: pd.DataFrame) -> str:
    fine, steps = rankable(table), sorted(set(table.steps))
    head = [f"**{n} steps**" if n in fine else f"({n} steps)" for n in steps]
    lines = [
        f"| controller | {' | '.join(head)} | minus `doob`, {steps[-1]} steps | nfe + vjp per step |",
        "|---|" + "---:|" * (len(steps) + 2),
    ]
    for name in dict.fromkeys(table.controller):
        rows = table[table.controller == name].set_index("steps")
        words = [number(rows.loc[n], "excess") if n in rows.index else "–" for n in steps]
        paired = steps[-1] in rows.index and name != "doob"
        words.append(number(rows.loc[steps[-1]], "over_doob") if paired else "–")
        spent = ((rows.nfe + rows.vjp) / rows.index).iloc[-1]
        lines.append(f"| `{name}` | {' | '.join(words)} | {spent:.0f} |")
    return "\n".join(lines)


def number(row: pd.Series, name: str) -> str:
    value, error = row[name], row[f"{name}_se"]
    if abs(value) >= 1e4:
        text = f"{value:.2e}"
    else:
        digits = 2 if abs(value) < 10 else 1
        text = f"{value:.{digits}f} ± {error:.{digits}f}"
    return text + (f" ({row.lost:.0f} lost)" if row.lost else "")


def draw(table: pd.DataFrame) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
    names = [name for name in dict.fromkeys(table.controller) if name != "doob"]
    for k, name in enumerate(names):
        rows = table[table.controller == name].sort_values("steps")
        for axis, x in zip(axes, (rows.steps, rows.nfe + rows.vjp)):
            style = {"marker": "osD^vPX*hp"[k % 10], "ms": 5, "lw": 1, "color": f"C{k}", "label": name}
            axis.errorbar(x, rows.excess, yerr=2 * rows.excess_se, **style)
    doob = table[table.controller == "doob"].sort_values("steps")
    floor = doob.excess.abs() + 2 * doob.excess_se
    axes[0].fill_between(doob.steps, floor, 1e-3, color="0.88", label="|excess of doob| + 2 s.e.: no ranking below")
    for axis in axes:
        axis.set(xscale="log", yscale="log", ylim=(0.03, None))
        axis.grid(alpha=0.3, which="major")
    axes[0].set(xlabel="steps", ylabel="excess over the optimal control, nats")
    axes[0].set_xticks(doob.steps, [str(n) for n in doob.steps], minor=False)
    axes[0].minorticks_off()
    axes[1].set(xlabel="evaluations of the prior and VJPs, per sample")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    figure.savefig(HERE / "gap.png", dpi=110)


def update_readme(table: pd.DataFrame) -> None:
    readme = HERE / "README.md"
    before, rest = readme.read_text().split("<!-- table -->")
    after = rest.split("<!-- end -->", 1)[1]
    readme.write_text(f"{before}<!-- table -->\n{markdown(table)}\n<!-- end -->{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("outputs/optimality_gap"))
    parser.add_argument("--expected", action="store_true", help="only print again what expected.csv holds")
    given = parser.parse_args()
    if not given.expected:
        read(given.folder).to_csv(HERE / "expected.csv", index=False, float_format="%.6g")
    table = pd.read_csv(HERE / "expected.csv")
    update_readme(table)
    draw(table)
    print(markdown(table))


if __name__ == "__main__":
    main()
