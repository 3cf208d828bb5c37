r"""Ways from noise to a row, given what a network says of every stage between.

.. math::
    z_s \sim \mathcal N\Bigl(\frac{\alpha_s}{\alpha_t} \bigl(z_t - c\, \sigma_t \hat\epsilon\bigr),\ c\, \sigma_s^2\Bigr), \quad
    c = 1 - e^{\gamma_s - \gamma_t}, \qquad\qquad
    z_s = \alpha_s \hat y + \sigma_s \hat\epsilon, \qquad\qquad
    \frac{\mathrm d (z / \alpha)}{\mathrm d (\sigma / \alpha)} = \hat\epsilon

In this order: the chain itself ("ancestral"; Ho, Jain and Abbeel, 2020; Kingma et al., 2021), its limit without noise ("ddim"; Song, Meng and Ermon, 2021), and
the equation that both follow when steps are many, by Heun's rule ("heun"; Karras et al., 2022), which asks the network twice a step. "dpm" solves it to second order with
one call a step, from what the network said at the last two (DPM-Solver++; Lu et al., 2022):

.. math::
    z_s = \frac{\sigma_s}{\sigma_t} z + \alpha_s (1 - e^{-h}) \Bigl(\hat y_t + \frac{h}{2 h'} (\hat y_t - \hat y_{t'})\Bigr), \qquad
    h = \tfrac12 (\gamma_t - \gamma_s), \quad h' = \tfrac12 (\gamma_{t'} - \gamma_t)

The variance of the chain is that of a step at a known row. Where a network says how far off its guess is, squared, :math:`\hat v`, it is :math:`1 + (e^{\gamma_t - \gamma_s} - 1)\, \hat v` times as much (Nichol and Dhariwal, 2021; Bao et al., 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from probgen.errors import CapabilityError
from probgen.families.noise_schedule import amplitudes

__all__ = ["SAMPLERS", "Guess", "Predict", "dpm", "resampled", "sampler_named", "widening"]


class Guess(NamedTuple):
    """Of noisy numbers: the signal, the noise in them, and the mean square by which that noise is off, where it is known."""

    signal: Tensor
    noise: Tensor
    error: Tensor | None = None


Predict = Callable[[Tensor, Tensor], Guess]  # from z and gamma
Noises = Iterator[Tensor]
Sampler = Callable[[Predict, Tensor, Tensor, Noises], Tensor]


def widening(error: Tensor | None, now: Tensor, then: Tensor) -> Tensor:
    """The variance of a step over that of a step at a known row."""
    return torch.ones_like(now) if error is None else 1 + torch.expm1(now - then) * error


def ancestral(predict: Predict, z: Tensor, gammas: Tensor, noise: Noises) -> Tensor:
    """The chain, with new noise at every step."""
    for now, then in pairwise(gammas.unbind()):
        (alpha, sigma), (alpha_s, sigma_s) = amplitudes(now), amplitudes(then)
        share = -torch.expm1(then - now)
        _, eps, error = predict(z, now)
        spread = (share * widening(error, now, then)).sqrt() * sigma_s
        z = alpha_s / alpha * (z - share * sigma * eps) + spread * next(noise)
    return z


def ddim(predict: Predict, z: Tensor, gammas: Tensor, _none: Noises) -> Tensor:
    """Noise at the start only."""
    for now, then in pairwise(gammas.unbind()):
        alpha_s, sigma_s = amplitudes(then)
        signal, eps, _ = predict(z, now)
        z = alpha_s * signal + sigma_s * eps
    return z


def heun(predict: Predict, z: Tensor, gammas: Tensor, _none: Noises) -> Tensor:
    """Noise at the start only, steps of second order."""
    for now, then in pairwise(gammas.unbind()):
        (alpha, _), (alpha_s, _) = amplitudes(now), amplitudes(then)
        step = (then / 2).exp() - (now / 2).exp()
        eps = predict(z, now).noise
        ahead = z / alpha + step * eps
        after = predict(alpha_s * ahead, then).noise
        z = alpha_s * (z / alpha + step * (eps + after) / 2)
    return z


def dpm(predict: Predict, z: Tensor, gammas: Tensor, _none: Noises) -> Tensor:
    """Noise at the start only, steps of second order from two calls of which the first is the step's before."""
    before, width = None, gammas[0]
    for now, then in pairwise(gammas.unbind()):
        (_, sigma), (alpha_s, sigma_s) = amplitudes(now), amplitudes(then)
        signal = predict(z, now).signal
        h = (now - then) / 2
        ahead = signal if before is None else signal + h / (2 * width) * (signal - before)
        z = sigma_s / sigma * z - alpha_s * torch.expm1(-h) * ahead
        before, width = signal, h
    return z


def resampled(
    predict: Predict, z: Tensor, gammas: Tensor, noise: Noises, known: Tensor, held: Tensor, times: int
) -> Tensor:
    """The chain of whole rows, in which held numbers follow the noise that they are given, and every step is gone back and repeated so that the others agree with them (RePaint).

    Args:
        predict, z, gammas, noise: as of every sampler; three draws of noise a repetition.
        known: ``(B, F)`` numbers without noise.
        held: mask of those that are known.
        times: that each step is gone.
    """
    for now, then in pairwise(gammas.unbind()):
        (alpha, sigma), (alpha_s, sigma_s) = amplitudes(now), amplitudes(then)
        for repetition in range(times):
            if repetition:
                back = (sigma.square() - (alpha / alpha_s * sigma_s).square()).clamp_min(0.0).sqrt()
                z = alpha / alpha_s * z + back * next(noise)
            z = ancestral(predict, z, torch.stack([now, then]), noise)
            z = torch.where(held, alpha_s * known + sigma_s * next(noise), z)
    return z


SAMPLERS: dict[str, Sampler] = {"ancestral": ancestral, "ddim": ddim, "heun": heun, "dpm": dpm}


def sampler_named(name: str) -> Sampler:
    """By name: "ancestral", "ddim", "heun" or "dpm"."""
    if name not in SAMPLERS:
        raise CapabilityError(f"sampler must be one of 'auto', {', '.join(map(repr, SAMPLERS))}, got {name!r}.")
    return SAMPLERS[name]
