"""Figures: functions of data and, if you have them, Axes; they return the Axes."""

from probgen.plots.calibration import calibration, ecdf_difference, rank_histogram
from probgen.plots.chain import decoded, durations, forecast, transition_diagram
from probgen.plots.classification import confusion_matrix, reliability_curve
from probgen.plots.columns import column_against, pair_against
from probgen.plots.components import component_levels, components
from probgen.plots.density import density_differences, density_rows
from probgen.plots.embedding import embedding_plane
from probgen.plots.imputation import imputation_columns, interval_coverage
from probgen.plots.missing import missing_patterns, missing_shares
from probgen.plots.network import network
from probgen.plots.posterior import energy, posterior_predictive, prior_predictive, rank, trace
from probgen.plots.selection import selection_curve
from probgen.plots.sensitivity import sensitivity_curve
from probgen.plots.style import house
from probgen.plots.training import training_curve

__all__ = [
    "calibration",
    "column_against",
    "component_levels",
    "components",
    "confusion_matrix",
    "decoded",
    "density_differences",
    "density_rows",
    "durations",
    "ecdf_difference",
    "embedding_plane",
    "energy",
    "forecast",
    "house",
    "imputation_columns",
    "interval_coverage",
    "missing_patterns",
    "missing_shares",
    "network",
    "pair_against",
    "posterior_predictive",
    "prior_predictive",
    "rank",
    "rank_histogram",
    "reliability_curve",
    "selection_curve",
    "sensitivity_curve",
    "trace",
    "training_curve",
    "transition_diagram",
]
