r"""Steps that leave a density over mixed features as it is, any cells held fixed.

Continuous columns move by Hamiltonian trajectories (Duane et al., 1987; Neal, 2011), of which one leapfrog step is Langevin's with Metropolis' correction (Roberts and
Tweedie, 1996). Discrete columns move by Gibbs with gradients (Grathwohl et al., 2021): a change of one column is proposed by what the gradient says it
gains,

.. math:: q(x' \mid x) \propto \exp\bigl(\tfrac12 \nabla \log p(x)^\top (\phi(x') - \phi(x))\bigr),

over all columns and levels, and accepted by Metropolis and Hastings' rule, so that the gradient may be wrong, and the walk is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from probgen.families.denoising import Noise
from probgen.families.units import Units

__all__ = ["Place", "Walk", "supply"]

ACCEPTANCE, RATE = 0.75, 0.3  # aimed at by steps while they adapt, and how fast
LIMITS = 1e-4, 3.0  # of steps, in units of standardised columns
CHUNK = 2**14  # numbers of a row that noise is drawn for at a time
MOST_CHANGES = 16  # of discrete columns in a sweep

Density = Callable[[Tensor], tuple[Tensor, ...]]


@dataclass
class Place:
    """Where chains are: features ``(C, N, F)``, some log densities ``(C, N)`` there, and their gradients."""

    features: Tensor
    values: tuple[Tensor, ...]
    slopes: tuple[Tensor, ...]

    def value(self, weights: tuple[float, ...]) -> Tensor:
        """A weighted sum of the log densities."""
        return sum(w * value for w, value in zip(weights, self.values, strict=True))  # type: ignore[return-value]

    def slope(self, weights: tuple[float, ...]) -> Tensor:
        """Its gradient."""
        return sum(w * slope for w, slope in zip(weights, self.slopes, strict=True))  # type: ignore[return-value]

    def chosen(self, first: Tensor, other: Place) -> Place:
        """This place where told ``(C, N)``, elsewhere the other."""
        wide = first[..., None]
        return Place(
            torch.where(wide, self.features, other.features),
            tuple(torch.where(first, a, b) for a, b in zip(self.values, other.values, strict=True)),
            tuple(torch.where(wide, a, b) for a, b in zip(self.slopes, other.slopes, strict=True)),
        )


@dataclass(frozen=True)
class Draws:
    """The random numbers of one sweep: momenta ``(C, N, G)``, and uniform numbers ``(1 + 2 M, C, N)``."""

    momenta: Tensor
    uniform: Tensor


class Walk:
    """A sweep over the features of rows: one trajectory, then some changes of discrete columns.

    Args:
        units: the columns.
        densities: features ``(C, N, F)`` to some log densities ``(C, N)``.
        known: ``(N, F)``, what is held fixed.
        leapfrogs: steps of a trajectory; one is Langevin's.
    """

    def __init__(self, units: Units, densities: Density, known: Tensor, leapfrogs: int = 3) -> None:
        self.units, self.densities, self.known, self.leapfrogs = units, densities, known, leapfrogs
        self.free = (~known)[:, slice(*units.split)]  # (N, G)
        self.levelled = torch.arange(units.features, device=known.device) >= units.split[1]
        discrete = torch.ones_like(self.levelled)
        discrete[slice(*units.split)] = False
        self.movable = discrete & ~known  # (N, F)
        columns = len(units.binary) + sum(len(group) for _, group in units.levelled)
        self.changes = min(columns, MOST_CHANGES)
        self.moves, self.switches = bool(self.free.any()), bool(self.movable.any())

    def at(self, features: Tensor) -> Place:
        """The densities there, with their gradients."""
        x = features.detach().requires_grad_()
        with torch.enable_grad():
            values = self.densities(x)
            slopes = [
                torch.autograd.grad(v.sum(), x, retain_graph=at + 1 < len(values))[0] for at, v in enumerate(values)
            ]
        return Place(x.detach(), tuple(v.detach() for v in values), tuple(slopes))

    def sweep(self, place: Place, weights: tuple[float, ...], step: Tensor, draws: Draws) -> tuple[Place, Tensor]:
        """Every kind of move once; and the probabilities of acceptance of trajectories ``(C, N)``."""
        likely = torch.ones_like(place.values[0])
        if self.moves:
            place, likely = self.trajectory(place, weights, step, draws)
        for change in range(self.changes if self.switches else 0):
            place = self.change(place, weights, draws.uniform[1 + 2 * change], draws.uniform[2 + 2 * change])
        return place, likely

    def trajectory(self, place: Place, weights: tuple[float, ...], step: Tensor, draws: Draws) -> tuple[Place, Tensor]:
        """Leapfrog steps of some size ``(N,)`` by the free continuous columns, accepted or not."""
        part = slice(*self.units.split)
        width = step[:, None] * self.free
        momenta = draws.momenta
        before = place.value(weights) - 0.5 * (momenta.square() * self.free).sum(-1)
        there, momenta = place, momenta + 0.5 * width * place.slope(weights)[..., part]
        for left in reversed(range(self.leapfrogs)):
            features = there.features.clone()
            features[..., part] += width * momenta
            there = self.at(features)
            momenta = momenta + (1.0 if left else 0.5) * width * there.slope(weights)[..., part]
        after = there.value(weights) - 0.5 * (momenta.square() * self.free).sum(-1)
        likely = (after - before).clamp_max(0.0).exp().nan_to_num(0.0)
        return there.chosen(draws.uniform[0] < likely, place), likely

    # -- discrete columns --------------------------------------------------------------------------------------
    def change(self, place: Place, weights: tuple[float, ...], u: Tensor, v: Tensor) -> Place:
        """One column to another level, accepted or not."""
        log_q = self.proposal(place, weights)
        share = log_q.exp().cumsum(-1)
        chosen = (u[..., None] * share[..., -1:] > share).sum(-1, keepdim=True).clamp_max(log_q.shape[-1] - 1)
        features, back = self.changed(place.features, chosen)
        there = self.at(features)
        returned = self.proposal(there, weights).gather(-1, back)[..., 0]
        gain = there.value(weights) - place.value(weights) + returned - log_q.gather(-1, chosen)[..., 0]
        possible = log_q.gather(-1, chosen)[..., 0].isfinite()
        return there.chosen((v.log() < gain) & possible, place)

    def proposal(self, place: Place, weights: tuple[float, ...]) -> Tensor:
        """``(C, N, F)``: log probabilities of every change: to a level, or of a zero or one to the other."""
        x, slope = place.features, place.slope(weights)
        now = torch.zeros_like(x).index_add(-1, self.units.owner, x * slope)[..., self.units.owner]
        gain = torch.where(self.levelled, slope - now, (1 - 2 * x) * slope)
        open_ = self.movable & ~(self.levelled & (x > 0.5))
        gain = torch.where(open_, 0.5 * gain, -torch.inf)
        return torch.where(open_.any(-1, keepdim=True), gain.log_softmax(-1), -torch.inf)

    def changed(self, x: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Features after the change of one of them ``(C, N, 1)``, and which change leads back."""
        place = torch.arange(x.shape[-1], device=x.device)
        own = self.units.owner == self.units.owner[chosen]
        new = torch.where(self.levelled, (place == chosen).to(x), 1 - x)
        back = torch.where(self.levelled[chosen], (x * own).argmax(-1, keepdim=True), chosen)
        return torch.where(own, new, x), back

    def adapted(self, log_step: Tensor, likely: Tensor) -> Tensor:
        """Logarithms of step sizes ``(N,)`` after a sweep."""
        low, high = torch.tensor(LIMITS).log().tolist()
        return (log_step + RATE * (likely.mean(0) - ACCEPTANCE)).clamp(low, high)

    def first_step(self) -> Tensor:
        """``(N,)``: logarithms of the sizes that adaptation begins at."""
        return -0.25 * self.free.sum(-1).clamp_min(1).to(torch.get_default_dtype()).log() - 1.0


def supply(noise: Noise, walk: Walk, chains: int) -> Iterator[Draws]:
    """The random numbers of one sweep after the other, for some sweeps drawn at a time."""
    blank = torch.empty(walk.free.shape, dtype=torch.get_default_dtype(), device=walk.known.device)  # (N, G)
    uniform = 1 + 2 * walk.changes
    some = max(1, CHUNK // (chains * (blank.shape[1] + uniform)))
    while True:
        momenta = noise.normal(blank.new_empty(some * chains, *blank.shape)).unflatten(0, (some, chains))
        numbers = noise.uniform(some * uniform * chains, blank).unflatten(0, (some, uniform, chains))
        yield from (Draws(*both) for both in zip(momenta, numbers, strict=True))
