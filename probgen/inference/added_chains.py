r"""Several chains whose indicators add up in every row: a structured approximation of their posterior.

.. math:: q(z) = \prod_m q_m(z^{(m)}_{1:T})

Every chain keeps its whole dependence in time (Ghahramani and Jordan, 1997): given the others, its best distribution
is a Markov chain with the scores

.. math:: h_t^\top e_k - \tfrac12 e_k^\top J_t e_k - \sum_{m' \ne m} e_k^\top J_t \, \mathrm E[u^{(m')}_t]

where a row says :math:`h_t^\top u - \tfrac12 u^\top J_t u` of all indicators u. Chain after chain, the lower bound
rises; a turn costs the sum, not the product, of the chains' states. Paths drawn from q come up to the density by
importance weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from probgen.data.sequences import Steps
from probgen.families.additive_regression import IndicatorFactor
from probgen.families.markov_chain import ChainFactor
from probgen.inference.chain import best_path, chain_evidence, draw_paths, smoothed
from probgen.inference.resampling import Resampled

__all__ = ["AddedChains"]

TURNS = 200  # most turns of the approximation
AGAIN = 3  # turns that go on from a kept approximation
TOLERANCE = 1e-7  # rise of a sequence's bound, in nats, below which turns stop
ROWS = 2**17  # steps of paths that are worked on at once


class AddedChains:
    """The approximate posterior of all chains, with its lower bound.

    Args:
        chains: with their own potentials.
        rows: what the rows say of all chains' indicators.
        extra: further scores ``(K, N)`` of each chain's values.
        held: where an earlier approximation ended, by the chains' names.

    Attributes:
        rows: ``(S,)`` bounds; a gradient goes through them.
        states: ``(K, N)`` probabilities of each chain's values.
        history: bounds ``(S,)`` after every turn.
    """

    def __init__(
        self, chains: list[ChainFactor], rows: IndicatorFactor, extra: list[Tensor], held: Mapping[str, Tensor]
    ) -> None:
        self.chains, self.factor, self.extra, self.places = chains, rows, extra, rows.places
        self.resampled = Resampled(self.draws, self.log_weights, self.steps)
        names = [chain.symbols[0].name for chain in chains]
        fresh = not all(name in held for name in names)
        with torch.no_grad():
            even = [torch.full_like(scores, 1.0 / len(scores)) for scores in extra]
            self.states = even if fresh else [held[name] for name in names]
            self.climb(TURNS if fresh else AGAIN)
        pairs = zip(chains, self.scores, extra, strict=True)
        sums = [chain_evidence(chain.initial, chain.transition, s + e, self.steps) for chain, s, e in pairs]
        self.rows = self.said() - self.used() + torch.stack(sums).sum(0)

    @property
    def steps(self) -> Steps:
        return self.chains[0].steps

    def climb(self, turns: int) -> None:
        """Turns over all chains until the bound no longer rises."""
        self.history: list[Tensor] = []
        self.scores, self.sums = [torch.empty(0)] * len(self.chains), [torch.empty(0)] * len(self.chains)
        self.mean = torch.cat([states[1:].mT for states in self.states], 1)  # (N, U)
        for _ in range(turns):
            for m, chain in enumerate(self.chains):
                self.scores[m] = self.score(m)
                scores = self.scores[m] + self.extra[m].detach()
                self.sums[m], self.states[m] = smoothed(chain.initial, chain.transition, scores, self.steps)
                self.mean[:, self.places[m]] = self.states[m][1:].mT
            self.history.append(self.said() - self.used() + torch.stack(self.sums).sum(0))
            if len(self.history) > 1 and bool((self.history[-1] - self.history[-2]).max() < TOLERANCE):
                break

    def score(self, m: int) -> Tensor:
        """``(K, N)``: expected scores of one chain's values, the others as they are."""
        h, J, here = self.factor.linear.detach(), self.factor.square.detach(), self.places[m]
        others = self.mean.index_fill(1, torch.arange(here.start, here.stop, device=h.device), 0.0)
        pull = (J[:, here] @ others[..., None])[..., 0]
        found = h[:, here] - 0.5 * J.diagonal(0, -2, -1)[:, here] - pull
        return torch.cat([torch.zeros_like(found[:, :1]), found], 1).mT

    def said(self) -> Tensor:
        """``(S,)``: expected log density of the rows; a gradient goes through it."""
        f, u = self.factor, self.mean
        second = u[:, :, None] * u[:, None]
        for here in self.places:  # indicators of one chain are never one together
            second[:, here, here] = torch.diag_embed(u[:, here])
        return self.steps.total(f.value + (f.linear * u).sum(-1) - 0.5 * (f.square * second).sum((-2, -1)))

    def used(self) -> Tensor:
        """``(S,)``: expected scores under q."""
        each = [(states * scores).sum(0) for states, scores in zip(self.states, self.scores, strict=True)]
        return self.steps.total(torch.stack(each).sum(0))

    def hold(self) -> dict[str, Tensor]:
        """Where the approximation ended."""
        return {chain.symbols[0].name: states for chain, states in zip(self.chains, self.states, strict=True)}

    # -- draws -------------------------------------------------------------------------------------------------
    def draws(self, count: int) -> Tensor:
        """Paths ``(count, N, M)`` of all chains from q."""
        found = []
        for chain, scores, extra in zip(self.chains, self.scores, self.extra, strict=True):
            uniform = torch.rand(count, self.steps.rows).to(scores)
            found.append(draw_paths(chain.initial, chain.transition, scores + extra, self.steps, uniform))
        return torch.stack(found, -1)

    def log_weights(self, paths: Tensor) -> Tensor:
        """``(count, S)``: log p(x, path) - log q(path)."""
        size = max(1, ROWS // self.steps.rows)
        rows = torch.cat([self.log_ratio(some) for some in paths.split(size)])
        return self.steps.total(rows) + torch.stack(self.sums).sum(0)

    def log_ratio(self, paths: Tensor) -> Tensor:
        """``(count, N)``: what every row says of the paths' values, less what q makes of it."""
        codes, f = paths.unbind(-1), self.factor
        hot = [torch.nn.functional.one_hot(c, len(s))[..., 1:] for c, s in zip(codes, self.scores, strict=True)]
        u = torch.cat(hot, -1).to(self.mean)  # (count, N, U)
        pull = f.linear - 0.5 * (f.square @ u.permute(1, 2, 0)).permute(2, 0, 1)
        used = [
            s.mT.expand(len(c), -1, -1).gather(2, c[..., None])[..., 0]
            for c, s in zip(codes, self.scores, strict=True)
        ]
        return f.value + (pull * u).sum(-1) - torch.stack(used).sum(0)

    def draw(self) -> list[Tensor]:
        """Codes ``(N,)`` of every chain, drawn by importance."""
        return list(self.resampled.draw().unbind(-1))

    def best(self) -> list[Tensor]:
        """Codes ``(N,)`` of every chain: its most probable path under q."""
        parts = zip(self.chains, self.scores, self.extra, strict=True)
        return [best_path(c.initial, c.transition, s + e, self.steps)[0] for c, s, e in parts]
