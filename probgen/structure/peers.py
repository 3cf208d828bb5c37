"""pgmpy's ways of learning a graph, on our tables: PC, GES, hill climbing, MMHC, trees, and trying all graphs.

pgmpy is imported when it is first used, and kept quiet. It needs complete rows without weights. Columns are given to it
by number and levels by code, whatever their names; the names stand in the result.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from probgen.data.table import Table
from probgen.errors import CapabilityError, DataWarning, FitError
from probgen.structure.constraints import Constraints
from probgen.structure.graph import Graph
from probgen.structure.partial import PartialGraph, is_acyclic
from probgen.structure.statistics import GAUSSIAN, coordinates

__all__ = ["PEERS", "directed", "pgmpy_graph"]

SCORES = {
    "discrete": {
        "bic": "BIC",
        "aic": "AIC",
        "log_likelihood": "LogLikelihood",
        "bdeu": "BDeu",
        "bds": "BDs",
        "k2": "K2",
    },
    "continuous": {"bic": "BICGauss", "aic": "AICGauss", "log_likelihood": "LogLikelihoodGauss"},
    "mixed": {"bic": "BICCondGauss", "aic": "AICCondGauss", "log_likelihood": "LogLikelihoodCondGauss"},
}
Edge = tuple[str, str]
OLD_SCORES = "pgmpy.estimators.StructureScore"  # what the older methods take
OLD_NAMES = {"LogLikelihood": "LogLikeliHood"}
TESTS = {"discrete": "chi_square", "continuous": "pearsonr", "mixed": "pillai"}


@dataclass(frozen=True)
class Question:
    """What one of pgmpy's methods is asked."""

    frame: Any
    kind: str
    states: dict[str, list[int]]
    score: str
    equivalent_sample_size: float
    significance: float
    constraints: Constraints
    target: str | None
    names: dict[str, str]
    impossible: frozenset[Edge]

    def scoring(self, home: str = "pgmpy.structure_score") -> Any:
        """The score, as an object of one of pgmpy's two modules of scores."""
        name = SCORES[self.kind].get(self.score)
        if name is None:
            raise CapabilityError(f"pgmpy has no score {self.score!r} for {self.kind} columns; use 'bic'.")
        known = {"state_names": self.states} if self.kind != "continuous" else {}
        size = {"equivalent_sample_size": self.equivalent_sample_size} if name in ("BDeu", "BDs") else {}
        found = vars(importlib.import_module(home))
        return found[name if name in found else OLD_NAMES[name]](self.frame, **known, **size)

    def knowledge(self) -> Any:
        """The constraints, as pgmpy's object."""
        from pgmpy.causal_discovery import ExpertKnowledge

        code = {name: column for column, name in self.names.items()}
        barred = set(self.constraints.barred(list(self.names.values()))) if self.constraints else set()
        return ExpertKnowledge(
            forbidden_edges=[(code[a], code[b]) for a, b in sorted(barred | self.impossible, key=str)],
            required_edges=[(code[a], code[b]) for a, b in sorted(self.constraints.required)],
        )


def pc(question: Question) -> Any:
    from pgmpy.causal_discovery import PC

    search = PC(
        variant="stable",
        ci_test=TESTS[question.kind],
        significance_level=question.significance,
        expert_knowledge=question.knowledge(),
        n_jobs=1,
        show_progress=False,
    )
    return search.fit(question.frame).causal_graph_


def ges(question: Question) -> Any:
    from pgmpy.causal_discovery import GES

    return GES(scoring_method=question.scoring()).fit(question.frame).causal_graph_


def hill_climbing(question: Question) -> Any:
    from pgmpy.causal_discovery import HillClimbSearch

    search = HillClimbSearch(
        scoring_method=question.scoring(),
        max_indegree=question.constraints.max_parents,
        expert_knowledge=question.knowledge(),
        return_type="dag",
        show_progress=False,
    )
    return search.fit(question.frame).causal_graph_


def mmhc(question: Question) -> Any:
    from pgmpy.estimators import MmhcEstimator

    search = MmhcEstimator(question.frame, state_names=question.states)
    return search.estimate(scoring_method=question.scoring(OLD_SCORES), significance_level=question.significance)


