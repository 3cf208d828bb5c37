r"""How sharply data (and prior) determine the parameters: information, standard errors, Laplace's approximation.

Densities here are sums of terms, functions of the unconstrained parameters u: one term a piece of the table, the prior
in the first. Second derivatives are differences of exact gradients over four points,

.. math:: f'(u) \approx \frac{8 (f(u + h) - f(u - h)) - (f(u + 2h) - f(u - 2h))}{12 h},

with an error of the order :math:`h^4`. That is as accurate as differentiating twice and asks less of the program: the
gradients of chains and paths come from custom backward passes that cannot, or only slowly, be differentiated again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from probgen.errors import FitError

__all__ = ["delta_errors", "gradient", "information", "jacobian", "laplace", "newton_gain"]

Terms = Sequence[Callable[[Tensor], Tensor]]

STEP = 1e-3
FLAT = 1e-6  # information, in rows, below which a coordinate is free
SINGULAR = 1e-9  # eigenvalue, relative to one, below which a direction is free
VISIBLE = 1e-6  # share of a parameter's change that comes from free directions


def jacobian(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """``(Q, P)``: derivatives of a vector by a vector."""
    columns = []
    for move in STEP * torch.eye(len(at)).to(at):
        near = function(at + move) - function(at - move)
        far = function(at + 2 * move) - function(at - 2 * move)
        columns.append((8 * near - far) / (12 * STEP))
    return torch.stack(columns, 1)


def gradient(terms: Terms, at: Tensor) -> Tensor:
    """``(P,)``, one term at a time, so that only one piece of the table is differentiated at once."""
    leaf, total = at.detach().requires_grad_(), torch.zeros_like(at)
    with torch.enable_grad():
        for term in terms:
            total = total + torch.autograd.grad(term(leaf), leaf)[0]
    return total


def information(terms: Terms, at: Tensor) -> Tensor:
    """``(P, P)``: minus the Hessian of the sum of the terms."""
    hessian = jacobian(lambda u: gradient(terms, u), at)
    return -0.5 * (hessian + hessian.mT)


class Spectrum:
    """Directions of an information matrix, coordinates scaled to information one; free ones told apart."""

    def __init__(self, matrix: Tensor) -> None:
        diagonal = matrix.diagonal()
        live = diagonal > FLAT
        self.scale = torch.where(live, diagonal.clamp_min(FLAT).rsqrt(), 1.0)
        scaled = matrix * self.scale[:, None] * self.scale
        scaled = torch.where(live[:, None] & live, scaled, 0.0)
        self.values, self.vectors = torch.linalg.eigh(scaled)
        self.free = self.values < SINGULAR

    def turn(self, rows: Tensor) -> Tensor:
        """Derivatives ``(Q, P)`` by u as derivatives along the directions."""
        return (rows * self.scale) @ self.vectors


def delta_errors(matrix: Tensor, derivatives: Tensor) -> Tensor:
    """``(Q,)`` standard errors of functions with these derivatives ``(Q, P)``; NaN where they are not determined."""
    found = Spectrum(matrix)
    turned = found.turn(derivatives)
    variance = (turned[:, ~found.free].square() / found.values[~found.free]).sum(1)
    hidden = turned[:, found.free].norm(dim=1) > VISIBLE * turned.norm(dim=1)
    return torch.where(hidden, torch.nan, variance.sqrt())


def newton_gain(matrix: Tensor, slope: Tensor) -> float:
    """What one Newton step would add to the density, in nats: zero at a maximum."""
    found = Spectrum(matrix)
    turned = found.turn(slope[None])[0, ~found.free]
    return 0.5 * float((turned.square() / found.values[~found.free]).sum())


def laplace(terms: Terms, start: Tensor) -> float:
    r"""Log of the integral of the density: :math:`f(\hat u) + \tfrac P2 \log 2\pi - \tfrac12 \log |-f''(\hat u)|`.

    Raises:
        FitError: no maximum was found from this start.
    """
    at = climb(terms, start)
    matrix = information(terms, at)
    root, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):
        raise FitError("The log posterior has no maximum near the fit; Laplace's approximation does not apply.")
    with torch.no_grad():
        top = sum(float(term(at)) for term in terms)
    return top + 0.5 * len(at) * math.log(2 * math.pi) - float(root.diagonal().log().sum())


def climb(terms: Terms, start: Tensor) -> Tensor:
    """The maximum near a point, by L-BFGS."""
    at = start.detach().clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [at], max_iter=500, history_size=50, line_search_fn="strong_wolfe", tolerance_grad=1e-6, tolerance_change=1e-12
    )

    def closure() -> Tensor:
        with torch.no_grad():
            at.grad = -gradient(terms, at)
            return -torch.stack([term(at) for term in terms]).sum()

    optimiser.step(closure)
    return at.detach()
