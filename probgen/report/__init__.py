"""A study, or imputations, as one self-contained HTML page."""

from probgen.report.imputation import render_imputations, write_imputations
from probgen.report.page import render, write

__all__ = ["render", "render_imputations", "write", "write_imputations"]
