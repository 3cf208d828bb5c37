"""EM of a full-covariance Gaussian mixture, beside scikit-learn's, for the same number of steps.

Both start from their own k-means and take exactly ``STEPS`` EM steps, so the time of a step is
compared; ``nats`` and ``peer_nats`` are the mean log densities a row that each has reached.
"""

import warnings

import numpy as np

import probgen as pg
from benchmarks import paired

STEPS = 30


def cases():
    """Rows, columns, components."""
    for sizes in [(2_000, 5, 4), (20_000, 5, 8), (20_000, 20, 8)]:
        yield case(*sizes)


def case(n, d, k):
    from sklearn.mixture import GaussianMixture

    x = clusters(n, d, k)
    table = pg.Table(x)
    peer = GaussianMixture(k, max_iter=STEPS, tol=0.0, n_init=1, random_state=0)
    options = {"components": k, "restarts": 1, "max_steps": STEPS, "tolerance": 0.0}

    def ours():
        return pg.fit("gaussian_mixture", table, seed=0, progress=False, **options)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # neither has converged after a fixed number of steps
        times = paired(ours, lambda: peer.fit(x), repeats=3)
        fitted = ours()
    steps = {"steps": len(fitted.history["objective"]), "peer_steps": peer.n_iter_}
    reached = {"nats": fitted.log_prob(table).mean().value, "peer_nats": peer.score(x)}
    return {"rows": n, "columns": d, "components": k, **times, **steps, **reached}


def clusters(n, d, k):
    """K overlapping Gaussian clusters."""
    random = np.random.default_rng(0)
    centres = 3.0 * random.standard_normal((k, d))
    return centres[random.integers(k, size=n)] + random.standard_normal((n, d))  # (N, D)
