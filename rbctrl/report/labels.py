"""Which settings tell the cells of a table apart.

By default: operator, controller, every other Hydra choice that differs, and every value that differs between runs with
the same choice of its group. A value that only repeats another one (an interpolation of it) is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from rbctrl.report.runs import Row, RunFolder

FIRST = ("operator", "controller")
OF_ROWS = ("item", "seed")  # may be asked for, although they belong to rows
_NO_LABELS = (
    "tuned",
    "seed",
    "study",
    "batch_size",
    "device",
    "logger",
    "metrics",
    "data.n",
    "hydra",
)  # they change no row


def columns(runs: Sequence[RunFolder], by: Sequence[str] | None) -> list[str]:
    """The settings that label the cells.

    Raises:
        ValueError: one of `by` is no setting of any run.
    """
    known = {name for run in runs for name in run.settings}
    if by is None:
        return _differing(runs, known)
    unknown = [name for name in by if name not in known | set(OF_ROWS)]
    if not by:
        raise ValueError("--by names no setting: name one, or leave --by out")
    if unknown:
        hint = ", ".join(dict.fromkeys((*FIRST, *_differing(runs, known), *OF_ROWS)))
        raise ValueError(f"no run has the setting {', '.join(map(repr, unknown))}: use for example {hint}")
    return list(by)


def label(run: RunFolder, by: Sequence[str], row: Row | None = None) -> tuple[str, ...]:
    """The values of the settings in `by`; blank where a run does not have one."""
    of_row = {} if row is None else {"item": row.item, "seed": row.seed}
    return tuple(str(of_row[name] if name in of_row else run.settings.get(name, "")) for name in by)


def pooled(runs: Sequence[RunFolder], by: Sequence[str]) -> list[str]:
    """Settings that differ between runs with the same label: such runs share a cell of the table."""
    rest = [name for name in _differing(runs, {name for run in runs for name in run.settings}) if name not in by]
    groups: dict[tuple[str, ...], list[RunFolder]] = defaultdict(list)
    for run in runs:
        groups[label(run, by)].append(run)
    return [name for name in rest if any(_values(group, name) > 1 for group in groups.values())]


def identity(run: RunFolder) -> tuple[tuple[str, str], ...]:
    """All settings that can change a row: equal for repetitions of the same run."""
    return tuple(sorted((name, str(value)) for name, value in run.settings.items() if not _is_ignored(name)))


def sort_key(values: Sequence[str]) -> list[tuple[int, float, str]]:
    """Sorts labels by number where they are numbers."""
    return [_number_first(value) for value in values]


def _differing(runs: Sequence[RunFolder], known: set[str]) -> list[str]:
    choices = sorted({name for run in runs for name in run.choices})
    chosen = [name for name in FIRST if name in known]
    chosen += [name for name in choices if name not in FIRST and not _is_ignored(name) and _values(runs, name) > 1]
    typed = dict.fromkeys(name for run in runs for name in run.typed)
    candidates = [name for name in dict.fromkeys((*typed, *sorted(known))) if name in known and name not in choices]
    kept: list[str] = []
    for name in candidates:
        repeats = any(_same_partition(runs, name, other) for other in kept)
        if name not in chosen and not _is_ignored(name) and _differs(runs, name) and not repeats:
            kept.append(name)
    return chosen + kept


def _differs(runs: Sequence[RunFolder], name: str) -> bool:
    """Whether a value differs where its group has the same option: dps has another zeta, ddnm has none."""
    group = name.partition(".")[0]
    same: dict[str, list[RunFolder]] = defaultdict(list)
    for run in runs:
        same[run.choices.get(group, "")].append(run)
    return any(_values(part, name) > 1 for part in same.values())


def _same_partition(runs: Sequence[RunFolder], one: str, other: str) -> bool:
    pairs = {(str(run.settings.get(one, "")), str(run.settings.get(other, ""))) for run in runs}
    return len(pairs) == _values(runs, one) == _values(runs, other)


def _values(runs: Sequence[RunFolder], name: str) -> int:
    return len({str(run.settings.get(name, "")) for run in runs})


def _is_ignored(name: str) -> bool:
    return any(name == other or name.startswith(f"{other}.") for other in _NO_LABELS)


def _number_first(value: str) -> tuple[int, float, str]:
    try:
        return 0, float(value), value
    except ValueError:
        return 1, 0.0, value
