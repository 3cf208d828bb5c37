r"""Continuous latents of a row: a network's output as their distribution, and priors that are learnt.

.. math::
    p(z) = \mathcal N(0, I_L), \qquad
    p(z) = \sum_k \pi_k \mathcal N(\mu_k, \mathrm{diag}\,\sigma_k^2), \qquad
    p(z) = \frac1K \sum_k q(z \mid u_k), \qquad
    z = f(\epsilon), \ \epsilon \sim \mathcal N(0, I_L)

The second is a mixture of K normals; the third the mixture of the guide at K made-up rows :math:`u_k`, which start as rows of the
data: a prior that goes with the guide (VampPrior; Tomczak and Welling, 2018); the fourth a flow that is fast both ways (Dinh, Sohl-Dickstein and Bengio, 2017). The guide of a
row is a normal distribution, or one behind a flow with fast draws that reads what the encoder says (Kingma et al., 2016).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Independent

from probgen.data.batches import features, first_rows, n_features
from probgen.data.schema import Schema
from probgen.errors import CapabilityError
from probgen.families.base import Factor, Observable, Symbol
from probgen.families.columns import Columns
from probgen.families.flows import (
    Affine,
    Autoregressive,
    Coupling,
    Flow,
    FlowDistribution,
    RationalQuadratic,
    alternating,
)
from probgen.families.networks import writer
from probgen.families.normal_mixture import NormalMixture
from probgen.nn import Constants
from probgen.whole import is_whole

__all__ = [
    "GivenLevel",
    "LatentPosterior",
    "LatentPrior",
    "checked_sizes",
    "decoder",
    "normal_of",
    "posterior_named",
    "prior_named",
]

LEAST, MOST = -8.0, 4.0  # log standard deviations of latents
COUPLINGS, GUIDES, WIDTH = 4, 2, (64,)  # maps of a prior and of a guide, and widths of the network of each
TOLD = 16  # numbers that an encoder says to the flow behind its normal distribution


def checked_sizes(**sizes: Any) -> None:
    """Refuse networks and latents without any units."""
    for name, value in sizes.items():
        if name == "hidden" and not isinstance(value, tuple | list):
            raise CapabilityError(f"hidden must be the widths of layers, such as (128, 128), got {value!r}.")
        every = value if isinstance(value, tuple | list) else (value,)
        if not all(is_whole(size, 1) for size in every):
            raise CapabilityError(f"{name} must be whole numbers of at least 1, got {value!r}.")


def normal_of(output: Tensor) -> Any:
    """Independent normals by a network's output ``(..., 2 L)``: means, then log standard deviations."""
    loc, log_scale = output.chunk(2, -1)
    return dist.Normal(loc, log_scale.clamp(LEAST, MOST).exp()).to_event(1)


def decoder(
    *widths: int, columns: Columns, spread: str = "row", network: str = "mlp", schema: Schema | None = None
) -> nn.Module:
    """A network of some widths whose output describes columns.

    Args:
        widths: of what it reads, and of its layers.
        columns: what it describes.
        spread: their dispersions are decoded for every "row", are constants of each "column", or one constant, the "same".
        network: what kind of network, see :mod:`~probgen.families.networks`.
        schema: of the columns, for networks that write pictures.
    """
    if spread not in ("row", "column", "same"):
        raise CapabilityError(f"spread must be 'row', 'column' or 'same', got {spread!r}.")
    pictures = schema is not None and bool(
        schema.images
    )  # whose latents would else be given up: they say little at first
    net = writer(*widths, columns=columns, schema=schema, network=network, he=pictures)
    if spread == "row" or not columns.dispersions:
        return net
    return nn.Sequential(net, Constants(columns.outputs, columns.dispersions, spread == "same"))


class GivenLevel(Observable):
    """Columns whose decoder also reads a discrete site; where that is summed out, every level is tried.

    Args:
        of: makes the distribution of a level, or of one level a row, ``(B,)``.
        level: a symbol, or the levels.
        width: of the columns.
    """

    def __init__(self, of: Callable[[Tensor], Any], level: Symbol | Tensor, width: int) -> None:
        self.of, self.level = of, level
        super().__init__(torch.Size(), torch.Size([width]), validate_args=False)

    @property
    def known(self) -> Any:
        """The distribution at the levels, where they are known."""
        level = self.level.codes if isinstance(self.level, Symbol) else self.level
        assert level is not None
        return self.of(level)

    def factor(self, value: Tensor | Symbol) -> Factor:
        assert isinstance(value, Tensor)  # columns are observed, never summed out
        if not isinstance(self.level, Symbol) or self.level.codes is not None:
            return Factor((), self.known.log_prob(value))
        tried = [self.of(torch.tensor(at, device=value.device)).log_prob(value) for at in range(self.level.size)]
        return Factor((self.level,), torch.stack(tried))

    def log_prob(self, value: Tensor) -> Tensor:
        return self.known.log_prob(value)

    def fill(self, x: Tensor) -> Tensor:
        """X with its NaN cells drawn given the known ones."""
        return self.known.fill(x)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return self.known.sample()

    @property
    def mean(self) -> Tensor:
        """Of the columns."""
        return self.known.mean


