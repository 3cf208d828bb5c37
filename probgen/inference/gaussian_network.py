r"""Continuous nodes of a network integrated out: Gaussians over named columns, one for each value of discrete symbols.

.. math:: \int \exp\Big(\sum_f v_f^\top A_f v_f\Big) \, \mathrm d u
    = \exp\Big(c + \tfrac12 h^\top P^{-1} h - \tfrac12 \log |P| + \tfrac m2 \log 2\pi\Big)

Rows are taken together by what is known of them. Of every group, columns that are unknown and that nothing depends on are
dropped; the rest of the unknown ones fall into sets that factors connect. Each set is integrated out as a whole, for all
values of the symbols that its factors have together (a strong elimination order; Lauritzen, 1992): what is left are
factors over discrete symbols only.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from probgen.errors import CapabilityError
from probgen.families.base import Cells, Factor, Symbol
from probgen.families.conditional_gaussian import QuadraticFactor

__all__ = ["GaussianBucket", "integrate_out"]

MOST_NUMBERS = 2**28  # of one set's quadratic forms


@dataclass
class Part:
    """Some unknown columns of a group of rows, jointly Gaussian given the symbols.

    Attributes:
        rows: the group's row numbers.
        names: m columns.
        symbols: without known codes.
        constant, linear, square: ``(*sizes, R)``, ``(*sizes, R, m)``, ``(*sizes, R or 1, m, m)``: c + h'u - u'Pu / 2.
    """

    rows: Tensor
    names: tuple[str, ...]
    symbols: tuple[Symbol, ...]
    constant: Tensor
    linear: Tensor
    square: Tensor

    def log_integral(self) -> Tensor:
        """``(*sizes, R)``."""
        if not self.names:
            return self.constant
        if len(self.names) == 1:
            precision, h = self.square[..., 0, 0], self.linear[..., 0]
            return self.constant + 0.5 * (h.square() / precision - precision.log() + math.log(2 * math.pi))
        root = torch.linalg.cholesky(self.square)
        white = torch.linalg.solve_triangular(root, self.linear[..., None], upper=False)[..., 0]
        log_root = root.diagonal(0, -2, -1).log().sum(-1)
        return self.constant + 0.5 * white.square().sum(-1) - log_root + 0.5 * len(self.names) * math.log(2 * math.pi)

    def moments(self, codes: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """``(R, m)`` and ``(R, m, m)``: means, and Cholesky factors of the precision, at drawn values of the symbols."""
        at = tuple(codes[symbol.name][self.rows] for symbol in self.symbols)
        number = torch.arange(len(self.rows), device=self.rows.device)
        linear = self.linear[(*at, number)]
        square = self.square.expand(*self.square.shape[: len(at)], len(self.rows), -1, -1)[(*at, number)]
        root = torch.linalg.cholesky(square)
        return torch.cholesky_solve(linear[..., None], root)[..., 0], root


class GaussianBucket:
    """All continuous columns that were integrated out."""

    def __init__(self, parts: list[Part], columns: Mapping[str, Cells]) -> None:
        self.parts, self.columns = parts, columns

    @property
    def summed_out(self) -> tuple[Symbol, ...]:
        return ()

    def draw(self, codes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Columns with the cells drawn that others inform; those that nothing depends on are left unknown."""
        found = {name: cells.value.clone() for name, cells in self.columns.items()}
        for part in self.parts:
            if part.names:
                mean, root = part.moments(codes)
                noise = torch.linalg.solve_triangular(root.mT, torch.randn_like(mean)[..., None], upper=True)[..., 0]
                for at, name in enumerate(part.names):
                    found[name][part.rows] = (mean + noise)[:, at]
        return {name: cells.completed(found[name]) for name, cells in self.columns.items()}


