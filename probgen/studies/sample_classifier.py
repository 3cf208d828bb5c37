r"""Whether a classifier can tell drawn rows from real ones (Lopez-Paz and Oquab, 2017).

Rows of both sets, as many of one as of the other, are split into parts; a classifier learns from all parts but one and tells that one's rows apart. Where both sets
follow one law its accuracy is 1/2. Its error is that of independent answers; parts share the rows that are learnt from, so that it moves more than that, by a fifth at 80 rows.
The p-value knows nothing of that: half of the rows are told by what learnt from the other half, and whether what is told goes with what is true is Fisher's exact test.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import hypergeom

from probgen.errors import CapabilityError, DataError
from probgen.inference.runtime import seed_of, seeded
from probgen.nn import mlp
from probgen.studies.probes import (
    FOLDS,
    INNER,
    NEIGHBOURS,
    STRENGTHS,
    Reader,
    best_reader,
    judged,
    neighbour_reader,
    read,
    softmax_reader,
)
from probgen.studies.sample_distances import Measured, checked

__all__ = ["CLASSIFIERS", "classifier_two_sample"]

CLASSIFIERS = ("neighbours", "linear", "network")
STEPS, HIDDEN, DECAY = 300, (64, 64), 1e-2  # of the network


def classifier_two_sample(
    one: np.ndarray, other: np.ndarray, classifier: str = "neighbours", seed: int = 0
) -> Measured:
    """Accuracy of a cross-validated classifier that tells two sets of rows apart; of the larger set, as many rows as the other has.

    Args:
        one: ``(N, F)``.
        other: ``(M, F)``.
        classifier: "neighbours" (a vote of the nearest; how many is chosen inside each part), "linear" (logistic regression), or "network"
            (a perceptron with two layers of 64 units).
        seed: of the split and the network's start.

    Raises:
        CapabilityError: another classifier.
        DataError: unknown cells, other columns, or fewer than ten rows a set.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> found = classifier_two_sample(rng.normal(size=(100, 2)), rng.normal(size=(100, 2)) + 3)
        >>> found.value > 0.9, found.p_value < 1e-6
        (True, True)
    """
    if classifier not in CLASSIFIERS:
        raise CapabilityError(f"classifier must be one of {', '.join(CLASSIFIERS)}, got {classifier!r}.")
    x, y = checked(one, other)
    n = min(len(x), len(y))
    if n < 2 * FOLDS:
        raise DataError(f"A classifier needs {2 * FOLDS} rows a set; they have {len(x)} and {len(y)}.")
    rng = np.random.default_rng(seed)
    both = np.stack([rng.permutation(x)[:n], rng.permutation(y)[:n]], 1).reshape(2 * n, -1)  # in turn
    label = np.tile([0, 1], n)
    settings = readers(classifier, n, seed)
    part, told = np.arange(2 * n) // 2 % FOLDS, np.empty(2 * n, dtype=int)  # as many of both in each part
    for outside in (part == now for now in range(FOLDS)):
        told[outside] = told_apart(both, label, settings, outside)
    half = np.arange(2 * n) < 2 * (n // 2)
    accuracy, error = judged(told, label, True)
    return Measured(accuracy, error, fisher(told_apart(both, label, settings, half), label[half]))


def readers(classifier: str, n: int, seed: int) -> list[tuple[float, Reader]]:
    """The settings among which each part chooses."""
    if classifier == "linear":
        return [(value, softmax_reader(value)) for value in STRENGTHS]
    if classifier == "network":
        return [(0.0, network_reader(seed))]
    inner = n * (1 - 1 / INNER) - 2  # the fewest rows that a setting is tried on
    return [(float(k), neighbour_reader(k, True)) for k in NEIGHBOURS if k < inner]


def told_apart(
    x: np.ndarray, label: np.ndarray, settings: list[tuple[float, Reader]], outside: np.ndarray
) -> np.ndarray:
    """What is told of some rows by what learnt from the others."""
    _, reader = best_reader(x[~outside], label[~outside], True, settings)
    return read(reader, x[~outside], label[~outside], x[outside])


def fisher(told: np.ndarray, label: np.ndarray) -> float:
    """How often labels at random agree as well with what is told of them, one way."""
    both = int((told & label).sum())
    return float(hypergeom.sf(both - 1, len(label), int(label.sum()), int(told.sum())))


def network_reader(seed: int) -> Reader:
    """A perceptron, by Adam with decay of the weights."""

    def tell(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
        rows, labels = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(y, dtype=torch.float32)
        with seeded(seed_of(seed, "classifier")), torch.enable_grad():
            net = mlp(x.shape[1], *HIDDEN, 1)
            optimiser = torch.optim.AdamW(net.parameters(), lr=5e-3, weight_decay=DECAY)
            for _ in range(STEPS):
                loss = torch.nn.functional.binary_cross_entropy_with_logits(net(rows)[:, 0], labels)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        with torch.no_grad():
            return (net(torch.as_tensor(new, dtype=torch.float32))[:, 0] > 0).long().numpy()

    return tell
