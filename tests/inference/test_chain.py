"""Chains of discrete states against sums over all paths."""

from itertools import product

import pytest
import torch

from probgen.data.sequences import Steps
from probgen.inference import chain, native

STATES = 3
LENGTHS = torch.tensor([4, 1, 6, 3])
ZERO = -torch.inf


@pytest.fixture(params=["compiled", "loop", "blocks of 2", "blocks of 3", "log space"])
def way(request, monkeypatch):
    """Every way to the same number."""
    if request.param == "compiled" and native.library("chain") is None:
        pytest.skip("no C compiler here")
    if request.param != "compiled":
        monkeypatch.setattr(native, "usable", lambda *_: False)
    if request.param.startswith("blocks"):
        length = int(request.param[-1])
        monkeypatch.setattr(chain, "block_length", lambda *_: length)
    if request.param == "log space":
        return chain.in_log_space
    return chain.chain_evidence


def potentials(zeros, seed=0):
    torch.manual_seed(seed)
    steps = Steps(LENGTHS)
    initial = torch.rand(STATES, dtype=torch.float64).log_softmax(0)
    transition = torch.randn(STATES, STATES, dtype=torch.float64)
    if zeros:
        transition[0, 2] = transition[1, 0] = ZERO
    scores = 3 * torch.randn(STATES, steps.rows, dtype=torch.float64)
    return initial, transition.log_softmax(1), scores, steps


def paths(initial, transition, scores, start, length):
    """Log weight of every path of one sequence."""
    found = {}
    for path in product(range(STATES), repeat=length):
        weight = initial[path[0]] + sum(transition[path[t - 1], path[t]] for t in range(1, length))
        found[path] = weight + sum(scores[state, start + t] for t, state in enumerate(path))
    return found


def by_enumeration(initial, transition, scores, steps):
    spans = zip(steps.starts.tolist(), steps.lengths.tolist(), strict=True)
    sums = [torch.stack(list(paths(initial, transition, scores, *span).values())) for span in spans]
    return torch.stack([torch.logsumexp(weights, 0) for weights in sums])


@pytest.mark.parametrize("zeros", [False, True])
def test_evidence_and_expected_counts_are_sums_over_all_paths(way, zeros):
    *given, steps = potentials(zeros)
    weight = torch.tensor([0.3, 1.0, 2.0, 0.0], dtype=torch.float64)
    found = []
    for evidence in (way, by_enumeration):
        leaves = [value.clone().requires_grad_() for value in given]
        rows = evidence(*leaves, steps)
        found.append((rows, *torch.autograd.grad((rows * weight).sum(), leaves)))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(
            ours, expected.nan_to_num(), rtol=0, atol=1e-12
        )  # enumeration gives 0 * inf at zeros


def test_second_derivatives_are_right(way):
    *given, _ = potentials(False)
    steps = Steps(torch.tensor([3, 1]))
    leaves = [value.requires_grad_() for value in (*given[:2], given[2][:, :4].clone())]
    assert torch.autograd.gradgradcheck(lambda *x: way(*x, steps), leaves)


def test_a_reachable_state_far_worse_than_an_unreachable_one_does_not_underflow(way):
    initial = torch.tensor([ZERO, 0.0, ZERO], dtype=torch.float64)
    transition = torch.eye(STATES, dtype=torch.float64).log()
    scores = torch.zeros(STATES, int(LENGTHS.sum()), dtype=torch.float64)
    scores[:, 1] = torch.tensor([0.0, -900.0, -1800.0])
    leaves = [value.requires_grad_() for value in (initial, transition, scores)]
    rows = way(*leaves, Steps(LENGTHS))
    torch.testing.assert_close(rows.detach(), torch.tensor([-900.0, 0.0, 0.0, 0.0], dtype=torch.float64))
    counts = torch.autograd.grad(rows.sum(), leaves)
    assert all(bool(value.isfinite().all()) for value in counts)
    assert counts[1][1, 1] == pytest.approx(int((LENGTHS - 1).sum()))


