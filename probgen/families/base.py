r"""The contract of a family: one conditional distribution :math:`p(x \mid \text{row})`, used in two ways.

*As a table.* A family holds K rows of parameters. ``draw(name)`` makes them global sample sites; the result is
called with a discrete index. The density of all rows at once is a matrix product

.. math:: \log p(x \mid k) = b(x) + \langle W_k, T(x) \rangle,

where :math:`W_k` (``natural``) holds the natural parameters *and* minus the log normaliser. Because W is not
renormalised inside, the gradient of any log evidence with respect to W is the expected sum of T(x) (Fisher's
identity): that is all that EM asks for. ``update`` turns these statistics into new parameters in closed form.

*As a network's head.* ``family(output)`` turns a decoder's output into the same distribution, row by row.

In both uses NaN means "unknown": the density integrates it out, and ``fill`` draws it given the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, wraps
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import pyro
import torch
from pyro.distributions import Distribution, TorchDistribution
from torch import Tensor, nn
from torch.distributions import biject_to
from torch.utils.weak import WeakTensorKeyDictionary

from probgen._pyro import effectful
from probgen.errors import CapabilityError
from probgen.whole import check_whole

Parameters = dict[str, Tensor]  # readable parameters: loc, precision, probs, ...
Natural = dict[str, Tensor]  # natural parameters and log normalisers; statistics have the same keys and shapes
SUM_OUT = {"enumerate": "parallel"}  # pyro.sample(..., infer=SUM_OUT): this discrete site is summed out
INTEGRATE_OUT = {"integrate": "exact"}  # infer=INTEGRATE_OUT: the family that is given this site integrates it out


class InnerName(str):
    """The name of a symbol that a family puts between sites. It equals that of no site, whatever its letters."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InnerName) and str(self) == str(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((InnerName, str(self)))


@dataclass(frozen=True)
class Symbol:
    """The value of a summed-out discrete site: a named dimension instead of a number.

    Attributes:
        codes: ``(N,)`` its values, where all of them are known and nothing is left to sum out.
        width: how many such values a row has; None where it is a single one.
    """

    name: str
    size: int
    codes: Tensor | None = field(default=None, compare=False, repr=False)
    width: int | None = None

    @property
    def inner(self) -> bool:
        """True where it is no site, but a step of a family's own sum."""
        return isinstance(self.name, InnerName)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its probabilities for one row."""
        return (self.size,) if self.width is None else (self.width, self.size)


@dataclass(frozen=True)
class Latent:
    """The value of a continuous local site that a family integrates out: a name instead of numbers."""

    name: str


@dataclass(frozen=True, eq=False)
class Cells:
    """The value of a continuous site that others may depend on: a name, and the numbers that are known of it.

    Attributes:
        value: ``(N,)`` in the coordinates of its family, NaN where it is to be integrated out.
        raw: ``(N,)`` in the coordinates of the table.
        write: from the first to the second, unless they are the same.
    """

    name: str
    value: Tensor
    raw: Tensor
    write: Callable[[Tensor], Tensor] | None = None

    def completed(self, value: Tensor) -> Tensor:
        """The column in the table's coordinates with unknown cells from ``value``, which is in those of the family."""
        return torch.where(self.raw.isnan(), value if self.write is None else self.write(value), self.raw)


@dataclass(frozen=True)
class Factor:
    """A log density as a tensor of shape ``(*sizes of the symbols, *plates)``."""

    symbols: tuple[Symbol, ...]
    value: Tensor

    @property
    def is_plain(self) -> bool:
        """A table over its symbols and nothing else."""
        return type(self) in (Factor, LookedUp)


class LookedUp(Factor):
    """Entries of a table at known places, one a row: their sum needs only how often each place is met.

    Args:
        table: ``(E,)``.
        places: ``(N,)``, of each row.
    """

    def __init__(self, table: Tensor, places: Tensor) -> None:
        self.__dict__.update(symbols=(), table=table, places=places)

    table: Tensor
    places: Tensor

    @cached_property
    def value(self) -> Tensor:  # type: ignore[override]
        return self.table.index_select(0, self.places)

    def counts(self, weights: Tensor | None = None) -> Tensor:
        """``(E,)``: the weight of the rows that meet each entry."""
        return torch.bincount(self.places, weights, len(self.table)).to(self.table.dtype)


class BlockedFactor(Factor):
    """A factor over one symbol of very many values, which can sum itself out without ever standing in memory whole.

    Args:
        symbol: with K values.
        score: makes the ``(K, N)`` log densities, where they are wanted after all.
        log_sum: from ``(K,)`` log weights of the values to the ``(N,)`` log sum over them.
    """

    def __init__(self, symbol: Symbol, score: Callable[[], Tensor], log_sum: Callable[[Tensor], Tensor]) -> None:
        self.__dict__.update(symbols=(symbol,), score=score, log_sum=log_sum)

    score: Callable[[], Tensor]
    log_sum: Callable[[Tensor], Tensor]

    @cached_property
    def value(self) -> Tensor:  # type: ignore[override]
        return self.score()


