"""Conditional distributions, one a file; each is a table of parameters and a network's head at once."""

from probgen.families.base import INTEGRATE_OUT, SUM_OUT, Family, Symbol
from probgen.families.bernoulli import Bernoulli
from probgen.families.beta import Beta
from probgen.families.categorical import Categorical
from probgen.families.columns import Columns
from probgen.families.factor_analyser import FactorAnalyser, PrincipalComponents, checked_factors
from probgen.families.gamma import Gamma
from probgen.families.gaussian import (
    DiagonalGaussian,
    FullGaussian,
    SphericalGaussian,
    TiedGaussian,
    gaussian,
)
from probgen.families.gaussian_joint import CoupledGaussian
from probgen.families.hurdle import Hurdle
from probgen.families.log_normal import LogNormal
from probgen.families.negative_binomial import NegativeBinomial
from probgen.families.normal_scores import NormalScores
from probgen.families.ordered_logistic import OrderedLogistic
from probgen.families.poisson import Poisson
from probgen.families.student_t import StudentT

__all__ = [
    "INTEGRATE_OUT",
    "SUM_OUT",
    "Bernoulli",
    "Beta",
    "Categorical",
    "Columns",
    "CoupledGaussian",
    "DiagonalGaussian",
    "FactorAnalyser",
    "Family",
    "FullGaussian",
    "Gamma",
    "Hurdle",
    "LogNormal",
    "NegativeBinomial",
    "NormalScores",
    "OrderedLogistic",
    "Poisson",
    "PrincipalComponents",
    "SphericalGaussian",
    "StudentT",
    "Symbol",
    "TiedGaussian",
    "checked_factors",
    "gaussian",
]
