"""Filter and smoother of linear-Gaussian state-space models beside statsmodels' compiled ones.

"filter" is the log likelihood; "smoother" is it with all smoothed means and covariances. statsmodels takes one
sequence at a time. Both sides agree to 1e-6 before they are timed.
"""

from functools import partial

import numpy as np
import torch
from statsmodels.tsa.statespace.kalman_smoother import KalmanSmoother

from benchmarks import paired
from probgen.data.sequences import Steps
from probgen.families.gaussian_regression import Regression
from probgen.inference.kalman import Motion, Potentials, Smoother
from probgen.inference.runtime import setting

CASES = {  # sequences, steps, states, columns, share of unknown cells
    "one sequence": (1, 1000, 4, 6, 0.0),
    "one sequence with holes": (1, 1000, 4, 6, 0.1),
    "one long sequence": (1, 20_000, 2, 2, 0.0),
    "one long sequence with holes": (1, 20_000, 2, 2, 0.1),
    "200 sequences": (200, 250, 4, 6, 0.0),
    "200 sequences with holes": (200, 250, 4, 6, 0.1),
}


def cases():
    """Each case twice: the log likelihood alone, and the smoother."""
    with setting(torch.float64, torch.device("cpu")):
        for name, (S, T, L, D, holes) in CASES.items():
            truth, x = simulated(S, T, L, D, holes)
            ours, theirs = our_way(truth, x), their_way(truth, x)
            value, peer = ours(False), theirs(False)
            assert abs(value - peer) < 1e-6 * abs(peer), (value, peer)
            for smooth, what in ((False, "filter"), (True, "smoother")):
                times = paired(partial(ours, smooth), partial(theirs, smooth), repeats=3)
                yield {"case": f"{name}: {what}", **times}


def simulated(S, T, L, D, holes):
    """A stable model, and cells ``(S, T, D)`` drawn from it."""
    rng = np.random.default_rng(0)
    truth = {
        "A": 0.97 * np.linalg.qr(rng.normal(size=(L, L)))[0],
        "C": rng.normal(size=(D, L)),
        "d": rng.normal(size=D),
        "q": 0.1 + 0.2 * rng.random(L),
        "r": 0.2 + rng.random(D),
    }
    z, x = rng.normal(size=(S, L)), np.empty((S, T, D))
    for t in range(T):
        z = z @ truth["A"].T + np.sqrt(truth["q"]) * rng.normal(size=(S, L)) if t else z
        x[:, t] = z @ truth["C"].T + truth["d"] + np.sqrt(truth["r"]) * rng.normal(size=(S, D))
    x[rng.random(x.shape) < holes] = np.nan
    return truth, x


def our_way(truth, x):
    """Potentials from the cells, then the passes."""
    part = {key: torch.as_tensor(value) for key, value in truth.items()}
    S, T, D = x.shape
    L, y = len(part["A"]), torch.as_tensor(x).reshape(-1, D)
    motion = Motion(
        Regression(torch.zeros(L, 0), torch.zeros(L), torch.eye(L)),
        Regression(part["A"], torch.zeros(L), torch.diag(part["q"].sqrt())),
    )
    steps, seen = Steps(torch.full((S,), T)), (~y.isnan()).to(y)
    each = torch.einsum("di,dj,d->dij", part["C"], part["C"], 1 / part["r"]).flatten(1)

    def run(smooth):
        gap = (y - part["d"]).nan_to_num()
        constant = -0.5 * (seen @ (2 * torch.pi * part["r"]).log() + (gap.square() / part["r"]).sum(1))
        square = (seen if bool((seen == 0).any()) else seen[:1]) @ each
        states = Smoother(
            motion, Potentials(constant, (gap / part["r"]) @ part["C"], square.unflatten(1, (L, L))), steps
        )
        if smooth:
            states.means(), states.covariances()
        return float(states.forward.value.sum())

    return run


def their_way(truth, x):
    """One compiled filter and smoother a sequence (bound anew, one would keep what the sequence before left)."""
    peers = [compiled(truth, sequence) for sequence in x]

    def run(smooth):
        return sum(float(peer.smooth().llf_obs.sum()) if smooth else float(peer.loglike()) for peer in peers)

    return run


def compiled(truth, sequence):
    """The peer's representation of one sequence."""
    L, D = len(truth["A"]), sequence.shape[1]
    peer = KalmanSmoother(k_endog=D, k_states=L)
    peer["design"], peer["transition"], peer["selection"] = truth["C"], truth["A"], np.eye(L)
    peer["obs_cov"], peer["state_cov"] = np.diag(truth["r"]), np.diag(truth["q"])
    peer["obs_intercept"] = truth["d"][:, None]
    peer.initialize_known(np.zeros(L), np.eye(L))
    peer.bind(np.asfortranarray(sequence.T))
    return peer