def total_of(factors: Sequence[Factor], rows: int, weights: Tensor | None = None) -> Tensor:
    """The weighted sum over rows of factors without symbols; of tables by how often each entry is met."""
    tables = [factor for factor in factors if isinstance(factor, LookedUp)]
    others = [factor.value.expand(rows) for factor in factors if not isinstance(factor, LookedUp)]
    total: Any = sum((x if weights is None else x * weights).sum() for x in others)
    if tables:
        entries, counts = torch.cat([f.table for f in tables]), torch.cat([f.counts(weights) for f in tables])
        total = (
            total + torch.where(counts > 0, entries * counts, 0.0).sum()
        )  # 0 for an entry of -inf that no row meets
    return total


def once_per_tensor(function: Callable) -> Callable:
    """Remember ``function(self, x)`` while the data tensor x is alive: data statistics are computed once a fit."""
    memory: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    @wraps(function)
    def remembered(self: Any, x: Tensor) -> Any:
        if x.requires_grad or torch._C._functorch.is_functorch_wrapped_tensor(x):
            return function(self, x)
        kept = memory.setdefault(x, WeakKeyDictionary())
        version, value = kept.get(self, (None, None))
        if version != x._version:
            value = function(self, x)
            if value is not x:  # x would keep itself alive
                kept[self] = (x._version, value)
        return value

    return remembered


