"""What a discrete latent chooses between: rows of parameters, read in the original units of the data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.batches import Batch, Standardiser
from probgen.data.schema import Schema
from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.families.base import Factor, Scored, Symbol
from probgen.families.base import Table as Parameters
from probgen.families.columns import Block, Joint
from probgen.families.gaussian import IndependentGaussian
from probgen.families.gaussian_joint import CoupledGaussian
from probgen.families.markov_chain import ChainFactor
from probgen.inference.elimination import eliminate
from probgen.inference.evidence import log_evidence
from probgen.inference.tracing import Given, Site, Tracer, observe
from probgen.queries.states import long_run

__all__ = ["Components", "components", "responsibilities"]

ROWS = 8192
NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(64)  # Gaussian expectations


@dataclass(frozen=True, eq=False)
class Part:
    """A block of columns with its table of K rows of parameters."""

    block: Block
    table: Parameters
    names: tuple[str, ...]

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The family's parameters, K rows each."""
        assert self.table.theta is not None
        return self.table.theta

    @property
    def like(self) -> Tensor:
        """Numbers of the fit's precision."""
        return next(value for value in self.parameters.values() if value.is_floating_point())

    def mean(self, at: int) -> np.ndarray:
        """``(K,)`` of one column, in the block's coordinates."""
        return numpy(self.table.family.mean(self.parameters)[:, at])

    def sd(self, at: int) -> np.ndarray:
        return numpy(self.table.family.sd(self.parameters)[:, at])

    def scale(self, at: int) -> np.ndarray:
        """Half the width of a unit ellipse."""
        family = self.table.family
        return numpy(family.scale(self.parameters)[:, at]) if isinstance(family, CoupledGaussian) else self.sd(at)

    def pair(self, one: int, other: int, share: float) -> tuple[np.ndarray, np.ndarray]:
        """Correlation ``(K,)`` of two coupled columns, and the radius of the ellipse that holds a share of them."""
        family = self.table.family
        if not isinstance(family, CoupledGaussian):
            return independent(family.table, share)
        C = numpy(family.dispersion(self.parameters))
        slant = C[:, one, other] / np.sqrt(C[:, one, one] * C[:, other, other])
        return slant, numpy(family.radius(self.parameters, share))

    def write(self, y: np.ndarray, at: int) -> np.ndarray:
        """Numbers of one column from the block's coordinates to the model's."""
        cells = self.like.new_zeros(*y.shape, len(self.names))
        cells[..., at] = torch.as_tensor(y).to(cells)
        return numpy(self.block.write(cells)[..., at])

    def score(self, x: np.ndarray, at: int) -> np.ndarray:
        """``(K, n)`` log density of one column alone, in model coordinates."""
        like = self.like
        cells = like.new_full((len(x), len(self.names)), torch.nan)
        cells[:, at] = torch.as_tensor(x).to(like)
        y, jacobian = (cells, None) if self.block.link is None else self.block.link.read(cells)
        found = self.table.family.score(self.table.natural, y)
        return numpy(found if jacobian is None else found + jacobian)


