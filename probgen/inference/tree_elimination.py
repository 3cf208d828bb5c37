"""Trees of a program summed out, each with the columns that its nodes stand above."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from probgen.errors import CapabilityError
from probgen.families.base import Factor, Symbol
from probgen.families.hidden_tree import TreeFactor
from probgen.families.node_columns import NodeFactor
from probgen.inference.tree import Nodes, draw_states, tree_evidence

__all__ = ["TreeBucket", "sum_tree_out"]

Potentials = tuple[Tensor, Tensor, Tensor, Tensor, Nodes]


@dataclass
class TreeBucket:
    """The states of all nodes, summed out together.

    Attributes:
        trees: for each value of the symbol on which the tree depends, what :func:`tree_evidence` takes.
    """

    tree: TreeFactor
    trees: list[Potentials]

    @property
    def summed_out(self) -> tuple[Symbol, ...]:
        return self.tree.symbols[-1:]

    def draw(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """States of all nodes given what is known of the rows, and the values of other symbols."""
        root, nodes = self.trees[0][0], self.trees[0][-1]
        uniform = torch.rand(nodes.index.shape, dtype=root.dtype, device=root.device)
        out = torch.empty(uniform.shape, dtype=torch.long, device=uniform.device)
        which = given[self.tree.symbols[0].name] if len(self.tree.symbols) > 1 else torch.zeros_like(out[:, 0])
        for number, (*potentials, nodes) in enumerate(self.trees):
            rows = torch.nonzero(which == number)[:, 0]
            if len(rows):
                root, transition, table, scores = potentials
                some = replace(nodes, index=nodes.index[rows])
                drawn = draw_states(root, transition, table, scores[:, :, rows], some, uniform[rows])
                out[rows] = drawn[:, nodes.shape.place]
        return {self.summed_out[0].name: out}


def sum_tree_out(factors: list[Factor]) -> tuple[list[Factor], list[TreeBucket]]:
    """The factors with the program's tree, where there is one, replaced by its log evidence."""
    tree = next((factor for factor in factors if isinstance(factor, TreeFactor)), None)
    if tree is None:
        return factors, []
    symbol = tree.symbols[-1]
    touching = [factor for factor in factors if symbol in factor.symbols and factor is not tree]
    columns = [factor for factor in touching if isinstance(factor, NodeFactor)]
    extra = [factor for factor in touching if not isinstance(factor, NodeFactor)]
    if len(columns) != 1 or columns[0].symbols != tree.symbols or any(f.symbols != (symbol,) for f in extra):
        raise CapabilityError(
            f"The tree {symbol.name!r} can be summed out where one site of columns, and nothing else, depends on it; use"
            " probgen.families.NodeColumns for them, with the same indices."
        )
    trees = [potentials_of(tree, columns[0], [f.value for f in extra], m) for m in range(len(tree.shapes))]
    eager = len(trees) == 1
    rows = [tree_evidence(*potentials, eager=eager) for potentials in trees]
    evidence = Factor(tree.symbols[:-1], rows[0] if eager and len(tree.symbols) == 1 else torch.stack(rows))
    rest = [factor for factor in factors if symbol not in factor.symbols]
    return [*rest, evidence], [TreeBucket(tree, trees)]


def potentials_of(tree: TreeFactor, columns: NodeFactor, extra: list[Tensor], number: int) -> Potentials:
    """One tree with what the rows say of its nodes, in the order of its shape.

    Extra scores are ``(D, K, N)``, or ``(K, N)`` for every node.
    """
    shape, size = tree.shapes[number], tree.symbols[-1].size
    others = torch.tensor(columns.others, dtype=torch.long, device=columns.index.device)
    index, places = columns.index[:, shape.order], shape.place[others]
    scores = columns.scores[:, number]
    for value in extra:
        scores = value.expand(len(shape.parents), size, value.shape[-1]).index_add(0, others, scores)
        others, places = torch.arange(len(shape.parents), device=others.device), shape.place
    owner = torch.stack([shape.place[columns.owner[:, 0]], columns.owner[:, 1]], 1)
    nodes = Nodes(shape, index, owner, places)
    return tree.value[number], tree.transition[number], columns.value[:, number], scores, nodes
