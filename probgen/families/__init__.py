"""Conditional distributions, one a file; each is a table of parameters and a network's head at once."""

from probgen.families.base import INTEGRATE_OUT, SUM_OUT, Family, Symbol
from probgen.families.bernoulli import Bernoulli
from probgen.families.beta import Beta
from probgen.families.categorical import Categorical
from probgen.families.columns import Columns
from probgen.families.gamma import Gamma
from probgen.families.gaussian import (
    DiagonalGaussian,
    FullGaussian,
    SphericalGaussian,
    TiedGaussian,
    gaussian,
)
from probgen.families.gaussian_joint import CoupledGaussian
from probgen.families.gaussian_path import GaussianPath
from probgen.families.hurdle import Hurdle
from probgen.families.gaussian_regression import DiagonalRegression, FullRegression
from probgen.families.log_normal import LogNormal
from probgen.families.markov_chain import MarkovChain, SemiMarkovChain
from probgen.families.negative_binomial import NegativeBinomial
from probgen.families.ordered_logistic import OrderedLogistic
from probgen.families.poisson import Poisson

__all__ = [
    "INTEGRATE_OUT",
    "SUM_OUT",
    "Bernoulli",
    "Beta",
    "Categorical",
    "Columns",
    "CoupledGaussian",
    "DiagonalGaussian",
    "DiagonalRegression",
    "Family",
    "FullGaussian",
    "FullRegression",
    "Gamma",
    "GaussianPath",
    "Hurdle",
    "LogNormal",
    "MarkovChain",
    "NegativeBinomial",
    "OrderedLogistic",
    "Poisson",
    "SemiMarkovChain",
    "SphericalGaussian",
    "Symbol",
    "TiedGaussian",
    "gaussian",
]
