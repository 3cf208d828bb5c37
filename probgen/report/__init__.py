"""A study, a comparison, imputations or a latent space as one self-contained HTML page."""

from probgen.report.comparison import render_comparison, write_comparison
from probgen.report.imputation import render_imputations, write_imputations
from probgen.report.latent_browser import latent_browser
from probgen.report.page import render, write

__all__ = [
    "latent_browser",
    "render",
    "render_comparison",
    "render_imputations",
    "write",
    "write_comparison",
    "write_imputations",
]
