"""Reads cells: the journal with one row per sample, config.yaml with what makes the cell differ from others.

Folders without a journal, which older versions wrote, are read from their rows.csv.

The settings of a run are flat: `choices` of Hydra's groups under the group's name (operator: sr4), all values of the
config under their dotted names (noise.sigma_y: 0.05).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from rbctrl.keys import in_use
from rbctrl.pictures import Kind, image_path
from rbctrl.results import ROW_KEY, read_rows

_NOT_MEASURED = (*ROW_KEY, "alive", "error", "content")
_NO_SETTINGS = ("logger", "metrics", "experiment", "sweep")  # choices that change no row, or only through values


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        item: its name.
        sample: "0", "1", ... or "mean".
        seed: as written.
        alive: False if the row diverged or failed.
        values: of the other columns; None where the cell is blank.
        status: "ok", "diverged" or "failed".
        error: why it is not ok.
    """

    item: str
    sample: str
    seed: str
    alive: bool
    values: Mapping[str, float | None]
    status: str = "ok"
    error: str = ""


@dataclass(frozen=True, eq=False)
class RunFolder:
    """One finished, running or killed run.

    Attributes:
        folder: where it lies.
        choices: option of each Hydra group.
        typed: names of the settings that were overridden.
        settings: choices and all values.
        rows: computed rows, in the order of the files.
        broken: number of lines that are no row.
        cell: the key of settings and weights.
        overrides: the words of the command line.
        failed: rows that could not be computed; one without item and sample stands for a whole cell.
    """

    folder: Path
    choices: Mapping[str, str] = field(default_factory=dict)
    typed: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()
    broken: int = 0
    cell: str = ""
    overrides: tuple[str, ...] = ()
    failed: tuple[Row, ...] = ()


def load_rows(folders: Sequence[Path] | Path) -> pd.DataFrame:
    """Every row below some folders (runs, sweeps, studies), each once: what tables, pages and notebooks are made of.

    Columns, in this order:

    * `item`, `sample` ("0", "1", ... or "mean"), `seed`;
    * `status`: "ok", "diverged" (became non-finite), or "failed" (could not be computed; a row without item and sample
      stands for a whole cell); `alive` is status == "ok"; `error` is the reason of the others, else "";
    * the metrics and the measured columns, NaN where they are undefined;
    * `cell`, the key of the settings and the weights, without the seed;
    * the settings: the option of each Hydra group under its name (operator: "sr4"), every value of the config under its
      dotted name (noise.sigma_y: 0.05), and `overrides`, the words of the command line;
    * `folder` of the cell, and the paths `image`, `truth`, `measurement`, `mean`, `sd` of its pictures, "" where there
      is none; `image` of a "mean" row is the mean.

    Raises:
        FileNotFoundError: a folder does not exist.
        ValueError: there are no results below them.
    """
    runs = find_runs([folders] if isinstance(folders, str | Path) else folders)
    lines: dict[tuple[object, ...], dict[str, object]] = {}
    for run in runs:  # oldest first: of rows that were computed twice the newest counts
        for row in run.failed:
            lines.setdefault((run.cell, row.item, row.sample, row.seed), _line(run, row))
        for row in run.rows:
            lines[run.cell, row.item, row.sample, row.seed] = _line(run, row)
    return pd.DataFrame(list(lines.values()))


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
    """The run in a folder; None if none of its files comes from a run."""
    record = _record(folder / "config.yaml")
    parsed = _read_journal(folder) if (folder / "journal").is_dir() else _read_rows(folder / "rows.csv")
    if record is None and parsed is None:
        return None
    found, broken = parsed or ((), 0)
    rows, failed = (tuple(row for row in found if (row.status == "failed") == side) for side in (False, True))
    if record is None:  # rows alone are told apart by their place
        return RunFolder(folder, settings={"folder": folder.name}, rows=rows, broken=broken, failed=failed)
    choices = {name: str(option) for name, option in record["choices"].items() if name not in _NO_SETTINGS}
    settings: dict[str, object] = {**choices, **dict(_flat(in_use(record["config"])))}
    if record.get("weights"):
        settings["weights"] = str(record["weights"])
    words = tuple(str(word) for word in record.get("overrides") or ())
    typed = tuple(word.lstrip("+~").partition("=")[0] for word in words)
    cell = str(record.get("cell") or folder.name)
    return RunFolder(folder, choices, typed, settings, rows, broken, cell, words, failed)


def _line(run: RunFolder, row: Row) -> dict[str, object]:
    seed = int(row.seed) if row.seed.lstrip("-").isdigit() else row.seed
    status = {"status": row.status, "alive": row.alive, "error": row.error}
    of_row = {"item": row.item, "sample": row.sample, "seed": seed} | status
    of_row |= {name: math.nan if value is None else value for name, value in row.values.items()} | {"cell": run.cell}
    settings = {name: value for name, value in run.settings.items() if name not in of_row}
    settings["overrides"] = " ".join(run.overrides)
    return of_row | settings | {"folder": str(run.folder)} | _pictures(run, row)


def _pictures(run: RunFolder, row: Row) -> dict[str, str]:
    kinds: tuple[Kind, ...] = ("image", "truth", "measurement", "mean", "sd")
    paths = {kind: image_path(run.folder, row.item, row.sample, kind) for kind in kinds}
    return {kind: str(path) if path.is_file() else "" for kind, path in paths.items()}


def _places(folder: Path) -> list[Path]:
    files = [file.parent for name in ("rows.csv", "config.yaml", "journal") for file in folder.rglob(name)]
    hidden = {file for file in files if any(part.startswith(".") for part in file.relative_to(folder).parts)}
    return sorted({file for file in files if file not in hidden})


def _age(folder: Path) -> float:
    names = ("rows.csv", "config.yaml", "journal")
    return max((folder / name).stat().st_mtime for name in names if (folder / name).exists())


def _record(file: Path) -> dict | None:
    """What `save_config` wrote: {"choices", "overrides", "config", ...}."""
    if not file.is_file():
        return None
    try:
        record = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
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


def _read_journal(folder: Path) -> tuple[tuple[Row, ...], int]:
    rows, records, broken = read_rows(folder)
    found = [_of_journal(row) for row in rows]
    marks = [record for record in records if "rows" in record or "failed" in record]
    if marks and "failed" in marks[-1]:
        seed = folder.name.rpartition("-")[2]
        found.append(Row("", "", seed, False, {}, "failed", str(marks[-1]["failed"])))
    return tuple(found), broken


def _of_journal(row: Mapping[str, object]) -> Row:
    status = {True: "ok", False: "diverged"}.get(row.get("alive"), "failed" if row.get("error") else "ok")  # type: ignore[call-overload]
    values = {name: value for name, value in row.items() if name not in _NOT_MEASURED}
    key = (str(row[name]) for name in ROW_KEY)
    error = row.get("error") or ("became non-finite" if status == "diverged" else "")
    return Row(*key, status == "ok", values, status, str(error))  # type: ignore[arg-type]


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
    alive = cells.get("alive") != "False"
    status, error = ("ok", "") if alive else ("diverged", "became non-finite")
    return Row(cells["item"], cells["sample"], cells["seed"], alive, values, status, error)
