r"""One question at a time to a network of tables: exact answers at the cost of a few dozen small products.

What cannot matter is left out first: nodes below everything that is asked or known, and nodes that the known ones
separate from those asked. What remains is summed out in the order of :func:`~probgen.inference.sum_product.make_plan`.
All marginals together come from one pass up and one pass down the tree of cliques (Lauritzen and Spiegelhalter, 1988;
Dechter, 1999). The steps depend only on which nodes are asked and known, not on their values: they are worked out once.

Probabilities are multiplied as they are, which is fast; where a product leaves the range of its numbers, as that of
hundreds of known children of one node does, the question is asked once more in logarithms.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from probgen.families.base import Symbol
from probgen.inference.sum_product import Plan, check_memory, make_plan

__all__ = ["TableNetwork"]

TINY = float(np.finfo(float).tiny)
OUT_OF_RANGE: Any = {"under": "raise", "over": "raise"}  # of floating-point products

Array = np.ndarray
Left = list[tuple[tuple[int, ...], Array]]  # tables with their dimensions


@dataclass(frozen=True)
class Route:
    """How one kind of question is answered.

    Attributes:
        factors: numbers of the tables that matter.
        cut: for each of them, the axes of known nodes and the scope that is left.
        extra: nodes whose soft evidence is a factor of its own.
        plan: of the sums.
        numbers: how many numbers are held at once, at most.
        products: for each step, makes the clique's table (or its logarithm) from what it joins.
        onto: for each step, the step that takes its message, or -1.
    """

    factors: tuple[int, ...]
    cut: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    extra: tuple[int, ...]
    plan: Plan
    numbers: int
    products: tuple[Callable[..., Array], ...]
    onto: tuple[int, ...]


class TableNetwork:
    """Discrete nodes, each with a table of probabilities given its parents.

    Args:
        names: of the nodes.
        sizes: their numbers of levels.
        parents: of each node, by number.
        tables: ``(*sizes of the parents, size)`` of each node.
    """

    def __init__(
        self, names: Sequence[str], sizes: Sequence[int], parents: Sequence[tuple[int, ...]], tables: Sequence[Array]
    ) -> None:
        self.names, self.sizes, self.parents = tuple(names), tuple(sizes), tuple(parents)
        self.tables = tuple(np.ascontiguousarray(table) for table in tables)
        self.number = {name: at for at, name in enumerate(names)}
        self.symbols = [Symbol(name, size) for name, size in zip(names, sizes, strict=True)]
        self.routes: dict[tuple, Route] = {}
        self.has_zeros = any(bool((table == 0).any()) for table in self.tables)  # something is impossible

    # -- questions ---------------------------------------------------------------------------------------------
    def joint(
        self,
        targets: tuple[int, ...],
        known: Mapping[int, int],
        soft: Mapping[int, Array],
        forced: frozenset[int] = frozenset(),
    ) -> Array:
        """``(*sizes of the targets)``: their probabilities given what is known; all zero where that is impossible."""
        route = self.route(targets, known, soft, forced, frozenset(targets))
        parts = self.parts(route, known, soft)
        try:
            with np.errstate(**OUT_OF_RANGE):
                table = merged(up(route, parts), targets, self.sizes)
        except FloatingPointError:
            table = scaled(merged(up_in_logs(route, parts), targets, self.sizes, operator.add))
        total = table.sum()
        return table / total if total > 0 else table

    def log_probability(
        self, known: Mapping[int, int], soft: Mapping[int, Array], forced: frozenset[int] = frozenset()
    ) -> float:
        """Log probability of what is known (and of soft evidence, as a likelihood)."""
        route = self.route((), known, soft, forced, frozenset())
        parts = self.parts(route, known, soft)
        try:
            with np.errstate(**OUT_OF_RANGE):
                scales: list[float] = []
                left = [float(value) for _, value in up(route, parts, scales)]
        except FloatingPointError:
            return float(sum(value for _, value in up_in_logs(route, parts)))
        return sum(map(math.log, left)) + sum(scales) if all(left) else -math.inf

    def marginals(
        self,
        targets: Iterable[int] | None,
        known: Mapping[int, int],
        soft: Mapping[int, Array],
        forced: frozenset[int] = frozenset(),
    ) -> dict[int, Array]:
        """Probabilities of each target alone; of all unknown nodes where none are named."""
        asked = tuple(
            sorted(set(range(len(self.names))) - set(known) if targets is None else set(targets) - set(known))
        )
        if len(asked) == 1:
            return {asked[0]: self.joint(asked, known, soft, forced)}
        route = self.route(asked, known, soft, forced, frozenset())
        parts = self.parts(route, known, soft)
        try:
            with np.errstate(**OUT_OF_RANGE):
                cliques: list[Array] = []
                messages: list[Array] = []
                up(route, parts, cliques=cliques, messages=messages)
        except FloatingPointError:
            cliques, messages = [], []
            up_in_logs(route, parts, cliques, messages)
        beliefs = down(route, cliques, messages)
        return {node: beliefs[node] for node in asked}

    # -- how they are answered ---------------------------------------------------------------------------------
    def route(
        self,
        asked: tuple[int, ...],
        known: Mapping[int, int],
        soft: Mapping[int, Array],
        forced: frozenset[int],
        kept: frozenset[int],
    ) -> Route:
        """Worked out once for every set of asked and known nodes."""
        key = (asked, frozenset(known), tuple(soft), forced, kept)
        if key not in self.routes:
            self.routes[key] = self.new_route(asked, frozenset(known), tuple(soft), forced, kept)
        return self.routes[key]

    def new_route(
        self,
        asked: tuple[int, ...],
        known: frozenset[int],
        soft: tuple[int, ...],
        forced: frozenset[int],
        kept: frozenset[int],
    ) -> Route:
        factors, extra = self.relevant(asked, known, soft, forced)
        cut = []
        for node in factors:
            scope = (*self.parents[node], node)
            cut.append((tuple(s for s in scope if s in known), tuple(s for s in scope if s not in known)))
        scopes = tuple((scope, False) for _, scope in cut) + tuple(((node,), False) for node in extra)
        plan = make_plan(scopes, self.sizes, 1, kept)
        dims = [scope for scope, _ in scopes] + [step.rest for step in plan.steps]
        products, onto = [], [-1] * len(plan.steps)
        for at, step in enumerate(plan.steps):
            products.append(multiplier([dims[n] for n in step.touching], step.clique, self.sizes))
            for n in step.touching:
                if n >= len(scopes):
                    onto[n - len(scopes)] = at
        numbers = most_numbers(plan, dims, self.sizes, down=not kept)
        check_memory(numbers * 8, plan, self.symbols)
        return Route(factors, tuple(cut), extra, plan, numbers, tuple(products), tuple(onto))

    def relevant(
        self, asked: tuple[int, ...], known: frozenset[int], soft: tuple[int, ...], forced: frozenset[int]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The tables, and the soft evidence, that the answer depends on."""
        needed: set[int] = set()
        left = [*asked, *known, *soft]
        while left:
            node = left.pop()
            if node not in needed:
                needed.add(node)
                if node not in forced:
                    left.extend(self.parents[node])
        tables = [node for node in sorted(needed) if node not in forced]
        open_soft = tuple(node for node in soft if node not in known)
        if set(asked) <= known:  # the probability of what is known itself
            return tuple(tables), open_soft
        scopes = [{s for s in (*self.parents[node], node) if s not in known} for node in tables]
        reached, before = set(asked), 0
        while len(reached) > before:
            before = len(reached)
            for scope in scopes:
                if scope & reached:
                    reached |= scope
        kept = tuple(node for node, scope in zip(tables, scopes, strict=True) if scope & reached)
        return kept, tuple(node for node in open_soft if node in reached)

    def parts(self, route: Route, known: Mapping[int, int], soft: Mapping[int, Array]) -> list[Array]:
        """The tables at the known nodes' values."""
        found = []
        for node, (there, _) in zip(route.factors, route.cut, strict=True):
            table = self.tables[node]
            if there:
                scope = (*self.parents[node], node)
                table = table[tuple(known[s] if s in known else slice(None) for s in scope)]
            found.append(table)
        return found + [soft[node] for node in route.extra]


