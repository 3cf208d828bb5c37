r"""Sequences by a hidden Markov model: every step given all those before it, by the filter (Rabiner, 1989).

.. math::
    p(x_{td} \mid x_{t, <d}, x_{<t}) \propto \sum_k p(z_t = k \mid x_{<t})\, p_k(x_{t, \le d}), \qquad
    p(z_{t + 1} \mid x_{\le t}) = \sum_k p(z_t = k \mid x_{\le t})\, A_{k \cdot}

The sequences of a block take their steps together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.special import logsumexp, softmax

from probgen.data.schema import Column
from probgen.data.stored import Reading
from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.families.markov_chain import ChainFactor
from probgen.inference.tracing import Given, observe
from probgen.queries.compression.chain_rule import ASKED, ChainRule
from probgen.queries.compression.coders import Coder
from probgen.queries.compression.densities import Piecewise
from probgen.queries.compression.normals import NormalMixture
from probgen.queries.states import state_chains

__all__ = ["HiddenStates"]


class HiddenStates(ChainRule):
    """The conditionals of steps of sequences; what they are asked with is the number of a row of the step, and its cells.

    Args:
        fit: with one chain of states, which alone decides what the columns are.
        readings: of the columns.

    Raises:
        CapabilityError: it has other chains, or stays of a duration of their own, or many draws of its parameters.
    """

    def __init__(self, fit: Any, readings: Sequence[Reading | None]) -> None:
        super().__init__(fit, readings)
        chains = state_chains(fit) if len(fit.posterior) == 1 else []
        if len(chains) != 1 or chains[0].duration is not None or self.emissions(blank(fit)) is None:
            raise CapabilityError(
                f"{fit.name!r} cannot compress: of models of sequences, those with one chain of states, its stays geometric and its"
                " columns given by the state alone, can (hidden_markov with mixture=1, fitted at one point)."
            )
        with np.errstate(divide="ignore"):
            self.initial, self.transition = np.log(chains[0].initial), chains[0].transition
        if self.coupled is not None:
            self.coupled = replace(self.coupled, weigh=self.shares)

    def code(self, coder: Coder, numbers: np.ndarray, known: np.ndarray) -> np.ndarray:
        """``(B, D)`` whole numbers, written or read, of sequences of ``lengths``."""
        found, first = np.zeros_like(numbers), np.concatenate([[0], np.cumsum(self.lengths)[:-1]]).astype(int)
        states = np.broadcast_to(self.initial, (len(self.lengths), len(self.initial)))
        for step in range(int(max(self.lengths, default=0))):
            left = self.lengths > step
            rows, self.states = first[left] + step, states[left]
            found[rows] = super().code(coder, numbers[rows], known[rows])
            values = np.full((len(rows), known.shape[1]), np.nan)
            for place, reading in enumerate(self.readings):
                if reading is not None:
                    values[:, place] = np.where(known[rows, place], reading.values(found[rows, place]), np.nan)
            after = np.einsum("mk,kl->ml", softmax(self.states + self.of_states(values), axis=1), self.transition)
            with np.errstate(divide="ignore"):
                states = states.copy()
                states[left] = np.log(after)
        return found

    def context(self, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.column_stack([rows, values[rows]])

    def levels(self, place: int, column: Column, before: np.ndarray) -> np.ndarray:
        return self.listed(place, np.arange(float(column.cardinality)), before)

    def listed(self, place: int, values: np.ndarray, before: np.ndarray) -> np.ndarray:
        heights = self.log_density(place, before, np.broadcast_to(values, (len(before), len(values))))
        return np.exp(heights - heights.max(1, keepdims=True))

    def log_density(self, place: int, before: np.ndarray, values: np.ndarray) -> np.ndarray:
        whole = np.repeat(before[:, 1:], values.shape[1], 0)
        whole[:, place] = values.reshape(-1)
        states = np.repeat(self.states[before[:, 0].astype(int)], values.shape[1], 0)
        return logsumexp(states + self.of_states(whole), axis=1).reshape(values.shape)

    def density(self, place: int, reading: Reading, before: np.ndarray) -> Piecewise | NormalMixture:
        if self.coupled is None or place not in self.coupled.places:
            return super().density(place, reading, before)
        self.asked = before[:, 0].astype(int)
        return self.coupled.density(place, before[:, 1:])

    def shares(self, before: np.ndarray) -> np.ndarray:
        """``(M, K)``: of the states given the steps before and the columns before."""
        return softmax(self.states[self.asked] + self.of_states(before), axis=1)

    # -- the model -----------------------------------------------------------------------------------------------
    def of_states(self, values: np.ndarray) -> np.ndarray:
        """``(M, K)``: log density of the known cells of rows in every state, in model coordinates."""
        parts = np.split(values, range(ASKED, len(values), ASKED))
        found = [self.emissions(self.table(part)) for part in parts]
        return np.concatenate([part for part in found if part is not None])

    def emissions(self, table: Table) -> np.ndarray | None:
        """``(M, K)``, or None where the columns do not depend on one site alone."""
        batch = next(iter(self.fit.batches(table, len(table)).pieces()))
        with torch.no_grad(), self.fit.setting():
            factors = observe(self.fit.program, batch, Given(self.fit.posterior.theta())).factors
        factors = [factor for factor in factors if not isinstance(factor, ChainFactor)]
        if len(factors) != 1 or len(factors[0].symbols) != 1:
            return None
        value = factors[0].value.double().cpu().numpy()
        return np.broadcast_to(value, (value.shape[0], len(table))).T


def blank(fit: Any) -> Table:
    """One row of unknown cells."""
    return Table.from_codes(np.full((1, len(fit.schema)), np.nan), fit.schema)
