r"""Binary columns.

.. math:: p(x \mid k) = \mu_k^{x} (1 - \mu_k)^{1 - x}, \qquad \mu_k \sim \mathrm{Beta}(\alpha, \beta)

The default prior adds one pseudo-observation a row of the table, spread as the data's own (smoothed) frequency.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import softplus

from probgen.families.base import Natural, Parameters
from probgen.families.columnwise import ExponentialFamily

__all__ = ["Bernoulli"]


class Bernoulli(ExponentialFamily):
    """D columns of zeros and ones; parameters ``logits`` of shape ``(K, D)``, read as ``probs``.

    Args:
        columns: D.
        table: K, the number of parameter rows.
        prior: "default" or None (maximum likelihood).
        strength: pseudo-observations of the default prior, a row of the table.
    """

    closed = True

    def __init__(self, columns: int = 1, table: int = 1, prior: str | None = "default", strength: float = 1.0) -> None:
        super().__init__(columns, table, prior)
        self.strength = strength
        self.register_buffer("successes", torch.full((table, columns), 1.0 + 0.5 * strength))
        self.register_buffer("failures", torch.full((table, columns), 1.0 + 0.5 * strength))
        self.successes: Tensor
        self.failures: Tensor

    def prior(self) -> dict[str, dist.Distribution]:
        return {"probs": dist.Beta(self.successes, self.failures).to_event(2)}

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        return {"logits": logit(sites["probs"])}

    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        return {"probs": theta["logits"].sigmoid()}

    def describe(self, theta: Parameters) -> Parameters:
        return {"probs": theta["logits"].sigmoid()}

    def log_prior(self, theta: Parameters) -> Tensor:
        log_success, log_failure = -softplus(-theta["logits"]), -softplus(theta["logits"])
        return ((self.successes - 1) * log_success + (self.failures - 1) * log_failure).sum()

    def start(self) -> Parameters:
        return {"logits": torch.zeros_like(self.successes)}

    def calibrate(self, statistics: Natural) -> None:
        ones, total = statistics["logit"].sum(0) + 1.0, statistics["log_normaliser"].sum(0) + 2.0
        self.successes = (1.0 + self.strength * ones / total).expand(self.table, -1).clone()
        self.failures = (1.0 + self.strength * (1.0 - ones / total)).expand(self.table, -1).clone()

    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        ones, total = statistics["logit"], statistics["log_normaliser"]
        if self.prior_choice is not None:
            ones, total = ones + self.successes - 1, total + self.successes + self.failures - 2
        return {"logits": torch.where(total > 0, logit(ones / total), current["logits"])}

    def posterior_draw(self, statistics: Natural) -> Parameters:
        ones = statistics["logit"]
        zeros = statistics["log_normaliser"] - ones
        return {"logits": logit(dist.Beta(self.successes + ones, self.failures + zeros).sample())}

    def natural(self, theta: Parameters) -> Natural:
        return {"log_normaliser": -softplus(theta["logits"]), "logit": theta["logits"]}

    def level_logs(self, natural: Natural) -> Tensor:
        """``(K, D, 2)``: log probability of zero and of one."""
        zero = natural["log_normaliser"]
        return torch.stack([zero, zero + natural["logit"]], -1)

    def terms(self, x: Tensor) -> dict[str, Tensor]:
        return {"logit": x}

    def distribution(self, theta: Parameters) -> dist.Distribution:
        return dist.Bernoulli(logits=theta["logits"], validate_args=False)

    @property
    def outputs(self) -> int:
        return self.columns

    def head(self, output: Tensor) -> Parameters:
        return {"logits": output}


def logit(probs: Tensor) -> Tensor:
    """Log odds, finite also for certain events."""
    tiny = torch.finfo(probs.dtype).tiny
    return probs.clamp_min(tiny).log() - (1.0 - probs).clamp_min(tiny).log()
