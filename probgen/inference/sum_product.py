r"""Sums of products of tables over named dimensions: bucket elimination in scaled probability space.

.. math:: Z_n = \sum_{s_1, \dots, s_m} \prod_f \phi_f(s_f, n)

Symbols are summed out one by one, each time the one whose clique holds the fewest numbers (Kjaerulff, 1990). A step
multiplies the factors that vary with the row by one another, those that do not by one another, and joins the two by one
matrix product that runs over all rows. Every message is scaled by its largest number in its row, so that nothing
underflows along the way; where a row nevertheless ends at zero the caller has logarithms to fall back on.

The order and the shapes depend on the factors' dimensions only: they are found once (:func:`make_plan`) and kept, and
they tell how much memory will be held before any is asked for.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from probgen.errors import CapabilityError
from probgen.families.base import Factor, Symbol

__all__ = ["Plan", "Product", "ProductBucket", "carry_out", "check_memory", "make_plan"]

Scope = tuple[tuple[int, ...], bool]  # numbers of the symbols, and whether the factor varies with the row
MEMORY_SHARE = 0.8  # of what is free, that one sum may hold


@dataclass(frozen=True)
class Step:
    """One symbol summed out: which factors are joined, and the dimensions of what comes of them."""

    symbol: int
    touching: tuple[int, ...]
    clique: tuple[int, ...]  # the symbol first
    varies: bool

    @property
    def rest(self) -> tuple[int, ...]:
        return self.clique[1:]


@dataclass(frozen=True)
class Plan:
    """An order of elimination for factors of given dimensions.

    Attributes:
        steps: one a symbol; the results are numbered on from the factors.
        left: numbers of the factors that are left, without symbols or over the symbols that are kept.
        fixed, by_row: how many numbers all cliques hold together, once and for every row.
        widest: the clique with the most numbers.
    """

    steps: tuple[Step, ...]
    left: tuple[int, ...]
    fixed: int
    by_row: int
    widest: tuple[int, ...]
    width: int

    def numbers(self, rows: int) -> int:
        """How many numbers are held when all steps are done."""
        return self.fixed + self.by_row * rows


@lru_cache(maxsize=256)
def make_plan(scopes: tuple[Scope, ...], sizes: tuple[int, ...], rows: int, kept: frozenset[int]) -> Plan:
    """The min-weight order.

    Args:
        scopes: dimensions of the factors.
        sizes: of the symbols.
        rows: how many rows there are, rounded; cliques that vary with the row weigh that much more.
        kept: symbols that are not summed out.
    """
    live = dict(enumerate(scopes))
    of: dict[int, set[int]] = {}
    for number, (symbols, _) in live.items():
        for symbol in symbols:
            of.setdefault(symbol, set()).add(number)
    weights = {symbol: weight_of(symbol, of, live, sizes, rows) for symbol in of if symbol not in kept}
    steps: list[Step] = []
    fixed = by_row = 0
    widest: tuple[int, ...] = ()
    width = 0
    while weights:
        symbol = min(weights, key=lambda s: (weights[s], s))
        del weights[symbol]
        touching = tuple(sorted(of.pop(symbol)))
        clique = (symbol, *dict.fromkeys(s for n in touching for s in live[n][0] if s != symbol))
        varies = any(live[n][1] for n in touching)
        number = len(scopes) + len(steps)
        steps.append(Step(symbol, touching, clique, varies))
        held = math.prod(sizes[s] for s in clique)
        fixed, by_row = (fixed, by_row + held) if varies else (fixed + held, by_row)
        if held > width:
            widest, width = clique, held
        for old in touching:
            for s in live.pop(old)[0]:
                if s in of:
                    of[s].discard(old)
        live[number] = (clique[1:], varies)
        for s in clique[1:]:
            of[s].add(number)
        for s in clique[1:]:
            if s in weights:
                weights[s] = weight_of(s, of, live, sizes, rows)
    return Plan(tuple(steps), tuple(live), fixed, by_row, widest, width)


def weight_of(
    symbol: int, of: dict[int, set[int]], live: dict[int, Scope], sizes: tuple[int, ...], rows: int
) -> float:
    """How many numbers the symbol's clique would hold.

    A step that joins steady factors into a larger one counts as if it varied with the rows where its neighbours do:
    sooner or later the message is multiplied by what varies, and its size is paid for in every row.
    """
    clique = {s for n in of[symbol] for s in live[n][0]}
    held = math.prod(sizes[s] for s in clique)
    varies = any(live[n][1] for n in of[symbol])
    if not varies and held > sizes[symbol] * max(math.prod(sizes[s] for s in live[n][0]) for n in of[symbol]):
        varies = any(live[n][1] for s in clique for n in of[s])
    return held * (rows if varies else 1)


# ------------------------------------------------------------------------------------------------------ the numbers
@dataclass
class Product:
    """A table of probabilities: axes are ``symbols``, then the rows where it varies with them."""

    symbols: tuple[int, ...]
    value: Tensor
    varies: bool


class ProductBucket:
    """One summed-out symbol and the tables it stood in.

    Attributes:
        symbol: what was summed out.
        symbols: the clique, the symbol first.
    """

    def __init__(self, symbols: tuple[Symbol, ...], numbers: tuple[int, ...], touching: list[Product]) -> None:
        self.symbol, self.symbols, self.numbers, self.touching = symbols[0], symbols, numbers, touching

    @property
    def summed_out(self) -> tuple[Symbol, ...]:
        return (self.symbol,)

    def conditional(self, drawn: dict[str, Tensor], rows: int) -> Tensor:
        """``(K, N)``: weights of the symbol's values given drawn values of the rest of the clique."""
        codes = {number: drawn[symbol.name] for number, symbol in zip(self.numbers[1:], self.symbols[1:], strict=True)}
        total: Tensor | None = None
        for factor in self.touching:
            found = looked_up(factor, self.numbers[0], codes, rows)
            total = found if total is None else total * found
        assert total is not None
        return total.expand(self.symbol.size, rows)


