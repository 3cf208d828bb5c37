r"""Normalisers of energies: enumeration where a side is small, annealed importance sampling otherwise.

Forward (Neal, 2001; Salakhutdinov and Murray, 2008): chains go from a mixture fitted to the data to the energy,

.. math:: \log \hat Z = \log Z_0 + \log \frac1C \sum_c \prod_k \frac{f_{\beta_k}(x_{k-1})}{f_{\beta_{k-1}}(x_{k-1})},

below log Z on average. Backward (Burda, Grosse and Salakhutdinov, 2015): chains that start at draws of the energy go to
the mixture; one over their mean weight is above it on average. Known columns may be held fixed all along, which
gives the density of rows with holes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from probgen.families.base_rate import Origin
from probgen.families.harmonium import Harmonium

__all__ = [
    "Annealed",
    "anneal",
    "annealed",
    "enumerable",
    "enumerated",
    "forward",
    "log_normaliser",
    "reverse",
    "visible_states",
]

BITS = 20  # states of one side, as a power of two, that are summed one by one
STATES, ROWS = 2**13, 256  # of an enumeration, at a time
CHAINS, TEMPERATURES = 256, 5000  # of the normaliser
ERROR, MOST = 0.02, 1024  # standard error that is aimed at with more chains, in nats, up to so many of them


@dataclass(frozen=True)
class Annealed:
    """Log of a sum or integral, one a row, with its Monte-Carlo error (0 where it is exact).

    Attributes:
        value: ``(N,)`` in nats.
        error: standard error of each.
        size: effective number of chains behind each.
    """

    value: Tensor
    error: Tensor
    size: Tensor

    @classmethod
    def exactly(cls, value: Tensor) -> Annealed:
        return cls(value, torch.zeros_like(value), torch.full_like(value, torch.inf))

    @classmethod
    def averaged(cls, log_weights: Tensor) -> Annealed:
        """Log mean of weights ``(C, N)`` over chains, its error by the delta method, the effective sample size."""
        top = log_weights.amax(0)
        w = (log_weights - top).exp()
        mean, size = w.mean(0), w.sum(0).square() / w.square().sum(0)
        spread = w.std(0, correction=1) if len(w) > 1 else torch.full_like(mean, torch.inf)
        return cls(top + mean.log(), spread / mean / math.sqrt(len(w)), size)


# ------------------------------------------------------------------------------------------------- enumeration
def enumerable(layer: Harmonium) -> bool:
    """True where the hidden side can be summed state by state."""
    return layer.hidden <= BITS


def hidden_states(layer: Harmonium) -> Iterator[Tensor]:
    """All hidden states, some at a time, ``(S, H)``."""
    bits = torch.arange(layer.hidden, device=layer.base.device)
    for states in torch.arange(2**layer.hidden, device=layer.base.device).split(STATES):
        yield ((states[:, None] >> bits) & 1).to(layer.base)


def enumerated(layer: Harmonium, features: Tensor, seen: Tensor) -> Tensor:
    """Log of the unnormalised density of the known units ``(N,)``, hidden states summed one by one."""
    pieces = zip(features.split(ROWS), seen.split(ROWS), strict=True)
    return torch.cat([enumerated_rows(layer, f, s) for f, s in pieces])


def enumerated_rows(layer: Harmonium, features: Tensor, seen: Tensor) -> Tensor:
    found = [layer.log_joint(states, features, seen).logsumexp(1) for states in hidden_states(layer)]
    return torch.stack(found).logsumexp(0)


def visible_states(layer: Harmonium) -> Iterator[Tensor]:
    """All feature vectors of discrete columns, some at a time, ``(S, F)``."""
    units, device = layer.units, layer.base.device
    levels = [2] * len(units.binary) + [size for size, group in units.levelled for _ in group]
    strides = torch.tensor([math.prod(levels[at + 1 :]) for at in range(len(levels))], device=device)
    sizes = torch.tensor(levels, device=device)
    for states in torch.arange(math.prod(levels), device=device).split(STATES):
        codes = (states[:, None] // strides % sizes).to(layer.base)
        x = torch.empty_like(codes)
        x[:, units.places] = codes
        yield units.read(x)[0]


def visible_count(layer: Harmonium) -> float:
    """How many values the visible side can take."""
    units = layer.units
    if units.gaussian:
        return math.inf
    return 2.0 ** len(units.binary) * math.prod(float(size) ** len(group) for size, group in units.levelled)


# --------------------------------------------------------------------------------------------------- annealing
def anneal(layer: Harmonium, features: Tensor, start: Origin, betas: Tensor) -> tuple[Tensor, Tensor]:
    """Move chains along inverse temperatures; returns where they end and their log weights (float64).

    Args:
        layer: the energy.
        features: ``(..., F)`` draws at the first inverse temperature.
        start: where the path begins, given what is held fixed.
        betas: from 0 to 1, or from 1 to 0.
    """
    log_weights = torch.zeros(features.shape[:-1], dtype=torch.float64, device=features.device)
    for now, then in pairwise(betas.tolist()):
        seen = layer.sight(features, start)
        log_weights += layer.rise(seen, start, now, then)
        features = layer.temper(seen, start, then)
    return features, log_weights


def annealed(layer: Harmonium, features: Tensor, seen: Tensor, chains: int, temperatures: int) -> Annealed:
    """Log of the unnormalised density of the known units ``(N,)``, by chains from the mixture."""
    return Annealed.averaged(path_weights(layer, features, seen, chains, temperatures))


def path_weights(layer: Harmonium, features: Tensor, seen: Tensor, chains: int, temperatures: int) -> Tensor:
    """``(C, N)``: log weights whose mean weight is an unbiased estimate of that density."""
    known = layer.units.spread(seen)
    start = layer.origin(features, known)
    betas = torch.linspace(0.0, 1.0, temperatures + 1, dtype=torch.float64)
    drawn = torch.where(known, features, start.draw(chains))
    return anneal(layer, drawn, start, betas)[1] + layer.log_base_normaliser()


def forward(layer: Harmonium, chains: int = CHAINS, temperatures: int = TEMPERATURES) -> Annealed:
    """Log Z from below, by chains from the mixture; up to 1024 of them where the first ones' weights disagree."""
    nothing = torch.zeros_like(layer.bias)[None]
    free = torch.zeros(1, layer.units.columns, dtype=torch.bool, device=layer.base.device)
    log_weights = path_weights(layer, nothing, free, chains, temperatures)
    enough = min(chains * (float(Annealed.averaged(log_weights).error) / ERROR) ** 2, MOST)
    while len(log_weights) < enough:
        log_weights = torch.cat([log_weights, path_weights(layer, nothing, free, chains, temperatures)])
    return Annealed.averaged(log_weights)


