r"""Densities whose values, samplers and entropies are known: along curves, twisted, bent, checked, and of ten columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, gammaln, logsumexp

__all__ = [
    "Along",
    "Banana",
    "Checkerboard",
    "Correlated",
    "Funnel",
    "Pinwheel",
    "Toy",
    "circle",
    "entropy_on_grid",
    "moon",
    "ring_point",
    "spiral",
]

PIECE = 20_000  # rows scored at once
STEP = 0.04  # between the points of a quadrature in the plane: half of the narrowest noise, enough for 1e-9

Curve = Callable[[np.ndarray], np.ndarray]  # times in [0, 1) to points (N, 2)


class Toy(ABC):
    """A density with everything known about it.

    Attributes:
        columns: D.
        reach: half the side of the square over which a density in the plane is integrated, where its entropy has no closed form.
        window: half the side of the square that pictures of it show.
    """

    columns: int = 2
    reach: float = 4.0
    window: float = 4.0

    @abstractmethod
    def draw(self, rows: int, rng: np.random.Generator) -> np.ndarray:
        """``(N, D)`` rows."""

    @abstractmethod
    def log_density(self, x: np.ndarray) -> np.ndarray:
        """``(N,)`` log densities of ``(N, D)`` points, in nats."""

    def entropy(self) -> float:
        """In nats; by the trapezoidal rule on a grid, whose error falls exponentially for a smooth density."""
        return entropy_on_grid(self, STEP)


def entropy_on_grid(density: Toy, step: float) -> float:
    """Minus the integral of p log p over the square that holds it, line by line."""
    line = np.arange(-density.reach, density.reach + step / 2, step)
    total = 0.0
    for part in np.array_split(line, max(1, len(line) ** 2 // PIECE)):
        across, down = np.meshgrid(part, line, indexing="ij")
        log_p = density.log_density(np.column_stack([across.ravel(), down.ravel()]))
        total -= float(np.sum(np.exp(log_p) * np.maximum(log_p, -800.0)))
    return total * step**2


# ---------------------------------------------------------------------------------------------------- along curves
@dataclass(frozen=True)
class Along(Toy):
    r"""A point of a curve (or one of some points), and normal noise: :math:`\sum_m w_m \mathcal N(x; c_m, s^2 I)`.

    A curve's integral is a quadrature over nodes that lie closer than the noise is wide, exact to rounding.

    Attributes:
        curves: each a function of times in [0, 1) to points ``(N, 2)``; as likely as one another.
        nodes: of the quadrature, a curve.
        noise: s.
        closed: curves that return to their beginning.
    """

    curves: tuple[Curve, ...]
    nodes: int
    noise: float
    closed: bool = False
    window: float = 4.0
    reach: float = 4.5

    def draw(self, rows: int, rng: np.random.Generator) -> np.ndarray:
        which, time = rng.integers(len(self.curves), size=rows), rng.random(rows)
        points = np.stack([curve(time) for curve in self.curves])[which, np.arange(rows)]
        return points + self.noise * rng.standard_normal((rows, 2))

    def log_density(self, x: np.ndarray) -> np.ndarray:
        centres, weights = self.quadrature()
        return np.concatenate([self.of_piece(x[i : i + PIECE], centres, weights) for i in range(0, len(x), PIECE)])

    def quadrature(self) -> tuple[np.ndarray, np.ndarray]:
        """Centres ``(M, 2)`` and log weights ``(M,)``: Gauss and Legendre's, equal ones where curves are closed."""
        at, weight = np.polynomial.legendre.leggauss(self.nodes)
        time, share = (at + 1) / 2, weight / 2
        if self.closed:
            time, share = np.arange(self.nodes) / self.nodes, np.full(self.nodes, 1 / self.nodes)
        many = len(self.curves)
        return np.concatenate([curve(time) for curve in self.curves]), np.tile(np.log(share / many), many)

    def of_piece(self, x: np.ndarray, centres: np.ndarray, weights: np.ndarray) -> np.ndarray:
        squares = (x**2).sum(1)[:, None] - 2 * x @ centres.T + (centres**2).sum(1)
        return logsumexp(weights - squares / (2 * self.noise**2), axis=1) - np.log(2 * np.pi * self.noise**2)


def moon(upper: bool) -> Curve:
    """A half circle: the upper one around the origin, the lower one around (1, 1/2)."""
    sign, across, down = (1, 0.0, 0.0) if upper else (-1, 1.0, 0.5)
    return lambda t: np.column_stack([across + sign * np.cos(np.pi * t), down + sign * np.sin(np.pi * t)])


def circle(radius: float) -> Curve:
    """All the way round."""
    return lambda t: radius * np.column_stack([np.cos(2 * np.pi * t), np.sin(2 * np.pi * t)])


def spiral(sign: int, turns: float = 1.5, radius: float = 3.0) -> Curve:
    """From near the middle outwards, as many rows in every stretch of the same length (about)."""

    def points(t: np.ndarray) -> np.ndarray:
        root = np.sqrt(0.02 + 0.98 * t)
        angle = 2 * np.pi * turns * root
        return sign * radius * root[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])

    return points


def ring_point(k: int) -> Curve:
    """One of eight places on a ring of radius 2."""
    place = 2 * np.array([np.cos(np.pi * k / 4), np.sin(np.pi * k / 4)])
    return lambda t: np.tile(place, (len(t), 1))