def looked_up(factor: Product, symbol: int, codes: dict[int, Tensor], rows: int) -> Tensor:
    """``(K, N)`` (or ``(K, 1)``): the factor at given values of all its symbols but one."""
    at = factor.symbols.index(symbol)
    value = factor.value.movedim(at, 0)
    others: Any = tuple(codes[s] for s in factor.symbols if s != symbol)
    if not others:
        return value if factor.varies else value[:, None]
    if factor.varies:
        return value[(slice(None), *others, torch.arange(rows, device=value.device))]
    return value[(slice(None), *others)]


def check_memory(needed: float, plan: Plan, symbols: Sequence[Symbol]) -> None:
    """Refuse what cannot be held, before it is asked for.

    Args:
        needed: bytes.
        plan: of the sums.
        symbols: by number.

    Raises:
        CapabilityError: names the widest clique, the memory it takes, and the approximate route.
    """
    free = free_memory()
    if needed > MEMORY_SHARE * free:
        clique = [symbols[number] for number in plan.widest]
        shown = ", ".join(symbol.name for symbol in clique[:8]) + (", ..." if len(clique) > 8 else "")
        raise CapabilityError(
            f"The network is too wide for exact inference with these known cells: summing {clique[0].name!r} out joins"
            f" {len(clique)} nodes ({shown}) with {plan.width:.3g} states together; {readable(needed)} are needed in all,"
            f" {readable(free)} are free. Know more cells, ask for fewer rows at a time, or ask approximately:"
            " fit.query(..., method='importance') or method='gibbs'."
        )


