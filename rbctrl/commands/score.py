"""`rbctrl score DIR... metrics=OPTION [metrics.key=value ...]`: more metrics for finished cells, without sampling.

Scores of images become columns of the rows, where there is no value yet; FID and KID become columns of the table, one
number per cell. Examples:

    rbctrl score study=first metrics=restoration_lpips
    rbctrl score study=first metrics=fid metrics.fid.features.network=net.pt 'metrics.fid.features.value_range=[0,255]'
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rbctrl.commands.report import Parser, folder


def run(args: list[str]) -> int:
    """Scores every cell below the folders; a cell that cannot be scored does not stop the others.

    Returns:
        The exit status: 1 if a cell was not scored, or no row of it.
    """
    parser = Parser(prog="rbctrl score", description=__doc__)
    parser.add_argument("words", nargs="+", metavar="DIR | metrics=...", help="folders, study=NAME, and metrics")
    parser.add_argument("--batch-size", type=int, default=8, help="images at a time")
    parser.add_argument("--replace", action="store_true", help="values that are there, too")
    given = parser.parse_args(args)
    overrides = [word for word in given.words if word.lstrip("+~").startswith("metrics")]
    folders = [folder(word) for word in given.words if word not in overrides]
    if not folders or not overrides:
        raise ValueError("rbctrl score needs a folder and metrics: rbctrl score study=first metrics=restoration_lpips")
    return _score(folders, overrides, given.batch_size, given.replace)


def _score(folders: Sequence[Path], overrides: Sequence[str], batch_size: int, replace: bool) -> int:
    from tqdm import tqdm

    from rbctrl.claims import Claimed
    from rbctrl.commands.errors import report_error
    from rbctrl.commands.run import compose
    from rbctrl.literal import build
    from rbctrl.report.runs import find_runs
    from rbctrl.scoring import check_metrics, score_cell

    runs = [run for run in find_runs(folders) if run.rows]
    metrics = build(compose(overrides), "metrics")
    check_metrics(metrics)
    failed = 0
    for run in tqdm(runs, unit="cell", leave=False, disable=None):
        try:
            done = score_cell(run.folder, metrics, batch_size, replace)
        except (Claimed, Exception) as error:
            failed += 1
            report_error(error, f"{run.folder}: ")
            continue
        failed += not done.rows
        sets = [f"{name} of {kind} {value:.4g}" for (name, kind), value in done.sets.items()]
        left = [f"{n} rows {reason} left out" for reason, n in done.left_out.items()]
        print("; ".join([f"{run.folder}: {done.rows} rows scored ({done.source or 'no picture'})", *sets, *left]))
    if failed:
        print(f"rbctrl: {failed} of {len(runs)} cells were not scored", file=sys.stderr)
    return 1 if failed else 0
