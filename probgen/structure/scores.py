r"""Scores of graphs that are sums over families, one a column: how well its parents explain it.

.. math:: \mathrm{score}(G) = \sum_d s(d, \mathrm{parents}_G(d))

Discrete columns have tables, continuous ones (positive on the log scale, bounded as log odds) a regression on their
continuous parents for each configuration of their discrete ones (Lauritzen and Wermuth, 1989). Counts (as log(1 + x))
and semicontinuous columns (zero or not, and the log of what is not zero) have discrete parents only and are nobody's
parents; a discrete column has discrete parents only. Scores of continuous columns leave out the Jacobian of their
scale, which no graph changes. A configuration with no more rows than coefficients says nothing about the child: its rows
have the child's overall Gaussian. No variance is taken to be less than the spacing of values can tell: that of the
column's values, and that of as many rows spread over all of its range.

Holes: a family is scored on the rows where all of it is known, and what its parents gain over no parents on the same
rows, scaled to all rows, is added to the score of the column alone. A search compares two families that differ by one
parent on the rows where both are known (:meth:`Score.gain`), so that it never compares different rows. Where nothing is
unknown the two are the same.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
from scipy.special import gammaln

from probgen.errors import CapabilityError
from probgen.structure.graph import Graph, check_known
from probgen.structure.statistics import FamilyStatistics, Statistics

__all__ = ["AIC", "BIC", "K2", "BDeu", "BDs", "LogLikelihood", "Score", "check_number", "make_score", "possible"]


class Score(ABC):
    """A score of families. Columns are named by their places, parents are tuples of places.

    Args:
        statistics: of the table.

    Attributes:
        edge: what each edge adds of itself (the logarithm of a prior over graphs).
        symmetric: True where graphs that say the same have the same score, so that one edge gains the same either way.
    """

    edge = 0.0
    symmetric = True

    def __init__(self, statistics: Statistics) -> None:
        self.statistics = statistics
        self._found: dict[tuple, float] = {}

    @abstractmethod
    def measure(self, node: int, family: FamilyStatistics) -> float:
        """Score of a family from its statistics, as if they were all rows there are."""

    def family(self, node: int, parents: Iterable[int]) -> float:
        """Score of a column given parents, scaled to all rows.

        Raises:
            CapabilityError: the family's table would not fit, or no row knows all of it.
        """
        key = (node, tuple(sorted(parents)))
        if key not in self._found:
            self._found[key] = self._family(*key)
        return self._found[key]

    def _family(self, node: int, parents: tuple[int, ...]) -> float:
        found = self.statistics.family(node, parents)
        if found.rows == 0:
            listed = ", ".join(repr(self.statistics.schema.names[d]) for d in (node, *parents))
            raise CapabilityError(f"No row knows all of {listed}; the data say nothing about this family.")
        value, scale = self.measure(node, found), self.statistics.total / found.rows
        if not parents or not self.statistics.holes[[node, *parents]].any():
            return scale * value
        return self.family(node, ()) + scale * (value - self.measure(node, found.alone()))

    def gain(self, node: int, parents: tuple[int, ...], extra: int) -> float:
        """What one more parent adds, on the rows where all are known; minus infinity where that cannot be said."""
        key = (node, tuple(sorted(parents)), extra)
        if key not in self._found:
            self._found[key] = self._gain(*key)
        return self._found[key]

    def _gain(self, node: int, parents: tuple[int, ...], extra: int) -> float:
        if not self.statistics.fits(node, (*parents, extra)):
            return -math.inf
        if not self.statistics.holes[[node, *parents, extra]].any():
            return self.family(node, (*parents, extra)) - self.family(node, parents) + self.edge
        found = self.statistics.family(node, (*parents, extra))
        if found.rows == 0:
            return -math.inf
        gained = self.measure(node, found) - self.measure(node, found.fewer()) + self.edge
        return gained * self.statistics.total / found.rows

    def gains(self, allowed: np.ndarray, given: int | None = None) -> np.ndarray:
        """``(D, D)``: what the edge from row to column gains in a graph without others; minus infinity where it may not be.

        Args:
            allowed: ``(D, D)``, the edges asked about.
            given: a parent that every column has already.
        """
        found, above = np.full(allowed.shape, -math.inf), () if given is None else (given,)
        for parent, child in np.argwhere(allowed).tolist():
            same = self.symmetric and parent > child and allowed[child, parent]
            found[parent, child] = found[child, parent] if same else self.gain(child, above, parent)
        return found

    def total(self, graph: Graph) -> float:
        """Score of a whole graph.

        Raises:
            CapabilityError: its nodes are not the columns, or an edge that no column of its kind can have.
        """
        names = self.statistics.schema.names
        check_known(graph.nodes, names, "The graph")
        places = {name: place for place, name in enumerate(names)}
        allowed = possible(self.statistics)
        score = self.base()
        for node, parents in graph.parents.items():
            for parent in parents:
                check_edge(self.statistics, allowed, places[parent], places[node])
            score += self.family(places[node], [places[p] for p in parents]) + self.edge * len(parents)
        return score

    def base(self) -> float:
        """What every graph over these columns has."""
        return 0.0


class LogLikelihood(Score):
    """Maximised log likelihood; it never falls when an edge is added."""

    def measure(self, node: int, family: FamilyStatistics) -> float:
        value, parameters = 0.0, 0
        if family.counts is not None:
            value += float(x_log_x(family.counts).sum() - x_log_x(family.counts.sum(0)).sum())
            parameters += (len(family.counts) - 1) * family.counts.shape[1]
        if family.moments is not None:
            value += gaussian_log_likelihood(family.moments, family.floor)
            value -= float(family.moments[:, 0, 0].sum()) * math.log(self.statistics.scale[node])
            parameters += len(family.moments) * family.moments.shape[1]
        return value - float(self.penalty(np.array(family.rows))) * parameters

    def penalty(self, rows: np.ndarray) -> np.ndarray:
        """Price of one parameter."""
        return 0.0 * rows

    def gains(self, allowed: np.ndarray, given: int | None = None) -> np.ndarray:
        """Pairs of discrete columns all at once."""
        discrete = np.nonzero(self.statistics.discrete)[0]
        block = np.ix_(discrete, discrete)
        others = allowed.copy()
        others[block] = False
        found = super().gains(others, given)
        gains, rows = self.pair_gains(discrete, given)
        scaled = np.where(rows > 0, gains * (self.statistics.total / np.maximum(rows, 1e-300)), -math.inf)
        found[block] = np.where(allowed[block], scaled, -math.inf)
        return found

    def pair_gains(self, columns: np.ndarray, given: int | None) -> tuple[np.ndarray, np.ndarray]:
        """``(D, D)`` gains of single edges between discrete columns on the rows of both, and the weight of those rows."""
        codes = None if given is None else self.statistics.codes[given]
        levels = 1 if given is None else self.statistics.levels[given]
        gains, counted = np.zeros((2, len(columns), len(columns)))
        for level in range(levels):
            tables = self.statistics.pairs(columns, None if codes is None else np.nonzero(codes == level)[0])
            for strip in tables.strips():
                likelihood, rows = pair_log_likelihoods(tables.strip(strip), tables.starts, strip)
                gains[strip.start : strip.stop] += likelihood
                counted[strip.start : strip.stop] += rows
        fewer = np.array([self.statistics.levels[column] - 1 for column in columns])
        return gains - levels * self.penalty(np.maximum(counted, 1.0)) * np.outer(fewer, fewer), counted


class AIC(LogLikelihood):
    """Log likelihood less the number of parameters (Akaike, 1974)."""

    def penalty(self, rows: np.ndarray) -> np.ndarray:
        return np.ones_like(rows)


class BIC(LogLikelihood):
    """Log likelihood less half the logarithm of the number of rows for each parameter (Schwarz, 1978)."""

    def penalty(self, rows: np.ndarray) -> np.ndarray:
        return 0.5 * np.log(rows)


class Dirichlet(Score):
    """Log evidence of discrete columns under Dirichlet priors.

    Raises:
        CapabilityError: a column is not discrete.
    """

    def __init__(self, statistics: Statistics) -> None:
        super().__init__(statistics)
        other = [c for c in statistics.schema if not c.is_discrete]
        if other:
            raise CapabilityError(
                f"Score {type(self).__name__} is for discrete columns; {other[0].name!r} is {other[0].kind}. Use"
                " score='bic', or make it a category."
            )

    @abstractmethod
    def pseudo_counts(self, counts: np.ndarray) -> tuple[float, float]:
        """Prior weight of one cell, and of one configuration of the parents that is seen."""

    def measure(self, node: int, family: FamilyStatistics) -> float:
        assert family.counts is not None
        cell, configuration = self.pseudo_counts(family.counts)
        cells, configurations = family.counts[family.counts > 0], family.counts.sum(0)
        configurations = configurations[configurations > 0]
        inside = gammaln(cells + cell).sum() - len(cells) * gammaln(cell)
        return float(
            inside - gammaln(configurations + configuration).sum() + len(configurations) * gammaln(configuration)
        )


class BDeu(Dirichlet):
    """Bayesian Dirichlet, the prior's weight spread evenly over a family's table (Heckerman et al., 1995).

    Args:
        statistics: of the table.
        equivalent_sample_size: the prior's weight, in rows.
    """

    def __init__(self, statistics: Statistics, equivalent_sample_size: float = 10.0) -> None:
        super().__init__(statistics)
        check_number("equivalent_sample_size", equivalent_sample_size)
        self.equivalent_sample_size = equivalent_sample_size

    def pseudo_counts(self, counts: np.ndarray) -> tuple[float, float]:
        return self.equivalent_sample_size / counts.size, self.equivalent_sample_size / counts.shape[1]


class BDs(BDeu):
    """BDeu with the prior's weight on the configurations that are seen, and the marginal uniform prior (Scutari, 2016).

    Where some configuration of the parents is never seen this is the paper's score and bnlearn's, not pgmpy's, which
    spreads the cells' weight over the unseen as well.
    """

    edge = -math.log(2.0)
    symmetric = False

    def pseudo_counts(self, counts: np.ndarray) -> tuple[float, float]:
        seen = max(int((counts.sum(0) > 0).sum()), 1)
        return self.equivalent_sample_size / (len(counts) * seen), self.equivalent_sample_size / seen

    def base(self) -> float:
        columns = len(self.statistics.levels)
        return -math.log(2.0) * columns * (columns - 1) / 2


class K2(Dirichlet):
    """Bayesian Dirichlet with one pseudo-count a cell (Cooper and Herskovits, 1992)."""

    symmetric = False

    def pseudo_counts(self, counts: np.ndarray) -> tuple[float, float]:
        return 1.0, float(len(counts))


SCORES: dict[str, type[Score]] = {
    "bic": BIC,
    "aic": AIC,
    "log_likelihood": LogLikelihood,
    "bdeu": BDeu,
    "bds": BDs,
    "k2": K2,
}


def make_score(name: str, statistics: Statistics, equivalent_sample_size: float = 10.0) -> Score:
    """A score by name: bic, aic, log_likelihood, bdeu, bds, k2; "auto" is bic.

    Raises:
        CapabilityError: there is no such score, or it is not for these columns.
    """
    name = "bic" if name == "auto" else name
    if not isinstance(name, str) or name not in SCORES:
        raise CapabilityError(f"score must be 'auto' or one of {', '.join(SCORES)}; got {name!r}.")
    kind = SCORES[name]
    return kind(statistics, equivalent_sample_size) if issubclass(kind, BDeu) else kind(statistics)


def check_number(name: str, value: Any, below: float = math.inf) -> None:
    """Refuse what is no number between zero and a bound."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < below:
        told = "positive, and finite" if below == math.inf else f"between 0 and {below:g}"
        raise CapabilityError(f"{name} must be a number, {told}; got {value!r}.")


