"""A study as one self-contained HTML page."""

from probgen.report.page import render, write

__all__ = ["render", "write"]
