"""The nodes of a Bayesian network: which family a column, or a hidden variable, has given its parents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from probgen.data.batches import Batch
from probgen.data.schema import Column, Schema
from probgen.errors import CapabilityError
from probgen.families.base import SUM_OUT
from probgen.families.columns import CHOICES, GAUSSIAN_LINKS, Columns, Link
from probgen.families.conditional_gaussian import ConditionalGaussian, through
from probgen.families.conditional_table import ConditionalTable
from probgen.families.count_regression import HurdleRegression, NegativeBinomialRegression, PoissonRegression
from probgen.families.discrete_regression import MultinomialLogit, ProportionalOdds
from probgen.families.generalised_linear import GeneralisedLinear, Given
from probgen.families.noisy_max import NoisyMax
from probgen.families.tree_table import TreeTable, read_tree
from probgen.structure.graph import Graph, check_known
from probgen.whole import is_whole

__all__ = ["Nodes", "hidden_column"]

ORDERED = ("noisy_or", "noisy_max")  # for levels that have an order
OF_DISCRETE = ("table", "tree", "logistic")
REGRESSIONS: dict[str, Callable[..., GeneralisedLinear]] = {
    "poisson": PoissonRegression,
    "negative_binomial": NegativeBinomialRegression,
    "hurdle": HurdleRegression,
}
OPTIONS = {"tree": ("tree", "score", "equivalent_sample_size", "max_leaves")}  # what kinds may be told


class Nodes(nn.Module):
    """One family for every node of a graph.

    Args:
        schema: the columns.
        graph: over the columns and the hidden nodes.
        hidden: numbers of levels, or names of levels, of discrete nodes that are no columns.
        choices: other families than the kinds' own, by name or as ``{"kind": name, option: value, ...}``: "noisy_or",
            "noisy_max", "tree" for discrete nodes with discrete parents; "logistic", "ordered_logistic", "poisson",
            "negative_binomial", "hurdle" for discrete ones, counts and semicontinuous columns with continuous parents.
        prior: of all nodes; see :class:`~probgen.families.conditional_table.ProbabilityRows` for tables' own.
    """

    def __init__(
        self, schema: Schema, graph: Graph, hidden: Mapping[str, Any], choices: Mapping[str, Any], prior: Any
    ) -> None:
        super().__init__()
        columns = {column.name: column for column in schema}
        for name in hidden:
            if name in columns:
                raise CapabilityError(f"Hidden node {name!r} is a column of the table; give it another name.")
        columns |= {name: hidden_column(name, levels) for name, levels in hidden.items()}
        check_known(graph.nodes, columns, "The structure", " Nodes that are no columns go into hidden_nodes.")
        check_known(choices, columns, "nodes")
        self.names, self.columns, self.graph = graph.nodes, columns, graph
        self.places = {name: place for place, name in enumerate(graph.nodes)}
        self.order = {name: parents_in_order(parents, columns) for name, parents in graph.parents.items()}
        kinds = {name: read_choice(columns[name], choices.get(name)) for name in graph.nodes}
        for name, (kind, _) in kinds.items():
            check_parents(columns[name], [columns[parent] for parent in self.order[name]], kind)
            check_children(columns[name], kind, graph.children[name])
        self.families = nn.ModuleList(self.family(name, *kinds[name], prior) for name in graph.nodes)
        regressed = [name for name in graph.nodes if self.is_regressed(name) and self.how(name)]
        self.drawn_again = {name for name in graph.descendants(regressed) if columns[name].is_discrete}

    def family(self, name: str, kind: str | None, options: dict[str, Any], prior: Any) -> nn.Module:
        """What the node is drawn from, given its parents."""
        column, parents = self.columns[name], [self.columns[parent] for parent in self.order[name]]
        discrete = [parent for parent in parents if parent.is_discrete]
        continuous = [parent for parent in parents if is_gaussian(parent)]
        sizes, links = tuple(p.cardinality for p in discrete), tuple(link_of(p) for p in continuous)
        plain = "default" if isinstance(prior, Mapping) else prior
        given = Given(sizes, links, name, tuple(p.name for p in continuous))
        if kind in ORDERED:
            return NoisyMax(column.cardinality, sizes, prior, tuple(self.order[name]))
        if kind == "tree":
            tree = read_tree(options.pop("tree", None), name, parents)
            return TreeTable(column.cardinality, sizes, prior, name, parents, tree=tree, **options)
        if kind in ("logistic", "ordered_logistic"):
            make = MultinomialLogit if kind == "logistic" else ProportionalOdds
            return make(column.cardinality, given, plain)
        if column.is_discrete:
            return ConditionalTable(column.cardinality, sizes, prior, name)
        if is_gaussian(column) and kind is None:
            return ConditionalGaussian(sizes, link_of(column), links, plain)
        if continuous:
            return REGRESSIONS[cast("str", kind)](given, plain)
        return Columns([column], sizes or 1, None, plain, {} if kind in (None, "hurdle") else {name: kind})

    def of(self, name: str) -> nn.Module:
        """The node's family."""
        return self.families[self.places[name]]

    def is_regressed(self, name: str) -> bool:
        """A node whose continuous parents have to be known."""
        return isinstance(self.of(name), GeneralisedLinear)

    def prepare(self, batches: Any) -> None:
        """Learn the scale of regressors, and trees that are not given, from the training rows."""
        for name in self.names:
            family = self.of(name)
            if isinstance(family, GeneralisedLinear):
                continuous = [parent for parent in self.order[name] if is_gaussian(self.columns[parent])]
                raw = torch.stack([gathered(batches, parent) for parent in continuous], 1)
                pairs = zip(family.links, raw.unbind(1), strict=True)
                family.learn(torch.stack([through(link, x) for link, x in pairs], 1))
            if isinstance(family, TreeTable) and not family.is_given and family.parents:
                parents = torch.stack([gathered(batches, parent) for parent in self.order[name]], 1)
                family.grow(gathered(batches, name), parents, weights_of(batches))

    def draw(self, batch: Batch) -> dict[str, Callable[..., Any]]:
        """Make all parameters global sample sites; the results are called with the parents' values in the graph's order."""
        families = cast("Iterable[Any]", self.families)
        tables = {name: family.draw(name) for name, family in zip(self.names, families, strict=True)}
        return {name: self.placed(name, table, batch) for name, table in tables.items()}

    def placed(self, name: str, table: Callable[..., Any], batch: Batch) -> Callable[..., Any]:
        """The table, whose distributions know where they stand in the data, if they have to."""
        if name not in self.drawn_again and not self.is_regressed(name):
            return table

        def at(*index: Any) -> Any:
            found = table(*index)
            found.number = batch.number
            found.barren = self.barren(batch, name) if name in self.drawn_again else None
            return found

        return at

    def barren(self, batch: Batch, name: str) -> Tensor:
        """``(B,)`` mask of rows in which the node is unknown and nothing known depends on it."""
        found = torch.ones(len(batch), dtype=torch.bool, device=batch.x.device)
        for below in self.graph.descendants([name]) & set(batch.schema.names):
            found = found & batch.column(below).isnan()
        return found

    def read(self, batch: Batch, name: str) -> Any:
        """The node's column, None for a hidden one."""
        if name not in batch.schema.names:
            return None
        return batch.column(name) if self.how(name) or self.is_regressed(name) else batch.select((name,))

    def how(self, name: str) -> dict[str, str]:
        """How the engine takes a node: one that others may depend on is summed or integrated out."""
        if self.is_regressed(name):
            return SUM_OUT if self.columns[name].is_discrete and self.needed(name) else {}
        return {} if isinstance(self.of(name), Columns) else SUM_OUT

    def needed(self, name: str) -> bool:
        """Something depends on the node, or it is hidden."""
        return bool(self.graph.children[name])


