r"""The distribution of a number given the columns before it, in mixtures whose components couple numbers by a Gaussian.

.. math::
    F(v \mid x_{<d}) = \sum_k p(z = k \mid x_{<d})\,
    \Phi\!\left(\frac{g(v) - \mu_{k, d \mid <d}}{\sigma_{k, d \mid <d}}\right)

:math:`g` takes a positive number to its logarithm and a bounded one to its log odds. This is a short way to what
:mod:`probgen.queries.compression.densities` finds out by asking for densities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logit, ndtr

from probgen.data.schema import Column
from probgen.data.table import Table
from probgen.families.columns import Columns, Link
from probgen.inference.evidence import posterior_marginals

__all__ = ["Coupled", "NormalMixture", "coupled"]


class NormalMixture:
    """Of every row, a mixture of normals of ``g(v)``.

    Args:
        column: whose kind says g.
        shift, scale: to model coordinates.
        weights, middle, spread: ``(M, K)``.
    """

    def __init__(self, column: Column, shift: float, scale: float, *parts: np.ndarray) -> None:
        self.column, self.shift, self.scale = column, shift, scale
        self.weights, self.middle, self.spread = parts

    def cumulative(self, values: np.ndarray) -> np.ndarray:
        """``(M, E)`` probabilities of what is at most each value."""
        y = coordinates(values, self.column, self.shift, self.scale)[:, :, None]
        return (self.weights[:, None] * ndtr((y - self.middle[:, None]) / self.spread[:, None])).sum(-1)


@dataclass(frozen=True, eq=False)
class Coupled:
    """The Gaussian of a fit's components, in model coordinates.

    Attributes:
        fit: the model.
        places: of its columns in the table.
        mean: ``(K, C)``.
        covariance: ``(K, C, C)``.
        weigh: says the shares of the components given what is known, where the model alone does not.
    """

    fit: Any
    places: Sequence[int]
    mean: np.ndarray
    covariance: np.ndarray
    weigh: Callable[[np.ndarray], np.ndarray] | None = None

    def density(self, place: int, before: np.ndarray) -> NormalMixture:
        """Of one of these columns given what is known before it."""
        at, standardiser = list(self.places).index(place), self.fit.standardiser
        shift, scale = np.asarray(standardiser.shift, float), np.asarray(standardiser.scale, float)
        known = ~np.isnan(before[:, self.places])
        y = np.stack(
            [coordinates(before[:, p], self.fit.schema[p], shift[p], scale[p]) for p in self.places], 1
        )  # (M, C)
        shape = (len(before), len(self.mean))
        middle, spread = np.empty(shape), np.empty(shape)
        patterns, which = np.unique(known, axis=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            rows, given = which.reshape(-1) == number, np.nonzero(pattern)[0]
            for k, (mean, covariance) in enumerate(zip(self.mean, self.covariance)):
                slopes = np.linalg.solve(covariance[np.ix_(given, given)], covariance[given, at])
                middle[rows, k] = mean[at] + np.einsum("mc,c->m", y[np.ix_(rows, given)] - mean[given], slopes)
                spread[rows, k] = np.sqrt(max(covariance[at, at] - covariance[at, given] @ slopes, 1e-30))
        return NormalMixture(self.fit.schema[place], shift[place], scale[place], self.weights(before), middle, spread)

    def weights(self, before: np.ndarray) -> np.ndarray:
        """``(M, K)``: of the components given what is known."""
        if self.weigh is not None:
            return self.weigh(before)
        return shares_of(self.fit, before, len(self.mean))  # type: ignore[return-value]


def coupled(fit: Any) -> Coupled | None:
    """What the short way needs, or None where the model is no such mixture, or has many draws of its parameters."""
    found = [(name, part) for name, part in fit.program.named_children() if isinstance(part, Columns)]
    if len(found) != 1 or len(fit.posterior) != 1 or fit.traits.density != "exact":
        return None
    name, columns = found[0]
    block = next((block for block in columns.parts() if block.name == "gaussian"), None)
    theta = fit.posterior.theta().get(f"{name}.gaussian", {})
    if block is None or set(theta) != {"loc", "precision"} or not isinstance(block.link, Link | None):
        return None
    mean, precision = (theta[key].detach().double().cpu().numpy() for key in ("loc", "precision"))
    if mean.ndim != 2 or columns.names != fit.schema.names:
        return None
    if precision.ndim == 2:
        precision = np.stack([np.diag(row) for row in np.broadcast_to(precision, mean.shape)])
    if precision.shape[1:] != (mean.shape[1],) * 2 or precision.shape[0] not in (1, len(mean)):
        return None
    if shares_of(fit, np.full((1, len(fit.schema)), np.nan), len(mean)) is None:
        return None
    covariance = np.broadcast_to(np.linalg.inv(precision), (len(mean), *precision.shape[1:]))
    return Coupled(fit, block.index.tolist(), mean, covariance)


def shares_of(fit: Any, before: np.ndarray, components: int) -> np.ndarray | None:
    """``(M, K)``: of the one latent of this size; None where there is none."""
    batch = next(iter(fit.batches(Table.from_codes(before, fit.schema), len(before)).pieces()))
    with fit.setting():
        shares = posterior_marginals(fit.program, batch, fit.posterior.theta())[1]
    if len(shares) != 1:
        return None
    found = next(iter(shares.values())).double().cpu().numpy()
    return np.broadcast_to(found, (len(before), components)) if found.shape[1] == components else None


def coordinates(values: np.ndarray, column: Column, shift: float, scale: float) -> np.ndarray:
    """Numbers of a column as its Gaussian has them."""
    x = (values - shift) / scale
    if column.kind == "positive":
        return np.log(np.maximum(x, np.finfo(float).tiny))
    return logit(np.clip(x, 1e-6, 1 - 1e-6)) if column.kind == "bounded" else x
