r"""Discrete states, one a column, that depend on each other along a tree.

.. math:: h_r \sim \mathrm{Categorical}(\pi), \qquad h_d \mid h_{\mathrm{parent}(d)} = i \sim \mathrm{Categorical}(A_{di})

The tree is learned from the columns before anything is fitted: it is their Chow-Liu tree. :math:`\pi` and the rows of
every A have symmetric Dirichlet priors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from probgen.data.batches import Batch, first_rows
from probgen.data.schema import Schema
from probgen.families.base import DependentFamily, Factor, Natural, Observable, Parameters, Symbol, Table
from probgen.families.categorical import safe_log
from probgen.families.node_columns import pseudo_counts
from probgen.families.spanning_tree import binned, central_parents, mutual_information, spanning_tree
from probgen.whole import check_whole

__all__ = ["HiddenTree", "Level", "TreeFactor", "TreeShape"]

ROWS = 2**17  # from which trees are learned
NUMBERS = 2**24  # of what a piece of rows says of the states


@dataclass(frozen=True, eq=False)
class Level:
    """Nodes that are visited together, those with the most children first.

    Attributes:
        start, end: their places.
        parent: ``(n,)`` places of their parents.
        ranks: places of the first child of each of the first nodes, of the second children, ...; with their number.
    """

    start: int
    end: int
    parent: Tensor
    ranks: tuple[tuple[int, Tensor], ...]


@dataclass(frozen=True, eq=False)
class TreeShape:
    """A rooted tree over D nodes. Parents stand before their children, and all plain leaves last.

    Attributes:
        parents: of every node, -1 for the root.
        plain: nodes whose columns have levels.
    """

    parents: tuple[int, ...]
    plain: tuple[bool, ...]
    device: torch.device

    @cached_property
    def children(self) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in self.parents]
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                found[parent].append(node)
        return found

    @cached_property
    def groups(self) -> list[list[int]]:
        """Nodes that have children or no levels, by their distance from the root, and then the plain leaves."""
        found, leaves = [[self.parents.index(-1)]], []
        while found[-1]:
            below = [child for node in found[-1] for child in self.children[node]]
            leaves += [node for node in below if self.plain[node] and not self.children[node]]
            inner = [node for node in below if not self.plain[node] or self.children[node]]
            found.append(sorted(inner, key=lambda node: -len(self.children[node])))
        found[-1] = leaves
        return found

    @property
    def inner(self) -> int:
        """How many nodes stand before the plain leaves."""
        return len(self.parents) - len(self.groups[-1])

    @cached_property
    def order(self) -> Tensor:
        """``(D,)``: the node at each place."""
        return torch.tensor([node for group in self.groups for node in group], device=self.device)

    @cached_property
    def place(self) -> Tensor:
        """``(D,)``: the place of each node."""
        return self.order.argsort()

    @cached_property
    def levels(self) -> list[Level]:
        """The groups that are not empty, the root's first."""
        place, made, start = self.place.tolist(), [], 0
        for group in filter(None, self.groups):
            most = len(self.children[group[0]])
            ranks = [[place[self.children[n][r]] for n in group if len(self.children[n]) > r] for r in range(most)]
            parent = torch.tensor([place[self.parents[n]] if start else 0 for n in group], device=self.device)
            end = start + len(group)
            counted = tuple((len(rank), torch.tensor(rank, device=self.device)) for rank in ranks)
            made.append(Level(start, end, parent, counted))
            start = end
        return made

    @cached_property
    def parent_places(self) -> Tensor:
        """``(D - 1,)``: of all places but the root's."""
        return torch.cat([level.parent for level in self.levels])[1:]


@dataclass(frozen=True)
class TreeFactor(Factor):
    """The log density of all nodes of a tree: a vector symbol, its last; with one tree for each value of another.

    Attributes:
        value: ``(M, K)`` log potentials of the roots' states.
        transition: ``(M, D - 1, K, K)`` from the parent's state to the node's, nodes in the order of the shape.
        shapes: M trees.
    """

    transition: Tensor
    shapes: tuple[TreeShape, ...]

    def raised(self, power: Tensor) -> TreeFactor:
        """The factor to a power."""
        return replace(self, value=self.value * power, transition=self.transition * power)