def integrate_out(factors: Sequence[QuadraticFactor]) -> tuple[list[Factor], GaussianBucket]:
    """Factors over discrete symbols that say the same, and what was integrated out."""
    cells_of = {cells.name: cells for factor in factors for cells in factor.cells}
    columns = {name: cells.value for name, cells in cells_of.items()}
    rows = max(len(value) for value in columns.values())
    names = list(columns)
    holes = torch.stack([columns[name].isnan() for name in names], 1)  # (N, C)
    parts: list[Part] = []
    for group, unknown in groups(holes):
        seen = {name for name, hole in zip(names, unknown.tolist(), strict=True) if not hole}
        parts += parts_of(factors, columns, group, seen)
    jacobian = torch.stack([factor.value for factor in factors]).sum(0)
    return [Factor((), jacobian), *gathered(parts, rows)], GaussianBucket(parts, cells_of)


def groups(holes: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Rows with the same pattern of holes, and that pattern."""
    patterns, which = holes.unique(dim=0, return_inverse=True)
    if len(patterns) == 1:
        return [(torch.arange(len(holes), device=holes.device), patterns[0])]
    order = which.argsort(stable=True)
    counts = which.bincount(minlength=len(patterns)).tolist()
    return list(zip(order.split(counts), patterns, strict=True))


def parts_of(
    factors: Sequence[QuadraticFactor], columns: Mapping[str, Tensor], group: Tensor, seen: set[str]
) -> list[Part]:
    """One group's connected sets of unknown columns; what is wholly known comes first, without columns."""
    kept = needed(factors, seen)
    sets: list[tuple[set[str], list[QuadraticFactor]]] = []
    settled: dict[tuple[Symbol, ...], list[QuadraticFactor]] = defaultdict(list)
    for factor in kept:
        unknown = {cells.name for cells in factor.cells} - seen
        if not unknown:
            settled[open_symbols([factor])].append(factor)
            continue
        touching = [entry for entry in sets if entry[0] & unknown]
        sets = [entry for entry in sets if not entry[0] & unknown]
        sets.append(
            (unknown.union(*(entry[0] for entry in touching)), [f for entry in touching for f in entry[1]] + [factor])
        )
    found = [part_of(members, (), columns, group) for members in settled.values()]
    order = {name: at for at, name in enumerate(columns)}
    return found + [
        part_of(members, tuple(sorted(names, key=order.__getitem__)), columns, group) for names, members in sets
    ]


def needed(factors: Sequence[QuadraticFactor], seen: set[str]) -> list[QuadraticFactor]:
    """Factors but those of unknown children that nothing else speaks of: they integrate to one."""
    kept = list(factors)
    while True:
        uses: dict[str, int] = defaultdict(int)
        for factor in kept:
            for cells in factor.cells:
                uses[cells.name] += 1
        rest = [f for f in kept if f.cells[0].name in seen or uses[f.cells[0].name] > 1]
        if len(rest) == len(kept):
            return kept
        kept = rest


def open_symbols(factors: Sequence[QuadraticFactor]) -> tuple[Symbol, ...]:
    """Symbols of the factors whose values are not known."""
    return tuple(dict.fromkeys(s for factor in factors for s in factor.symbols if s.codes is None))


def part_of(
    factors: Sequence[QuadraticFactor], names: tuple[str, ...], columns: Mapping[str, Tensor], group: Tensor
) -> Part:
    """The sum of some factors' quadratic forms, known columns put in."""
    symbols, m = open_symbols(factors), len(names)
    sizes = [symbol.size for symbol in symbols]
    if math.prod(sizes) * max(m, 1) ** 2 * len(group) > MOST_NUMBERS:
        raise CapabilityError(
            f"Columns {', '.join(names)} are unknown together and depend on {len(symbols)} unknown nodes"
            f" ({', '.join(s.name for s in symbols)}) with {math.prod(sizes):.3g} states together: too many for exact"
            " inference. Know more cells, or ask approximately: fit.query(..., method='importance') or method='gibbs'."
        )
    constant: Tensor | float = 0.0
    linear: Tensor | float = 0.0
    square: Tensor | float = 0.0
    for factor in factors:
        a, b, c = pieces(factor, names, symbols, columns, group)
        square, linear, constant = square + a, linear + b, constant + c
    assert isinstance(constant, Tensor)
    if not m:
        return Part(group, names, symbols, constant, constant.new_zeros(*constant.shape, 0), constant.new_zeros(0, 0))
    return Part(group, names, symbols, constant, linear, square)  # type: ignore[arg-type]


def pieces(
    factor: QuadraticFactor,
    names: tuple[str, ...],
    symbols: tuple[Symbol, ...],
    columns: Mapping[str, Tensor],
    group: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """One factor's part of (P, h, c) for the given columns and symbols: ``(*sizes, R or 1, m, m)``, ..., ``(*sizes, R)``."""
    form = at_known(factor, symbols, group)  # (*sizes or 1, R or 1, P, P)
    inside = [at for at, cells in enumerate(factor.cells) if cells.name in names]
    outside = [at for at, cells in enumerate(factor.cells) if cells.name not in names]
    last = len(factor.cells)
    w = torch.stack([columns[factor.cells[at].name][group] for at in outside] + [columns_one(columns, group)], 1)
    rest = [*outside, last]
    if len(rest) == 1:
        constant = form[..., last, last] + w.new_zeros(len(group))
    elif form.shape[-3] == 1:
        flat = form[..., 0, :, :][..., rest, :][..., rest].flatten(-2)
        constant = flat @ (w[:, :, None] * w[:, None, :]).flatten(1).mT
    else:
        constant = ((form[..., rest, :][..., rest] @ w[..., None])[..., 0] * w).sum(-1)
    if not inside:
        return constant, constant, constant
    places = [names.index(factor.cells[at].name) for at in inside]
    wide = torch.zeros(len(inside), len(names), dtype=w.dtype, device=w.device)
    wide[range(len(inside)), places] = 1.0
    square = -2.0 * wide.mT @ form[..., inside, :][..., inside] @ wide
    cross = form[..., inside, :][..., rest]
    linear = 2.0 * (cross @ w[..., None])[..., 0] @ wide
    return square, linear, constant


def columns_one(columns: Mapping[str, Tensor], group: Tensor) -> Tensor:
    """The constant that stands beside the columns."""
    like = next(iter(columns.values()))
    return torch.ones(len(group), dtype=like.dtype, device=like.device)


def at_known(factor: QuadraticFactor, symbols: tuple[Symbol, ...], group: Tensor) -> Tensor:
    """The factor's form with one axis for each of ``symbols``, then rows (1 where they are all the same)."""
    known = [at for at, symbol in enumerate(factor.symbols) if symbol.codes is not None]
    left = [at for at, symbol in enumerate(factor.symbols) if symbol.codes is None]
    form, width = factor.square, len(factor.symbols)
    if known:
        form = form.permute(*known, *left, width, width + 1)
        codes = [factor.symbols[at].codes for at in known]
        form = form[tuple(code[group] for code in codes if code is not None)]  # (R, *left, P, P)
        form = form.movedim(0, len(left))
    else:
        form = form.unsqueeze(width)
    own = [factor.symbols[at] for at in left]
    wanted = [symbol for symbol in symbols if symbol in own]
    form = form.permute(*(own.index(symbol) for symbol in wanted), *range(len(own), form.dim()))
    return form.reshape(*(s.size if s in own else 1 for s in symbols), *form.shape[len(own) :])


def gathered(parts: Sequence[Part], rows: int) -> list[Factor]:
    """The parts' log integrals as factors over all rows, one for each set of symbols."""
    by_symbols: dict[tuple[Symbol, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)
    for part in parts:
        by_symbols[part.symbols].append((part.rows, part.log_integral()))
    found = []
    for symbols, pieces_ in by_symbols.items():
        sizes = [symbol.size for symbol in symbols]
        values = [value.expand(*sizes, len(group)) for group, value in pieces_]
        if len(values) == 1 and len(pieces_[0][0]) == rows:
            found.append(Factor(symbols, values[0]))
            continue
        whole = values[0].new_zeros(*sizes, rows)
        found.append(Factor(symbols, whole.index_add(-1, torch.cat([g for g, _ in pieces_]), torch.cat(values, -1))))
    return found
