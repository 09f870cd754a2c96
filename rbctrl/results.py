"""What a cell leaves on disk.

A cell is all that determines a row besides its item and sample: the configuration of some groups, the weights and the
seed. Its folder holds

    journal/        the rows, one file per process that computed some (`rbctrl.journal`): what everything is read from
    rows.csv        the same rows as a table, rewritten whenever a run of the cell ends
    images/         pictures, 8-bit PNG, and exact images where they were asked for (`rbctrl.pictures`)
    partial/        exact samples of images that are not complete yet; gone when they are
    config.yaml     how the cell was composed last;   versions.json   with what

A row is one sample of one item; the row with sample = "mean" is the posterior mean over `n_samples` of them; its
energies are averages over the n_alive samples that did not diverge, and it is alive if none did. Columns:

    item sample seed | psnr ssim, other metrics | final_cost control_energy nfe vjp decoder_vjp
                       encoder_vjp seconds_per_image batch_size peak_memory n_samples alive error content

in this order. An undefined value (NaN, None) is blank, inf stays inf, peak_memory is in MiB. `alive` is True, False
where the row became non-finite, blank where it could not be computed; `error` says why. `content` is a hash of what was
read of the item: an image that changes under the same name is another image.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from omegaconf import OmegaConf
from torch import Tensor

from rbctrl.journal import Journal, Record, decode, encode, read
from rbctrl.literal import literal
from rbctrl.loggers import RowLogger, plain
from rbctrl.pictures import Kind, image_path, replace_file, save_picture, to_picture
from rbctrl.versions import versions

__all__ = ["ResultStore", "RowLogger", "image_path", "newest", "read_rows", "to_picture", "versions"]

ROW_KEY = ("item", "sample", "seed")
FIRST_METRICS = ("psnr", "ssim")
RUN_COLUMNS = (
    "final_cost",
    "control_energy",
    "nfe",
    "vjp",
    "decoder_vjp",
    "encoder_vjp",
    "seconds_per_image",
    "batch_size",
    "peak_memory",
    "n_samples",
    "alive",
    "error",
    "content",
)
Key = tuple[str, str, str]


class ResultStore:
    """The results of one cell.

    Args:
        folder: made if needed. What it holds is kept and added to.
        loggers: receive a copy of each row; a list, or a mapping by name as configs have it.
    """

    def __init__(self, folder: Path, loggers: Sequence[RowLogger] | Mapping[str, RowLogger] = ()) -> None:
        self.folder = Path(folder)
        self.loggers = tuple(loggers.values() if isinstance(loggers, Mapping) else loggers)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(self.folder / "journal")
        self.records, self.broken = read(self.folder / "journal")
        self._rows = newest(_rows(self.records))

    @property
    def rows(self) -> list[Record]:
        """Every row once, the newest of each."""
        return list(self._rows.values())

    def row(self, item: str, sample: int | str, seed: int) -> Record | None:
        """One row; None if nobody wrote it."""
        return self._rows.get(_key({"item": item, "sample": sample, "seed": seed}))

    def write(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Brings rows to the disk, all of them or none.

        Raises:
            ValueError: a row lacks item, sample or seed.
            OSError: the disk is full.
        """
        if not rows:
            return
        _check_rows(rows)
        encoded = [encode(row) for row in rows]
        self._journal.append({"rows": encoded})
        _merge(self._rows, map(decode, encoded))
        for logger in self.loggers:
            logger.write(rows)

    def note(self, **record: object) -> None:
        """Writes a record that is no row: what a run wants, how it ended."""
        self._journal.append(record, sync=False)
        self.records.append(record)

    def save_image(self, item: str, sample: int | str, kind: Kind, image: Tensor) -> Path:
        """Saves [C, H, W] in [-1, 1] as an 8-bit PNG (`rbctrl.pictures.save_picture`) and returns its path.

        The caller scales a map of standard deviations into [-1, 1].

        Raises:
            ValueError: the kind is unknown, or the tensor is no image.
        """
        path = image_path(self.folder, item, sample, kind)
        save_picture(path, image)
        return path

    def save_config(self, config: Mapping, versions: Mapping[str, str]) -> None:
        """Writes config.yaml and versions.json, and tells the loggers."""
        node = OmegaConf.create(literal(config))
        _save_text(self.folder / "config.yaml", OmegaConf.to_yaml(node))
        _save_text(self.folder / "versions.json", json.dumps(dict(versions), indent=2, sort_keys=True) + "\n")
        for logger in self.loggers:
            logger.start(self.folder, OmegaConf.to_container(node, resolve=True))  # type: ignore[arg-type]

    def close(self) -> None:
        """Writes rows.csv and closes the loggers."""
        if self._rows:
            _save_text(self.folder / "rows.csv", to_csv(self.rows))
        for logger in self.loggers:
            logger.close()


def read_rows(folder: Path) -> tuple[list[Record], list[Record], int]:
    """Of the cell in a folder: its rows, each once; all records; the number of lines of its journal that are none."""
    records, broken = read(folder / "journal")
    return list(newest(_rows(records)).values()), records, broken


def newest(rows: Iterable[Mapping[str, object]]) -> dict[Key, Record]:
    """Every row once, the last of several.

    What was computed stays though a later attempt failed, and a mean over more samples stays.
    """
    found: dict[Key, Record] = {}
    _merge(found, rows)
    return found


def to_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as a table with the documented columns."""
    text, columns = io.StringIO(), _columns(rows)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    return text.getvalue()


def _merge(found: dict[Key, Record], rows: Iterable[Mapping[str, object]]) -> None:
    for row in rows:
        known = found.get(_key(row))
        if known is None or _rank(row) >= _rank(known):
            found[_key(row)] = dict(row)


def _rows(records: Iterable[Record]) -> list[Record]:
    return [decode(row) for record in records for row in record.get("rows", ())]  # type: ignore[attr-defined]


def _key(row: Mapping[str, object]) -> Key:
    return str(row["item"]), str(row["sample"]), str(row["seed"])


def _rank(row: Mapping[str, object]) -> tuple[bool, float]:
    return row.get("alive") is not None or not row.get("error"), float(row.get("n_samples") or 0)  # type: ignore[arg-type]


def _columns(rows: Iterable[Mapping[str, object]]) -> list[str]:
    given = dict.fromkeys(name for row in rows for name in row)
    metrics = [name for name in given if name not in ROW_KEY + RUN_COLUMNS + FIRST_METRICS]
    return [*ROW_KEY, *(name for name in FIRST_METRICS if name in given), *metrics, *RUN_COLUMNS]


def _check_rows(rows: Iterable[Mapping[str, object]]) -> None:
    for row in rows:
        missing = [name for name in ROW_KEY if name not in row]
        if missing:
            raise ValueError(f"a row lacks {', '.join(missing)}: every row needs item, sample and seed")


def _cell(value: object) -> str:
    value = plain(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def _save_text(path: Path, text: str) -> None:
    replace_file(path, lambda file: file.write(text.encode()))
