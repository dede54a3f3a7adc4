"""Reports: how good a model is and what is inside it, as an object and as a page."""

from fastlenet.reports.reporting import Report, report

__all__ = ["Report", "report"]
