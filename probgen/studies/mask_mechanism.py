r"""Models of the mask: which cells are unknown, given the values of their rows, those that nobody saw among them.

.. math:: r_{ij} \mid x_i \sim \mathrm{Bernoulli}(\sigma(a_j + b_j^\top f_j(x_i))), \qquad
    a_j \sim \mathcal N(0, 10^2), \quad b_j \sim \mathcal N(0, s^2 I)

with r = 1 for unknown cells. Self-masking (:math:`f_j` is the column itself) and logistic (:math:`f_j` is the whole row) are the
two forms of Ipsen, Mattei and Frellsen (2021). Columns enter in standard deviations of their known cells, positive ones and
counts by their logarithm, categories by indicators, so that b is a log odds ratio a standard deviation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from probgen.data.schema import Column
from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError
from probgen.studies.ridge_logistic import log_posterior, mode_of
from probgen.whole import check_whole

__all__ = ["FORMS", "MaskModel", "Mechanism", "RowFeatures"]

FORMS = ("self_masking", "logistic")
SIDES = {"high": 1.0, "low": -1.0}
INTERCEPT = 10.0  # prior standard deviation of a
TAILS = 5.0  # degrees of freedom of proposals
WALKS = 3  # steps of a random walk after each independent proposal


@dataclass(frozen=True)
class Mechanism:
    r"""How cells get lost, where that depends on what they would have shown: the ``mechanism`` of :func:`probgen.impute`.

    .. math:: p(x, r) = p(x \mid \theta) \prod_j \mathrm{Bernoulli}(r_j \mid \sigma(a_j + b_j^\top f_j(x)))

    What identifies b is the shape of the model of x: the data alone cannot tell this mechanism from one at random.

    Attributes:
        form: "self_masking" (f is the column itself) or "logistic" (f is the whole row).
        columns: whose mask is modelled; all columns with holes where it is None. The mask of others is taken as at random.
        direction: column -> "high" or "low", where it is known which of its own values get lost.
        prior_scale: standard deviation of b, a log odds ratio for a standard deviation of the column.
        chains: of data augmentation, each from a start of its own.
        warmup: sweeps of each chain that are not kept.
        thin: sweeps from one kept table to the next.
        candidates: draws among which the next value of a cell is chosen, the present one included.

    Raises:
        CapabilityError: an option is not what it should be.

    Example:
        >>> Mechanism("self_masking", direction={"income": "high"}).prior_scale
        2.5

    Reference: Heckman (1979); Ipsen, Mattei and Frellsen (2021).
    """

    form: str
    columns: Sequence[str] | None = None
    direction: Mapping[str, str] = field(default_factory=dict)
    prior_scale: float = 2.5
    chains: int = 2
    warmup: int = 100
    thin: int = 10
    candidates: int = 4

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise CapabilityError(
                f"mechanism must be one of {', '.join(FORMS)}, or a pg.Mechanism, got {self.form!r}."
            )
        for name, least in (("chains", 1), ("warmup", 1), ("thin", 1), ("candidates", 2)):
            value = getattr(self, name)
            check_whole(name, value, least)
        if not 0 < self.prior_scale < np.inf:
            raise CapabilityError(f"prior_scale must be a positive number, got {self.prior_scale!r}.")
        wrong = {name: side for name, side in self.direction.items() if side not in SIDES}
        if wrong:
            raise CapabilityError(f"direction must be 'high' or 'low' for every column it names, got {wrong}.")


class RowFeatures:
    """Columns as numbers for a logit: standardised by their known cells, categories as indicators.

    Attributes:
        places: ``(F,)``, the column of each feature.
        names: of the features, such as "income" or "city = b".
    """

    def __init__(self, table: Table) -> None:
        self.schema = table.schema
        levels = [level_codes(column) for column in self.schema]
        self.places = np.repeat(np.arange(len(self.schema)), list(map(len, levels)))
        self.codes = np.concatenate(levels)  # NaN for numbers
        known = self.raw(table.values)
        self.centre = np.nanmean(known, 0)
        spread = np.nanstd(known, 0)
        self.scale = np.where(np.isnan(self.codes) & (spread > 0), spread, 1.0)
        self.names = [feature_name(self.schema[int(p)], code) for p, code in zip(self.places, self.codes, strict=True)]

    def raw(self, values: np.ndarray) -> np.ndarray:
        made = np.empty((*values.shape[:-1], len(self.places)))
        for at, (place, code) in enumerate(zip(self.places, self.codes, strict=True)):
            x = values[..., place]
            made[..., at] = (
                on_a_line(x, self.schema[int(place)]) if np.isnan(code) else np.where(np.isnan(x), x, x == code)
            )
        return made

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """``(..., F)`` of rows ``(..., D)``."""
        return (self.raw(values) - self.centre) / self.scale

    def of(self, place: int) -> np.ndarray:
        """The features of one column."""
        return np.flatnonzero(self.places == place)


def level_codes(column: Column) -> np.ndarray:
    """The levels that have an indicator, or one NaN for a column that is a number."""
    several = column.kind == "categorical" and len(column.levels) > 1
    return np.arange(1.0, len(column.levels)) if several else np.array([np.nan])


def feature_name(column: Column, code: float) -> str:
    return str(column.name) if np.isnan(code) else f"{column.name} = {column.levels[int(code)]}"


def on_a_line(x: np.ndarray, column: Column) -> np.ndarray:
    """A column on a scale on which it may well be linear in a logit."""
    if column.kind == "positive":
        return np.log(x)
    return np.log1p(x) if column.kind in ("count", "semicontinuous") else x


class MaskModel:
    """The mechanism of one table: designs, priors, and steps of its coefficients.

    Attributes:
        targets: ``(J,)`` places of the columns whose mask is modelled.
        designs: for each of them, its features.
        terms: (column, term) of every coefficient, target by target.
    """

    def __init__(self, mechanism: Mechanism, table: Table) -> None:
        self.mechanism, self.features = mechanism, RowFeatures(table)
        self.targets = np.array(targets_of(mechanism, table))
        whole = np.arange(len(self.features.places))
        alone = mechanism.form == "self_masking"
        self.designs = [self.features.of(place) if alone else whole for place in self.targets]
        self.signs = [self.sign(table.schema, place, design) for place, design in zip(self.targets, self.designs)]
        names = [table.names[place] for place in self.targets]
        self.terms = [
            (name, term)
            for name, design in zip(names, self.designs, strict=True)
            for term in ["intercept", *(self.features.names[at] for at in design)]
        ]

    def sign(self, schema: Any, place: int, design: np.ndarray) -> np.ndarray:
        """+1, -1, or 0 where it is open, for every coefficient of a target."""
        side = SIDES.get(self.mechanism.direction.get(schema.names[place], ""), 0.0)
        return np.append(0.0, np.where(self.features.places[design] == place, side, 0.0))

    @property
    def entering(self) -> np.ndarray:
        """Places of the columns on which the mask depends."""
        return np.unique(self.features.places[np.concatenate(self.designs)])

    def start(self, unknown: np.ndarray) -> list[np.ndarray]:
        """Coefficients of a mask completely at random."""
        share = np.clip(unknown[:, self.targets].mean(0), 1e-3, 1 - 1e-3)
        return [
            np.append(np.log(s / (1 - s)), np.zeros(len(design)))
            for s, design in zip(share, self.designs, strict=True)
        ]

    def log_prob(self, values: np.ndarray, unknown: np.ndarray, coefficients: Sequence[np.ndarray]) -> np.ndarray:
        """``(..., N)``: log probability of the mask ``(N, D)`` given completed rows ``(..., N, D)``."""
        features, total = self.features(values), 0.0
        for place, design, beta in zip(self.targets, self.designs, coefficients, strict=True):
            eta = beta[0] + features[..., design] @ beta[1:]
            total = total - np.logaddexp(0.0, np.where(unknown[:, place], -eta, eta))
        return np.asarray(total)

    def redraw(
        self,
        values: np.ndarray,
        unknown: np.ndarray,
        weights: np.ndarray,
        coefficients: Sequence[np.ndarray],
        rng: np.random.Generator,
    ) -> list[np.ndarray]:
        """The coefficients after Metropolis steps on their posterior given completed rows."""
        features = self.features(values)
        made = []
        for place, design, sign, beta in zip(self.targets, self.designs, self.signs, coefficients, strict=True):
            x = np.column_stack([np.ones(len(features)), features[:, design]])
            precision = np.append(INTERCEPT**-2, np.full(len(design), self.mechanism.prior_scale**-2))
            made.append(metropolis(LogisticPosterior(x, unknown[:, place], weights, precision, sign), beta, rng))
        return made


def targets_of(mechanism: Mechanism, table: Table) -> list[int]:
    """Places of the columns whose mask is modelled."""
    unknown = np.asarray((~table.known).any(0))
    if isinstance(mechanism.columns, str):
        raise DataError(f"columns of a mechanism are a list of names, got the text {mechanism.columns!r}.")
    names = [n for n, holes in zip(table.names, unknown) if holes] if mechanism.columns is None else mechanism.columns
    places = [table.schema.index(name) for name in names]
    whole = [name for name, place in zip(names, places, strict=True) if not unknown[place]]
    if whole:
        raise DataError(f"Column {whole[0]!r} has no unknown cell, so its mask cannot be modelled; leave it out.")
    if not places:
        raise DataError("The table has no unknown cells, so there is no mask to be modelled.")
    for name in mechanism.direction:
        column = table.schema[name]
        if table.schema.index(name) not in places:
            raise DataError(f"direction names {name!r}, whose mask is not modelled; leave it out.")
        if len(level_codes(column)) > 1:
            raise CapabilityError(f"Column {name!r} is categorical and has no direction; leave it out of direction.")
    return places


@dataclass(frozen=True, eq=False)
class LogisticPosterior:
    """Logistic regression with a normal prior, and signs where they are known."""

    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    precision: np.ndarray
    sign: np.ndarray

    def log_density(self, beta: np.ndarray) -> float:
        if (self.sign * beta < 0).any():
            return -np.inf
        return log_posterior(beta, self.x, self.y, self.weights, self.precision)

    def mode(self) -> tuple[np.ndarray, np.ndarray]:
        """Mode and root of the inverse information, signs aside."""
        beta, information = mode_of(self.x, self.y, self.weights, self.precision)
        return beta, np.linalg.cholesky(np.linalg.inv(information))


def metropolis(posterior: LogisticPosterior, beta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One independent proposal with Student's tails around the mode, then steps of a random walk of its shape."""
    mode, root = posterior.mode()
    size, here = len(mode), posterior.log_density(beta)

    def proposal(point: np.ndarray) -> float:
        distance = np.sum(np.linalg.solve(root, point - mode) ** 2)
        return float(-0.5 * (TAILS + size) * np.log1p(distance / TAILS))

    for step in range(1 + WALKS):
        noise = root @ rng.normal(size=size)
        if step == 0:
            made = mode + noise / np.sqrt(rng.chisquare(TAILS) / TAILS)
            correction = proposal(beta) - proposal(made)
        else:
            made, correction = beta + 2.4 / np.sqrt(size) * noise, 0.0
        there = posterior.log_density(made)
        if np.log(rng.random()) < there - here + correction:
            beta, here = made, there
    return beta