def gathered(batches: Any, name: str) -> Tensor:
    """One column of all training rows, NaN for a hidden node."""
    found = []
    for batch in batches.pieces():
        known = name in batch.schema.names
        found.append(batch.column(name) if known else batch.x.new_full((len(batch),), torch.nan))
    return torch.cat(found)


def weights_of(batches: Any) -> Tensor | None:
    """Weights of all training rows."""
    found = [batch.weights for batch in batches.pieces()]
    return None if found[0] is None else torch.cat(found)


def read_choice(column: Column, choice: Any) -> tuple[str | None, dict[str, Any]]:
    """The kind of a node and its options.

    Raises:
        CapabilityError: a kind that the column cannot have, or an option that the kind does not know.
    """
    given = dict(choice) if isinstance(choice, Mapping) else {"kind": choice}
    kind = given.pop("kind", None)
    if kind is None and not given:
        return None, {}
    able = kinds_of(column)
    if kind not in able:
        raise CapabilityError(f"Node {column.name!r} is {column.kind} and can be: {', '.join(able)}. Got {choice!r}.")
    wrong = sorted(set(given) - set(OPTIONS.get(kind, ())))
    if wrong:
        allowed = ", ".join(OPTIONS.get(kind, ())) or "none"
        raise CapabilityError(f"Node {column.name!r}: {kind!r} has the options {allowed}; got {', '.join(wrong)}.")
    return None if kind == "table" else kind, given


