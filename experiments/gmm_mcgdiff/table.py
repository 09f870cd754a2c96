"""The tables of experiments/gmm_mcgdiff: mean over problems ± 1.96 standard errors, as the paper prints them.

python experiments/gmm_mcgdiff/table.py [outputs/gmm_mcgdiff/rows.csv] [--out experiments/gmm_mcgdiff/expected.csv]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from rows import ROWS

KEYS = ["d", "d_y", "n_times", "controller"]
DIVERGED = 100.0  # the modes lie within 32 of each other in every coordinate
TITLES = {"sliced_wasserstein": "Sliced 1-Wasserstein distance", "mode_weight_tv": "Total variation of mode weights"}


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per cell; problems whose samples diverged are counted in `lost` and are in no mean."""
    rows = rows.drop_duplicates([*KEYS, "problem"], keep="last")
    found = []
    for key, group in rows.groupby(KEYS, sort=False):
        cell = dict(zip(KEYS, key)) | {"setting": group["setting"].iloc[0], "n": len(group)}
        for name in TITLES:
            values = group[name][group["sliced_wasserstein"] < DIVERGED]
            cell |= {name: values.mean(), f"{name}_ci": 1.96 * values.std() / len(values) ** 0.5}
        means = {name: group[name].mean() for name in ("alive", "nfe", "vjp", "seconds")}
        found.append(cell | {"lost": int((~(group["sliced_wasserstein"] < DIVERGED)).sum())} | means)
    order = {name: place for place, name in enumerate(ROWS)}
    return pd.DataFrame(found).sort_values(KEYS, key=lambda column: column.map(lambda value: order.get(value, value)))


def markdown(cells: pd.DataFrame, metric: str, n_times: int) -> str:
    """Controllers as rows, (d, d_y) as columns."""
    shown = cells[(cells.n_times == n_times) | (cells.controller == "floor")].set_index(["controller", "d", "d_y"])
    places = sorted({key[1:] for key in shown.index})
    lines = ["| controller | " + " | ".join(f"{d}, {d_y}" for d, d_y in places) + " |", "|---|" + "---:|" * len(places)]
    for controller in dict.fromkeys(shown.index.get_level_values(0)):
        words = []
        for place in places:
            if (controller, *place) not in shown.index:
                words.append("–")
                continue
            cell = shown.loc[(controller, *place)]
            lost = f", {cell.lost} lost" if cell.lost else ""
            words.append(f"{cell[metric]:.2f} ± {cell[metric + '_ci']:.2f}{lost}")
        lines.append(f"| `{controller}` | " + " | ".join(words) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, nargs="?", default=Path("outputs/gmm_mcgdiff/rows.csv"))
    parser.add_argument("--out", type=Path, help="a CSV of the cells")
    given = parser.parse_args()
    if not given.rows.is_file():
        raise SystemExit(f"there is no {given.rows}: run experiments/gmm_mcgdiff/run.py first")
    cells = summary(pd.read_csv(given.rows, dtype={"setting": str}, keep_default_na=False, na_values=["nan"]))
    for metric, title in TITLES.items():
        for n_times in sorted(cells.n_times.unique()):
            few = f"; at least {cells.n.min()} problems each" if cells.n.min() < 20 else ""
            print(f"\n{title}, {n_times} times; columns are d, d_y{few}\n\n{markdown(cells, metric, n_times)}")
    times = given.rows.with_name("times.csv")
    if times.is_file():
        seconds = pd.read_csv(times)["seconds"].sum()
        print(f"\n{seconds / 60:.0f} minutes of processor time, tuning and distances included")
    if given.out:
        cells.round(4).to_csv(given.out, index=False)


if __name__ == "__main__":
    main()
