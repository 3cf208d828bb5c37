r"""Training rows that are kept, with a kernel on each: :math:`p(x) = \sum_i w_i K_h(x; c_i)`.

Widths are found by the likelihood of rows that are left out in turn,

.. math:: \frac{1}{\sum_n w_n} \sum_n w_n \log \frac{\sum_{i \ne n} w_i K_h(x_n; c_i)}{\sum_{i \ne n} w_i} ,

or by a rule of thumb. Scores are a matrix product of centres and rows, so widths R standard deviations apart keep
an accuracy of about R^2 times the rounding error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor, nn

from probgen.data.schema import Schema
from probgen.errors import CapabilityError, FitError
from probgen.families.base import BlockedFactor, Factor, Natural, Observable, Rows, Symbol
from probgen.families.categorical import Categorical
from probgen.families.hot_deck import hot_deck
from probgen.families.kernels import Axes, Axis, ProductKernel, equivalent_width, geometric_decay
from probgen.whole import check_whole

__all__ = ["KernelRows"]

RULES = ("cross_validation", "scott", "silverman")
NARROWEST, WIDEST = 1e-3, 10.0  # standard deviations, of lines
SMALLEST, LARGEST = 1e-4, 1 - 1e-4  # widths of counts and levels
PIECE = 2**18  # scores in one temporary: they stay in the cache
KEPT = ("centre", "log_weight", "width", "stretch")


@dataclass
class LeftOut:
    """What the likelihood of rows that are left out in turn needs.

    Attributes:
        y: ``(N, A)`` rows on their axes, with their holes; ``log_jacobian`` and ``weight`` ``(N,)``, which sums to 1.
        origin: ``(K, J)`` rows whose cells each centre has, -1 for none: it is left out with any of them.
        low, high, start: ``(A,)`` narrowest and widest widths of a search, and where it starts.
    """

    y: Tensor
    log_jacobian: Tensor
    weight: Tensor
    origin: Tensor
    low: Tensor
    high: Tensor
    start: Tensor


class KernelRows(nn.Module):
    """The rows of a table with a kernel on each.

    Args:
        schema: the columns.
        kernel: of continuous columns: "gaussian", "epanechnikov", "biweight" or "tophat".
        bandwidth: "cross_validation", "scott", "silverman", a number, or one number a column.
        neighbours: row i's kernel is stretched by the distance to its k-th nearest neighbour (Breiman, Meisel and
            Purcell, 1977), relative to the geometric mean of these; None for equal widths.
        donors: complete rows that stand in for a training row with holes.
        approximation: merge the kernels of rows that lie together in a cell of this many widths; None keeps them all.
    """

    def __init__(
        self,
        schema: Schema,
        kernel: str = "gaussian",
        bandwidth: str | float | Sequence[float] = "cross_validation",
        neighbours: int | None = None,
        donors: int = 5,
        approximation: float | None = None,
    ) -> None:
        super().__init__()
        self.axes = Axes(schema)
        self.kernel, self.smooth = ProductKernel(self.axes, kernel), ProductKernel(self.axes, "gaussian")
        self.bandwidth = check_bandwidth(bandwidth, schema)
        for name, number in {"neighbours": 1 if neighbours is None else neighbours, "donors": donors}.items():
            check_whole(name, number)
        self.neighbours, self.donors = neighbours, donors
        if approximation is not None and not 0 < approximation <= 2:
            raise CapabilityError(f"approximation must lie between 0 and 2 widths, or be None, got {approximation!r}.")
        self.approximation = approximation
        for name, shape in zip(KEPT, ((0, len(self.axes)), (0,), (len(self.axes),), (0,)), strict=True):
            self.register_buffer(name, torch.ones(shape))
        self.centre: Tensor
        self.log_weight: Tensor
        self.width: Tensor
        self.stretch: Tensor
        self._natural: Natural | None = None

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in KEPT:  # as many rows as the file has
            if prefix + name in state:
                setattr(self, name, torch.empty_like(state[prefix + name], device=self.width.device))
        self._natural = None
        super()._load_from_state_dict(state, prefix, *rest)

    # -- use in a program --------------------------------------------------------------------------------------
    def weights(self) -> Rows:
        """The distribution of the row from which a draw comes."""
        which = Categorical(max(len(self.centre), 1), prior=None)
        return Rows(which, {"logits": self.log_weight}, torch.Size())

    def forward(self, index: Tensor | Symbol) -> Kernels:
        """The kernel on the row of this index."""
        return Kernels(self, index)

    @property
    def piece_rows(self) -> int:
        """How many rows can be scored at once in little memory."""
        return max(8, PIECE // max(len(self.centre), 1))

    @property
    def natural(self) -> Natural:
        """What scores need of the kernels, made once."""
        if self._natural is None:
            self._natural = self.kernel.natural(self.centre, self.width, self.stretch)
        return self._natural

    def score(self, x: Tensor) -> Tensor:
        """``(K, N)``: log density of each row under each kernel; unknown cells integrated out."""
        return self.kernel.score(self.natural, x)

    def log_sum(self, x: Tensor, log_weight: Tensor) -> Tensor:
        """``(N,)``: log density of each row under all kernels with these weights."""
        return self.kernel.log_sum(self.natural, log_weight, x)

    def draw(self, index: Tensor) -> Tensor:
        """A row ``(N, D)`` from each of the kernels with these indices."""
        return self.kernel.draw(self.centre[index], self.width, self.stretch[index])

    # -- fitting -----------------------------------------------------------------------------------------------
    def keep(self, x: Tensor, weight: Tensor) -> LeftOut:
        """Put a kernel on every row of positive weight, its width by rule; returns these rows to be left out in turn.

        Raises:
            FitError: fewer than two rows, or a column that does not vary.
        """
        used = weight > 0
        y, log_jacobian = self.axes.read(x[used])
        weight = weight[used] / weight.sum()
        if len(y) < 2:
            raise FitError(f"kernel_density needs at least 2 rows of positive weight, the table has {len(y)}.")
        spread = self.spread(y, weight)
        start = self.by_rule(spread, weight)
        deck = hot_deck(self.smooth, y, weight, 0.5 * start, self.donors)
        self.centre, self.log_weight = deck.centre, deck.weight.log()
        self.stretch = self.stretched(spread, deck.origin[:, 0])
        self.set_width(start)
        return self.left_out(y, log_jacobian, weight, deck.origin, spread, start)

    def for_more_rows(self, width: Tensor, share: float) -> Tensor:
        """Widths found on this share of the rows, for all of them."""
        factor = share ** (1 / (self.kernel.count.stop + 4))
        return width * torch.where(self.axis_is("identity", "log", "logit"), factor, factor**2)

    def set_width(self, width: Tensor) -> None:
        """Use these widths of Gaussian kernels, wider on lines where the kernel is a compact one."""
        lines = len(self.axes.lines)
        factor = torch.ones_like(width)
        if isinstance(self.bandwidth, str):
            factor[:lines] = equivalent_width(self.kernel.power, lines)
        self.width, self._natural = (width * factor).detach(), None

    def merge(self) -> None:
        """Put one kernel in place of all whose centres share a cell of a grid, at their weighted mean.

        What is left is a density again; for smooth kernels it differs in the second order of the cell's side.
        """
        if self.approximation is None:
            return
        cell = self.centre.clone()
        line = self.kernel.line
        cell[:, line] = (cell[:, line] / (self.approximation * self.width[line])).floor()
        group, weight = numbered(cell), self.log_weight.exp()
        total = weight.new_zeros(int(group.max()) + 1).index_add(0, group, weight)

        def mean(value: Tensor) -> Tensor:
            added = value.new_zeros(len(total), value.shape[1]).index_add(0, group, value * weight[:, None])
            return added / total[:, None]

        centre = mean(self.centre)
        centre[:, line.stop :] = centre[:, line.stop :].round()  # all equal, up to rounding errors
        self.stretch, self.centre = mean(self.stretch.log()[:, None]).exp()[:, 0], centre
        self.log_weight, self._natural = total.log(), None

    def spread(self, y: Tensor, weight: Tensor) -> Tensor:
        """Weighted standard deviation of each axis over its known cells; 1 on axes with unordered levels, a little for counts that never vary."""
        w = torch.where(y.isnan(), 0.0, weight[:, None])
        w = w / w.sum(0)
        mean = (w * y.nan_to_num()).sum(0)
        spread = (w * (y.nan_to_num() - mean).square()).sum(0).sqrt()
        for at, axis in enumerate(self.axes.all):
            if at < self.kernel.line.stop and not spread[at] > 1e-9 * mean[at].abs():
                raise FitError(f"Column {axis.name!r} does not vary among the rows used; drop it before fitting.")
        return torch.where(self.axis_is("unordered", "spike"), 1.0, spread.clamp_min(1e-3))

    def by_rule(self, spread: Tensor, weight: Tensor) -> Tensor:
        """The widths that the bandwidth asks for; those from which a search starts are Scott's (1992).

        With q lines and counts and the effective number n of rows, Scott's factor of a standard deviation is
        :math:`n^{-1/(q+4)}`, Silverman's (1986) :math:`(4 / (n (q + 2)))^{1/(q+4)}`. A geometric kernel gets that
        standard deviation too; unordered levels get :math:`n^{-2/(q+4)}`.
        """
        q = self.kernel.count.stop
        inverse_size = weight.square().sum()
        scott = inverse_size ** (1 / (q + 4))
        factor = scott * (4 / (q + 2)) ** (1 / (q + 4)) if self.bandwidth == "silverman" else scott
        asked = spread.new_tensor([self.asked(axis) for axis in self.axes.all])
        sample = spread * (1 - inverse_size).rsqrt()  # of a sample, not of a population
        line = torch.where(asked.isnan(), factor * sample, asked * spread)
        decay = torch.where(asked.isnan() | self.axis_is("count"), geometric_decay(line), asked)
        share = torch.where(asked.isnan(), scott.square(), asked)
        level = torch.where(self.axis_is("unordered", "spike"), share, decay).clamp(1e-9, LARGEST)
        return torch.where(self.axis_is("identity", "log", "logit"), line, level)

    def asked(self, axis: Axis) -> float:
        """The number that the user gave for an axis; NaN for none. One for all does not speak of levels."""
        if isinstance(self.bandwidth, str) or axis.read == "spike":
            return torch.nan
        if isinstance(self.bandwidth, tuple):
            return self.bandwidth[axis.column]
        return torch.nan if axis.levels else self.bandwidth

    def axis_is(self, *reads: str) -> Tensor:
        return self.axes.of_sort(*reads).to(self.width.device)

    def stretched(self, spread: Tensor, source: Tensor) -> Tensor:
        """One factor a centre, of geometric mean 1: its distance to the k-th nearest row, on lines only."""
        if self.neighbours is None:
            return torch.ones_like(self.log_weight)
        lines = len(self.axes.lines)
        first = torch.cat([source.new_ones(1, dtype=torch.bool), source[1:] != source[:-1]])
        if not lines or self.neighbours >= int(first.sum()):
            raise CapabilityError(
                f"neighbours={self.neighbours} needs a continuous column and more than {self.neighbours} rows."
            )
        points = (self.centre[:, :lines] / spread[:lines]).double().cpu().numpy()
        near, _ = KDTree(points[first.cpu().numpy()]).query(points, k=[self.neighbours + 1])
        distance = torch.as_tensor(near[:, 0]).to(self.centre)
        distance = distance.clamp_min(1e-3 * distance[distance > 0].mean())
        return distance / (self.log_weight.exp() * distance.log()).sum().exp()

    def left_out(
        self, y: Tensor, log_jacobian: Tensor, weight: Tensor, origin: Tensor, spread: Tensor, start: Tensor
    ) -> LeftOut:
        """How rows are left out so that ties do not make the likelihood grow without bound.

        A line with fewer than half as many values as there are different rows is taken to be rounded: its kernel is no
        narrower than half a typical step. Rows that are equal are left out together, if they have a value on another line.
        """
        is_line = self.axis_is("identity", "log", "logit")
        low = torch.where(is_line, NARROWEST * spread, SMALLEST)
        high = torch.where(is_line, WIDEST * spread, LARGEST)
        different = int(numbered(y).max()) + 1
        if different < 2:
            raise FitError(f"All {len(y)} rows are equal; kernel widths need different ones.")
        fine = is_line.clone()
        for at in range(len(self.axes.lines)):
            values = y[~y[:, at].isnan(), at].unique()
            fine[at] = 2 * len(values) >= different
            if not fine[at]:
                low[at] = torch.maximum(low[at], 0.5 * values.diff().median())
        single = torch.where(y[:, fine].isnan().all(1), torch.arange(len(y), device=y.device), -1)
        group, first = in_order(numbered(torch.column_stack([y, single])))
        together = torch.zeros_like(weight[: len(first)]).index_add(0, group, weight)
        origin = torch.where(origin < 0, -1, group[origin])
        return LeftOut(y[first], log_jacobian[first], together, origin, low, high, start)

    def described(self) -> dict[str, float]:
        """The width of each axis by its column's name; a semicontinuous column's spike has an entry of its own."""
        names = [axis.name + (" is zero" if axis.read == "spike" else "") for axis in self.axes.all]
        return dict(zip(names, self.width.tolist(), strict=True))


class Kernels(Observable):
    """The kernel on one of the kept rows, or on all of them where the index is a symbol."""

    def __init__(self, rows: KernelRows, index: Tensor | Symbol) -> None:
        self.rows, self.index = rows, index
        batch = torch.Size() if isinstance(index, Symbol) else index.shape
        super().__init__(batch, torch.Size([rows.axes.width]), validate_args=False)

    def factor(self, value: Tensor | Symbol) -> Factor:
        assert isinstance(value, Tensor)  # columns are observed, never summed out
        if isinstance(self.index, Symbol):
            return BlockedFactor(self.index, partial(self.rows.score, value), partial(self.rows.log_sum, value))
        return Factor((), self.log_prob(value))

    def log_prob(self, value: Tensor) -> Tensor:
        scores = self.rows.score(value)
        return scores if isinstance(self.index, Symbol) else scores.gather(0, self.index[None])[0]

    def fill(self, x: Tensor) -> Tensor:
        """X with its NaN cells drawn from the kernel."""
        return torch.where(x.isnan(), self.sample(), x)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        assert isinstance(self.index, Tensor)
        return self.rows.draw(self.index)


def check_bandwidth(bandwidth: Any, schema: Schema) -> str | float | tuple[float, ...]:
    """A rule's name, a number, or one number a column."""
    if isinstance(bandwidth, str) and bandwidth in RULES:
        return bandwidth
    one = isinstance(bandwidth, int | float) and not isinstance(bandwidth, bool)
    try:
        found = (float(bandwidth),) if one else tuple(float(value) for value in bandwidth)
    except (TypeError, ValueError):
        found = ()
    levels = [False] if one else [column.is_discrete for column in schema]
    bad = [w for w, level in zip(found, levels, strict=False) if not 0 < w < (1.0000001 if level else torch.inf)]
    if len(found) != len(levels) or bad:
        raise CapabilityError(
            f"bandwidth must be one of {', '.join(RULES)}, a positive number of standard deviations, or one number for"
            f" each of the {len(schema)} columns (between 0 and 1 for columns with levels), got {bandwidth!r}."
        )
    return found[0] if one else found


def numbered(rows: Tensor) -> Tensor:
    """``(N,)``: equal rows get the same number, from 0 without gaps; unknown cells equal each other."""
    found = np.ascontiguousarray(rows.nan_to_num(nan=-1e30).cpu().numpy() + 0.0)  # no minus zero
    whole = found.view([("", found.dtype)] * found.shape[1])[:, 0]
    return torch.as_tensor(np.unique(whole, return_inverse=True)[1], device=rows.device)


def in_order(group: Tensor) -> tuple[Tensor, Tensor]:
    """Groups numbered in the order in which they appear, and the first row of each."""
    place = torch.arange(len(group), device=group.device)
    first = torch.full_like(place, len(group)).scatter_reduce(0, group, place, "amin")[: int(group.max()) + 1]
    first, order = first.sort()
    rank = torch.empty_like(order).scatter(0, order, place[: len(order)])
    return rank[group], first
