"""Normalising flows: invertible maps in one file each, and the distribution that noise has behind them."""

from probgen.families.flows.autoregressive import Autoregressive
from probgen.families.flows.base import Composed, Flow, Inverted, Permuted, alternating
from probgen.families.flows.coupling import Coupling
from probgen.families.flows.distribution import FlowDistribution
from probgen.families.flows.elementwise import Affine, Monotone, RationalQuadratic
from probgen.families.flows.linear import LearntLinear, Standardised

__all__ = [
    "Affine",
    "Autoregressive",
    "Composed",
    "Coupling",
    "Flow",
    "FlowDistribution",
    "Inverted",
    "LearntLinear",
    "Monotone",
    "Permuted",
    "RationalQuadratic",
    "Standardised",
    "alternating",
]