def possible(statistics: Statistics) -> np.ndarray:
    """``(D, D)``: which edges the kinds of columns admit: from discrete ones to all, and among Gaussian ones."""
    found = statistics.discrete[:, None] | (statistics.gaussian[:, None] & statistics.gaussian)
    return found & ~np.eye(len(found), dtype=bool)


def check_edge(statistics: Statistics, allowed: np.ndarray, parent: int, child: int) -> None:
    """Refuse an edge that the kinds do not admit."""
    if not allowed[parent, child]:
        one, other = statistics.schema[parent], statistics.schema[child]
        raise CapabilityError(
            f"Edge {one.name!r} -> {other.name!r} cannot be: a {one.kind} column is no parent of a {other.kind} one"
            " (discrete columns have discrete parents, counts and semicontinuous columns too, and are parents of none)."
            " Turn it round, or make one a category."
        )


def x_log_x(counts: np.ndarray) -> np.ndarray:
    """N log n, elementwise; 0 for 0."""
    return counts * np.log(np.where(counts > 0, counts, 1.0))


def pair_log_likelihoods(table: np.ndarray, starts: np.ndarray, strip: range) -> tuple[np.ndarray, np.ndarray]:
    """``(strip, D)``: rows times mutual information, and rows, of pairs from a strip of contingency tables."""
    across, down = starts[:-1], starts[strip.start : strip.stop] - starts[strip.start]
    inside = np.add.reduceat(np.add.reduceat(x_log_x(table), down, 0), across, 1)
    of_rows, of_columns = np.add.reduceat(table, across, 1), np.add.reduceat(table, down, 0)
    rows = np.add.reduceat(of_rows, down, 0)
    outside = np.add.reduceat(x_log_x(of_rows), down, 0) + np.add.reduceat(x_log_x(of_columns), across, 1)
    return inside - outside + x_log_x(rows), rows


