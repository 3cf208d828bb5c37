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

__all__ = ["LogDensity", "Spectrum", "delta_errors", "jacobian"]

STEP = 1e-3
AGREE = 1e-5  # relative difference of second derivatives that are the same
FLAT = 1e-6  # information, in rows, below which a coordinate is free
SINGULAR = 1e-7  # eigenvalue, relative to one, below which a direction is free
VISIBLE = 1e-4  # share of a parameter's change that comes from free directions
NEWTON_STEPS = 25
CLOSE = 1e-12  # nats from a maximum
NEAR = 1e-3  # the same, where steps ran out
ROUNDING = 1e-13  # of the density


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

    def climb(self, start: Tensor) -> tuple[Tensor, Tensor]:
        """The maximum near a point, by damped Newton steps, and the information there; at most ``NEWTON_STEPS``."""
        at, value, information = start, self.value(start), self.information(start)
        for _ in range(NEWTON_STEPS):
            move, gain = Spectrum(information).newton(self.gradient(at))
            if gain < CLOSE:
                break
            at, value = self.higher(at, value, move)
            information = self.information(at)
        return at, information

    def higher(self, at: Tensor, value: float, move: Tensor) -> tuple[Tensor, float]:
        """The farthest point, among halves of a move, that is not lower but for rounding."""
        for _ in range(20):
            found = self.value(at + move)
            if found >= value - ROUNDING * abs(value):
                return at + move, found
            move = 0.5 * move
        return at, value

    def laplace(self, start: Tensor) -> float:
        r"""Log of the integral, near a point: :math:`f(\hat u) + \tfrac P2 \log 2\pi - \tfrac12 \log |-f''(\hat u)|`.

        Raises:
            FitError: there is no single maximum near the start.
        """
        at, information = self.climb(start)
        found = Spectrum(information)
        if bool(found.free.any()) or found.newton(self.gradient(at))[1] > NEAR:
            raise FitError(
                "The log posterior has no single maximum near the fit (parameters that can stand in for each other do"
                " this); Laplace's approximation does not apply. Use criterion 'bic' or 'held_out'."
            )
        log_det = float(found.values.log().sum() - 2 * found.scale.log().sum())
        return self.value(at) + 0.5 * len(at) * math.log(2 * math.pi) - 0.5 * log_det


class Spectrum:
    """Directions of an information matrix, coordinates scaled to information one; free ones told apart."""

    def __init__(self, information: Tensor) -> None:
        diagonal = information.diagonal()
        live = diagonal > FLAT
        self.scale = torch.where(live, diagonal.clamp_min(FLAT).rsqrt(), 1.0)
        scaled = information * self.scale[:, None] * self.scale
        self.values, self.vectors = torch.linalg.eigh(torch.where(live[:, None] & live, scaled, 0.0))
        self.free = self.values < SINGULAR

    def turn(self, rows: Tensor) -> Tensor:
        """Derivatives ``(Q, P)`` by u as derivatives along the directions."""
        return (rows * self.scale) @ self.vectors

    def newton(self, gradient: Tensor) -> tuple[Tensor, float]:
        """An uphill step, none along free directions, and what it should gain in nats."""
        bent = self.values.abs() >= SINGULAR
        slope = torch.where(bent, self.turn(gradient[None])[0], 0.0)
        move = slope / torch.where(bent, self.values.abs(), 1.0)
        return self.scale * (self.vectors @ move), 0.5 * float(slope @ move)


def delta_errors(information: Tensor, derivatives: Tensor) -> Tensor:
    """``(Q,)`` standard errors of functions with these derivatives ``(Q, P)``; NaN where they are not determined."""
    found = Spectrum(information)
    turned = found.turn(derivatives)
    variance = (turned[:, ~found.free].square() / found.values[~found.free]).sum(1)
    hidden = turned[:, found.free].norm(dim=1) > VISIBLE * turned.norm(dim=1)
    return torch.where(hidden, torch.nan, variance.sqrt())
