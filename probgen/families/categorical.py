r"""Categorical columns, and the discrete latent of every mixture.

.. math:: p(x = l \mid k) = \pi_{kl}, \qquad \pi_k \sim \mathrm{Dirichlet}(\alpha)

The default prior adds one pseudo-observation a row of the table, spread as the data's own (smoothed) frequencies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pyro.distributions as dist
import torch
from torch import Tensor

from probgen.families.base import Family, Natural, Parameters, once_per_tensor
from probgen.families.look_ups import as_bytes, look_up, usable
from probgen.whole import check_whole

__all__ = ["Categorical"]


class Categorical(Family):
    """D columns of L levels each (``columns=None``: a bare code, as a mixture's component).

    Args:
        levels: L, the number of levels; codes are 0 .. L-1.
        columns: D, or None for a single value without a column dimension.
        table: K, the number of parameter rows.
        prior: "default" or None (maximum likelihood).
        strength: pseudo-observations of the default prior, a row of the table.
    """

    closed = True

    def __init__(
        self,
        levels: int,
        columns: int | None = None,
        table: int = 1,
        prior: str | None = "default",
        strength: float = 1.0,
    ) -> None:
        super().__init__(columns, table, prior)
        check_whole("The number of components", levels)
        self.levels, self.strength = levels, strength
        self.shape = (table, levels) if columns is None else (table, columns, levels)
        self.register_buffer("concentration", torch.full(self.shape, 1.0 + strength / levels))
        self.concentration: Tensor

    def prior(self) -> dict[str, dist.Distribution]:
        return {"probs": dist.Dirichlet(self.concentration).to_event(len(self.shape) - 1)}

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        return {"logits": safe_log(sites["probs"])}

    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        return {"probs": theta["logits"].exp()}

    def describe(self, theta: Parameters) -> Parameters:
        return {"probs": theta["logits"].exp()}

    @property
    def log_relabellings(self) -> float:
        return self.table * math.lgamma(self.levels + 1)

    def log_prior(self, theta: Parameters) -> Tensor:
        return ((self.concentration - 1) * theta["logits"]).sum()

    def start(self) -> Parameters:
        return {"logits": safe_log(torch.full_like(self.concentration, 1.0 / self.levels))}

    def expected_counts(self, statistics: Natural) -> Tensor | None:
        return statistics["logits"][0] if self.bare and self.table == 1 else None

    def calibrate(self, statistics: Natural) -> None:
        total = statistics["logits"].sum(0) + 1.0
        self.concentration = 1.0 + self.strength * (total / total.sum(-1, keepdim=True)).expand(self.shape)

    def counts(self, statistics: Natural) -> Tensor:
        pseudo = 0.0 if self.prior_choice is None else self.concentration - 1.0
        return statistics["logits"] + pseudo

    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        counts = self.counts(statistics)
        total = counts.sum(-1, keepdim=True)
        return {"logits": torch.where(total > 0, safe_log(counts / total), current["logits"])}

    def posterior_draw(self, statistics: Natural) -> Parameters:
        return {"logits": safe_log(dist.Dirichlet(statistics["logits"] + self.concentration).sample())}

    # -- densities ---------------------------------------------------------------------------------------------
    def natural(self, theta: Parameters) -> Natural:
        return {"logits": theta["logits"]}

    def level_logs(self, natural: Natural) -> Tensor:
        """``(K, D, L)``: log probability of every level."""
        return natural["logits"].reshape(self.table, self.columns, self.levels)

    @once_per_tensor
    def indicators(self, x: Tensor) -> Tensor:
        """Made once for the data."""
        return one_hot_codes(x, self.levels)

    def score(self, natural: Natural, x: Tensor) -> Tensor:
        return natural["logits"].flatten(1) @ self.indicators(x).mT

    @once_per_tensor
    def bytes_of(self, x: Tensor) -> Tensor:
        """Codes of one byte each."""
        return as_bytes(x)

    def own_score(self, natural: Natural, x: Tensor, codes: Tensor) -> Tensor:
        if self.bare or not usable(natural["logits"], self.levels):
            return super().own_score(natural, x, codes)
        return look_up(natural["logits"], self.bytes_of(x), codes)

    def cells(self, natural: Natural) -> Tensor:
        return natural["logits"].reshape(self.table, self.levels)

    def log_prob(self, theta: Parameters, x: Tensor) -> Tensor:
        unknown = x.isnan()
        code = torch.where(unknown, 0.0, x).long()
        logits = theta["logits"]
        batch = torch.broadcast_shapes(logits.shape[:-1], code.shape)
        cells = logits.expand(*batch, self.levels).gather(-1, code.expand(batch)[..., None])[..., 0]
        cells = torch.where(unknown, 0.0, cells)
        return cells if self.bare else cells.sum(-1)

    def sample(self, theta: Parameters) -> Tensor:
        code = dist.Categorical(logits=theta["logits"]).sample()
        return code if self.bare else code.to(theta["logits"])

    def fill(self, theta: Parameters, x: Tensor) -> Tensor:
        return torch.where(x.isnan(), self.sample(theta).to(x), x)

    def mean(self, theta: Parameters) -> Tensor:
        return theta["logits"].argmax(-1).to(theta["logits"])

    # -- network head ------------------------------------------------------------------------------------------
    @property
    def outputs(self) -> int:
        return self.columns * self.levels

    @property
    def output_places(self) -> Tensor:
        return torch.arange(self.outputs).reshape(self.columns, self.levels)

    def head(self, output: Tensor) -> Parameters:
        shape = (self.levels,) if self.bare else (self.columns, self.levels)
        return {"logits": output.unflatten(-1, shape).log_softmax(-1)}


def one_hot_codes(x: Tensor, levels: int) -> Tensor:
    """Indicators ``(N, D * L)`` of codes, zeros for unknown cells."""
    codes = torch.arange(levels, device=x.device, dtype=x.dtype)
    return (x[..., None] == codes).to(x.dtype).flatten(1)


def safe_log(probs: Tensor) -> Tensor:
    """Log with a floor at the smallest normal number, so that zero times it stays finite."""
    return probs.clamp_min(torch.finfo(probs.dtype).tiny).log()
