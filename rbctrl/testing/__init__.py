"""Checks of what users write: each raises `CheckError` with what is wrong and by how much, or returns what it measured.

They run on small random fp64 images, in the tests of this package, in a user's own tests and in `rbctrl check`.
"""

from rbctrl.testing.controllers import check_controller
from rbctrl.testing.costs import check_cost
from rbctrl.testing.operators import check_operator
from rbctrl.testing.priors import check_prior
from rbctrl.testing.report import CheckError, Report

__all__ = ["CheckError", "Report", "check_controller", "check_cost", "check_operator", "check_prior"]
