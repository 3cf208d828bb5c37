"""Figures: functions of data and, if you have them, Axes; they return the Axes."""

from probgen.plots.anomalies import anomalies, odd_cells, odd_scores
from probgen.plots.calibration import calibration, ecdf_difference, rank_histogram
from probgen.plots.chain import decoded, durations, forecast, transition_diagram
from probgen.plots.classification import confusion_matrix, reliability_curve
from probgen.plots.columns import column_against, pair_against
from probgen.plots.components import component_levels, components
from probgen.plots.convergence import chain_traces, settling
from probgen.plots.density import density_differences, density_rows
from probgen.plots.embedding import embedding_plane
from probgen.plots.imputation import imputation_columns, interval_coverage
from probgen.plots.imputed import imputed_density, imputed_pair, imputed_strip
from probgen.plots.latent import (
    decoded_column,
    interpolation_column,
    interpolation_pictures,
    latent_dimensions,
    latent_use,
    reconstruction_errors,
    reconstruction_pictures,
    traversal_column,
    traversal_pictures,
)
from probgen.plots.leaderboard import leaderboard
from probgen.plots.missing import flux, missing_patterns, missing_shares
from probgen.plots.network import network
from probgen.plots.overimputation import (
    imputation_scores,
    label_calibration,
    overimputation,
    pit_histogram,
    pit_line,
)
from probgen.plots.pictures import images, inpainting, picture_rows
from probgen.plots.posterior import energy, posterior_predictive, prior_predictive, rank, trace
from probgen.plots.prediction import (
    abstention_curve,
    discriminative_or_generative,
    learning_curves,
    reliability_by_holes,
)
from probgen.plots.propensity import propensity_plot
from probgen.plots.selection import selection_curve
from probgen.plots.sensitivity import sensitivity_curve
from probgen.plots.style import house
from probgen.plots.toys import density_plane, point_cloud, toy_gallery
from probgen.plots.training import training_curve

__all__ = [
    "abstention_curve",
    "anomalies",
    "calibration",
    "chain_traces",
    "column_against",
    "component_levels",
    "components",
    "confusion_matrix",
    "decoded",
    "decoded_column",
    "density_differences",
    "density_plane",
    "density_rows",
    "discriminative_or_generative",
    "durations",
    "ecdf_difference",
    "embedding_plane",
    "energy",
    "flux",
    "forecast",
    "house",
    "images",
    "imputation_columns",
    "imputation_scores",
    "imputed_density",
    "imputed_pair",
    "imputed_strip",
    "inpainting",
    "interpolation_column",
    "interpolation_pictures",
    "interval_coverage",
    "label_calibration",
    "latent_dimensions",
    "latent_use",
    "leaderboard",
    "learning_curves",
    "missing_patterns",
    "missing_shares",
    "network",
    "odd_cells",
    "odd_scores",
    "overimputation",
    "pair_against",
    "picture_rows",
    "pit_histogram",
    "pit_line",
    "point_cloud",
    "posterior_predictive",
    "prior_predictive",
    "propensity_plot",
    "rank",
    "rank_histogram",
    "reconstruction_errors",
    "reconstruction_pictures",
    "reliability_by_holes",
    "reliability_curve",
    "selection_curve",
    "sensitivity_curve",
    "settling",
    "toy_gallery",
    "trace",
    "training_curve",
    "transition_diagram",
    "traversal_column",
    "traversal_pictures",
]
