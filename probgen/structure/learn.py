"""The graph of a table: one face of all ways of learning it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError, DataWarning
from probgen.structure.constraints import Constraints
from probgen.structure.graph import Graph
from probgen.structure.peers import directed, pgmpy_graph
from probgen.structure.scores import Score, check_edge, check_number, make_score, possible
from probgen.structure.search import Climb, Move, climb, promising, shaken
from probgen.structure.statistics import Statistics
from probgen.structure.trees import augmented_tree, check_class, tree
from probgen.whole import check_whole, is_whole

__all__ = ["Options", "Step", "Structure", "learn", "learn_structure", "settled_structure"]

Edge = tuple[str, str]
MANY = 64  # columns above which a column's parents are looked for among its candidates
CANDIDATES = 20


@dataclass(frozen=True)
class Step:
    """One move of a search and what it gained; less than nothing where a graph was shaken."""

    move: str
    parent: str
    child: str
    gain: float


@dataclass(frozen=True, repr=False)
class Structure:
    """A learnt graph.

    Attributes:
        graph: what :class:`~probgen.models.bayesian_network.BayesianNetwork` takes as its ``structure``.
        score: of the whole graph, in nats; larger is better.
        gains: for each edge, the score that is lost without it.
        method: how it was found.
        score_name: which score.
        history: the moves of the search, in order.
        undirected: edges whose direction the method left open and that were given one.
    """

    graph: Graph
    score: float
    gains: dict[Edge, float]
    method: str
    score_name: str
    history: tuple[Step, ...] = ()
    undirected: tuple[Edge, ...] = ()

    def __repr__(self) -> str:
        size = f"{len(self.graph)} columns, {len(self.graph.edges)} edges"
        return f"Structure({size}, {self.score_name} {self.score:.2f}, by {self.method})"

    def summary(self, edges: int = 20) -> str:
        """Text: the score, and the edges that gain most.

        Args:
            edges: how many at most.
        """
        listed = sorted(self.gains.items(), key=lambda entry: -entry[1])
        width = max((len(f"{a} -> {b}") for (a, b), _ in listed[:edges]), default=0)
        open_ends = set(self.undirected) | {(b, a) for a, b in self.undirected}
        lines = [repr(self), *([f"{'edge':<{width}}        gain"] if listed else ["no edges"])]
        for edge, gain in listed[:edges]:
            lines.append(
                f"{' -> '.join(map(str, edge)):<{width}}  {gain:10.2f}{'  direction open' if edge in open_ends else ''}"
            )
        return "\n".join([*lines, *([f"and {len(listed) - edges} more"] if len(listed) > edges else [])])


@dataclass(frozen=True)
class Options:
    """How a graph is looked for.

    Attributes:
        method: a name; see :func:`learn_structure`, as for score, target, start, seed and progress.
        constraints: on edges.
        restarts: how often a search starts again from a shaken copy of the best graph; of a single climb 0.
        perturbations: random moves that shake it; a quarter of its edges where it is None.
        tabu: of "tabu", graphs that are not visited again, and moves without a better graph before it ends.
        candidates: columns considered as parents of each, those that gain most alone and those of which it is one; all up
            to 64 columns, 20 above, where it is None.
        equivalent_sample_size: of bdeu and bds, the prior's weight in rows.
        significance: of the tests of pc and mmhc.
    """

    method: str = "hill_climbing"
    score: str = "auto"
    constraints: Constraints = field(default_factory=Constraints)
    target: str | None = None
    start: Graph | None = None
    seed: int = 0
    progress: bool = True
    restarts: int = 10
    perturbations: int | None = None
    tabu: int = 10
    candidates: int | None = None
    equivalent_sample_size: float = 10.0
    significance: float = 0.01

    @classmethod
    def of(cls, table: Table, required: Any, forbidden: Any, tiers: Any, max_parents: Any, **given: Any) -> Options:
        """Options from arguments, checked against each other and the table.

        Raises:
            CapabilityError, DataError: what cannot be done; the message says why.
        """
        wrong = sorted(set(given) - {entry.name for entry in fields(cls)})
        if wrong:
            raise CapabilityError(f"learn_structure has no option {wrong[0]!r}; there are {', '.join(SEARCH)}.")
        start = given.pop("start", None)
        made = cls(
            constraints=Constraints.of(required, forbidden, tiers, max_parents, table.names),
            start=None
            if start is None
            else Graph.of(start.graph if isinstance(start, Structure) else start, table.names),
            **given,
        )
        check_options(made, table)
        return made


SEARCH = ("restarts", "perturbations", "tabu", "candidates", "equivalent_sample_size", "significance")


@dataclass(frozen=True)
class Task:
    """A table, what is counted of it, its score, and what is wanted."""

    table: Table
    statistics: Statistics
    score: Score
    options: Options

    @property
    def names(self) -> tuple[str, ...]:
        return self.statistics.schema.names

    def target(self) -> int:
        """Place of the class."""
        name = self.options.target if self.options.target is not None else self.statistics.schema.target
        if name is None:
            raise CapabilityError(f"Method {self.options.method!r} needs a class: give target=... (a column's name).")
        return self.statistics.schema.index(name)


@dataclass(frozen=True)
class Learnt:
    """Edges ``(D, D)``, the moves that led there, and edges that had no direction."""

    edges: np.ndarray
    moves: tuple[Move, ...] = ()
    undirected: tuple[Edge, ...] = ()


# -- methods -----------------------------------------------------------------------------------------------------------
def by_hill_climbing(task: Task) -> Learnt:
    """Uphill until no move gains; then, if asked, from shaken copies of the best graph."""
    return by_climbing(task, patience=0, tabu=None)


def by_tabu(task: Task) -> Learnt:
    """Uphill, and on over worse graphs that were not visited lately (Glover, 1989)."""
    return by_climbing(task, patience=task.options.tabu, tabu=task.options.tabu)


def by_climbing(task: Task, patience: int, tabu: int | None) -> Learnt:
    options, score = task.options, task.score
    needed, allowed = options.constraints.needed(task.names), admitted(task)
    gains = score.gains(allowed)
    candidates = options.candidates or (CANDIDATES if len(task.names) > MANY else len(task.names))
    allowed &= promising(gains, needed, candidates)
    most = len(task.names) if options.constraints.max_parents is None else options.constraints.max_parents
    start = adjacency(task, options.start) if options.start is not None else np.zeros_like(allowed)
    with tqdm(desc=f"structure · {options.method}", disable=not options.progress, leave=False) as bar:
        state = Climb(score, allowed, needed, most, start, gains)
        found = climb(state, patience, tabu, bar=bar)
        best, moves, level = found.edges, found.moves, worth(score, found.edges)
        for number in range(options.restarts):
            random = np.random.default_rng([options.seed, number])
            state = Climb(score, allowed, needed, most, best, gains)
            steps = options.perturbations or max(3, int(best.sum()) // 4)
            before = tuple(shaken(state, steps, random))
            found = climb(state, patience, tabu, bar=bar)
            value = worth(score, found.edges)
            if value > level + 1e-6:
                best, moves, level = found.edges, moves + before + found.moves, value
    return Learnt(best, moves)


def by_chow_liu(task: Task) -> Learnt:
    root = None if task.options.target is None else task.target()
    return Learnt(tree(task.score, task.options.constraints, root))


def by_tan(task: Task) -> Learnt:
    return Learnt(augmented_tree(task.score, task.options.constraints, task.target()))


def by_naive_bayes(task: Task) -> Learnt:
    target, edges = task.target(), np.zeros((len(task.names), len(task.names)), dtype=bool)
    check_class(task.score, task.options.constraints, target)
    edges[target] = np.arange(len(edges)) != target
    return Learnt(edges)


def by_independence(task: Task) -> Learnt:
    return Learnt(np.zeros((len(task.names), len(task.names)), dtype=bool))


def by_pgmpy(task: Task) -> Learnt:
    options, places = task.options, np.argwhere(~possible(task.statistics)).tolist()
    impossible = frozenset((task.names[a], task.names[b]) for a, b in places if a != b)
    found = pgmpy_graph(
        task.table,
        options.method,
        options.score,
        options.constraints,
        options.target,
        options.equivalent_sample_size,
        options.significance,
        impossible,
    )
    graph = directed(found, options.constraints, impossible)
    return Learnt(adjacency(task, graph), undirected=tuple(sorted(found.undirected, key=str)))


METHODS: dict[str, Callable[[Task], Learnt]] = {
    "hill_climbing": by_hill_climbing,
    "tabu": by_tabu,
    "chow_liu": by_chow_liu,
    "tan": by_tan,
    "pc": by_pgmpy,
    "ges": by_pgmpy,
    "mmhc": by_pgmpy,
    "naive_bayes": by_naive_bayes,
    "independent": by_independence,
}
TREES = ("chow_liu", "tan")
CLIMBING = ("hill_climbing", "tabu")
FROM_ROWS = ("pc", "ges", "mmhc")  # by pgmpy, which does not know weights


# -- the face ----------------------------------------------------------------------------------------------------------
def learn_structure(
    table: Any,
    method: str = "hill_climbing",
    *,
    score: str = "auto",
    forbidden: Iterable[Edge] = (),
    required: Iterable[Edge] = (),
    tiers: Iterable[Iterable[str] | str] = (),
    max_parents: int | None = None,
    target: str | None = None,
    start: Any = None,
    seed: int = 0,
    progress: bool = True,
    **search: Any,
) -> Structure:
    """A directed acyclic graph over a table's columns: who depends directly on whom.

    Args:
        table: a table, with holes or without, with row weights or without, or anything that ``Table`` takes.
        method: "hill_climbing" and "tabu" search among all graphs; "chow_liu" is the best tree; "tan" a class above the
            best tree; "naive_bayes" a class above all; "independent" no edges; "pc", "ges" and "mmhc" are pgmpy's, for
            complete rows.
        score: "bic", "aic", "log_likelihood", and for discrete columns "bdeu", "bds", "k2". "auto" is the log likelihood
            for trees (so that they span all columns) and bic otherwise.
        forbidden: edges (parent, child) that there are not.
        required: edges (parent, child) that there are.
        tiers: groups of columns in the order of time; no edge runs back.
        max_parents: the most parents of a column.
        target: the class of "tan" and "naive_bayes" (the table's own where it is None); the root of "chow_liu".
        start: a graph from which a search starts; without edges where it is None.
        seed: of the restarts.
        progress: show a bar.
        **search: restarts, tabu, candidates and others of :class:`Options`.

    Raises:
        CapabilityError: an unknown method, score or column, constraints that contradict each other or that the method
            cannot keep, a table of a family that would not fit.
        DataError: fewer than two rows, a constant number, a column or a required edge that no row knows.

    Example:
        >>> table = Table({"rain": list("yynnynnn") * 9, "wet": list("yynnynny") * 9})
        >>> learn_structure(table, progress=False).graph.edges
        [('rain', 'wet')]
    """
    table = table if isinstance(table, Table) else Table(table)
    told = {"method": method, "score": score, "target": target, "start": start, "seed": seed, "progress": progress}
    options = Options.of(table, required, forbidden, tiers, max_parents, **told, **search)
    return learn(table, Statistics(table), options)


def settled_structure(source: Any, structure: Any, options: Mapping[str, Any], seed: int) -> dict[str, list[str]]:
    """The parents of every node: given, or learnt from the source by the method that is named (hill climbing by default).

    Raises:
        CapabilityError: no such method, or a source that is not in memory, from which nothing is learnt.
    """
    if structure is not None and not isinstance(structure, str):
        graph = Graph.of(structure.graph if isinstance(structure, Structure) else structure, source.schema.names)
        return {node: list(parents) for node, parents in graph.parents.items()}
    if not isinstance(source, Table):
        raise CapabilityError(
            "A structure is learnt from a table in memory; learn it from a part, pg.learn_structure(table), and give"
            " structure=..."
        )
    if options.get("hidden_nodes"):
        raise CapabilityError("Hidden nodes need a structure that says where they stand: structure={node: parents}.")
    progress = bool(options.get("progress", True))
    found = learn_structure(source, structure or "hill_climbing", seed=seed, progress=progress)
    return {node: list(parents) for node, parents in found.graph.parents.items()}


def learn(table: Table, statistics: Statistics, options: Options) -> Structure:
    """A graph from statistics that were counted already; the table is what they were counted from."""
    name = options.score
    if name == "auto":
        name = "log_likelihood" if options.method in TREES else "bic"
    score = make_score(name, statistics, options.equivalent_sample_size)
    task = Task(table, statistics, score, options)
    check_constraints(task)
    found = METHODS[options.method](task)
    graph = to_graph(task.names, found.edges)
    check_kept(task, graph)
    steps = tuple(Step(m.kind, task.names[m.parent], task.names[m.child], m.gain) for m in found.moves)
    gains = edge_gains(score, found.edges)
    return Structure(graph, worth(score, found.edges), gains, options.method, name, steps, found.undirected)


def admitted(task: Task) -> np.ndarray:
    """``(D, D)``: edges that the constraints and the kinds of columns admit; a column of one level needs none."""
    constant = np.array([column.is_discrete and column.cardinality == 1 for column in task.statistics.schema])
    useful = ~(constant[:, None] | constant) | task.options.constraints.needed(task.names)
    return task.options.constraints.allowed(task.names) & possible(task.statistics) & useful


def adjacency(task: Task, graph: Graph) -> np.ndarray:
    """``(D, D)``, True where the row is the parent of the column."""
    place = {name: at for at, name in enumerate(task.names)}
    found = np.zeros((len(place), len(place)), dtype=bool)
    for parent, child in graph.edges:
        found[place[parent], place[child]] = True
    return found


def to_graph(names: tuple[str, ...], edges: np.ndarray) -> Graph:
    return Graph({names[d]: [names[p] for p in np.nonzero(edges[:, d])[0]] for d in range(len(names))})


def parents_of(edges: np.ndarray, node: int) -> tuple[int, ...]:
    return tuple(np.nonzero(edges[:, node])[0].tolist())


def worth(score: Score, edges: np.ndarray) -> float:
    """Score of a graph."""
    families = sum(score.family(node, parents_of(edges, node)) for node in range(len(edges)))
    return score.base() + families + score.edge * int(edges.sum())


def edge_gains(score: Score, edges: np.ndarray) -> dict[Edge, float]:
    """What is lost without each edge."""
    names, found = score.statistics.schema.names, {}
    for parent, child in np.argwhere(edges).tolist():
        others = tuple(p for p in parents_of(edges, child) if p != parent)
        found[names[parent], names[child]] = score.gain(child, others, parent)
    return found


# -- checks ------------------------------------------------------------------------------------------------------------
def check_options(options: Options, table: Table) -> None:
    """Refuse what cannot be done, before anything is counted."""
    if options.method not in METHODS:
        raise CapabilityError(f"method must be one of {', '.join(METHODS)}; got {options.method!r}.")
    if options.method in CLIMBING and options.score == "log_likelihood" and options.constraints.max_parents is None:
        raise CapabilityError(
            "The log likelihood rises with every edge; give max_parents, or a score that counts parameters ('bic')."
        )
    for name in ("restarts", "tabu"):
        check_whole(name, getattr(options, name), 0)
    for name in ("candidates", "perturbations"):
        value = getattr(options, name)
        if value is not None and not is_whole(value, 1):
            raise CapabilityError(f"{name} must be a whole number from 1 up, or None; got {value!r}.")
    check_number("significance", options.significance, below=1.0)
    check_number("equivalent_sample_size", options.equivalent_sample_size)
    if options.target is not None:
        table.schema.index(options.target)
    if table.n_rows < 2:
        raise DataError(f"A graph needs at least 2 rows to be learnt from; the table has {table.n_rows}.")
    table.check_for_fit()


def check_constraints(task: Task) -> None:
    """Required edges and those of the start are possible for the columns' kinds, and some row knows both ends."""
    options, statistics = task.options, task.statistics
    kinds, allowed = possible(statistics), admitted(task)
    unseen = never_together(statistics)
    for parent, child in np.argwhere(options.constraints.needed(task.names)).tolist():
        check_edge(statistics, kinds, parent, child)
        if unseen[parent, child]:
            raise DataError(
                f"Edge {task.names[parent]} -> {task.names[child]} is required, and no row knows both columns."
            )
    if unseen.any():
        one, other = (task.names[d] for d in np.argwhere(unseen)[0])
        warnings.warn(
            f"No row knows both {one!r} and {other!r} ({int(unseen.sum()) // 2} such pairs); they get no edge.",
            DataWarning,
            stacklevel=4,
        )
    if options.start is not None:
        check_start(task, options.start, allowed & ~unseen)


def check_start(task: Task, start: Graph, allowed: np.ndarray) -> None:
    """The graph at the start is one that the search could have."""
    edges, most = adjacency(task, start), task.options.constraints.max_parents
    wrong = np.argwhere(edges & ~allowed)
    if len(wrong):
        parent, child = (task.names[d] for d in wrong[0])
        raise CapabilityError(
            f"The graph at the start has edge {parent} -> {child}, which the constraints, the kinds of these columns or"
            " their holes do not admit; take it away."
        )
    both = Graph.of(sorted({*start.edges, *task.options.constraints.required}, key=str), task.names)
    many = [name for name, parents in both.parents.items() if most is not None and len(parents) > most]
    if many:
        raise CapabilityError(f"At the start column {many[0]!r} has more than max_parents={most} parents.")


def never_together(statistics: Statistics) -> np.ndarray:
    """``(D, D)``: pairs of columns that no row knows."""
    hidden = np.nonzero(statistics.holes)[0]
    found = np.zeros((len(statistics.levels), len(statistics.levels)), dtype=bool)
    if len(hidden) > 1:
        known = statistics.present[:, hidden].astype(np.float32)
        found[np.ix_(hidden, hidden)] = known.T @ known == 0
    return found


def check_kept(task: Task, graph: Graph) -> None:
    """The constraints hold; pgmpy's methods do not promise it."""
    constraints = task.options.constraints
    broken = constraints.broken(graph.edges, task.statistics) if constraints else []
    most = constraints.max_parents
    broken += [f"{n!r} has {len(p)} parents" for n, p in graph.parents.items() if most is not None and len(p) > most]
    if broken and task.options.method in FROM_ROWS:
        warnings.warn(f"pgmpy's {task.options.method} does not keep: {'; '.join(broken)}.", DataWarning, stacklevel=4)
    elif broken:
        raise CapabilityError(
            f"The graph of method {task.options.method!r} does not keep the constraints: {'; '.join(broken)}. Use"
            " method='hill_climbing'."
        )
