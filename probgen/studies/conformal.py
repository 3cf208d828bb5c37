r"""Conformal p-values of scores, and bets against their being alike: what is odd, and from when on (Vovk, Gammerman and Shafer, 2005).

With scores :math:`a_1, \dots, a_n` of rows that are known to be in order, and s that of a new one,

.. math:: p = \frac{1 + \#\{i : a_i \ge s\}}{n + 1}, \qquad \Pr(p \le t) \le t

for every t and n, whatever the scores are, if the new row is exchangeable with the others: a bad model costs power, not validity. Ties are to the row's credit.
In a stream each score is compared with those before it; with ties and its own place drawn at random its p-values are independent and uniform as
long as nothing changes, and the wealth of somebody who bets on small ones,

.. math:: M_t = \int_0^1 \prod_{i \le t} \varepsilon\, p_i^{\varepsilon - 1} \, d\varepsilon,

is a martingale, which exceeds 1 / t at any time with probability t at most (Ville, 1939).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp

from probgen.errors import CapabilityError, DataError

__all__ = ["Change", "change_points", "conformal_p_values", "false_discoveries_held", "online_p_values", "wealth"]

BETS = (np.arange(200) + 0.5) / 200  # of epsilon, over which the bets are averaged


def checked_scores(name: str, scores: Any) -> np.ndarray:
    """Numbers in a line, infinite ones too.

    Raises:
        DataError: none, or one that is not a number.
    """
    try:
        found = np.asarray(scores, dtype=float)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} must be numbers, one a row: {error}.") from None
    if found.ndim != 1 or not len(found):
        raise DataError(f"{name} must be numbers in a line, one a row; got shape {found.shape}.")
    if np.isnan(found).any():
        raise DataError(f"{name} must be numbers, one a row; row {int(np.isnan(found).argmax())} has none.")
    return found


def checked_level(level: float) -> float:
    """A probability strictly between nought and one."""
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 1:
        raise CapabilityError(f"level must lie between 0 and 1, got {level!r}.")
    return float(level)


def conformal_p_values(calibration: Any, scores: Any) -> np.ndarray:
    """Of scores, larger ones being odder, among those of rows in order: the share of these that are as odd.

    Args:
        calibration: ``(n,)`` scores of rows that the model has not seen.
        scores: ``(N,)`` of the rows asked about.

    Example:
        >>> conformal_p_values([1.0, 2.0, 3.0, 4.0], [0.0, 3.0, 9.0]).tolist()
        [1.0, 0.6, 0.2]
    """
    known = np.sort(checked_scores("calibration", calibration))
    above = len(known) - np.searchsorted(known, checked_scores("scores", scores), side="left")
    return (1 + above) / (len(known) + 1)


def false_discoveries_held(p_values: Any, level: float = 0.1) -> np.ndarray:
    """Which rows to report so that at most this share of them is in order, on average (Benjamini and Hochberg, 1995).

    Conformal p-values that share their calibration allow it (Bates et al., 2023).

    Example:
        >>> false_discoveries_held([0.001, 0.8, 0.015, 0.3], 0.1).tolist()
        [True, False, True, False]
    """
    p = checked_scores("p_values", p_values)
    bar = checked_level(level) * np.arange(1, len(p) + 1) / len(p)
    below = np.flatnonzero(np.sort(p) <= bar)
    return p <= (bar[below[-1]] if len(below) else -1.0)


def online_p_values(scores: Any, seed: int = 0) -> np.ndarray:
    """Of every score among those up to it, ties and its own place drawn at random: exactly uniform and independent where nothing changes."""
    found = checked_scores("scores", scores)
    return smoothed(found, np.random.default_rng(seed).random(len(found)))


def smoothed(found: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Ranks among those before, with uniform numbers for ties."""
    before: list[float] = []
    p = np.empty(len(found))
    for at, score in enumerate(found):
        low, high = bisect_left(before, score), bisect_right(before, score)
        p[at] = (at - high + chance[at] * (high - low + 1)) / (at + 1)
        before.insert(high, score)
    return p


def wealth(p_values: Any) -> np.ndarray:
    """``(N,)`` logarithms of what betting on small p-values has made of one, up to each.

    Example:
        >>> wealth([0.01] * 5).round(2).tolist()
        [1.49, 3.24, 5.1, 7.03, 8.99]
    """
    p = checked_scores("p_values", p_values)
    return logsumexp(gains(p).cumsum(1), 0) - np.log(len(BETS))


def gains(p: np.ndarray) -> np.ndarray:
    """``(E, N)`` logarithms of what each bet gains at each p-value."""
    return np.log(BETS)[:, None] + (BETS[:, None] - 1) * np.log(np.maximum(p, 1e-300))


@dataclass(frozen=True)
class Change:
    """From where on scores are no longer as before.

    Attributes:
        start: the first of the steps that differ: that from which on a bet would have gained most (Page, 1954).
        alarm: the step at which this was known; steps up to it are all that was used.
        log_wealth: of the bets then.
    """

    start: int
    alarm: int
    log_wealth: float


def change_points(scores: Any, level: float = 0.01, seed: int = 0) -> list[Change]:
    """Where a stream of scores gets odder, each change known as soon as the bets allow.

    After an alarm all is forgotten. Without any change there is an alarm, ever, with probability ``level`` at most, and a next one after it again. Give minus the scores to look
    for steps that get less odd.

    Args:
        scores: ``(N,)`` in their order: such as :func:`probgen.step_surprise`.
        level: of a false alarm.
        seed: of the ties.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> found = change_points(np.r_[rng.normal(size=200), 2 + rng.normal(size=100)])
        >>> [195 < change.start < 205 and change.alarm < 230 for change in found]
        [True]
    """
    found, bar, first = checked_scores("scores", scores), -np.log(checked_level(level)), 0
    chance = np.random.default_rng(seed).random(len(found))  # anew after every alarm
    changes: list[Change] = []
    while first < len(found):
        p = smoothed(found[first:], chance[first:])
        held = wealth(p)
        above = np.flatnonzero(held >= bar)
        if not len(above):
            break
        alarm = int(above[0])
        since = gains(p[: alarm + 1])[:, ::-1].cumsum(1).max(0)[::-1]  # of the bet that gained most from each step on
        changes.append(Change(first + int(since.argmax()), first + alarm, float(held[alarm])))
        first += alarm + 1
    return changes


def area_under_curve(odd: Sequence[bool] | np.ndarray, scores: Any) -> float:
    """Probability that an odd row has a higher score than one in order: the area under the curve (Mann and Whitney, 1947).

    Example:
        >>> area_under_curve([True, False, False], [2.0, 1.0, 2.0])
        0.75
    """
    from scipy.stats import rankdata

    truth, found = np.asarray(odd, dtype=bool), checked_scores("scores", scores)
    many, few = truth.sum(), (~truth).sum()
    if not many or not few:
        return float("nan")
    return float((rankdata(found)[truth].sum() - many * (many + 1) / 2) / (many * few))
