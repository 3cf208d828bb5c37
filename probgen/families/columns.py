r"""A table's columns, each with the family of its kind, as one distribution.

.. math:: p(x \mid k) = \prod_{\text{blocks } b} p_b(x_b \mid \theta_{bk})

Columns of one kind stand in one block. With a ``covariance``, the continuous columns share one Gaussian block in the
coordinates of :class:`Link` (the log of a positive column, the log odds of a bounded one), so that they are coupled
given the component; without it every column is independent given the component, by the family of its kind. In the same
way a family of several discrete columns may couple all that have levels.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn

from probgen.data.batches import Batch, first_rows
from probgen.data.schema import Column, Schema
from probgen.errors import CapabilityError
from probgen.families.base import Factor, Family, Latent, Observable, Symbol, once_per_tensor
from probgen.families.bernoulli import Bernoulli
from probgen.families.beta import Beta
from probgen.families.categorical import Categorical
from probgen.families.discretised_logistic import DiscretisedLogistic
from probgen.families.gamma import Gamma
from probgen.families.gaussian import Covariance, DiagonalGaussian, gaussian
from probgen.families.gaussian_regression import PotentialFactor
from probgen.families.hurdle import Hurdle
from probgen.families.log_normal import LogNormal
from probgen.families.negative_binomial import NegativeBinomial
from probgen.families.ordered_logistic import OrderedLogistic
from probgen.families.poisson import Poisson
from probgen.families.student_columns import StudentColumns

__all__ = ["Columns"]

FAMILIES: dict[str, Callable[..., Family]] = {
    "real": DiagonalGaussian,
    "datetime": DiagonalGaussian,
    "positive": LogNormal,
    "bounded": Beta,
    "count": NegativeBinomial,
    "binary": Bernoulli,
    "categorical": Categorical,
    "ordinal": OrderedLogistic,
    "semicontinuous": Hurdle,
}
CHOICES: dict[str, dict[str, Callable[..., Family]]] = {  # what else a column of a kind can have
    "real": {"gaussian": DiagonalGaussian, "student_t": StudentColumns},
    "positive": {"log_normal": LogNormal, "gamma": Gamma},
    "count": {"negative_binomial": NegativeBinomial, "poisson": Poisson, "discretised_logistic": DiscretisedLogistic},
    "ordinal": {"categorical": Categorical, "ordered_logistic": OrderedLogistic},
}
ROWS = 2**17  # that coordinates are learnt from
STEPPED = ("discretised_logistic",)  # of counts with bounds
WIDEST = 1024  # from the least to the greatest value of a count whose family is in steps unless told otherwise
LEVELLED = ("categorical", "ordinal")
GAUSSIAN_LINKS = {"real": "identity", "datetime": "identity", "positive": "log", "bounded": "logit"}


@dataclass(frozen=True, eq=False)
class Link:
    """Coordinates in which a block's family works: y = g(x), elementwise, one g a column."""

    log: Tensor  # mask of the columns read as logarithms
    logit: Tensor  # mask of the columns read as log odds

    @once_per_tensor
    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Y and the log Jacobian of each row, unknown cells left out."""
        y = torch.where(self.log, x.clamp_min(torch.finfo(x.dtype).tiny).log(), x)
        y = torch.where(self.logit, x.clamp(1e-6, 1 - 1e-6).logit(), y)
        slope = torch.where(self.log, -y, 0.0) + torch.where(self.logit, softplus_pair(y), 0.0)
        return y, slope.nan_to_num().sum(-1)

    def write(self, y: Tensor) -> Tensor:
        most = 0.9 * math.log(torch.finfo(y.dtype).max)  # heavy tails stay within what the dtype can hold
        return torch.where(self.log, y.clamp(-most, most).exp(), torch.where(self.logit, y.sigmoid(), y))


def softplus_pair(y: Tensor) -> Tensor:
    """-log of the derivative of the logistic function."""
    return nn.functional.softplus(y) + nn.functional.softplus(-y)


class Block(nn.Module):
    """Some columns of the table and the family that they share."""

    def __init__(self, name: str, index: list[int], width: int, family: Family, link: Any = None) -> None:
        super().__init__()
        self.name, self.family, self.link, self.width = name, family, link, width
        self.whole = index == list(range(width))
        self.index = torch.tensor(index)

    @once_per_tensor
    def select(self, x: Tensor) -> Tensor:
        """The block's columns of x."""
        return x if self.whole else x[..., self.index]

    def read(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The block's columns in its family's coordinates, and the log Jacobian of each row."""
        return (self.select(x), None) if self.link is None else self.link.read(self.select(x))

    def write(self, y: Tensor) -> Tensor:
        """Back to the table's coordinates."""
        return y if self.link is None else self.link.write(y)


class Columns(nn.Module):
    """One distribution over the columns of a schema.

    Args:
        schema: the columns.
        table: K, the number of parameter rows (components, classes), or a shape, for several indices.
        covariance: ``None``, or the structure of the Gaussian that couples the continuous columns.
        prior: "default" or None (maximum likelihood).
        families: names of families for some columns, or for all of a kind, instead of those of their kinds:
            ``{"visits": "poisson", "real": "student_t"}``; what is said of a column counts before what is said of its kind.
        coordinates: called with the number of coupled columns and their link, makes coordinates that :meth:`learn` from
            data and stand between the two.
        discrete: called with the numbers of levels of the columns that have any, makes the family that couples them.
    """

    def __init__(
        self,
        schema: Schema | Iterable[Column],
        table: int | tuple[int, ...] = 1,
        covariance: Covariance | None = None,
        prior: str | None = "default",
        families: Mapping[str, str] | None = None,
        coordinates: Callable[[int, Link | None], nn.Module] | None = None,
        discrete: Callable[..., Family] | None = None,
    ) -> None:
        super().__init__()
        columns = list(schema)
        self.names = tuple(column.name for column in columns)
        self.width, self.shape = len(columns), tuple(table) if isinstance(table, tuple) else (table,)
        families = by_column(families or {}, columns)
        groups: dict[tuple, list[int]] = defaultdict(list)
        for at, column in enumerate(columns):
            groups[block_key(column, covariance, families, discrete)].append(at)
        rows = math.prod(self.shape)
        self.blocks = nn.ModuleList(
            make_block(key, [columns[i] for i in index], index, self.width, rows, covariance, prior, discrete)
            for key, index in groups.items()
        )
        for block in self.parts():
            if coordinates is not None and block.name == "gaussian":
                block.link = coordinates(len(block.index), block.link)

    def parts(self) -> list[Block]:
        """The blocks, in the order of their first columns."""
        return cast("list[Block]", list(self.blocks))

    def learn(self, pieces: Iterable[Batch]) -> None:
        """Coordinates from the first rows of the data, at most ``ROWS`` of them, before anything is fitted."""
        x, weights = first_rows(pieces, ROWS)
        for block in self.parts():
            if hasattr(block.link, "learn"):
                block.link.learn(block.select(x), weights)

    @property
    def coupled(self) -> int:
        """How many columns share the Gaussian that couples them."""
        return sum(len(block.index) for block in self.parts() if block.name == "gaussian")

    def draw(self, name: str) -> Callable[..., Joint]:
        """Make all parameters global sample sites ``name.block.*``; the result is called with an index.

        A continuous latent may be given as well, for families that have factors.
        """
        tables = [(block, block.family.draw(f"{name}.{block.name}")) for block in self.parts()]

        def at(*index: Tensor | Symbol, latent: Tensor | Latent | None = None) -> Joint:
            if len(index) > 1 and isinstance(index[0], Tensor):
                index = (self.row(*cast("tuple[Tensor, ...]", index)),)
            return Joint(self.width, [(block, table(*index, latent=latent)) for block, table in tables])

        return at

    def row(self, *codes: Tensor) -> Tensor:
        """The parameter row of several indices; the last one runs fastest."""
        number = codes[0]
        for code, size in zip(codes[1:], self.shape[1:], strict=True):
            number = number * size + code
        return number

    @property
    def output_places(self) -> list[list[int]]:
        """Of every column, which of a decoder's outputs describe it."""
        found: list[list[int]] = [[] for _ in range(self.width)]
        first = 0
        for block in self.parts():
            for at, own in zip(block.index.tolist(), block.family.output_places.tolist(), strict=True):
                found[at] = [first + place for place in own]
            first += block.family.outputs
        return found

    @property
    def outputs(self) -> int:
        """How many numbers a decoder has to give for one row."""
        return sum(block.family.outputs for block in self.parts())

    @property
    def dispersions(self) -> list[int]:
        """Which of them say how far values spread, and not where they lie."""
        found, first = [], 0
        for block in self.parts():
            found += [first + at for at in block.family.dispersions]
            first += block.family.outputs
        return found

    def forward(self, output: Tensor) -> Joint:
        """The distribution that a decoder's output of shape ``(..., outputs)`` describes."""
        pieces = output.split([block.family.outputs for block in self.parts()], -1)
        return Joint(self.width, [(b, b.family(piece)) for b, piece in zip(self.parts(), pieces, strict=True)])


class Joint(Observable):
    """The product of the blocks' distributions."""

    def __init__(self, width: int, parts: list[tuple[Block, Any]]) -> None:
        self.width, self.parts = width, parts
        super().__init__(parts[0][1].batch_shape, torch.Size([width]), validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> Joint:
        return Joint(self.width, [(block, part.expand(batch_shape)) for block, part in self.parts])

    def factor(self, value: Tensor | Symbol) -> Factor:
        assert isinstance(value, Tensor)  # columns are observed, never summed out
        total: Tensor | None = None
        symbols: tuple[Symbol, ...] = ()
        coupling: PotentialFactor | None = None
        for block, part in self.parts:
            y, log_jacobian = block.read(value)
            found = part.factor(y)
            symbols = found.symbols
            coupling = found if isinstance(found, PotentialFactor) else coupling
            score = found.value if log_jacobian is None else found.value + log_jacobian
            total = score if total is None else total + score
        assert total is not None
        return Factor(symbols, total) if coupling is None else replace(coupling, value=total)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.factor(value).value

    def latent_means(self, x: Tensor) -> dict[str, Tensor]:
        found = [part.latent_means(block.read(x)[0]) for block, part in self.parts]
        return {name: value for means in found for name, value in means.items()}

    def fill(self, x: Tensor) -> Tensor:
        """X with its NaN cells drawn given the known ones; known cells keep their bits."""
        drawn = self.gather(lambda block, part: part.fill(block.read(x)[0]))
        return torch.where(x.isnan(), drawn, x)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return self.gather(lambda block, part: part.sample())

    @property
    def mean(self) -> Tensor:
        """The centre of each column: mean, or the mode of codes, carried back through the block's coordinates."""
        return self.gather(lambda block, part: part.mean)

    def gather(self, of: Callable[[Block, Any], Tensor]) -> Tensor:
        """Put the blocks' columns side by side in the table's order."""
        pieces = [(block.index, block.write(of(block, part))) for block, part in self.parts]
        first = pieces[0][1]
        out = first.new_empty(*first.shape[:-1], self.width)
        for index, piece in pieces:
            out[..., index] = piece.to(out)
        return out


def by_column(families: Mapping[str, str], columns: list[Column]) -> dict[str, str]:
    """The family of every column for which one is named, by itself or by its kind."""
    kinds = {column.name: column.kind for column in columns}
    if not isinstance(families, Mapping):
        raise CapabilityError(f"families must be a dictionary, such as {{'visits': 'poisson'}}, got {families!r}.")
    for name, family in families.items():
        if name not in kinds and name not in FAMILIES:
            raise CapabilityError(f"families names column {name!r}; there are {', '.join(map(repr, kinds))}.")
        if name not in kinds and (not isinstance(family, str) or family not in CHOICES.get(name, {})):
            refuse_family(f"Columns of kind {name!r}", name, family)
    named = {name: families.get(name, families.get(kind)) for name, kind in kinds.items()}
    found = {name: family for name, family in named.items() if family is not None}
    for column in columns:
        if column.name in found:
            check_family(column, found[column.name])
    return found


def check_family(column: Column, family: Any) -> None:
    """One that its column can have."""
    if not isinstance(family, str) or family not in CHOICES.get(column.kind, {}):
        refuse_family(f"Column {column.name!r} is {column.kind}", column.kind, family)
    if family in STEPPED and not levels_of(column):
        raise CapabilityError(
            f"Column {column.name!r}: {family!r} needs bounds, got {column.bounds};"
            " give them with schema.with_kind(name, 'count', bounds=(0, 255))."
        )


def refuse_family(what: str, kind: str, family: Any) -> NoReturn:
    able = ", ".join(CHOICES.get(kind, {})) or "none but its own"
    raise CapabilityError(f"{what}; families for it: {able}. Got {family!r}.")


def levels_of(column: Column) -> int:
    """Number of levels; of a count with bounds, how many values it can have; 0 for other columns."""
    if column.kind in LEVELLED:
        return len(column.levels)
    if column.kind == "count" and math.isfinite(column.ends[1]):
        return int(column.ends[1] - column.ends[0]) + 1
    return 0


def block_key(
    column: Column,
    covariance: Covariance | None,
    families: Mapping[str, str],
    discrete: Callable[..., Family] | None,
) -> tuple:
    """Columns with the same key share a block: the family, and its number of levels and the first of them where it has any."""
    levels = levels_of(column)
    if column.name in families:
        name = families[column.name]
        return stepped(name, column) if name in STEPPED else (name, levels if column.kind in LEVELLED else 0, 0)
    if covariance is not None and column.kind in GAUSSIAN_LINKS:
        return ("gaussian", 0, 0)
    if discrete is not None and column.is_discrete:
        return ("discrete", 0, 0)
    if column.kind == "count":
        return stepped("discretised_logistic", column) if 0 < levels <= WIDEST + 1 else ("count", 0, 0)
    return (column.kind, levels, 0)


def stepped(name: str, column: Column) -> tuple:
    """The key of a family in steps."""
    return (name, levels_of(column), int(column.ends[0]))


def make_block(
    key: tuple,
    columns: list[Column],
    index: list[int],
    width: int,
    table: int,
    covariance: Covariance | None,
    prior: str | None,
    discrete: Callable[..., Family] | None = None,
) -> Block:
    kind, levels, first = key
    if kind == "discrete" and discrete is not None:
        return Block(
            kind, index, width, discrete([len(column.levels) for column in columns], table=table, prior=prior)
        )
    if kind == "gaussian":
        family = gaussian(len(index), table, covariance or "diagonal", prior)
        links = [GAUSSIAN_LINKS[column.kind] for column in columns]
        plain = all(link == "identity" for link in links)
        masks = (torch.tensor([link == kind for link in links]) for kind in ("log", "logit"))
        return Block(kind, index, width, family, None if plain else Link(*masks))
    name = f"{kind}{levels or ''}{f'from{first}' if first else ''}"
    make = FAMILIES.get(kind) or next(found[kind] for found in CHOICES.values() if kind in found)
    sizes = {"levels": levels, "first": first}
    return Block(
        name, index, width, make(columns=len(index), table=table, prior=prior, **{k: v for k, v in sizes.items() if v})
    )
