"""What the suites share: the error they raise and the list they return, and that list as text."""

from __future__ import annotations

import torch
from torch import Tensor

Report = list[tuple[str, float]]  # (what was checked, largest relative error)


class CheckError(AssertionError):
    """Something does not keep its contract. `report` holds what was measured before."""

    report: Report = []


def relative_error(value: Tensor, expected: Tensor) -> float:
    """Largest over the rows of |value - expected| / max(|value|, |expected|); infinite where a shape differs."""
    if value.shape != expected.shape:
        return float("inf")
    norms = [torch.linalg.vector_norm(t.reshape(len(t), -1), dim=1) for t in (value - expected, value, expected)]
    size = torch.maximum(norms[1], norms[2])
    return (norms[0] / size.where(size > 0, 1.0)).max().item()


def require(report: Report, check: str, value: float, tolerance: float, message: str) -> None:
    """Notes a measured value, or raises `message` with the value in its braces."""
    if not value <= tolerance:
        raise CheckError(f"{check}: {message.format(f'{value:.3g}')} (allowed: {tolerance:g})")
    report.append((check, value))


def describe(value: object) -> str:
    """What came back instead of what was asked for."""
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def as_text(report: Report) -> str:
    """A line for each check, with its largest value; those named "what at level" make a table of levels."""
    largest: dict[str, float] = {}
    for check, value in report:
        if " at " not in check:
            largest[check] = max(value, largest.get(check, value))
    plain = [f"  {check:<20} {value:.3g}" for check, value in largest.items()]
    levels: dict[str, dict[str, float]] = {}
    for check, value in report:
        name, _, level = check.partition(" at ")
        if level:
            levels.setdefault(level, {})[name] = value
    columns = list(dict.fromkeys(name for row in levels.values() for name in row))
    table = ["  " + "".join(f"{name:>9}" for name in ["level", *columns])] if levels else []
    for level, row in levels.items():
        cells = [f"{row[name]:>9.3g}" if name in row else " " * 9 for name in columns]
        table.append(f"  {level:>9}" + "".join(cells))
    return "\n".join([*table, *plain])
