r"""How good a fitted model is for its size: information criteria, smaller is better.

.. math::
    \mathrm{AIC} = -2 \ell + 2 p, \qquad \mathrm{BIC} = -2 \ell + p \log N, \qquad
    \mathrm{ICL} = \mathrm{BIC} + 2 \sum_n \mathrm H(z_n \mid x_n)

(Akaike, 1974; Schwarz, 1978; Biernacki, Celeux and Govaert, 2000), with :math:`\ell` the log-likelihood of the known
cells in the data's own units, p the number of free parameters, and H the entropy of the discrete latents given the
known cells: of all latents of a row together; of the whole path of a sequence's states (of a semi-Markov chain, with the
time left in them). R's mclust reports minus the BIC.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.families.base import Factor
from probgen.families.gaussian_path import PathFactor
from probgen.families.hidden_tree import TreeFactor
from probgen.families.markov_chain import ChainFactor
from probgen.families.node_columns import NodeFactor
from probgen.inference.elimination import eliminate
from probgen.inference.tracing import Given, observe
from probgen.queries.reading import families

__all__ = ["Criteria", "criteria", "need_exact_point"]

ROWS = 8192


@dataclass(frozen=True)
class Criteria:
    """Of one fit and the table it was fitted to. A fit with a prior is judged at its mode (Fraley and Raftery, 2007).

    Attributes:
        log_likelihood: total over the known cells, in nats and original units; rows count by their weights.
        parameters: p, the number of free parameters.
        rows: N, rows with a known cell: time steps where rows stand in sequences; the sum of their weights.
        entropy: total entropy of the discrete latents given the known cells, in nats.
    """

    log_likelihood: float
    parameters: int
    rows: float
    entropy: float

    @property
    def aic(self) -> float:
        """Akaike's information criterion."""
        return -2 * self.log_likelihood + 2 * self.parameters

    @property
    def bic(self) -> float:
        """Schwarz's Bayesian information criterion."""
        return -2 * self.log_likelihood + self.parameters * math.log(self.rows)

    @property
    def icl(self) -> float:
        """The integrated completed likelihood: the BIC, and a price for components that overlap."""
        return self.bic + 2 * self.entropy

    def __str__(self) -> str:
        return (
            f"log-likelihood {self.log_likelihood:.3f}, {self.parameters} parameters, {self.rows:g} rows;"
            f" AIC {self.aic:.3f}, BIC {self.bic:.3f}, ICL {self.icl:.3f}"
        )


def criteria(fit: Any, table: Table) -> Criteria:
    """The record of one fit."""
    need_exact_point(fit, "criteria")
    values = np.asarray(fit.log_prob(table))
    weights = np.ones(len(values)) if table.weights is None else table.weights
    used = weights > 0
    total = float(weights[used] @ values[used])
    return Criteria(total, free_parameters(fit), known_rows(fit, table), entropy(fit, table))


def need_exact_point(fit: Any, what: str) -> None:
    """Refuse what has no likelihood at one point, or parameters that nobody counts."""
    if fit.traits.density != "exact":
        raise CapabilityError(
            f"{what} needs an exact density; that of {fit.name!r} is {fit.traits.density!r}. Compare models by"
            " fit.log_prob on held-out rows."
        )
    if not fit.posterior.point:
        raise CapabilityError(
            f"{what} is for point estimates; this fit holds {len(fit.posterior)} posterior draws, which tell their own"
            " spread (fit.to_arviz()). Fit with method='em' or 'map'."
        )
    if not families(fit):
        raise CapabilityError(f"{what} needs parameters that belong to families; {fit.name!r} has none.")


def free_parameters(fit: Any) -> int:
    """Of all families of the program, of its sites outside families, and of its networks."""
    outside = sum(value[0, 0].numel() for value in fit.posterior.sites.values())
    weights = sum(weight.numel() for weight in fit.program.parameters() if weight.requires_grad)
    theta = fit.posterior.theta()
    own = sum(family.free_parameters_of(theta[name]) for name, family in families(fit).items())
    return outside + weights + own


def known_rows(fit: Any, table: Table) -> float:
    """Rows with a known cell that the model has a density for, by their weights."""
    modelled = [name not in fit.program.inputs for name in fit.schema.names]
    seen = (table.known & modelled).any(1)
    return float(seen.sum() if table.row_weights is None else table.row_weights[seen].sum())


def entropy(fit: Any, table: Table) -> float:
    r"""Of the discrete latents given the known cells, all rows together.

    With f the product of all factors, Z(b) the sum of f^b over the latents: :math:`H = \log Z(1) - (\log Z)'(1)`.
    """
    total, theta = 0.0, fit.posterior.theta()
    with fit.setting():
        for batch in fit.batches(table, ROWS).pieces():
            with torch.no_grad():
                factors = observe(fit.program, batch, Given(theta)).factors
            if any(isinstance(factor, PathFactor) for factor in factors):
                return 0.0  # all latents are continuous
            power = batch.x.new_ones((), requires_grad=True)
            rows, _ = eliminate([raised(factor, power) for factor in factors])
            rows = rows if batch.weights is None else rows * batch.weights
            mean = torch.autograd.grad(rows.sum(), power)[0]
            total += float(rows.detach().sum() - mean)
    return max(total, 0.0)


def raised(factor: Factor, power: Tensor) -> Factor:
    """A factor to a power; what is impossible stays so."""
    if isinstance(factor, TreeFactor | NodeFactor):
        return factor.raised(power)
    if isinstance(factor, ChainFactor):
        initial, transition = times(factor.initial, power), times(factor.transition, power)
        return replace(factor, value=initial, initial=initial, transition=transition)
    return replace(factor, value=times(factor.value, power))


def times(log_value: Tensor, power: Tensor) -> Tensor:
    impossible = log_value.isneginf()
    return torch.where(impossible, -torch.inf, torch.where(impossible, 0.0, log_value) * power)
