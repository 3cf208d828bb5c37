r"""From the mixture that is close to the data to the energy: normalisers with their errors, rows, and completions of rows.

Annealed importance sampling (Neal, 2001) along :math:`\log f_\beta = (1 - \beta) \log r + \beta (-E)`, r being the mixture given what is held fixed, whose draws
are exact. Step sizes are found by a first run of other chains, so that weights stay unbiased. The mean weight of chains with nothing fixed is Z; with the
known cells of a row fixed, that row's unnormalised density with the others integrated out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from probgen.families.denoising import Noise, SharedNoise
from probgen.families.energy_columns import EnergyColumns
from probgen.inference.annealing import Annealed
from probgen.inference.energy_walks import Place, Walk, supply

__all__ = ["Path", "every_state", "log_normaliser", "log_unnormalised", "summable"]

STATES = 2**18  # of discrete columns that are summed one by one
PILOT, FIRST_MOVES = 32, 20  # chains of the run that finds steps, and sweeps before its path begins
CHAINS, TEMPERATURES = 512, 250  # of the normaliser
ERROR, MOST = 0.01, 4096  # standard error that is aimed at with more chains, up to so many
ROW_CHAINS, ROW_TEMPERATURES = 32, 100  # of rows with holes
TOGETHER = 2**14  # chains, rows times each, that run side by side
WARM, SWEEPS = 60, 40  # temperatures, then sweeps, behind a draw of a row
WINDOW = 10  # temperatures between two looks at weights


class Path:
    """The way from the mixture to the energy for rows of which some features are held fixed.

    Args:
        energy: the end.
        features: ``(N, F)``, zeros where unknown.
        known: ``(N, F)``.
        leapfrogs: steps of a trajectory.
    """

    def __init__(self, energy: EnergyColumns, features: Tensor, known: Tensor, leapfrogs: int = 3) -> None:
        self.energy, self.features, self.known = energy, features, known
        self.held = energy.reference.log_prob(features, known)
        self.walk = Walk(energy.units, self.densities, known, leapfrogs)

    def densities(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Log r given what is held fixed, and -E."""
        return self.energy.reference.log_prob(features) - self.held, self.energy.log_density(features)

    def start(self, chains: int, noise: Noise) -> Place:
        """Draws of the mixture given what is held fixed."""
        return self.walk.at(self.energy.reference.draw(self.features, self.known, chains, noise))

    def steps(self, betas: Sequence[float], noise: Noise) -> list[Tensor]:
        """A step size ``(N,)`` for every temperature, from chains that do not count."""
        place, draws = self.start(PILOT, noise), supply(noise, self.walk, PILOT)
        log_step, found = self.walk.first_step(), []
        for number, beta in enumerate([betas[1]] * FIRST_MOVES + list(betas[1:])):
            place, likely = self.walk.sweep(place, (1 - beta, beta), log_step.exp(), next(draws))
            if number >= FIRST_MOVES:
                found.append(log_step.exp())
            log_step = self.walk.adapted(log_step, likely)
        return found

    def anneal(
        self, chains: int, betas: Sequence[float], steps: Sequence[Tensor], noise: Noise
    ) -> tuple[Place, Tensor]:
        """Where chains end, and their log weights ``(C, N)`` in double precision."""
        place, draws = self.start(chains, noise), supply(noise, self.walk, chains)
        total = torch.zeros_like(place.values[0], dtype=torch.float64)
        for (now, then), step in zip(pairwise(betas), steps, strict=True):
            total += (then - now) * (place.values[1].double() - place.values[0].double())
            place, _ = self.walk.sweep(place, (1 - then, then), step, next(draws))
        return place, total

    def rows(self, chains: int, temperatures: int, sweeps: int) -> tuple[Tensor, Tensor]:
        """Draws ``(C, F)`` of the energy with nothing fixed, and their log Z: chains of little weight give place to others on the way."""
        noise = SharedNoise()
        betas = spaced(temperatures)
        steps = self.steps(betas, noise)
        place, draws = self.start(chains, noise), supply(noise, self.walk, chains)
        log_weights = torch.zeros(chains, dtype=torch.float64, device=self.known.device)
        log_z = torch.zeros((), dtype=torch.float64, device=self.known.device)
        for number, (now, then) in enumerate(pairwise(betas)):
            log_weights += (then - now) * (place.values[1] - place.values[0])[:, 0].double()
            share = log_weights.softmax(0)
            if (number % WINDOW == 0 and chains * share.square().sum() > 2.0) or then == 1.0:
                log_z = log_z + log_weights.logsumexp(0) - math.log(chains)
                place = self.walk.at(place.features[resampled(share)])
                log_weights.zero_()
            place, _ = self.walk.sweep(place, (1 - then, then), steps[number], next(draws))
        for _ in range(sweeps):
            place, _ = self.walk.sweep(place, (0.0, 1.0), steps[-1], next(draws))
        return place.features[:, 0], log_z

    def completed(self, noise: Noise, chains: int, warm: int = WARM, sweeps: int = SWEEPS) -> Tensor:
        """``(C, N, F)``: unknown features drawn given the known ones: annealed, then plain sweeps; steps adapt on the way."""
        place, draws = self.start(chains, noise), supply(noise, self.walk, chains)
        log_step = self.walk.first_step()
        for beta in [*spaced(warm)[1:], *[1.0] * sweeps]:
            place, likely = self.walk.sweep(place, (1 - beta, beta), log_step.exp(), next(draws))
            log_step = self.walk.adapted(log_step, likely)
        return place.features


