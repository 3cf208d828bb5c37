"""How well chains walk over an energy: whether those that started apart agree, and how fast they forget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from probgen.errors import CapabilityError
from probgen.families.denoising import SharedNoise
from probgen.inference.diagnostics import effective_sample_size, split_rhat
from probgen.inference.energy_paths import free_path
from probgen.inference.energy_walks import supply
from probgen.inference.runtime import seeded
from probgen.queries.walked import walks
from probgen.whole import check_whole

__all__ = ["WalkDiagnosis", "walk_diagnosis"]

AGREED = 1.05  # an R-hat


@dataclass(frozen=True)
class WalkDiagnosis:
    """Of chains that started at draws of the mixture and walked over the energy, the first half left out.

    Attributes:
        r_hat: column -> rank-normalised split R-hat; levels count as numbers.
        effective_size: column -> bulk effective sample size, out of ``draws``.
        draws: rows of all chains together.
        acceptance: mean probability of acceptance of trajectories; 1 where no column is continuous.
    """

    r_hat: dict[str, float]
    effective_size: dict[str, float]
    draws: int
    acceptance: float

    @property
    def agreed(self) -> bool:
        """Whether every R-hat that there is stays below 1.05."""
        return all(not value > AGREED for value in self.r_hat.values())


def walk_diagnosis(fit: Any, *, chains: int = 16, sweeps: int = 400, seed: int = 0) -> WalkDiagnosis:
    """Chains of a fitted ``energy``, and whether they agree; where they do not, neither can fills and new rows be trusted.

    Args:
        fit: of ``energy``.
        chains: how many, at least 2.
        sweeps: of each, of which the first half adapts steps and is left out.
        seed: of the chains.

    Raises:
        CapabilityError: the fit is of another model, or there are too few chains or sweeps.

    Example:
        >>> import probgen as pg
        >>> rows = pg.toy("banana", 200)
        >>> fit = pg.fit("energy", rows, hidden=(8,), max_steps=20, progress=False)
        >>> sorted(pg.walk_diagnosis(fit, chains=4, sweeps=40).r_hat)
        ['x1', 'x2']
    """
    if not walks(fit.program):
        raise CapabilityError(f"walk_diagnosis is for fits of energy; {fit.name!r} has no energy over its columns.")
    check_whole("chains", chains, 2)
    check_whole("sweeps", sweeps, 16)
    units, kept = fit.program.energy.units, []
    with torch.no_grad(), fit.setting(), seeded(seed, "walk diagnosis"):
        path, noise = free_path(fit.program.energy), SharedNoise()
        place, draws, log_step = path.start(chains, noise), supply(noise, path.walk, chains), path.walk.first_step()
        accepted = []
        for sweep in range(sweeps):
            place, likely = path.walk.sweep(place, (0.0, 1.0), log_step.exp(), next(draws))
            if sweep < sweeps // 2:
                log_step = path.walk.adapted(log_step, likely)
                continue
            accepted.append(float(likely.mean()))
            kept.append(units.write(place.features[:, 0]))
    values = torch.stack(kept, 1).double().cpu().numpy()  # (C, S, D)
    names = fit.schema.names
    r_hat, size = split_rhat(values), effective_sample_size(values)
    return WalkDiagnosis(
        dict(zip(names, r_hat.tolist(), strict=True)),
        dict(zip(names, size.tolist(), strict=True)),
        int(np.prod(values.shape[:2])),
        float(np.mean(accepted)),
    )
