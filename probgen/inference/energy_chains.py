"""Draws of an energy while it learns: chains that go on where they were, that start at the data, or that come along a path with weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise

import torch
from torch import Tensor

from probgen.errors import CapabilityError
from probgen.families.denoising import SharedNoise
from probgen.families.energy_columns import EnergyColumns
from probgen.inference.energy_paths import free_path, spaced
from probgen.inference.energy_walks import Walk, supply

__all__ = ["AnnealedDraws", "Negatives", "ReplayedChains", "negatives"]

CHAINS = ("persistent", "data")


class Negatives(ABC):
    """Draws of the energy as it is now.

    Args:
        energy: that learns.
        count: draws a step.
        steps: sweeps a step, or temperatures.
    """

    def __init__(self, energy: EnergyColumns, count: int, steps: int) -> None:
        self.energy, self.count, self.steps = energy, count, steps
        self.accepted = 0.0  # running share of trajectories

    @abstractmethod
    def draw(self, data: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(C, F)``, and their shares ``(C,)``."""

    @abstractmethod
    def pack(self) -> dict[str, Tensor]:
        """All that the next draw depends on."""

    @abstractmethod
    def unpack(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what :meth:`pack` returned."""

    def watch(self, likely: Tensor) -> None:
        """Remember how many are accepted."""
        self.accepted += 0.05 * (float(likely.mean()) - self.accepted)


class ReplayedChains(Negatives):
    """Chains out of a buffer, put back after some sweeps (Tieleman, 2008; Du and Mordatch, 2019); a few begin anew at the mixture each time.

    Args:
        replay: size of the buffer.
        restarts: share of the chains that begin anew.
        at_data: chains start at the rows of the data in place of the buffer (Hinton, 2002).
        leapfrogs: steps of a trajectory; one is Langevin's.
    """

    def __init__(
        self,
        energy: EnergyColumns,
        count: int,
        steps: int,
        replay: int,
        restarts: float,
        at_data: bool,
        leapfrogs: int,
    ) -> None:
        super().__init__(energy, count, steps)
        self.restarts, self.at_data = restarts, at_data
        self.nothing = torch.zeros_like(energy.reference.mean[:1])
        self.free = torch.zeros_like(self.nothing, dtype=torch.bool)
        self.walk = Walk(energy.units, lambda x: (energy.log_density(x),), self.free, leapfrogs)
        self.log_step = self.walk.first_step()
        self.buffer = self.anew(max(replay, count))

    def anew(self, count: int) -> Tensor:
        """``(C, F)`` draws of the mixture."""
        return self.energy.reference.draw(self.nothing, self.free, count, SharedNoise())[:, 0]

    def draw(self, data: Tensor) -> tuple[Tensor, Tensor]:
        which = torch.randperm(len(self.buffer), device=data.device)[: self.count]
        start = data if self.at_data else self.buffer[which]
        new = torch.rand(len(start), 1, device=data.device) < (0.0 if self.at_data else self.restarts)
        place = self.walk.at(torch.where(new, self.anew(len(start)), start)[:, None])
        draws = supply(SharedNoise(), self.walk, len(start))
        for _ in range(self.steps):
            place, likely = self.walk.sweep(place, (1.0,), self.log_step.exp(), next(draws))
            self.log_step = self.walk.adapted(self.log_step, likely)
            self.watch(likely)
        found = place.features[:, 0]
        if not self.at_data:
            self.buffer[which] = found
        return found, found.new_full((len(found),), 1 / len(found))

    def pack(self) -> dict[str, Tensor]:
        return {"buffer": self.buffer, "log_step": self.log_step, "accepted": torch.tensor(self.accepted)}

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        self.buffer, self.log_step = tensors["buffer"].clone(), tensors["log_step"]
        self.accepted = float(tensors["accepted"])


class AnnealedDraws(Negatives):
    """Chains from the mixture to the energy, anew at every step, with the weights of importance sampling (Neal, 2001)."""

    def __init__(self, energy: EnergyColumns, count: int, steps: int, leapfrogs: int) -> None:
        super().__init__(energy, count, steps)
        self.leapfrogs = leapfrogs
        self.log_steps = torch.stack([free_path(energy).walk.first_step()] * steps)  # (T, 1)

    def draw(self, data: Tensor) -> tuple[Tensor, Tensor]:
        path = free_path(self.energy, self.leapfrogs)
        place, draws = path.start(self.count, SharedNoise()), supply(SharedNoise(), path.walk, self.count)
        total = torch.zeros_like(place.values[0])
        for number, (now, then) in enumerate(pairwise(spaced(self.steps))):
            total += (then - now) * (place.values[1] - place.values[0])
            log_step = self.log_steps[number]
            place, likely = path.walk.sweep(place, (1 - then, then), log_step.exp(), next(draws))
            self.log_steps[number] = path.walk.adapted(log_step, likely)
            self.watch(likely)
        return place.features[:, 0], total[:, 0].softmax(0)

    def pack(self) -> dict[str, Tensor]:
        return {"log_steps": self.log_steps, "accepted": torch.tensor(self.accepted)}

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        self.log_steps, self.accepted = tensors["log_steps"].clone(), float(tensors["accepted"])


def negatives(objective: str, energy: EnergyColumns, options: dict) -> Negatives:
    """What an objective of maximum likelihood draws.

    Raises:
        CapabilityError: chains that there are not.
    """
    if options["chains"] not in CHAINS:
        raise CapabilityError(f"chains must be one of {', '.join(map(repr, CHAINS))}, got {options['chains']!r}.")
    count, leapfrogs = options["chain_count"] or options["batch_size"], options["leapfrogs"]
    if objective == "annealed_likelihood":
        return AnnealedDraws(energy, count, options["temperatures"], leapfrogs)
    at_data = options["chains"] == "data"
    return ReplayedChains(
        energy, count, options["chain_steps"], options["replay"], options["restart_share"], at_data, leapfrogs
    )
