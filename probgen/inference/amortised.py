r"""Local continuous latents under their guide: log importance weights for every draw and row.

.. math:: \log w_{sn} = \log p(x_n, z_{sn}) - \log q(z_{sn} \mid x_n), \qquad z_{sn} \sim q(\cdot \mid x_n)

Discrete sites of the program are summed out inside, so that a program may have both kinds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import pyro
import torch
from pyro.distributions import Delta
from torch import Tensor
from torch.overrides import TorchFunctionMode

from probgen._pyro import Messenger, is_bookkeeping
from probgen.data.batches import Place
from probgen.errors import DataError
from probgen.families.base import Parameters
from probgen.inference.evidence import Evidence, log_evidence
from probgen.inference.tracing import Given, observe

__all__ = [
    "Gradients",
    "Proposal",
    "Weighted",
    "has_guide",
    "is_point",
    "leaves_open",
    "propose",
    "resample",
    "shares",
    "weighted",
    "with_gradient_of",
]

Gradients = Literal["paths", "densities", "twice"]


@dataclass
class Proposal:
    """Draws of the local latents, their log density under the guide, ``(B,)`` or ``(S, B)``, and the guide's distributions."""

    sites: dict[str, Tensor]
    log_q: Tensor
    distributions: dict[str, Any] = field(default_factory=dict)


@dataclass
class Weighted:
    """Draws of the local latents and what they are worth.

    Log weights are ``(B,)`` or ``(S, B)``, of rows or of sequences; without local latents they are the log evidence itself.
    """

    evidence: Evidence
    proposal: Proposal
    batch: Any

    @property
    def log_weights(self) -> Tensor:
        return self.of_units(self.evidence.rows - self.proposal.log_q)

    def of_units(self, rows: Tensor) -> Tensor:
        """Values of rows, those of time steps added up over each sequence."""
        return of_units(self.batch, rows)

    @property
    def log_prior(self) -> Tensor:
        """Of the draws."""
        sites = self.evidence.trace.sites
        return sum(sites[name].distribution.log_prob(z) for name, z in self.proposal.sites.items())  # type: ignore[return-value]


def of_units(batch: Any, rows: Tensor) -> Tensor:
    """``(..., N)`` values of time steps added up over each sequence; those of rows that stand alone, and of sequences, as they are."""
    steps = getattr(batch, "steps", None) if getattr(batch, "in_sequences", False) else None
    return rows if steps is None or rows.shape[-1] != steps.rows or rows.shape[-1] == len(steps) else steps.total(rows)


def is_point(distribution: Any) -> bool:
    """True for guides that say one value and have no density."""
    return isinstance(distribution, Delta) or getattr(distribution, "point", False)


def shares(log_weights: Tensor) -> Tensor:
    """Each draw's share of a row's weight; no gradient runs through it."""
    return log_weights.detach().softmax(0) if log_weights.dim() > 1 else torch.ones_like(log_weights)


def with_gradient_of(value: Tensor, terms: Tensor) -> Tensor:
    """``(B,)``: a value that is shown, with the gradient of the sum of some terms ``(B,)`` or ``(S, B)``."""
    total = terms if terms.dim() == 1 else terms.sum(0)
    return value.detach() + total - total.detach()


class GuideTracer(Messenger):
    """Collect the guide's draws and their log density.

    Args:
        given: draws that are there already.
        paths: whether gradients run along the paths of the draws.
    """

    def __init__(self, given: Mapping[str, Tensor] | None = None, paths: bool = True) -> None:
        super().__init__()
        self.given, self.paths = given or {}, paths
        self.sites: dict[str, Tensor] = {}
        self.distributions: dict[str, Any] = {}
        self.log_q: Tensor | None = None

    def _pyro_sample(self, message: dict) -> None:
        if message["name"] in self.given:
            message["value"], message["done"] = self.given[message["name"]], True

    def _pyro_post_sample(self, message: dict) -> None:
        if is_bookkeeping(message):
            return
        if not self.paths:
            message["value"] = message["value"].detach()
        self.sites[message["name"]], self.distributions[message["name"]] = message["value"], message["fn"]
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


def propose(program: Any, batch: Any, draws: int, paths: bool = True) -> Proposal:
    """Draw the local latents from the guide."""
    with GuideTracer(paths=paths) as tracer, draws_of(batch), draws_plate(draws):
        program.guide(batch)
    log_q = batch.x.new_zeros(()) if tracer.log_q is None else tracer.log_q
    return Proposal(tracer.sites, log_q, tracer.distributions)


def proposed_again(program: Any, batch: Any, draws: int, proposal: Proposal) -> Proposal:
    """The same draws, their density by a guide whose parameters stand still: gradients run along paths alone."""
    sites = {name: value.clone() for name, value in proposal.sites.items()}
    with GuideTracer(sites) as tracer, draws_plate(draws), standing_still(program):
        program.guide(batch)
    log_q = proposal.log_q if tracer.log_q is None else tracer.log_q
    return Proposal(sites, log_q, tracer.distributions)


