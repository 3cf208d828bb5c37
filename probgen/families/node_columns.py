r"""A table's columns, each given a discrete value of its own: :math:`\prod_d p_d(x_d \mid h_d)`.

Columns with levels stand in blocks and are looked up: a cell is one row of a table of log probabilities. Every other
column is a block by itself, scored by the family of its kind. Unknown cells have log density zero.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from probgen.data.schema import Schema
from probgen.errors import CapabilityError
from probgen.families.base import Factor, Observable, Rows, Symbol, Table
from probgen.families.bernoulli import Bernoulli
from probgen.families.categorical import Categorical
from probgen.families.columns import Block, Joint, block_key, make_block

__all__ = ["NodeColumns", "NodeFactor", "pseudo_counts"]

PSEUDO = 0.1  # observations: every column has one table a state, and each of them gets these


@dataclass(frozen=True)
class NodeFactor(Factor):
    """Log densities of columns, each given its own value of a symbol that is a vector of D codes.

    Attributes:
        value: ``(R, M, K)`` of every level of every column that has levels; the last row is for unknown cells.
        index: ``(N, D)`` which of these rows every cell has.
        owner: ``(R, 2)`` column and level of each of these rows; those of the last one are column -1, level L, the most
            that a column has.
        others: the columns without levels, with ``(P, M, K, N)`` log densities of their cells in ``scores``.
    """

    index: Tensor
    owner: Tensor
    others: tuple[int, ...]
    scores: Tensor

    def raised(self, power: Tensor) -> NodeFactor:
        """The factor to a power."""
        return replace(self, value=self.value * power, scores=self.scores * power)


class NodeColumns(nn.Module):
    """One distribution over the columns of a schema, every column with a table of its own.

    Args:
        schema: the columns.
        states: K, the values that stand above each column.
        components: M, the values of a symbol common to all columns.
        prior: "default" (a tenth of a pseudo-observation for each table of levels), None (maximum likelihood), or the
            pseudo-observations.
    """

    def __init__(
        self, schema: Schema, states: int, components: int = 1, prior: str | float | None = "default"
    ) -> None:
        super().__init__()
        self.names, self.width, self.states, self.components = schema.names, len(schema), states, components
        groups: dict[int, list[int]] = defaultdict(list)
        for at, column in enumerate(schema):
            if column.is_discrete:
                groups[0 if column.kind == "binary" else len(column.levels)].append(at)
        made, rows, plain_prior = [], states * components, None if prior is None else "default"
        for levels, index in groups.items():
            sizes = {"columns": len(index), "table": rows, "prior": plain_prior, "strength": pseudo_counts(prior)}
            plain = Categorical(levels, **sizes) if levels else Bernoulli(**sizes)  # type: ignore[arg-type]
            made.append(Block(f"levels{levels}" if levels else "binary", index, self.width, plain))
        for at, column in enumerate(schema):
            if not column.is_discrete:
                key = block_key(column, None, {}, None)
                block = make_block(key, [column], [at], self.width, rows, None, plain_prior)
                made.append(Block(f"{block.name}_{at}", [at], self.width, block.family))
        self.blocks = nn.ModuleList(made)

    def parts(self) -> list[Block]:
        """The blocks, those with levels first."""
        return cast("list[Block]", list(self.blocks))

    def draw(self, name: str) -> Callable[..., Observable]:
        """Make all parameters global sample sites ``name.block.*``; the result is called with one index or two."""
        tables = [(block, block.family.draw(f"{name}.{block.name}")) for block in self.parts()]

        def at(*index: Tensor | Symbol) -> Observable:
            if isinstance(index[-1], Symbol):
                return NodeScores(self, tables, cast("tuple[Symbol, ...]", index))
            row = index[-1] if len(index) == 1 else cast("Tensor", index[0])[:, None] * self.states + index[-1]
            return Joint(self.width, [(block, cell_rows(block, table, row)) for block, table in tables])

        return at


def pseudo_counts(prior: str | float | None) -> float:
    """Pseudo-observations for each row of a table of probabilities."""
    if prior is None or prior == "default":
        return 0.0 if prior is None else PSEUDO
    if isinstance(prior, bool) or not isinstance(prior, int | float) or not 0 < prior < math.inf:
        raise CapabilityError(f"prior must be 'default', None or a positive number of pseudo-counts, got {prior!r}.")
    return float(prior)


def cell_rows(block: Block, table: Table, row: Tensor) -> Rows:
    """The distribution of a block's columns when each cell has the table's row that ``row`` ``(N, D)`` names."""
    codes = block.select(row)
    column = torch.arange(codes.shape[1], device=codes.device)
    theta = {key: value[codes, column] for key, value in (table.theta or {}).items()}
    return Rows(block.family, theta, codes.shape[:1])


class NodeScores(Observable):
    """All tables against the data."""

    def __init__(self, columns: NodeColumns, tables: list[tuple[Block, Table]], index: tuple[Symbol, ...]) -> None:
        self.columns, self.tables, self.index = columns, tables, index
        super().__init__(torch.Size(), torch.Size([columns.width]), validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> NodeScores:
        return self

    def factor(self, value: Tensor | Symbol) -> NodeFactor:
        assert isinstance(value, Tensor)  # columns are observed, never summed out
        M, K = self.columns.components, self.columns.states
        plain = [pair for pair in self.tables if isinstance(pair[0].family, Bernoulli | Categorical)]
        rest = [pair for pair in self.tables if not isinstance(pair[0].family, Bernoulli | Categorical)]
        cells = [(block, block.family.level_logs(table.natural)) for block, table in plain]  # type: ignore[operator]
        rows = torch.cat([*(logs.flatten(1).mT for _, logs in cells), value.new_zeros(1, M * K)]).unflatten(1, (M, K))
        index, owner = look_ups([(block, *logs.shape[1:]) for block, logs in cells], value)
        scores = [block.family.score(table.natural, block.select(value)) for block, table in rest]
        dense = torch.stack(scores) if scores else value.new_zeros(0, M * K, len(value))
        others = tuple(int(block.index) for block, _ in rest)
        return NodeFactor(self.index, rows, index, owner, others, dense.unflatten(1, (M, K)))


def look_ups(blocks: list[tuple[Block, int, int]], value: Tensor) -> tuple[Tensor, Tensor]:
    """Which row of the table of levels each cell has, and the column and level of each row."""
    index, owner, at = torch.full(value.shape, -1, dtype=torch.long, device=value.device), [], 0
    for block, columns, levels in blocks:
        x, place = block.select(value), block.index.to(value.device)
        first = at + levels * torch.arange(columns, device=value.device)
        index[:, place] = torch.where(x.isnan(), -1, first + x.nan_to_num().long())
        level = torch.arange(levels, device=value.device)
        owner.append(torch.stack([place.repeat_interleave(levels), level.repeat(columns)], 1))
        at += columns * levels
    most = max((levels for _, _, levels in blocks), default=0)
    return index % (at + 1), torch.cat([*owner, torch.tensor([[-1, most]], device=value.device)])
