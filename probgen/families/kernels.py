r"""Product kernels for rows of mixed columns, and the density that has one of them on every training row.

.. math:: K_h(x; c) = \prod_{d \text{ known}} K_d(x_d; c_d, h_d)

Kernels work on *axes*. A real or datetime column is one axis, a positive column its logarithm, a bounded one its log
odds; a semicontinuous column has two, whether it is zero and the logarithm of a positive amount. On an axis stands

- a line: :math:`\mathcal N(c, h^2)`, or a compact kernel :math:`\propto (1 - u^2)^p,\ u = (x - c)/h`, with p = 0
  (tophat), 1 (Epanechnikov, 1969), 2 (biweight);
- a count: :math:`\propto h^{|x - c|}` on the whole numbers from zero, or between the column's bounds;
- ordered levels: :math:`\propto h^{|x - c|}` on the levels (Racine, Li and Yan, 2020);
- unordered levels: :math:`(1 - h)\,[x = c] + h / L`, which is Aitchison and Aitken (1976) with their
  :math:`\lambda = h (L - 1) / L`.

A kernel of a column that a query does not know is left out, which is its exact marginal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.distributions import Beta

from probgen.data.holes import known
from probgen.data.schema import Schema
from probgen.errors import CapabilityError
from probgen.families.base import Natural
from probgen.families.columns import softplus_pair

__all__ = ["POWERS", "Axes", "ProductKernel", "equivalent_width", "geometric_decay"]

POWERS = {"gaussian": None, "tophat": 0, "epanechnikov": 1, "biweight": 2}
LINES = {"real": "identity", "datetime": "identity", "positive": "log", "semicontinuous": "log", "bounded": "logit"}
CENTRES, ROWS = 512, 128  # of one block of scores
ENDLESS = 1e12  # steps to the end of counts that have none: a power of any width is zero, and so is its derivative
FAR = 1e20  # smallest numbers that a sum has to hold to be exact
LOG_TWO_PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Axis:
    """One coordinate in which a kernel works: of which column, read how, with how many levels."""

    column: int
    name: str
    read: str  # identity, log, logit, count, ordered, unordered, spike
    levels: int = 0
    ends: tuple[float, float] = (0.0, math.inf)  # of counts


class Axes:
    """A schema's axes: lines first, then counts, then levels.

    Attributes:
        lines, counts, levels: the axes of each sort, in this order side by side in :meth:`read`.
    """

    def __init__(self, schema: Schema) -> None:
        self.width = len(schema)
        columns = list(enumerate(schema))
        self.lines = [Axis(at, c.name, LINES[c.kind]) for at, c in columns if c.kind in LINES]
        self.counts = [Axis(at, c.name, "count", ends=c.ends) for at, c in columns if c.kind == "count"]
        self.levels = [
            Axis(at, c.name, "ordered" if c.kind == "ordinal" else "unordered", c.cardinality)
            for at, c in columns
            if c.is_discrete
        ]
        self.levels += [Axis(at, c.name, "spike", 2) for at, c in columns if c.kind == "semicontinuous"]
        self.all = [*self.lines, *self.counts, *self.levels]

    def __len__(self) -> int:
        return len(self.all)

    def of_sort(self, *reads: str) -> Tensor:
        """Mask of the axes that are read so."""
        return torch.tensor([axis.read in reads for axis in self.all])

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rows ``(N, D)`` on their axes ``(N, A)``, NaN where there is no value, and the log Jacobian ``(N,)``."""
        y = x[:, [axis.column for axis in self.all]]
        log, logit, spike = (self.of_sort(read).to(x.device) for read in ("log", "logit", "spike"))
        positive = torch.where(y > 0, y, torch.nan).log()
        y = torch.where(log, positive, torch.where(spike & ~y.isnan(), (y > 0).to(y), y))
        y = torch.where(logit, y.clamp(1e-6, 1 - 1e-6).logit(), y)
        slope = torch.where(log, -y, torch.where(logit, softplus_pair(y), 0.0))
        return y, slope.nan_to_num().sum(-1)

    def write(self, y: Tensor) -> Tensor:
        """Values on all axes ``(N, A)`` as rows ``(N, D)``."""
        x = y.new_empty(len(y), self.width)
        inverse = {"log": torch.exp, "logit": torch.sigmoid}
        for at, axis in enumerate(self.all):
            if axis.read == "spike":  # comes after the amount
                x[:, axis.column] = torch.where(y[:, at] > 0, x[:, axis.column], 0.0)
            else:
                x[:, axis.column] = inverse.get(axis.read, torch.clone)(y[:, at])
        return x


