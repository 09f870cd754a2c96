"""The tables of experiments/stylization.

    python experiments/stylization/table.py [outputs/stylization] [--out FILE.csv] [--plot FILE.png]

Samples of a pair are averaged first; errors are standard errors over pairs. `reference` is the renderer itself: the
prompt's content in the reference's style, read by the same classifier. `gain` is the share of the way from text alone
to the reference that a method's palette error goes, both without style words.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf

COLUMNS = (
    "prompt_fidelity", "shape", "count", "position", "leakage", "palette_error", "same_texture", "same_background",
    "roughness", "outline_error", "palette", "texture", "background", "final_cost", "seconds_per_image", "peak_memory",
)  # fmt: skip
KEYS = ["method", "words", "strength", "split"]
ORDER = ["text", "concat", "afa", "soc", "concat + soc", "afa + soc", "reference"]


def read(folder: Path) -> pd.DataFrame:
    """One row per pair and setting."""
    frames = []
    for file in sorted(folder.rglob("rows.csv")):
        rows = pd.read_csv(file)
        rows = rows[rows["sample"].astype(str) != "mean"]
        columns = [name for name in COLUMNS if name in rows]
        frames.append(
            rows.groupby("item")[columns]
            .mean()
            .reset_index()
            .assign(**_setting(OmegaConf.load(file.with_name("config.yaml"))))
        )
    if not frames:
        raise SystemExit(f"no rows below {folder}: run experiments/stylization/run.sh first")
    return pd.concat(frames, ignore_index=True)


def _setting(record: DictConfig) -> dict[str, object]:
    attention, data = record.config.attention, record.config.data
    controlled = record.choices.controller != "none"
    kind = record.choices.attention
    parts = [*([] if kind == "none" else [kind]), *(["soc"] if controlled else [])]
    strength = _strength(record.config.controller) if controlled else _rule(attention)
    words = "with words" if data.get("described", False) else ""
    return {"method": " + ".join(parts) or "text", "words": words, "strength": strength, "split": data.get("split", "")}


def _strength(window: DictConfig) -> str:
    return f"lr {window.controller.lr}, to {window.end}"


def _rule(attention: DictConfig) -> str:
    return f"{attention.rule}, {attention.strength}" if "rule" in attention else ""


def reference_rows(rows: pd.DataFrame, n: int) -> pd.DataFrame:
    """What the renderer itself scores on the same pairs."""
    from rbctrl.data.shapes import References
    from rbctrl.metrics.shapes import Leakage, PaletteError, Roughness, Said, SameAsReference
    from rbctrl.noise import NoNoise
    from rbctrl.observation import Observation
    from rbctrl.operators import Identity

    metrics = {
        "prompt_fidelity": Said(), "shape": Said("shape"), "count": Said("count"), "position": Said("position"),
        "leakage": Leakage(), "palette_error": PaletteError(), "same_texture": SameAsReference("texture"),
        "same_background": SameAsReference("background"), "roughness": Roughness(),
    }  # fmt: skip
    data = References(n)
    items = list(data.items())
    image, truth = torch.stack([data.drawn(k) for k in range(n)]), torch.stack([item.image for item in items])
    obs = Observation(truth, Identity(), NoNoise(), tuple(item.prompt for item in items))
    scores = {name: metric(image, truth, obs).tolist() for name, metric in metrics.items()}
    blank = {"method": "reference", "words": "", "strength": "", "split": ""}
    return pd.concat([rows, pd.DataFrame(scores | {"item": [item.name for item in items]}).assign(**blank)])


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Means and standard errors of each setting."""
    columns = [name for name in COLUMNS if name in rows and rows[name].notna().any()]
    grouped = rows.groupby(KEYS)[columns]
    table = grouped.mean().join(grouped.sem().add_suffix("_se"))
    table.insert(0, "n", rows.groupby(KEYS).size())
    table = table.reset_index()
    plain = table[table.words == ""].set_index("method")
    if {"text", "reference"} <= set(plain.index) and "palette_error" in table:
        text, best = (plain.palette_error[name] for name in ("text", "reference"))
        table["gain"] = (text - table.palette_error) / (text - best)
    return table.sort_values(
        ["words", "method"], key=lambda c: c.map({name: k for k, name in enumerate(ORDER)}).fillna(99)
    ).sort_values("words", kind="stable")


def markdown(table: pd.DataFrame) -> Iterator[str]:
    """A line per setting."""
    shown = [name for name in COLUMNS if name in table and name not in ("count", "position", "peak_memory")]
    keys = [name for name in KEYS if table[name].astype(str).str.len().any()]
    extra = ["gain"] if "gain" in table else []
    yield "| " + " | ".join([*keys, "n", *shown, *extra]) + " |"
    yield "|---" * (len(keys) + 1 + len(shown) + len(extra)) + "|"
    for _, row in table.iterrows():
        cells = [str(row[name]) for name in keys] + [str(row["n"])]
        for name in shown:
            error = "" if name == "seconds_per_image" or pd.isna(row[f"{name}_se"]) else f" ± {row[f'{name}_se']:.3f}"
            cells.append("" if pd.isna(row[name]) else f"{row[name]:.3f}{error}")
        cells += [f"{row[name]:.2f}" for name in extra]
        yield "| " + " | ".join(cells) + " |"


def plot(table: pd.DataFrame, file: Path) -> None:
    """Palette error against the share of prompts that are not followed, along each method's strength."""
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(6, 4), layout="constrained")).subplots()
    for method, rows in table.groupby("method"):
        x = 1 - rows["prompt_fidelity"]
        axes.errorbar(x, rows["palette_error"], rows["palette_error_se"], marker="o", capsize=2, label=method)
        for at, error, strength in zip(x, rows["palette_error"], rows["strength"]):
            axes.annotate(strength, (at, error), fontsize=6, xytext=(3, 3), textcoords="offset points")
    axes.set_xlabel("prompts not followed, share")
    axes.set_ylabel("palette error")
    axes.legend()
    figure.savefig(file, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("outputs/stylization"))
    parser.add_argument("--out", type=Path, help="also write a CSV")
    parser.add_argument("--plot", type=Path, help="also draw style against content, a PNG")
    args = parser.parse_args()
    rows = read(args.folder)
    if rows["item"].str.startswith("pair").all() and args.folder.name == "stylization":
        rows = reference_rows(rows, rows["item"].nunique())
    table = summary(rows)
    print("\n".join(markdown(table)))
    if args.out is not None:
        table.round(4).to_csv(args.out, index=False)
    if args.plot is not None:
        plot(table, args.plot)


if __name__ == "__main__":
    main()
