r"""Discrete states that follow each other: Markov chains and semi-Markov chains.

.. math:: z_1 \sim \mathrm{Categorical}(\pi), \qquad z_t \mid z_{t-1} = j \sim \mathrm{Categorical}(A_j)

Rows of A, and :math:`\pi`, have Dirichlet priors over the entries that are free; any entry can be fixed at a number,
and what is fixed at zero stays zero. A semi-Markov chain stays in a state for a time drawn from that state's own
distribution over 1 .. M steps (Ferguson, 1980).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from probgen.data.sequences import Steps
from probgen.errors import CapabilityError
from probgen.families.base import DependentFamily, Factor, Natural, Observable, Parameters, Symbol, Table
from probgen.whole import check_whole, is_whole

__all__ = ["TOPOLOGIES", "ChainFactor", "MarkovChain", "SemiMarkovChain"]


@dataclass(frozen=True)
class ChainFactor(Factor):
    """The log density of a whole path of a symbol's values, one a row, along the sequences of ``steps``.

    Attributes:
        initial, transition: log potentials ``(M,)`` and ``(M, M)`` over the chain's own states.
        steps: the sequences.
        phases: states of the chain for each value of the symbol, side by side: M = size * phases.
        ordered: states are passed through in their order, so that a start should follow time.
    """

    initial: Tensor
    transition: Tensor
    steps: Steps
    phases: int = 1
    ordered: bool = False


def free(states: int) -> Tensor:
    """Any state after any."""
    return torch.ones(states, states, dtype=torch.bool)


def left_right(states: int) -> Tensor:
    """Never back (Bakis)."""
    return free(states).triu()


def banded(states: int) -> Tensor:
    """To the neighbours only."""
    return free(states).triu(-1).tril(1)


def cyclic(states: int) -> Tensor:
    """Stay, or go to the next; the last is followed by the first."""
    stay = torch.eye(states, dtype=torch.bool)
    return stay | stay.roll(1, 1)


TOPOLOGIES: dict[str, Callable[[int], Tensor]] = {
    "free": free,
    "sticky": free,
    "left_right": left_right,
    "banded": banded,
    "cyclic": cyclic,
}
BETWEEN_STATES = ("initial", "transition")  # parts of a chain whose columns are its states
Entries = Any  # nested lists or an array of numbers, NaN (or None) where an entry is to be learned


class Simplexes(DependentFamily):
    """Rows of probabilities with Dirichlet priors, some entries fixed: the parts of a chain.

    Args:
        fixed: for every part, ``(R, C)`` with NaN for entries that are learned.
        pseudo: for every part, prior counts ``(R, C)`` or a number.
        prior: "default" or None (maximum likelihood).
    """

    refusal = "A chain has no density of single rows; call it with batch.steps."

    def __init__(
        self, states: int, fixed: Mapping[str, Tensor], pseudo: Mapping[str, Tensor], prior: str | None
    ) -> None:
        super().__init__(None, states, prior)
        self.levels = states
        self.parts = tuple(fixed)
        for name, entries in fixed.items():
            check_entries(name, entries)
            self.register_buffer(f"fixed_{name}", entries)
            counts = pseudo[name].expand(entries.shape).clone() if prior is not None else torch.zeros_like(entries)
            self.register_buffer(f"pseudo_{name}", counts)

    def fixed(self, name: str) -> Tensor:
        return getattr(self, f"fixed_{name}")

    def pseudo(self, name: str) -> Tensor:
        """Prior counts of each entry."""
        return getattr(self, f"pseudo_{name}")

    def spread(self, name: str, probs: Tensor) -> Tensor:
        """Rows of weights as rows of probabilities: free entries share what the fixed ones leave."""
        fixed = self.fixed(name).to(probs)
        learned = fixed.isnan()
        weight = torch.where(learned, probs, 0.0)
        share = weight / weight.sum(-1, keepdim=True).clamp_min(torch.finfo(probs.dtype).tiny)
        rest = 1.0 - fixed.nan_to_num().sum(-1, keepdim=True)
        return torch.where(learned, share * rest, fixed)

    # -- parameters --------------------------------------------------------------------------------------------
    def prior(self) -> dict[str, dist.Distribution]:
        return {name: dist.Dirichlet(1.0 + self.pseudo(name)).to_event(1) for name in self.parts}

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        return {name: possible_log(self.spread(name, sites[name])) for name in self.parts}

    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        found = {}
        for name in self.parts:
            learned = self.fixed(name).isnan()
            weight = torch.where(learned, theta[name].exp().clamp_min(1e-12), 1.0 / learned.shape[-1])
            found[name] = weight / weight.sum(-1, keepdim=True)
        return found

    def describe(self, theta: Parameters) -> Parameters:
        return {name: theta[name].exp() for name in self.parts}

    @property
    def free_parameters(self) -> int:
        """Learned entries, less one in every row that has any."""
        learned = [self.fixed(name).isnan() for name in self.parts]
        return sum(int(entries.sum() - entries.any(-1).sum()) for entries in learned)

    @property
    def log_relabellings(self) -> float:
        """All orders of the states, where exchanging any two leaves fixed entries and prior counts as they are."""
        return math.lgamma(self.levels + 1) if all(map(self.exchangeable, range(1, self.levels))) else 0.0

    def exchangeable(self, state: int) -> bool:
        """True where nothing but its name tells a state from the one before it."""
        order = torch.arange(self.levels)
        order[state - 1], order[state] = state, state - 1
        for name in self.parts:
            for entries in (self.fixed(name).nan_to_num(-1.0), self.pseudo(name)):
                rows = entries if len(entries) == 1 else entries[order]
                if not torch.equal(rows[:, order] if name in BETWEEN_STATES else rows, entries):
                    return False
        return True

    def log_prior(self, theta: Parameters) -> Tensor:
        terms = []
        for name in self.parts:
            counts = torch.where(self.fixed(name).isnan(), self.pseudo(name), 0.0)
            terms.append(torch.where(counts > 0, counts * theta[name].clamp_min(-1e9), 0.0).sum())
        return torch.stack(terms).sum()

    def expected_counts(self, statistics: Natural) -> Tensor | None:
        return statistics["initial"][0] + statistics["transition"].sum(0)

    def start(self) -> Parameters:
        return self.assemble({name: torch.ones_like(self.pseudo(name)) + self.pseudo(name) for name in self.parts})

    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        found = {}
        for name in self.parts:
            counts = statistics[name].clamp_min(0) + self.pseudo(name)
            learned = self.fixed(name).isnan()
            used = torch.where(learned, counts, 0.0).sum(-1, keepdim=True) > 0
            found[name] = torch.where(used, possible_log(self.spread(name, counts)), current[name])
        return found

    def posterior_draw(self, statistics: Natural) -> Parameters:
        drawn = {
            name: dist.Dirichlet(1.0 + statistics[name].clamp_min(0) + self.pseudo(name)).sample()
            for name in self.parts
        }
        return self.assemble(drawn)

    def natural(self, theta: Parameters) -> Natural:
        return dict(theta)

    # -- a chain is called with the sequences, not with an index ------------------------------------------------
    def at(self, table: Table, index: Any) -> ChainStates:
        if not isinstance(index, Steps):
            raise CapabilityError("A chain is called with the sequences of a batch: chain(batch.steps).")
        return ChainStates(table, index)

    def potentials(self, natural: Natural) -> tuple[Tensor, Tensor, int]:
        """Log initial and log transition potentials of the chain's own states, and the phases of each value."""
        return natural["initial"][0], natural["transition"], 1