@dataclass(frozen=True)
class Statistics:
    """What the kernels see of some rows.

    Attributes:
        terms: ``(N, P)``, to be multiplied by the kernels' weights.
        y, mask: ``(N, A)``, the values (zeros where unknown) and which of them are known, as numbers.
        complete: every value is known.
    """

    terms: Tensor
    y: Tensor
    mask: Tensor
    complete: bool

    def take(self, rows: slice) -> Statistics:
        """Some of the rows."""
        return Statistics(self.terms[rows], self.y[rows], self.mask[rows], self.complete)

    def with_one(self) -> Statistics:
        """With one more term, which is one."""
        return replace(self, terms=torch.cat([self.terms, torch.ones_like(self.terms[:, :1])], 1))


class ProductKernel:
    """The product of the axes' kernels: its density between many centres and many rows, and draws from it.

    Args:
        axes: the axes.
        kernel: of lines: "gaussian", "epanechnikov", "biweight" or "tophat".
    """

    def __init__(self, axes: Axes, kernel: str) -> None:
        if kernel not in POWERS:
            raise CapabilityError(f"kernel must be one of {', '.join(POWERS)}, got {kernel!r}.")
        self.axes, self.power = axes, POWERS[kernel]
        self.line = slice(0, len(axes.lines))
        self.count = slice(len(axes.lines), len(axes.lines) + len(axes.counts))

    def sides(self, centre: Tensor) -> tuple[Tensor, Tensor]:
        """How many steps each count's centre ``(K, counts)`` is above the column's least and below its greatest value."""
        ends = torch.tensor([axis.ends for axis in self.axes.counts]).reshape(-1, 2).clamp(max=ENDLESS).to(centre)
        return (centre - ends[:, 0]).clamp_min(0), (ends[:, 1] - centre).clamp_min(0)  # zeros stand for unknown cells

    # -- density -----------------------------------------------------------------------------------------------
    def natural(self, centre: Tensor, width: Tensor, stretch: Tensor) -> Natural:
        """What :meth:`score` needs of the centres ``(K, A)``, the widths ``(A,)`` and their stretch a row ``(K,)``.

        ``weights (K, P)`` multiply the statistics of a row; the rest is for kernels that are no such product.
        """
        h = width[self.line] * stretch[:, None]
        c = centre[:, self.line]
        linear = c / h.square() if self.power is None else c[:, :0]
        counts = count_constant(*self.sides(centre[:, self.count]), width[self.count])
        constant = torch.cat([self.line_constant(c, h), counts], 1)
        tables = [level_table(axis, h)[code.long()] for axis, h, code in self.level_columns(width, centre)]
        one = torch.ones_like(stretch)[:, None]
        shared = [linear, stretch.square().reciprocal()[:, None], one]
        complete = torch.cat([*shared, constant.sum(1, keepdim=True), *tables], 1)
        weights = torch.cat([*shared, constant, *tables], 1)
        rest = {"precision": width[self.line].square().reciprocal(), "decay": width[self.count].log()}
        return {"weights": weights, "complete": complete, "centre": centre, "width": h, **rest}

    def peak(self, natural: Natural) -> Tensor:
        """``(lines + counts,)``: what no kernel's log density exceeds, one axis at a time."""
        normaliser = 0.5 * LOG_TWO_PI if self.power is None else log_beta(self.power)
        counts = count_constant(*self.sides(natural["centre"][:, self.count]), natural["decay"].exp())
        return torch.cat([-natural["width"].amin(0).log() - normaliser, counts.amax(0)])

    def line_constant(self, c: Tensor, h: Tensor) -> Tensor:
        """Log normalisers of the lines ``(K, lines)``, for a Gaussian with the centre's square."""
        if self.power is None:
            return -0.5 * (c / h).square() - h.log() - 0.5 * LOG_TWO_PI
        return -h.log() - log_beta(self.power)

    def level_columns(self, width: Tensor, y: Tensor) -> list[tuple[Axis, Tensor, Tensor]]:
        """Axis, width and codes ``(N,)`` of every axis with levels."""
        first = self.count.stop
        return [(axis, width[at], y[:, at]) for at, axis in enumerate(self.axes.levels, first)]

    def score(self, natural: Natural, x: Tensor) -> Tensor:
        """``(K, N)``: log density of each row of x under the kernel on each centre; unknown cells integrated out."""
        y, log_jacobian = self.axes.read(x)
        return self.score_axes(natural, y, log_jacobian)

    def score_axes(self, natural: Natural, y: Tensor, log_jacobian: Tensor) -> Tensor:
        """The same for rows that stand on their axes already."""
        return self.combine(natural, self.statistics(natural, y, log_jacobian))

    def combine(self, natural: Natural, rows: Statistics) -> Tensor:
        """``(K, N)`` from both sides."""
        total = natural["complete" if rows.complete else "weights"] @ rows.terms.mT
        for at, log_h in zip(range(self.count.start, self.count.stop), natural["decay"], strict=True):
            steps = (natural["centre"][:, at, None] - rows.y[:, at]).abs()
            total = total + log_h * steps * rows.mask[:, at]
        return total if self.power is None else total + self.compact(natural, rows)

    def statistics(self, natural: Natural, y: Tensor, log_jacobian: Tensor) -> Statistics:
        """What the weights are multiplied by."""
        seen = known(y)
        mask = torch.ones_like(y) if seen is None else seen.to(y)
        y = y if seen is None else torch.where(seen, y, 0.0)
        line, numbers = y[:, self.line], slice(0, self.count.stop)
        if self.power is None:
            square = -0.5 * (line.square() * natural["precision"]).sum(1, keepdim=True)
        else:
            line, square = line[:, :0], torch.zeros_like(log_jacobian)[:, None]
        constant = torch.ones_like(square) if seen is None else mask[:, numbers]
        hot = [
            (y[:, at, None] == torch.arange(axis.levels).to(y)).to(y) * mask[:, at, None]
            for at, axis in enumerate(self.axes.levels, self.count.stop)
        ]
        terms = torch.cat([line, square, log_jacobian[:, None], constant, *hot], 1)
        return Statistics(terms, y, mask, seen is None)

    def log_sum(self, natural: Natural, weight: Tensor, x: Tensor) -> Tensor:
        """``(N,)``: log of the weighted sum over all kernels, in blocks that stay in the cache.

        Terms are taken relative to a bound that no kernel exceeds; rows so far out that the sum underflows are done
        again relative to their nearest kernel.
        """
        y, log_jacobian = self.axes.read(x)
        seen = ~y[:, : self.count.stop].isnan()
        bound = seen.to(y) @ self.peak(natural) + log_jacobian + weight.amax()
        rows = self.statistics(natural, y, log_jacobian - bound).with_one()
        side = "complete" if rows.complete else "weights"
        weighted = {**natural, side: torch.cat([natural[side], weight[:, None]], 1)}
        total = torch.zeros_like(bound)
        for first in range(0, len(weight), CENTRES):
            some = {**weighted, **{key: weighted[key][first : first + CENTRES] for key in (side, "centre", "width")}}
            for start in range(0, len(y), ROWS):
                block = slice(start, start + ROWS)
                total[block] += self.combine(some, rows.take(block)).exp_().sum(0)
        found = total.log() + bound
        for far in (total < FAR * torch.finfo(total.dtype).tiny).nonzero()[:, 0].split(ROWS):
            found[far] = (self.score_axes(natural, y[far], log_jacobian[far]) + weight[:, None]).logsumexp(0)
        return found

    def compact(self, natural: Natural, rows: Statistics) -> Tensor:
        """``(K, N)``: p times the log of the product of 1 - u^2, minus infinity outside."""
        product = rows.y.new_ones(len(natural["centre"]), len(rows.y))
        for at in range(self.line.stop):
            u = (natural["centre"][:, at, None] - rows.y[:, at]) / natural["width"][:, at, None]
            product = product * (1 - u.square() * rows.mask[:, at]).clamp_min(0)
        return torch.where(product > 0, (self.power or 0) * product.log(), -torch.inf)

    # -- draws -------------------------------------------------------------------------------------------------
    def draw(self, centre: Tensor, width: Tensor, stretch: Tensor) -> Tensor:
        """One row ``(N, D)`` from the kernel on each centre ``(N, A)``."""
        h = width[self.line] * stretch[:, None]
        line = centre[:, self.line] + h * self.noise(h)
        at = centre[:, self.count]
        counts = at + draw_steps(*self.sides(at), width[self.count])
        codes = [
            torch.distributions.Categorical(logits=level_table(axis, h)[code.long()]).sample().to(line)
            for axis, h, code in self.level_columns(width, centre)
        ]
        return self.axes.write(torch.column_stack([line, counts, *codes]))

    def noise(self, like: Tensor) -> Tensor:
        """Draws of the lines' kernel of width 1."""
        if self.power is None:
            return torch.randn_like(like)
        edge = torch.full_like(like, self.power + 1.0)
        return 2 * Beta(edge, edge).sample() - 1