# ------------------------------------------------------------------------------------------------------- the passes
def up(
    route: Route,
    parts: list[Array],
    scales: list[float] | None = None,
    cliques: list[Array] | None = None,
    messages: list[Array] | None = None,
) -> Left:
    """Sum the plan's symbols out: what is left, with its dimensions.

    Args:
        route: the steps.
        parts: the tables.
        scales: gets the log of each message's scale.
        cliques, messages: get each step's table before the sum, and after it.
    """
    live: list[Array | None] = list(parts)
    for step, product in zip(route.plan.steps, route.products, strict=True):
        table = product([found for n in step.touching if (found := live[n]) is not None])
        for n in step.touching:
            live[n] = None
        message = table.sum(0)
        if cliques is not None and messages is not None:
            cliques.append(table)
            messages.append(message)
        top = message.max() if message.ndim else message
        live.append(message / top if top > 0 else message)
        if scales is not None:
            scales.append(math.log(top) if top > 0 else -math.inf)
        del table, message
    return what_is_left(route, live)


def up_in_logs(
    route: Route, parts: list[Array], cliques: list[Array] | None = None, messages: list[Array] | None = None
) -> Left:
    """As :func:`up`, slower, where the numbers would leave their range: the logarithms of what is left.

    Args:
        route: the steps.
        parts: the tables.
        cliques, messages: get probabilities of each step's symbol given the rest of its clique, and ones, which
            :func:`down` takes as it takes unscaled ones.
    """
    with np.errstate(divide="ignore"):
        live: list[Array | None] = [np.log(part) for part in parts]
    for step, product in zip(route.plan.steps, route.products, strict=True):
        table = product([found for n in step.touching if (found := live[n]) is not None], operator.add)
        for n in step.touching:
            live[n] = None
        top = table.max(0)
        top = np.where(np.isneginf(top), 0.0, top)
        shares = table - top
        del table
        total = np.exp(shares, out=shares).sum(0)
        if cliques is not None and messages is not None:
            shares /= np.where(total > 0, total, 1.0)
            cliques.append(shares)
            messages.append(np.where(total > 0, 1.0, 0.0))
        with np.errstate(divide="ignore"):
            live.append(np.log(total) + top)
    return what_is_left(route, live)