def spaced(temperatures: int) -> list[float]:
    """Inverse temperatures from 0 to 1."""
    return torch.linspace(0.0, 1.0, temperatures + 1, dtype=torch.float64).tolist()


def resampled(share: Tensor) -> Tensor:
    """Which chains go on: systematic resampling (Kitagawa, 1996)."""
    places = (torch.arange(len(share), device=share.device) + torch.rand((), device=share.device)) / len(share)
    return torch.searchsorted(share.cumsum(0), places.to(share)).clamp_max(len(share) - 1)


# ------------------------------------------------------------------------------------------------- normalisers
def free_path(energy: EnergyColumns, leapfrogs: int = 3) -> Path:
    """With nothing held fixed."""
    nothing = torch.zeros_like(energy.reference.mean[:1])
    return Path(energy, nothing, torch.zeros_like(nothing, dtype=torch.bool), leapfrogs)


def log_normaliser(energy: EnergyColumns) -> Annealed:
    """Log Z: by summing where there are few states, else annealed; more chains where the first ones' weights disagree."""
    nothing = torch.zeros_like(energy.reference.mean[:1])
    if summable(energy, torch.zeros(1, energy.units.columns, dtype=torch.bool)):
        return Annealed.exactly(summed(energy, nothing, torch.zeros_like(nothing, dtype=torch.bool)))
    path, noise, betas = free_path(energy), SharedNoise(), spaced(TEMPERATURES)
    steps = path.steps(betas, noise)
    log_weights = path.anneal(CHAINS, betas, steps, noise)[1]
    enough = min(CHAINS * (float(Annealed.averaged(log_weights).error) / ERROR) ** 2, MOST)
    while len(log_weights) < enough:
        log_weights = torch.cat([log_weights, path.anneal(CHAINS, betas, steps, noise)[1]])
    return Annealed.averaged(log_weights)


def log_unnormalised(energy: EnergyColumns, features: Tensor, seen: Tensor, draws: int, noise: Noise) -> Annealed:
    """Of rows with holes, ``(N,)``: unknown cells summed out where there are few states, else annealed out.

    Args:
        energy: the density.
        features: ``(N, F)``.
        seen: ``(N, D)`` known units.
        draws: chains a row, at most.
        noise: of these rows.
    """
    known = energy.units.spread(seen)
    path, betas, chains = Path(energy, features, known), spaced(ROW_TEMPERATURES), min(draws, ROW_CHAINS)
    return Annealed.averaged(path.anneal(chains, betas, path.steps(betas, noise), noise)[1])


def summable(energy: EnergyColumns, seen: Tensor) -> bool:
    """Whether the unknown units of rows ``(N, D)``, which all know the same ones, have few states."""
    free = ~seen[0]
    return not bool(free[slice(*energy.units.split)].any()) and math.prod(sizes(energy, seen)) <= STATES


def sizes(energy: EnergyColumns, seen: Tensor) -> list[int]:
    """Numbers of levels of the unknown units."""
    units = energy.units
    levels = [2] * len(units.binary) + [0] * len(units.gaussian) + [size for size, g in units.levelled for _ in g]
    return [levels[at] for at in torch.nonzero(~seen[0])[:, 0].tolist()]


def every_state(energy: EnergyColumns, seen: Tensor) -> Tensor:
    """``(S, F)``: features of all states of the unknown units, zeros for the known ones."""
    units, free, levels = energy.units, torch.nonzero(~seen[0])[:, 0].tolist(), sizes(energy, seen)
    codes = torch.cartesian_prod(*[torch.arange(size) for size in levels]).reshape(-1, len(levels))
    out = torch.zeros(len(codes), units.features)
    for code, at in zip(codes.mT, free, strict=True):
        own = torch.nonzero(units.owner.cpu() == at)[:, 0]
        out[:, own] = code[:, None].to(out) if len(own) == 1 else (code[:, None] == own - own[0]).to(out)
    return out.to(energy.base.mean)


def summed(energy: EnergyColumns, features: Tensor, known: Tensor) -> Tensor:
    """``(N,)``: log of the sum over all states of the unknown features of rows that know the same ones."""
    owner = torch.zeros(1, energy.units.columns, dtype=torch.bool)
    owner[0, energy.units.owner[known[0]].cpu()] = True
    states = every_state(energy, owner)
    some = max(1, STATES // len(states))
    parts = []
    for rows in torch.where(known, features, 0.0).split(some):
        scores = [energy.log_density(rows[None] + part[:, None]) for part in states.split(2**14)]
        parts.append(torch.cat(scores).logsumexp(0))
    return torch.cat(parts)
