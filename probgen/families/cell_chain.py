r"""A row cell by cell: the chain rule inside of one distribution, whose conditionals are said by a network.

.. math::
    p_\sigma(x_O) = \prod_{d \in O} p\bigl(x_d \mid x_{\{e \in O : e \text{ before } d \text{ in } \sigma\}}\bigr), \qquad
    p(x_O) = \frac1R \sum_{r=1}^R p_{\sigma_r}(x_O)

for the known cells O of a row. One network that was shown any set of cells says all conditionals (Uria, Murray and Larochelle, 2014): what
is unknown in a row comes last in its order and integrates to one, so that :math:`p(x_O)` is exact, and what is unknown given what is known
is the chain that goes on from there. Every :math:`p(x_O)` is a distribution of its own, which sums to one; those of different O are
marginals of one another as far as the network has learnt to be consistent, and no further. A network of one order is consistent, and knows
no more than that order: there, unknown cells have to come last.

Densities and draws are computed in double precision, so that a row's do not depend on the rows beside it.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from probgen.data.batches import feature_columns, features, read_column
from probgen.data.schema import Schema
from probgen.errors import CapabilityError
from probgen.families.base import Factor, Observable, Symbol
from probgen.families.cell_heads import CellHeads
from probgen.families.latent import checked_sizes
from probgen.nn.any_order import CellNetwork
from probgen.whole import check_whole

__all__ = ["AnyOrder", "CellChain", "Cells", "InOrder", "checked_layers", "order_named", "orders_of"]

NUMBERS = 2**23  # in the largest layer of a network, at once
SEED = 20140622  # of orders beside the columns' own


class Cells(nn.Module):
    """The columns of a schema, said one by one by a network.

    Args:
        schema: the columns.
        heads: of their cells.
        net: what says them.
    """

    def __init__(self, schema: Schema, heads: CellHeads, net: CellNetwork) -> None:
        super().__init__()
        self.schema, self.heads, self.net = schema, heads, net
        owners = feature_columns(schema)
        self.places = [[at for at, owner in enumerate(owners) if owner == column] for column in range(len(schema))]

    def double(self) -> Cells:
        """The same in double precision; this one stays as it is."""
        return nn.Module.double(copy.deepcopy(self, {id(self.schema): self.schema}))

    def read(self, x: Tensor) -> Tensor:
        """``(B, F)`` numbers of cells, zeros for unknown ones."""
        return features(x, self.schema)[..., : len(self.net.owners)]

    def read_one(self, numbers: Tensor, x: Tensor, column: int) -> None:
        """Put one column's cells ``(B,)`` among the numbers."""
        numbers[:, self.places[column]] = read_column(x, self.schema[column])

    def log_probs(self, x: Tensor, numbers: Tensor, shown: Tensor) -> Tensor:
        """``(B, D)``: of every cell given those that are shown; whatever of unknown ones."""
        filled = torch.where(x.isnan(), self.heads.filler.to(x), x)
        return self.heads.log_prob(self.net.said(self.net(numbers, shown)), filled)

    def log_prob_of(self, x: Tensor, numbers: Tensor, shown: Tensor, column: int) -> Tensor:
        """``(B,)``: of the known cells of one column, given those that are shown."""
        return self.heads.of[column].log_prob(self.net.said_of(self.net(numbers, shown), column), x)

    def draw(self, numbers: Tensor, shown: Tensor, column: int) -> Tensor:
        """``(B,)`` cells of one column, given those that are shown."""
        return self.heads.of[column].sample(self.net.said_of(self.net(numbers, shown), column))

    def log_levels(self, x: Tensor, column: int) -> Tensor:
        """``(B, L)``: log probabilities of the levels of one column given the known cells of all others."""
        shown = ~x.isnan()
        shown[:, column] = False
        said = self.net.said_of(self.net(self.read(x), shown), column)
        return said.log_softmax(-1)

    @property
    def rows(self) -> int:
        """That go through the network together."""
        return max(1, NUMBERS // self.net.size)


class CellChain(Observable):
    """Rows ``(D,)``.

    Args:
        cells: the columns, and what says them.
        orders: ``(R, D)``, the columns of every order, the first first.
    """

    def __init__(self, cells: Cells, orders: Tensor, batch_shape: torch.Size = torch.Size()) -> None:  # noqa: B008
        self.cells, self.orders = cells, orders
        super().__init__(batch_shape, torch.Size([orders.shape[1]]), validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> CellChain:
        return type(self)(self.cells, self.orders, torch.Size(batch_shape))

    def factor(self, value: Tensor | Symbol) -> Factor:
        assert isinstance(value, Tensor)  # columns are observed, never summed out
        return Factor((), self.log_prob(value))

    def log_prob(self, value: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return self.scored(self.cells, value)
        cells = self.cells.double()
        return torch.cat([self.scored(cells, part) for part in value.double().split(cells.rows)])

    @abstractmethod
    def scored(self, cells: Cells, x: Tensor) -> Tensor:
        """``(B,)`` log densities of the known cells of some rows."""

    @torch.no_grad()
    def fill(self, x: Tensor) -> Tensor:
        """X with its NaN cells drawn given the known ones, one after another in an order of each row's own among the R."""
        cells, filled = self.cells.double(), x.double().clone()
        which = torch.randint(len(self.orders), (len(x),), device=x.device)
        for number, order in enumerate(self.orders.tolist()):
            rows = torch.nonzero(which == number)[:, 0]
            for some in rows.split(cells.rows):
                filled[some] = self.completed(cells, filled[some], order)
        return torch.where(x.isnan(), filled.to(x), x)

    def completed(self, cells: Cells, x: Tensor, order: Sequence[int]) -> Tensor:
        """Some rows with their unknown cells drawn in one order."""
        numbers, shown = cells.read(x).clone(), ~x.isnan()
        for column in order:
            blank = torch.nonzero(~shown[:, column])[:, 0]
            if len(blank):
                x[blank, column] = cells.draw(numbers[blank], shown[blank], column).to(x)
                shown[blank, column] = True
                cells.read_one(numbers, x[:, column], column)
        return x

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        shape = (*sample_shape, *self.batch_shape)
        blank = torch.full(
            (max(1, torch.Size(shape).numel()), *self.event_shape), torch.nan, device=self.orders.device
        )
        return self.fill(blank.to(self.cells.heads.filler)).reshape(*shape, -1)


class AnyOrder(CellChain):
    """By a network that says any cell given any others."""

    def scored(self, cells: Cells, x: Tensor) -> Tensor:
        return torch.logsumexp(torch.stack([self.along(cells, x, order) for order in self.orders.tolist()]), 0) - (
            torch.tensor(float(len(self.orders))).to(x).log()
        )

    def along(self, cells: Cells, x: Tensor, order: Sequence[int]) -> Tensor:
        """``(B,)``: of the known cells in one order."""
        numbers, known = cells.read(x), ~x.isnan()
        shown, total = torch.zeros_like(known), x.new_zeros(len(x))
        for column in order:
            rows = torch.nonzero(known[:, column])[:, 0]
            if len(rows):
                found = cells.log_prob_of(x[rows, column], numbers[rows], shown[rows], column)
                total = total.index_add(0, rows, found.to(x))
            shown = shown.clone()
            shown[:, column] = known[:, column]
        return total

    def over_orders(self, priority: Tensor, place: Tensor) -> OverOrders:
        """As it is learnt: see :class:`OverOrders`."""
        return OverOrders(self, priority, place)


class OverOrders(Observable):
    r"""The mean of :math:`\log p_\sigma(x_O)` over all orders, estimated without bias from S passes of the network.

    .. math:: \frac{|O|}{|O| - k} \sum_{d \in O \setminus S} \log p(x_d \mid x_S)

    where S holds the first k of the known cells in a random order, k any number below theirs (Uria, Murray and Larochelle, 2014).

    Args:
        chain: of any order.
        priority: ``(S, B, D)``; cells come in the order of these numbers.
        place: ``(S, B)`` from 0 to 1, k as a share of the known cells.
    """

    def __init__(self, chain: AnyOrder, priority: Tensor, place: Tensor) -> None:
        self.chain, self.priority, self.place = chain, priority, place
        super().__init__(chain.batch_shape, chain.event_shape, validate_args=False)

    def factor(self, value: Tensor | Symbol) -> Factor:
        assert isinstance(value, Tensor)  # columns are observed, never summed out
        return Factor((), self.log_prob(value))

    def log_prob(self, value: Tensor) -> Tensor:
        cells, draws = self.chain.cells, len(self.place)
        known = ~value.isnan()
        count = known.sum(-1)
        first = (self.place * count).long().clamp_max((count - 1).clamp_min(0))
        rank = self.priority.masked_fill(~known, torch.inf).argsort(-1).argsort(-1)
        shown = known & (rank < first[..., None])
        x, numbers = (some.repeat(draws, 1) for some in (value, cells.read(value)))
        found = cells.log_probs(x, numbers, shown.flatten(0, 1)).view_as(rank)
        asked = torch.where(known & ~shown, found, 0.0).sum(-1)
        return (asked * (count / (count - first).clamp_min(1)).to(asked)).mean(0)


class InOrder(CellChain):
    """By a network of one order: all in one pass."""

    def scored(self, cells: Cells, x: Tensor) -> Tensor:
        known = self.checked(x)
        found = cells.log_probs(x, cells.read(x), known)
        return torch.where(known, found, 0.0).sum(-1)

    def completed(self, cells: Cells, x: Tensor, order: Sequence[int]) -> Tensor:
        self.checked(x)
        return super().completed(cells, x, order)

    def checked(self, x: Tensor) -> Tensor:
        """``(B, D)``, which cells are known; refused where an unknown one stands before a known one."""
        known = ~x.isnan()
        ordered = known[:, self.orders[0]]
        late = ordered[:, 1:] & ~ordered[:, :-1].cummin(-1).values
        if bool(late.any()):
            after = int(self.orders[0][1:][late.any(0)][0])
            names = [self.cells.schema.names[at] for at in self.orders[0].tolist()]
            raise CapabilityError(
                f"A network of one order knows a column given those before it, and in a row {names[after]!r} is known where a"
                f" column before it is not; the order is {', '.join(names)}. Use order='any', which takes all holes."
            )
        return known


def orders_of(columns: int, count: int) -> Tensor:
    """``(R, D)``: the columns' own order first, then random ones, which are always the same."""
    check_whole("orders", count)
    generator = torch.Generator().manual_seed(SEED)
    drawn = [torch.randperm(columns, generator=generator) for _ in range(count - 1)]
    return torch.stack([torch.arange(columns), *(order.cpu() for order in drawn)])


def order_named(name: str, columns: int) -> Tensor:
    """``(1, D)``: one order, "column" or "random"."""
    if name not in ("column", "random"):
        raise CapabilityError(f"order must be 'any', 'column' or 'random', got {name!r}.")
    return orders_of(columns, 1) if name == "column" else torch.randperm(columns)[None]


def checked_layers(hidden: tuple[int, ...]) -> None:
    """Refuse networks without any layer between."""
    checked_sizes(hidden=hidden)
    if not hidden:
        raise CapabilityError("hidden must be the widths of at least one layer, such as (128,), got ().")
