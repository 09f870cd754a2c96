"""The footnote of a table, from what the runs recorded about themselves: nobody types n, sigma or a commit."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from rbctrl.report.runs import Row, RunFolder
from rbctrl.report.text import number

_NOT_SPLIT = ("_target_", "prior")  # the law of data that are drawn is the prior's, which the record has
_EVALUATIONS = {
    "nfe": "network evaluations",
    "vjp": "VJPs",
    "decoder_vjp": "VJPs of the decoder",
    "encoder_vjp": "VJPs of the encoder",
}


def footnote(runs: Sequence[RunFolder], rows: Sequence[tuple[RunFolder, Row]]) -> str:
    """n, split, seeds, sigma in the three units in use, evaluations, hardware and versions, in one paragraph."""
    used = list({id(run): run for run, _ in rows}.values())
    spoken = [
        _count(len({row.item for _, row in rows if row.item}), "image"),
        _split(used),
        _numbered("seed", (row.seed for _, row in rows)),
        _per_image(rows),
        _sigma(used),
        _evaluations(rows),
        *_machine(used),
    ]
    return "; ".join(part for part in spoken if part) + "."


def _count(n: int | str, what: str) -> str:
    return f"{n} {what}{'' if str(n) == '1' else 's'}"


def _split(runs: Sequence[RunFolder]) -> str:
    found = []
    for run in runs:
        settings = {n.removeprefix("data."): v for n, v in run.settings.items() if n.startswith("data.")}
        shown = [f"{n} {v}" for n, v in settings.items() if v is not None and n.split(".")[0] not in _NOT_SPLIT]
        found.append(f"data {run.choices.get('data', '?')}" + (f" ({', '.join(shown)})" if shown else ""))
    return " and ".join(dict.fromkeys(found)) if found else ""


def _numbered(what: str, values: Iterable[str]) -> str:
    names = list(values)
    return f"{what}{'s' if len(set(names)) > 1 else ''} {_range(names)}"


def _per_image(rows: Sequence[tuple[RunFolder, Row]]) -> str:
    counts = _samples(rows)
    if not counts:
        return "means over samples"
    return f"{_range(counts)} sample{'' if set(counts) == {'1'} else 's'} per image and seed"


def _samples(rows: Sequence[tuple[RunFolder, Row]]) -> list[str]:
    counts: dict[tuple[int, str, str], int] = {}
    for run, row in rows:
        if row.sample not in ("mean", ""):
            key = (id(run), row.item, row.seed)
            counts[key] = counts.get(key, 0) + 1
    return [str(n) for n in counts.values()]


def _sigma(runs: Sequence[RunFolder]) -> str:
    """sigma_y on [-1, 1], on [0, 1] and in /255."""
    values = sorted({float(v) for run in runs if _is_number(v := run.settings.get("noise.sigma_y"))})
    kinds = dict.fromkeys(run.choices.get("noise", "?") for run in runs)
    units = [" or ".join(number(factor * v) for v in values) for factor in (1, 0.5, 127.5)]
    named = f"{' and '.join(kinds)} noise"
    return f"{named}, sigma_y {units[0]} on [-1, 1] = {units[1]} on [0, 1] = {units[2]} of 255" if values else named


def _evaluations(rows: Sequence[tuple[RunFolder, Row]]) -> str:
    spoken = []
    for name, word in _EVALUATIONS.items():
        values = [row.values.get(name) for _, row in rows if row.sample != "mean"]
        counts = [v for v in values if v is not None and math.isfinite(v)]
        if counts and max(counts) > 0:
            spoken.append(f"{_range(number(v) for v in counts)} {word}")
    return f"{', '.join(spoken)} per sample" if spoken else "no network evaluation"


def _machine(runs: Sequence[RunFolder]) -> list[str]:
    known = [found for found in (_versions(run.folder) for run in runs) if found]
    machines = [
        f"{v.get('hardware', v.get('platform', '?'))}, {_count(v.get('threads', '?'), 'thread')}" for v in known
    ]
    software = [f"rbctrl {v.get('rbctrl', '?')} at commit {_short(v.get('commit', 'unknown'))}" for v in known]
    software += [f"torch {v['torch']}" for v in known if "torch" in v]
    return list(dict.fromkeys([*machines, *software]))


def _short(commit: str) -> str:
    name, dash, state = commit.partition("-")
    return name[:12] + dash + state


def _versions(folder: Path) -> dict[str, str]:
    try:
        return json.loads((folder / "versions.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _range(values: Iterable[str]) -> str:
    """Numbers as `0`, `0, 1` or their extremes, `0 to 3`; other names one by one."""
    names = sorted(set(map(str, values)), key=lambda v: (not _is_number(v), float(v) if _is_number(v) else 0.0, v))
    if not all(map(_is_number, names)) or len(names) < 2 or float(names[-1]) == float(names[0]) + 1:
        return ", ".join(names)
    return f"{names[0]} to {names[-1]}"


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True
