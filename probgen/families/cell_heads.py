r"""Distributions of single cells by a network's outputs, each column's by its kind.

.. math::
    p(x_d = l \mid o) = \mathrm{softmax}(o)_l, \qquad
    p(x_d \mid o) = \sum_{k=1}^K \pi_k(o)\, p_{\mathrm{kind}(d)}\bigl(x_d \mid \theta_k(o)\bigr)

The first is that of columns with levels, the second of all others: mixtures of the family of the kind, normal, log-normal, normal by its
log odds, logistic in steps, negative binomial, or zero or log-normal (mixture density networks; Bishop, 1994).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from probgen.data.schema import Column, Schema
from probgen.families.base import Parameters
from probgen.families.beta import EDGE
from probgen.families.columns import block_key, make_block, softplus_pair
from probgen.families.columnwise import ColumnwiseFamily
from probgen.families.gaussian import DiagonalGaussian
from probgen.whole import check_whole

__all__ = ["CellHead", "CellHeads"]


class CellHead(nn.Module, ABC):
    """Columns of one kind.

    Args:
        index: the columns.
        each: P, outputs of a network that describe a cell.
    """

    filler = 0.0  # a value inside the support

    def __init__(self, index: list[int], each: int) -> None:
        super().__init__()
        self.index, self.each = index, each

    @abstractmethod
    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Log densities ``(...)`` of cells ``(...)`` by outputs ``(..., P)``."""

    @abstractmethod
    def sample(self, outputs: Tensor) -> Tensor:
        """Cells ``(...)``."""

    @abstractmethod
    def start(self) -> Tensor:
        """``(P,)`` outputs at which a network may begin."""


class LevelHead(CellHead):
    """Columns of L levels."""

    def __init__(self, index: list[int], levels: int) -> None:
        super().__init__(index, levels)

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        codes = x.long()[..., None].expand(*outputs.shape[:-1], 1)
        return outputs.log_softmax(-1).gather(-1, codes)[..., 0]

    def sample(self, outputs: Tensor) -> Tensor:
        return drawn_code(outputs).to(outputs)

    def start(self) -> Tensor:
        return torch.zeros(self.each)


class MixtureHead(CellHead):
    """Columns whose cells are mixtures of K members of a family: weights first, then the outputs of one member after another.

    Args:
        index: the columns.
        family: of one column.
        components: K.
    """

    def __init__(self, index: list[int], family: ColumnwiseFamily, components: int) -> None:
        super().__init__(index, components * (1 + family.outputs))
        self.family, self.components, self.filler = family, components, family.filler

    def members(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the weights ``(..., K)``, and outputs ``(..., K, p)``."""
        logits, rest = outputs.split([self.components, self.each - self.components], -1)
        return logits, rest.unflatten(-1, (self.components, -1))

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        logits, members = self.members(outputs)
        found = self.family.distribution(self.family.head(members)).log_prob(x[..., None, None])[..., 0]
        return (logits.log_softmax(-1) + found).logsumexp(-1)

    def sample(self, outputs: Tensor) -> Tensor:
        logits, members = self.members(outputs)
        chosen = drawn_code(logits)[..., None, None].expand(*logits.shape[:-1], 1, members.shape[-1])
        return self.family.sample(self.family.head(members.gather(-2, chosen)[..., 0, :]))[..., 0]

    def start(self) -> Tensor:
        """Members side by side: apart in where they lie."""
        members = torch.zeros(self.components, self.family.outputs)
        spread = [at for at in range(self.family.outputs) if at not in self.family.dispersions]
        members[:, spread] = torch.linspace(-1, 1, self.components)[:, None] if self.components > 1 else 0.0
        return torch.cat([torch.zeros(self.components), members.flatten()])


class LogitNormal(DiagonalGaussian):
    """Columns in (0, 1) whose log odds are normal; cells on the ends count as just inside."""

    filler = 0.5

    def distribution(self, theta: Parameters) -> LogOdds:
        return LogOdds(theta["loc"], theta["precision"].rsqrt(), validate_args=False)


class LogOdds(torch.distributions.Normal):
    """What is normal by its log odds."""

    def log_prob(self, value: Tensor) -> Tensor:
        odds = value.clamp(EDGE, 1 - EDGE).logit()
        return super().log_prob(odds) + softplus_pair(odds)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return super().sample(torch.Size(sample_shape)).sigmoid().clamp(EDGE, 1 - EDGE)


def drawn_code(logits: Tensor) -> Tensor:
    """A code ``(...)`` by inversion, by logits ``(..., L)``."""
    cumulative = logits.double().softmax(-1).cumsum(-1)
    uniform = torch.rand_like(cumulative[..., :1]) * cumulative[..., -1:]
    return (uniform >= cumulative).sum(-1).clamp_max(logits.shape[-1] - 1)


class CellHeads(nn.Module):
    """Those of all columns of a schema.

    Args:
        schema: the columns.
        components: K, of columns without levels.

    Example:
        >>> from probgen.data import Column, Schema
        >>> heads = CellHeads(Schema((Column("a", "real"), Column("b", "binary", levels=(0, 1)))), components=3)
        >>> heads.log_prob(torch.zeros(5, heads.outputs), torch.tensor([0.0, 1.0])).shape
        torch.Size([5, 2])
    """

    def __init__(self, schema: Schema | Iterable[Column], components: int = 5) -> None:
        super().__init__()
        check_whole("components", components)
        columns = list(schema)
        groups: dict[tuple, list[int]] = defaultdict(list)
        for at, column in enumerate(columns):
            key = ("levels", len(column.levels)) if column.is_discrete else block_key(column, None, {}, None)
            groups[key].append(at)
        self.heads = nn.ModuleList(head_of(key, index, columns[index[0]], components) for key, index in groups.items())
        self.of = {column: head for head in self.parts() for column in head.index}
        self.outputs = sum(len(head.index) * head.each for head in self.parts())
        self.register_buffer("filler", torch.tensor([self.of[at].filler for at in range(len(columns))]))
        self.filler: Tensor

    def parts(self) -> list[CellHead]:
        """The heads, one a kind."""
        return cast("list[CellHead]", list(self.heads))

    @property
    def blocks(self) -> list[tuple[list[int], int]]:
        """As a network is told of them: columns, and outputs of each."""
        return [(head.index, head.each) for head in self.parts()]

    def start(self) -> Tensor:
        """``(outputs,)`` at which a network may begin."""
        return torch.cat([head.start().repeat(len(head.index)) for head in self.parts()])

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Log densities ``(..., D)`` of cells ``(..., D)``, which are all known, by ``(..., outputs)``."""
        found: Any = [None] * len(self.of)
        sizes = [len(head.index) * head.each for head in self.parts()]
        for head, part in zip(self.parts(), outputs.split(sizes, -1), strict=True):
            cells = head.log_prob(part.unflatten(-1, (len(head.index), head.each)), x[..., head.index])
            for at, cell in zip(head.index, cells.unbind(-1), strict=True):
                found[at] = cell
        return torch.stack(found, -1)


def head_of(key: tuple, index: list[int], column: Column, components: int) -> CellHead:
    """Of columns like the first of them."""
    if column.is_discrete:
        return LevelHead(index, len(column.levels))
    family = LogitNormal() if column.kind == "bounded" else make_block(key, [column], [0], 1, 1, None, None).family
    return MixtureHead(index, cast("ColumnwiseFamily", family), components)