class HiddenTree(DependentFamily):
    """K states at every one of D nodes.

    Args:
        schema: the D columns above which the nodes stand.
        states: K.
        components: M, how many such trees there are.
        prior: "default" (a tenth of a pseudo-count for each row of every table), None, or the pseudo-counts a row.
    """

    refusal = (
        "A tree of hidden states has no density of rows alone; call it in a program, and give its site to columns."
    )

    def __init__(
        self, schema: Schema, states: int, components: int = 1, prior: str | float | None = "default"
    ) -> None:
        check_whole("states", states)
        check_whole("components", components)
        self.strength = pseudo_counts(prior)
        super().__init__(None, states, None if prior is None else "default")
        self.schema, self.levels, self.components, self.nodes = list(schema), states, components, len(schema)
        chain = torch.arange(-1, self.nodes - 1)
        self.register_buffer("parents", chain.expand(components, -1).clone())
        self.parents: Tensor
        self._shapes: tuple[Any, tuple[TreeShape, ...]] = (None, ())

    @property
    def shapes(self) -> tuple[TreeShape, ...]:
        """The trees."""
        key = (self.parents.data_ptr(), self.parents._version)
        if self._shapes[0] != key:
            plain = tuple(column.is_discrete for column in self.schema)
            made = tuple(TreeShape(tuple(one), plain, self.parents.device) for one in self.parents.tolist())
            self._shapes = (key, made)
        return self._shapes[1]

    def learn(self, pieces: Iterable[Batch]) -> None:
        """The Chow-Liu tree of the first rows; further trees are those of the same rows under random weights."""
        x, weights = first_rows(pieces, ROWS)
        codes, sizes = binned(x, self.schema)
        weights = torch.ones_like(x[:, 0]) if weights is None else weights
        random = torch.Generator().manual_seed(0)
        for m in range(self.components):
            if m:
                noise = torch.empty(len(codes), dtype=torch.float32).exponential_(generator=random).to(weights)
            gain = mutual_information(codes, sizes, weights * noise if m else weights)
            self.parents[m] = torch.tensor(central_parents(spanning_tree(gain), self.nodes))

    @property
    def piece_rows(self) -> int:
        """How many rows can be asked about at once in little memory."""
        return max(64, NUMBERS // (self.nodes * self.levels))

    # -- parameters --------------------------------------------------------------------------------------------
    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        M, D, K = self.components, self.nodes, self.levels
        return {"root": (M, K), "transition": (M, D - 1, K, K)}

    @property
    def pseudo(self) -> float:
        """Prior counts of each entry."""
        return self.strength / self.levels

    def prior(self) -> dict[str, dist.Distribution]:
        one = torch.tensor(1.0 + self.pseudo, device=self.parents.device)
        return {name: dist.Dirichlet(one.expand(size)).to_event(len(size) - 1) for name, size in self.sizes.items()}

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        return {name: safe_log(sites[name]) for name in self.sizes}

    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        return self.describe(theta)

    def describe(self, theta: Parameters) -> Parameters:
        return {name: theta[name].exp() for name in self.sizes}

    @property
    def free_parameters(self) -> int:
        return sum(math.prod(size[:-1]) * (size[-1] - 1) for size in self.sizes.values())

    @property
    def log_relabellings(self) -> float:
        return self.components * self.nodes * math.lgamma(self.levels + 1)

    def log_prior(self, theta: Parameters) -> Tensor:
        return self.pseudo * torch.stack([theta[name].sum() for name in self.sizes]).sum()

    def start(self) -> Parameters:
        like = torch.empty((), device=self.parents.device)
        return {name: like.new_full(size, -math.log(self.levels)) for name, size in self.sizes.items()}

    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        return {name: self.updated(statistics[name], current[name]) for name in self.sizes}

    def updated(self, counts: Tensor, current: Tensor) -> Tensor:
        """Rows of logarithms at the mode; those that nothing is known of stay as they are."""
        counts = counts.clamp_min(0).add_(self.pseudo)
        total = counts.sum(-1, keepdim=True)
        used = total > 0
        found = safe_log(counts.div_(total))
        return found if bool(used.all()) else torch.where(used, found, current)

    def posterior_draw(self, statistics: Natural) -> Parameters:
        drawn = {n: dist.Dirichlet(1.0 + self.pseudo + statistics[n].clamp_min(0)).sample() for n in self.sizes}
        return self.assemble(drawn)

    def natural(self, theta: Parameters) -> Natural:
        return dict(theta)

    # -- use in a program --------------------------------------------------------------------------------------
    def at(self, table: Table, index: Any = None) -> TreeStates:
        return TreeStates(table, index)


class TreeStates(Observable):
    """The states of all nodes: D codes a row."""

    def __init__(self, table: Table, index: Symbol | Tensor | None) -> None:
        self.table, self.family, self.index = table, table.family, index
        super().__init__(torch.Size(), torch.Size([table.family.nodes]), validate_args=False)  # type: ignore[arg-type, list-item]

    def symbol(self, name: str) -> Symbol:
        return Symbol(name, self.family.levels, width=self.family.nodes)  # type: ignore[arg-type]

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> TreeStates:
        made = TreeStates(self.table, self.index)
        made._batch_shape = torch.Size(batch_shape)
        return made

    def factor(self, value: Tensor | Symbol) -> Factor:
        if not isinstance(value, Symbol):
            return Factor((), self.log_prob(value))
        natural, shapes = self.table.natural, self.family.shapes  # type: ignore[union-attr]
        symbols = (self.index, value) if isinstance(self.index, Symbol) else (value,)
        return TreeFactor(symbols, natural["root"], natural["transition"], shapes)  # type: ignore[arg-type]

    def which(self, rows: int) -> Tensor:
        """``(N,)``: the tree of each row."""
        if isinstance(self.index, Tensor):
            return self.index
        return torch.zeros(rows, dtype=torch.long, device=self.table.natural["root"].device)

    def log_prob(self, value: Tensor) -> Tensor:
        """``(N,)``: log probability of known states ``(N, D)``."""
        found, natural = value.new_zeros(len(value), dtype=self.table.natural["root"].dtype), self.table.natural
        for m, rows, shape in self.by_tree(len(value)):
            codes = value[rows][:, shape.order].long()
            found[rows] = natural["root"][m][codes[:, 0]]
            if codes.shape[1] > 1:
                edges = torch.arange(codes.shape[1] - 1, device=codes.device)
                found[rows] += natural["transition"][m][edges, codes[:, shape.parent_places], codes[:, 1:]].sum(1)
        return found

    def by_tree(self, rows: int) -> Iterable[tuple[int, Tensor, TreeShape]]:
        """Each tree with its rows and its shape."""
        which = self.which(rows)
        for m, shape in enumerate(self.family.shapes):  # type: ignore[arg-type]
            yield m, torch.nonzero(which == m)[:, 0], shape

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        natural = self.table.natural
        rows = len(self.index) if isinstance(self.index, Tensor) else math.prod(self.batch_shape)
        out = torch.empty(rows, self.event_shape[0], dtype=torch.long, device=natural["root"].device)
        for m, at, shape in self.by_tree(rows):
            codes = torch.empty(len(at), len(shape.parents), dtype=torch.long, device=out.device)
            codes[:, 0] = dist.Categorical(logits=natural["root"][m].expand(len(at), -1)).sample()
            for place, above in enumerate(shape.parent_places.tolist(), 1):
                codes[:, place] = dist.Categorical(
                    logits=natural["transition"][m, place - 1][codes[:, above]]
                ).sample()
            out[at] = codes[:, shape.place]
        return out
