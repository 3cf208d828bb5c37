r"""What trains an energy: losses a row in which no normaliser appears.

With the score :math:`s = -\nabla_y E` of the continuous columns y,

.. math::
    \text{score matching:}\quad & \operatorname{tr} \nabla_y s + \tfrac12 \lVert s \rVert^2, \\
    \text{sliced:}\quad & \mathbb E_v\, v^\top (\nabla_y s)\, v + \tfrac12 \lVert s \rVert^2, \\
    \text{denoising:}\quad & \tfrac12 \mathbb E_\epsilon \lVert \sigma\, s(y + \sigma \epsilon) + \epsilon \rVert^2, \\
    \text{noise-contrastive:}\quad & -\log \frac{f(x)}{f(x) + \nu r(x)} - \nu\, \mathbb E_r \log \frac{\nu r(x')}{f(x') + \nu r(x')},
    \qquad f = e^{-E}

(Hyvärinen, 2005; Song, Garg, Shi and Ermon, 2019; Vincent, 2011, at many widths of noise at once Song and Ermon, 2019, by an energy that is told the width, Salimans and Ho, 2021;
Gutmann and Hyvärinen, 2010, where f learns to be normalised.) Maximum likelihood takes draws of the energy in place of its normaliser's gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from probgen.errors import CapabilityError
from probgen.families.denoising import SharedNoise
from probgen.families.energy_columns import Noised

__all__ = [
    "LIKELIHOOD",
    "OBJECTIVES",
    "Settings",
    "check_objective",
    "denoising",
    "exact_score",
    "noise_contrastive",
    "sliced",
]

LogDensity = Callable[..., Tensor]  # features (..., F), and what noise they have, to (...)


@dataclass(frozen=True)
class Settings:
    """Of the losses.

    Attributes:
        noise_scale: least standard deviation of noise, of standardised columns.
        largest_scale: and the largest.
        slices: directions a row.
        noise_rows: nu, rows of noise for one of the data.
    """

    noise_scale: float = 0.05
    largest_scale: float = 1.0
    slices: int = 1
    noise_rows: int = 4


def score_of(
    log_density: LogDensity, features: Tensor, part: slice, noise: Noised | None = None
) -> tuple[Tensor, Tensor]:
    """The score of the continuous features ``(..., G)``, itself with a gradient, and the leaf ``(..., G)`` it is by."""
    y = features[..., part].detach().requires_grad_()
    with torch.enable_grad():
        whole = torch.cat([features[..., : part.start], y, features[..., part.stop :]], -1)
        (score,) = torch.autograd.grad(log_density(whole, noise).sum(), y, create_graph=True)
    return score, y


def exact_score(log_density: LogDensity, features: Tensor, part: slice) -> Tensor:
    """``(B,)``: score matching with the trace of the score's Jacobian, one column after another."""
    score, y = score_of(log_density, features, part)
    with torch.enable_grad():
        rows = [torch.autograd.grad(score[:, at].sum(), y, create_graph=True)[0][:, at] for at in range(y.shape[-1])]
        return torch.stack(rows).sum(0) + 0.5 * score.square().sum(-1)


def sliced(log_density: LogDensity, features: Tensor, part: slice, slices: int = 1) -> Tensor:
    """``(B,)``: the trace by random directions, whose lengths add up to the exact one on average."""
    score, y = score_of(log_density, features.expand(slices, *features.shape), part)
    v = torch.randint(2, y.shape, device=y.device).to(y) * 2 - 1
    with torch.enable_grad():
        (along,) = torch.autograd.grad((score * v).sum(), y, create_graph=True)
        return ((along * v).sum(-1) + 0.5 * score.square().sum(-1)).mean(0)