def reverse(layer: Harmonium, features: Tensor, temperatures: int = TEMPERATURES) -> Annealed:
    """Log Z from above, by chains back to the mixture.

    A bound on average where the chains start at draws of the energy. Chains that start at data see the mass around the
    data only: an estimate far below the forward one tells that the energy has mass elsewhere, which its chains of
    training did not visit.

    Args:
        layer: the energy.
        features: ``(C, F)``, where the chains start.
        temperatures: steps of the path.
    """
    betas = torch.linspace(1.0, 0.0, temperatures + 1, dtype=torch.float64)
    log_weights = anneal(layer, layer.sweep(features), layer.origin(), betas)[1]
    found = Annealed.averaged(log_weights[:, None])
    return Annealed(layer.log_base_normaliser() - found.value, found.error, found.size)


def log_normaliser(layer: Harmonium) -> Annealed:
    """Log Z: exact where the hidden or the visible side can be enumerated, annealed otherwise."""
    free = torch.zeros(1, layer.units.columns, dtype=torch.bool, device=layer.base.device)
    if enumerable(layer):
        return Annealed.exactly(enumerated(layer, torch.zeros_like(layer.bias)[None], free))
    if visible_count(layer) <= 2**BITS:
        terms = [(-layer.free_energy(states)).logsumexp(0) for states in visible_states(layer)]
        return Annealed.exactly(torch.stack(terms).logsumexp(0)[None])
    return forward(layer, CHAINS, TEMPERATURES)
