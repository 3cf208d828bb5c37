"""The nodes of a Bayesian network: which family a column, or a hidden variable, has given its parents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
from torch import nn

from probgen.data.batches import Batch
from probgen.data.schema import Column, Schema
from probgen.errors import CapabilityError
from probgen.families.base import SUM_OUT
from probgen.families.columns import GAUSSIAN_LINKS, Columns, Link
from probgen.families.conditional_gaussian import ConditionalGaussian
from probgen.families.conditional_table import ConditionalTable
from probgen.structure.graph import Graph, check_known

__all__ = ["Nodes", "hidden_column"]

CHOICES = ("poisson", "negative_binomial", "gamma", "log_normal")  # families of columns that are no parents


class Nodes(nn.Module):
    """One family for every node of a graph.

    Args:
        schema: the columns.
        graph: over the columns and the hidden nodes.
        hidden: numbers of levels, or names of levels, of discrete nodes that are no columns.
        choices: other families than the kinds' own.
        prior: of all nodes; see :class:`~probgen.families.conditional_table.ConditionalTable` for tables' own.
    """

    def __init__(
        self, schema: Schema, graph: Graph, hidden: Mapping[str, Any], choices: Mapping[str, str], prior: Any
    ) -> None:
        super().__init__()
        columns = {column.name: column for column in schema}
        for name in hidden:
            if name in columns:
                raise CapabilityError(f"Hidden node {name!r} is a column of the table; give it another name.")
        columns |= {name: hidden_column(name, levels) for name, levels in hidden.items()}
        check_known(graph.nodes, columns, "The structure", " Nodes that are no columns go into hidden_nodes.")
        check_known(choices, columns, "nodes")
        self.names, self.columns = graph.nodes, columns
        for name, parents in graph.parents.items():
            check_parents(columns[name], [columns[parent] for parent in parents])
        self.order = {name: parents_in_order(parents, columns) for name, parents in graph.parents.items()}
        self.families = nn.ModuleList(self.family(name, choices.get(name), prior) for name in graph.nodes)

    def family(self, name: str, choice: str | None, prior: Any) -> nn.Module:
        """What the node is drawn from, given its parents."""
        column, parents = self.columns[name], [self.columns[parent] for parent in self.order[name]]
        sizes = tuple(parent.cardinality for parent in parents if parent.is_discrete)
        plain = "default" if isinstance(prior, Mapping) else prior
        if column.is_discrete:
            return ConditionalTable(column.cardinality, sizes, prior, name)
        if is_gaussian(column) and choice is None:
            links = tuple(link_of(parent) for parent in parents if is_gaussian(parent))
            return ConditionalGaussian(sizes, link_of(column), links, plain)
        return Columns([column], sizes or 1, None, plain, {} if choice is None else {name: choice})

    def draw(self) -> dict[str, Callable[..., Any]]:
        """Make all parameters global sample sites; the results are called with the parents' values in the graph's order."""
        families = cast("Iterable[Any]", self.families)
        return {name: family.draw(name) for name, family in zip(self.names, families, strict=True)}

    def read(self, batch: Batch, name: str) -> Any:
        """The node's column, None for a hidden one."""
        if name not in batch.schema.names:
            return None
        return batch.column(name) if self.how(name) else batch.select((name,))

    def how(self, name: str) -> dict[str, str]:
        """How the engine takes a node: one that others may depend on is summed or integrated out."""
        column = self.columns[name]
        return SUM_OUT if column.is_discrete or is_gaussian(column) else {}


def hidden_column(name: str, levels: Any) -> Column:
    """A hidden node as a column."""
    names = tuple(range(levels)) if isinstance(levels, int) and not isinstance(levels, bool) else levels
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


def check_parents(column: Column, parents: list[Column]) -> None:
    """What may depend on what."""
    for parent in parents:
        if not parent.is_discrete and not is_gaussian(parent):
            raise CapabilityError(
                f"Column {parent.name!r} is {parent.kind} and cannot be the parent of {column.name!r}: parents are discrete or"
                f" {', '.join(GAUSSIAN_LINKS)}. Turn the edge, or give {parent.name!r} another kind (schema.with_kind)."
            )
        if is_gaussian(parent) and not is_gaussian(column):
            raise CapabilityError(
                f"Column {column.name!r} is {column.kind} and cannot have the continuous parent {parent.name!r}: a conditional"
                f" Gaussian network has edges from discrete to continuous columns only. Turn the edge, or cut {parent.name!r}"
                " into levels."
            )
