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
from torch.overrides import TorchFunctionMode

from probgen._pyro import Messenger, is_bookkeeping
from probgen.data.batches import Place
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


class WholeNoise(TorchFunctionMode):
    """Noise for all rows of a minibatch, of which those of one process are kept: the same whoever has the rows.

    Args:
        place: of this process's rows in the minibatch.
        rows: how many they are.
        behind: dimensions of the noise behind that of the rows.
    """

    def __init__(self, place: Place, rows: int, behind: int) -> None:
        super().__init__()
        self.place, self.rows, self.dim = place, rows, -1 - behind

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in FILLS and args[0].dim() >= -self.dim and args[0].shape[self.dim] == self.rows:
            shape = list(args[0].shape)
            shape[self.dim] = self.place.rows
            whole = function(args[0].new_empty(shape), *args[1:], **(kwargs or {}))
            return args[0].copy_(whole.narrow(self.dim, self.place.first, self.rows))
        return function(*args, **(kwargs or {}))


FILLS = {getattr(Tensor, name) for name in ("normal_", "uniform_", "exponential_", "cauchy_", "log_normal_")}


class DrawsForAll(Messenger):
    """Sites of one process's rows are drawn with the whole minibatch's noise, where it does not depend on parameters."""

    def __init__(self, place: Place, rows: int) -> None:
        super().__init__()
        self.place, self.rows = place, rows

    def _pyro_sample(self, message: dict) -> None:
        drawn = message["fn"]
        if (
            is_bookkeeping(message)
            or message["done"]
            or message["is_observed"]
            or drawn.batch_shape[-1:] != (self.rows,)
        ):
            return
        with WholeNoise(self.place, self.rows, len(drawn.event_shape)):
            message["value"], message["done"] = drawn(), True


def draws_of(batch: Any) -> Any:
    """How the sites of a batch's rows are drawn."""
    place = getattr(batch, "place", None)
    return nullcontext() if place is None else DrawsForAll(place, len(batch))


def draws_plate(draws: int) -> Any:
    """S draws side by side, to the left of the rows; no dimension for a single draw."""
    return nullcontext() if draws == 1 else pyro.plate("draws", draws, dim=-2)


def propose(program: Any, batch: Any, draws: int) -> Proposal:
    """Draw the local latents from the guide."""
    with GuideTracer() as tracer, draws_of(batch), draws_plate(draws):
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
