r"""Diffusion in continuous time by its score: denoising score matching, and densities by the probability flow (Song et al., 2021; Karras et al., 2022).

.. math::
    \mathrm d z = (z - D_\theta(z, \sigma))\, \mathrm d \log\sigma, \qquad
    D_\theta(z, \sigma) = \frac{z}{1 + \sigma^2} + \frac{\sigma}{\sqrt{1 + \sigma^2}} F_\theta\Bigl(\frac{z}{\sqrt{1 + \sigma^2}}, \log\sigma\Bigr), \qquad
    z = y + \sigma \epsilon

This is the variance-exploding form. The others follow :math:`w = \alpha z`, with signal :math:`\alpha` and noise :math:`\alpha \sigma`, along the same paths; they differ in how numbers are scaled for a solver:

.. math::
    \alpha_{\text{vp}} = \frac{1}{\sqrt{1 + \sigma^2}}, \qquad
    \alpha_{\text{sub-vp}} = \frac{2}{\sigma + \sqrt{4 + \sigma^2}}, \qquad
    \frac{\mathrm d w}{\mathrm d \log \sigma} = \alpha (z - D_\theta(z, \sigma)) + \frac{\mathrm d \log \alpha}{\mathrm d \log \sigma}\, w

The second is that of :math:`\mathrm d w = -\tfrac12 \beta w\, \mathrm d t + \sqrt{\beta (1 - e^{-2 \int \beta})}\, \mathrm d B`, whose noise :math:`1 - \alpha^2` is below the
:math:`\sqrt{1 - \alpha^2}` of the first at the same signal. A density is that of the numbers with the least noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from probgen.errors import CapabilityError
from probgen.families.denoising import Asked, Noise, NoiseProcess, in_steps
from probgen.families.denoising_samplers import Guess, Predict, dpm
from probgen.families.noise_schedule import amplitudes
from probgen.families.noised_cells import NoisedCells
from probgen.families.probability_flow import Velocity, flow_log_prob, flow_to

__all__ = ["ScoreProcess"]

LEAST = 0.005  # noise, and MOST, in standard deviations of a column
MOST = 80.0
CENTRE, SPREAD = -1.2, 1.2  # of the logarithms of noise that are learnt from
SDES = ("vp", "subvp", "ve")
EXACT = 16  # numbers of a row up to which the divergence is exact
PROBES = 4


class ScoreProcess(NoiseProcess):
    """A network that takes noise away from the numbers of the modelled cells.

    Args:
        cells: the columns as numbers.
        network: from numbers of cells, masks of modelled and shown columns, and the logarithm of the noise, to as many numbers as the cells have.
        sde: "vp", "subvp" or "ve".
        draw_steps: of draws, and of the coarser of two solutions behind a density.
        guidance: how much further than what is shown says the draws go.
        conditioning: as for every process.
        sampler: of draws, "heun" or "dpm".
    """

    kind: str = "ode"

    def __init__(
        self,
        cells: NoisedCells,
        network: nn.Module,
        sde: str = "vp",
        draw_steps: int = 20,
        guidance: float = 0.0,
        conditioning: float = 0.5,
        sampler: str = "heun",
    ) -> None:
        super().__init__(cells.block, conditioning)
        if sde not in SDES:
            raise CapabilityError(f"sde must be one of {', '.join(map(repr, SDES))}, got {sde!r}.")
        if sampler not in ("heun", "dpm"):
            raise CapabilityError(f"sampler must be 'heun' or 'dpm', got {sampler!r}.")
        self.cells, self.network, self.sde, self.sampler = cells, network, sde, sampler
        self.draw_steps, self.guidance = draw_steps, guidance

    @property
    def numbers(self) -> int:
        return self.cells.width

    def ends(self) -> tuple[float, float]:
        """Logarithms of the least and the greatest noise."""
        return math.log(LEAST), math.log(MOST)

    def inner(self, w: Tensor, log_sigma: Tensor, clean: Tensor, asked: Asked) -> Tensor:
        """What the network says of scaled numbers ``(S, B, F)``, noise being ``(S, B)``."""
        owner = self.cells.owner
        read = torch.where(asked.modelled[..., owner], w, torch.where(asked.shown[..., owner], clean, 0.0))
        masks = torch.cat([asked.modelled, asked.shown], -1).to(w).expand(*w.shape[:-1], -1)
        return self.network(torch.cat([read, masks], -1), log_sigma / 2)

    def denoised(self, z: Tensor, log_sigma: Tensor, clean: Tensor, asked: Asked) -> Tensor:
        """The numbers without their noise, guided where that is wanted."""
        sigma = log_sigma.exp()[..., None]
        norm = (1 + sigma.square()).sqrt()
        said = self.inner(z / norm, log_sigma, clean, asked)
        if self.guidance:
            said = said + self.guidance * (said - self.inner(z / norm, log_sigma, clean, asked.unshown()))
        return z / norm.square() + sigma / norm * said

    def terms(self, x: Tensor, asked: Asked, times: Tensor, noise: Noise) -> Tensor:
        """Minus the squared errors of denoising, weighted so that they are alike at all noise; no bound of anything."""
        y, counted = self.cells.read(x), asked.modelled[..., self.cells.owner]
        log_sigma = CENTRE + SPREAD * torch.special.ndtri(times.clamp(1e-4, 1 - 1e-4))
        sigma = log_sigma.exp()[..., None]
        norm = (1 + sigma.square()).sqrt()
        eps = noise.normal(y.new_empty(len(times), *y.shape))
        wanted = (sigma * y - eps) / norm  # what the network has to say for its answer to be y
        said = self.inner((y + sigma * eps) / norm, log_sigma, y, asked)
        return -0.5 * ((said - wanted).square() * counted).sum(-1)

    # -- the equation ------------------------------------------------------------------------------------------
    def velocity(self, clean: Tensor, asked: Asked) -> Velocity:
        """Of the numbers in the coordinates of the equation, by the logarithm of the noise."""

        def at(w: Tensor, log_sigma: Tensor) -> Tensor:
            alpha, slope = self.signal(log_sigma)
            z = w / alpha
            return alpha * (z - self.denoised(z, log_sigma.expand(z.shape[:-1]), clean, asked)) + slope * w

        return at

    def signal(self, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The signal in the coordinates of the equation, and the slope of its logarithm by that of the noise."""
        square = log_sigma.mul(2).exp()
        if self.sde == "ve":
            return torch.ones_like(square), torch.zeros_like(square)
        if self.sde == "vp":
            return (1 + square).rsqrt(), -log_sigma.mul(2).sigmoid()
        root = (4 + square).sqrt()
        return 2 / (log_sigma.exp() + root), -log_sigma.exp() / root

    def scales(self) -> tuple[float, float]:
        """Of the coordinates of the equation at its first time, and of noise at its last."""
        first, last = (float(self.signal(torch.tensor(end, dtype=torch.float64))[0]) for end in self.ends())
        return first, last * math.sqrt(1 + MOST**2)

    def times(self, steps: int, like: Tensor) -> Tensor:
        return torch.linspace(*self.ends(), steps + 1, dtype=like.dtype, device=like.device)

    def scored(self, x: Tensor, asked: Asked, draws: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """Log density, and its error: what twice as many steps change, and the spread over random signs where rows are long."""
        y, counted = self.cells.read(x), asked.modelled[..., self.cells.owner].to(x)
        signs = None if self.numbers <= EXACT else noise.normal(y.new_empty(PROBES, *y.shape)).sign()
        first, width = self.scales()
        z = (first * y * counted).expand(1 if signs is None else PROBES, *y.shape)

        def end(z: Tensor) -> Tensor:
            return ((-0.5 * (z / width).square() - math.log(width * math.sqrt(2 * math.pi))) * counted).sum(-1)

        coarse, fine = (
            flow_log_prob(self.velocity(y, asked), end, z, self.times(steps, y), counted, signs)
            for steps in (self.draw_steps, 2 * self.draw_steps)
        )
        spread = fine.std(0) / math.sqrt(PROBES) if signs is not None else torch.zeros_like(fine[0])
        jacobian = self.cells.log_jacobian(x, asked.modelled) + math.log(first) * counted.sum(-1)
        return fine.mean(0) + jacobian, torch.hypot(spread, (fine - coarse).mean(0))

    def draw(self, x: Tensor, asked: Asked, noises: Sequence[Noise]) -> Tensor:
        clean, (first, width) = self.cells.read(x), self.scales()
        counted = asked.modelled[..., self.cells.owner].to(clean)
        normal = in_steps(noises, clean, 2)
        times = self.times(2 * self.draw_steps, clean).flip(0)
        if self.sampler == "dpm":
            z, first = dpm(self.predicted(clean, asked), next(normal), 2 * times, normal), self.scaling()
        else:
            z = flow_to(self.velocity(clean, asked), width * next(normal), times, counted)
        blank = clean.new_tensor(-60.0)  # nothing is left that reading would have to guess
        return self.cells.write(z / first, blank, next(normal))

    def predicted(self, clean: Tensor, asked: Asked) -> Predict:
        """The signal in numbers of variance 1, by the log ratio of noise to signal, and the noise."""

        def at(w: Tensor, gamma: Tensor) -> Guess:
            alpha, sigma = amplitudes(gamma)
            signal = self.denoised(w / alpha, (gamma / 2).expand(w.shape[:-1]), clean, asked)
            return Guess(signal, (w - alpha * signal) / sigma)

        return at

    def scaling(self) -> float:
        """Of the signal in numbers of variance 1 at the least noise."""
        return 1 / math.sqrt(1 + LEAST**2)
