r"""Densities by the ordinary differential equation that diffuses as a process does (Chen et al., 2018; Song et al., 2021).

.. math::
    \frac{\mathrm d z}{\mathrm d t} = v(z, t), \qquad
    \log p_0(z_0) = \log p_1(z_1) + \int_0^1 \nabla \cdot v(z_t, t)\, \mathrm d t

The divergence is the exact trace of the Jacobian where rows are short, else Hutchinson's estimate by random signs, the same along a row's whole path.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["Velocity", "flow_log_prob", "flow_to"]

Velocity = Callable[[Tensor, Tensor], Tensor]  # z (..., F) and the time to dz/dt


def divergence(
    velocity: Velocity, z: Tensor, t: Tensor, counted: Tensor, probes: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The velocity and its divergence over the counted numbers, ``(..., F)`` and ``(...)``."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        v = velocity(z, t) * counted
        if probes is None:
            total, moving = z.detach().new_zeros(z.shape[:-1]), counted.flatten(0, -2).any(0)
            for at in torch.nonzero(moving)[:, 0].tolist():
                unit = torch.zeros_like(z)
                unit[..., at] = 1.0
                total = total + torch.autograd.grad(v, z, unit, retain_graph=True)[0][..., at]
            return v.detach(), total
        (pulled,) = torch.autograd.grad(v, z, probes * counted)
    return v.detach(), (pulled * probes * counted).sum(-1)


def flow_log_prob(
    velocity: Velocity,
    end: Callable[[Tensor], Tensor],
    z: Tensor,
    times: Tensor,
    counted: Tensor,
    probes: Tensor | None = None,
) -> Tensor:
    """``(...)``: log density of numbers ``(..., F)`` at the first time, by the rule of fourth order.

    Args:
        velocity: of the equation.
        end: log density at the last time.
        z: the numbers.
        times: from the first on.
        counted: mask of the numbers that move.
        probes: random signs, for an estimate of the divergence; the exact one where None.
    """
    total = z.new_zeros(z.shape[:-1])
    for now, then in pairwise(times.unbind()):
        step, stages, at, where = then - now, [], z, now
        for share in (0.5, 0.5, 1.0, None):
            stages.append(divergence(velocity, at, where, counted, probes))
            if share is not None:
                at, where = z + share * step * stages[-1][0], now + share * step
        weights = (1, 2, 2, 1)
        z = z + step / 6 * sum(w * v for w, (v, _) in zip(weights, stages, strict=True))
        total = total + step / 6 * sum(w * d for w, (_, d) in zip(weights, stages, strict=True))
    return end(z) + total


def flow_to(velocity: Velocity, z: Tensor, times: Tensor, counted: Tensor) -> Tensor:
    """Numbers moved along the equation from the first time to the last."""
    for now, then in pairwise(times.unbind()):
        step = then - now
        one = velocity(z, now) * counted
        z = z + step / 2 * (one + velocity(z + step * one, then) * counted)
    return z
