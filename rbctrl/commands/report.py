"""`rbctrl report DIR... [--by a,b] [--metric a,b]`: one table and one picture of the rows below these folders."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NoReturn

from rbctrl.commands.latest import OUTPUTS, follow


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{self.prog}: {message}")


def run(args: list[str]) -> int:
    """Prints the table and the paths of what was written; `study=NAME` is outputs/NAME.

    Raises:
        ValueError: an unknown option, or no folder.
        FileNotFoundError: a folder does not exist or holds no rows.
    """
    parser = _Parser(prog="rbctrl report", description=__doc__)
    parser.add_argument("folders", nargs="+", metavar="DIR", help="a run, a sweep, a study, or study=NAME")
    parser.add_argument("--by", type=_names, help="columns that make a row of the table, such as operator,controller")
    parser.add_argument("--metric", type=_names, help="columns to average, such as psnr,ssim")
    parser.add_argument("--sample", default="auto", help="all: single samples; mean: means over samples; auto: both")
    given = parser.parse_args(args)
    summarize([_folder(word) for word in given.folders], given.by, given.metric, given.sample)
    return 0


def summarize(
    folders: Sequence[Path],
    by: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    sample: Literal["all", "mean", "auto"] = "auto",
) -> None:
    """Prints the table, writes report.md, report.csv and grid.png to the first folder, and prints what to open."""
    from rbctrl.report import report  # here: --help and a wrong option should not wait for pandas

    made = report(folders, by, metrics, sample)
    page = made.save(folders[0])
    print(made.to_text())
    print(page if made.grid is None else page.with_name("grid.png"))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _folder(word: str) -> Path:
    folder = OUTPUTS / word.removeprefix("study=") if word.startswith("study=") else follow(Path(word))
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {str(folder)!r}")
    return folder
