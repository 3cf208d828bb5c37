r"""Numbers moved along an ordinary differential equation, :math:`\mathrm d z / \mathrm d t = v(z, t)`.

With steps that are given: Euler's rule, one call of the velocity a step, and Heun's, two. With steps that every row chooses: the pair of second and third order of
Bogacki and Shampine (1989), whose difference is kept below a tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from probgen.errors import CapabilityError
from probgen.families.probability_flow import Velocity, flow_to

__all__ = ["SOLVERS", "Solver", "adaptive", "euler", "solver_named"]

Solver = Callable[[Velocity, Tensor, Tensor, Tensor], Tensor]
TOLERANCE = 1e-3  # of a step, in the numbers' units
SMALLEST, LARGEST = 0.2, 5.0  # factors by which a step follows the one before
CALLS = 1000  # steps, after which a row stays where it is


def euler(velocity: Velocity, z: Tensor, times: Tensor, counted: Tensor) -> Tensor:
    """One call of the velocity a step."""
    for now, then in pairwise(times.unbind()):
        z = z + (then - now) * velocity(z, now) * counted
    return z


def adaptive(velocity: Velocity, z: Tensor, times: Tensor, counted: Tensor) -> Tensor:
    """From the first time to the last by steps that every row ``(..., F)`` chooses for itself, whatever rows are beside it."""
    end, way = times[-1], (times[-1] - times[0]).sign()
    now = times[0].expand(z.shape[:-1]).clone()
    step = (times[1] - times[0]).expand_as(now).clone()
    first = velocity(z, now) * counted
    for _ in range(CALLS):
        if bool(((end - now) * way <= 0).all()):
            break
        step = way * torch.minimum(step.abs(), (end - now).abs())
        h = step[..., None]
        second = velocity(z + h / 2 * first, now + step / 2) * counted
        third = velocity(z + h * 3 / 4 * second, now + step * 3 / 4) * counted
        ahead = z + h / 9 * (2 * first + 3 * second + 4 * third)
        fourth = velocity(ahead, now + step) * counted
        error = (h * (-5 / 72 * first + second / 12 + third / 9 - fourth / 8)).abs().amax(-1) / TOLERANCE
        good = error <= 1.0
        z, first = (torch.where(good[..., None], new, old) for new, old in ((ahead, z), (fourth, first)))
        now = torch.where(good, now + step, now)
        now = torch.where((end - now).abs() < 1e-6, end, now)
        step = step * (0.9 * error.clamp_min(1e-6) ** (-1 / 3)).clamp(SMALLEST, LARGEST)
    return z


SOLVERS: dict[str, Solver] = {"euler": euler, "heun": flow_to, "adaptive": adaptive}


def solver_named(name: str) -> Solver:
    """By name: "euler", "heun" or "adaptive"."""
    if name not in SOLVERS:
        raise CapabilityError(f"sampler must be one of {', '.join(map(repr, SOLVERS))}, got {name!r}.")
    return SOLVERS[name]
