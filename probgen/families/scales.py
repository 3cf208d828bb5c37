"""On which scale each column is regressed, and counts as what: the choice under which regressions are likeliest.

A candidate is judged by normal regressions on main effects and squares, of the column itself for what it is drawn as, and of
all others for what it is read as; counts also by the regressions that draw them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from probgen.data.schema import Column, Schema
from probgen.errors import CapabilityError
from probgen.families.donors import MANNERS, fair_crps, given_by, neighbours, normal_crps
from probgen.families.readings import STEPS, Count, Line, Plain, Reading
from probgen.families.responses import CountResponse, OrderedLevels, Response

__all__ = ["Scales", "check_scales", "left_over"]

LOOKED_AT = 2000  # rows
OTHERS = 20  # columns whose regressions judge what a column is read as
BETTER = 2.0  # nats by which a logarithm has to be better
RIDGE = 1e-3  # share of the diagonal added to normal equations that only rank
ENOUGH, SURE = 40, 2.0  # known cells, and standard errors by which donors have to be better than noise
NORMAL = 9.21  # of Jarque and Bera's statistic
NUMBERS = ("real", "datetime", "positive", "bounded", "count", "semicontinuous")
LEAST = 1e-12  # of probabilities and variances
CHOICES = {
    "real": ("identity", "logarithm"),
    "positive": ("identity", "logarithm"),
    "count": ("identity", "logarithm", "counts", "levels"),
}


def check_scales(schema: Schema, scales: Any) -> None:
    """Refuse what is no choice."""
    if scales != "auto" and not isinstance(scales, dict):
        raise CapabilityError(f"scales must be 'auto' or a dictionary by column, got {scales!r}.")
    for name, scale in ({} if scales == "auto" else scales).items():
        kind = schema[name].kind
        if kind not in CHOICES:
            raise CapabilityError(f"scales[{name!r}]: only numbers without bounds have a choice, this one is {kind}.")
        if scale not in ("auto", *CHOICES[kind]):
            raise CapabilityError(f"scales[{name!r}] must be auto, {' or '.join(CHOICES[kind])}, got {scale!r}.")


class Scales:
    """The choice for all columns of a table.

    Args:
        columns: what they are.
        readings: of the columns; their scales are set.
        others: of every column, the slots of all other columns.
        told: "auto", or by column.
        matching: "auto", or one of ``MANNERS``.
        x, weights: the training rows.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        readings: Sequence[Reading],
        others: Sequence[Tensor],
        told: str | Mapping[str, str],
        matching: str,
        x: Tensor,
        weights: Tensor | None,
    ) -> None:
        self.columns, self.readings, self.others = columns, readings, others
        self.told = {} if isinstance(told, str) else told
        self.matching, self.x, self.weights = matching, x, weights
        self.some = x[torch.linspace(0, len(x) - 1, min(len(x), LOOKED_AT)).long()]

    def choose(self, origins: Tensor) -> None:
        """Set the scales of all columns that have a choice, one after the other, then whether numbers are matched."""
        for at, reading in enumerate(self.readings):
            if not isinstance(reading, Plain):
                continue
            reading.origin, reading.own.origin = origins[at].clone(), origins[at].clone()
            told = self.told.get(self.columns[at].name, "auto")
            if isinstance(reading, Count):
                self.choose_form(at, reading, told)
            elif self.has_choice(at, told):
                self.choose_line(at, reading.own, told, self.own_density)
            if self.has_choice(at, told):
                self.choose_line(at, reading, told, self.density_of_others)
            reading.learn(self.x[:, at], self.weights)
        for at, reading in enumerate(self.readings):
            if reading.response.column.kind in NUMBERS and not (isinstance(reading, Count) and reading.form != 1):
                reading.response.manner = torch.tensor(float(self.manner(at)))

    def manner(self, at: int) -> int:
        """How donors give, if at all: as what leaves known cells the least surprising, by their CRPS.

        Residuals that are not normal are taken from donors in any case: a share below some value depends on their shape more
        than a CRPS tells.
        """
        if self.matching != "auto":
            return MANNERS.index(self.matching)
        reading, known = self.readings[at].response, self.some[:, at]
        rows = reading.gives(known)
        if int(rows.sum()) < ENOUGH:
            return 0
        z, y = self.mains(self.some[rows], at), reading.standardised(known[rows])
        away = left_out(z, y)
        mean, regressors = (y - away)[None], z[None, :, 1 : 1 + len(self.others[at])]
        places = torch.linspace(0, 1, len(y))[None]  # rows with the same expectation are spread among each other
        near = neighbours(mean, regressors, mean, regressors, places, self_too=False)
        normal = normal_crps(away, away.square().mean().sqrt().clamp_min(LEAST))
        residuals, values = (fair_crps(given_by(near, mean, mean, y[None], manner)[0], y) for manner in (1, 2))
        best, score = (1, residuals) if surely_less(residuals, values) else (2, values)
        return best if surely_less(score, normal) else int(not looks_normal(away))

    def has_choice(self, at: int, told: str) -> bool:
        """Whether there is a logarithm; where it was asked for and there is none, that is an error."""
        reading, known = self.readings[at], self.x[~self.x[:, at].isnan(), at]
        assert isinstance(reading, Line)
        able = reading.column.kind in CHOICES and bool((known - reading.origin + reading.more > 0).all())
        if told == "logarithm" and not able:
            raise CapabilityError(
                f"scales[{reading.column.name!r}]: there is no logarithm, some cells are not above zero."
            )
        return able

    def choose_line(self, at: int, line: Line, told: str, density: Callable[[int], float]) -> None:
        """As it is, or by the logarithm."""
        if told in ("identity", "logarithm"):
            self.read_as(at, line, float(told == "logarithm"))
            return
        found = []
        for logarithm in (0.0, 1.0):
            self.read_as(at, line, logarithm)
            found.append(density(at))
        better = 0.0 if line.column.kind == "positive" else BETTER
        self.read_as(at, line, float(found[1] > found[0] + better))

    def read_as(self, at: int, line: Line, logarithm: float) -> None:
        """Set one scale."""
        line.logarithm = torch.tensor(logarithm)
        line.learn(self.x[:, at], self.weights)

    def choose_form(self, at: int, reading: Count, told: str) -> None:
        """Counts, rounded numbers on one of two scales, or steps."""
        rows = ~self.some[:, at].isnan()
        z, y = self.mains(self.some[rows], at), self.some[rows, at]
        forms: dict[str, Callable[[], float]] = {
            "counts": partial(of_regression, CountResponse(reading, z.shape[1] - 1, 0), z, y),
            "identity": partial(self.rounded, at, reading, 0.0, z, y),
            "logarithm": partial(self.rounded, at, reading, 1.0, z, y),
        }
        if 1 < reading.most - reading.least < STEPS:
            forms["levels"] = partial(of_levels, OrderedLevels(reading, z.shape[1] - 1, 0), z, y)
        found = {name: forms[name]() - BETTER * (name == "logarithm") for name in forms if told == "auto"}
        best = max(found, key=found.__getitem__) if found else told
        if best not in forms:
            raise CapabilityError(
                f"scales[{reading.column.name!r}]: 'levels' is for counts of at most {STEPS} values one after the other,"
                f" these go from {reading.least:.0f} to {reading.most:.0f}."
            )
        reading.form = torch.tensor({"counts": 0.0, "levels": 2.0}.get(best, 1.0))
        self.read_as(at, reading.own, float(best == "logarithm"))

    # -- densities ---------------------------------------------------------------------------------------------
    def mains(self, x: Tensor, at: int) -> Tensor:
        """``(N, P)``: a constant, main effects and squares; 0, the mean, where unknown."""
        read = torch.cat([reading(cells) for reading, cells in zip(self.readings, x.unbind(1), strict=True)], -1)
        main = read.nan_to_num()[:, self.others[at]]
        return torch.cat([torch.ones(len(x), 1), main, main.square()], 1)

    def own_density(self, at: int) -> float:
        """Log density of a column under a regression of it."""
        rows = ~self.some[:, at].isnan()
        line = self.readings[at].response
        assert isinstance(line, Line)
        z, y = self.mains(self.some[rows], at), line.raw(self.some[rows, at])[:, 0]
        return gaussian(left_over(z, y)) - float(line.logarithm * y.sum())

    def density_of_others(self, at: int) -> float:
        """Log density of other columns, as they are drawn, under regressions."""
        others = [other for other in range(len(self.readings)) if other != at]
        total = 0.0
        for place in torch.linspace(0, len(others) - 1, min(len(others), OTHERS)).long().unique().tolist():
            other, reading = others[place], self.readings[others[place]]
            rows = ~self.some[:, other].isnan()
            z, cells = self.mains(self.some[rows], other), self.some[rows, other]
            responses = reading.own.standardised(cells)[:, None] if isinstance(reading, Plain) else reading(cells)
            total += sum(gaussian(left_over(z, y)) for y in responses.unbind(-1) if bool(y.any()))
        return total

    def rounded(self, at: int, reading: Count, logarithm: float, z: Tensor, y: Tensor) -> float:
        """Log probability of counts as rounded draws of a normal regression."""
        line = reading.own
        self.read_as(at, line, logarithm)
        u = line.raw(y)[:, 0]
        away = left_over(z, u)
        middle, spread = u - away, away.square().mean().sqrt().clamp_min(1e-3)
        edge = lambda x: torch.special.ndtr((line.raw(x)[:, 0] - middle) / spread)  # noqa: E731
        below = torch.where(y < 0.5, 0.0, edge(y - 0.5))
        return float((edge(y + 0.5) - below).clamp_min(LEAST).log().sum())


