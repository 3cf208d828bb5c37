r"""Paths of regimes and of linear-Gaussian states together: log evidence, expectations and draws.

.. math::
    p(x, s, z) = p(s) \, p(z_1) \prod_{t>1} \mathcal N(z_t; A_{s_t} z_{t-1} + b_{s_t}, Q_{s_t}) \prod_t p(x_t \mid z_t)

A sequence with at most ``PATHS`` paths of regimes is summed over all of them: exact. For a longer one the posterior is
approximated by :math:`q(s) q(z)` (Ghahramani and Hinton, 2000): given q(s), a Gaussian over the whole path of states
with expected coefficients; given q(z), a Markov chain over the regimes with expected scores; in turns, each of which
raises the lower bound

.. math:: \mathrm E_q[\log p(x, s, z)] - \mathrm E_q[\log q] \le \log p(x).

Turns begin at the regimes of a merging filter. Both kinds of value are linear in the coefficients of the transitions
with expected statistics as their gradient, which is all that EM asks for. Paths drawn from q(s), with the states
integrated out exactly given each, tighten the bound by importance weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from probgen.data.sequences import Steps
from probgen.families.switching_path import SwitchingPathFactor
from probgen.inference.chain import best_path, chain_evidence, draw_paths, smoothed
from probgen.inference.gaussian_chain import GaussianChain
from probgen.inference.kalman_passes import Potentials
from probgen.inference.merging_filter import MergingFilter
from probgen.inference.resampling import Resampled

__all__ = ["Regimes", "SwitchingProblem"]

PATHS = 512  # paths of regimes up to which a sequence is summed exactly
ROWS = 2**17  # steps of paths that are worked on at once
TURNS = 200  # most turns of the approximation
AGAIN = 3  # turns that go on from a kept approximation
TOLERANCE = 1e-7  # rise of a sequence's bound, in nats, below which turns stop


@dataclass(frozen=True)
class SwitchingProblem:
    """Everything about some sequences.

    Attributes:
        path: the states' factor; only its first state and its transitions are looked at.
        initial, transition: log potentials ``(K,)`` and ``(K, K)`` of the regimes.
        scores: ``(K, N)`` of every row.
        moves: ``(K, F)`` coefficients of the transitions.
        potentials: what rows say of their states.
        steps: the sequences.
    """

    path: SwitchingPathFactor
    initial: Tensor
    transition: Tensor
    scores: Tensor
    moves: Tensor
    potentials: Potentials
    steps: Steps

    @classmethod
    def of(
        cls, path: SwitchingPathFactor, initial: Tensor, transition: Tensor, scores: Tensor, potentials: Potentials
    ) -> SwitchingProblem:
        terms = path.transition_terms
        moves = torch.cat([terms.constant[:, None], *(part.flatten(1) for part in terms.parts()[1:])], 1)
        return cls(path, initial, transition, scores, moves, potentials, path.steps)

    @property
    def regimes(self) -> int:
        """K."""
        return len(self.initial)

    @property
    def needs_moments(self) -> bool:
        """True where somebody will ask for the gradient in the states' coefficients."""
        wanted = self.moves.requires_grad or self.potentials.linear.requires_grad
        return torch.is_grad_enabled() and wanted

    def select(self, sequences: Tensor) -> tuple[SwitchingProblem, Tensor]:
        """Some sequences, and their rows."""
        steps, rows = self.steps.select(sequences)
        return replace(self, scores=self.scores[:, rows], potentials=self.potentials.select(rows), steps=steps), rows

    # -- the Gaussian over the states ----------------------------------------------------------------------------
    def gaussian(self, pairs: Tensor) -> GaussianChain:
        """Over all states, with coefficients ``(N, F)`` of the step into each row, zero at first rows."""
        L, p, start = self.path.states, self.potentials, self.path.initial_terms
        sizes = [1, L * L, L * (L + 1), (L + 1) ** 2]
        constant, square, cross, inputs = pairs.split(sizes, 1)
        cross, inputs = cross.unflatten(1, (L, L + 1)), inputs.unflatten(1, (L + 1, L + 1))
        leaving = inputs.roll(-1, 0)  # of the step out of each row
        linear = p.linear + cross[..., L] + 2.0 * leaving[:, :L, L]
        precision = p.square - 2.0 * square.unflatten(1, (L, L)) - 2.0 * leaving[:, :L, :L]
        constant = p.constant + constant[:, 0] + inputs[:, L, L]
        first = self.steps.starts
        linear = linear.index_add(0, first, start.cross[:, 0].expand(len(first), -1))
        precision = precision.index_add(0, first, (-2.0 * start.square).expand(len(first), -1, -1))
        constant = constant.index_add(0, first, (start.constant + start.inputs[0, 0]).expand(len(first)))
        return GaussianChain(constant, linear, precision, cross[..., :L], self.steps)

    def inside(self, rows: Tensor) -> Tensor:
        """Numbers ``(N, ...)`` of the steps into rows, zero where a row is its sequence's first."""
        return rows.index_fill(0, self.steps.starts, 0.0)

    def along(self, codes: Tensor) -> GaussianChain:
        """Over all states, given regimes ``(N,)``."""
        return self.gaussian(self.inside(self.moves.detach()[codes]))

    def copies(self, paths: int) -> SwitchingProblem:
        """Every sequence so many times, copy after copy."""
        p, steps = self.potentials, Steps(self.steps.lengths.repeat(paths))
        square = p.square if p.shared else p.square.repeat(paths, 1, 1)
        wide = Potentials(p.constant.repeat(paths), p.linear.repeat(paths, 1), square)
        return replace(self, scores=self.scores.repeat(1, paths), potentials=wide, steps=steps)

    def said(self, moments: Moments) -> Tensor:
        """``(S,)``: expected log density of first states and of what rows say; a gradient goes through it."""
        p, start = self.potentials, self.path.initial_terms
        square = (p.square * moments.second).sum((-2, -1))
        rows = p.constant + (p.linear * moments.mean).sum(-1) - 0.5 * square
        first = self.steps.starts
        begun = start.constant + start.inputs[0, 0] + moments.mean[first] @ start.cross[:, 0]
        return self.steps.total(rows) + begun + (start.square * moments.second[first]).sum((-2, -1))


