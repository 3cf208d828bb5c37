r"""Noisy-or and noisy-max: many discrete parents, each a cause of its own (Pearl, 1988; Díez, 1993).

.. math::
    x = \max(c_0, c_1, \dots, c_m), \qquad c_0 \sim \pi_0, \qquad c_i \mid u_i = j \sim \pi_{ij}, \qquad
    c_i = 0 \text{ where } u_i = 0

For a binary x this is :math:`p(x = 0 \mid u) = (1 - \pi_0) \prod_{i: u_i = 1} (1 - \pi_i)`. The number of parameters, and
the cost of a sum over unknown parents, are linear in the number of parents: known parents enter by the product of their
cumulative probabilities, unknown ones one after the other through :math:`s_i = \max(s_{i-1}, c_i)`, each s a hidden
symbol. Nothing is normalised inside, so the gradient of a log evidence is the expected number of times that each cause
had each effect, and the update is that of a table.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from probgen.families.base import Factor, InnerName, Natural, Observable, Parameters, Rows, Symbol, Table
from probgen.families.conditional_table import ProbabilityRows, Root, looked_up
from probgen.families.markov_chain import possible_log

__all__ = ["NoisyMax"]


class NoisyMax(ProbabilityRows):
    """The largest of the effects of a leak and of every parent; levels are in order, the first one is "no effect".

    Args:
        levels: L; 2 for a noisy-or.
        parents: the parents' numbers of levels; their first level has no effect.
        prior: "default" (one pseudo-observation a cause, spread evenly), None, or as of all rows of probabilities.
        names: of the parents, for :meth:`describe`.

    The rows are the leak's, then one for every level but the first of every parent.
    """

    additive = False
    closed = False  # which cause had which effect is hidden

    def __init__(
        self,
        levels: int,
        parents: tuple[int, ...] = (),
        prior: str | dict | None = "default",
        names: tuple[str, ...] = (),
    ) -> None:
        super().__init__(levels, 1 + sum(size - 1 for size in parents), prior)
        self.parents, self.names = tuple(parents), names or tuple(map(str, range(len(parents))))
        ends = [1]
        for size in parents:
            ends.append(ends[-1] + size - 1)
        self.rows_of = [slice(start, end) for start, end in pairwise(ends)]

    def calibrate(self, statistics: Natural) -> None:
        """The frequencies of the variable say nothing of a single cause."""

    def expected_counts(self, statistics: Natural) -> Tensor | None:
        return None

    def describe(self, theta: Parameters) -> Parameters:
        """Probabilities of the effects: of the second level for a noisy-or, of all levels otherwise."""
        probs = theta["logits"].exp()
        shown = probs[:, 1] if self.levels == 2 else probs
        causes = {f"from {name}": shown[rows] for name, rows in zip(self.names, self.rows_of, strict=True)}
        return {"leak": shown[0], **causes}

    # -- densities ---------------------------------------------------------------------------------------------
    def at_codes(self, logits: Tensor, codes: dict[int, Tensor]) -> Tensor:
        """``(L, N)``: log probabilities given the leak and the values of some parents; ``(L, 1)`` without parents."""
        below = possible_log(logits.exp().cumsum(-1))  # (rows, L): of an effect of at most l
        none = torch.zeros_like(below[:1])
        total = below[:1]
        for at, code in codes.items():
            total = total + torch.cat([none, below[self.rows_of[at]]]).index_select(0, code.long())
        return differences(total).mT

    def joined(self, logits: Tensor, parent: int) -> Tensor:
        """``(L, J, L)``: log probability of the larger of a value and the effect of a parent's value."""
        L = self.levels
        probs = logits[self.rows_of[parent]].exp()
        none = torch.nn.functional.one_hot(torch.zeros(1, dtype=torch.long), L).to(probs)
        probs = torch.cat([none, probs])  # (J, L)
        level = torch.arange(L, device=probs.device)
        larger = (level > level[:, None])[:, None] * probs  # (L, J, L): the effect is larger than the value
        same = torch.eye(L).to(probs)[:, None] * probs.cumsum(-1).mT[..., None]
        return possible_log(larger + same)

    # -- use in a program --------------------------------------------------------------------------------------
    def at(self, table: Table, *index: Any) -> Observable:
        """Given symbols factors that lead from one to the next; given codes the rows' probabilities."""
        if not index and table.theta is not None:
            return Root(self, table)
        if table.theta is None or any(isinstance(value, Symbol) for value in index):
            return Caused(self, table, index)
        logits = self.at_codes(table.theta["logits"], dict(enumerate(index))).mT
        return Rows(self, {"logits": logits}, logits.shape[:-1])


class Caused(Observable):
    """A variable whose causes are symbols, some of them with known values."""

    def __init__(self, family: NoisyMax, table: Table, index: tuple[Symbol, ...]) -> None:
        self.family, self.table, self.index = family, table, index
        super().__init__(torch.Size(), torch.Size(), validate_args=False)

    def factors(self, value: Any) -> list[Factor]:
        """The known parents together, then every unknown one."""
        assert isinstance(value, Symbol)
        logits, size = self.table.natural["logits"], self.family.levels
        known = {at: parent.codes for at, parent in enumerate(self.index) if parent.codes is not None}
        unknown = [at for at, parent in enumerate(self.index) if parent.codes is None]
        so_far = [Symbol(InnerName(f"{value.name}|{at}"), size) for at in unknown]  # the maximum before each parent
        steps = [*so_far, value]
        first = self.family.at_codes(logits, known)
        found = [given(steps[0], first if known else first[:, 0])]
        for at, before, after in zip(unknown, steps[:-1], steps[1:], strict=True):
            found.append(looked_up((before, self.index[at], after), self.family.joined(logits, at)))
        return found


def given(symbol: Symbol, value: Tensor) -> Factor:
    """The factor ``(L, N)`` (or ``(L,)``, the same for all rows) of a symbol, at its own codes where they are known."""
    if symbol.codes is None:
        return Factor((symbol,), value)
    return Factor((), value[symbol.codes] if value.dim() == 1 else value.gather(0, symbol.codes[None])[0])


def differences(below: Tensor) -> Tensor:
    """From log cumulative ``(..., L)`` to log probabilities, without cancellation; -inf where there is nothing."""
    last, before = below[..., 1:], below[..., :-1]
    there = last > before  # also where before is -inf
    gap = torch.where(there & ~torch.isneginf(before), before - torch.where(there, last, 0.0), -torch.inf)
    open_gap = torch.where(torch.isneginf(gap), -1.0, gap)
    share = torch.where(torch.isneginf(gap), 0.0, torch.log(-torch.expm1(open_gap)))
    rest = torch.where(there, torch.where(there, last, 0.0) + share, -torch.inf)
    return torch.cat([below[..., :1], rest], -1)
