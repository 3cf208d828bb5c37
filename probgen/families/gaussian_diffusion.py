r"""Gaussian diffusion of a row's numbers: the bound of a chain of T steps, or of endlessly many (Kingma, Salimans, Poole and Ho, 2021).

.. math::
    \log p(x) \ge \mathbb E \log p(x \mid z_0) - \mathrm{KL}\bigl(q(z_1 \mid x) \,\|\, \mathcal N(0, I)\bigr)
    - \frac T2 \mathbb E_{i, \epsilon} \bigl(e^{\gamma_{i/T} - \gamma_{(i-1)/T}} - 1\bigr) \lVert \epsilon - \hat\epsilon \rVert^2,

whose last term becomes :math:`\frac12 \mathbb E_{t, \epsilon}\, \gamma'_t \lVert \epsilon - \hat\epsilon \rVert^2` as T grows. Every term of the sum over steps is the divergence of
two normals in closed form; one step drawn at random estimates the sum without bias.

A normal step back at a guessed row is narrower than what many rows leave open. With a learnt variance, w times as great, the last term is that of (Nichol and Dhariwal, 2021)

.. math::
    \tfrac12 \Bigl(\log w + \frac{1 + (e^{\gamma_t - \gamma_s} - 1) (\epsilon - \hat\epsilon)^2}{w} - 1\Bigr), \qquad
    w = 1 + (e^{\gamma_t - \gamma_s} - 1)\, \hat v, \qquad \hat v = \alpha_t^2 e^{h_\theta(z_t, t)},

which is least where :math:`\hat v` is the mean of :math:`(\epsilon - \hat\epsilon)^2` given the noisy row (Bao et al., 2022): :math:`\alpha_t^2` for standard normal numbers, of which the network says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from probgen.families.denoising import Asked, Noise, NoiseProcess, asked_at_random, in_steps
from probgen.families.denoising_samplers import Guess, Predict, resampled, sampler_named
from probgen.families.noise_schedule import NoiseSchedule, amplitudes
from probgen.families.noised_cells import NoisedCells
from probgen.families.noised_classifier import NoisedClassifier

__all__ = ["GaussianDiffusion"]


MOST = 8.0  # the logarithm by which a squared error differs from that of standard normal numbers


class GaussianDiffusion(NoiseProcess):
    """Noise that is added to the numbers of the modelled cells, and a network that says what it was.

    Args:
        cells: the columns as numbers.
        network: from numbers of cells, masks of modelled and shown columns, and how noisy it is, to what cells are told by.
        schedule: how noisy it is at every time.
        steps: T; None for endlessly many.
        draw_steps: of draws, where T is None.
        sampler: of draws; "auto" for the chain itself where it has T steps, else for Heun's rule.
        guidance: how much further than what is shown says the draws go.
        conditioning: as for every process.
        resampling: times that a step of a draw is gone where cells are held instead of shown; 0 for cells that are shown.
        classifier: of noisy rows, whose gradient stands for a label that is shown; None for none.
        widens: the variance of a step back is learnt, the network saying it behind what it says of the cells; else it is that at a known row.
    """

    def __init__(
        self,
        cells: NoisedCells,
        network: nn.Module,
        schedule: NoiseSchedule,
        steps: int | None = None,
        draw_steps: int = 50,
        sampler: str = "auto",
        guidance: float = 0.0,
        conditioning: float = 0.5,
        resampling: int = 0,
        classifier: NoisedClassifier | None = None,
        widens: bool = False,
    ) -> None:
        super().__init__(cells.block, conditioning)
        self.resampling, self.classifier, self.widens = resampling, classifier, widens
        self.cells, self.network, self.schedule = cells, network, schedule
        self.steps, self.draw_steps, self.guidance = steps, steps or draw_steps, guidance
        self.noisy = sampler == "ancestral" or (sampler == "auto" and steps is not None)
        self.sampler = sampler_named(("heun" if steps is None else "ancestral") if sampler == "auto" else sampler)

    @property
    def numbers(self) -> int:
        return self.cells.width

    def predicted(self, z: Tensor, gamma: Tensor, clean: Tensor, asked: Asked) -> Guess:
        """The signal and the noise in z ``(S, B, F)`` at log ratios ``(S, B)``, given the shown cells of ``clean`` ``(B, F)``."""
        said = self.network(self.read(z, clean, asked), gamma / 4)
        alpha, sigma = amplitudes(gamma)
        eps = self.cells.noise(z, said[..., : len(self.cells.said)], alpha, sigma)
        off = said[..., len(self.cells.said) :].clamp(-MOST, MOST).exp() if self.widens else None
        signal = (z - sigma[..., None] * eps) / alpha[..., None]
        return Guess(signal, eps, None if off is None else alpha[..., None].square() * off)

    def read(self, z: Tensor, clean: Tensor, asked: Asked) -> Tensor:
        """``(S, B, F + 2 D)``: what networks are told of numbers, noisy where they are modelled, and the masks."""
        owner = self.cells.owner
        seen = torch.where(asked.shown[..., owner], clean, 0.0)
        masks = torch.cat([asked.modelled, asked.shown], -1).to(z).expand(*z.shape[:-1], -1)
        return torch.cat([torch.where(asked.modelled[..., owner], z, seen), masks], -1)

    def rehearsal(self, x: Tensor) -> Tensor | None:
        """``(B,)``: log probability of the labels given rows that are as noisy as at a random time; None without a classifier."""
        if self.classifier is None:
            return None
        asked = self.classifier.unread(asked_at_random(~x.isnan(), self.block, self.conditioning))
        times = (torch.rand((), device=x.device) + torch.arange(len(x), device=x.device) / len(x)) % 1.0
        gamma, y = self.schedule(times.to(x)[None]).detach(), self.cells.read(x)
        alpha, sigma = (part[..., None] for part in amplitudes(gamma))
        read = self.read(alpha * y + sigma * torch.randn_like(y), y, asked)
        return self.classifier.log_prob(read, gamma / 4, x)[0]

    # -- the bound ---------------------------------------------------------------------------------------------
    def terms(self, x: Tensor, asked: Asked, times: Tensor, noise: Noise) -> Tensor:
        y, counted = self.cells.read(x), asked.modelled[..., self.cells.owner]
        blank = y.new_empty(len(times), *y.shape)
        said = self.reading(x, y, asked, noise.normal(blank))
        return said - self.end_gap(y, counted) - self.on_the_way(y, counted, asked, times, noise.normal(blank))

    def reading(self, x: Tensor, y: Tensor, asked: Asked, eps: Tensor) -> Tensor:
        """``(S, B)``: log density of the modelled cells given their hardly noisy numbers."""
        first, _ = self.schedule.ends()
        cells = self.cells.log_prob(x, y + (first / 2).exp() * eps, first)
        chance = 0.5 * (-2 * self.cells.log_scale).exp() * (eps.square() - 1.0)
        return torch.where(asked.modelled, cells, 0.0).sum(-1) + (chance * self.by_chance(asked)).sum(-1)

    def by_chance(self, asked: Asked) -> Tensor:
        """``(B, F)`` mask of the numbers whose noise nobody can tell from what is hardly noisy: its squares' deviations from 1 are taken off."""
        return asked.modelled[..., self.cells.owner] & self.cells.smooth

    def end_gap(self, y: Tensor, counted: Tensor) -> Tensor:
        """``(B,)``: how far the noisiest numbers are from noise."""
        alpha, sigma = amplitudes(self.schedule.ends()[1])
        gap = (alpha * y).square() + sigma.square() - 1.0 - 2.0 * sigma.log()
        return 0.5 * (gap * counted).sum(-1)

    def on_the_way(self, y: Tensor, counted: Tensor, asked: Asked, times: Tensor, eps: Tensor) -> Tensor:
        """``(S, B)``: unbiased, the sum of all steps' divergences."""
        (first, last), (rise, slope) = self.schedule.ends(), self.schedule.shape(self.grid(times))
        gamma = first + (last - first) * rise
        alpha, sigma = (part[..., None] for part in amplitudes(gamma))
        _, guess, off = self.predicted(alpha * y + sigma * eps, gamma, y, asked)
        chance = alpha**4 * (eps.square() - 1.0) * self.by_chance(asked)
        error = (eps - guess).square() * counted
        if self.steps is None:
            return even_out(0.5 * (last - first) * slope * (error - chance).sum(-1), rise, slope)
        before = self.schedule(self.grid(times) - 1.0 / self.steps)
        if off is None:
            return 0.5 * self.steps * torch.expm1(gamma - before) * (error - chance).sum(-1)
        rate = torch.expm1(gamma - before)[..., None]
        wide, usual = 1 + rate * off, 1 + rate * alpha.square()
        gap = (wide.log() + (1 + rate * error) / wide - 1) * counted - rate / usual * chance
        return 0.5 * self.steps * gap.sum(-1)

    def grid(self, times: Tensor) -> Tensor:
        """The end of the step that a time is in."""
        return times if self.steps is None else ((times * self.steps).floor() + 1).clamp(max=self.steps) / self.steps

    # -- draws -------------------------------------------------------------------------------------------------
    def draw(self, x: Tensor, asked: Asked, noises: Sequence[Noise]) -> Tensor:
        clean = self.cells.read(x)
        normal = in_steps(noises, clean, self.draw_steps + 2 if self.noisy else 2)
        gammas = self.schedule(torch.linspace(1.0, 0.0, self.draw_steps + 1, dtype=clean.dtype, device=clean.device))
        if self.resampling and bool(asked.shown.any()):
            steps = in_steps(noises, clean, 3 * self.resampling * self.draw_steps + 1)
            predict, shown = self.guided(x, clean, asked, whole=True), asked.shown[..., self.cells.owner]
            z = resampled(predict, next(steps), gammas, steps, clean, shown, self.resampling)
        else:
            z = self.sampler(self.guided(x, clean, asked), next(normal), gammas, normal)
        return self.cells.write(z / amplitudes(gammas[-1])[0], gammas[-1], next(normal))

    def guided(self, x: Tensor, clean: Tensor, asked: Asked, whole: bool = False) -> Predict:
        """What is predicted given the shown cells, and beyond it: away from what is predicted without them (Ho and Salimans, 2022), and to where a classifier is surer.

        Args:
            x: ``(B, D)``, of which ``clean`` ``(B, F)`` are the numbers.
            asked: of them.
            whole: the shown cells are held, noisy as the others, and predicted with them.
        """
        classifier = self.classifier if self.classifier is not None and self.classifier.guidance else None
        told = asked if classifier is None else classifier.unshown(asked)
        alone = told.unshown()
        base = Asked.density(told.modelled | told.shown) if whole else told

        def at(z: Tensor, gamma: Tensor) -> Guess:
            gamma = gamma.expand(z.shape[:-1])
            alpha, sigma = (part[..., None] for part in amplitudes(gamma))
            _, eps, error = self.predicted(z, gamma, clean, base)
            if self.guidance:
                eps = eps + self.guidance * (eps - self.predicted(z, gamma, clean, alone).noise)
            if classifier is not None:
                eps = eps - sigma * classifier.guidance * self.slope(classifier, z, gamma, x, clean, asked)
            return Guess((z - sigma * eps) / alpha, eps, error)

        return at

    def slope(
        self, classifier: NoisedClassifier, z: Tensor, gamma: Tensor, x: Tensor, clean: Tensor, asked: Asked
    ) -> Tensor:
        """``(S, B, F)``: of the log probability of the labels by the noisy numbers; 0 where they are unknown."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            read = self.read(z, clean, classifier.unread(asked))
            return torch.autograd.grad(classifier.log_prob(read, gamma / 4, x).sum(), z)[0]


def even_out(loss: Tensor, rise: Tensor, slope: Tensor) -> Tensor:
    """The losses; what the schedule between its ends learns from them is to make them alike.

    With endlessly many steps their mean does not depend on it, and the gradient of their squares is twice the loss times their own.
    """
    if rise.requires_grad and loss.requires_grad:
        weight = 2 * loss.detach() / loss.detach().mean().clamp_min(1e-12)
        for part in (rise, slope):
            part.register_hook(lambda gradient: gradient * weight)
    return loss
