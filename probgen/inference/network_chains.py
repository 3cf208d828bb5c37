"""Gibbs chains over a network of tables: one node after another, all chains at once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from probgen.inference.table_network import TableNetwork

__all__ = ["NetworkChains"]

CHAINS = 32
CANDIDATES = 64  # weighted draws from which a chain's start is chosen
BURN_IN = 0.2

Array = np.ndarray


class NetworkChains:
    """Draws of all unknown nodes given the known ones.

    Args:
        network: the tables.
        known: node -> code.
        soft: node -> likelihoods of its states.
        forced: nodes whose own table does not count.
    """

    def __init__(
        self, network: TableNetwork, known: Mapping[int, int], soft: Mapping[int, Array], forced: frozenset[int]
    ) -> None:
        self.network, self.known, self.soft, self.forced = network, dict(known), soft, forced
        self.unknown = [node for node in range(len(network.names)) if node not in known]
        self.touching: dict[int, list[tuple[tuple[int, ...], Array]]] = {node: [] for node in self.unknown}
        for node, parents in enumerate(network.parents):
            if node in forced:
                continue
            scope = (*parents, node)
            for member in scope:
                if member in self.touching:
                    at = scope.index(member)
                    rest = scope[:at] + scope[at + 1 :]
                    table = np.ascontiguousarray(np.moveaxis(network.tables[node], at, -1))
                    self.touching[member].append((rest, logs(table)))

    @property
    def candidates(self) -> int:
        """How many draws the starts are chosen from."""
        return CHAINS * CANDIDATES

    def uniform(self, count: int) -> Array:
        """From the seeded stream."""
        return torch.rand(count, dtype=torch.float64).numpy()

    def start(self) -> Array | None:
        """``(C, nodes)`` codes: likelihood-weighted draws, resampled; None where no draw is possible."""
        count = self.candidates
        codes = np.zeros((count, len(self.network.names)), dtype=np.int64)
        log_weight = np.zeros(count)
        with np.errstate(divide="ignore"):
            for node, parents in enumerate(self.network.parents):
                rows = self.network.tables[node][tuple(codes[:, p] for p in parents)]
                rows = np.broadcast_to(rows, (count, rows.shape[-1]))
                if node in self.known:
                    codes[:, node] = self.known[node]
                    if node not in self.forced:
                        log_weight += np.log(rows[:, self.known[node]])
                else:
                    codes[:, node] = chosen(rows, self.uniform(count))
                if node in self.soft:
                    log_weight += np.log(self.soft[node][codes[:, node]])
        if not np.isfinite(log_weight).any():
            return None
        groups = log_weight.reshape(CHAINS, CANDIDATES)
        groups = np.where(np.isfinite(groups.max(1, keepdims=True)), groups, -np.inf)
        whole = np.exp(log_weight - log_weight.max())
        picks = np.searchsorted(whole.cumsum(), self.uniform(CHAINS) * whole.sum(), side="right")
        best = np.exp(groups - np.where(np.isfinite(groups.max(1, keepdims=True)), groups.max(1, keepdims=True), 0.0))
        own = best.cumsum(1)
        inside = (own < (self.uniform(CHAINS) * own[:, -1])[:, None]).sum(1) + np.arange(CHAINS) * CANDIDATES
        alive = own[:, -1] > 0
        return codes[np.where(alive, inside.clip(0, count - 1), picks.clip(0, count - 1))]

    def run(
        self, draws: int, targets: tuple[int, ...], kept: list[Array]
    ) -> dict[int, tuple[Array, Array, float]] | None:
        """For every target: probabilities, their standard errors, R-hat. None where what is known is impossible.

        Args:
            draws: of all chains together.
            targets: nodes.
            kept: gets ``(C, targets)`` codes after each sweep.
        """
        codes = self.start()
        if codes is None:
            return None
        sweeps = max(20, -(-draws // CHAINS))
        burn = max(10, int(BURN_IN * sweeps))
        sums = {node: np.zeros((2, CHAINS, self.network.sizes[node])) for node in targets}
        for sweep in range(burn + sweeps):
            half = int(sweep - burn >= sweeps // 2)
            for node in self.unknown:
                weights = self.conditional(node, codes)
                codes[:, node] = chosen(weights, self.uniform(CHAINS))
                if sweep >= burn and node in sums:
                    sums[node][half] += weights / weights.sum(1, keepdims=True)
            if sweep >= burn:
                kept.append(codes[:, targets].copy())
        lengths = np.array([sweeps // 2, sweeps - sweeps // 2])[:, None, None]
        return {node: judged(total / lengths) for node, total in sums.items()}

    def conditional(self, node: int, codes: Array) -> Array:
        """``(C, L)`` weights of the node's states given all others, the largest of a chain being 1."""
        total = np.zeros((len(codes), self.network.sizes[node]))
        for rest, table in self.touching[node]:
            total = total + table[tuple(codes[:, s] for s in rest)]
        if node in self.soft:
            total = total + logs(self.soft[node])
        return np.exp(total - total.max(1, keepdims=True))


def logs(table: Array) -> Array:
    """Natural logarithms, -inf of zeros."""
    with np.errstate(divide="ignore"):
        return np.log(table)


def chosen(weights: Array, uniform: Array) -> Array:
    """One code a row by inversion."""
    total = weights.cumsum(1)
    return (total <= (uniform * total[:, -1])[:, None]).sum(1).clip(0, weights.shape[1] - 1)


def judged(halves: Array) -> tuple[Array, Array, float]:
    """Mean, its standard error from the spread of half chains, and the split R-hat of their means, ``(2, C, L)``."""
    means = halves.reshape(-1, halves.shape[-1])
    mean = means.mean(0)
    error = means.std(0, ddof=1) / np.sqrt(len(means))
    inside = np.maximum(mean * (1 - mean), 1e-12)  # at most: the variance of the indicator
    return mean, error, float(np.sqrt(1.0 + (means.var(0, ddof=1) / inside).max()))