def chow_liu(question: Question) -> Any:
    from pgmpy.estimators import TreeSearch

    root = question.frame.columns[0]
    return TreeSearch(question.frame, root_node=root, n_jobs=1).estimate("chow-liu", show_progress=False)


def tan(question: Question) -> Any:
    from pgmpy.estimators import TreeSearch

    code = {name: column for column, name in question.names.items()}
    target = code[question.target] if question.target in code else question.frame.columns[0]
    root = next(column for column in question.frame.columns if column != target)
    return TreeSearch(question.frame, root_node=root, n_jobs=1).estimate("tan", class_node=target, show_progress=False)


def exhaustive(question: Question) -> Any:
    from pgmpy.estimators import ExhaustiveSearch

    return ExhaustiveSearch(question.frame, scoring_method=question.scoring(OLD_SCORES)).estimate()


PEERS: dict[str, Callable[[Question], Any]] = {
    "pc": pc,
    "ges": ges,
    "hill_climbing": hill_climbing,
    "mmhc": mmhc,
    "chow_liu": chow_liu,
    "tan": tan,
    "exhaustive": exhaustive,
}
KNOWING = ("pc", "hill_climbing")  # take constraints
COUNTING = ("mmhc", "chow_liu", "tan")  # for discrete columns only
MOST_COLUMNS = 6  # of which all graphs are tried: 3.8 million


def pgmpy_graph(
    table: Table,
    method: str,
    score: str = "bic",
    constraints: Constraints | None = None,
    target: str | None = None,
    equivalent_sample_size: float = 10.0,
    significance: float = 0.01,
    impossible: frozenset[Edge] = frozenset(),
) -> PartialGraph:
    """What one of pgmpy's methods finds; edges without direction where it leaves them so.

    Args:
        table: complete rows without weights.
        method: pc, ges, hill_climbing, mmhc, chow_liu, tan or exhaustive.
        score: bic, aic, log_likelihood, bdeu, bds or k2, where the method has a score.
        constraints: for pc and hill_climbing.
        target: the class of tan.
        equivalent_sample_size: of bdeu and bds.
        significance: of the tests of pc and mmhc.
        impossible: edges that the columns' kinds do not admit; pc and hill_climbing are told.

    Raises:
        CapabilityError: holes, weights, kinds of columns, or constraints that the method cannot do.
        FitError: pgmpy fails.
    """
    if method not in PEERS:
        raise CapabilityError(f"pgmpy's methods are {', '.join(PEERS)}; got {method!r}.")
    constraints = constraints or Constraints()
    check_table(table, method)
    check_constraints(method, constraints)
    names = {f"x{place}": name for place, name in enumerate(table.names)}
    states = {f"x{p}": list(range(c.cardinality)) for p, c in enumerate(table.schema) if c.is_discrete}
    with quiet():
        frame = coded_frame(table)
        score = "bic" if score == "auto" else score
        question = Question(
            frame, kind_of(table), states, score, equivalent_sample_size, significance, constraints, target, names,
            impossible,
        )  # fmt: skip
        found = answer(method, question)
    return PartialGraph.of(table.names, [(names[a], names[b]) for a, b in found])


def answer(method: str, question: Question) -> list[tuple[str, str]]:
    """The arrows found; both where an edge has no direction."""
    try:
        return list(PEERS[method](question).edges())
    except CapabilityError:
        raise
    except Exception as error:
        raise FitError(f"pgmpy's {method} failed: {type(error).__name__}: {error}") from error


