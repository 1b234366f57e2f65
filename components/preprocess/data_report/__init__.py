"""The data report: one page about a data set, from the facts of its studies."""

from components.preprocess.data_report.report import Report

__all__ = ["Report"]
