r"""Tables whose rows are the leaves of a decision tree over the parents: context-specific independence (Boutilier, 1996).

.. math:: p(x = l \mid u) = \pi_{\lambda(u)\, l}, \qquad \pi_\lambda \sim \mathrm{Dirichlet}(\alpha)

with :math:`\lambda(u)` the leaf to which the configuration u leads. Known parents are led to their leaf without a table of
all configurations; unknown ones have an axis each, for those that the tree asks about. A tree is given, or grown from the
training rows: leaves are split by the parent whose gain in score is largest, while there is any (Friedman and
Goldszmidt, 1996).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from probgen.data.schema import Column
from probgen.errors import CapabilityError
from probgen.families.base import Factor, Observable, Parameters, Rows, Symbol, Table
from probgen.families.conditional_table import MOST_ENTRIES, ProbabilityRows, Root, pseudo_counts
from probgen.structure.scores import check_number

__all__ = ["TreeTable", "read_tree"]

Tree = tuple[int, tuple[Any, ...]] | None  # a parent's place and one subtree for each of its levels; None for a leaf
LEAF = -1


class TreeTable(ProbabilityRows):
    """A variable of L levels with one row of probabilities for each leaf of a tree over its parents.

    Args:
        levels: L.
        parents: the parents' numbers of levels.
        prior: as of all rows of probabilities.
        name: of the variable, for messages.
        columns: the parents, for :meth:`describe`.
        tree: as :func:`read_tree` makes it; None for one leaf, or a tree to be grown.
        score: by which a tree is grown, "bic" or "bdeu".
        equivalent_sample_size: of BDeu.
        max_leaves: of a tree that is grown.
    """

    def __init__(
        self,
        levels: int,
        parents: tuple[int, ...],
        prior: str | dict | None = "default",
        name: str = "a node",
        columns: Sequence[Column] = (),
        *,
        tree: Tree = None,
        score: str = "bic",
        equivalent_sample_size: float = 10.0,
        max_leaves: int | None = None,
    ) -> None:
        super().__init__(levels, leaves_of(tree), prior)
        if score not in ("bic", "bdeu"):
            raise CapabilityError(f"Node {name!r}: a tree is grown by score='bic' or 'bdeu', got {score!r}.")
        check_number("equivalent_sample_size", equivalent_sample_size)
        self.parents, self.name, self.asked_columns, self.is_given = tuple(parents), name, columns, tree is not None
        self.score_name, self.strength, self.max_leaves = score, equivalent_sample_size, max_leaves
        self.tree = tree
        self.register_buffer("code", torch.tensor(encoded(tree)))
        self.code: Tensor

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        if prefix + "code" in state:
            self.replant(decoded(state[prefix + "code"].tolist(), self.parents))
        super()._load_from_state_dict(state, prefix, *rest)

    def replant(self, tree: Tree) -> None:
        """Take another tree, with as many rows as it has leaves."""
        self.tree, self.table = tree, leaves_of(tree)
        self.shape = (self.table, self.levels)
        plain = torch.ones(self.shape).to(self.concentration)
        self.concentration = 1.0 + pseudo_counts(self.pseudo_choice, plain)
        self.code = torch.tensor(encoded(tree), device=plain.device)

    def describe(self, theta: Parameters) -> Parameters:
        """Probabilities under the path that leads to each leaf."""
        probs = theta["logits"].exp()
        return {path: probs[at] for at, path in enumerate(paths(self.tree, self.asked_columns))}

    # -- growing -----------------------------------------------------------------------------------------------
    def grow(self, x: Tensor, parents: Tensor, weights: Tensor | None) -> None:
        """Split leaves while the score gains by it, the largest gain first.

        Args:
            x: ``(N,)`` codes, NaN where unknown; such rows do not count.
            parents: ``(N, M)`` codes; a split is judged by the rows in which its parent, and those above it, are known.
            weights: ``(N,)`` or None.
        """
        seen = ~x.isnan()
        weight = torch.ones_like(x) if weights is None else weights
        growth = Growth(self, x[seen].long(), parents[seen], weight[seen])
        self.replant(growth.grown())

    # -- use in a program --------------------------------------------------------------------------------------
    def leaf(self, values: list[Tensor]) -> Tensor:
        """The leaf of some values of the parents, broadcast against each other."""
        return leaf_numbers(self.tree, values, 0)[0]

    def at(self, table: Table, *index: Any) -> Observable:
        """Given symbols a factor over those that the tree asks about; given codes the rows of their leaves."""
        if not index and table.theta is not None:
            return Root(self, table)
        if table.theta is None or any(isinstance(value, Symbol) for value in index):
            return OnTree(self, table, index)
        leaf = self.leaf([code.long() for code in index]).expand(index[0].shape)
        return Rows(self, {"logits": table.theta["logits"][leaf]}, leaf.shape)


class OnTree(Observable):
    """A variable whose parents are symbols, some of them with known values."""

    def __init__(self, family: TreeTable, table: Table, index: tuple[Symbol, ...]) -> None:
        self.family, self.table, self.index = family, table, index
        super().__init__(torch.Size(), torch.Size(), validate_args=False)

    def factor(self, value: Any) -> Factor:
        assert isinstance(value, Symbol)
        asked = asked_of(self.family.tree)
        unknown = [at for at in sorted(asked) if self.index[at].codes is None]
        symbols = tuple(self.index[at] for at in unknown)
        codes = [s.codes for s in (*(self.index[at] for at in asked), value) if s.codes is not None]
        self.check_size(symbols, len(codes[0]) if codes else 1)
        logits = self.table.natural["logits"]
        leaf = self.family.leaf(self.grid(unknown))  # (*unknown, N or 1)
        leaf = leaf.expand(*(s.size for s in symbols), leaf.shape[-1] if leaf.dim() else 1)
        if value.codes is not None:
            return Factor(symbols, logits[leaf, value.codes])
        found = logits[leaf].movedim(-1, len(symbols))  # (*unknown, L, N or 1)
        varies = any(self.index[at].codes is not None for at in asked)
        return Factor((*symbols, value), found if varies else found[..., 0])

    def grid(self, unknown: list[int]) -> list[Tensor]:
        """Values of all parents: unknown ones on an axis each, known ones on the last."""
        found = []
        for at, symbol in enumerate(self.index):
            if symbol.codes is not None:
                found.append(symbol.codes)
            else:
                shape = [1] * (len(unknown) + 1)
                if at in unknown:
                    shape[unknown.index(at)] = -1
                values = torch.arange(symbol.size if at in unknown else 1, device=self.family.code.device)
                found.append(values.reshape(shape))
        return found

    def check_size(self, symbols: tuple[Symbol, ...], rows: int) -> None:
        """Refuse what cannot be held, before it is made."""
        entries = math.prod(s.size for s in symbols) * rows * self.family.levels
        if entries > MOST_ENTRIES:
            raise CapabilityError(
                f"The tree of {self.family.name!r} asks about {len(symbols)} parents that are unknown together"
                f" ({', '.join(s.name for s in symbols[:6])}{', ...' if len(symbols) > 6 else ''}): {entries:.3g} numbers"
                f" for {rows} rows, at most {MOST_ENTRIES:.3g} are held. Know more of them, ask for fewer rows at a time, or"
                " ask approximately: fit.query(..., method='importance')."
            )


# ----------------------------------------------------------------------------------------------------------- trees
def read_tree(given: Any, name: str, parents: list[Column], path: str = "tree") -> Tree:
    """A tree from nested dictionaries ``{"split": parent, level: subtree or None, ...}``.

    Raises:
        CapabilityError: a split by something that is no parent, or by one twice on a path; a level missing or unknown.
    """
    if given is None:
        return None
    here = f"Node {name!r}, {path}"
    names = [parent.name for parent in parents]
    if not isinstance(given, Mapping) or given.get("split") not in names:
        raise CapabilityError(
            f"{here}: expected None (a leaf) or {{'split': parent, level: subtree, ...}} with a parent among"
            f" {', '.join(names)}; got {given!r}."
        )
    at = names.index(given["split"])
    if f"[{names[at]}=" in path:
        raise CapabilityError(f"{here}: {names[at]!r} was split above already; nothing is left to tell apart.")
    found = {spelled(level): subtree for level, subtree in given.items() if level != "split"}
    levels = [spelled(level) for level in parents[at].levels]
    if set(found) != set(levels):
        wrong = sorted(set(found) - set(levels)) or sorted(set(levels) - set(found))
        raise CapabilityError(
            f"{here}: a split by {names[at]!r} names each of its levels {', '.join(levels)} once (None for a leaf);"
            f" {'unknown' if set(found) - set(levels) else 'missing'}: {', '.join(wrong)}."
        )
    return at, tuple(read_tree(found[level], name, parents, f"{path}[{names[at]}={level}]") for level in levels)


def spelled(level: Any) -> str:
    """A level as a key of JSON, in which trees are saved."""
    return str(level).lower() if isinstance(level, bool) else str(level)


def leaves_of(tree: Tree) -> int:
    """How many leaves there are."""
    return 1 if tree is None else sum(leaves_of(subtree) for subtree in tree[1])


def asked_of(tree: Tree) -> set[int]:
    """The parents that some split asks about."""
    return set() if tree is None else {tree[0]}.union(*(asked_of(subtree) for subtree in tree[1]))


def leaf_numbers(tree: Tree, values: list[Tensor], first: int) -> tuple[Tensor, int]:
    """Numbers of the leaves from ``first`` on, and the number after the last."""
    if tree is None:
        return torch.tensor(first, device=values[0].device if values else None), first + 1
    found: Tensor | None = None
    for level, subtree in enumerate(tree[1]):
        leaf, first = leaf_numbers(subtree, values, first)
        found = leaf if found is None else torch.where(values[tree[0]] == level, leaf, found)
    assert found is not None
    return found, first


def encoded(tree: Tree) -> list[int]:
    """The splits before their subtrees, as numbers."""
    return [LEAF] if tree is None else [tree[0], *(number for subtree in tree[1] for number in encoded(subtree))]


def decoded(numbers: list[int], sizes: tuple[int, ...]) -> Tree:
    """The tree of :func:`encoded` numbers."""
    left = iter(numbers)

    def read() -> Tree:
        at = next(left)
        return None if at == LEAF else (at, tuple(read() for _ in range(sizes[at])))

    return read()


def paths(tree: Tree, columns: Sequence[Column], path: str = "") -> list[str]:
    """What leads to each leaf, in words."""
    if tree is None:
        return [path or "all"]
    before, column = f"{path}, " if path else "", columns[tree[0]]
    return [
        leaf
        for level, subtree in zip(column.levels, tree[1], strict=True)
        for leaf in paths(subtree, columns, f"{before}{column.name}={level}")
    ]


# --------------------------------------------------------------------------------------------------------- growing
class Leaf:
    """A leaf that may be split: its rows, and what has been asked above it."""

    def __init__(self, rows: Tensor, asked: frozenset[int]) -> None:
        self.rows, self.asked = rows, asked
        self.split: tuple[int, list[Leaf]] | None = None

    def tree(self) -> Tree:
        return None if self.split is None else (self.split[0], tuple(leaf.tree() for leaf in self.split[1]))


class Growth:
    """Greedy growth of one tree."""

    def __init__(self, family: TreeTable, x: Tensor, parents: Tensor, weight: Tensor) -> None:
        self.family, self.x, self.parents, self.weight = family, x, parents, weight
        self.log_rows = math.log(max(float(weight.sum()), 2.0))

    def grown(self) -> Tree:
        """The tree when no split gains any more, or there are leaves enough."""
        root, leaves, order = Leaf(torch.arange(len(self.x), device=self.x.device), frozenset()), 1, 0
        queue = [(*self.best(root), order, root)]
        most = self.family.max_leaves or len(self.x) + 1
        while queue:
            loss, parent, _, leaf = heapq.heappop(queue)
            size = self.family.parents[parent] if self.family.parents else 0
            if loss >= 0 or leaves + size - 1 > most:
                continue
            leaf.split = (parent, self.parts(leaf, parent))
            leaves += size - 1
            for part in leaf.split[1]:
                order += 1
                heapq.heappush(queue, (*self.best(part), order, part))
        return root.tree()

    def parts(self, leaf: Leaf, parent: int) -> list[Leaf]:
        """The leaf's rows by the parent's value; rows in which it is unknown belong to none."""
        code = self.parents[leaf.rows, parent]
        return [Leaf(leaf.rows[code == v], leaf.asked | {parent}) for v in range(self.family.parents[parent])]

    def best(self, leaf: Leaf) -> tuple[float, int]:
        """Minus the largest gain, and the parent that has it."""
        found = [(-self.gain(leaf, at), at) for at in range(len(self.family.parents)) if at not in leaf.asked]
        return min(found, default=(0.0, 0))

    def gain(self, leaf: Leaf, parent: int) -> float:
        """What a split adds to the score."""
        code, levels, size = self.parents[leaf.rows, parent], self.family.levels, self.family.parents[parent]
        rows, code = leaf.rows[~code.isnan()], code[~code.isnan()].long()
        flat = torch.zeros(size * levels, dtype=torch.float64, device=self.x.device)
        counts = flat.index_add(0, code * levels + self.x[rows], self.weight[rows].double()).reshape(size, levels)
        if self.family.score_name == "bic":
            found = log_likelihood(counts) - log_likelihood(counts.sum(0, keepdim=True))
            return found - 0.5 * self.log_rows * (size - 1) * (levels - 1)
        strength = self.family.strength / math.prod(self.family.parents[at] for at in leaf.asked)
        return log_marginal(counts, strength / size) - log_marginal(counts.sum(0, keepdim=True), strength)


def log_likelihood(counts: Tensor) -> float:
    """Of rows of counts at their own frequencies."""
    return float(torch.special.xlogy(counts, counts).sum() - torch.special.xlogy(counts.sum(1), counts.sum(1)).sum())


def log_marginal(counts: Tensor, strength: float) -> float:
    """Of rows of counts, probabilities integrated out under symmetric Dirichlets of that many pseudo-observations."""
    each = strength / counts.shape[1]
    cells = (counts + each).lgamma().sum() - counts.numel() * math.lgamma(each)
    return float(cells - ((counts.sum(1) + strength).lgamma() - math.lgamma(strength)).sum())