def looks_normal(away: Tensor) -> bool:
    """By skewness and kurtosis (Jarque and Bera, 1987), at a level of one in a hundred."""
    z = (away - away.mean()) / away.std(correction=0).clamp_min(LEAST)
    skewness, excess = (z**3).mean(), (z**4).mean() - 3
    return bool(len(z) / 6 * (skewness.square() + excess.square() / 4) < NORMAL)


def surely_less(score: Tensor, other: Tensor) -> bool:
    """Whether one score is smaller on average, by more than its differences leave open."""
    apart = other - score
    return bool(apart.mean() * len(apart) ** 0.5 > SURE * apart.std().clamp_min(LEAST))


def of_regression(response: Response, z: Tensor, y: Tensor) -> float:
    """Log probability of counts under the mode of the one regression that draws them."""
    ((name, _, design, seen),) = response.pieces(z[None], y)
    part = response.parts[name]
    return float(part.log_density(part.mode(design, seen), design, seen).sum())  # type: ignore[attr-defined]


def of_levels(response: OrderedLevels, z: Tensor, y: Tensor) -> float:
    """The same of levels, with half the logarithm of the rows taken off for every step beyond the second."""
    return of_regression(response, z, y) - (response.count - 2) / 2 * math.log(len(y))


def gaussian(away: Tensor) -> float:
    """Largest log density of residuals, up to a constant."""
    return -float(len(away) / 2 * away.square().mean().clamp_min(LEAST).log())


def left_out(z: Tensor, y: Tensor) -> Tensor:
    """What each y differs by from what the other rows expect of it."""
    gram = z.mT @ z
    root = torch.linalg.cholesky(gram + torch.diag(RIDGE * gram.diagonal() + 1e-9))
    inside = torch.linalg.solve_triangular(root, z.mT, upper=False)
    return (y - inside.mT @ (inside @ y)) / (1 - inside.square().sum(0)).clamp_min(1e-3)


def left_over(z: Tensor, y: Tensor) -> Tensor:
    """Residuals of y from regressors ``(N, P)``."""
    gram = z.mT @ z
    gram = gram + torch.diag(RIDGE * gram.diagonal() + 1e-9)
    return y - z @ torch.cholesky_solve((z.mT @ y)[:, None], torch.linalg.cholesky(gram))[:, 0]