# ---------------------------------------------------------------------------------------------------------- others
class Pinwheel(Toy):
    """Five normal arms, each point turned about the origin by an angle that grows with its radius, which keeps areas."""

    arms, radius, long, wide, twist = 5, 1.9, 0.5, 0.14, 0.9
    reach, window = 5.5, 3.8

    def draw(self, rows: int, rng: np.random.Generator) -> np.ndarray:
        arm = rng.integers(self.arms, size=rows)
        straight = rng.standard_normal((rows, 2)) * [self.long, self.wide] + [self.radius, 0.0]
        return turned(turned(straight, 2 * np.pi * arm / self.arms), self.angle(straight))

    def angle(self, x: np.ndarray) -> np.ndarray:
        return self.twist * np.linalg.norm(x, axis=1)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        back = turned(x, -self.angle(x))
        z = [turned(back, np.full(len(x), -2 * np.pi * arm / self.arms)) for arm in range(self.arms)]
        squares = np.stack([((p - [self.radius, 0.0]) ** 2) @ [self.long**-2, self.wide**-2] for p in z])
        return logsumexp(-squares / 2, axis=0) - np.log(2 * np.pi * self.long * self.wide * self.arms)


def turned(x: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Each point turned about the origin."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.column_stack([cos * x[:, 0] - sin * x[:, 1], sin * x[:, 0] + cos * x[:, 1]])


class Checkerboard(Toy):
    """Uniform on eight of the sixteen unit squares of ``[-2, 2)``, no two of them side by side."""

    reach, window = 2.5, 2.5

    def draw(self, rows: int, rng: np.random.Generator) -> np.ndarray:
        column, pair = rng.integers(4, size=rows), rng.integers(2, size=rows)
        corner = np.column_stack([column, 2 * pair + column % 2]) - 2.0
        return corner + rng.random((rows, 2))

    def log_density(self, x: np.ndarray) -> np.ndarray:
        place = np.floor(x).astype(int)
        inside = ((place >= -2) & (place < 2)).all(1) & (place.sum(1) % 2 == 0)
        return np.where(inside, -np.log(8.0), -np.inf)

    def entropy(self) -> float:
        return float(np.log(8.0))


class Banana(Toy):
    """A normal number, and a second one whose mean is the square of the first."""

    wide, narrow, bend = 1.0, 0.25, 0.7

    def draw(self, rows: int, rng: np.random.Generator) -> np.ndarray:
        x, noise = self.wide * rng.standard_normal(rows), self.narrow * rng.standard_normal(rows)
        return np.column_stack([x, self.bend * x**2 - 1.0 + noise])

    def log_density(self, x: np.ndarray) -> np.ndarray:
        z = np.column_stack([x[:, 0] / self.wide, (x[:, 1] - self.bend * x[:, 0] ** 2 + 1.0) / self.narrow])
        return -0.5 * (z**2).sum(1) - np.log(2 * np.pi * self.wide * self.narrow)

    def entropy(self) -> float:
        return float(np.log(2 * np.pi * np.e * self.wide * self.narrow))


class Funnel(Toy):
    r"""A normal number v, and a second one with mean zero and log standard deviation v (after Neal, 2003)."""

    spread, shift = 0.6, -0.5

    def draw(self, rows: int, rng: np.random.Generator) -> np.ndarray:
        v = self.spread * rng.standard_normal(rows)
        return np.column_stack([v, np.exp(v + self.shift) * rng.standard_normal(rows)])

    def log_density(self, x: np.ndarray) -> np.ndarray:
        v, log_scale = x[:, 0] / self.spread, x[:, 0] + self.shift
        return -0.5 * (v**2 + (x[:, 1] * np.exp(-log_scale)) ** 2) - log_scale - np.log(2 * np.pi * self.spread)

    def entropy(self) -> float:
        return float(np.log(2 * np.pi * np.e * self.spread) + self.shift)


class Correlated(Toy):
    r"""Ten columns, normal or Student-t, with correlations :math:`0.8^{|i - j|}`.

    Attributes:
        degrees: of freedom of the Student-t distribution; None for the normal one.
    """

    columns, correlation = 10, 0.8

    def __init__(self, degrees: float | None = None) -> None:
        place = np.arange(self.columns)
        self.degrees = degrees
        self.root = np.linalg.cholesky(self.correlation ** np.abs(place[:, None] - place))

    @property
    def log_volume(self) -> float:
        """Half the log determinant of the correlations."""
        return float(np.log(np.diag(self.root)).sum())

    def draw(self, rows: int, rng: np.random.Generator) -> np.ndarray:
        z = rng.standard_normal((rows, self.columns)) @ self.root.T
        return z if self.degrees is None else z / np.sqrt(rng.chisquare(self.degrees, (rows, 1)) / self.degrees)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        squares = (np.linalg.solve(self.root, x.T) ** 2).sum(0)
        if self.degrees is None:
            return -0.5 * (squares + self.columns * np.log(2 * np.pi)) - self.log_volume
        half = (self.degrees + self.columns) / 2
        return self.log_factor() - half * np.log1p(squares / self.degrees)

    def log_factor(self) -> float:
        """Log of the Student-t density at its centre."""
        v, D = self.degrees or 0.0, self.columns
        return float(gammaln((v + D) / 2) - gammaln(v / 2) - D / 2 * np.log(v * np.pi) - self.log_volume)

    def entropy(self) -> float:
        """The closed form of Zografos and Nadarajah (2005) for Student-t's."""
        if self.degrees is None:
            return self.columns / 2 * np.log(2 * np.pi * np.e) + self.log_volume
        half = (self.degrees + self.columns) / 2
        return float(half * (digamma(half) - digamma(self.degrees / 2)) - self.log_factor())