class Family(nn.Module, ABC):
    """A distribution over ``columns`` columns (``None``: one bare value) with a table of ``table`` rows.

    Args:
        columns: D, the number of columns that one draw holds.
        table: K, the number of parameter rows.
        prior: "default", scaled to the data by :meth:`calibrate`, or ``None`` for maximum likelihood.
    """

    additive = True  # statistics of earlier parameters can be added to: they are sufficient whatever the parameters
    closed = False  # one update is the maximum where nothing is hidden
    filler = 0.0  # a value inside the support that stands in for unknown cells

    def __init__(self, columns: int | None, table: int, prior: str | None) -> None:
        super().__init__()
        check_whole("The number of components", table)
        if prior not in ("default", None):
            raise CapabilityError(f"prior must be 'default' or None (maximum likelihood), got {prior!r}.")
        self.columns = 1 if columns is None else columns
        self.bare = columns is None  # a draw is one value without a column dimension
        self.table, self.prior_choice = table, prior

    # -- parameters --------------------------------------------------------------------------------------------
    @abstractmethod
    def prior(self) -> dict[str, Distribution]:
        """Independent prior sites from which :meth:`assemble` makes the parameters."""

    @abstractmethod
    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        """Readable parameters from the values of the prior's sites."""

    @abstractmethod
    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        """Values of the prior's sites that :meth:`assemble` turns into ``theta``: its inverse."""

    @abstractmethod
    def log_prior(self, theta: Parameters) -> Tensor:
        """Log prior density in the coordinates in which :meth:`update` takes the mode, up to a constant."""

    @abstractmethod
    def start(self) -> Parameters:
        """Neutral parameters, the same in every row."""

    @abstractmethod
    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        """The maximum of the expected log likelihood (plus the log prior, where there is one)."""

    @abstractmethod
    def posterior_draw(self, statistics: Natural) -> Parameters:
        """Parameters drawn from their posterior given the statistics of completed data."""

    def expected_counts(self, statistics: Natural) -> Tensor | None:
        """``(K,)``: how many rows are expected to have each value of a discrete latent; None for other families."""
        return None

    def calibrate(self, statistics: Natural) -> None:
        """Scale the default prior to the data, given the statistics of all rows taken together."""

    def calibrate_within(self, statistics: Natural) -> None:
        """Scale the default prior to a first partition of the data, where its parts are far apart for their size."""

    def describe(self, theta: Parameters) -> Parameters:
        """The parameters that a person reads."""
        return theta

    @property
    def free_parameters(self) -> int:
        """How many real numbers the density depends on: the sizes of the prior's sites, unconstrained."""
        sites = self.prior().values()
        return sum(biject_to(site.support).inverse_shape(site.shape()).numel() for site in sites)

    def free_parameters_of(self, theta: Parameters) -> int:
        """As ``free_parameters``, where how many there are depends on what was learned."""
        return self.free_parameters

    @property
    def log_relabellings(self) -> float:
        """Log of how many ways there are to rename the values of a latent drawn from this family."""
        return 0.0

    # -- densities ---------------------------------------------------------------------------------------------
    @abstractmethod
    def natural(self, theta: Parameters) -> Natural:
        """Natural parameters with the log normaliser, K rows each."""

    @abstractmethod
    def score(self, natural: Natural, x: Tensor) -> Tensor:
        """``(K, N)``: log density of each row of x under each row of the table; NaN cells integrated out."""

    def own_score(self, natural: Natural, x: Tensor, codes: Tensor) -> Tensor:
        """``(N,)``: log density of each row of x under the row of the table that its code names."""
        return self.score(natural, x)[codes, torch.arange(len(codes), device=codes.device)]

    @abstractmethod
    def log_prob(self, theta: Parameters, x: Tensor) -> Tensor:
        """Log density of x under parameters that already stand one a row; NaN cells integrated out."""

    @abstractmethod
    def sample(self, theta: Parameters) -> Tensor:
        """One draw for each row of parameters."""

    @abstractmethod
    def fill(self, theta: Parameters, x: Tensor) -> Tensor:
        """X with its NaN cells drawn given the known ones."""

    @abstractmethod
    def mean(self, theta: Parameters) -> Tensor:
        """Expectation of each column (codes: the probabilities' mode)."""

    def sd(self, theta: Parameters) -> Tensor:
        """Standard deviation of each column, NaN where it has none or no closed form is known."""
        return torch.full_like(self.mean(theta), torch.nan)

    def cells(self, natural: Natural) -> Tensor:
        """``(K, L)``: log density of every value, for families whose values can be summed out."""
        raise CapabilityError(f"A {type(self).__name__} has no finite set of values that could be summed out.")

    def given(self, table: Table, *index: Any, latent: Tensor | Latent) -> Observable:
        """The distribution given a continuous latent; families without factors do not depend on it."""
        return table(*index)

    # -- network head ------------------------------------------------------------------------------------------
    @property
    @abstractmethod
    def outputs(self) -> int:
        """How many numbers a decoder has to give for one row."""

    @property
    def output_places(self) -> Tensor:
        """``(D, P)``: which outputs of a decoder describe each column, where columns are described one by one."""
        return torch.arange(self.outputs).reshape(-1, self.columns).mT  # parameter by parameter

    @property
    def dispersions(self) -> list[int]:
        """Which outputs of a decoder say how far values spread, and not where they lie."""
        return []

    @abstractmethod
    def head(self, output: Tensor) -> Parameters:
        """Parameters from a decoder's output of shape ``(..., outputs)``."""

    # -- use in a program --------------------------------------------------------------------------------------
    def draw(self, name: str) -> Table:
        """Make the parameters global sample sites called ``name.*``; the result is called with an index."""
        return table_of_parameters(self, name)

    def at(self, table: Table, *index: Any) -> Any:
        """What the table gives for an index: symbols are scored against every row, codes look their rows up."""
        if index and isinstance(index[0], Symbol):
            return Scored(table, index)
        if table.theta is None:
            return Scored(table, ())
        row = index[0] if index else 0
        batch_shape = row.shape if isinstance(row, Tensor) else torch.Size()
        return Rows(self, {key: value[row] for key, value in table.theta.items()}, batch_shape)

    def forward(self, output: Tensor) -> Rows:
        """The distribution that a decoder's output describes."""
        return Rows(self, self.head(output), output.shape[:-1])


class DependentFamily(Family):
    """A family that says nothing of rows alone: its table has to be called with what they depend on."""

    refusal: ClassVar[str]  # told where it is asked all the same

    def score(self, natural: Natural, x: Tensor) -> Tensor:
        raise CapabilityError(self.refusal)

    def log_prob(self, theta: Parameters, x: Tensor) -> Tensor:
        raise CapabilityError(self.refusal)

    def sample(self, theta: Parameters) -> Tensor:
        raise CapabilityError(self.refusal)

    def fill(self, theta: Parameters, x: Tensor) -> Tensor:
        raise CapabilityError(self.refusal)

    def mean(self, theta: Parameters) -> Tensor:
        raise CapabilityError(self.refusal)

    @property
    def outputs(self) -> int:
        raise CapabilityError(f"{type(self).__name__} cannot be a network's head.")

    def head(self, output: Tensor) -> Parameters:
        raise CapabilityError(f"{type(self).__name__} cannot be a network's head.")


@effectful(type="parameters")
def table_of_parameters(family: Family, name: str) -> Table:
    """Draw the prior's sites. An engine may answer this effect with parameters of its own."""
    sites = {key: pyro.sample(f"{name}.{key}", prior) for key, prior in family.prior().items()}
    theta = family.assemble(sites)
    for key, value in family.describe(theta).items():
        if key not in sites:
            pyro.deterministic(f"{name}.{key}", value)
    return Table(family, family.natural(theta), theta)