class MarkovChain(Simplexes):
    """K states.

    Args:
        states: K.
        topology: "free", "sticky", "left_right", "banded", "cyclic", or a ``(K, K)`` array of fixed transition
            probabilities with NaN for the entries that are learned.
        initial: ``(K,)`` fixed first probabilities, NaN for those that are learned; left-right chains begin in the
            first state unless told otherwise.
        prior: "default" (one pseudo-count a row; sticky chains add more on staying), None, or a ``(K, K)`` array of
            prior counts of the transitions.
    """

    def __init__(
        self,
        states: int,
        topology: str | Entries = "free",
        initial: Entries = None,
        prior: str | Entries | None = "default",
    ) -> None:
        check_states(states)
        self.ordered = topology == "left_right"
        transition = fixed_transitions(states, topology)
        counts = torch.full((states, states), 1.0 / states)
        if isinstance(topology, str) and topology == "sticky":
            counts = counts + STAYING * torch.eye(states)
        if prior is not None and not isinstance(prior, str):
            counts, prior = entries_of(prior, (states, states), "prior"), "default"
        first = (
            torch.full((1, states), torch.nan) if initial is None else entries_of(initial, (states,), "initial")[None]
        )
        if initial is None and self.ordered:
            first = torch.eye(states)[:1]
        fixed = {"initial": first, "transition": transition}
        pseudo = {"initial": torch.tensor(1.0 / states), "transition": counts}
        super().__init__(states, fixed, pseudo, prior)


STAYING = 10.0  # prior counts of staying, in sticky chains