def denoising(
    log_density: LogDensity, features: Tensor, part: slice, scale: Tensor, noise: Noised | None = None
) -> Tensor:
    """``(B,)``: noise of some widths ``(B,)`` taken away, both signs of it, which cancels most of the variance."""
    eps = torch.randn_like(features[..., part])
    eps = torch.stack([eps, -eps])
    noisy = features.expand(2, *features.shape).clone()
    noisy[..., part] += scale[:, None] * eps
    score, _ = score_of(log_density, noisy, part, noise)
    return 0.5 * (scale[:, None] * score + eps).square().sum(-1).mean(0)


def noise_contrastive(log_ratio: Tensor, of_noise: Tensor, noise_rows: int) -> Tensor:
    """``(B,)``: logistic loss of telling rows from noise.

    Args:
        log_ratio: ``(B,)``, log f - log r of rows.
        of_noise: ``(nu, B)``, of noise.
        noise_rows: nu.
    """
    shift = math.log(noise_rows)
    return softplus(shift - log_ratio) + softplus(of_noise - shift).sum(0)


# --------------------------------------------------------------------------------------------------- by name
def of_score(energy: Any, features: Tensor, settings: Settings) -> Tensor:  # noqa: ARG001
    return exact_score(energy.marginal, features, slice(*energy.units.split))


def of_slices(energy: Any, features: Tensor, settings: Settings) -> Tensor:
    return sliced(energy.marginal, features, slice(*energy.units.split), settings.slices)


def of_noise(energy: Any, features: Tensor, settings: Settings) -> Tensor:
    scale = features.new_full(features.shape[:1], settings.noise_scale)
    return denoising(energy.marginal, features, slice(*energy.units.split), scale)


def of_many_noises(energy: Any, features: Tensor, settings: Settings) -> Tensor:
    """The width is one number a row, evenly spread in its logarithm; level nought is the least."""
    level = (torch.arange(len(features)).to(features) + torch.rand((), device=features.device)) / len(features)
    level = level[torch.randperm(len(features), device=features.device)]
    scale = settings.noise_scale * (settings.largest_scale / settings.noise_scale) ** level
    told = Noised(level.expand(2, -1), (scale.square() - settings.noise_scale**2).clamp_min(0.0).expand(2, -1))
    return denoising(energy.marginal, features, slice(*energy.units.split), scale, told)


def of_contrast(energy: Any, features: Tensor, settings: Settings) -> Tensor:
    """Against draws of the energy's reference."""
    with torch.no_grad():
        unknown = torch.zeros_like(features, dtype=torch.bool)
        noise = energy.reference.draw(features, unknown, settings.noise_rows, SharedNoise())
    ratio = [energy.log_density(x) - energy.reference.log_prob(x) for x in (features, noise)]
    return noise_contrastive(ratio[0], ratio[1], settings.noise_rows)


OBJECTIVES: dict[str, Callable[[Any, Tensor, Settings], Tensor]] = {
    "noise_contrastive": of_contrast,
    "score_matching": of_score,
    "sliced_score_matching": of_slices,
    "denoising_score_matching": of_noise,
    "multiscale_denoising": of_many_noises,
}
LIKELIHOOD = ("contrastive_divergence", "annealed_likelihood")  # by draws of the energy


def check_objective(name: str, energy: Any) -> None:
    """Refuse names that there are not, and scores of columns that have no gradient.

    Raises:
        CapabilityError: names the column.
    """
    if name not in OBJECTIVES and name not in LIKELIHOOD:
        known = ", ".join(map(repr, (*OBJECTIVES, *LIKELIHOOD)))
        raise CapabilityError(f"objective must be one of {known}, got {name!r}.")
    if name in LIKELIHOOD or name == "noise_contrastive":
        return
    first, second = energy.units.split
    discrete = [at for at in range(energy.units.columns) if not first <= at < second]
    free = [at for at in discrete if not bool(energy.label[energy.units.owner == at].all())]
    if free or first == second:
        at = free[0] if free else discrete[0]
        raise CapabilityError(
            f"objective={name!r} needs gradients by every column, and column {energy.names[int(energy.units.places[at])]!r} has levels; use"
            " objective='noise_contrastive' or 'contrastive_divergence', drop the column, or make it the target."
        )
