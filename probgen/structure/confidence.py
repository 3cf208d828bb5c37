"""How sure an edge is: in how many graphs, learnt from resampled rows, it stands (Friedman, Goldszmidt and Wyner, 1999)."""

from __future__ import annotations

import multiprocessing
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.structure.constraints import Constraints
from probgen.structure.graph import Graph
from probgen.structure.learn import FROM_ROWS, Options, learn
from probgen.structure.partial import cpdag, is_acyclic
from probgen.structure.statistics import Statistics
from probgen.whole import check_whole

__all__ = ["EdgeConfidence", "edge_confidence"]


@dataclass(frozen=True, repr=False)
class EdgeConfidence:
    """Shares of resampled tables.

    Attributes:
        names: the columns.
        arrows: ``(D, D)``, share of the graphs with an edge from row to column.
        compelled: ``(D, D)``, share of those whose whole equivalence class has it in this direction.
        resamples: how many there were.
        constraints: that the graphs were to keep.
    """

    names: tuple[str, ...]
    arrows: np.ndarray
    compelled: np.ndarray
    resamples: int
    constraints: Constraints = field(default_factory=Constraints)

    @property
    def edges(self) -> np.ndarray:
        """``(D, D)``, symmetric: share of the graphs with an edge, whichever way."""
        return self.arrows + self.arrows.T

    @property
    def directions(self) -> np.ndarray:
        """``(D, D)``: of the graphs with an edge, the share from row to column; an edge that may run either way is half."""
        edges = self.edges
        loose = edges - self.compelled - self.compelled.T
        return np.divide(self.compelled + loose / 2, edges, out=np.zeros_like(edges), where=edges > 0)

    def threshold(self) -> float:
        """Where edges that stand by chance end (Scutari and Nagarajan, 2013).

        The share t of all pairs that are not edges is the one whose ideal distribution (t of the pairs with confidence 0,
        the others with 1) is nearest in L1 to what was found; the threshold is the t-quantile of the confidences.
        """
        return least_distance(np.array([self.edges[a, b] for a, b in combinations(range(len(self.names)), 2)]))

    def averaged(self, threshold: float | None = None) -> Graph:
        """The graph of all edges with more confidence than a threshold, in the direction most graphs have.

        Surer edges come first, required ones before all. One that would close a cycle is turned round, or left out where
        the constraints do not admit that.

        Args:
            threshold: that of :meth:`threshold` where it is None.

        Raises:
            CapabilityError: it does not lie between 0 and 1.
        """
        least = self.threshold() if threshold is None else threshold
        if not 0 <= least <= 1:
            raise CapabilityError(f"threshold must lie between 0 and 1, got {threshold!r}.")
        edges, directions, kept = self.edges, self.directions, list[tuple[str, str]]()
        allowed, needed = self.constraints.allowed(self.names), self.constraints.needed(self.names)
        pairs = [(a, b) for a, b in combinations(range(len(self.names)), 2) if edges[a, b] > least]
        for a, b in sorted(pairs, key=lambda pair: (not (needed | needed.T)[pair], -edges[pair], pair)):
            ahead = (directions[a, b], self.arrows[a, b]) >= (directions[b, a], self.arrows[b, a])
            for way in ((a, b), (b, a)) if ahead else ((b, a), (a, b)):
                edge = self.names[way[0]], self.names[way[1]]
                if allowed[way] and is_acyclic(self.names, [*kept, edge]):
                    kept.append(edge)
                    break
        return Graph.of(kept, self.names)

    def __repr__(self) -> str:
        found = self.averaged()
        return f"EdgeConfidence({self.resamples} resamples, {len(found.edges)} edges above {self.threshold():.2f})"

    def summary(self, edges: int = 20) -> str:
        """Text: the surest edges, each with its confidence and that of its direction."""
        shares, directions = self.edges, self.directions
        pairs = sorted(combinations(range(len(self.names)), 2), key=lambda pair: (-shares[pair], pair))
        lines = [repr(self)]
        for a, b in [pair for pair in pairs if shares[pair] > 0][:edges]:
            one, other = (a, b) if directions[a, b] >= directions[b, a] else (b, a)
            lines.append(
                f"{self.names[one]} -- {self.names[other]}  {shares[a, b]:.2f}"
                f"  ({self.names[one]} -> {self.names[other]} {directions[one, other]:.2f})"
            )
        return "\n".join(lines)