def free_memory() -> float:
    """Bytes that this machine can give."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable"):
                return 1024.0 * int(line.split()[1])
    except OSError:
        pass
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):
        return 2.0**33


def readable(count: float) -> str:
    """Bytes in the unit that suits them."""
    for unit in ("bytes", "kB", "MB", "GB", "TB", "PB", "EB"):
        if count < 1000 or unit == "EB":
            return f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError


def as_products(factors: Sequence[Factor], number: dict[Symbol, int]) -> tuple[list[Product], list[Tensor]]:
    """Log factors as probabilities, and what was taken out of each row: the largest log of every row."""
    made, scales = [], []
    for factor in factors:
        value, axes = factor.value, len(factor.symbols)
        varies = value.dim() > axes and value.shape[-1] > 0
        if varies and axes:
            top = value.detach().flatten(0, -2).amax(0)
            top = torch.where(top == -torch.inf, 0.0, top)
            scales.append(top)
            value = value - top
        made.append(Product(tuple(number[s] for s in factor.symbols), value.exp(), varies))
    return made, scales


def carry_out(plan: Plan, products: list[Product]) -> tuple[list[Product], list[Tensor], list[list[Product]]]:
    """Do the steps: what is left, the logs of the scales (one a row, or one for all), and what each step joined."""
    live: list[Product | None] = list(products)
    scales: list[Tensor] = []
    joined: list[list[Product]] = []
    for step in plan.steps:
        touching = [live[n] for n in step.touching]
        for n in step.touching:
            live[n] = None
        parts = [part for part in touching if part is not None]
        joined.append(parts)
        value = sum_out(parts, step)
        if step.rest or step.varies:
            value, scale = scaled(value, step.varies)
            scales.append(scale)
        live.append(Product(step.rest, value, step.varies))
    return [part for n in plan.left if (part := live[n]) is not None], scales, joined


def scaled(value: Tensor, varies: bool) -> tuple[Tensor, Tensor]:
    """The message over its largest number (in every row), and the log of that number; zeros stay zeros."""
    flat = value.detach()
    top = flat.amax() if not varies else (flat.flatten(0, -2).amax(0) if flat.dim() > 1 else flat)
    top = torch.where(top > 0, top, 1.0)
    return value / top, top.log()


def sum_out(parts: list[Product], step: Step) -> Tensor:
    """``(*rest[, N])``: the product of tables, summed over the step's symbol."""
    varying, steady = [p for p in parts if p.varies], [p for p in parts if not p.varies]
    if not varying:
        return join(steady, step.clique).sum(0)
    if not steady:
        return join(varying, step.clique).sum(0)
    many = union(varying, step.clique)
    few = union(steady, step.clique)
    right, left = join(varying, many), join(steady, few)
    if step.symbol not in many or step.symbol not in few:  # no matrix product: one side is summed alone
        both = align(left, few, step.clique, False) * align(right, many, step.clique, True)
        return both.sum(0)
    return matrix_product(left, few, right, many, step)


def union(parts: list[Product], clique: tuple[int, ...]) -> tuple[int, ...]:
    """The symbols of some factors, in the clique's order."""
    there = {s for part in parts for s in part.symbols}
    return tuple(s for s in clique if s in there)


def join(parts: list[Product], symbols: tuple[int, ...]) -> Tensor:
    """The product of tables over the given symbols (then rows), smallest first."""
    parts = sorted(parts, key=lambda part: part.value.numel())
    total = align(parts[0].value, parts[0].symbols, symbols, parts[0].varies)
    for part in parts[1:]:
        total = total * align(part.value, part.symbols, symbols, part.varies)
    return total


def align(value: Tensor, own: tuple[int, ...], symbols: tuple[int, ...], varies: bool) -> Tensor:
    """One axis for each of ``symbols``, those that are missing of size one; then the rows."""
    if own == symbols:
        return value
    wanted = [s for s in symbols if s in own]
    order = [own.index(s) for s in wanted]
    if order != list(range(len(own))):
        value = value.permute(*order, len(own)) if varies else value.permute(order)
    sizes = iter(value.shape)
    shape = [next(sizes) if s in own else 1 for s in symbols]
    return value.reshape([*shape, value.shape[-1]] if varies else shape)


def matrix_product(left: Tensor, few: tuple[int, ...], right: Tensor, many: tuple[int, ...], step: Step) -> Tensor:
    """Sum over the step's symbol of a steady table times a varying one, as one (batched) matrix product.

    Symbols of both that stay are the batch, those of one side its rows or columns; rows of data are columns.
    """
    shared = [s for s in few if s in many and s != step.symbol]
    only_left = [s for s in few if s not in many]
    only_right = [s for s in many if s not in few]
    a = left.permute([few.index(s) for s in [*shared, *only_left, step.symbol]])
    b = right.permute([many.index(s) for s in [*shared, step.symbol, *only_right]] + [len(many)])
    sizes = {s: a.shape[i] for i, s in enumerate([*shared, *only_left])}
    sizes |= {s: b.shape[i] for i, s in enumerate([*shared, step.symbol, *only_right])}
    batch = math.prod(sizes[s] for s in shared)
    made = torch.bmm(a.reshape(batch, -1, sizes[step.symbol]), b.reshape(batch, sizes[step.symbol], -1))
    order = [*shared, *only_left, *only_right]
    made = made.reshape([*(sizes[s] for s in order), right.shape[-1]])
    if tuple(order) != step.rest:
        made = made.permute([order.index(s) for s in step.rest] + [len(order)])
    return made
