"""Markov chains of energies: where the negative phase of training comes from, and how unknown cells are drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import softplus

from probgen.errors import CapabilityError
from probgen.families.harmonium import Harmonium
from probgen.families.units import coin
from probgen.inference.annealing import anneal

__all__ = [
    "Chains",
    "DataChains",
    "PersistentChains",
    "TemperedChains",
    "complete",
    "generate",
    "make_chains",
    "settle",
]

FILL_WARM, FILL_SWEEPS = 100, 50  # temperatures, then sweeps, behind a draw of unknown cells
SAMPLE_WARM, SAMPLE_SWEEPS = 1000, 100  # behind a new row
WINDOW, LEAST = 10, 128  # temperatures between two looks at the chains' weights; chains that go together, at least
TOP_SWEEPS = 5  # of the energy on top, between two looks at the known cells


class Chains(ABC):
    """Draws of the energy for the negative phase.

    Args:
        layer: the energy.
        count: how many chains.
        steps: Gibbs sweeps between two updates of the parameters.
        temperatures: of tempered chains.
    """

    def __init__(self, layer: Harmonium, count: int, steps: int, temperatures: int) -> None:
        self.layer, self.count, self.steps, self.temperatures = layer, count, steps, temperatures
        self.state = self.start()

    @abstractmethod
    def start(self) -> Tensor:
        """The state before the first draw."""

    @abstractmethod
    def advance(self, data: Tensor) -> Tensor:
        """Draws ``(C, F)`` after another round of sweeps."""


class DataChains(Chains):
    """Contrastive divergence (Hinton, 2002): every chain starts at a row of the batch."""

    def start(self) -> Tensor:
        return self.layer.draw_base(0)

    def advance(self, data: Tensor) -> Tensor:
        features = data
        for _ in range(self.steps):
            features = self.layer.sweep(features)
        return features


class PersistentChains(Chains):
    """Persistent contrastive divergence (Younes, 1989; Tieleman, 2008): chains go on where they were."""

    def start(self) -> Tensor:
        return self.layer.draw_base(self.count)

    def advance(self, data: Tensor) -> Tensor:
        for _ in range(self.steps):
            self.state = self.layer.sweep(self.state)
        return self.state


class TemperedChains(Chains):
    """Parallel tempering (Desjardins et al., 2010; Cho, Raiko and Ilin, 2010): replicas that swap temperatures."""

    def start(self) -> Tensor:
        self.betas = torch.linspace(0.0, 1.0, self.temperatures).to(self.layer.base)[:, None, None]
        return self.layer.draw_base(self.temperatures, self.count)

    def advance(self, data: Tensor) -> Tensor:
        for number in range(self.steps):
            self.state = self.layer.sweep(self.state, self.betas)
            for first in (number % 2, 1 - number % 2):
                self.swap(first)
        return self.state[-1]

    def swap(self, first: int) -> None:
        """Neighbouring temperatures exchange their states by Metropolis' rule."""
        low = torch.arange(first, self.temperatures - 1, 2)
        if not len(low):
            return
        a, b = self.state[low], self.state[low + 1]
        energies = [self.log_density(x, beta) for x in (a, b) for beta in (self.betas[low], self.betas[low + 1])]
        gain = energies[1] + energies[2] - energies[0] - energies[3]  # a at high, b at low, against as they are
        accept = (torch.rand(gain.shape, dtype=torch.float32).to(gain).log() < gain)[..., None]
        self.state[low], self.state[low + 1] = torch.where(accept, b, a), torch.where(accept, a, b)

    def log_density(self, features: Tensor, beta: Tensor) -> Tensor:
        """Log of the unnormalised density at an inverse temperature, up to what does not depend on it."""
        slope = self.layer.slope(features, torch.zeros_like(features[:1, :1], dtype=torch.bool))
        return beta[..., 0] * slope + softplus(beta * self.layer.field(features)).sum(-1)


CHAINS: dict[str, type[Chains]] = {"persistent": PersistentChains, "data": DataChains, "tempered": TemperedChains}


def make_chains(kind: str, layer: Harmonium, count: int, steps: int, temperatures: int) -> Chains:
    """The chains of this name."""
    if kind not in CHAINS:
        raise CapabilityError(f"chains must be one of {', '.join(CHAINS)}, got {kind!r}.")
    return CHAINS[kind](layer, count, steps, temperatures)


# ----------------------------------------------------------------------------------------------------- filling
def settle(layer: Harmonium, features: Tensor, seen: Tensor, warm: int, sweeps: int) -> Tensor:
    """Unknown features drawn given the known ones: annealed from the base-rate model, then plain Gibbs sweeps."""
    known = layer.units.spread(seen)
    drawn = torch.where(known, features, layer.draw_base(*features.shape[:-1]))
    drawn, _ = anneal(layer, drawn, known, torch.linspace(0.0, 1.0, warm + 1))
    for _ in range(sweeps):
        drawn = layer.sweep(drawn, 1.0, known)
    return drawn


def complete(layers: Iterable[Harmonium], features: Tensor, seen: Tensor, rounds: int = 25) -> Tensor:
    """Features of the columns, the unknown ones drawn given the known ones.

    With one layer this is Gibbs sampling. With several it is approximate: up by the recognition conditionals, sweeps of
    the energy on top, down by the generative ones, known cells put back.
    """
    *below, top = layers
    first = below[0] if below else top
    features = settle(first, features, seen, FILL_WARM, FILL_SWEEPS)
    known = first.units.spread(seen)
    for _ in range(rounds if below else 0):
        hidden = features
        for layer in below:
            hidden = coin(layer.field(hidden))
        for _ in range(TOP_SWEEPS):
            hidden = top.sweep(hidden)
        features = torch.where(known, features, descend(layers, hidden))
    return features


def generate(layers: Iterable[Harmonium], rows: int) -> Tensor:
    """Features ``(rows, F)`` with nothing known: draws of the energy on top, then down.

    The chains go from the base-rate model to the energy together; on the way those of little weight give place to copies
    of others (Neal, 2001; Del Moral, Doucet and Jasra, 2006), which sweeps at the end make different.
    """
    *_, top = layers
    chains = max(rows, LEAST)
    features, log_weights = top.draw_base(chains), torch.zeros(chains, dtype=torch.float64, device=top.base.device)
    nothing = torch.zeros_like(features[:1], dtype=torch.bool)
    steps = torch.linspace(0.0, 1.0, SAMPLE_WARM + 1)
    for start in range(0, SAMPLE_WARM, WINDOW):
        features, gain = anneal(top, features, nothing, steps[start : start + WINDOW + 1])
        log_weights += gain
        share = log_weights.softmax(0)
        if chains * share.square().sum() < 2.0 and start + WINDOW < SAMPLE_WARM:
            continue
        features, log_weights = features[resampled(share)], torch.zeros_like(log_weights)
    for _ in range(SAMPLE_SWEEPS):
        features = top.sweep(features)
    return descend(layers, features[torch.randperm(chains, device=features.device)[:rows]])


def resampled(share: Tensor) -> Tensor:
    """Which chains go on: systematic resampling (Kitagawa, 1996)."""
    places = (torch.arange(len(share), device=share.device) + torch.rand((), device=share.device)) / len(share)
    return torch.searchsorted(share.cumsum(0), places.to(share)).clamp_max(len(share) - 1)


def descend(layers: Iterable[Harmonium], hidden: Tensor) -> Tensor:
    """Features of the columns drawn from the visible units of the energy on top."""
    for layer in list(layers)[-2::-1]:
        hidden = layer.units.sample(layer.natural(hidden), layer.precision)
    return hidden
