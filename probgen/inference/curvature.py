r"""How sharply data (and prior) determine the parameters: information, standard errors, Laplace's approximation.

Second derivatives come from differentiating twice, confirmed along one direction by differences of exact gradients
over four points,

.. math:: f'(u) \approx \frac{8 (f(u + h) - f(u - h)) - (f(u + 2h) - f(u - 2h))}{12 h},

whose error is of the order :math:`h^4`. Where they do not agree (a custom backward pass that cannot be differentiated
again), and for chains, whose second derivatives walk through log space step by step, all of them are such differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from probgen.errors import FitError

__all__ = ["LogDensity", "delta_errors", "jacobian", "newton_gain"]

STEP = 1e-3
AGREE = 1e-5  # relative difference of second derivatives that are the same
FLAT = 1e-6  # information, in rows, below which a coordinate is free
SINGULAR = 1e-9  # eigenvalue, relative to one, below which a direction is free
NEWTON_STEPS = 50
CLOSE = 1e-6  # nats from a maximum
VISIBLE = 1e-6  # share of a parameter's change that comes from free directions


def along(function: Callable[[Tensor], Tensor], at: Tensor, move: Tensor) -> Tensor:
    """Derivative of a vector in one direction."""
    step = STEP * move
    near = function(at + step) - function(at - step)
    far = function(at + 2 * step) - function(at - 2 * step)
    return (8 * near - far) / (12 * STEP)


def jacobian(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """``(Q, P)``: derivatives of a vector by a vector, by differences."""
    return torch.stack([along(function, at, move) for move in torch.eye(len(at)).to(at)], 1)


@dataclass(frozen=True, eq=False)
class LogDensity:
    """Of the unconstrained parameters u ``(P,)`` given a whole table: a sum over its pieces.

    Attributes:
        terms: one function of u a piece; the prior is in the first.
        sequential: the terms are chains.
    """

    terms: Sequence[Callable[[Tensor], Tensor]]
    sequential: bool = False

    def value(self, at: Tensor) -> float:
        with torch.no_grad():
            return sum(float(term(at)) for term in self.terms)

    def gradient(self, at: Tensor) -> Tensor:
        """``(P,)``, one piece at a time."""
        leaf, total = at.detach().requires_grad_(), torch.zeros_like(at)
        with torch.enable_grad():
            for term in self.terms:
                total = total + torch.autograd.grad(term(leaf), leaf)[0]
        return total

    def information(self, at: Tensor) -> Tensor:
        """``(P, P)``: minus the Hessian."""
        hessian = None if self.sequential else self.confirmed_hessian(at)
        if hessian is None:
            hessian = jacobian(self.gradient, at)
        return -0.5 * (hessian + hessian.mT)

    def confirmed_hessian(self, at: Tensor) -> Tensor | None:
        """By differentiating twice; None where that is impossible or wrong."""
        try:
            found = self.hessian(at)
        except RuntimeError:  # a backward pass without a derivative of its own
            return None
        move = torch.cos(torch.arange(len(at)).to(at))
        wrong = (found @ move - along(self.gradient, at, move)).abs()
        return found if bool((wrong <= AGREE * (found.abs() @ move.abs()) + FLAT).all()) else None

    def hessian(self, at: Tensor) -> Tensor:
        leaf, total = at.detach().requires_grad_(), at.new_zeros(len(at), len(at))
        with torch.enable_grad():
            for term in self.terms:
                slope = torch.autograd.grad(term(leaf), leaf, create_graph=True)[0]
                rows = [torch.autograd.grad(each, leaf, retain_graph=True)[0] for each in slope]
                total = total + torch.stack(rows)
        return total

    def laplace(self, start: Tensor) -> float:
        r"""Log of the integral, near a point: :math:`f(\hat u) + \tfrac P2 \log 2\pi - \tfrac12 \log |-f''(\hat u)|`.

        Raises:
            FitError: there is no maximum near the start.
        """
        at, values = self.climb(start)
        return self.value(at) + 0.5 * len(at) * math.log(2 * math.pi) - 0.5 * float(values.log().sum())

    def climb(self, start: Tensor) -> tuple[Tensor, Tensor]:
        """The maximum near a point, and the eigenvalues of the information there, by damped Newton steps."""
        at, value = start, self.value(start)
        for _ in range(NEWTON_STEPS):
            values, vectors = torch.linalg.eigh(self.information(at))
            slope = self.gradient(at) @ vectors
            size = values.abs().clamp_min(FLAT)
            if bool((values > 0).all()) and float((slope.square() / size).sum()) < 2 * CLOSE:
                return at, values
            at, value = self.risen(at, value, vectors @ (slope / size))
        raise FitError("The log posterior has no maximum near the fit; Laplace's approximation does not apply.")

    def risen(self, at: Tensor, value: float, move: Tensor) -> tuple[Tensor, float]:
        """A point along a move that is higher, the farthest of the halved ones."""
        for _ in range(20):
            found = self.value(at + move)
            if found >= value:
                return at + move, found
            move = 0.5 * move
        return at, value


# ------------------------------------------------------------------------------------------------ standard errors
class Spectrum:
    """Directions of an information matrix, coordinates scaled to information one; free ones told apart."""

    def __init__(self, matrix: Tensor) -> None:
        diagonal = matrix.diagonal()
        live = diagonal > FLAT
        self.scale = torch.where(live, diagonal.clamp_min(FLAT).rsqrt(), 1.0)
        scaled = matrix * self.scale[:, None] * self.scale
        self.values, self.vectors = torch.linalg.eigh(torch.where(live[:, None] & live, scaled, 0.0))
        self.free = self.values < SINGULAR

    def turn(self, rows: Tensor) -> Tensor:
        """Derivatives ``(Q, P)`` by u as derivatives along the directions."""
        return (rows * self.scale) @ self.vectors


def delta_errors(information: Tensor, derivatives: Tensor) -> Tensor:
    """``(Q,)`` standard errors of functions with these derivatives ``(Q, P)``; NaN where they are not determined."""
    found = Spectrum(information)
    turned = found.turn(derivatives)
    variance = (turned[:, ~found.free].square() / found.values[~found.free]).sum(1)
    hidden = turned[:, found.free].norm(dim=1) > VISIBLE * turned.norm(dim=1)
    return torch.where(hidden, torch.nan, variance.sqrt())


def newton_gain(information: Tensor, slope: Tensor) -> float:
    """What one Newton step would add to the density, in nats: zero at a maximum."""
    found = Spectrum(information)
    turned = found.turn(slope[None])[0, ~found.free]
    return 0.5 * float((turned.square() / found.values[~found.free]).sum())
