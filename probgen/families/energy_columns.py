r"""An energy over mixed columns: a base term that makes it integrable, and a network that corrects it.

.. math:: -E(x) = \log p_0(x) - f_\theta(\phi(x)) - c, \qquad
    p_0(x) = \prod_g \mathcal N(y_g; 0, s^2) \prod_d \bar p_d(x_d) \quad\text{or a mixture one of whose components this is}

The features :math:`\phi` are those of :class:`~probgen.families.units.Units`: standardised continuous columns y, zeros and ones, and the levels of others. The network is
Lipschitz (SiLU units), so that f falls at most linearly and the normal tails of the base term keep Z finite. With a target column the network reads the others and
says a number of every level: :math:`f_\theta(x, t) = f_{\theta t}(x)`, the logits of a classifier (Grathwohl et al., 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from probgen.data.batches import first_rows
from probgen.data.schema import Schema
from probgen.errors import CapabilityError
from probgen.families.base import Observable
from probgen.families.denoising import SharedNoise
from probgen.families.reference import Reference
from probgen.families.units import Units
from probgen.nn import mlp

__all__ = ["BaseColumns", "EnergyColumns", "Noised"]

BASES = ("mixture", "independent")
ROWS = 2**14  # that coordinates and the mixture are learnt from
WIDTH = 2.0  # s, of the base term
COVER = 0.2  # its share of the mixture, which is to be wherever the energy may have mass
SMALL, STEEP = (
    0.1,
    3.0,
)  # of the last layer's first weights, and of the first layer's, which is to see shapes narrower than the data


class Noised(NamedTuple):
    """That normal noise has been added to continuous features.

    Attributes:
        level: ``(...)``, what the network is told of it; nought of the least, which passes for none.
        variance: ``(...)``, by how much it is more than the least.
    """

    level: Tensor
    variance: Tensor


class EnergyColumns(nn.Module):
    """Features ``(..., F)`` to unnormalised log densities ``(...)``.

    Args:
        schema: the columns.
        hidden: widths of the network.
        reference: components of the mixture where chains and paths begin.
        target: a discrete column whose levels have logits of their own.
        base: what the network corrects: that "mixture", or one of "independent" columns.

    Raises:
        CapabilityError: the target is no discrete column, or there is no such base.
    """

    def __init__(
        self, schema: Schema, hidden: Sequence[int], reference: int, target: str | None = None, base: str = "mixture"
    ) -> None:
        super().__init__()
        self.units, self.target, self.names = Units(schema), target, schema.names
        self.wide, self.reference = Reference(self.units, 1), Reference(self.units, reference + 1)
        if base not in BASES:
            raise CapabilityError(f"base must be one of {', '.join(map(repr, BASES))}, got {base!r}.")
        self.base_name = base
        label = torch.zeros(self.units.features, dtype=torch.bool) if target is None else self.label_of(schema, target)
        self.register_buffer("label", label, persistent=False)
        self.label: Tensor
        levels = max(1, int(label.sum()) + (int(label.sum()) == 1))
        self.network = mlp(self.units.features + 1, *hidden, levels, activation=nn.SiLU)
        self.offset = nn.Parameter(torch.zeros(()))
        with torch.no_grad():
            self.network[-1].weight.mul_(SMALL)  # type: ignore[operator, union-attr]
            self.network[0].weight.mul_(STEEP)  # type: ignore[operator, union-attr]
        self.log_z = torch.full((3,), torch.nan, dtype=torch.float64)

    @property
    def base(self) -> Reference:
        """What the network corrects."""
        return self.reference if self.base_name == "mixture" else self.wide

    def label_of(self, schema: Schema, target: str) -> Tensor:
        """``(F,)``: the features of the target."""
        if target not in schema.names or not schema[target].is_discrete:
            raise CapabilityError(
                f"target has to be a discrete column, whose levels get logits; got {target!r}. Leave it out, or name one of"
                f" {[column.name for column in schema if column.is_discrete]}."
            )
        return self.units.owner == self.units.places.tolist().index(schema.index(target))

    def get_extra_state(self) -> Tensor:
        """Log Z, its standard error and effective sample size once they are known, whatever the dtype of the rest."""
        return self.log_z

    def set_extra_state(self, state: Tensor) -> None:
        self.log_z = state

    # -- the energy --------------------------------------------------------------------------------------------
    def said(self, features: Tensor, noise: Noised | None = None) -> Tensor:
        """``(..., L)``: what the network says, of every level of the target where there is one."""
        read = torch.where(self.label, 0.0, features)
        level = (
            torch.zeros_like(read[..., :1]) if noise is None else noise.level[..., None].expand(*read.shape[:-1], 1)
        )
        return self.network(torch.cat([read, level], -1))

    def correction(self, features: Tensor, noise: Noised | None = None) -> Tensor:
        """``(...)``: f."""
        said = self.said(features, noise)
        if self.target is None:
            return said[..., 0]
        return (self.shares(features) * said).sum(-1)

    def shares(self, features: Tensor) -> Tensor:
        """``(..., L)``: the target's levels, of which one is one."""
        own = features[..., self.label]
        return torch.cat([1 - own, own], -1) if own.shape[-1] == 1 else own

    def correction_of(self, x: Tensor) -> Tensor:
        """``(B,)``: f of rows without holes."""
        return self.correction(self.units.read(x)[0])

    def log_density(self, features: Tensor, noise: Noised | None = None) -> Tensor:
        """``(...)``: -E; told that rows are noisy, of noisy rows."""
        return self.of_base(features, noise).logsumexp(-1) - self.correction(features, noise) - self.offset

    def of_base(self, features: Tensor, noise: Noised | None, known: Tensor | None = None) -> Tensor:
        """``(..., K)``: log densities of the base term's components."""
        return (
            self.base.scores(features, known) if noise is None else self.base.widened(features, noise.variance, known)
        )

    def logits(self, features: Tensor, noise: Noised | None = None) -> Tensor:
        """``(..., L)``: of the target's levels given all other columns, up to a constant."""
        others = self.of_base(features, noise, (~self.label).expand(features.shape))
        together = (others[..., None] + self.shares(self.base.mean).log()).logsumexp(-2)
        return together - self.said(features, noise)

    def marginal(self, features: Tensor, noise: Noised | None = None) -> Tensor:
        """``(...)``: -E with the target summed out."""
        if self.target is None:
            return self.log_density(features, noise)
        return self.logits(features, noise).logsumexp(-1) - self.offset

    def log_label(self, features: Tensor) -> Tensor:
        """``(...)``: log probability of the target's level given all other columns, in which Z cancels."""
        return (self.shares(features) * self.logits(features).log_softmax(-1)).sum(-1)

    def told(self) -> list[str]:
        """Lines for a summary."""
        z, error, _ = self.log_z.tolist()
        return [] if z != z else [f"log Z {z:.4f} by annealing, standard error {error:.4f}"]

    # -- beginnings --------------------------------------------------------------------------------------------
    def learn(self, batches: Any) -> None:
        """Coordinates, base term and mixture, from the first training rows."""
        x, weights = first_rows(batches.pieces(), ROWS)
        weights = torch.ones_like(x[:, 0]) if weights is None else weights
        features, seen, _ = self.units.read(x)
        known = self.units.spread(seen).to(features) * weights[:, None]
        total = known.sum(0).clamp_min(1e-12)
        self.units.calibrate((known * features).sum(0) / total, (known * features.square()).sum(0) / total)
        features, seen, _ = self.units.read(x)
        for mixture, width in ((self.wide, WIDTH), (self.reference, 1.0)):
            mixture.learn(features, self.units.spread(seen), weights, width)
        self.reference.cover(self.wide, COVER)
        self.log_z = torch.full_like(self.log_z, torch.nan)


class BaseColumns(Observable):
    """The base term as a distribution over columns, holes left out."""

    def __init__(self, energy: EnergyColumns) -> None:
        self.energy = energy
        super().__init__(torch.Size(), torch.Size([energy.units.columns]), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        features, seen, log_jacobian = self.energy.units.read(value)
        return self.energy.base.log_prob(features, self.energy.units.spread(seen)) + log_jacobian

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return self.fill(self.energy.base.mean.new_full((*sample_shape, *self.event_shape), torch.nan))

    def fill(self, x: Tensor) -> Tensor:
        """X with its NaN cells drawn."""
        units = self.energy.units
        features, seen, _ = units.read(x.reshape(-1, units.columns))
        drawn = units.write(self.energy.base.draw(features, units.spread(seen), 1, SharedNoise())[0])
        return torch.where(x.isnan(), drawn.reshape(x.shape), x)
