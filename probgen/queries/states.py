"""Chains of states as a person reads them: transition probabilities, long-run shares, expected stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from probgen.data.batches import Batch
from probgen.families.base import Symbol
from probgen.families.markov_chain import ChainFactor, ChainStates
from probgen.inference.tracing import Given, observe

__all__ = ["StateChain", "long_run", "state_chains"]

STEP = 1e-8  # weight of the resolvent's start: what is left of the beginning in the long run


@dataclass(frozen=True, eq=False)
class StateChain:
    """One chain of K states.

    Attributes:
        symbol: its site in the program.
        initial: ``(K,)`` probabilities of the first state.
        transition: ``(K, K)`` from rows to columns; of a semi-Markov chain, when a state is left.
        duration: ``(K, M)`` probabilities of staying 1 .. M steps in all; None where stays are geometric.
        share: ``(K,)`` long-run share of the steps (the stationary distribution).
        stay: ``(K,)`` expected number of steps in a state once it is entered; infinite where it is never left.
    """

    symbol: Symbol
    initial: np.ndarray
    transition: np.ndarray
    duration: np.ndarray | None
    share: np.ndarray
    stay: np.ndarray

    @property
    def states(self) -> int:
        """K."""
        return self.symbol.size

    def durations(self, steps: int) -> np.ndarray:
        """``(K, steps)``: probabilities of staying 1, 2, .. steps in all."""
        if self.duration is None:
            again = np.diag(self.transition)[:, None]
            return again ** np.arange(steps) * (1.0 - again)
        rest = max(0, steps - self.duration.shape[1])
        return np.pad(self.duration, ((0, 0), (0, rest)))[:, :steps]


def state_chains(fit: Any, draw: int = 0) -> list[StateChain]:
    """The chains of a fitted program for one posterior draw; empty where it has none."""
    if fit.traits.embedding != "probabilities":
        return []
    with torch.no_grad(), fit.setting():
        batch = Batch(torch.full((1, len(fit.schema)), torch.nan), fit.schema)
        tracer = observe(fit.program, batch, Given(fit.posterior.theta(draw)))
    names = {id(family): name for name, family in tracer.families.items()}
    factors = {factor.symbols[0]: factor for factor in tracer.factors if isinstance(factor, ChainFactor)}
    made = []
    for site in tracer.sites.values():
        if isinstance(site.distribution, ChainStates):
            family = site.distribution.family
            described = family.describe(tracer.tables[names[id(family)]].theta or {})
            read = {key: value.double().cpu().numpy() for key, value in described.items()}
            made.append(chain_of_states(site.value, read, long_run(factors[site.value])))
    return made


def chain_of_states(symbol: Symbol, read: dict[str, np.ndarray], share: np.ndarray) -> StateChain:
    duration, transition = read.get("duration"), read["transition"]
    if duration is None:
        leave = 1.0 - np.diag(transition)
        stay = np.divide(1.0, leave, out=np.full(len(leave), np.inf), where=leave > 1e-12)
    else:
        stay = duration @ np.arange(1.0, duration.shape[1] + 1)
    return StateChain(symbol, read["initial"][0], transition, duration, share, stay)


def long_run(chain: ChainFactor) -> np.ndarray:
    """``(K,)``: the share of its steps that a very long sequence spends in each state.

    The stationary distribution where there is one; of several, the one that the first state leads to. By the
    resolvent, so that chains that never come back or go round in a cycle have one too.
    """
    initial, transition = (value.double().exp().cpu().numpy() for value in (chain.initial, chain.transition))
    share = np.linalg.solve(np.eye(len(initial)) - (1.0 - STEP) * transition.T, STEP * initial)
    share = np.maximum(share, 0.0).reshape(-1, chain.phases).sum(1)
    return share / share.sum()
