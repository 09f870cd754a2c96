"""`rbctrl report`: the rows below some folders as one table and one picture."""

from rbctrl.report.report import Report, report

__all__ = ["Report", "report"]