def what_is_left(route: Route, live: list[Array | None]) -> Left:
    """Tables that no step took, with their dimensions."""
    dims = [scope for _, scope in route.cut] + [(node,) for node in route.extra] + [s.rest for s in route.plan.steps]
    return [(dims[n], found) for n in route.plan.left if (found := live[n]) is not None]


def scaled(logs: Array) -> Array:
    """Numbers from their logarithms, the largest one being 1; zeros where all are zero."""
    top = logs.max()
    return np.exp(logs - top) if top > -math.inf else np.zeros_like(logs)


def down(route: Route, cliques: list[Array], messages: list[Array]) -> dict[int, Array]:
    """Probabilities of every node, from the last clique back to the first; each clique becomes its own posterior."""
    steps = route.plan.steps
    found: dict[int, Array] = {}
    for at in range(len(steps) - 1, -1, -1):
        step, onto = steps[at], route.onto[at]
        if onto >= 0:
            above = steps[onto].clique
            gone = tuple(axis for axis, s in enumerate(above) if s not in step.rest)
            shared = cliques[onto].sum(gone)
            own = [s for s in above if s in step.rest]
            if tuple(own) != step.rest:
                shared = shared.transpose([own.index(s) for s in step.rest])
            cliques[at] = cliques[at] * (shared / np.maximum(messages[at], TINY))
        else:
            cliques[at] = cliques[at] / max(float(cliques[at].sum()), TINY)
        table = cliques[at]
        found[step.symbol] = table.reshape(len(table), -1).sum(1) if table.ndim > 1 else table
    return found


def most_numbers(plan: Plan, dims: Sequence[tuple[int, ...]], sizes: Sequence[int], down: bool) -> int:
    """How many numbers :func:`up`, and then :func:`down`, hold at once: the steps gone through with sizes alone."""

    def count(symbols: Iterable[int]) -> int:
        return math.prod(sizes[s] for s in symbols)

    first = len(dims) - len(plan.steps)
    held = most = 0
    tables = []
    for step in plan.steps:
        scope, table = set(dims[step.touching[0]]), 0
        for n in step.touching[1:]:
            wider = scope | set(dims[n])
            made = count(wider)
            most = max(most, held + table + made)
            scope, table = wider, made
        message = count(step.rest)
        most = max(most, held + table + 2 * message)
        held += message + (table + message if down else 0) - sum(count(dims[n]) for n in step.touching if n >= first)
        tables.append((table or count(step.clique), message))
    if down:
        most = max([most, *(held + table + 2 * message for table, message in tables)])
    return most


def multiplier(dims: Sequence[tuple[int, ...]], clique: tuple[int, ...], sizes: Sequence[int]) -> Callable[..., Array]:
    """A function that multiplies tables of the given dimensions into one over the clique, or adds their logarithms."""
    moves = []
    for scope in dims:
        order = tuple(scope.index(s) for s in clique if s in scope)
        shape = tuple(sizes[s] if s in scope else 1 for s in clique)
        moves.append((None if order == tuple(range(len(order))) else order, None if scope == clique else shape))
    full = tuple(sizes[s] for s in clique)

    def multiply(parts: Sequence[Array], by: Callable[[Any, Any], Any] = operator.mul) -> Array:
        total: Array | None = None
        for part, (order, shape) in zip(parts, moves, strict=True):
            if order is not None:
                part = part.transpose(order)
            if shape is not None:
                part = part.reshape(shape)
            total = part if total is None else by(total, part)
        assert total is not None
        return total if total.shape == full else np.broadcast_to(total, full)

    return multiply


def merged(
    left: Left, targets: tuple[int, ...], sizes: Sequence[int], by: Callable[[Any, Any], Any] = operator.mul
) -> Array:
    """The product of what is left (or the sum of its logarithms), over the targets."""
    return multiplier([scope for scope, _ in left], targets, sizes)([value for _, value in left], by)
