r"""Local continuous latents under their guide: log importance weights for every draw and row.

.. math:: \log w_{sn} = \log p(x_n, z_{sn}) - \log q(z_{sn} \mid x_n), \qquad z_{sn} \sim q(\cdot \mid x_n)

Discrete sites of the program are summed out inside, so that a program may have both kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor

from probgen._pyro import Messenger, is_bookkeeping
from probgen.families.base import Parameters
from probgen.inference.evidence import Evidence, log_evidence
from probgen.inference.tracing import Given, observe

__all__ = ["Proposal", "has_guide", "log_weights", "propose", "resample"]


@dataclass
class Proposal:
    """Draws of the local latents and their log density under the guide, ``(B,)`` or ``(S, B)``."""

    sites: dict[str, Tensor]
    log_q: Tensor


class GuideTracer(Messenger):
    """Collect the guide's draws and their log density."""

    def __init__(self, given: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.given = given or {}
        self.sites: dict[str, Tensor] = {}
        self.log_q: Tensor | None = None

    def _pyro_sample(self, message: dict) -> None:
        if message["name"] in self.given:
            message["value"], message["done"] = self.given[message["name"]], True

    def _pyro_post_sample(self, message: dict) -> None:
        if is_bookkeeping(message):
            return
        self.sites[message["name"]] = message["value"]
        term = message["fn"].log_prob(message["value"])
        self.log_q = term if self.log_q is None else self.log_q + term


def draws_plate(draws: int) -> Any:
    """S draws side by side, to the left of the rows; no dimension for a single draw."""
    return nullcontext() if draws == 1 else pyro.plate("draws", draws, dim=-2)


def propose(program: Any, batch: Any, draws: int) -> Proposal:
    """Draw the local latents from the guide."""
    with GuideTracer() as tracer, draws_plate(draws):
        program.guide(batch)
    log_q = batch.x.new_zeros(()) if tracer.log_q is None else tracer.log_q
    return Proposal(tracer.sites, log_q)


def log_weights(
    program: Any,
    batch: Any,
    draws: int = 1,
    theta: Mapping[str, Parameters] | None = None,
    sites: Mapping[str, Tensor] | None = None,
    settle: bool = False,
) -> tuple[Tensor, Evidence, Proposal]:
    """Log importance weights ``(B,)`` or ``(S, B)``; without local latents the log evidence itself."""
    proposal = propose(program, batch, draws)
    values = {**(sites or {}), **proposal.sites}
    with draws_plate(draws if proposal.sites else 1):
        evidence = log_evidence(program, batch, theta=theta, sites=values, settle=settle)
    return evidence.rows - proposal.log_q, evidence, proposal


def has_guide(program: Any, batch: Any) -> bool:
    """True where local latents are integrated by a guide."""
    return bool(propose(program, batch, 1).sites)


def resample(program: Any, batch: Any, theta: Mapping[str, Parameters], candidates: int = 64) -> dict[str, Tensor]:
    """One draw a row of the local continuous latents given the known cells, by importance resampling.

    Half of the candidates come from the guide, half from the prior; weights are taken against their mixture (Veach
    and Guibas, 1995), so that rows with unusual holes, or with nothing known, are served too.
    """
    half = candidates // 2
    drawn = propose(program, batch, half).sites
    names = set(drawn)
    with draws_plate(half):
        run = observe(program, batch, Given(theta), sum_out=False)
    both = {name: torch.cat([drawn[name], run.sites[name].value]) for name in names}
    with GuideTracer(both) as guide, draws_plate(2 * half):
        program.guide(batch)
    with draws_plate(2 * half):
        evidence = log_evidence(program, batch, theta=theta, sites=both)
    prior = sum(evidence.trace.sites[name].distribution.log_prob(both[name]) for name in names)
    weights = evidence.rows - torch.logaddexp(guide.log_q, prior)
    chosen = torch.distributions.Categorical(logits=weights.mT).sample()  # (B,)
    row = torch.arange(len(batch), device=chosen.device)
    return {name: value[chosen, row] for name, value in both.items()}