def test_a_state_that_loses_slowly_and_wins_in_the_end_is_not_lost(way):
    """Zeros in the transitions bring nothing back, and no single step underflows."""
    gaps = 20.0 * torch.tensor([[0.0] * 40 + [-1.0] * 60, [-1.0] * 40 + [0.0] * 60], dtype=torch.float64)
    scores, steps = torch.cat([gaps, gaps[:, :3]], 1).requires_grad_(), Steps(torch.tensor([100, 3]))
    initial, transition = torch.tensor([0.5, 0.5]).double().log(), torch.eye(2).double().log()
    rows = way(initial, transition, scores, steps)
    alone = torch.stack([scores[:, :100].sum(1), scores[:, 100:].sum(1)], 1)
    torch.testing.assert_close(rows, torch.logsumexp(initial[:, None] + alone, 0), rtol=1e-12, atol=0)
    state = torch.autograd.grad(rows.sum(), scores)[0]
    winner = torch.tensor([[0.0] * 100 + [1.0] * 3, [1.0] * 100 + [0.0] * 3]).double()
    torch.testing.assert_close(state, winner, rtol=0, atol=1e-12)


def test_an_impossible_sequence_has_evidence_zero_and_no_counts(way):
    *given, steps = potentials(False)
    given[2][:, 2] = ZERO
    leaves = [value.requires_grad_() for value in given]
    rows = way(*leaves, steps)
    assert rows[0] == ZERO
    assert bool(rows[1:].isfinite().all())


def test_float32_agrees():
    *given, steps = potentials(True)
    exact = chain.chain_evidence(*given, steps)
    single = chain.chain_evidence(*[value.float() for value in given], steps)
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("zeros", [False, True])
def test_the_best_path_is_the_best_of_all(zeros):
    *given, steps = potentials(zeros, seed=1)
    path, value = chain.best_path(*given, steps)
    for number, (start, length) in enumerate(zip(steps.starts.tolist(), steps.lengths.tolist(), strict=True)):
        every = paths(*given, start, length)
        best = max(every, key=lambda states: float(every[states]))
        assert tuple(path[start : start + length].tolist()) == best
        assert value[number] == pytest.approx(float(every[best]))


def test_filtered_states_do_not_look_ahead(way):
    *given, steps = potentials(False, seed=2)
    found = chain.filtered(*given, steps)
    for start, length in zip(steps.starts.tolist(), steps.lengths.tolist(), strict=True):
        for t in range(length):
            every = paths(*given, start, t + 1)
            weight = torch.zeros(STATES, dtype=torch.float64)
            for states, log in every.items():
                weight[states[-1]] += log.exp()
            torch.testing.assert_close(found[start + t], weight / weight.sum())


@pytest.mark.stats
def test_drawn_paths_have_the_posterior_probabilities():
    *given, steps = potentials(False, seed=3)
    draws = 20_000
    torch.manual_seed(0)
    found = chain.draw_paths(*given, steps, torch.rand(draws, steps.rows, dtype=torch.float64))
    start, length = int(steps.starts[2]), 6
    every = paths(*given, start, length)
    total = torch.logsumexp(torch.stack(list(every.values())), 0)
    code = (found[:, start : start + length] * STATES ** torch.arange(length - 1, -1, -1)).sum(1)
    share = torch.bincount(code, minlength=STATES**length) / draws
    expected = torch.stack([(log - total).exp() for log in every.values()])
    chi2 = (draws * (share - expected) ** 2 / expected.clamp_min(1e-12))[expected * draws > 5]
    assert float(chi2.sum()) < len(chi2) + 5 * (2 * len(chi2)) ** 0.5


@pytest.mark.parametrize("winner", [0, 1])
def test_drawn_paths_keep_to_possible_transitions_where_filtered_probabilities_underflow(winner):
    gaps = 20.0 * torch.tensor([[0.0] * 40 + [-1.0] * 60, [-1.0] * 40 + [0.0] * 60], dtype=torch.float64)
    scores, steps = gaps if winner else gaps.flip(0), Steps(torch.tensor([100]))
    initial, transition = torch.tensor([0.5, 0.5]).double().log(), torch.eye(2).double().log()
    path = chain.draw_paths(initial, transition, scores, steps, torch.rand(20, 100).double())
    assert bool((path == winner).all())
