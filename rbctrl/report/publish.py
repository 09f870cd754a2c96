"""The files of a report that go further than the terminal: HTML page, plots, LaTeX table, .bib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rbctrl.report.latex import to_latex
from rbctrl.report.page import PageContent, make_page
from rbctrl.report.plots import COSTS, plot
from rbctrl.report.references import bibliography
from rbctrl.report.report import Report
from rbctrl.report.runs import RunFolder
from rbctrl.report.table import gather

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def publish(report: Report, folder: Path, title: str, command: str) -> Path:
    """Writes report.html, report.bib and METRIC_COST.png and .pdf to a folder; returns the path of the page."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    runs = _runs(report)
    figures = {}
    for cost in COSTS:
        figure = quality_plot(report, cost)
        if figure is not None:
            figures[cost] = figure
            for ending, dpi in (("png", 160), ("pdf", None)):
                name = f"{_quality(report)}_{cost}.{ending}"
                figure.savefig(folder / name, dpi=dpi, metadata={"CreationDate": None} if ending == "pdf" else None)
    references = bibliography(runs)
    if references:
        (folder / "report.bib").write_text(references, encoding="utf-8")
    content = PageContent(
        title, report.compared, report.notes, report.footnote, references, list(figures.values()), command
    )
    page = folder / "report.html"
    page.write_text(make_page(report.rows, content, folder), encoding="utf-8")
    return page


def latex_table(report: Report, name: str, command: str) -> str:
    """The table in LaTeX: the notes are its caption, what the numbers rest on stands below it."""
    sentences = [f"{_capital(note)}." for note in report.notes]
    bold = "Bold: better than every other method of the column, by a paired bootstrap at 95 %."
    sentences += [bold] if report.compared.winners else []
    sentences += [r"†: settings that were not tuned."] if report.compared.untuned else []
    caption = " ".join(sentences)
    return to_latex(report.compared, caption, _capital(report.footnote), name, command)


def quality_plot(report: Report, cost: str) -> Figure | None:
    """Quality against "seconds" or "evaluations"; None where there are fewer than two points or no quality."""
    quality = _quality(report)
    columns = {name for _, row in report.rows for name in row.values}
    costs = [name for name in COSTS[cost] if name in columns]
    if quality is None or not costs:
        return None
    samples = {line.sample for line in report.compared.units.lines}
    sample = "auto" if len(samples) > 1 else {"single": "all", "mean": "mean"}[samples.pop()]
    units = gather(_runs(report), report.rows, report.by, [quality, *costs], sample)  # type: ignore[arg-type]
    return plot(units, quality, cost, report.compared.directions[quality]) if len(units.lines) > 1 else None


def _quality(report: Report) -> str | None:
    """The first metric of the table that has a direction."""
    return next((name for name in report.metrics if name in report.compared.directions), None)


def _runs(report: Report) -> Sequence[RunFolder]:
    return list({id(run): run for run, _ in report.rows}.values())


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