def directed(found: PartialGraph, constraints: Constraints, impossible: frozenset[Edge] = frozenset()) -> Graph:
    """A directed acyclic graph with the edges of a partial one, and the directions that the constraints ask for.

    Args:
        found: directed and undirected edges.
        constraints: on edges without direction.
        impossible: edges that the columns' kinds do not admit, those back from them being possible and in no cycle, as
            from discrete columns to continuous ones; they are turned round.

    Warns:
        DataWarning: an arrow is turned round, or the arrows cannot be kept together, as happens when tests disagree; as
            many as can be are.
    """
    barred = impossible | (set(constraints.barred(found.nodes)) if constraints else set())
    arrows = {(b, a) if (a, b) in barred else (a, b) for a, b in found.undirected if {(a, b), (b, a)} & barred}
    loose = frozenset((a, b) for a, b in found.undirected if not {(a, b), (b, a)} & arrows)
    asked = PartialGraph(found.nodes, turned(found.directed, impossible) | arrows, loose)
    try:
        return asked.extension()
    except CapabilityError as error:
        warnings.warn(
            f"{error} Some edges are given a direction in the order of the columns.", DataWarning, stacklevel=3
        )
    kept: list[tuple[str, str]] = []
    place = {node: at for at, node in enumerate(found.nodes)}
    for a, b in sorted(asked.directed, key=lambda e: (place[e[0]], place[e[1]])) + sorted(loose, key=str):
        kept.append((a, b) if is_acyclic(found.nodes, [*kept, (a, b)]) else (b, a))
    return Graph.of(kept, found.nodes)


def turned(edges: frozenset[Edge], impossible: frozenset[Edge]) -> frozenset[Edge]:
    """Edges, those round that the columns' kinds do not admit."""
    wrong = sorted(edges & impossible, key=str)
    if wrong:
        told = ", ".join(f"{a} -> {b}" for a, b in wrong)
        warnings.warn(
            f"pgmpy's graph has edges that columns of these kinds cannot have (discrete columns have discrete parents):"
            f" {told}. They are turned round.",
            DataWarning,
            stacklevel=4,
        )
    return frozenset((b, a) if (a, b) in impossible else (a, b) for a, b in edges)


def coded_frame(table: Table) -> Any:
    """Codes as categories and numbers on their Gaussian scale, in a data frame with columns x0, x1, ..."""
    frame = table.to_pandas().reset_index(drop=True)
    frame.columns = [f"x{place}" for place in range(table.n_columns)]
    for place, column in enumerate(table.schema):
        values, name = table.values[:, place], f"x{place}"
        if column.is_discrete:
            frame[name] = values.astype(int)
            frame[name] = frame[name].astype("category")
        else:
            frame[name] = coordinates(values, column)
    return frame


def kind_of(table: Table) -> str:
    discrete = [column.is_discrete for column in table.schema]
    return "discrete" if all(discrete) else "mixed" if any(discrete) else "continuous"


def check_table(table: Table, method: str) -> None:
    """Complete rows without weights, of kinds that pgmpy's method can use."""
    for column, holes in zip(table.schema, (~table.known).sum(0), strict=True):
        if holes:
            raise CapabilityError(
                f"pgmpy's {method} needs complete rows; column {column.name!r} has {holes} unknown cells. Drop those"
                " rows, or use method='hill_climbing', which takes holes."
            )
        if not column.is_discrete and (method in COUNTING or column.kind not in GAUSSIAN):
            raise CapabilityError(
                f"pgmpy's {method} cannot use {column.name!r}, which is {column.kind}. Drop it, make it a category, or"
                " use method='hill_climbing' or 'chow_liu'."
            )
    if table.weights is not None:
        raise CapabilityError(
            f"pgmpy's {method} knows no row weights; use method='hill_climbing', or drop the weights."
        )
    if method == "exhaustive" and table.n_columns > MOST_COLUMNS:
        raise CapabilityError(f"All graphs are tried for at most {MOST_COLUMNS} columns, not {table.n_columns}.")


def check_constraints(method: str, constraints: Constraints) -> None:
    """Only what the method can keep."""
    if constraints and method not in KNOWING:
        raise CapabilityError(f"pgmpy's {method} takes no constraints; use method='hill_climbing' or 'pc'.")
    if constraints.max_parents is not None and method == "pc":
        raise CapabilityError("pgmpy's pc takes no max_parents; use method='hill_climbing'.")


@contextmanager
def quiet() -> Iterator[None]:
    """Without pgmpy's warnings and log."""
    log = logging.getLogger("pgmpy")
    before, off = log.level, log.disabled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.disabled = True
        try:
            yield
        finally:
            log.disabled = off
            log.setLevel(before)
