"""Latents of rows whose label is unknown: a mixture over the levels that it may have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from probgen.data.schema import Schema
from probgen.errors import CapabilityError

__all__ = ["LevelMixture", "among", "checked_label", "checked_weight"]

NEVER = -1e9  # log weight of a level that is not that of the row


def among(log_weights: Tensor, level: Tensor) -> Tensor:
    """``(B, K)`` log weights of levels, all on the known one where it is, ``(B,)`` or NaN."""
    known, at = ~level.isnan(), level.nan_to_num().long()
    certain = torch.full_like(log_weights, NEVER).scatter(-1, at[:, None], 0.0)
    return torch.where(known[:, None], certain, log_weights)


class LevelMixture(dist.TorchDistribution):
    r"""A distribution of L latents for every level, in shares of their own for every row.

    .. math:: q(z) = \sum_k w_{nk}\, q_k(z)

    A level is drawn, then latents given it. Gradients run along the path of the second draw alone: what is trained has its levels tried one by one.

    Args:
        of: makes the distribution of a level for every row, ``(..., B)``.
        log_weights: of the levels, ``(B, K)``.
    """

    arg_constraints: dict = {}
    support: Any = constraints.real_vector
    has_rsample = True

    def __init__(
        self, of: Callable[[Tensor], Any], log_weights: Tensor, batch_shape: torch.Size | None = None
    ) -> None:
        self.of, self.log_weights = of, log_weights
        size = of(log_weights.new_zeros(len(log_weights))).event_shape
        super().__init__(log_weights.shape[:1] if batch_shape is None else batch_shape, size, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> LevelMixture:
        return type(self)(self.of, self.log_weights, torch.Size(batch_shape))

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        below = self.log_weights.detach().softmax(-1).cumsum(-1)[..., :-1]
        share = below.new_empty(torch.Size(sample_shape) + self.batch_shape).uniform_()
        return self.of((share[..., None] > below).sum(-1).to(below)).rsample()

    def log_prob(self, value: Tensor) -> Tensor:
        every = torch.stack([part.log_prob(value) for part in self.parts()], -1)
        return (every + self.log_weights.log_softmax(-1)).logsumexp(-1)

    def parts(self) -> list[Any]:
        """The distribution of every level."""
        rows, levels = self.log_weights.shape
        return [self.of(self.log_weights.new_full((rows,), at)) for at in range(levels)]

    def moved(self, shift: Tensor, log_factor: Tensor) -> LevelMixture:
        """With other means and scales, the same change for every level."""

        def of(level: Tensor) -> Any:
            normal = getattr(self.of(level), "base_dist", None)
            if not isinstance(normal, torch.distributions.Normal):
                raise CapabilityError("refine moves the means and scales of normal guides; leave it out.")
            return dist.Normal(normal.loc + shift, normal.scale * log_factor.exp()).to_event(1)

        return LevelMixture(of, self.log_weights, self.batch_shape)

    @property
    def mean(self) -> Tensor:
        """Over the levels."""
        return self.over([part.mean for part in self.parts()])

    @property
    def variance(self) -> Tensor:
        """Within levels and between."""
        second = self.over([part.variance + part.mean.square() for part in self.parts()])
        return second - self.mean.square()

    def over(self, values: list[Tensor]) -> Tensor:
        """The mean of ``(B, L)`` values of every level, ``(*batch_shape, L)``."""
        found = (torch.stack(values, -1) * self.log_weights.softmax(-1)[:, None]).sum(-1)
        return found.expand(self.batch_shape + self.event_shape)


def checked_label(schema: Schema, label: str, model: str) -> str:
    """The name of a column with levels; "auto" is the last one."""
    discrete = [column.name for column in schema if column.is_discrete]
    if label == "auto" and discrete:
        label = discrete[-1]
    if label not in discrete or len(schema) < 2:
        raise CapabilityError(
            f"{model} needs a label, a column with levels beside others: {', '.join(discrete) or 'there is none'}. Got {label!r}."
        )
    return label


def checked_weight(weight: float) -> float:
    """A number, nought or more."""
    if not 0 <= weight < float("inf"):
        raise CapabilityError(f"label_weight must be a number, 0 or more, got {weight!r}.")
    return float(weight)
