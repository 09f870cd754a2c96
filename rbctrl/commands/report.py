"""`rbctrl report DIR...`: tables, paired differences, plots and a page of the rows below these folders.

It prints the table and writes report.md, report.csv, grid.png, report.html, report.bib and the plots to the first
folder, or to --out. Examples:

    rbctrl report study=first --by controller,operator --metric psnr,ssim --latex table.tex
    rbctrl report study=tuning --by controller,operator --select psnr --on 'train_*'
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from rbctrl.commands.groups import nearest
from rbctrl.commands.latest import OUTPUTS, follow

if TYPE_CHECKING:
    from rbctrl.report import Report


class Parser(argparse.ArgumentParser):
    """Raises what argparse would print before it exits."""

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments: (--?[\w-]+)", message)
        if unknown:
            known = [flag for flag in self._option_string_actions if flag.startswith("--")]
            message = f"there is no option {unknown[1]}{nearest(unknown[1], known)}; --help shows what there is"
        raise ValueError(f"{self.prog}: {message}")


def run(args: list[str]) -> int:
    """Prints the table and the paths of what was written; `study=NAME` is outputs/NAME.

    Raises:
        ValueError: an unknown option, or no folder.
        FileNotFoundError: a folder does not exist or holds no rows.
    """
    given = _parser().parse_args(args)
    folders = [folder(word) for word in given.folders]
    from rbctrl.report import report  # here: --help and a wrong option should not wait for pandas

    against = _settings(given.against)
    made = report(folders, given.by, given.metric, given.sample, against, given.select, given.on)
    out = folders[0] if given.out is None else given.out
    page = made.save(out)
    written = _write(made, given, out, shlex.join(["rbctrl", "report", *args]))
    print(made.to_text())  # only now: `rbctrl report ... | head` ends at the first lines
    print(page if made.grid is None else page.with_name("grid.png"))
    print(*written, sep="\n")
    return 0


def summarize(
    folders: Sequence[Path],
    by: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    sample: Literal["all", "mean", "auto"] = "auto",
) -> None:
    """Prints the table, writes report.md, report.csv and grid.png to the first folder, and prints what to open."""
    from rbctrl.report import report

    made = report(folders, by, metrics, sample)
    page = made.save(folders[0])
    print(made.to_text())
    print(page if made.grid is None else page.with_name("grid.png"))


def folder(word: str) -> Path:
    """A folder of results by its path, as study=NAME, or outputs/latest.

    Raises:
        FileNotFoundError: it does not exist.
    """
    found = OUTPUTS / word.removeprefix("study=") if word.startswith("study=") else follow(Path(word))
    if not found.is_dir():
        raise FileNotFoundError(f"there is no folder {str(found)!r}")
    return found


def _parser() -> Parser:
    doc, _, epilog = (__doc__ or "").partition("Examples:\n")
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="rbctrl report", description=doc, epilog=f"examples:\n{epilog}", formatter_class=raw)
    add = parser.add_argument
    add("folders", nargs="+", metavar="DIR", help="a run, a sweep, a study, or study=NAME")
    add("--by", type=_names, help="settings that make a line of the table, such as controller,operator")
    add("--metric", type=_names, help="columns to average, such as psnr,ssim; your own as NAME:higher or NAME:lower")
    add("--sample", default="auto", help="all: single samples; mean: means over samples; auto: both")
    add("--against", nargs="+", default=[], metavar="NAME=VALUE", help="differences to this method, not to the best")
    add("--select", metavar="METRIC", help="choose one setting per line by this metric")
    add(
        "--on",
        nargs="+",
        default=[],
        metavar="ITEM",
        help="choose on these items (patterns, too), report the others",
    )
    add("--csv", type=Path, metavar="FILE", help="the table, with all statistics")
    add("--latex", type=Path, metavar="FILE", help="the table for a paper (package booktabs)")
    add("--out", type=Path, metavar="DIR", help="where to write; the default is the first folder")
    return parser


def _write(made: Report, given: argparse.Namespace, out: Path, command: str) -> list[Path]:
    from rbctrl.report.publish import latex_table, publish

    written = [publish(made, out, f"Report on {' '.join(given.folders)}", command)]
    for file in (given.csv, given.latex):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            written.append(file)
    if given.csv is not None:
        made.table.to_csv(given.csv, index=False)
    if given.latex is not None:
        given.latex.write_text(latex_table(made, given.latex.stem, command), encoding="utf-8")
    return written


def _settings(words: Sequence[str]) -> dict[str, str]:
    wrong = [word for word in words if "=" not in word]
    if wrong:
        raise ValueError(f"--against {wrong[0]!r}: write a setting and its value, such as controller=tv")
    return dict(word.split("=", 1) for word in words)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
