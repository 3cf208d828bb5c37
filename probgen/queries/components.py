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
from probgen.families.columns import Block, Joint, Link
from probgen.families.gaussian_joint import CoupledGaussian
from probgen.families.markov_chain import ChainFactor
from probgen.inference.evidence import Given, Site, Tracer, eliminate, log_evidence, observe
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

    def mean(self, at: int) -> np.ndarray:
        """``(K,)`` of one column, in the block's coordinates."""
        return numpy(self.table.family.mean(self.parameters)[:, at])

    def sd(self, at: int) -> np.ndarray:
        return numpy(self.table.family.sd(self.parameters)[:, at])

    def correlation(self, one: int, other: int) -> np.ndarray:
        """``(K,)`` between two columns."""
        if not isinstance(self.table.family, CoupledGaussian):
            return np.zeros(self.table.family.table)
        C = numpy(self.table.family.covariance(self.parameters))
        return C[:, one, other] / np.sqrt(C[:, one, one] * C[:, other, other])

    def write(self, y: np.ndarray, at: int) -> np.ndarray:
        """Numbers of one column from the block's coordinates to the model's."""
        link = self.block.link
        return y if link is None else numpy(Link(link.log[at], link.logit[at]).write(torch.as_tensor(y)))

    def score(self, x: np.ndarray, at: int) -> np.ndarray:
        """``(K, n)`` log density of one column alone, in model coordinates."""
        like = next(iter(self.parameters.values()))
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
        """Mean and standard deviation ``(K,)`` of a number, in original units."""
        (part, at), (scale, shift) = self.find(name), self.affine(name)
        with torch.no_grad(), self.setting():
            mean, sd = part.mean(at), part.sd(at)
            if part.block.link is not None:
                cells, weight = part.write(mean[:, None] + sd[:, None] * NODES, at), NODE_WEIGHTS / NODE_WEIGHTS.sum()
                mean = cells @ weight
                sd = np.sqrt((cells - mean[:, None]) ** 2 @ weight)
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
    def gaussian(self, name: str) -> tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        """Means and standard deviations ``(K,)`` where the column is nearest to Gaussian, and the way back.

        A positive column is read as a logarithm, others as their family reads them; families that are not Gaussian
        have one of the same mean and standard deviation.
        """
        (part, at), (scale, shift) = self.find(name), self.affine(name)
        column = self.schema[name]
        with torch.no_grad(), self.setting():
            mean, sd = part.mean(at), part.sd(at)
        if part.block.link is None and column.kind == "positive":
            spread = np.log1p((sd / mean) ** 2)
            return np.log(mean) - 0.5 * spread, np.sqrt(spread), lambda y: np.exp(y) * scale + shift
        low, high = support(column.kind, column.bounds)
        return mean, sd, lambda y: np.clip(part.write(y, at) * scale + shift, low, high)

    def ellipses(self, x: str, y: str, share: float, points: int = 181) -> np.ndarray:
        """``(K, 2, points)``: for each component the contour that holds this share of it, in original units."""
        (part, at), (other, to) = self.find(x), self.find(y)
        with torch.no_grad(), self.setting():
            r = part.correlation(at, to) if part is other else np.zeros(len(self))
        angle, radius = np.linspace(0.0, 2.0 * np.pi, points), np.sqrt(-2.0 * np.log1p(-share))
        white = radius * np.cos(angle), radius * np.sin(angle)
        slanted = r[:, None] * white[0] + np.sqrt(1.0 - r[:, None] ** 2) * white[1]
        lines = []
        for name, unit in ((x, white[0]), (y, slanted)):
            mean, sd, back = self.gaussian(name)
            lines.append(back(mean[:, None] + sd[:, None] * unit))
        return np.stack(lines, 1)

    def separation(self, name: str) -> float:
        """Spread of the components' centres, in standard deviations inside a component."""
        mean, sd, _ = self.gaussian(name)
        middle = self.weight @ mean
        return float(np.sqrt(self.weight @ (mean - middle) ** 2 / (self.weight @ sd**2)))


def support(kind: str, bounds: tuple[float, float] | None) -> tuple[float, float]:
    if kind == "bounded" and bounds is not None:
        return bounds
    return (0.0, np.inf) if kind in ("count", "semicontinuous", "positive") else (-np.inf, np.inf)


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
