"""Log densities of a Gaussian kernel density estimate, beside scikit-learn's, on one thread.

``off`` is the largest difference to sums written out in numpy on some of the rows, ``peer_off`` the peer's; scikit-learn
bounds the sums over a tree's leaves, which costs digits in the tails. The last cases merge kernels that lie together.
"""

import numpy as np
from scipy.special import logsumexp

import probgen as pg
from benchmarks import paired

WIDTH = 0.4


def cases():
    """Training rows, query rows, columns, side of a merged cell in widths."""
    for sizes in [(20_000, 5_000, 8), (20_000, 5_000, 2), (5_000, 5_000, 20)]:
        yield case(*sizes)
    for sizes in [(20_000, 5_000, 2), (100_000, 2_000, 1)]:
        yield case(*sizes, approximation=0.3)


def case(n, m, d, approximation=None):
    from sklearn.neighbors import KernelDensity

    random = np.random.default_rng(0)
    x, queries = random.standard_normal((n, d)), random.standard_normal((m, d))
    x = (x - x.mean(0)) / x.std(0)
    width = WIDTH if approximation is None else n ** (-1 / (d + 4))
    schema = pg.Table(x[:2]).schema
    schema = type(schema)(tuple(type(c)(c.name, "real") for c in schema))
    fit = pg.fit(
        "kernel_density", pg.Table(x, schema=schema), bandwidth=width, approximation=approximation, progress=False
    )
    table = pg.Table(queries, schema=schema)
    peer = KernelDensity(bandwidth=width).fit(x)
    times = paired(lambda: fit.log_prob(table), lambda: peer.score_samples(queries), repeats=3)
    exact = by_hand(x, queries[:200], width)
    off = np.abs(np.asarray(fit.log_prob(table))[:200] - exact).max()
    sizes = {"rows": n, "queries": m, "columns": d, "merged": approximation, "kernels": fit.diagnostics["kernels"]}
    return {**sizes, **times, "off": off, "peer_off": np.abs(peer.score_samples(queries[:200]) - exact).max()}


def by_hand(x, queries, width):
    """Log densities without a library."""
    squares = np.stack([((query - x) ** 2).sum(1) for query in queries])  # (M, N)
    return (
        logsumexp(-0.5 * squares / width**2, axis=1) - np.log(len(x)) - x.shape[1] * np.log(width * np.sqrt(2 * np.pi))
    )