@dataclass(frozen=True, eq=False)
class Components:
    """The K components (classes, states) of a fit, for one posterior draw.

    Attributes:
        title: "component", "state", or the name of the column that the latent is.
        labels: what the components are called: codes as ``embed`` and ``viterbi`` count them, or a column's levels.
        weight: ``(K,)`` probabilities; of states, their long-run shares.
        index: the discrete sites whose joint value names a component.
        names: the columns that depend on the component.
    """

    title: str
    labels: tuple[str, ...]
    weight: np.ndarray
    index: tuple[Symbol, ...]
    parts: tuple[Part, ...]
    schema: Schema
    standardiser: Standardiser
    setting: Callable[[], Any]

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def names(self) -> tuple[str, ...]:
        found = {name for part in self.parts for name in part.names}
        return tuple(name for name in self.schema.names if name in found)

    def find(self, name: str) -> tuple[Part, int]:
        """The part that holds a column, and its place in there."""
        for part in self.parts:
            if name in part.names:
                return part, part.names.index(name)
        raise CapabilityError(
            f"Column {name!r} does not depend on the {self.title}; those that do: {', '.join(map(repr, self.names))}."
        )

    def affine(self, name: str) -> tuple[float, float]:
        """Scale and shift from model coordinates to original units."""
        at = self.schema.index(name)
        return float(self.standardiser.scale[at]), float(self.standardiser.shift[at])

    def moments(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation ``(K,)`` of a number, in original units.

        A column that is read through a link counts as Gaussian there; the median stands for a mean that there is not.
        """
        (part, at), (scale, shift) = self.find(name), self.affine(name)
        with torch.no_grad(), self.setting():
            mean, sd = part.mean(at), part.sd(at)
            if part.block.link is not None and np.isfinite(sd).all():
                cells, weight = part.write(mean[:, None] + sd[:, None] * NODES, at), NODE_WEIGHTS / NODE_WEIGHTS.sum()
                mean = cells @ weight
                sd = np.sqrt((cells - mean[:, None]) ** 2 @ weight)
            elif part.block.link is not None:
                mean, sd = part.write(mean, at), np.full(len(sd), np.nan)
        return mean * scale + shift, sd * scale

    def density(self, name: str, values: np.ndarray) -> np.ndarray:
        """``(K, n)`` density of a column alone in original units; a probability where a value has one."""
        (part, at), (scale, shift) = self.find(name), self.affine(name)
        column = self.schema[name]
        with torch.no_grad(), self.setting():
            found = np.exp(part.score((values - shift) / scale, at))
        atom = not column.is_continuous or ((values == 0) & (column.kind == "semicontinuous"))
        return found / np.where(atom, 1.0, scale)

    def levels(self, name: str) -> np.ndarray:
        """``(K, L)`` probabilities of the levels of a discrete column."""
        return self.density(name, np.arange(self.schema[name].cardinality, dtype=float))

    # -- contours ----------------------------------------------------------------------------------------------
    def values_at(self, name: str, scores: np.ndarray) -> np.ndarray:
        """``(K, n)``: the quantiles of a number at the probabilities of standard normal scores, in original units.

        Columns that are coupled, or Gaussian, are linear in the scores, in the coordinates in which they are so.

        Args:
            name: of the column.
            scores: ``(n,)``, or ``(K, n)`` for each component its own.
        """
        (part, at), (scale, shift) = self.find(name), self.affine(name)
        if isinstance(part.table.family, CoupledGaussian | IndependentGaussian):
            with torch.no_grad(), self.setting():
                y = part.mean(at)[:, None] + part.scale(at)[:, None] * scores
                return part.write(y, at) * scale + shift
        grid = self.grid(name)
        share = np.broadcast_to(numpy(torch.special.ndtr(torch.as_tensor(scores))), (len(self), scores.shape[-1]))
        return np.stack([np.interp(*pair, grid) for pair in zip(share, self.cumulative(name, grid), strict=True)])

    def grid(self, name: str) -> np.ndarray:
        """Increasing values of a number that reach into the tails of every component."""
        (mean, sd), column = self.moments(name), self.schema[name]
        if column.kind == "count":
            return np.unique(np.linspace(0, np.ceil((mean + 12 * sd).max()) + 2, 20_001).round())
        if column.kind == "bounded" and column.bounds is not None:
            low, high = column.bounds
            return low + (high - low) * numpy(torch.linspace(-13.8, 13.8, 2001).sigmoid())
        if column.kind == "real" or column.kind == "datetime":
            return np.linspace((mean - 10 * sd).min(), (mean + 10 * sd).max(), 20_001)
        share = 1.0 - self.density(name, np.zeros(1))[:, 0] if column.kind == "semicontinuous" else np.ones(len(mean))
        center = mean / share
        spread = np.log((sd**2 + mean**2) / share / center**2)  # of the logarithm, as if it were Gaussian
        reach = np.linspace(-10.0, 10.0, 801) * np.sqrt(spread)[:, None]
        return np.unique(np.exp(np.log(center)[:, None] - 0.5 * spread[:, None] + reach))

    def cumulative(self, name: str, grid: np.ndarray) -> np.ndarray:
        """``(K, n)``: probabilities of less than each value, and half that of the value itself."""
        density = self.density(name, grid)
        if not self.schema[name].is_continuous:
            mass = density * np.diff(grid, prepend=-1.0)
            return mass.cumsum(1) - 0.5 * mass
        inner = 0.5 * (density[:, 1:] + density[:, :-1]) * np.diff(grid)
        found = np.concatenate([np.zeros((len(self), 1)), inner.cumsum(1)], 1)
        zero = self.density(name, np.zeros(1)) if self.schema[name].kind == "semicontinuous" else 0.0
        return zero + (1.0 - zero) * found / found[:, -1:]

    def ellipses(self, x: str, y: str, share: float, points: int = 181) -> np.ndarray:
        """``(K, 2, points)``: for each component a contour that holds this share of it, in original units.

        An ellipse of the columns' normal scores: that of a Gaussian where they are Gaussian in some coordinates.
        """
        (part, at), (other, to) = self.find(x), self.find(y)
        with torch.no_grad(), self.setting():
            slant, radius = part.pair(at, to, share) if part is other else independent(len(self), share)
        angle = np.linspace(0.0, 2.0 * np.pi, points)
        across, slant = radius[:, None] * np.cos(angle), slant[:, None]
        up = slant * across + np.sqrt(1.0 - slant**2) * radius[:, None] * np.sin(angle)
        return np.stack([self.values_at(x, across), self.values_at(y, up)], 1)

    def separation(self, name: str) -> float:
        """Spread of the components' medians, in spreads inside a component."""
        low, center, high = self.values_at(name, np.array([-1.0, 0.0, 1.0])).T
        return float(
            np.sqrt(self.weight @ (center - self.weight @ center) ** 2 / (self.weight @ (0.5 * (high - low)) ** 2))
        )


def independent(components: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """No correlation, and the radius of the circle that holds a share of two standard normal numbers."""
    return np.zeros(components), np.full(components, np.sqrt(-2.0 * np.log1p(-share)))


def numpy(value: Tensor) -> np.ndarray:
    return value.detach().double().cpu().numpy()


# ---------------------------------------------------------------------------------------------------- of a program
def components(fit: Any, draw: int = 0) -> list[Components]:
    """The component tables of a fitted program, one for each set of discrete sites that columns depend on.

    Empty for programs whose columns depend on no discrete latent, and where they depend on regressors besides.
    """
    if fit.traits.embedding != "probabilities":
        return []
    with torch.no_grad(), fit.setting():
        batch = Batch(torch.full((1, len(fit.schema)), torch.nan), fit.schema)
        tracer = observe(fit.program, batch, Given(fit.posterior.theta(draw)))
        groups: dict[tuple[Symbol, ...], list[Part]] = defaultdict(list)
        for site in tracer.sites.values():
            for part, index in parts_of(site, batch):
                groups[index].append(part)
        return [made(fit, tracer, batch, index, tuple(parts)) for index, parts in groups.items()]


def parts_of(site: Site, batch: Batch) -> list[tuple[Part, tuple[Symbol, ...]]]:
    """The blocks of an observed site whose parameters a discrete site chooses."""
    if not isinstance(site.distribution, Joint) or site.data is None:
        return []
    places, found = batch.places(site.data), []
    for block, scored in site.distribution.parts:
        if isinstance(scored, Scored) and scored.index and scored.table.theta is not None:
            names = tuple(batch.schema.names[places[i]] for i in block.index.tolist())
            found.append((Part(block, scored.table, names), scored.index))
    return found


def made(fit: Any, tracer: Tracer, batch: Batch, index: tuple[Symbol, ...], parts: tuple[Part, ...]) -> Components:
    sizes = [symbol.size for symbol in index]
    chained = any(isinstance(factor, ChainFactor) and factor.symbols[0] in index for factor in tracer.factors)
    title, labels = "state" if chained else "component", [",".join(map(str, code)) for code in np.ndindex(*sizes)]
    data = tracer.sites[index[0].name].data
    if len(index) == 1 and data is not None and batch.places(data):
        column = batch.schema[batch.places(data)[0]]
        title, labels = column.name, [str(level) for level in column.levels]
    weight = prior_shares(tracer.factors, index)
    return Components(title, tuple(labels), weight, index, parts, fit.schema, fit.standardiser, fit.setting)


def prior_shares(factors: list[Factor], index: tuple[Symbol, ...]) -> np.ndarray:
    """Probabilities of all joint values of some sites before anything is known; chains at their long-run shares."""
    probe = torch.zeros(*[symbol.size for symbol in index], 1).requires_grad_()
    with torch.enable_grad():
        rows, _ = eliminate([*map(at_rest, factors), Factor(index, probe)])
        found = torch.autograd.grad(rows.sum(), probe)[0]
    return numpy(found).reshape(-1)


def at_rest(factor: Factor) -> Factor:
    """A chain as if each of its steps stood alone in the long run."""
    if not isinstance(factor, ChainFactor):
        return factor
    share = torch.as_tensor(long_run(factor)).to(factor.initial)
    return Factor(factor.symbols, share.clamp_min(torch.finfo(share.dtype).tiny).log()[:, None])


def responsibilities(fit: Any, table: Table, index: tuple[Symbol, ...], draw: int = 0) -> np.ndarray:
    """``(N, K)``: posterior probabilities of the joint values of some discrete sites, given the known cells.

    For a single site they are its columns of ``fit.embed``.
    """
    pieces = []
    with fit.setting():
        for batch in fit.batches(table, ROWS).pieces():
            probe = batch.x.new_zeros(*[symbol.size for symbol in index], len(batch)).requires_grad_()
            evidence = log_evidence(fit.program, batch, theta=fit.posterior.theta(draw), extra=(Factor(index, probe),))
            pieces.append(torch.autograd.grad(evidence.rows.sum(), probe)[0].flatten(0, -2).mT)
    return numpy(torch.cat(pieces))