class SemiMarkovChain(Simplexes):
    r"""K states, each kept for a time drawn from its own distribution over 1 .. M steps.

    .. math:: d \mid k \sim \mathrm{Categorical}(D_k), \qquad A_{kk} = 0

    As a chain over (state, steps left) it is a Markov chain of K M states. A sequence's first segment begins with it;
    its last may go on after it.

    Args:
        states: K.
        longest: M.
        prior: "default" or None.
    """

    ordered = False

    def __init__(self, states: int, longest: int = 20, prior: str | None = "default") -> None:
        check_states(states)
        if not is_whole(longest, 1):
            raise CapabilityError(f"longest must be a whole number of steps of at least 1, got {longest!r}.")
        self.longest = longest
        learned = torch.full((states, states), torch.nan)
        if states > 1:
            learned.fill_diagonal_(0.0)
        fixed = {
            "initial": torch.full((1, states), torch.nan),
            "transition": learned,
            "duration": torch.full((states, longest), torch.nan),
        }
        pseudo = {name: torch.tensor(1.0 / value.shape[-1]) for name, value in fixed.items()}
        super().__init__(states, fixed, pseudo, prior)

    def potentials(self, natural: Natural) -> tuple[Tensor, Tensor, int]:
        K, M, duration = self.levels, self.longest, natural["duration"]
        initial = (natural["initial"][0][:, None] + duration).flatten()
        enter = natural["transition"][:, :, None] + duration  # (from, to, steps to stay)
        never = duration.new_full((K, M - 1, K, M), -torch.inf)
        stay = torch.eye(K * M, dtype=torch.bool, device=duration.device).roll(1, 0)  # one step fewer left
        stay = (
            stay.reshape(K, M, K, M)[:, 1:] & torch.eye(K, dtype=torch.bool, device=duration.device)[:, None, :, None]
        )
        onward = torch.where(stay, torch.zeros_like(never), never)
        return initial, torch.cat([enter[:, None], onward], 1).reshape(K * M, K * M), M


class ChainStates(Observable):
    """The states of all rows of some sequences."""

    def __init__(self, table: Table, steps: Steps) -> None:
        self.family, self.steps = table.family, steps
        self.potentials = table.family.potentials(table.natural)  # type: ignore[operator]
        super().__init__(torch.Size(), torch.Size(), validate_args=False)

    def factor(self, value: Tensor | Symbol) -> Factor:
        if not isinstance(value, Symbol):
            return Factor((), self.log_prob(value))
        initial, transition, phases = self.potentials
        ordered = bool(self.family.ordered)  # type: ignore[arg-type]
        return ChainFactor((value,), initial, initial, transition, self.steps, phases, ordered)

    def log_prob(self, value: Tensor) -> Tensor:
        """``(S,)``: log probability of known states."""
        initial, transition, phases = self.potentials
        if phases > 1:
            raise CapabilityError("Known states of a semi-Markov chain have no closed density; sum them out.")
        codes, steps = value.long(), self.steps
        moves = transition[codes[:-1], codes[1:]]
        inside = steps.sequence[:-1] == steps.sequence[1:]
        kept = torch.cat([initial[codes[:1]], torch.where(inside, moves, initial[codes[1:]])])
        return steps.total(kept)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        initial, transition, phases = self.potentials
        steps = self.steps
        path = torch.empty(steps.rows, dtype=torch.long, device=initial.device)
        now = dist.Categorical(logits=initial.expand(len(steps), -1)).sample()
        alive = torch.arange(len(steps), device=initial.device)
        for t in range(steps.longest):
            path[steps.starts[alive] + t] = now
            keep = steps.lengths[alive] > t + 1
            alive, now = alive[keep], now[keep]
            if len(alive):
                now = dist.Categorical(logits=transition[now]).sample()
        return path // phases


# --------------------------------------------------------------------------------------------------------- checks
def possible_log(probs: Tensor) -> Tensor:
    """Log, with -inf and no gradient where the probability is zero."""
    return torch.where(probs > 0, torch.where(probs > 0, probs, 1.0).log(), -torch.inf)


def check_states(states: int) -> None:
    check_whole("states", states)


def fixed_transitions(states: int, topology: str | Entries) -> Tensor:
    """Fixed entries of the transition matrix, NaN where they are learned."""
    if not isinstance(topology, str):
        return entries_of(topology, (states, states), "topology")
    if topology not in TOPOLOGIES:
        raise CapabilityError(
            f"topology must be one of {', '.join(TOPOLOGIES)}, or a ({states}, {states}) array of fixed probabilities with"
            f" NaN for free entries; got {topology!r}."
        )
    return torch.where(TOPOLOGIES[topology](states), torch.nan, 0.0)


def entries_of(entries: Entries, shape: tuple[int, ...], name: str) -> Tensor:
    made = torch.tensor(
        [
            [torch.nan if v is None else float(v) for v in row] if isinstance(row, list | tuple) else row
            for row in entries
        ]
        if not isinstance(entries, Tensor)
        else entries,
        dtype=torch.get_default_dtype(),
    )
    if tuple(made.shape) != shape:
        raise CapabilityError(f"{name} must have shape {shape}, got {tuple(made.shape)}.")
    return made


def check_entries(name: str, entries: Tensor) -> None:
    """Fixed entries are probabilities, and leave something to the free ones."""
    known = entries.nan_to_num()
    if bool((known < 0).any()) or bool((known.sum(-1) > 1 + 1e-6).any()):
        raise CapabilityError(f"Fixed {name} probabilities must be non-negative and sum to at most one in every row.")
    full = ~entries.isnan().any(-1)
    if bool((full & ((known.sum(-1) - 1).abs() > 1e-6)).any()):
        row = int(torch.nonzero(full & ((known.sum(-1) - 1).abs() > 1e-6))[0])
        raise CapabilityError(
            f"Row {row} of the fixed {name} probabilities sums to {float(known.sum(-1).flatten()[row]):g} and leaves no"
            " entry free; let it sum to one, or set an entry to NaN."
        )