@contextmanager
def standing_still(program: Any) -> Iterator[None]:
    """What is computed here has no gradient by the program's weights."""
    moving = [weight for weight in program.parameters() if weight.requires_grad]
    for weight in moving:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in moving:
            weight.requires_grad_(True)


def weighted(
    program: Any,
    batch: Any,
    draws: int = 1,
    theta: Mapping[str, Parameters] | None = None,
    sites: Mapping[str, Tensor] | None = None,
    gradients: Gradients = "paths",
) -> Weighted:
    """Draws of the local latents with their log importance weights; known levels are looked up, not tried.

    Args:
        program: a Model.
        batch: the rows.
        draws: S, a row.
        theta: parameters of families by their name in the program.
        sites: values of global sites.
        gradients: of log weights by the guide's weights: along the "paths" of draws and by the guide's densities, by
            "densities" alone, or along paths alone, as doubly reparameterised gradients ("twice") need them.
    """
    proposal = propose(program, batch, draws, paths=gradients != "densities")
    if gradients == "twice":
        proposal = proposed_again(program, batch, draws, proposal)
    values = {**(sites or {}), **proposal.sites}
    with draws_plate(draws if proposal.sites else 1):
        evidence = log_evidence(program, batch, theta=theta, sites=values, settle=True)
    return Weighted(evidence, proposal, batch)


def has_guide(program: Any, batch: Any) -> bool:
    """True where local latents are integrated by a guide."""
    return bool(propose(program, batch, 1).sites)


def leaves_open(program: Any, batch: Any) -> bool:
    """False where the rows' cells leave their latents no room, so that densities are exact."""
    return not program.cells_as_latents or has_guide(program, batch)


def resample(program: Any, batch: Any, theta: Mapping[str, Parameters], candidates: int = 64) -> dict[str, Tensor]:
    """One draw a row of the local continuous latents given the known cells, by importance resampling.

    Half of the candidates come from the guide, half from the prior; weights are taken against their mixture (Veach
    and Guibas, 1995), so that rows with unusual holes, or with nothing known, are served too.
    """
    if program.cells_as_latents:
        return resample_cells(program, batch, theta, candidates)
    half = candidates // 2
    drawn = propose(program, batch, half).sites
    names = set(drawn)
    with draws_plate(half):
        run = observe(program, batch, Given(theta), sum_out=False)
    both = {name: torch.cat([drawn[name], run.sites[name].value]) for name in names}
    with GuideTracer(both) as guide, draws_plate(2 * half):
        program.guide(batch)
    with draws_plate(2 * half):
        evidence = log_evidence(program, batch, theta=theta, sites=both, settle=True)
    prior = sum(evidence.trace.sites[name].distribution.log_prob(both[name]) for name in names)
    assert guide.log_q is not None
    total, log_q, log_p = (of_units(batch, rows) for rows in (evidence.rows, guide.log_q, prior))
    weights = total - torch.logaddexp(log_q, log_p)
    chosen = torch.distributions.Categorical(logits=weights.mT).sample()  # (B,), or one a sequence
    if len(chosen) < len(batch):
        chosen = chosen[batch.steps.sequence]
    row = torch.arange(len(batch), device=chosen.device)
    return {name: value[chosen, row] for name, value in both.items()}


def resample_cells(program: Any, batch: Any, theta: Mapping[str, Parameters], candidates: int) -> dict[str, Tensor]:
    """Where latents are what known cells leave open: by the guide, or of rows with nothing known by the program, exactly."""
    found = weighted(program, batch, candidates, theta=theta)
    impossible = torch.nonzero(found.log_weights.amax(0) == -torch.inf)
    if len(impossible):
        what = "Sequence" if batch.in_sequences else "Row"
        raise DataError(
            f"{what} {int(impossible[0]) + (0 if batch.in_sequences else batch.first)}: its known cells have probability zero under this fit with"
            f" each of {candidates} guesses of the unknown ones; check them."
        )
    chosen = torch.distributions.Categorical(logits=found.log_weights.mT).sample()
    if len(chosen) < len(batch):
        chosen = chosen[batch.steps.sequence]
    row = torch.arange(len(batch), device=chosen.device)
    drawn = {name: value[chosen, row] for name, value in found.proposal.sites.items()}
    modelled = [at for at, name in enumerate(batch.schema.names) if name not in program.inputs]
    empty = batch.x[:, modelled].isnan().all(1)
    if batch.in_sequences:
        empty = (batch.steps.total((~empty).long()) == 0)[batch.steps.sequence]
    if not bool(empty.any()):
        return drawn
    free = observe(program, batch, Given(theta), sum_out=False).sites
    return {name: torch.where(empty[:, None], free[name].value, value) for name, value in drawn.items()}
