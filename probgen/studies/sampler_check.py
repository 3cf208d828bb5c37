r"""Does a sampler leave the posterior as it is? Geweke's joint test (2004).

Two ways to draw from the joint distribution of parameters and data,

.. math:: \text{marginal-conditional:}\quad \theta \sim p(\theta),\ y \sim p(y \mid \theta); \qquad
    \text{successive-conditional:}\quad \theta \sim K(\theta' \to \theta \mid y),\ y \sim p(y \mid \theta),

have the same moments where the kernel K leaves :math:`p(\theta \mid y)` as it is. It needs no converged chain, so that it
finds errors in kernels that are composed of several steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from probgen.errors import CapabilityError
from probgen.inference.diagnostics import effective_sample_size
from probgen.inference.runtime import seeded, setting
from probgen.inference.simulation import Simulator, TableSimulator
from probgen.studies.calibration import GibbsChain, simulator_of
from probgen.whole import check_whole

__all__ = ["SamplerCheck", "check_sampler"]

Kernel = Callable[[dict[str, Tensor], Any], dict[str, Tensor]]
Transition = Callable[[Tensor, list[Tensor]], Tensor]
FEWEST = 100.0  # effective draws on which a z is worth reading


@dataclass(frozen=True, eq=False)
class SamplerCheck:
    """Moments of the two simulations against each other.

    Attributes:
        names: of the Q unconstrained coordinates, ``site[place]``, then of the log joint density.
        z: ``(2, Q)``: of the mean and of the mean square of normal scores, in standard errors of both simulations.
        effective: ``(2, Q)`` effective draws of the successive-conditional simulation.
        level: the probability that a right sampler fails.
    """

    names: list[str]
    z: np.ndarray
    effective: np.ndarray
    level: float

    @property
    def p_value(self) -> float:
        """Of all tests together: the smallest, times their number (Bonferroni)."""
        return float(min(1.0, 2 * stats.norm.sf(np.abs(self.z)).min() * self.z.size))

    @property
    def passed(self) -> bool:
        """No moment differs by more than chance makes it, by this level."""
        return self.p_value >= self.level

    @property
    def table(self) -> list[dict[str, Any]]:
        """One record a coordinate, the furthest off first."""
        order = np.argsort(-np.abs(self.z).max(0), kind="stable")
        return [
            {
                "quantity": self.names[at], "z_mean": float(self.z[0, at]), "z_square": float(self.z[1, at]),
                "effective": float(self.effective[:, at].min()),
            }
            for at in order
        ]  # fmt: skip

    def __str__(self) -> str:
        verdict = "Leaves" if self.passed else "Does not leave"
        lines = [f"{verdict} the posterior as it is: p = {self.p_value:.2g} of all tests, level {self.level:g}."]
        if self.effective.min() < FEWEST:
            lines.append(f"Only {self.effective.min():.0f} effective draws; ask for more draws, or give fewer rows.")
        lines.append(f"{'quantity':<28}{'z mean':>8}{'z square':>10}{'effective':>11}")
        for r in self.table[:12]:
            lines.append(f"{r['quantity']:<28}{r['z_mean']:>8.2f}{r['z_square']:>10.2f}{r['effective']:>11.0f}")
        return "\n".join(lines)


def check_sampler(
    model: Any,
    data: Any,
    *,
    kernel: Kernel | None = None,
    draws: int = 500,
    chains: int = 4,
    simulate: Callable[[dict[str, Tensor], Any], Any] | None = None,
    level: float = 0.01,
    seed: int = 0,
    **options: Any,
) -> SamplerCheck:
    """Geweke's joint test of one transition of a sampler.

    Args:
        model: a user's ``program(model_fn)``, or a model of the library by name.
        data: as for :func:`probgen.check_calibration`; few rows make the simulation mix.
        kernel: from (parameter values by site, data) to new values that have the posterior as their distribution where
            the old ones have; None for the library's Gibbs sweep, of the library's models.
        draws: of each chain.
        chains: of the successive-conditional simulation, each from the prior; as many draws in all of the other one.
        simulate: draws data given parameters, where running the program does not.
        level: the probability that a right sampler fails.
        seed: of all draws.
        **options: of the library's model.

    Raises:
        CapabilityError: no kernel for a user's program, or a program whose data cannot be drawn.
    """
    for name, number, least in (("draws", draws, 50), ("chains", chains, 2)):
        check_whole(name, number, least)
    with setting(torch.float64, torch.device("cpu")), seeded(seed, "sampler check"):
        simulator = simulator_of(model, data, seed, simulate, options)
        with torch.no_grad():
            marginal = torch.stack([row(simulator, *simulator.draw()) for _ in range(chains * draws)])
        successive = torch.stack([chain(simulator, kernel, draws) for _ in range(chains)])
    z, effective = compared(marginal.numpy(), successive.numpy())
    return SamplerCheck([*coordinates(simulator), "log_joint"], z, effective, level)


def row(simulator: Simulator, u: Tensor, own: list[Tensor]) -> Tensor:
    """``(P + 1,)``: the vector, and the log joint density."""
    return torch.cat([u, simulator.log_posterior(u, own).detach().reshape(1)])


def coordinates(simulator: Simulator) -> list[str]:
    """Names of the unconstrained vector's entries."""
    return [f"{slot.name}[{at}]" for slot in simulator.potential.slots for at in range(slot.shape.numel())]


def chain(simulator: Simulator, kernel: Kernel | None, draws: int) -> Tensor:
    """``(draws, P + 1)``: a transition, then data given where it led, in turn."""
    with torch.no_grad():
        u, own = simulator.draw()
    move, found = transition(simulator, kernel, u), []
    for _ in range(draws):
        u = move(u, own).detach()
        with torch.no_grad():
            own = simulator.outcomes(u)
            found.append(row(simulator, u, own))
    return torch.stack(found)


def transition(simulator: Simulator, kernel: Kernel | None, u: Tensor) -> Transition:
    """The kernel as a map of the unconstrained vector."""
    potential = simulator.potential
    if kernel is not None:
        return lambda u, own: potential.unconstrain(kernel(potential.constrain(u)[0], simulator.data(own)))
    if not isinstance(simulator, TableSimulator):
        raise CapabilityError("A user's program needs a kernel: a function from (values, data) to new values.")
    gibbs = GibbsChain(simulator, u)
    return lambda _, own: gibbs.sweep(own[0])


def compared(marginal: np.ndarray, successive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Z ``(2, Q)`` of means and mean squares, of ``(M, Q)`` against ``(chains, draws, Q)``, and effective draws.

    Values are first made normal scores of their ranks in both together, so that heavy tails do no harm.
    """
    together = np.concatenate([marginal, successive.reshape(-1, marginal.shape[1])])
    scores = stats.norm.ppf((stats.rankdata(together, axis=0) - 0.375) / (len(together) + 0.25))
    one, two = scores[: len(marginal)], scores[len(marginal) :].reshape(successive.shape)
    z, effective = [], []
    for power in (1, 2):
        a, b = one**power, two**power
        size = np.minimum(effective_sample_size(b), b.shape[0] * b.shape[1])
        error = np.sqrt(a.var(0) / len(a) + b.var((0, 1)) / size)
        z.append((b.mean((0, 1)) - a.mean(0)) / error)
        effective.append(size)
    return np.stack(z), np.stack(effective)
