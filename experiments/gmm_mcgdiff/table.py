"""The tables of experiments/gmm_mcgdiff: mean over problems ± 1.96 standard errors, as the paper prints them.

    python experiments/gmm_mcgdiff/table.py [outputs/gmm_mcgdiff/rows.csv] [--update]

What was run is compared with expected.csv. With --update it goes there and into README.md; cells that were not run, or
not on all problems, stay as they are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from rows import PROBLEMS, ROWS

HERE = Path(__file__).parent
EXPECTED = HERE / "expected.csv"
KEYS = ["d", "d_y", "n_times", "controller"]
DIVERGED = 100.0  # the modes lie within 32 of each other in every coordinate
TITLES = {"sliced_wasserstein": "Sliced 1-Wasserstein distance", "mode_weight_tv": "Total variation of mode weights"}


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"setting": str}, keep_default_na=False, na_values=["nan"])


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
    return ordered(pd.DataFrame(found))


def ordered(cells: pd.DataFrame) -> pd.DataFrame:
    order = {name: place for place, name in enumerate(ROWS)}
    return cells.sort_values(KEYS, key=lambda column: column.map(lambda value: order.get(value, value)))


def markdown(cells: pd.DataFrame, metric: str, n_times: int) -> str:
    """Controllers as rows, (d, d_y) as columns."""
    shown = cells[(cells.n_times == n_times) | (cells.controller == "floor")].set_index(["controller", "d", "d_y"])
    places = sorted({key[1:] for key in shown.index})
    lines = ["| controller | " + " | ".join(f"{d}, {d_y}" for d, d_y in places) + " |", "|---|" + "---:|" * len(places)]
    for controller in [name for name in ROWS if name in shown.index.get_level_values(0)]:
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


def tables(cells: pd.DataFrame) -> str:
    """All of them."""
    parts = []
    for metric, title in TITLES.items():
        for n_times in sorted(cells.n_times.unique()):
            few = f"; at least {cells.n.min()} problems each" if cells.n.min() < PROBLEMS else ""
            parts.append(f"{title}, {n_times} times; columns are d, d_y{few}\n\n{markdown(cells, metric, n_times)}")
    return "\n\n".join(parts)


def nearer(cells: pd.DataFrame, one: str, other: str) -> str:
    """In how many cells of each grid one row is nearer to the posterior than another, in one sentence each."""
    wide = cells.pivot(index=["n_times", "d", "d_y"], columns="controller", values="sliced_wasserstein")
    if not {one, other} <= set(wide):
        return ""
    both = wide[[one, other]].dropna()
    counts = (both[one] < both[other]).groupby("n_times").agg(["sum", "count"])
    lines = [f"{n_times} times: {one} is below {other} in {n} of {m} cells" for n_times, n, m in counts.itertuples()]
    return "\n".join(lines)


def agreement(cells: pd.DataFrame, expected: pd.DataFrame) -> str:
    """How many cells are within the printed errors of what is expected, and which are not; not of very few problems."""
    both = cells[cells.n >= PROBLEMS // 4].merge(expected, on=KEYS, suffixes=("", "_expected"))
    gap = (both.sliced_wasserstein - both.sliced_wasserstein_expected).abs()
    error = (both.sliced_wasserstein_ci**2 + both.sliced_wasserstein_ci_expected**2) ** 0.5
    apart = both[gap > error + 0.01]
    places = [", ".join(str(cell[name]) for name in KEYS) for _, cell in apart.iterrows()]
    return "\n  ".join([f"{len(both) - len(apart)} of {len(both)} cells agree with expected.csv", *places])


def update(cells: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Puts whole cells into expected.csv and README.md."""
    whole = cells[cells.n >= PROBLEMS]
    merged = ordered(pd.concat([expected, whole]).drop_duplicates(KEYS, keep="last"))
    merged.round(4).to_csv(EXPECTED, index=False)
    readme = HERE / "README.md"
    before, rest = readme.read_text().split("<!-- tables -->")
    after = rest.split("<!-- end -->", 1)[1]
    readme.write_text(f"{before}<!-- tables -->\n{tables(merged)}\n<!-- end -->{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, nargs="?", default=Path("outputs/gmm_mcgdiff/rows.csv"))
    parser.add_argument("--update", action="store_true", help="expected.csv and README.md")
    given = parser.parse_args()
    if not given.rows.is_file():
        raise SystemExit(f"there is no {given.rows}: run experiments/gmm_mcgdiff/run.py first")
    cells, expected = summary(read(given.rows)), read(EXPECTED)
    print(tables(cells), nearer(cells, "particles", "mcgdiff"), agreement(cells, expected), sep="\n\n")
    times = given.rows.with_name("times.csv")
    if times.is_file():
        minutes = pd.read_csv(times)["seconds"].sum() / 60
        print(f"{minutes:.0f} minutes of processor time so far, tuning and distances included")
    if given.update:
        update(cells, expected)


if __name__ == "__main__":
    main()