class LatentPrior(nn.Module, ABC):
    """What latents are drawn from before anything is known of the row."""

    @abstractmethod
    def forward(self) -> Any:
        """The distribution of one row's latents, ``(L,)``."""

    def learn(self, batches: Any) -> None:
        """Where to begin, from the training rows."""


class StandardNormal(LatentPrior):
    """Mean 0, variance 1."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent), persistent=False)
        self.zero: Tensor

    def forward(self) -> Any:
        return dist.Normal(self.zero, 1.0).to_event(1)


class MixturePrior(LatentPrior):
    """K normals."""

    def __init__(self, latent: int, components: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        self.output = nn.Parameter(torch.cat([torch.randn(components, latent), torch.zeros(components, latent)], -1))

    def forward(self) -> Any:
        return NormalMixture(dist.Categorical(logits=self.logits), normal_of(self.output))


class VampPrior(LatentPrior):
    """The guide at K made-up rows.

    Args:
        components: K.
        features: numbers that the guide reads of a row.
        guide: what it says of such rows: a distribution of their latents.
    """

    def __init__(self, components: int, features: int, guide: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(components, features))
        self.guide = [guide]  # in a list: its weights belong to the model

    def learn(self, batches: Any) -> None:
        x, _ = first_rows(batches.pieces(), 100 * len(self.rows))
        chosen = torch.linspace(0, len(x) - 1, len(self.rows), device=x.device).long()
        masks = self.rows.shape[-1] != n_features(batches.schema)  # the guide is told of all columns what is known
        self.rows.data = features(x[chosen], batches.schema, masks).to(self.rows)

    def forward(self) -> Any:
        which = dist.Categorical(logits=self.rows.new_zeros(len(self.rows)))
        parts = self.guide[0](self.rows)
        kind = NormalMixture if isinstance(parts, Independent) else dist.MixtureSameFamily  # a guide may be a flow
        return kind(which, parts)


class FlowPrior(LatentPrior):
    """Standard normal noise behind affine couplings, one half and the other in turn; of a single latent, behind a spline."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.noise = StandardNormal(latent)
        if latent == 1:
            self.flow: Flow = Autoregressive(latent, RationalQuadratic(), WIDTH)
        else:
            self.flow = alternating([Coupling(latent, Affine(), WIDTH) for _ in range(COUPLINGS)])

    def forward(self) -> Any:
        return FlowDistribution(self.noise(), self.flow)


def prior_named(kind: str, latent: int, components: int, features: int, guide: Callable[[Tensor], Any]) -> LatentPrior:
    """By name: "normal", "mixture", "vamp" or "flow"."""
    if kind == "normal":
        return StandardNormal(latent)
    if kind == "mixture":
        return MixturePrior(latent, components)
    if kind == "vamp":
        return VampPrior(components, features, guide)
    if kind == "flow":
        return FlowPrior(latent)
    raise CapabilityError(f"latent_prior must be 'normal', 'mixture', 'vamp' or 'flow', got {kind!r}.")


class LatentPosterior(nn.Module, ABC):
    """What a guide makes of a network's output."""

    outputs: int  # numbers that the network says

    @abstractmethod
    def forward(self, output: Tensor) -> Any:
        """``(..., outputs)`` to the distribution of rows' latents, ``(L,)``."""


class NormalPosterior(LatentPosterior):
    """Independent normals."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.outputs = 2 * latent

    def forward(self, output: Tensor) -> Any:
        return normal_of(output)


class FlowPosterior(LatentPosterior):
    """Independent normals behind an inverse autoregressive flow that reads what else the network says (Kingma et al., 2016)."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.normal, self.outputs = 2 * latent, 2 * latent + TOLD
        self.flow = alternating([Autoregressive(latent, Affine(), WIDTH, TOLD) for _ in range(GUIDES)])

    def forward(self, output: Tensor) -> Any:
        return FlowDistribution(normal_of(output[..., : self.normal]), self.flow, output[..., self.normal :])


def posterior_named(kind: str, latent: int) -> LatentPosterior:
    """By name: "normal" or "flow"."""
    if kind == "normal":
        return NormalPosterior(latent)
    if kind == "flow":
        return FlowPosterior(latent)
    raise CapabilityError(f"posterior must be 'normal' or 'flow', got {kind!r}.")
