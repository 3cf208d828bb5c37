r"""Columns as the visible units of an energy: features that the energy is linear in.

.. math:: p(x \mid \eta) = \exp\Bigl(\eta^\top \phi(x) - \tfrac12 \sum_g \lambda_g y_g^2 - \sum_d A_d(\eta, \lambda)\Bigr)

A binary column is one feature, a categorical or ordinal one a feature a level (Potts), a continuous one its value
y, standardised in the coordinates in which it is Gaussian (the log of a positive column, the log odds of a bounded
one), with precision :math:`\lambda_g` under the energy. Counts and columns with a spike at zero have no such form.
"""

from __future__ import annotations

import math
from collections import defaultdict

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, softplus

from probgen.data.schema import Schema
from probgen.families.base import Observable
from probgen.families.columns import GAUSSIAN_LINKS, LEVELLED, Link

__all__ = ["KINDS", "Conditional", "Units"]

KINDS = ("real", "datetime", "positive", "bounded", "binary", "categorical", "ordinal")
GRID = 129  # points at which a continuous column's conditional density is integrated


class Units(nn.Module):
    """The visible side of an energy.

    Units stand in the order binary, continuous, then discrete columns by their number of levels; ``places`` says which
    column each is, ``owner`` which unit each of the F features belongs to.
    """

    log: Tensor
    logit: Tensor
    shift: Tensor
    scale: Tensor
    owner: Tensor
    places: Tensor

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self.binary = [at for at, column in enumerate(schema) if column.kind == "binary"]
        self.gaussian = [at for at, column in enumerate(schema) if column.kind in GAUSSIAN_LINKS]
        groups: dict[int, list[int]] = defaultdict(list)
        for at, column in enumerate(schema):
            if column.kind in LEVELLED:
                groups[len(column.levels)].append(at)
        self.levelled = sorted(groups.items())
        links = [GAUSSIAN_LINKS[schema[at].kind] for at in self.gaussian]
        for kind in ("log", "logit"):
            self.register_buffer(
                kind, torch.tensor([link == kind for link in links], dtype=torch.bool), persistent=False
            )
        places = self.binary + self.gaussian + [at for _, group in self.levelled for at in group]
        levels = [1] * (len(self.binary) + len(self.gaussian)) + [L for L, group in self.levelled for _ in group]
        self.register_buffer("places", torch.tensor(places), persistent=False)
        self.register_buffer(
            "owner", torch.arange(len(places)).repeat_interleave(torch.tensor(levels)), persistent=False
        )
        self.register_buffer("shift", torch.zeros(len(self.gaussian)))
        self.register_buffer("scale", torch.ones(len(self.gaussian)))
        self.columns, self.features = len(places), sum(levels)
        self.split = len(self.binary), len(self.binary) + len(self.gaussian)
        self.plain = places == list(range(len(schema))) and len(self.binary) == len(places)

    @property
    def link(self) -> Link:
        """The coordinates in which continuous columns are Gaussian."""
        return Link(self.log, self.logit)

    def parts(self, value: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Features of binary units, of continuous ones, and ``(..., columns, levels)`` of each group of the rest."""
        first, second = self.split
        groups, at = [], second
        for levels, group in self.levelled:
            width = levels * len(group)
            groups.append(value[..., at : at + width].unflatten(-1, (len(group), levels)))
            at += width
        return value[..., :first], value[..., first:second], groups

    # -- between columns and features --------------------------------------------------------------------------
    def read(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features ``(..., F)`` with zeros for unknown cells, known units ``(..., D)``, log Jacobian ``(...)``."""
        if self.plain:
            return x.nan_to_num(), ~x.isnan(), x.new_zeros(x.shape[:-1])
        ordered = x[..., self.places]
        seen = ~ordered.isnan()
        y, log_jacobian = self.link.read(x[..., self.gaussian])
        first, second = self.split
        log_jacobian = log_jacobian - torch.where(seen[..., first:second], self.scale.log(), 0.0).sum(-1)
        pieces = [ordered[..., :first], (y - self.shift) / self.scale]
        at = second
        for levels, group in self.levelled:
            codes = ordered[..., at : at + len(group)]
            hot = one_hot(codes.nan_to_num().long(), levels).to(x)
            pieces.append(torch.where(codes.isnan()[..., None], 0.0, hot).flatten(-2))
            at += len(group)
        return torch.cat(pieces, -1).nan_to_num(), seen, log_jacobian

    def write(self, features: Tensor) -> Tensor:
        """Columns ``(..., D)`` from features; of probabilities of levels, the most probable one."""
        if self.plain:
            return features
        binary, y, groups = self.parts(features)
        found = [binary, self.link.write(y * self.scale + self.shift), *(group.argmax(-1) for group in groups)]
        out = torch.empty_like(features[..., : self.columns])
        out[..., self.places] = torch.cat([piece.to(features) for piece in found], -1)
        return out

    def spread(self, seen: Tensor) -> Tensor:
        """A mask of units as a mask of features."""
        return seen if self.columns == self.features else seen[..., self.owner]

    def calibrate(self, mean: Tensor, square: Tensor) -> None:
        """Standardise continuous units, given means of features and of their squares on the present scale."""
        first, second = self.split
        loc, spread = mean[first:second], (square - mean.square())[first:second].clamp_min(1e-12).sqrt()
        self.shift += loc * self.scale
        self.scale *= spread

    # -- the family, given natural parameters ------------------------------------------------------------------
    def quadratic(self, features: Tensor, precision: Tensor) -> Tensor:
        """What the energy is not linear in: -1/2 precision y^2 of each continuous unit."""
        return -0.5 * precision * features[..., slice(*self.split)].square()

    def log_normaliser(self, eta: Tensor, precision: Tensor) -> Tensor:
        """A of each unit, ``(..., D)``."""
        binary, linear, groups = self.parts(eta)
        if self.columns == len(self.binary):
            return softplus(binary)
        gauss = 0.5 * (linear.square() / precision + (2 * math.pi / precision).log())
        return torch.cat([softplus(binary), gauss, *(group.logsumexp(-1) for group in groups)], -1)

    def cells(self, eta: Tensor, precision: Tensor, features: Tensor) -> Tensor:
        """Log density of each unit in its own coordinates, ``(..., D)``."""
        binary, linear, groups = self.parts(eta * features)
        linear = linear + self.quadratic(features, precision)
        score = torch.cat([binary, linear, *(group.sum(-1) for group in groups)], -1)
        return score - self.log_normaliser(eta, precision)

    def sample(self, eta: Tensor, precision: Tensor) -> Tensor:
        """Features drawn. The noise has one precision whatever the dtype, so that results differ by rounding only."""
        binary, linear, groups = self.parts(eta)
        drawn = coin(binary)
        if self.columns == len(self.binary):
            return drawn
        noise = torch.randn(linear.shape, dtype=torch.float32, device=eta.device).to(eta)
        pieces = [drawn, linear / precision + noise * precision.rsqrt()]
        for group in groups:
            gumbel = -torch.empty(group.shape, dtype=torch.float32, device=eta.device).exponential_().log().to(eta)
            pieces.append(one_hot((group + gumbel).argmax(-1), group.shape[-1]).to(eta).flatten(-2))
        return torch.cat(pieces, -1)

    def mean(self, eta: Tensor, precision: Tensor) -> Tensor:
        """Expected features."""
        binary, linear, groups = self.parts(eta)
        return torch.cat(
            [binary.sigmoid(), linear / precision, *(group.softmax(-1).flatten(-2) for group in groups)], -1
        )

    def normalised(self, eta: Tensor) -> tuple[Tensor, Tensor]:
        """At precision 1: equivalent parameters, and log normalisers that belong to features, both ``(..., F)``."""
        binary, linear, groups = self.parts(eta)
        logs = [group.log_softmax(-1).flatten(-2) for group in groups]
        gauss = 0.5 * (linear.square() + math.log(2 * math.pi))
        form = torch.cat([binary, linear, *logs], -1)
        return form, torch.cat([softplus(binary), gauss, *(torch.zeros_like(log) for log in logs)], -1)

    def natural_of(self, mean: Tensor) -> Tensor:
        """Natural parameters with these expected features at precision 1."""
        binary, loc, groups = self.parts(mean)
        return torch.cat([binary.logit(), loc, *(group.log().flatten(-2) for group in groups)], -1)


def coin(logits: Tensor) -> Tensor:
    """Zeros and ones with these log odds."""
    noise = torch.rand(logits.shape, dtype=torch.float32, device=logits.device)
    return (noise < logits.sigmoid()).to(logits.dtype)


class Conditional(Observable):
    """The columns given natural parameters of their units: independent, so that holes are left out."""

    def __init__(self, units: Units, eta: Tensor, precision: Tensor) -> None:
        self.units, self.eta, self.precision = units, eta, precision
        super().__init__(eta.shape[:-1], torch.Size([units.columns]), validate_args=False)

    def log_prob(self, x: Tensor) -> Tensor:
        features, seen, log_jacobian = self.units.read(x)
        return torch.where(seen, self.units.cells(self.eta, self.precision, features), 0.0).sum(-1) + log_jacobian

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return self.units.write(self.units.sample(self.eta, self.precision))

    def fill(self, x: Tensor) -> Tensor:
        """X with its NaN cells drawn."""
        return torch.where(x.isnan(), self.sample(), x)

    @property
    def mean(self) -> Tensor:
        """The centre of each column."""
        means = self.units.mean(self.eta, self.precision)
        if not self.units.plain:
            means = torch.cat([means[..., : self.units.split[0]].round(), means[..., self.units.split[0] :]], -1)
        return self.units.write(means)
