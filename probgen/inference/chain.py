r"""Chains of discrete states: the log evidence of whole sequences, and draws, filters and best paths of their states.

.. math:: \log p(x_{1:T}) = \log \sum_{z_{1:T}} \pi_{z_1} \prod_{t>1} A_{z_{t-1} z_t} \prod_t e^{s_{z_t t}}

The forward pass runs in probability space with a scale for every step; its gradient is the backward pass, so that the
gradient with respect to (log pi, log A, s) is the expected counts (Baum, Petrie, Soules and Weiss, 1970). Sequences of
any lengths advance together, the longest first, so that no step is padding. Few long sequences are cut into blocks
that advance together: each block's product of transition matrices first, then the blocks' ends, then inside the
blocks; the result is the same. Sequences that underflow are done again in log space.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from probgen.data.sequences import Steps
from probgen.inference import native
from probgen.inference.log_sum import log_sum_exp

__all__ = ["best_path", "chain_evidence", "draw_paths", "filtered", "smoothed"]

STEP_COST = 12e-6  # seconds of one small step of a loop
NUMBER_COST = 2.5e-10  # seconds of one multiplication in it


@dataclass(frozen=True, eq=False)
class Plan:
    """How the N rows of S sequences are visited, in B blocks, the longest first.

    Attributes:
        order: ``(N,)`` rows, all first steps of the blocks, then all second steps, ...
        block: ``(N,)`` the block of each of them.
        edges: where the steps begin in ``order``; step j has the first ``edges[j + 1] - edges[j]`` blocks.
        ends: ``(B,)`` places in ``order`` of each block's last step.
        rounds: blocks by their place in their sequence; the blocks of a round continue the first ones of the round before.
        sequence: ``(B,)`` the sequence of each block.
    """

    order: Tensor
    block: Tensor
    edges: list[int]
    ends: Tensor
    rounds: list[Tensor]
    sequence: Tensor

    @property
    def blocks(self) -> int:
        return len(self.sequence)

    def steps(self) -> list[tuple[int, int]]:
        """(first, last) places of every step."""
        return list(zip(self.edges[:-1], self.edges[1:], strict=True))

    def cut(self, value: Tensor) -> tuple[Tensor, ...]:
        """Rows in the plan's order as one piece a step."""
        return value.split([high - low for low, high in self.steps()])

    @cached_property
    def round_sizes(self) -> list[int]:
        """Blocks a round."""
        return [len(blocks) for blocks in self.rounds]

    @cached_property
    def by_round(self) -> Tensor:
        """``(B,)`` blocks, round after round."""
        return torch.cat(self.rounds)

    @cached_property
    def before(self) -> tuple[Tensor, Tensor]:
        """Places of all steps that have one before them in their sequence, and the places of those before."""
        edges = torch.tensor(self.edges, device=self.order.device)
        inside = torch.arange(self.blocks, len(self.order), device=self.order.device)
        step = torch.bucketize(inside, edges, right=True) - 1
        earlier = edges[step - 1] + inside - edges[step]
        pairs = list(zip(self.rounds[1:], self.rounds[:-1], strict=True))
        after = [now for now, _ in pairs]
        last = [self.ends[then[: len(now)]] for now, then in pairs]
        return torch.cat([*after, inside]), torch.cat([*last, earlier])


def plan_for(steps: Steps, states: int) -> Plan:
    """The plan with the least expected time; remembered with the steps."""
    return planned(steps, block_length(steps, states))


def planned(steps: Steps, length: int) -> Plan:
    """Blocks of at most this length."""
    kept = steps.__dict__.setdefault("_plans", {})
    if length not in kept:
        kept[length] = make_plan(steps, length)
    return kept[length]


def block_length(steps: Steps, states: int) -> int:
    """Steps a block: whole sequences, or about the root of the longest one where sequences are few and long."""
    T, rows = steps.longest, steps.rows
    best, chosen = 2 * T * STEP_COST + 4 * NUMBER_COST * rows * states**2, T
    for length in {max(2, int(factor * T**0.5)) for factor in (0.35, 0.5, 0.7, 1.0, 1.4, 2.0)}:
        small = (3 * length + 2 * T / length) * STEP_COST + NUMBER_COST * rows * (states**3 + 4 * states**2)
        if length < T and small < best:
            best, chosen = small, length
    return chosen


