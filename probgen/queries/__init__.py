"""The verbs: what a fitted program answers."""

from probgen.queries.fit import Fit, fit
from probgen.queries.marginals import Marginals, class_probabilities
from probgen.queries.persistence import load

__all__ = ["Fit", "Marginals", "class_probabilities", "fit", "load"]