def edge_confidence(
    table: Any,
    method: str = "hill_climbing",
    resamples: int = 100,
    workers: int = 1,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> EdgeConfidence:
    """How sure the edges are that a method finds in a table.

    Args:
        table: as for :func:`learn_structure`.
        method: likewise.
        resamples: tables of as many rows, drawn with replacement.
        workers: processes; the result does not depend on their number.
        seed: of the resamples.
        progress: show a bar.
        **options: of :func:`learn_structure`; a search does not start again (``restarts=0``) unless it is told to.

    Raises:
        CapabilityError, DataError: as :func:`learn_structure`.

    Example:
        >>> table = Table({"rain": list("yynnynnn") * 9, "wet": list("yynnynny") * 9})
        >>> float(edge_confidence(table, resamples=20, progress=False).edges[0, 1])
        1.0
    """
    table = table if isinstance(table, Table) else Table(table)
    for name, value in (("resamples", resamples), ("workers", workers)):
        check_whole(name, value)
    made = make_options(table, method, options)
    arrows, compelled = np.zeros((2, table.n_columns, table.n_columns))
    place = {name: at for at, name in enumerate(table.names)}
    with closing(graphs(table, made, resamples, workers, seed)) as found:
        for edges, fixed in tqdm(found, total=resamples, desc="edge confidence", disable=not progress, leave=False):
            for parent, child in edges:
                arrows[place[parent], place[child]] += 1
            for parent, child in fixed:
                compelled[place[parent], place[child]] += 1
    return EdgeConfidence(table.names, arrows / resamples, compelled / resamples, resamples, made.constraints)


def make_options(table: Table, method: str, options: dict[str, Any]) -> Options:
    """The arguments of learn_structure as one object."""
    free: dict[str, Any] = {"required": (), "forbidden": (), "tiers": (), "max_parents": None, "restarts": 0}
    return Options.of(table, **{**free, **options, "method": method, "progress": False})


Found = tuple[list[tuple[str, str]], list[tuple[str, str]]]


def graphs(table: Table, options: Options, resamples: int, workers: int, seed: int) -> Generator[Found]:
    """The graph of each resample, in order."""
    if workers == 1:
        resampler = Resampler(table, options, seed)
        yield from map(resampler, range(resamples))
        return
    context = multiprocessing.get_context("spawn")
    plain = Table.from_codes(table.values, table.schema, table.weights, table.lengths)
    with ProcessPoolExecutor(workers, context, set_up, (plain, options, seed)) as pool:
        yield from pool.map(one_resample, range(resamples), chunksize=max(1, resamples // (4 * workers)))


class Resampler:
    """Draws rows again and learns their graph; each number has its own random stream."""

    def __init__(self, table: Table, options: Options, seed: int) -> None:
        self.table, self.options, self.seed = table, options, seed
        self.statistics = Statistics(table)

    def __call__(self, number: int) -> Found:
        random = np.random.default_rng([self.seed, number])
        options = replace(self.options, seed=int(random.integers(2**31)))
        if options.method in FROM_ROWS:
            drawn = self.table.take(np.sort(random.integers(len(self.table), size=len(self.table))))
            found = learn(drawn, Statistics(drawn), options)
        else:
            found = learn(self.table, self.statistics.resampled(random), options)
        return found.graph.edges, sorted(cpdag(found.graph).directed, key=str)


WORKER: dict[str, Resampler] = {}


def set_up(table: Table, options: Options, seed: int) -> None:
    WORKER["resampler"] = Resampler(table, options, seed)


def one_resample(number: int) -> Found:
    return WORKER["resampler"](number)


def least_distance(confidences: np.ndarray) -> float:
    """The threshold of :meth:`EdgeConfidence.threshold`, from the confidences of all pairs.

    Example:
        >>> float(least_distance(np.array([0.0460, 0.2242, 0.3921, 0.7689, 0.8935, 0.9439])))  # the paper's
        0.3921
    """
    if len(confidences) == 0:
        return 0.0
    ordered = np.sort(confidences)
    share = np.arange(1, len(ordered) + 1) / len(ordered)  # the distribution function at and after each
    edges = np.concatenate([[0.0], ordered, [1.0]])
    heights, widths = np.concatenate([[0.0], share]), np.diff(edges)
    distances = [float((np.abs(heights - level) * widths).sum()) for level in heights]
    best = int(np.argmin(distances))
    return float(ordered[best - 1]) if best else 0.0
