r"""Random intercepts: numbers whose mean differs from group to group, around any model of the rest.

With :math:`g(i)` the group of row i, and the numbers of a row as a vector,

.. math:: y_i = u_{g(i)} + r_i, \qquad u_g \sim \mathrm{N}(0, \Psi), \qquad r_i \sim \text{the model}

:math:`u` and :math:`\Psi` are drawn given completed rows, the model is fitted to the residuals :math:`r`, and so on by turns (Schafer
and Yucel, 2002, for a normal model). For u's draw the residuals are taken for normal, with one covariance matrix, around
a regression on the other columns. Positive columns are on the scale of their logarithm.

Semicontinuous columns have an intercept of their amounts, on the scale of the logarithm: zeros stay zeros, and whether a
cell is zero is the model's matter, as levels of discrete columns are. For u's draw a row with a zero has an amount that
nobody saw, drawn given the rest of its row: it says nothing of u.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import invwishart

from probgen.data.schema import Schema
from probgen.errors import DataError

__all__ = ["Intercepts", "between_groups", "first_intercepts"]

PRIOR_SHARE = 0.1  # of a column's variance, the scale of the prior of its groups' variance


@dataclass(frozen=True, eq=False)
class Intercepts:
    """One draw of the groups' intercepts.

    Attributes:
        columns: ``(C,)`` places of the columns that have intercepts, among those of the model.
        logs: ``(C,)`` which of them are logarithms.
        whole: ``(C,)`` which of them are counts.
        amounts: ``(C,)`` which of them are semicontinuous.
        labels: of the groups.
        u: ``(J, C)`` the intercepts.
        psi: ``(C, C)`` their covariance.
        within: ``(C, C)`` covariance of the residuals around their regression on the other columns.
        slopes: ``(Q, C)`` of this regression.
    """

    columns: np.ndarray
    logs: np.ndarray
    whole: np.ndarray
    amounts: np.ndarray
    labels: tuple[Any, ...]
    u: np.ndarray
    psi: np.ndarray
    within: np.ndarray
    slopes: np.ndarray

    def residuals(self, values: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Rows without their groups' intercepts, as the model sees them."""
        found = values.copy()
        left = self.scaled(values) - self.u[groups]
        found[:, self.columns] = self.with_zeros(
            values, np.where(self.amounts, np.exp(np.where(self.amounts, left, 0)), left)
        )
        return found

    def rows(self, residuals: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Rows from what the model drew."""
        found = residuals.copy()
        left = residuals[:, self.columns]
        positive = self.amounts & (left > 0)
        numbers = np.where(positive, np.log(np.where(positive, left, 1.0)), left) + self.u[groups]
        numbers = np.where(self.whole, np.round(numbers), numbers)
        powers = self.logs | self.amounts
        made = np.where(powers, np.exp(np.where(powers, numbers, 0.0)), numbers)
        found[:, self.columns] = self.with_zeros(residuals, made)
        return found

    def with_zeros(self, values: np.ndarray, made: np.ndarray) -> np.ndarray:
        """Zeros of semicontinuous columns, where they stand in ``values``, put back."""
        return np.where(self.amounts & (values[:, self.columns] == 0), 0.0, made)

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """``(N, C)``: the columns with intercepts, on their scales; NaN for amounts that are zero."""
        numbers = values[:, self.columns]
        numbers = np.where(self.amounts & (numbers == 0), np.nan, numbers)
        powers = self.logs | self.amounts
        return np.where(powers, np.log(np.where(powers, numbers, 1.0)), numbers)

    def completed(
        self, numbers: np.ndarray, others: np.ndarray, groups: np.ndarray, random: np.random.Generator
    ) -> np.ndarray:
        """``(N, C)`` with amounts that nobody saw drawn given the rest of their rows and the intercepts."""
        absent = np.isnan(numbers)
        if not absent.any():
            return numbers
        middle = others @ self.slopes if self.slopes.size else np.nanmean(numbers - self.u[groups], 0)
        left = numbers - middle - self.u[groups]
        for pattern in np.unique(absent[absent.any(1)], axis=0):
            rows = np.flatnonzero((absent == pattern).all(1))
            left[np.ix_(rows, pattern)] = normal_given(left[rows][:, ~pattern], self.within, pattern, random)
        return left + middle + self.u[groups]

    def drawn(self, values: np.ndarray, groups: np.ndarray, schema: Schema, random: np.random.Generator) -> Intercepts:
        """The next draw of everything, given completed rows."""
        others = design_matrix(values, schema, self.columns)
        numbers = self.completed(self.scaled(values), others, groups, random)
        count, width = others.shape[1], len(self.columns)
        inverse = np.linalg.pinv(others.T @ others)
        residuals = numbers - self.u[groups]
        slopes = inverse @ others.T @ residuals
        left = residuals - others @ slopes
        within = wishart(len(left) - count, left.T @ left, random)
        noise = random.normal(size=(count, width)) @ np.linalg.cholesky(within).T
        slopes = slopes + root(inverse) @ noise
        scale = PRIOR_SHARE * np.diag(numbers.var(0))
        psi = wishart(len(self.u) + width, self.u.T @ self.u + scale, random)
        return replace(self, psi=psi, within=within, slopes=slopes).with_groups(values, groups, schema, random)

    def with_groups(
        self, values: np.ndarray, groups: np.ndarray, schema: Schema, random: np.random.Generator
    ) -> Intercepts:
        """The next draw of the intercepts alone; amounts that nobody saw are integrated out."""
        left = self.scaled(values) - design_matrix(values, schema, self.columns) @ self.slopes
        precisions, sums = np.zeros((len(self.u), *self.psi.shape)), np.zeros_like(self.u)
        seen = ~np.isnan(left)
        for pattern in np.unique(seen, axis=0):
            rows = np.flatnonzero((seen == pattern).all(1))
            own = np.zeros_like(self.psi)
            own[np.ix_(pattern, pattern)] = np.linalg.inv(self.within[np.ix_(pattern, pattern)])
            precisions += np.bincount(groups[rows], minlength=len(self.u))[:, None, None] * own
            np.add.at(sums, groups[rows], np.nan_to_num(left[rows]) @ own)
        covariances = np.linalg.inv(precisions + np.linalg.inv(self.psi))
        means = np.einsum("jab,jb->ja", covariances, sums)
        noise = np.einsum("jab,jb->ja", np.linalg.cholesky(covariances), random.normal(size=self.u.shape))
        return replace(self, u=means + noise)

    def for_groups(self, labels: Sequence[Any], random: np.random.Generator) -> tuple[Intercepts, np.ndarray]:
        """The same with groups that were not seen before, drawn from their law; and which group each row belongs to."""
        fresh = [label for label in dict.fromkeys(labels) if label not in self.labels]
        u = random.multivariate_normal(np.zeros(len(self.psi)), self.psi, len(fresh)).reshape(-1, len(self.psi))
        found = replace(self, labels=(*self.labels, *fresh), u=np.concatenate([self.u, u]))
        place = {label: at for at, label in enumerate(found.labels)}
        return found, np.array([place[label] for label in labels], dtype=int)


def first_intercepts(
    values: np.ndarray, schema: Schema, labels: Sequence[Any], group: str = "group"
) -> tuple[Intercepts, np.ndarray]:
    """A start: shrunk means of the groups' known cells; and which group each row belongs to."""
    names = tuple(dict.fromkeys(labels))
    place = {label: at for at, label in enumerate(names)}
    groups = np.array([place[label] for label in labels], dtype=int)
    columns = np.array(
        [at for at in range(len(schema)) if between_groups(values[:, at], schema[at].kind, groups)], int
    )
    if not len(columns):
        raise DataError("groups: no column of numbers varies within the groups, so none has random intercepts.")
    for at, column in enumerate(schema):
        free = at in columns or column.is_discrete or varies(values[:, at], groups)
        if not free and np.isnan(values[:, at]).any():
            raise DataError(
                f"Column {column.name!r} is the same throughout each group of {group!r}, and unknown in some: a column of groups"
                " must be known. Complete it in a table with one row a group, or leave it out by exclude=."
            )
    logs = np.array([schema[int(at)].kind == "positive" for at in columns])
    whole = np.array([schema[int(at)].kind == "count" for at in columns])
    amounts = np.array([schema[int(at)].kind == "semicontinuous" for at in columns])
    empty = Intercepts(columns, logs, whole, amounts, names, *(np.zeros((0, 0)),) * 4)
    numbers = empty.scaled(values)
    spread = np.nanvar(numbers, 0)
    centred, known = numbers - np.nanmean(numbers, 0), ~np.isnan(numbers)
    sums, counts = np.zeros((len(names), len(columns))), np.zeros((len(names), len(columns)))
    np.add.at(sums, groups, np.where(known, centred, 0.0))
    np.add.at(counts, groups, known)
    u = sums / (counts + 4)
    return replace(empty, u=u, psi=np.diag(0.1 * spread), within=np.diag(spread), slopes=np.zeros((0, 0))), groups


def between_groups(column: np.ndarray, kind: str, groups: np.ndarray) -> bool:
    """Whether a column has intercepts: numbers (amounts) that differ within groups. Of a group's column all cells must be known."""
    if kind in ("binary", "categorical", "ordinal"):
        return False
    return varies(np.where(column == 0, np.nan, column) if kind == "semicontinuous" else column, groups)


def varies(column: np.ndarray, groups: np.ndarray) -> bool:
    """Whether known cells differ within a group."""
    known = ~np.isnan(column)
    low, high = np.full(groups.max() + 1, np.inf), np.full(groups.max() + 1, -np.inf)
    np.minimum.at(low, groups[known], column[known])
    np.maximum.at(high, groups[known], column[known])
    return bool((high > low).any())


def design_matrix(values: np.ndarray, schema: Schema, columns: np.ndarray) -> np.ndarray:
    """``(N, Q)``: one, indicators of levels, and numbers without intercepts."""
    parts = [np.ones((len(values), 1))]
    for at, column in enumerate(schema):
        if column.is_discrete:
            parts.append((values[:, [at]] == np.arange(1, column.cardinality)) * 1.0)
        elif at not in columns:
            parts.append(values[:, [at]])
    return np.column_stack(parts)


def normal_given(
    left: np.ndarray, covariance: np.ndarray, unknown: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """``(n, U)``: unknown coordinates of normal rows around zero, given the others ``(n, C - U)``."""
    own = covariance[np.ix_(unknown, unknown)]
    if unknown.all():
        return random.normal(size=(len(left), unknown.sum())) @ np.linalg.cholesky(own).T
    beside = covariance[np.ix_(unknown, ~unknown)]
    slopes = np.linalg.solve(covariance[np.ix_(~unknown, ~unknown)], beside.T)
    noise = random.normal(size=(len(left), unknown.sum())) @ np.linalg.cholesky(own - beside @ slopes).T
    return np.asarray(left @ slopes + noise)


def wishart(df: float, scale: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A covariance matrix from the inverse Wishart law."""
    return np.atleast_2d(invwishart.rvs(max(df, len(scale)), scale, random_state=random))


def root(matrix: np.ndarray) -> np.ndarray:
    """A square root of a matrix that may be singular."""
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(np.maximum(values, 0.0))
