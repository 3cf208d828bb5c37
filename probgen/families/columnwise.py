"""Families whose columns are independent given the parameters: holes are simply left out of the sums."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from probgen.data.holes import known
from probgen.families.base import Family, Natural, Parameters, once_per_tensor

Statistics = tuple[Tensor, Tensor | None, Tensor | None]


class ColumnwiseFamily(Family):
    """D independent columns of one kind. Parameters have shape ``(K, D, ...)``, data ``(N, D)``."""

    @abstractmethod
    def distribution(self, theta: Parameters) -> Distribution:
        """The elementwise torch distribution of every cell."""

    def log_prob(self, theta: Parameters, x: Tensor) -> Tensor:
        seen = known(x)
        if seen is None:
            return self.distribution(theta).log_prob(x).sum(-1)
        cells = self.distribution(theta).log_prob(torch.where(seen, x, self.filler))
        return torch.where(seen, cells, 0.0).sum(-1)

    def sample(self, theta: Parameters) -> Tensor:
        return self.distribution(theta).sample().to(next(iter(theta.values())))

    def fill(self, theta: Parameters, x: Tensor) -> Tensor:
        return torch.where(x.isnan(), self.sample(theta), x)

    def mean(self, theta: Parameters) -> Tensor:
        return self.distribution(theta).mean

    def sd(self, theta: Parameters) -> Tensor:
        return self.distribution(theta).variance.sqrt()


class ExponentialFamily(ColumnwiseFamily):
    r"""Columns with :math:`\log p(x \mid k) = b(x) + c_k + \langle \eta_k, t(x) \rangle`: a matrix product.

    ``natural`` has the key ``log_normaliser`` of shape ``(K, D)`` and one key for each statistic of
    :meth:`terms`, of shape ``(K, D)`` or ``(K, D, L)``.
    """

    @abstractmethod
    def terms(self, x: Tensor) -> dict[str, Tensor]:
        """The statistics t(x) of cells that are all known, each ``(N, D)`` or ``(N, D, L)``."""

    def carrier(self, x: Tensor) -> Tensor | None:
        """The base measure's log density b(x) of known cells, ``(N, D)``; None for zero."""
        return None

    @once_per_tensor
    def statistics(self, x: Tensor) -> Statistics:
        """All terms side by side, made once for the data."""
        return collect(self, x)

    def score(self, natural: Natural, x: Tensor) -> Tensor:
        return linear_score(natural, self.statistics(x))


def collect(family: Any, x: Tensor) -> Statistics:
    """All terms side by side ``(N, P)``, the mask of known cells, the carrier ``(N,)``; zeros for unknown cells."""
    seen = known(x)
    filled = x if seen is None else torch.where(seen, x, family.filler)
    terms, carrier = family.terms(filled), family.carrier(filled)
    if seen is not None:
        terms = {key: mask_cells(term, seen) for key, term in terms.items()}
        carrier = None if carrier is None else mask_cells(carrier, seen)
    wide = torch.cat([term.flatten(1) for term in terms.values()], 1)
    return wide, None if seen is None else seen.to(x), None if carrier is None else carrier.sum(-1)


def linear_score(natural: Natural, statistics: Statistics) -> Tensor:
    """``(K, N)`` log densities as one matrix product of natural parameters and statistics."""
    terms, seen, carrier = statistics
    weights = torch.cat([value.flatten(1) for key, value in natural.items() if key != "log_normaliser"], 1)
    constant = natural["log_normaliser"]  # (K, D)
    constant = constant.sum(1, keepdim=True) if seen is None else constant @ seen.mT
    scores = torch.addmm(constant, weights, terms.mT)
    return scores if carrier is None else scores + carrier


def mask_cells(term: Tensor, seen: Tensor) -> Tensor:
    """Zero for unknown cells."""
    return torch.where(seen if term.dim() == seen.dim() else seen[..., None], term, 0.0)
