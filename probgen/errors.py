"""Errors and warnings. A message says what was expected, what came, and what to do."""

__all__ = [
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
]


class ProbgenError(Exception):
    """Anything that probgen refuses or that failed."""


class SchemaError(ProbgenError, ValueError):
    """The columns' description does not hold together."""


class DataError(ProbgenError, ValueError):
    """The data cannot be used as they are."""


class CapabilityError(ProbgenError, ValueError):
    """A model, method or option cannot do what was asked."""


class FitError(ProbgenError, RuntimeError):
    """Fitting failed numerically."""


class ProbgenWarning(UserWarning):
    """Something that a careful reader should know."""


class ConvergenceWarning(ProbgenWarning):
    """The result may not be final."""


class IdentificationWarning(ProbgenWarning):
    """The data do not say what a parameter is."""


class ImproperWarning(ProbgenWarning):
    """Uncertainty of the parameters is left out."""


class DataWarning(ProbgenWarning):
    """Part of the data was not used, or was read in a way worth knowing."""
