"""One HTML page: the table, images side by side under a slider, every row, and the command and config of every cell.

It opens from the disk, without a server or a network: style and script are in the file. Pictures are in the file, too,
as long as all of them together have no more than 4 MB, so that a small report is one file to send; else they are links
relative to the page, which is then to be moved together with the results. 5,000 rows make a page of about 2 MB.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from rbctrl.report.compare import Comparisons, is_problem
from rbctrl.report.labels import OF_ROWS, columns, label, pooled, sort_key
from rbctrl.report.runs import Row, RunFolder
from rbctrl.report.table import Line
from rbctrl.report.text import comparison_note, differences, method_name
from rbctrl.results import image_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INLINE = 4_000_000  # bytes of pictures that still go into the page
_ARROWS = {"higher": " ↑", "lower": " ↓"}
_SHARED = ("truth", "measurement")


@dataclass(frozen=True, eq=False)
class PageContent:
    """What a page shows besides its rows.

    Attributes:
        title: heading.
        compared: the table and who won.
        notes: sentences below the table.
        footnote: what the numbers are.
        bibliography: BibTeX, or "".
        figures: plots.
        command: how the report was made.
    """

    title: str
    compared: Comparisons
    notes: Sequence[str]
    footnote: str
    bibliography: str
    figures: Sequence[Figure]
    command: str


def make_page(rows: Sequence[tuple[RunFolder, Row]], content: PageContent, folder: Path) -> str:
    """The HTML of a page that will lie in `folder`."""
    from jinja2 import Environment, FileSystemLoader

    templates = FileSystemLoader([Path(__file__).with_name("html")])
    template = Environment(loader=templates, autoescape=True, trim_blocks=True).get_template("page.html")
    full = _names(list({id(run): run for run, _ in rows}.values()), content.compared.units.by)
    rows = sorted(
        rows, key=lambda pair: (sort_key(label(pair[0], full)), sort_key((pair[1].item, pair[1].seed, pair[1].sample)))
    )
    runs = list({id(run): run for run, _ in rows}.values())
    pictures = _Pictures(folder)
    data = _data(runs, rows, content.compared, full, pictures)
    return template.render(
        title=content.title,
        counts=f"{len(rows)} rows, {len(runs)} cells, {len({row.item for _, row in rows if row.item})} images",
        notes=content.notes,
        footnote=content.footnote,
        bibliography=content.bibliography,
        figures=[_svg(figure) for figure in content.figures],
        differences=differences(content.compared) if content.compared.differences else [],
        n_words=sum(is_problem(name) for name in content.compared.units.by) + 2,
        compared_with=comparison_note(content.compared),
        command=content.command,
        pictures=pictures.note,
        data=_script_safe(data | {"paths": pictures.sources()}),
    )


def _names(runs: Sequence[RunFolder], by: Sequence[str]) -> Sequence[str]:
    """The settings that name a cell: those of the table if they tell all cells apart, else all that differ."""
    return columns(runs, None) if pooled(runs, by) else [name for name in by if name not in OF_ROWS]


class _Pictures:
    """The files a page refers to, each once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._index: dict[Path, int] = {}
        self._known: dict[Path, bool] = {}

    def add(self, path: Path) -> int:
        """Its position; -1 if there is no such file."""
        if path not in self._known:
            self._known[path] = path.is_file()
        return self._index.setdefault(path, len(self._index)) if self._known[path] else -1

    @property
    def inline(self) -> bool:
        return sum(path.stat().st_size for path in self._index) <= INLINE

    @property
    def note(self) -> str:
        where = "are part of this file" if self.inline else "are files beside this page: move them together"
        return f"The {len(self._index)} pictures {where}." if self._index else "No picture was saved."

    def sources(self) -> list[str]:
        """What the attribute `src` gets, by position."""
        if self.inline:
            return [f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}" for path in self._index]
        return [quote(Path(os.path.relpath(path, self.folder)).as_posix()) for path in self._index]


def _data(
    runs: Sequence[RunFolder],
    rows: Sequence[tuple[RunFolder, Row]],
    compared: Comparisons,
    full: Sequence[str],
    pictures: _Pictures,
) -> dict[str, object]:
    configs: dict[str, int] = {}
    metrics = compared.units.metrics
    place = {id(run): k for k, run in enumerate(runs)}
    return {
        "by": compared.units.by,
        "metrics": metrics,
        "arrows": {name: _ARROWS[compared.directions[name]] for name in metrics if name in compared.directions},
        "lines": _lines(compared),
        "cells": [_cell(run, full, compared.units.by, configs) for run in runs],
        "configs": list(configs),
        "rows": [_row(place[id(run)], run, row, metrics, pictures) for run, row in rows],
    }


def _lines(compared: Comparisons) -> Iterable[Mapping[str, object]]:
    units, lines = compared.units, []
    counts = units.values.groupby(level=0).size()
    for k, line in enumerate(units.lines):
        words = [f"{name}={value}" for name, value in zip(units.by, line.label) if value and " " not in value]
        words += ["sample=mean"] if line.sample == "mean" else []
        shown = [_statistics(compared, k, name) for name in units.metrics]
        lines.append(
            {"label": line.label, "sample": line.sample, "n": int(counts.get(k, 0))}
            | {"diverged": int(units.diverged[k]), "failed": int(units.failed[k])}
            | {"values": shown, "filter": " ".join(words)}
        )
    return lines


def _statistics(compared: Comparisons, k: int, name: str) -> tuple[object, ...]:
    """Mean, standard error, rows left out, and whether it is bold."""
    values = compared.units.of_line(k, name)
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else None
    lost = int(compared.units.nonfinite.loc[k, name])
    return _json(values.mean() if len(values) else None), _json(error), lost, (k, name) in compared.winners


def _cell(run: RunFolder, full: Sequence[str], by: Sequence[str], configs: dict[str, int]) -> Mapping[str, object]:
    values = label(run, full)
    pairs = [(name, value) for name, value in zip(full, values, strict=True) if is_problem(name) and value]
    problem = [value if "." not in name else f"{name.rpartition('.')[2]}={value}" for name, value in pairs]
    file = run.folder / "config.yaml"
    config = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else "no config was saved"
    return {
        "problem": " ".join(problem) or "all",
        "method": method_name(Line(values, "single"), full),
        "fields": {name: str(run.settings.get(name, "")) for name in by if name not in ("item", "seed")},
        "command": shlex.join(["rbctrl", *run.overrides]),
        "folder": str(run.folder),
        "config": configs.setdefault(config, len(configs)),
    }


def _row(cell: int, run: RunFolder, row: Row, metrics: Sequence[str], pictures: _Pictures) -> list[object]:
    image = pictures.add(image_path(run.folder, row.item, row.sample, "image"))
    shared = [pictures.add(image_path(run.folder, row.item, row.sample, kind)) for kind in _SHARED]
    key = [cell, row.item, row.sample, row.seed, row.status, row.error]
    return [*key, image, *shared, *(_json(row.values.get(name)) for name in metrics)]


def _json(value: float | None) -> float | str | None:
    """Six digits, which is what a page shows; infinities as text, undefined values as null."""
    if value is None or math.isnan(value):
        return None
    return float(f"{value:.6g}") if math.isfinite(value) else str(value)


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _script_safe(data: Mapping[str, object]) -> str:
    """JSON that no HTML parser ends early."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
