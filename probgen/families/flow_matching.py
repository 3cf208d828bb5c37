r"""Flow matching: rows that noise becomes on ways learnt from straight ones (Lipman et al., 2023; Liu, Gong and Liu, 2023).

.. math::
    u_t = (1 - t)\, e + t\, u, \qquad
    v_\theta(u_t, t) = \frac{2t - 1}{s_t^2}\, u_t + \frac{1}{s_t}\, F_\theta\Bigl(\frac{u_t}{s_t}, t\Bigr), \qquad
    s_t^2 = t^2 + (1 - t)^2, \qquad \min_\theta\ \mathbb E\, \lVert v_\theta(u_t, t) - (u - e) \rVert^2

The first term of v is right for standard normal numbers, and what F has to say is then nothing. Noise e may be paired with rows of a minibatch so that the ways are short
(optimal transport; Tong et al., 2024), which is done among complete rows only: noise of a row that shows cells has to be independent of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.special import ndtr

from probgen.families.denoising import Asked, Noise, NoiseProcess, in_steps
from probgen.families.dequantised_cells import DequantisedCells
from probgen.families.flow_solvers import solver_named
from probgen.families.probability_flow import Velocity, flow_log_prob

__all__ = ["FlowMatching"]

EXACT = 16  # numbers of a row up to which the divergence is exact
PROBES = 4  # random signs of longer rows
MOST = 8  # solutions of the equation for a row with levels or counts, of which each is a number on random places
CLOCK = 8.0  # of the network, from -4 to 4
CURVE = 2.0  # steps of a density near the rows go with this power of their number


class FlowMatching(NoiseProcess):
    """A network that says where the numbers of the modelled cells go.

    Args:
        cells: the columns as numbers.
        network: from numbers of cells, masks of modelled and shown columns, and the time, to as many numbers as the cells have.
        transport: whether noise is paired with rows.
        sampler: of draws, "euler", "heun" or "adaptive".
        draw_steps: of draws, and of the coarser of two solutions behind a density.
        guidance: how much further than what is shown says the draws go.
        conditioning: as for every process.
    """

    def __init__(
        self,
        cells: DequantisedCells,
        network: nn.Module,
        transport: bool = False,
        sampler: str = "heun",
        draw_steps: int = 20,
        guidance: float = 0.0,
        conditioning: float = 0.5,
    ) -> None:
        super().__init__(cells.block, conditioning)
        self.cells, self.network, self.transport = cells, network, transport
        self.solver, self.draw_steps, self.guidance = solver_named(sampler), draw_steps, guidance
        self.kind = "lower_bound" if cells.stepped else "ode"

    @property
    def numbers(self) -> int:
        return self.cells.width

    def counted(self, asked: Asked) -> Tensor:
        """``(B, F)``: mask of the modelled cells' numbers."""
        return asked.modelled[..., self.cells.owner]

    def inner(self, w: Tensor, t: Tensor, clean: Tensor, asked: Asked) -> Tensor:
        """What the network says of scaled numbers ``(S, B, F)`` at times ``(S, B)``."""
        seen = torch.where(asked.shown[..., self.cells.owner], clean, 0.0)
        masks = torch.cat([asked.modelled, asked.shown], -1).to(w).expand(*w.shape[:-1], -1)
        read = torch.where(self.counted(asked), w, seen)
        return self.network(torch.cat([read, masks], -1), CLOCK * (t - 0.5))

    def moved(self, u: Tensor, t: Tensor, clean: Tensor, asked: Asked, guidance: float = 0.0) -> Tensor:
        """The velocity of numbers ``(S, B, F)`` at times ``(S, B)``."""
        variance = (t.square() + (1 - t).square())[..., None]
        said = self.inner(u / variance.sqrt(), t, clean, asked)
        if guidance:
            said = said + guidance * (said - self.inner(u / variance.sqrt(), t, clean, asked.unshown()))
        return (2 * t - 1)[..., None] / variance * u + said / variance.sqrt()

    # -- learning ----------------------------------------------------------------------------------------------
    def terms(self, x: Tensor, asked: Asked, times: Tensor, noise: Noise) -> Tensor:
        """Minus half the squared errors of the velocity; no bound of anything."""
        blank = x.new_empty(len(times), len(x), self.numbers)
        places, eps = ndtr(noise.normal(blank)), noise.normal(blank)
        u, _ = self.cells.read(x, places)
        u = u.nan_to_num()
        if self.transport:
            eps = paired(u, eps, asked.modelled.all(1))
        t = times[..., None]
        error = self.moved((1 - t) * eps + t * u, times, self.cells.usual(x), asked) - (u - eps)
        return -0.5 * (error.square() * self.counted(asked)).sum(-1)

    # -- the equation ------------------------------------------------------------------------------------------
    def velocity(self, clean: Tensor, asked: Asked) -> Velocity:
        """Of the numbers at a time, or at a time of every row."""
        return lambda u, t: self.moved(u, t.expand(u.shape[:-1]), clean, asked, self.guidance)

    def times(self, steps: int, like: Tensor) -> Tensor:
        """From the rows to noise, at first in short steps."""
        return 1.0 - torch.linspace(0.0, 1.0, steps + 1, dtype=like.dtype, device=like.device) ** CURVE

    def solutions(self, asked: Asked, draws: int) -> tuple[int, bool]:
        """How many a row's density is the mean of, and whether their divergences are exact."""
        exact = int(self.counted(asked).sum(1).max()) <= EXACT if len(asked.modelled) else True
        return min(draws, MOST) if self.cells.stepped else (1 if exact else PROBES), exact

    def scored(self, x: Tensor, asked: Asked, draws: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """Log density or a bound on it, and its error: what twice as many steps change, and the spread over random places and signs."""
        count, exact = self.solutions(asked, draws)
        blank, counted = x.new_empty(count, len(x), self.numbers), self.counted(asked).to(x)
        u, log_q = self.cells.read(x, ndtr(noise.normal(blank)))
        signs = None if exact else noise.normal(blank).sign()
        start = (u.nan_to_num() * counted).expand(blank.shape)

        def end(z: Tensor) -> Tensor:
            return ((-0.5 * z.square() - 0.5 * math.log(2 * math.pi)) * counted).sum(-1)

        velocity = self.velocity(self.cells.usual(x).nan_to_num(), asked)
        coarse, fine = (
            flow_log_prob(velocity, end, start, self.times(steps, x), counted, signs)
            for steps in (self.draw_steps, 2 * self.draw_steps)
        )
        gap, fine = (fine - coarse).mean(0), fine - (log_q * counted).sum(-1)
        alone = not self.cells.stepped and exact
        spread = torch.zeros_like(gap) if alone else fine.std(0) / math.sqrt(count) if count > 1 else gap * torch.nan
        return fine.mean(0) + self.cells.log_slope(x, asked.modelled), torch.hypot(spread, gap)

    def draw(self, x: Tensor, asked: Asked, noises: Sequence[Noise]) -> Tensor:
        clean = self.cells.usual(x).nan_to_num()
        eps = next(in_steps(noises, clean, 1))
        times = torch.linspace(0.0, 1.0, self.draw_steps + 1, dtype=clean.dtype, device=clean.device)
        return self.cells.write(self.solver(self.velocity(clean, asked), eps, times, self.counted(asked).to(clean)))


def paired(u: Tensor, eps: Tensor, free: Tensor) -> Tensor:
    """Noise ``(S, B, F)`` given to those of the rows it comes from for which the squared ways together are shortest; other rows keep theirs."""
    rows, eps = torch.nonzero(free)[:, 0], eps.clone()
    u = u.expand(eps.shape)
    for ends, starts in zip(u, eps, strict=True):
        cost = torch.cdist(ends[rows], starts[rows]).square()
        starts[rows] = starts[rows][torch.as_tensor(linear_sum_assignment(cost.cpu().numpy())[1], device=eps.device)]
    return eps