def gaussian_log_likelihood(moments: np.ndarray, floor: float) -> float:
    """Maximised log likelihood of one regression a configuration, from ``(Q, P + 2, P + 2)`` sums of products."""
    rows = moments[:, 0, 0]
    left = residuals(moments)
    scarce = rows <= moments.shape[1] - 1
    variance = np.maximum(left / np.where(scarce, 1.0, rows), floor)
    whole = moments.sum(0)
    mean = whole[0, -1] / max(whole[0, 0], 1e-300)
    overall = max(whole[-1, -1] / max(whole[0, 0], 1e-300) - mean**2, floor)
    about = moments[:, -1, -1] - 2 * mean * moments[:, 0, -1] + mean**2 * rows
    variance = np.where(scarce, overall, np.maximum(variance, overall / (rows + 1.0) ** 2))
    left = np.where(scarce, about, left)
    return float(-0.5 * (rows * np.log(2 * math.pi * variance) + left / variance).sum())


def residuals(moments: np.ndarray) -> np.ndarray:
    """``(Q,)``: sums of squares that the regressions on (1, parents) leave."""
    rows = np.maximum(moments[:, 0, 0], 1e-300)
    centred = moments[:, 1:, 1:] - moments[:, 1:, :1] * moments[:, :1, 1:] / rows[:, None, None]
    inside, across, own = centred[:, :-1, :-1], centred[:, :-1, -1:], centred[:, -1, -1]
    if inside.shape[1]:
        own = own - (across.mT @ np.linalg.pinv(inside, rcond=1e-12, hermitian=True) @ across)[:, 0, 0]
    return np.maximum(own, 0.0)