class Moments:
    """Expected statistics of all rows under one Gaussian over the states.

    Attributes:
        mean: ``(N, L)``.
        second: ``(N, L, L)`` E[z z'].
        moves: ``(N, F)`` of the step into each row, zero at first rows.
    """

    def __init__(self, problem: SwitchingProblem, chain: GaussianChain) -> None:
        mean, covariance, between = chain.moments()
        one = torch.ones_like(mean[:, :1])
        inputs = torch.cat([mean.roll(1, 0), one], 1)  # of the row before, and a constant
        crossed = torch.cat([between, torch.zeros_like(mean)[..., None]], 2) + mean[..., None] * inputs[:, None]
        spread = torch.nn.functional.pad(covariance.roll(1, 0), (0, 1, 0, 1))
        self.mean, self.second = mean, covariance + mean[..., None] * mean[:, None]
        inner = spread + inputs[..., None] * inputs[:, None]
        flat = [one, self.second.flatten(1), crossed.flatten(1), inner.flatten(1)]
        self.moves = problem.inside(torch.cat(flat, 1))


# ---------------------------------------------------------------------------------------------------- all the paths
class Enumerated:
    """The exact posterior of sequences that all have T rows: a weight for each of the K^T paths of regimes."""

    def __init__(self, problem: SwitchingProblem) -> None:
        self.problem, T = problem, problem.steps.longest
        codes = torch.arange(problem.regimes, device=problem.scores.device)
        self.paths = torch.cartesian_prod(*[codes] * T).reshape(-1, T)  # (P, T)
        S = len(problem.steps)
        self.size = max(1, ROWS // (len(self.paths) * T))
        pieces = torch.arange(S, device=codes.device).split(self.size)
        joint = torch.cat([self.joint(problem.select(piece)[0]) for piece in pieces])  # (S, P)
        self.rows = joint.logsumexp(1)
        self.weights = joint.detach().softmax(1)

    def joint(self, problem: SwitchingProblem) -> Tensor:
        """``(S, P)``: log density of the rows and of every path."""
        (P, T), S = self.paths.shape, len(problem.steps)
        prior = problem.initial[self.paths[:, 0]] + problem.transition[self.paths[:, :-1], self.paths[:, 1:]].sum(1)
        at = torch.arange(T, device=self.paths.device)
        scores = problem.scores.unflatten(1, (S, T))[self.paths, :, at].sum(1).mT  # (P, T, S) -> (S, P)
        return prior + scores + self.values(problem).unflatten(0, (P, S)).mT

    def values(self, problem: SwitchingProblem) -> Tensor:
        """``(P S,)``: log density of the rows given every path, a gradient through it where it is wanted."""
        S = len(problem.steps)
        codes = self.paths[:, None].expand(-1, S, -1).flatten()
        wide, wanted = problem.copies(len(self.paths)), problem.needs_moments
        with torch.no_grad():
            chain = wide.along(codes)
            found = Moments(wide, chain) if wanted else None
        if found is None:
            return chain.value
        linear = wide.said(found) + wide.steps.total((problem.moves[codes] * found.moves).sum(1))
        return linear + (chain.value - linear.detach())

    def probabilities(self) -> Tensor:
        """``(K, N)`` of each row's regime."""
        hot = torch.nn.functional.one_hot(self.paths, self.problem.regimes).to(self.weights)  # (P, T, K)
        return torch.einsum("sp,ptk->kst", self.weights, hot).flatten(1)

    def state_means(self) -> Tensor:
        """``(N, L)``."""
        pieces = torch.arange(len(self.weights), device=self.weights.device).split(self.size)
        return torch.cat([self.mean_of(piece) for piece in pieces])

    def mean_of(self, sequences: Tensor) -> Tensor:
        wide = self.problem.select(sequences)[0].copies(len(self.paths))
        codes = self.paths[:, None].expand(-1, len(sequences), -1).flatten()
        mean = wide.along(codes).moments()[0].unflatten(0, (len(self.paths), len(sequences), -1))
        return torch.einsum("sp,pstl->stl", self.weights[sequences], mean).flatten(0, 1)

    def draw(self) -> Tensor:
        """``(N,)`` regimes."""
        return self.paths[torch.multinomial(self.weights, 1)[:, 0]].flatten()

    def best(self) -> Tensor:
        """``(N,)``: the most probable path of regimes."""
        return self.paths[self.weights.argmax(1)].flatten()


# --------------------------------------------------------------------------------------------------- approximation
class Variational:
    """The approximate posterior q(s) q(z), with its lower bound.

    Attributes:
        rows: ``(S,)`` bounds; a gradient goes through them.
        regimes: ``(K, N)`` probabilities under q(s).
        scores: ``(K, N)`` expected scores: with the problem's chain and its scores they make q(s).
    """

    def __init__(self, problem: SwitchingProblem, held: Tensor | None) -> None:
        self.problem, self.resampled = problem, Resampled(self.draws, self.log_weights, problem.steps)
        with torch.no_grad():
            begin = self.chained(self.merged.scores)[1] if held is None else held
            self.climb(begin, TURNS if held is None else AGAIN)
        scores = problem.moves @ self.moments.moves.mT + problem.scores
        chain = chain_evidence(problem.initial, problem.transition, scores, problem.steps)
        self.rows = chain + problem.said(self.moments) + self.entropy

    @cached_property
    def merged(self) -> MergingFilter:
        return MergingFilter(self.problem)

    def chained(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Log sum ``(S,)`` over the paths of regimes, and their probabilities ``(K, N)``."""
        return smoothed(self.problem.initial, self.problem.transition, scores, self.problem.steps)

    def climb(self, regimes: Tensor, turns: int) -> None:
        """Turns of q(z) and q(s), from regimes ``(K, N)``, until the bound no longer rises."""
        p, before = self.problem, torch.full((), -math.inf)
        self.history: list[Tensor] = []
        for _ in range(turns):
            gaussian = p.gaussian(p.inside(regimes.mT @ p.moves))
            self.moments = Moments(p, gaussian)
            self.scores = p.moves @ self.moments.moves.mT
            used = p.steps.total((regimes * self.scores).sum(0))
            self.entropy = gaussian.value - used - p.said(self.moments)  # of q(z)
            self.log_sum, regimes = self.chained(self.scores + p.scores)
            bound = gaussian.value - used + self.log_sum
            self.history.append(bound)
            if bool((bound - before).max() < TOLERANCE):
                break
            before = bound
        self.regimes = regimes

    def probabilities(self) -> Tensor:
        """``(K, N)`` of each row's regime."""
        return self.regimes

    def state_means(self) -> Tensor:
        """``(N, L)``."""
        return self.moments.mean

    @cached_property
    def proposals(self) -> list[tuple[Tensor, Tensor]]:
        """Scores ``(K, N)`` and log sums ``(S,)`` of the chains that paths come from: q(s), the merging filter."""
        p, other = self.problem, self.merged.scores
        return [(self.scores + p.scores, self.log_sum), (other, self.chained(other)[0])]

    def draws(self, count: int) -> Tensor:
        """``(count, N)``: paths of regimes, half from each proposal."""
        p, found = self.problem, []
        for number, (scores, _) in zip((count - count // 2, count // 2), self.proposals, strict=True):
            uniform = torch.rand(number, p.steps.rows).to(scores)
            found.append(draw_paths(p.initial, p.transition, scores, p.steps, uniform))
        return torch.cat(found)

    def log_weights(self, paths: Tensor) -> Tensor:
        """``(count, S)``: log p(x, path) - log q(path), the states integrated out, q the proposals' mixture."""
        p, size = self.problem, max(1, ROWS // self.problem.steps.rows)
        values = [
            p.copies(len(some)).along(some.flatten()).value.unflatten(0, (len(some), -1)) for some in paths.split(size)
        ]
        guesses = [self.on_path(scores, paths) - log_sum for scores, log_sum in self.proposals]
        mixture = torch.stack(guesses).logsumexp(0) - math.log(len(guesses))
        return torch.cat(values) + self.on_path(p.scores, paths) - mixture

    def on_path(self, scores: Tensor, paths: Tensor) -> Tensor:
        """``(count, S)``: scores summed along paths."""
        found = scores.detach().mT.expand(len(paths), -1, -1).gather(2, paths[..., None])[..., 0]
        return self.problem.steps.total(found)

    def draw(self) -> Tensor:
        """``(N,)`` regimes: of some paths, one by its importance weight, in every sequence."""
        return self.resampled.draw()

    def best(self) -> Tensor:
        """``(N,)``: the most probable path under q(s)."""
        p = self.problem
        return best_path(p.initial, p.transition, self.scores + p.scores, p.steps)[0]


# ------------------------------------------------------------------------------------------------------- together
class Regimes:
    """The posterior of regimes and states of all sequences, exact or approximate for each.

    Args:
        problem: all sequences.
        held: where an earlier approximation ended; ``None`` for a fresh one.
    """

    def __init__(self, problem: SwitchingProblem, held: Tensor | None = None) -> None:
        self.problem = problem
        self.parts: list[tuple[Tensor, Tensor, Enumerated | Variational]] = []
        for sequences, exact in by_length(problem):
            some, rows = problem.select(sequences)
            part = Enumerated(some) if exact else Variational(some, held)
            self.parts.append((sequences, rows, part))
        where = torch.cat([sequences for sequences, _, _ in self.parts])
        self.rows = torch.cat([part.rows for _, _, part in self.parts])[where.argsort()]

    @cached_property
    def approximate(self) -> Variational | None:
        """Of the long sequences; None where there are none."""
        return next((part for _, _, part in self.parts if isinstance(part, Variational)), None)

    def gathered(self, of: str) -> Tensor:
        """What the parts answer, ``(N, ...)`` in the table's order."""
        found = torch.cat([getattr(part, of)() for _, _, part in self.parts])
        return found[torch.cat([rows for _, rows, _ in self.parts]).argsort()]

    def probabilities(self) -> Tensor:
        """``(N, K)`` of each row's regime."""
        found = torch.cat([part.probabilities() for _, _, part in self.parts], 1)
        return found[:, torch.cat([rows for _, rows, _ in self.parts]).argsort()].mT

    def state_means(self) -> Tensor:
        """``(N, L)``."""
        return self.gathered("state_means")

    def best(self) -> Tensor:
        """``(N,)``: the most probable regimes of every sequence, under the approximation where there is one."""
        return self.gathered("best")

    def filtered(self) -> tuple[Tensor, Tensor]:
        """Regimes ``(N, K)`` and states ``(N, L)`` given the rows up to each, by a merging filter (approximate)."""
        done = MergingFilter(self.problem)
        return done.probabilities, done.mean

    def draw(self) -> tuple[Tensor, Tensor]:
        """Regimes ``(N,)`` and states ``(N, L)`` together."""
        codes = self.gathered("draw")
        return codes, self.problem.along(codes).draw()

    def log_weights(self, draws: int) -> Tensor:
        """``(draws, S)``: log importance weights of paths of regimes; all the same where the sum is exact."""
        found = self.rows.detach().expand(draws, -1).clone()
        for sequences, _, part in self.parts:
            if isinstance(part, Variational):
                found[:, sequences] = part.log_weights(part.draws(draws))
        return found


def by_length(problem: SwitchingProblem) -> Iterator[tuple[Tensor, bool]]:
    """Sequences that are short enough for an exact sum, those of one length together, and then all others."""
    lengths, K = problem.steps.lengths, problem.regimes
    short = lengths * math.log(K) <= math.log(PATHS) + 1e-9 if K > 1 else torch.ones_like(lengths, dtype=torch.bool)
    for length in lengths[short].unique().tolist():
        yield torch.nonzero(short & (lengths == length))[:, 0], True
    if not bool(short.all()):
        yield torch.nonzero(~short)[:, 0], False
