"""`rbctrl tune controller=a,b operator=x,y ...`: the same number of trials on the same images for every controller.

Every other word is a setting of all trials, or varies: key=interval(low,high), key=tag(log,interval(low,high)),
key=a,b. What a controller varies by itself, and what it fixes, stands in conf/tune/CONTROLLER.yaml. Trials are cells of
the study (study=tune): the same command goes on where it was interrupted, and more --trials add to what is there.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser

from rbctrl.commands.errors import report_error
from rbctrl.tuning.search import Trial
from rbctrl.tuning.trials import Task, tune

OWN = ("controller", "operator", "seed", "experiment")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{self.prog}: {message}")


def run(args: list[str]) -> int:
    """Tunes each controller on each operator and writes the winners as presets.

    Returns:
        The exit status: 1 if a pair could not be tuned; the others are.

    Raises:
        ValueError: an unknown option, a tuning image that is held out, or a metric without a direction.
    """
    given, words = _parser().parse_known_args(args)
    wrong = [word for word in words if word.startswith("-")]
    if wrong:
        raise ValueError(f"rbctrl tune: there is no option {wrong[0]!r}; rbctrl tune --help shows what there is")
    if given.trials < 1:
        raise ValueError(f"--trials is at least 1, got {given.trials}")
    failed = 0
    for task in tasks(words, given):
        name = f"{task.controller} on {task.operator}"
        try:
            result = tune(task, partial(_show, name))
        except Exception as error:
            report_error(error, f"{name}: ")
            failed = 1
            continue
        print(f"\n{result.table()}\n{result.verdict()}")
        _save(result.table_rows(), task.folder / f"{task.controller}_{task.operator}.csv")
        preset = result.write(given.out, shlex.join(["rbctrl", "tune", *args]), date.today())
        print(f"{preset}  (rbctrl --config-dir {given.out.parent} experiment={preset.stem})\n", flush=True)
    return failed


def tasks(words: Sequence[str], given: argparse.Namespace) -> Iterator[Task]:
    """One task for each controller and operator; what else the words say holds for all.

    Raises:
        ValueError: no controller is named, or a preset is.
    """
    overrides = OverridesParser.create().parse_overrides(list(words))
    own = {o.key_or_group: list(_values(o)) for o in overrides if o.key_or_group in OWN}
    rest = tuple(o.input_line for o in overrides if o.key_or_group not in OWN)
    if "experiment" in own:
        raise ValueError("rbctrl tune makes presets and cannot start from one: write experiment's settings as words")
    if "controller" not in own:
        raise ValueError("which controllers? rbctrl tune controller=dps,proximal operator=sr4,inpaint_random")
    for operator in own.get("operator", ["sr4"]):
        for controller in own["controller"]:
            yield Task(
                controller,
                operator,
                rest,
                tuple(int(seed) for seed in own.get("seed", [0])),
                given.trials,
                given.search_seed,
                given.metric,
                tuple(given.held_out or ["data=photos"]),
            )


def _values(override: object) -> Iterator[str]:
    if override.is_sweep_override():  # type: ignore[attr-defined]
        yield from override.sweep_string_iterator()  # type: ignore[attr-defined]
    else:
        yield str(override.value())  # type: ignore[attr-defined]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="rbctrl tune", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20, help="settings per controller and operator (20)")
    parser.add_argument("--metric", default="psnr", help="what is scored, NAME:higher or NAME:lower (psnr)")
    parser.add_argument("--search-seed", type=int, default=0, help="of the search; seed=0,1 are those of the noise")
    parser.add_argument("--out", type=Path, default=Path("conf/experiment"), help="where presets go (conf/experiment)")
    parser.add_argument("--held-out", action="append", metavar="WORD", help="the test images (data=photos)")
    return parser


def _show(name: str, trial: Trial) -> None:
    print(f"{name}, trial {trial.number}: {trial.score:.4g}  {' '.join(trial.words)}", file=sys.stderr, flush=True)


def _save(rows: Sequence[dict[str, object]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
