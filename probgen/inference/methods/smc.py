r"""Sequential Monte Carlo by tempering: from the prior to the posterior, with the evidence on the way (Del Moral et al., 2006).

.. math:: \pi_\beta(u) \propto p(u)\, p(x \mid u)^\beta, \quad \beta: 0 \to 1, \qquad
    \widehat{p(x)} = \prod_t \frac1S \sum_s p(x \mid u_s)^{\beta_t - \beta_{t-1}}

Particles are drawn from the prior, so every mode that they meet is kept in proportion. Each temperature is as far from the
last one as a given effective number of particles allows; they are then drawn again by their weights and moved by
Hamiltonian steps. Islands of particles are resampled each for itself, so that the spread of their estimates is the error.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from probgen.errors import CapabilityError, FitError
from probgen.inference.compiled import Compiled
from probgen.inference.diagnostics import effective_sample_size, split_rhat
from probgen.inference.methods.base import Method, Step
from probgen.inference.methods.chees import check_counts
from probgen.inference.metric import Metric
from probgen.inference.posterior import Posterior
from probgen.inference.potential import Potential
from probgen.inference.runtime import seed_of, seeded

__all__ = ["SequentialMonteCarlo"]

LEAPFROGS = 8  # of one move, at most
TARGET = 0.8  # acceptance
FARTHEST = 1e-6  # smallest step of the temperature


class SequentialMonteCarlo(Method):
    """Tempered particles.

    Options:
        particles: how many, over all islands.
        islands: groups that are resampled by themselves; the error of the evidence is from their spread.
        effective: share of particles that a temperature's weights have to leave.
        moves: Hamiltonian moves at each temperature.
        compile: see :class:`~probgen.inference.compiled.Compiled`.
    """

    defaults = {"particles": 1024, "islands": 16, "effective": 0.5, "moves": 5, "compile": "auto", "start": None}
    max_steps = 500
    wherever = "nuts"
    iterates = "temperature"

    def init(self) -> None:
        task, options = self.task, self.task.options
        check_counts(options, particles=64, islands=2, moves=1)
        self.check(options)
        batch = next(iter(task.batches.pieces()))
        self.potential = Potential(task.program, batch)
        with seeded(task.seed, "smc start"), torch.no_grad():
            points = torch.stack([self.potential.prior_draw().detach() for _ in range(options["particles"])])
            self.likelihood = Compiled(
                lambda u, _: self.potential.log_parts(u)[0], points, None, mode=options["compile"]
            )
            self.prior = Compiled(lambda u, _: self.potential.log_parts(u)[1], points, None, mode=options["compile"])
        self.generator = torch.Generator(points.device).manual_seed(seed_of(task.seed, "smc"))
        self.points, self.temperature, self.step_size = points, 0.0, 0.5
        self.log_evidence = np.zeros(options["islands"])
        self.acceptance: list[float] = []

    def check(self, options: dict[str, Any]) -> None:
        """Islands of equal size, and a share that is one."""
        if options["particles"] % options["islands"]:
            raise CapabilityError(
                f"particles={options['particles']} do not divide into {options['islands']} islands of the same size."
            )
        if not 0 < options["effective"] < 1:
            raise CapabilityError(f"effective must be between 0 and 1, got {options['effective']!r}.")

    # -- one temperature ---------------------------------------------------------------------------------------
    def step(self) -> Step:
        likelihood = self.likelihood(self.points)[0]
        if not bool(likelihood.isfinite().any()):
            raise FitError(
                f"{self.task.program.name!r}: no particle from the prior gives the data a positive density; use more particles"
                " or a narrower prior."
            )
        rise = self.rise(likelihood)
        self.resample(likelihood, rise)
        self.temperature += rise
        metric = Metric.learnt_from_spread(self.points)
        for _ in range(self.task.options["moves"]):
            self.move(metric)
        done = self.temperature >= 1.0
        mean = logsumexp(self.log_evidence) - math.log(len(self.log_evidence))
        values = {"objective": mean / len(self.task.batches), "temperature": self.temperature}
        return Step(values | {"acceptance": self.acceptance[-1]}, done, done)

    def rise(self, likelihood: Tensor) -> float:
        """How far the temperature may go up: the effective number of particles stays above its share, by bisection."""
        low, high = 0.0, 1.0 - self.temperature
        if effective_share(likelihood * high) >= self.task.options["effective"]:
            return high
        for _ in range(60):
            middle = 0.5 * (low + high)
            enough = effective_share(likelihood * middle) >= self.task.options["effective"]
            low, high = (middle, high) if enough else (low, middle)
        return max(low, FARTHEST)

    def resample(self, likelihood: Tensor, rise: float) -> None:
        """Every island by itself, systematically; its evidence grows by its mean weight."""
        islands = self.task.options["islands"]
        weights = (rise * likelihood).reshape(islands, -1)
        size = weights.shape[1]
        self.log_evidence += (weights.logsumexp(1) - math.log(size)).double().cpu().numpy()
        shares = weights.softmax(1).nan_to_num(1.0 / size).cumsum(1)
        start = torch.rand(islands, 1, generator=self.generator, dtype=shares.dtype, device=shares.device)
        marks = (torch.arange(size, device=shares.device) + start) / size
        chosen = torch.searchsorted(shares, marks.to(shares)).clamp(max=size - 1)
        chosen = chosen + size * torch.arange(islands, device=shares.device)[:, None]
        self.points = self.points[chosen.flatten()]

    def density(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Value and gradient at the present temperature."""
        (one, slope), (two, other) = self.likelihood(points), self.prior(points)
        return self.temperature * one + two, self.temperature * slope + other

    def move(self, metric: Metric) -> None:
        """One Hamiltonian transition of every particle; the step size follows the acceptance."""
        points, count = self.points, LEAPFROGS
        momenta = torch.randn(points.shape, generator=self.generator, dtype=points.dtype, device=points.device)
        jitter = torch.rand((), generator=self.generator, dtype=torch.float64, device="cpu")
        step = self.step_size * (0.6 + 0.8 * float(jitter))
        value, gradient = self.density(points)
        energy, new = value - 0.5 * momenta.square().sum(1), points
        momenta = momenta + 0.5 * step * metric.force(gradient)
        for left in range(count, 0, -1):
            new = new + step * metric.velocity(momenta)
            value, gradient = self.density(new)
            momenta = momenta + (step if left > 1 else 0.5 * step) * metric.force(gradient)
        gain = value - 0.5 * momenta.square().sum(1) - energy
        rate = torch.where(gain.isfinite(), gain, -torch.inf).clamp(max=0.0).exp()
        uniform = torch.rand(rate.shape, generator=self.generator, dtype=rate.dtype, device=rate.device)
        self.points = torch.where((uniform < rate)[:, None], new, points)
        self.acceptance.append(float(rate.mean()))
        self.step_size *= math.exp(min(max(self.acceptance[-1] - TARGET, -0.5), 0.2))
        self.step_size = min(self.step_size, 1.5)

    # -- what is left ------------------------------------------------------------------------------------------
    def result(self) -> Posterior:
        draws = self.points.reshape(self.task.options["islands"], -1, self.points.shape[1])
        self.draws = draws.double().cpu().numpy()
        lp = self.density(self.points)[0].reshape(draws.shape[:2])
        return self.potential.posterior(draws, {"lp": lp})

    def diagnostics(self) -> dict[str, Any]:
        relative = np.exp(self.log_evidence - self.log_evidence.max())
        error = relative.std(ddof=1) / math.sqrt(len(relative)) / relative.mean()
        return {
            "log_evidence": float(logsumexp(self.log_evidence) - math.log(len(relative))),
            "log_evidence_error": float(error),
            "acceptance": float(np.mean(self.acceptance)),
            "temperature": self.temperature,
            "rhat": float(split_rhat(self.draws).max()),
            "ess": float(effective_sample_size(self.draws).min()),
        }

    def pack(self) -> dict[str, Tensor]:
        numbers = torch.tensor([self.temperature, self.step_size], dtype=torch.float64)
        packed = {
            "points": self.points,
            "numbers": numbers,
            "log_evidence": torch.from_numpy(self.log_evidence.copy()),
        }
        acceptance = torch.tensor(self.acceptance, dtype=torch.float64)
        return packed | {"acceptance": acceptance, "generator": self.generator.get_state()}

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        self.points, self.log_evidence = tensors["points"], tensors["log_evidence"].numpy().copy()
        self.temperature, self.step_size = tensors["numbers"].tolist()
        self.acceptance = tensors["acceptance"].tolist()
        self.generator.set_state(tensors["generator"])


def effective_share(log_weights: Tensor) -> float:
    """Kish's effective number of weights, as a share of all."""
    log_weights = log_weights.nan_to_num(nan=-torch.inf)
    two = 2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)
    return float(two.exp()) / len(log_weights)
