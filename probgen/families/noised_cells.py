r"""Cells of a row as numbers that noise is added to, and how cells are read off numbers that are hardly noisy.

.. math::
    p(x_d \mid z_0) = \mathcal N(y_d;\, z_0 / \alpha_0,\, s_d^2)\,
    \Bigl| \frac{\mathrm d y_d}{\mathrm d x_d} \Bigr|, \qquad
    p(x_d \mid z_0) = \Lambda\Bigl(\frac{b_{x+1/2} - z_0 / \alpha_0}{s_d}\Bigr) - \Lambda\Bigl(\frac{b_{x-1/2} - z_0 / \alpha_0}{s_d}\Bigr), \qquad
    p(x_d = k \mid z_0) \propto e^{2 z_{0k} / (\alpha_0 s_d^2)}

The first is of continuous columns, in standardised coordinates; the second of columns on a grid (counts, ordinal and binary levels),
with :math:`\Lambda` the logistic function and b the edges between values; the third of levels without order, one number a level.
A semicontinuous column has a number that says whether it is zero, and one that says how much.

What a network says of a cell is no guess of its number but what the noisy number z is held against: of columns with few values logits, a prior
given the rest of the row, with which Bayes' rule gives the mean :math:`\hat y = \sum_k y_k\, \mathrm{softmax}_k\bigl(\ell_k - \lVert z - \alpha y_k \rVert^2 / 2 \sigma^2\bigr)`;
of others :math:`\hat u`, of which :math:`\hat\epsilon = \sigma (\alpha \hat u + z)`, so that what cannot be told from chance hardly moves it. A network that says nothing is right for
uniform levels and for standard normal numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from probgen.data.batches import first_rows
from probgen.data.schema import Column, Schema
from probgen.families.cell_groups import Group, Numbers, Steps, group_key, make_group

__all__ = ["NoisedCells", "alike"]

ROWS = 2**17  # that coordinates are learnt from


class NoisedCells(nn.Module):
    """The columns of a schema as F numbers a row.

    Args:
        schema: the columns, D of them.
    """

    def __init__(self, schema: Schema | Iterable[Column]) -> None:
        super().__init__()
        columns, found = list(schema), defaultdict(list)
        for at, column in enumerate(columns):
            found[group_key(column)].append(at)
        self.groups = nn.ModuleList(make_group(key, at, [columns[i] for i in at]) for key, at in found.items())
        owner = torch.cat([group.index.repeat_interleave(group.width) for group in self.parts()])
        self.register_buffer("owner", owner, persistent=False)  # the column of every number
        self.owner: Tensor
        said = torch.cat([group.index.repeat_interleave(group.outputs) for group in self.parts()])
        self.register_buffer("said", said, persistent=False)  # the column of everything that a network says
        self.said: Tensor
        even = torch.cat([torch.tensor(isinstance(g, Numbers)).expand(len(g.index) * g.width) for g in self.parts()])
        self.register_buffer("smooth", even, persistent=False)  # numbers of continuous columns
        self.smooth: Tensor
        self.log_scale = nn.Parameter(torch.zeros(len(owner)))  # of reading, beside the noise that is left
        self.columns, self.width = len(columns), len(owner)
        self.register_buffer("block", torch.tensor(alike(columns)), persistent=False)  # of columns that are alike
        self.block: Tensor

    def parts(self) -> list[Group]:
        return cast("list[Group]", list(self.groups))

    def learn(self, batches: Any) -> None:
        """Coordinates from the first training rows."""
        x, weights = first_rows(batches.pieces(), ROWS)
        for group in self.parts():
            group.learn(x[:, group.index], weights)

    def read(self, x: Tensor) -> Tensor:
        """``(..., D)`` to ``(..., F)``, zeros for unknown cells."""
        return torch.cat([group.read(x[..., group.index]).flatten(-2) for group in self.parts()], -1).nan_to_num()

    def split(self, numbers: Tensor) -> list[Tensor]:
        """Numbers ``(..., F)`` group by group, ``(..., C, W)``."""
        sizes = [len(group.index) * group.width for group in self.parts()]
        pieces = zip(numbers.split(sizes, -1), self.parts(), strict=True)
        return [piece.unflatten(-1, (len(group.index), group.width)) for piece, group in pieces]

    def noise(self, z: Tensor, said: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The noise in numbers ``(..., F)`` by what a network says, ``(..., outputs)``, amplitudes being ``(...)``."""
        pieces = said.split([len(group.index) * group.outputs for group in self.parts()], -1)
        found = []
        for group, own, piece in zip(self.parts(), self.split(z), pieces, strict=True):
            told = piece.unflatten(-1, (len(group.index), group.outputs))
            found.append(group.noise(own, told, alpha[..., None, None], sigma[..., None, None]).flatten(-2))
        return torch.cat(found, -1)

    def scale(self, gamma: Tensor) -> Tensor:
        """``(F,)``: of reading, at the log ratio of noise to signal that is left."""
        return (gamma / 2 + self.log_scale).exp()

    def log_prob(self, x: Tensor, mean: Tensor, gamma: Tensor) -> Tensor:
        """``(..., D)``: log density of each cell given numbers ``(..., F)``; 0 for unknown cells."""
        out = mean.new_zeros(*mean.shape[:-1], self.columns)
        filled = torch.where(x.isnan(), self.inside.to(x), x)
        for group, y, scale in zip(self.parts(), self.split(mean), self.split(self.scale(gamma)), strict=True):
            out[..., group.index] = group.log_prob(filled[..., group.index], y, scale)
        return torch.where(x.isnan(), 0.0, out)

    def log_jacobian(self, x: Tensor, counted: Tensor) -> Tensor:
        """``(B,)``: of the counted cells of continuous columns, from cells to numbers."""
        filled, total = torch.where(counted, x, self.inside.to(x)), x.new_zeros(x.shape[:-1])
        for group in self.parts():
            if isinstance(group, Numbers):
                total = total + (group.log_slope(filled[..., group.index]) * counted[..., group.index]).sum(-1)
        return total

    @property
    def inside(self) -> Tensor:
        """``(D,)``: a value of every column that stands for unknown cells where their density does not count."""
        out = self.owner.new_zeros(self.columns, dtype=torch.get_default_dtype())
        for group in self.parts():
            out[group.index] = group.low.to(out) if isinstance(group, Steps) else 0.5 * (group.width < 3)
        return out

    def write(self, mean: Tensor, gamma: Tensor, noise: Tensor) -> Tensor:
        """Cells ``(..., D)`` drawn by standard normal noise ``(..., F)``."""
        out = mean.new_zeros(*mean.shape[:-1], self.columns)
        parts = zip(self.parts(), *(self.split(part) for part in (mean, self.scale(gamma), noise)), strict=True)
        for group, y, scale, own in parts:
            out[..., group.index] = group.write(y, scale, own)
        return out


def alike(columns: list[Column]) -> list[int]:
    """A number of every column, the same for columns of one kind with as many levels."""
    keys = [(column.kind, len(column.levels), column.bounds) for column in columns]
    first = list(dict.fromkeys(keys))
    return [first.index(key) for key in keys]
