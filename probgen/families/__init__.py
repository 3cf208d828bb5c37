"""Conditional distributions, one a file; each is a table of parameters and a network's head at once."""

from probgen.families.additive_regression import AdditiveRegression
from probgen.families.base import INTEGRATE_OUT, SUM_OUT, Family, Symbol
from probgen.families.bernoulli import Bernoulli
from probgen.families.beta import Beta
from probgen.families.categorical import Categorical
from probgen.families.chow_liu_tree import ChowLiuTree
from probgen.families.columns import Columns
from probgen.families.conditional_gaussian import ConditionalGaussian
from probgen.families.conditional_table import ConditionalTable
from probgen.families.count_regression import HurdleRegression, NegativeBinomialRegression, PoissonRegression
from probgen.families.discrete_regression import MultinomialLogit, ProportionalOdds
from probgen.families.discretised_logistic import DiscretisedLogistic
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
from probgen.families.gaussian_path import GaussianPath
from probgen.families.gaussian_regression import DiagonalRegression, FullRegression
from probgen.families.generalised_linear import GeneralisedLinear
from probgen.families.hurdle import Hurdle
from probgen.families.linear_gaussian import AdditiveGaussian, LinearGaussian
from probgen.families.log_normal import LogNormal
from probgen.families.markov_chain import MarkovChain, SemiMarkovChain
from probgen.families.negative_binomial import NegativeBinomial
from probgen.families.nodes import Nodes
from probgen.families.noisy_max import NoisyMax
from probgen.families.normal_scores import NormalScores
from probgen.families.ordered_logistic import OrderedLogistic
from probgen.families.poisson import Poisson
from probgen.families.regression import LogisticRegression, RegressedColumns
from probgen.families.stick_breaking import StickBreaking, mixture_weights
from probgen.families.student_columns import StudentColumns
from probgen.families.student_t import StudentT
from probgen.families.switching_path import SwitchingPath
from probgen.families.tree_table import TreeTable

__all__ = [
    "INTEGRATE_OUT",
    "SUM_OUT",
    "AdditiveGaussian",
    "AdditiveRegression",
    "Bernoulli",
    "Beta",
    "Categorical",
    "ChowLiuTree",
    "Columns",
    "ConditionalGaussian",
    "ConditionalTable",
    "CoupledGaussian",
    "DiagonalGaussian",
    "DiagonalRegression",
    "DiscretisedLogistic",
    "FactorAnalyser",
    "Family",
    "FullGaussian",
    "FullRegression",
    "Gamma",
    "GaussianPath",
    "GeneralisedLinear",
    "Hurdle",
    "HurdleRegression",
    "LinearGaussian",
    "LogNormal",
    "LogisticRegression",
    "MarkovChain",
    "MultinomialLogit",
    "NegativeBinomial",
    "NegativeBinomialRegression",
    "Nodes",
    "NoisyMax",
    "NormalScores",
    "OrderedLogistic",
    "Poisson",
    "PoissonRegression",
    "PrincipalComponents",
    "ProportionalOdds",
    "RegressedColumns",
    "SemiMarkovChain",
    "SphericalGaussian",
    "StickBreaking",
    "StudentColumns",
    "StudentT",
    "SwitchingPath",
    "Symbol",
    "TiedGaussian",
    "TreeTable",
    "checked_factors",
    "gaussian",
    "mixture_weights",
]