@dataclass(frozen=True)
class Table:
    """A family with its parameters: call it with an index, with several symbols, or with nothing for a single row."""

    family: Family
    natural: Natural
    theta: Parameters | None = None

    def __call__(self, *index: Any, latent: Tensor | Latent | None = None) -> Any:
        if latent is not None:
            return self.family.given(self, *index, latent=latent)
        return self.family.at(self, *index)


class Observable(TorchDistribution):
    """What ``pyro.sample`` gets from a family."""

    arg_constraints: dict = {}
    has_enumerate_support = False
    barren: Tensor | None = None  # mask of rows in which nothing known depends on the site

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> Observable:
        return self  # log_prob broadcasts over plates by itself

    @property
    def levels(self) -> int:
        """Number of values of a discrete variable that may be summed out."""
        return self.family.levels

    def symbol(self, name: str) -> Symbol:
        """What stands for the value where it is summed out."""
        return Symbol(name, self.levels)

    def factor(self, value: Tensor | Symbol) -> Factor:
        """The log density as a factor over named dimensions."""
        if isinstance(value, Symbol) and value.codes is None:
            return Factor((value,), self.theta["logits"].movedim(-1, 0))
        return Factor((), self.log_prob(value.codes if isinstance(value, Symbol) else value))

    def factors(self, value: Any) -> list[Factor]:
        """The log density as several factors, whose sum it is."""
        return [self.factor(value)]

    def latent_means(self, x: Tensor) -> dict[str, Tensor]:
        """Means, given the known cells of x, of the latents that are integrated out here: name -> ``(N, L)``."""
        return {}


def event_shape(family: Family) -> torch.Size:
    """(D,), or nothing for a bare value."""
    return torch.Size([] if family.bare else [family.columns])


def settled(factor: Factor) -> Factor:
    """The factor ``(*sizes)`` of some symbols, looked up where their values are known."""
    if all(symbol.codes is None for symbol in factor.symbols):
        return factor
    places = tuple(slice(None) if symbol.codes is None else symbol.codes for symbol in factor.symbols)
    return Factor(tuple(symbol for symbol in factor.symbols if symbol.codes is None), factor.value[places])


class Rows(Observable):
    """A family with one set of parameters a row: by lookup in a table, or from a decoder."""

    def __init__(self, family: Family, theta: Parameters, batch_shape: torch.Size) -> None:
        self.family, self.theta = family, theta
        super().__init__(batch_shape, event_shape(family), validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> Rows:
        if self.batch_shape:
            return self
        theta = {key: value.expand(*batch_shape, *value.shape) for key, value in self.theta.items()}
        return Rows(self.family, theta, torch.Size(batch_shape))

    def log_prob(self, x: Tensor) -> Tensor:
        return self.family.log_prob(self.theta, x)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return self.family.sample(self.theta)

    def fill(self, x: Tensor) -> Tensor:
        """X with its NaN cells drawn given the known ones."""
        return self.family.fill(self.theta, x)

    @property
    def mean(self) -> Tensor:
        return self.family.mean(self.theta)


class Scored(Observable):
    """A family's whole table against the data: the index is a symbol (or there is a single row)."""

    def __init__(self, table: Table, index: tuple[Symbol, ...]) -> None:
        self.table, self.index, self.family = table, index, table.family
        super().__init__(torch.Size(), event_shape(table.family), validate_args=False)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.table.family.score(self.table.natural, x)

    def factor(self, value: Tensor | Symbol) -> Factor:
        sizes = [symbol.size for symbol in self.index]
        if isinstance(value, Symbol):
            cells = self.family.cells(self.table.natural)
            return settled(Factor((*self.index, value), cells.reshape(*sizes, value.size)))
        if len(self.index) == 1 and self.index[0].codes is not None:
            return Factor((), self.family.own_score(self.table.natural, value, self.index[0].codes))
        return of_each_row(self.index, self.log_prob(value).unflatten(0, sizes) if sizes else self.log_prob(value)[0])


def of_each_row(symbols: tuple[Symbol, ...], value: Tensor) -> Factor:
    """The factor ``(*sizes, N)`` of some symbols, at every row's own codes where they are known."""
    if all(symbol.codes is None for symbol in symbols):
        return Factor(symbols, value)
    left = [at for at, symbol in enumerate(symbols) if symbol.codes is None]
    gone = [at for at, symbol in enumerate(symbols) if symbol.codes is not None]
    rows = torch.arange(value.shape[-1], device=value.device)
    codes = [symbols[at].codes for at in gone]
    found = value.permute(*gone, len(symbols), *left)[(*codes, rows)]  # (N, *left)
    return Factor(tuple(symbols[at] for at in left), found.movedim(0, -1))
