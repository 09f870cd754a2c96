"""What could not be computed of a cell: rows with their reason, and sentences for whoever started it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rbctrl.data.base import Batch
from rbctrl.journal import Record
from rbctrl.results import ResultStore

if TYPE_CHECKING:
    from rbctrl.experiment import Experiment

log = logging.getLogger("rbctrl.experiment")


@dataclass(eq=False)
class Failures:
    """The failures of one run of a cell.

    Args:
        experiment: what is computed.
        store: where it goes.
    """

    experiment: Experiment
    store: ResultStore
    _errors: list[Exception] = field(init=False, default_factory=list)

    def of_batch(self, batch: Batch, error: Exception, content: Callable[[str], str]) -> None:
        """Writes rows that could not be computed; `content` is the hash of an item."""
        self._errors.append(error)
        single = self.experiment.wanted.singles
        keys = batch.rows if single else [(item, "mean") for item in dict.fromkeys(item for item, _ in batch.rows)]
        self._write(keys, reason(error), content)

    def of_reading(self) -> None:
        """Writes the rows of images that could not be read."""
        wanted = self.experiment.wanted
        samples = range(wanted.n_samples) if wanted.singles else ["mean"]
        for item, why in self.experiment.data.unreadable.items():
            self._write([(item, sample) for sample in samples], why, lambda item: "")

    def tell(self, rows: Iterable[Record]) -> None:
        """Adds to the experiment's problems what went wrong, given all rows of the run.

        Raises:
            Exception: the first one, if no row could be computed.
        """
        problems, computed = self.experiment.problems, False
        for row in rows:
            computed = computed or row.get("alive") is not None
            if row.get("alive") is False:
                problems.append(f"{row['item']} (sample {row['sample']}) {row['error']}")
        if self._errors and not computed:
            raise self._errors[0]
        for error in self._errors:
            if not isinstance(error, ValueError):
                log.error("a batch failed", exc_info=error)
        problems.extend(dict.fromkeys(f"rows failed: {reason(error)}" for error in self._errors))
        problems.extend(self.experiment.data.skipped)

    def _write(self, keys: Iterable[tuple[str, object]], why: str, content: Callable[[str], str]) -> None:
        seed, rows = self.experiment.seed, []
        for item, sample in keys:
            known = self.store.row(item, sample, seed)  # type: ignore[arg-type]
            if known is None or known.get("error") != why:
                row: Record = {"item": item, "sample": sample, "seed": seed, "alive": None, "error": why}
                rows.append(row | {"content": content(item)})
        self.store.write(rows)


def reason(error: BaseException) -> str:
    """One line on an error."""
    text = " ".join(str(error).split())[:500]
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"