def make_plan(steps: Steps, length: int) -> Plan:
    device = steps.lengths.device
    count = (steps.lengths + length - 1) // length  # blocks of each sequence
    sequence = torch.arange(len(steps), device=device).repeat_interleave(count)
    number = torch.arange(len(sequence), device=device) - (count.cumsum(0) - count)[sequence]
    size = (steps.lengths[sequence] - number * length).clamp_max(length)
    rank = size.argsort(descending=True, stable=True)
    start = (steps.starts[sequence] + number * length)[rank]
    alive = torch.bincount(size).flip(0).cumsum(0).flip(0)[1:].tolist()  # blocks with more than j steps
    edges = [0, *torch.tensor(alive).cumsum(0).tolist()]
    order = torch.cat([start[:n] + j for j, n in enumerate(alive)])
    block = torch.cat([torch.arange(n, device=device) for n in alive])
    ends = torch.tensor(edges, device=device)[size[rank] - 1] + torch.arange(len(rank), device=device)
    place = torch.empty_like(rank).scatter_(0, rank, torch.arange(len(rank), device=device))
    by_count = count.argsort(descending=True, stable=True)
    first = (count.cumsum(0) - count)[by_count]
    rounds = [place[first[: int((count > r).sum())] + r] for r in range(int(count.max()))]
    return Plan(order, block, edges, ends, rounds, sequence[rank])


# -------------------------------------------------------------------------------------------------------- passes
@dataclass
class Pass:
    """A forward pass; rows in the plan's order, or in the data's where it was compiled."""

    plan: Plan | None
    A: Tensor  # (K, K)
    likelihood: Tensor  # (N, K), scaled so that the largest of a row is one
    alpha: Tensor  # (N, K) filtered probabilities
    scale: Tensor  # (N, 1)
    products: tuple[Tensor, Tensor] | None  # of the blocks' matrices, with their log scales

    def sequence_of_rows(self, steps: Steps) -> Tensor:
        """``(N,)``: the sequence of each row."""
        return steps.sequence if self.plan is None else self.plan.sequence[self.plan.block]

    def per_sequence(self, rows: Tensor, steps: Steps) -> Tensor:
        """Sum over each sequence."""
        return rows.new_zeros(len(steps)).index_add_(0, self.sequence_of_rows(steps), rows)

    def by_row(self, value: Tensor) -> Tensor:
        """In the data's order."""
        return value if self.plan is None else torch.empty_like(value).index_copy_(0, self.plan.order, value)

    def counts(self, weight: Tensor, steps: Steps) -> tuple[Tensor, Tensor, Tensor]:
        """Expected first states (K,), transitions (K, K), states (N, K); sequences count ``weight`` (S,) times."""
        if self.plan is None:
            return native.backward(self.A, self.likelihood, self.alpha, self.scale, weight, steps)
        return backward_pass(self, self.plan, weight)


def forward_pass(log_initial: Tensor, log_transition: Tensor, likelihood: Tensor, plan: Plan) -> Pass:
    A, before = log_transition.exp(), log_initial.exp().expand(plan.blocks, -1)
    products = None
    if len(plan.rounds) > 1:
        products = block_products(A, likelihood, plan)
        before = block_entries(before, A, products, plan)
    alpha, scale = torch.empty_like(likelihood), torch.empty_like(likelihood[:, :1])
    ones = torch.ones_like(A[:, :1])
    for step, (now, total, seen) in enumerate(zip(*map(plan.cut, (alpha, scale, likelihood)), strict=True)):
        if step:
            torch.mm(before if len(before) == len(now) else before[: len(now)], A, out=now).mul_(seen)
        else:
            torch.mul(before, seen, out=now)
        torch.mm(now, ones, out=total)
        before = now.div_(total)
    return Pass(plan, A, likelihood, alpha, scale, products)


