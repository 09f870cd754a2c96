"""Reads runs: rows.csv with one row per sample, config.yaml with what makes the run differ from others.

The settings of a run are flat: `choices` of Hydra's groups under the group's name (operator: sr4), all values of the
config under their dotted names (noise.sigma_y: 0.05).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from rbctrl.results import ROW_KEY

_NOT_MEASURED = (*ROW_KEY, "alive")
_NO_SETTINGS = ("logger", "metrics", "experiment", "sweep")  # choices that change no row, or only through values


@dataclass(frozen=True)
class Row:
    """One line of rows.csv.

    Attributes:
        item: its name.
        sample: "0", "1", ... or "mean".
        seed: as written.
        alive: False if the row diverged.
        values: of the other columns; None where the cell is blank.
    """

    item: str
    sample: str
    seed: str
    alive: bool
    values: Mapping[str, float | None]


@dataclass(frozen=True, eq=False)
class RunFolder:
    """One finished, running or killed run.

    Attributes:
        folder: where it lies.
        choices: option of each Hydra group.
        typed: names of the settings that were overridden.
        settings: choices and all values.
        rows: whole rows, in the order of the file.
        broken: number of lines that are no row.
    """

    folder: Path
    choices: Mapping[str, str] = field(default_factory=dict)
    typed: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()
    broken: int = 0


def find_runs(folders: Sequence[Path]) -> list[RunFolder]:
    """All runs below the folders, each once, oldest first.

    Raises:
        FileNotFoundError: a folder does not exist.
        ValueError: there is no run below them.
    """
    found: dict[Path, RunFolder] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {str(folder)!r}: give folders that hold results")
        for place in _places(folder):
            run = None if place.resolve() in found else read_run(place)
            if run is not None:
                found[place.resolve()] = run
    if not found:
        names = ", ".join(str(folder) for folder in folders) or "no folder"
        raise ValueError(f"there are no results (rows.csv, config.yaml) below {names}: run `rbctrl` first")
    return sorted(found.values(), key=lambda run: (_age(run.folder), str(run.folder)))


def read_run(folder: Path) -> RunFolder | None:
    """The run in a folder; None if neither its rows.csv nor its config.yaml comes from a run."""
    record = _record(folder / "config.yaml")
    parsed = _read_rows(folder / "rows.csv")
    if record is None and parsed is None:
        return None
    rows, broken = parsed or ((), 0)
    if record is None:  # rows alone are told apart by their place
        return RunFolder(folder, settings={"folder": folder.name}, rows=rows, broken=broken)
    choices = {name: str(option) for name, option in record["choices"].items() if name not in _NO_SETTINGS}
    settings: dict[str, object] = {**choices, **dict(_flat(record["config"]))}
    if record.get("weights"):
        settings["weights"] = str(record["weights"])
    typed = tuple(str(word).lstrip("+~").partition("=")[0] for word in record.get("overrides") or ())
    return RunFolder(folder, choices, typed, settings, rows, broken)


def _places(folder: Path) -> list[Path]:
    files = [file for name in ("rows.csv", "config.yaml") for file in folder.rglob(name)]
    hidden = {file for file in files if any(part.startswith(".") for part in file.relative_to(folder).parts)}
    return sorted({file.parent for file in files if file not in hidden})


def _age(folder: Path) -> float:
    return max((folder / name).stat().st_mtime for name in ("rows.csv", "config.yaml") if (folder / name).is_file())


def _record(file: Path) -> dict | None:
    """What `save_config` wrote: {"choices", "overrides", "config", ...}."""
    if not file.is_file():
        return None
    try:
        record = OmegaConf.to_container(OmegaConf.load(file))
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException):  # half a file of a killed run
        return None
    is_ours = isinstance(record, dict) and all(isinstance(record.get(key), dict) for key in ("choices", "config"))
    return record if is_ours else None  # type: ignore[return-value]


def _flat(node: Mapping, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in node.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _leaf(value)


def _leaf(value: object) -> object:
    return ", ".join(str(_leaf(part)) for part in value) if isinstance(value, list) else value


def _read_rows(file: Path) -> tuple[tuple[Row, ...], int] | None:
    if not file.is_file():
        return None
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]  # a line without its end was cut in the middle
    lines = list(csv.reader(io.StringIO(whole.decode("utf-8", errors="replace"))))
    if not lines:
        return (), int(bool(content))
    header, broken = lines[0], int(len(whole) < len(content))
    if not set(ROW_KEY) <= set(header):
        return None
    parsed = [_row(header, line) for line in lines[1:] if line]
    rows = tuple(row for row in parsed if row is not None)
    return rows, broken + len(parsed) - len(rows)


def _row(header: Sequence[str], line: Sequence[str]) -> Row | None:
    if len(line) != len(header):
        return None
    cells = dict(zip(header, line, strict=True))
    try:
        values = {name: float(text) if text else None for name, text in cells.items() if name not in _NOT_MEASURED}
    except ValueError:
        return None
    return Row(cells["item"], cells["sample"], cells["seed"], cells.get("alive") != "False", values)
