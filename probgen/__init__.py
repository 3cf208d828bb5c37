"""Generative models of data: a table with holes in, a joint distribution to ask anything out.

Example:
    >>> import probgen as pg
    >>> "gaussian_mixture" in pg.available()
    True
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probgen.data.amputation import ampute_patterns as ampute_patterns
    from probgen.data.datasets import load as load_dataset  # noqa: F401
    from probgen.data.limits import Censored as Censored
    from probgen.data.limits import Limits as Limits
    from probgen.data.limits import censored as censored
    from probgen.data.missing import ampute as ampute
    from probgen.data.missing import flux as flux
    from probgen.data.missing import missing_patterns as missing_patterns
    from probgen.data.parts import Pictures as Pictures
    from probgen.data.parts import Sounds as Sounds
    from probgen.data.parts import Texts as Texts
    from probgen.data.reading import read_table as read_table
    from probgen.data.reading import read_text as read_text
    from probgen.data.schema import Column as Column
    from probgen.data.schema import Image as Image
    from probgen.data.schema import Schema as Schema
    from probgen.data.sprites import sprites as sprites
    from probgen.data.streams import ParquetFolder as ParquetFolder
    from probgen.data.table import Table as Table
    from probgen.data.toys import toy as toy
    from probgen.data.toys import toy_entropy as toy_entropy
    from probgen.data.toys import toy_log_density as toy_log_density
    from probgen.data.toys import toy_names as toy_names
    from probgen.errors import CapabilityError as CapabilityError
    from probgen.errors import ConvergenceWarning as ConvergenceWarning
    from probgen.errors import DataError as DataError
    from probgen.errors import DataWarning as DataWarning
    from probgen.errors import FitError as FitError
    from probgen.errors import IdentificationWarning as IdentificationWarning
    from probgen.errors import ImproperWarning as ImproperWarning
    from probgen.errors import ProbgenError as ProbgenError
    from probgen.errors import ProbgenWarning as ProbgenWarning
    from probgen.errors import SchemaError as SchemaError
    from probgen.estimate import Estimate as Estimate
    from probgen.inference.logs import CsvLog as CsvLog
    from probgen.inference.logs import TensorBoardLog as TensorBoardLog
    from probgen.program import Model as Model
    from probgen.program import Traits as Traits
    from probgen.program import available as available
    from probgen.program import program as program
    from probgen.queries.answers import Answer as Answer
    from probgen.queries.any_order import order_spread as order_spread
    from probgen.queries.class_conditional import ClassConditional as ClassConditional
    from probgen.queries.class_fitting import class_conditional as class_conditional
    from probgen.queries.compression.verbs import decompress as decompress
    from probgen.queries.criteria import Criteria as Criteria
    from probgen.queries.diagnosis import Diagnosis as Diagnosis
    from probgen.queries.ensemble import Ensemble as Ensemble
    from probgen.queries.ensemble import ensemble as ensemble
    from probgen.queries.fit import Fit as Fit
    from probgen.queries.fit import fit as fit
    from probgen.queries.generator_density import generator_log_prob as generator_log_prob
    from probgen.queries.labels import match_labels as match_labels
    from probgen.queries.latent_information import LatentInformation as LatentInformation
    from probgen.queries.latent_information import latent_information as latent_information
    from probgen.queries.loo import Comparison as Comparison
    from probgen.queries.loo import Predictive as Predictive
    from probgen.queries.loo import compare_models as compare_models
    from probgen.queries.loo import loo as loo
    from probgen.queries.loo import waic as waic
    from probgen.queries.marginals import Marginals as Marginals
    from probgen.queries.marginals import class_probabilities as class_probabilities
    from probgen.queries.networks import from_pgmpy as from_pgmpy
    from probgen.queries.networks import network as network
    from probgen.queries.networks import read_network as read_network
    from probgen.queries.networks import to_pgmpy as to_pgmpy
    from probgen.queries.networks import write_network as write_network
    from probgen.queries.persistence import load as load
    from probgen.queries.texts import TextScore as TextScore
    from probgen.queries.texts import continue_sequences as continue_sequences
    from probgen.queries.texts import continue_text as continue_text
    from probgen.queries.texts import text_score as text_score
    from probgen.queries.trees import trees as trees
    from probgen.queries.walk_diagnosis import WalkDiagnosis as WalkDiagnosis
    from probgen.queries.walk_diagnosis import walk_diagnosis as walk_diagnosis
    from probgen.report.latent_browser import latent_browser as latent_browser
    from probgen.structure.confidence import edge_confidence as edge_confidence
    from probgen.structure.graph import Graph as Graph
    from probgen.structure.learn import learn_structure as learn_structure
    from probgen.studies.anomalies import AnomalyStudy as AnomalyStudy
    from probgen.studies.anomalies import anomaly_study as anomaly_study
    from probgen.studies.calibration import Calibration as Calibration
    from probgen.studies.calibration import check_calibration as check_calibration
    from probgen.studies.classification import classification_study as classification_study
    from probgen.studies.compare import compare as compare
    from probgen.studies.compression import CompressionStudy as CompressionStudy
    from probgen.studies.compression import compression_study as compression_study
    from probgen.studies.conformal import change_points as change_points
    from probgen.studies.conformal import conformal_p_values as conformal_p_values
    from probgen.studies.conformal import online_p_values as online_p_values
    from probgen.studies.density import density_study as density_study
    from probgen.studies.design import Design as Design
    from probgen.studies.disentanglement import Disentanglement as Disentanglement
    from probgen.studies.disentanglement import disentanglement as disentanglement
    from probgen.studies.filled_cells import fill_study as fill_study
    from probgen.studies.imputation_comparison import ImputationComparison as ImputationComparison
    from probgen.studies.imputation_comparison import compare_imputations as compare_imputations
    from probgen.studies.latent_paths import interpolate as interpolate
    from probgen.studies.latent_paths import latent_dimensions as latent_dimensions
    from probgen.studies.latent_paths import reconstruct as reconstruct
    from probgen.studies.latent_paths import traverse as traverse
    from probgen.studies.leaderboard import Leaderboard as Leaderboard
    from probgen.studies.main_study import study as study
    from probgen.studies.mask_mechanism import Mechanism as Mechanism
    from probgen.studies.multiple_imputation import Imputations as Imputations
    from probgen.studies.multiple_imputation import impute as impute
    from probgen.studies.overimputation import Overimputation as Overimputation
    from probgen.studies.overimputation import overimpute as overimpute
    from probgen.studies.picture_features import picture_features as picture_features
    from probgen.studies.pooled_tests import PooledTest as PooledTest
    from probgen.studies.pooled_tests import pool_likelihood_ratio as pool_likelihood_ratio
    from probgen.studies.pooled_tests import pool_statistics as pool_statistics
    from probgen.studies.pooled_values import PooledCorrelation as PooledCorrelation
    from probgen.studies.pooled_values import PooledPredictions as PooledPredictions
    from probgen.studies.pooled_values import pool_correlation as pool_correlation
    from probgen.studies.pooled_values import pool_predictions as pool_predictions
    from probgen.studies.pooled_values import pool_r_squared as pool_r_squared
    from probgen.studies.pooling import Pooled as Pooled
    from probgen.studies.pooling import pool as pool
    from probgen.studies.prediction import PredictionStudy as PredictionStudy
    from probgen.studies.prediction import prediction_study as prediction_study
    from probgen.studies.representation import representation_study as representation_study
    from probgen.studies.sample_classifier import classifier_two_sample as classifier_two_sample
    from probgen.studies.sample_comparison import SampleComparison as SampleComparison
    from probgen.studies.sample_comparison import compare_samples as compare_samples
    from probgen.studies.sample_distances import energy_distance as energy_distance
    from probgen.studies.sample_distances import frechet_distance as frechet_distance
    from probgen.studies.sample_distances import maximum_mean_discrepancy as maximum_mean_discrepancy
    from probgen.studies.sample_distances import sliced_wasserstein as sliced_wasserstein
    from probgen.studies.sample_neighbours import density_coverage as density_coverage
    from probgen.studies.sample_neighbours import precision_recall as precision_recall
    from probgen.studies.sampler_check import SamplerCheck as SamplerCheck
    from probgen.studies.sampler_check import check_sampler as check_sampler
    from probgen.studies.selection import Selection as Selection
    from probgen.studies.selection import select as select
    from probgen.studies.sensitivity import Sensitivity as Sensitivity
    from probgen.studies.sensitivity import sensitivity as sensitivity
    from probgen.studies.simulation import imputation_study as imputation_study
    from probgen.studies.simulation_summary import ImputationStudy as ImputationStudy
    from probgen.studies.structural_em import StructuralEM as StructuralEM
    from probgen.studies.structural_em import structural_em as structural_em
    from probgen.studies.surprise import cell_surprise as cell_surprise
    from probgen.studies.surprise import description_length as description_length
    from probgen.studies.surprise import step_surprise as step_surprise
    from probgen.studies.toy_study import ToyStudy as ToyStudy
    from probgen.studies.toy_study import toy_study as toy_study

__version__ = "0.1.0"

HOME = {
    "probgen.data.amputation": ("ampute_patterns",),
    "probgen.data.datasets": ("load as load_dataset",),
    "probgen.data.sprites": ("sprites",),
    "probgen.data.limits": ("Censored", "Limits", "censored"),
    "probgen.data.missing": ("ampute", "flux", "missing_patterns"),
    "probgen.data.parts": ("Pictures", "Sounds", "Texts"),
    "probgen.data.reading": ("read_table", "read_text"),
    "probgen.data.schema": ("Column", "Image", "Schema"),
    "probgen.data.streams": ("ParquetFolder",),
    "probgen.data.table": ("Table",),
    "probgen.data.toys": ("toy", "toy_entropy", "toy_log_density", "toy_names"),
    "probgen.errors": (
        "CapabilityError",
        "ConvergenceWarning",
        "DataError",
        "DataWarning",
        "FitError",
        "IdentificationWarning",
        "ImproperWarning",
        "ProbgenError",
        "ProbgenWarning",
        "SchemaError",
    ),
    "probgen.estimate": ("Estimate",),
    "probgen.program": ("Model", "Traits", "available", "program"),
    "probgen.queries.class_conditional": ("ClassConditional",),
    "probgen.queries.class_fitting": ("class_conditional",),
    "probgen.queries.compression.verbs": ("decompress",),
    "probgen.queries.criteria": ("Criteria",),
    "probgen.queries.diagnosis": ("Diagnosis",),
    "probgen.queries.ensemble": ("Ensemble", "ensemble"),
    "probgen.queries.fit": ("Fit", "fit"),
    "probgen.queries.labels": ("match_labels",),
    "probgen.queries.latent_information": ("LatentInformation", "latent_information"),
    "probgen.queries.loo": ("Comparison", "Predictive", "compare_models", "loo", "waic"),
    "probgen.queries.any_order": ("order_spread",),
    "probgen.queries.generator_density": ("generator_log_prob",),
    "probgen.queries.texts": ("TextScore", "continue_sequences", "continue_text", "text_score"),
    "probgen.queries.marginals": ("Marginals", "class_probabilities"),
    "probgen.queries.networks": ("from_pgmpy", "network", "read_network", "to_pgmpy", "write_network"),
    "probgen.queries.persistence": ("load",),
    "probgen.queries.answers": ("Answer",),
    "probgen.report.latent_browser": ("latent_browser",),
    "probgen.structure.graph": ("Graph",),
    "probgen.queries.trees": ("trees",),
    "probgen.queries.walk_diagnosis": ("WalkDiagnosis", "walk_diagnosis"),
    "probgen.inference.logs": ("CsvLog", "TensorBoardLog"),
    "probgen.studies.anomalies": ("AnomalyStudy", "anomaly_study"),
    "probgen.studies.calibration": ("Calibration", "check_calibration"),
    "probgen.studies.classification": ("classification_study",),
    "probgen.studies.conformal": ("change_points", "conformal_p_values", "online_p_values"),
    "probgen.studies.compare": ("compare",),
    "probgen.studies.compression": ("CompressionStudy", "compression_study"),
    "probgen.studies.density": ("density_study",),
    "probgen.studies.filled_cells": ("fill_study",),
    "probgen.studies.design": ("Design",),
    "probgen.studies.imputation_comparison": ("ImputationComparison", "compare_imputations"),
    "probgen.studies.latent_paths": ("interpolate", "latent_dimensions", "reconstruct", "traverse"),
    "probgen.studies.leaderboard": ("Leaderboard",),
    "probgen.studies.main_study": ("study",),
    "probgen.studies.disentanglement": ("Disentanglement", "disentanglement"),
    "probgen.studies.mask_mechanism": ("Mechanism",),
    "probgen.studies.multiple_imputation": ("Imputations", "impute"),
    "probgen.studies.overimputation": ("Overimputation", "overimpute"),
    "probgen.studies.pooled_tests": ("PooledTest", "pool_likelihood_ratio", "pool_statistics"),
    "probgen.studies.pooled_values": (
        "PooledCorrelation",
        "PooledPredictions",
        "pool_correlation",
        "pool_predictions",
        "pool_r_squared",
    ),
    "probgen.studies.pooling": ("Pooled", "pool"),
    "probgen.studies.picture_features": ("picture_features",),
    "probgen.studies.prediction": ("PredictionStudy", "prediction_study"),
    "probgen.studies.representation": ("representation_study",),
    "probgen.studies.sample_classifier": ("classifier_two_sample",),
    "probgen.studies.sample_comparison": ("SampleComparison", "compare_samples"),
    "probgen.studies.sample_distances": (
        "energy_distance",
        "frechet_distance",
        "maximum_mean_discrepancy",
        "sliced_wasserstein",
    ),
    "probgen.studies.sample_neighbours": ("density_coverage", "precision_recall"),
    "probgen.studies.sampler_check": ("SamplerCheck", "check_sampler"),
    "probgen.studies.selection": ("Selection", "select"),
    "probgen.studies.simulation": ("imputation_study",),
    "probgen.studies.simulation_summary": ("ImputationStudy",),
    "probgen.studies.sensitivity": ("Sensitivity", "sensitivity"),
    "probgen.studies.structural_em": ("StructuralEM", "structural_em"),
    "probgen.studies.surprise": ("cell_surprise", "description_length", "step_surprise"),
    "probgen.studies.toy_study": ("ToyStudy", "toy_study"),
    "probgen.structure.confidence": ("edge_confidence",),
    "probgen.structure.learn": ("learn_structure",),
}
"""Where each public name lives; its module is imported when the name is first used."""

MODULES = ("sklearn",)
"""Modules of the package that are reached as its attributes; they need libraries that are not required."""


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return importlib.import_module(f"probgen.{name}")
    module, original = LAZY.get(name, (None, name))
    if module is None:
        raise AttributeError(f"module 'probgen' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), original)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *MODULES])


def public_names() -> dict[str, tuple[str, str]]:
    """Public name -> (module, name there)."""
    found = {}
    for module, names in HOME.items():
        for entry in names:
            original, _, renamed = entry.partition(" as ")
            found[renamed or original] = (module, original)
    return found


class Face(ModuleType):
    """Keeps ``probgen.program`` the function when the module of that name is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (isinstance(value, ModuleType) and name in LAZY):
            super().__setattr__(name, value)


LAZY = public_names()
__all__ = ["__version__", *sorted(LAZY)]
sys.modules[__name__].__class__ = Face