def block_products(A: Tensor, likelihood: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    """``diag(o_1) A diag(o_2) A ... diag(o_c)`` of every block, rows scaled to sum one: (B, K, K) and (B, K)."""
    K, tiny = len(A), torch.finfo(A.dtype).tiny
    P = torch.diag_embed(likelihood[: plan.blocks])
    log_scale = P.new_zeros(plan.blocks, K)
    steps = plan.steps()[1:]
    for j, (low, high) in enumerate(steps):
        n = high - low
        P[:n] = (P[:n].reshape(-1, K) @ A).reshape(n, K, K).mul_(likelihood[low:high, None, :])
        if j % 4 == 3 or j == len(steps) - 1:
            total = P.sum(-1, keepdim=True).clamp_min_(tiny)
            P /= total
            log_scale += total[..., 0].log_()
    return P, (log_scale - log_scale.amax(1, keepdim=True)).exp_()


def block_entries(initial: Tensor, A: Tensor, products: tuple[Tensor, Tensor], plan: Plan) -> Tensor:
    """Predicted probabilities of the state at each block's first step."""
    P, ratio = (value[plan.by_round].split(plan.round_sizes) for value in products)
    entries, tiny = [initial[: plan.round_sizes[0]]], torch.finfo(A.dtype).tiny
    for p, r, n in zip(P, ratio, plan.round_sizes[1:], strict=False):
        end = ((entries[-1][:n] * r[:n])[:, None] @ p[:n])[:, 0]
        entries.append(end.div_(end.sum(1, keepdim=True).clamp_min_(tiny)) @ A)
    return torch.empty_like(initial.contiguous()).index_copy_(0, plan.by_round, torch.cat(entries))


def backward_pass(done: Pass, plan: Plan, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Expected first states, transitions and states, in the plan's order."""
    A = done.A
    beta = torch.ones_like(done.alpha[: plan.blocks]) if done.products is None else block_exits(done, plan)
    pull, state, back = done.likelihood / done.scale, torch.empty_like(done.alpha), A.mT.contiguous()
    steps = list(zip(*map(plan.cut, (done.alpha, pull, state)), strict=True))
    for step in range(len(steps) - 1, -1, -1):
        alpha, arriving, found = steps[step]
        now = beta if len(beta) == len(alpha) else beta[: len(alpha)]
        torch.mul(alpha, now, out=found)
        arriving.mul_(now)
        if step:
            torch.mm(arriving, back, out=now)
    times = weight[plan.sequence][plan.block, None]
    state *= times
    pull *= times
    after, before = plan.before
    equal = len(plan.rounds) == 1 and len(plan.order) == plan.blocks * (len(plan.edges) - 1)
    left = done.alpha[: -plan.blocks] if equal else done.alpha[before]
    right = pull[plan.blocks :] if equal else pull[after]
    return state[plan.rounds[0]].sum(0), A * (left.mT @ right), state


def block_exits(done: Pass, plan: Plan) -> Tensor:
    """Scaled backward messages ``(B, K)`` at the last step of each block."""
    back = done.A.mT.contiguous()
    assert done.products is not None
    P, ratio = (value[plan.by_round].split(plan.round_sizes) for value in done.products)
    last = done.alpha[plan.ends[plan.by_round]].split(plan.round_sizes)
    exits = [torch.ones_like(last[-1])]
    for r in range(len(P) - 1, 0, -1):
        entering = ratio[r] * (P[r] @ exits[-1][..., None])[..., 0]
        message = entering @ back
        n = len(message)
        message /= (last[r - 1][:n] * message).sum(1, keepdim=True)
        exits.append(message if n == len(last[r - 1]) else torch.cat([message, torch.ones_like(last[r - 1][n:])]))
    return torch.empty_like(done.alpha[: plan.blocks]).index_copy_(0, plan.by_round, torch.cat(exits[::-1]))


# ------------------------------------------------------------------------------------------------------ evidence
def chain_evidence(log_initial: Tensor, log_transition: Tensor, scores: Tensor, steps: Steps) -> Tensor:
    """Log evidence ``(S,)`` of sequences with log potentials (K,), (K, K) and scores ``(K, N)`` of every row."""
    return ChainEvidence.apply(log_initial, log_transition, scores, steps)


class ChainEvidence(torch.autograd.Function):
    """The scaled forward pass; its gradient is the backward pass. Second derivatives go through log space."""

    @staticmethod
    def forward(ctx: Any, log_initial: Tensor, log_transition: Tensor, scores: Tensor, steps: Steps) -> Tensor:  # type: ignore[override]
        done, top = forward_done(log_initial, log_transition, scores, steps)
        rows = done.per_sequence(done.scale[:, 0].log() + top, steps)
        ctx.weak = underflown(done, steps)
        if len(ctx.weak):
            some, places = steps.select(ctx.weak)
            rows[ctx.weak] = in_log_space(log_initial, log_transition, scores[:, places], some)
            neutralise(done, ctx.weak, steps)
        ctx.save_for_backward(log_initial, log_transition, scores)
        ctx.done, ctx.steps = done, steps
        return rows

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # type: ignore[override]
        if torch.is_grad_enabled():  # somebody wants to differentiate again
            initial, transition, scores = ctx.saved_tensors
            rows = in_log_space(initial, transition, scores, ctx.steps)
            options = {"create_graph": True, "allow_unused": True, "materialize_grads": True}
            return *torch.autograd.grad(rows, ctx.saved_tensors, gradient, **options), None
        weight = gradient.clone()
        weight[ctx.weak] = 0.0
        initial, transition, state = ctx.done.counts(weight, ctx.steps)
        scores = ctx.done.by_row(state).mT
        if len(ctx.weak):
            initial, transition, scores = with_weak(ctx, gradient, initial, transition, scores)
        return initial, transition, scores, None


def forward_done(log_initial: Tensor, log_transition: Tensor, scores: Tensor, steps: Steps) -> tuple[Pass, Tensor]:
    """The forward pass, compiled where it can be, and the logs ``(N,)`` taken out of the likelihoods."""
    top = scores.amax(0)
    top = torch.where(top.isinf(), 0.0, top)
    likelihood = (scores - top).exp_().mT.contiguous()
    if native.usable(len(log_initial), likelihood):
        A = log_transition.exp()
        alpha, scale = native.forward(log_initial.exp(), A, likelihood, steps)
        return Pass(None, A, likelihood, alpha, scale, None), top
    plan = plan_for(steps, len(log_initial))
    return forward_pass(log_initial, log_transition, likelihood.index_select(0, plan.order), plan), top[plan.order]


def underflown(done: Pass, steps: Steps) -> Tensor:
    """Sequences with a step whose scale is too small to be trusted, or with a state that was lost and matters."""
    tiny = torch.finfo(done.scale.dtype).tiny
    small = ~(done.scale[:, 0] > tiny**0.95)
    if bool((tiny**0.5 > done.A).any()):  # elsewhere every step brings back what was lost
        small |= lost(done, steps)
    if not bool(small.any()):
        return small.new_zeros(0, dtype=torch.long)
    return done.sequence_of_rows(steps)[small].unique()


def lost(done: Pass, steps: Steps) -> Tensor:
    """``(N,)``: rows where what follows makes more of a state than a number holds, so that its alpha was too small."""
    state = done.counts(done.scale.new_ones(len(steps)), steps)[2]
    return ~state.isfinite().all(1)


def neutralise(done: Pass, sequences: Tensor, steps: Steps) -> None:
    """Finite numbers for sequences that are done again elsewhere and get weight zero here."""
    rows = torch.isin(done.sequence_of_rows(steps), sequences)
    done.likelihood[rows] = done.scale[rows] = 1.0
    done.alpha[rows] = 1.0 / done.alpha.shape[1]


def with_weak(ctx: Any, gradient: Tensor, *counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Expected counts with those of the sequences that underflow, from log space."""
    initial, transition, states = counts
    some, places = ctx.steps.select(ctx.weak)
    with torch.enable_grad():
        leaves = [value.detach().requires_grad_() for value in ctx.saved_tensors[:2]]
        leaves.append(ctx.saved_tensors[2][:, places].detach().requires_grad_())
        rows = in_log_space(leaves[0], leaves[1], leaves[2], some)
        possible = torch.where(rows.detach().isneginf(), 0.0, gradient[ctx.weak])
        found = torch.autograd.grad(rows, leaves, possible, allow_unused=True, materialize_grads=True)
    states = states.clone()
    states[:, places] = found[2]
    return initial + found[0], transition + found[1], states


def in_log_space(log_initial: Tensor, log_transition: Tensor, scores: Tensor, steps: Steps) -> Tensor:
    """The same log evidence by sums of logarithms: slower, never underflows, differentiable any number of times."""
    plan = planned(steps, steps.longest)
    ordered = scores[:, plan.order]
    finished: list[Tensor] = []
    alpha = log_initial[:, None] + ordered[:, : plan.blocks]
    for low, high in plan.steps()[1:]:
        n = high - low
        finished.append(alpha[:, n:])
        alpha = log_sum_exp(alpha[:, None, :n] + log_transition[:, :, None]) + ordered[:, low:high]
    last = torch.cat([alpha, *reversed(finished)], 1)  # the shorter ones stand behind
    return log_sum_exp(last)[plan.sequence.argsort()]


# -------------------------------------------------------------------------------------------------------- states
def filtered(log_initial: Tensor, log_transition: Tensor, scores: Tensor, steps: Steps) -> Tensor:
    """``(N, K)``: probabilities of each row's state given the rows up to it."""
    return log_filtered(log_initial, log_transition, scores, steps).exp()


def log_filtered(log_initial: Tensor, log_transition: Tensor, scores: Tensor, steps: Steps) -> Tensor:
    """Their logarithms."""
    done, _ = forward_done(log_initial, log_transition, scores, steps)
    alpha = done.by_row(done.alpha).log()
    weak = underflown(done, steps)
    if len(weak):
        some, places = steps.select(weak)
        alpha[places] = filtered_in_log_space(log_initial, log_transition, scores[:, places], some)
    return alpha


def filtered_in_log_space(log_initial: Tensor, log_transition: Tensor, scores: Tensor, steps: Steps) -> Tensor:
    plan = planned(steps, steps.longest)
    found, before = [], log_initial[:, None].expand(-1, plan.blocks)
    for step, seen in enumerate(scores[:, plan.order].split([high - low for low, high in plan.steps()], 1)):
        if step:
            before = log_sum_exp(before[:, None, : seen.shape[1]] + log_transition[:, :, None])
        before = before + seen
        before = before - before.amax(0).nan_to_num(neginf=0.0)
        found.append(before)
    alpha = torch.cat(found, 1).log_softmax(0).mT
    return torch.empty_like(alpha).index_copy_(0, plan.order, alpha)


def smoothed(log_initial: Tensor, log_transition: Tensor, scores: Tensor, steps: Steps) -> tuple[Tensor, Tensor]:
    """Log evidence ``(S,)`` and probabilities ``(K, N)`` of each row's state given all rows; no gradient."""
    probe = scores.detach().requires_grad_()
    with torch.enable_grad():
        rows = chain_evidence(log_initial.detach(), log_transition.detach(), probe, steps)
        return rows.detach(), torch.autograd.grad(rows.sum(), probe)[0]


def draw_paths(log_initial: Tensor, log_transition: Tensor, scores: Tensor, steps: Steps, uniform: Tensor) -> Tensor:
    """States ``(draws, N)`` given all rows, from uniform numbers ``(draws, N)``.

    Forward filtering, backward sampling (Carter and Kohn, 1994).
    """
    plan = planned(steps, steps.longest)
    alpha = log_filtered(log_initial, log_transition, scores, steps)[plan.order]
    arrive, ordered = log_transition.mT.contiguous(), uniform[:, plan.order]
    path = torch.empty(ordered.shape, dtype=torch.long, device=scores.device)
    after, going_on = path[:, :0], 0
    for low, high in reversed(plan.steps()):
        weight = alpha[low:high].expand(len(path), -1, -1)
        weight = torch.cat([weight[:, :going_on] + arrive[after], weight[:, going_on:]], 1)
        total = weight.softmax(-1).cumsum(-1)
        chosen = (total <= ordered[:, low:high, None] * total[..., -1:]).sum(-1).clamp_max(len(arrive) - 1)
        path[:, low:high], after, going_on = chosen, chosen, high - low
    return torch.empty_like(path).index_copy_(1, plan.order, path)


def best_path(log_initial: Tensor, log_transition: Tensor, scores: Tensor, steps: Steps) -> tuple[Tensor, Tensor]:
    """The most probable states ``(N,)`` and their log joint probability ``(S,)`` (Viterbi, 1967)."""
    plan = planned(steps, steps.longest)
    ordered = scores[:, plan.order].mT
    score = log_initial + ordered[: plan.blocks]
    ends = score.clone()
    pointers = torch.zeros(ordered.shape, dtype=torch.int32, device=scores.device)
    for low, high in plan.steps()[1:]:
        best, source = (score[: high - low, :, None] + log_transition).max(1)
        score = best + ordered[low:high]
        pointers[low:high] = source.to(torch.int32)
        ends[: high - low] = score
    path = torch.empty(len(plan.order), dtype=torch.long, device=scores.device)
    after, value = ends.argmax(1), ends.amax(1)
    for low, high in reversed(plan.steps()):
        path[low:high] = after[: high - low]
        if low:
            after[: high - low] = pointers[low:high].gather(1, after[: high - low, None].long())[:, 0].long()
    return torch.empty_like(path).index_copy_(0, plan.order, path), value[plan.sequence.argsort()]