def kinds_of(column: Column) -> tuple[str, ...]:
    """What a column can be as a node, beside its kind's own family."""
    if column.is_discrete:
        ordered = column.kind != "categorical" or column.cardinality == 2
        return (
            *OF_DISCRETE,
            *(ORDERED if ordered else ()),
            *(("ordered_logistic",) if column.kind == "ordinal" else ()),
        )
    return ("hurdle",) if column.kind == "semicontinuous" else tuple(CHOICES.get(column.kind, ()))


def hidden_column(name: str, levels: Any) -> Column:
    """A hidden node as a column."""
    names = tuple(range(levels)) if is_whole(levels) else levels
    if not isinstance(names, list | tuple) or len(names) < 1:
        raise CapabilityError(
            f"Hidden node {name!r} needs a number of levels or a list of their names, got {levels!r}."
        )
    if len(names) == 1:
        raise CapabilityError(f"Hidden node {name!r} has one level, which says nothing; give it at least 2.")
    return Column(name, "categorical", levels=tuple(names))


def is_gaussian(column: Column) -> bool:
    """A node that may have continuous parents and children."""
    return column.kind in GAUSSIAN_LINKS


def link_of(column: Column) -> Link | None:
    """The scale on which a continuous node is linear."""
    link = GAUSSIAN_LINKS[column.kind]
    return None if link == "identity" else Link(torch.tensor([link == "log"]), torch.tensor([link == "logit"]))


def parents_in_order(parents: tuple[str, ...], columns: Mapping[str, Column]) -> list[str]:
    """Discrete parents first: the order in which families are called."""
    return sorted(parents, key=lambda parent: not columns[parent].is_discrete)


def check_parents(column: Column, parents: list[Column], kind: str | None) -> None:
    """What may depend on what."""
    continuous = [parent.name for parent in parents if not parent.is_discrete]
    for parent in parents:
        if not parent.is_discrete and not is_gaussian(parent):
            raise CapabilityError(
                f"Column {parent.name!r} is {parent.kind} and cannot be the parent of {column.name!r}: parents are discrete or"
                f" {', '.join(GAUSSIAN_LINKS)}. Turn the edge, or give {parent.name!r} another kind (schema.with_kind)."
            )
    if kind in ("logistic", "ordered_logistic") and not continuous:
        raise CapabilityError(
            f"Node {column.name!r} is {kind!r}, which is for continuous parents, and has none; leave it out of nodes (a"
            " table), or make it a 'tree'."
        )
    if not continuous or (is_gaussian(column) and kind is None):
        return
    able = [name for name in kinds_of(column) if name.endswith("logistic") or name in REGRESSIONS]
    if kind not in able:
        remedy = f"nodes={{{column.name!r}: {able[-1]!r}}}" if able else "leave it out of nodes"
        raise CapabilityError(
            f"Column {column.name!r} is {column.kind}{f' and {kind!r} as a node' if kind else ''} and cannot have the"
            f" continuous parent {continuous[0]!r}: a conditional Gaussian network has edges from discrete to continuous"
            f" columns only. Make it a regression ({remedy}), turn the edge, or cut {continuous[0]!r} into levels."
        )


def check_children(column: Column, kind: str | None, children: tuple[str, ...]) -> None:
    """A family that is no conditional Gaussian stands at the end of the graph."""
    if kind is not None and is_gaussian(column) and children:
        raise CapabilityError(
            f"Column {column.name!r} is {kind!r} as a node and has the child {children[0]!r}: only its own family"
            " (conditional Gaussian) can be a parent. Leave it out of nodes, or turn the edge."
        )
