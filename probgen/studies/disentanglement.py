r"""Whether each known factor of the data has a latent of its own.

.. math::
    \mathrm{MIG} = \frac1K \sum_k \frac{I(z_{j_1}; v_k) - I(z_{j_2}; v_k)}{H(v_k)}

with the two latents that tell most of factor k (Chen et al., 2018); SAP is the same gap of the shares of a factor's variance that single latents explain
(Kumar, Sattigeri and Balakrishnan, 2018); and DCI (Eastwood and Williams, 2018) asks, of the weights R with which sparse regressions read the
factors from all latents, whether each latent serves one factor (disentanglement) and each factor needs one latent (completeness): one minus the
entropy of the shares of R, weighted by its sums; informativeness is how much those regressions explain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Disentanglement", "disentanglement"]

BINS = 20  # of a latent, with equal counts
SHRUNK = 0.02  # penalty of the sparse regressions, in standard deviations
PASSES = 200  # of their coordinate descent


@dataclass(frozen=True)
class Disentanglement:
    """Scores between 0 and 1, and the matrix that they come from.

    Attributes:
        mig: mutual information gap.
        sap: separated attribute predictability.
        disentanglement, completeness, informativeness: of DCI.
        information: ``(L, K)`` nats that latents tell of factors, one by one.
    """

    mig: float
    sap: float
    disentanglement: float
    completeness: float
    informativeness: float
    information: np.ndarray


def disentanglement(codes: np.ndarray, factors: np.ndarray) -> Disentanglement:
    """Judge codes ``(N, L)`` by the factors ``(N, K)``, whole numbers from 0, that rows were made from."""
    binned = [by_quantiles(column) for column in codes.T]
    information = np.array([[mutual_information(z, v) for v in factors.T] for z in binned])
    entropy = np.array([mutual_information(v, v) for v in factors.T])
    explained = np.array([[share_explained(z, v) for v in factors.T] for z in codes.T])
    weights, informed = sparse_weights(codes, factors)
    return Disentanglement(
        float(np.mean(gap(information) / np.maximum(entropy, 1e-12))), float(np.mean(gap(explained))), concentration(weights),
        concentration(weights.T), informed, information,
    )  # fmt: skip


def gap(table: np.ndarray) -> np.ndarray:
    """``(K,)``: between the two largest entries of each column."""
    ranked = np.sort(table, 0)
    return ranked[-1] - (ranked[-2] if len(ranked) > 1 else 0.0)


def by_quantiles(values: np.ndarray) -> np.ndarray:
    """Codes of bins with equal counts; equal values share one."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
    return np.searchsorted(edges, values, side="right")


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """Of whole numbers from 0, in nats."""
    p = np.bincount(a * (b.max() + 1) + b, minlength=(a.max() + 1) * (b.max() + 1)).reshape(a.max() + 1, -1) / len(a)
    apart = p.sum(1, keepdims=True) * p.sum(0)
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / apart[seen])).sum())


def share_explained(latent: np.ndarray, factor: np.ndarray) -> float:
    """Squared correlation; none where either never varies."""
    if latent.std() < 1e-9 or factor.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(latent, factor)[0, 1] ** 2)


def sparse_weights(codes: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, float]:
    """``(L, K)`` absolute weights of the lasso (Tibshirani, 1996) from latents to factors, and their mean R squared on other rows."""
    scale = np.maximum(codes.std(0), 1e-9)
    x = np.where(codes.std(0) > 1e-9, (codes - codes.mean(0)) / scale, 0.0)
    y = (factors - factors.mean(0)) / np.maximum(factors.std(0), 1e-9)
    order = np.random.default_rng(0).permutation(len(x))
    learnt, judged = order[: len(x) // 2], order[len(x) // 2 :]
    gram, cross = x[learnt].T @ x[learnt] / len(learnt), x[learnt].T @ y[learnt] / len(learnt)
    weights = np.zeros_like(cross)
    for _ in range(PASSES):
        for at in range(len(gram)):
            if gram[at, at] > 0:
                pull = cross[at] - gram[at] @ weights + gram[at, at] * weights[at]
                weights[at] = np.sign(pull) * np.maximum(np.abs(pull) - SHRUNK, 0.0) / gram[at, at]
    left = ((y[judged] - x[judged] @ weights) ** 2).mean(0)
    return np.abs(weights), float(np.mean(np.clip(1 - left, 0, 1)))


def concentration(weights: np.ndarray) -> float:
    """Of each row of ``(A, B)`` weights: one minus the entropy of its shares, in units of its largest; mean by the rows' sums."""
    total = weights.sum(1)
    if total.sum() == 0 or weights.shape[1] < 2:
        return 0.0
    shares = weights / np.maximum(total, 1e-300)[:, None]
    entropy = -(shares * np.log(np.maximum(shares, 1e-300))).sum(1) / np.log(weights.shape[1])
    return float((1 - entropy) @ total / total.sum())
