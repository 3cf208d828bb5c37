"""Markov chains of energies: where the negative phase of training comes from, and how unknown cells are drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from probgen.errors import CapabilityError
from probgen.families.base_rate import Origin
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
SAMPLE_WARM, SAMPLE_SWEEPS = 500, 100  # behind a new row
WINDOW, LEAST = 10, 128  # temperatures between two looks at the chains' weights; chains that go together, at least
MEMORY, LEVEL = 0.02, 0.02  # of temperatures in training: weight of the last round; refusals that every pair is given
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

    def pack(self) -> dict[str, Tensor]:
        """All that the next draw depends on."""
        return {"state": self.state}

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what :meth:`pack` returned."""
        self.state = tensors["state"]


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
    """Parallel tempering (Desjardins et al., 2010; Cho, Raiko and Ilin, 2010): replicas that swap temperatures.

    The inverse temperatures follow the energy so that all pairs of neighbours refuse swaps equally often (Syed et al.,
    2022): steps are short where the energy changes its modes.
    """

    def start(self) -> Tensor:
        self.betas = torch.linspace(0.0, 1.0, self.temperatures, device=self.layer.base.device)
        self.refused = torch.zeros_like(self.betas[1:])  # running share of each pair's swaps
        self.first = 0  # whether even or odd pairs come next
        return self.layer.draw_base(self.temperatures, self.count)

    def advance(self, data: Tensor) -> Tensor:
        start = self.layer.origin()
        for _ in range(self.steps):
            seen = self.layer.sight(self.state, start)
            self.state = self.layer.temper(seen, start, self.betas.to(self.state)[:, None, None])
            self.swap(start)
        self.place()
        return self.state[-1]

    def swap(self, start: Origin) -> None:
        """Neighbouring temperatures exchange their states by Metropolis' rule, even and odd pairs in turn."""
        low = torch.arange(self.first, self.temperatures - 1, 2)
        self.first = 1 - self.first
        if not len(low):
            return
        a, b = self.state[low], self.state[low + 1]
        now, then = (self.betas.to(a)[at, None, None] for at in (low, low + 1))
        rise = [self.layer.rise(self.layer.sight(x, start), start, now, then) for x in (a, b)]
        gain = rise[0] - rise[1]
        accept = torch.rand(gain.shape, dtype=torch.float32, device=gain.device).log() < gain
        self.refused[low] = self.refused[low].lerp((~accept).float().mean(1), MEMORY)
        accept = accept[..., None]
        self.state[low], self.state[low + 1] = torch.where(accept, b, a), torch.where(accept, a, b)

    def place(self) -> None:
        """Move the inverse temperatures a little towards places with equal shares of refusals between them."""
        refusals = torch.cat([self.refused.new_zeros(1), (self.refused + LEVEL).cumsum(0)]).cpu().numpy()
        even = np.interp(np.linspace(0.0, refusals[-1], self.temperatures), refusals, self.betas.cpu().numpy())
        self.betas.lerp_(torch.from_numpy(even).to(self.betas), MEMORY)

    def pack(self) -> dict[str, Tensor]:
        return super().pack() | {"betas": self.betas, "refused": self.refused, "first": torch.tensor(self.first)}

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        super().unpack(tensors)
        self.betas, self.refused, self.first = tensors["betas"], tensors["refused"], int(tensors["first"])


CHAINS: dict[str, type[Chains]] = {"persistent": PersistentChains, "data": DataChains, "tempered": TemperedChains}


def make_chains(kind: str, layer: Harmonium, count: int, steps: int, temperatures: int) -> Chains:
    """The chains of this name."""
    if kind not in CHAINS:
        raise CapabilityError(f"chains must be one of {', '.join(CHAINS)}, got {kind!r}.")
    return CHAINS[kind](layer, count, steps, temperatures)


# ----------------------------------------------------------------------------------------------------- filling
def settle(layer: Harmonium, features: Tensor, seen: Tensor, warm: int, sweeps: int) -> Tensor:
    """Unknown features drawn given the known ones: annealed from the mixture, then plain Gibbs sweeps."""
    known = layer.units.spread(seen)
    start = layer.origin(features, known)
    drawn, _ = anneal(layer, torch.where(known, features, start.draw()), start, torch.linspace(0.0, 1.0, warm + 1))
    for _ in range(sweeps):
        drawn = layer.sweep(drawn, known)
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

    The chains go from the mixture to the energy together; on the way those of little weight give place to copies
    of others (Neal, 2001; Del Moral, Doucet and Jasra, 2006), which sweeps at the end make different.
    """
    *_, top = layers
    chains = max(rows, LEAST)
    features, log_weights = top.draw_base(chains), torch.zeros(chains, dtype=torch.float64, device=top.base.device)
    mixture, steps = top.origin(), torch.linspace(0.0, 1.0, SAMPLE_WARM + 1)
    for start in range(0, SAMPLE_WARM, WINDOW):
        features, gain = anneal(top, features, mixture, steps[start : start + WINDOW + 1])
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