def level_table(axis: Axis, h: Tensor) -> Tensor:
    """``(L, L)``: log kernel between a centre's level and every level."""
    levels = torch.arange(axis.levels).to(h)
    if axis.read == "ordered":
        steps = (levels[:, None] - levels).abs()
        return (steps * h.log()).log_softmax(1)
    same = torch.eye(axis.levels).to(h)
    return ((1 - h) * same + h / axis.levels).log()


def count_constant(below: Tensor, above: Tensor, h: Tensor) -> Tensor:
    """Minus the log of the sum of h^|s| over the steps s = -below, ..., above."""
    return torch.log1p(-h) - torch.log1p(h - h ** (below + 1) - h ** (above + 1))


def draw_steps(below: Tensor, above: Tensor, h: Tensor) -> Tensor:
    """Steps from -below to above with probability proportional to h^|s|: the side first, then a geometric step."""
    total = 1 + h - h ** (below + 1) - h ** (above + 1)
    u = torch.rand_like(below)
    geometric = lambda most: (torch.log1p(u * torch.expm1(most * h.log())) / h.log()).floor()  # noqa: E731
    up = torch.minimum(geometric(above + 1), above)  # 0, 1, ..., above
    down = torch.minimum(1 + geometric(below), below)  # 1, ..., below
    return torch.where(torch.rand_like(below) < (h - h ** (below + 1)) / total, -down, up)


def log_beta(power: int) -> float:
    """Log of the integral of (1 - u^2)^p over (-1, 1)."""
    return 0.5 * math.log(math.pi) + math.lgamma(power + 1) - math.lgamma(power + 1.5)


def equivalent_width(power: int | None, lines: int) -> float:
    r"""How much wider than a Gaussian a compact kernel has to be for the same smoothing of ``lines`` lines.

    The ratio of canonical bandwidths (Marron and Nolan, 1988): :math:`(R(K)^d / \mu_2(K)^2)^{1 / (d + 4)}`.
    """
    if power is None:
        return 1.0
    log_roughness = log_beta(2 * power) - 2 * log_beta(power) + math.log(2 * math.sqrt(math.pi))
    log_variance = -math.log(2 * power + 3)
    return math.exp((lines * log_roughness - 2 * log_variance) / (lines + 4))


def geometric_decay(spread: Tensor) -> Tensor:
    """The h for which a two-sided geometric kernel h^|x - c| has this standard deviation."""
    v = spread.square()
    return v / (v + 1 + (2 * v + 1).sqrt())
