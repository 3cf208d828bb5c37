r"""Successive halving: all models are tried with little effort, the best go on with more.

At rung k of R, with :math:`\eta` the factor between rungs, n models are fitted with the share :math:`\eta^{k - R - 1}` of all rows
(and of a network's steps), and :math:`\lceil n / \eta \rceil` of them go on (Jamieson and Talwalkar, 2016; Li et al., 2018). Who
goes on depends on scores alone, never on clocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Rung", "rungs_of", "survivors"]


@dataclass(frozen=True)
class Rung:
    """One round.

    Attributes:
        number: from 1.
        effort: share of the rows and steps of a whole fit.
        entrants: models that are fitted.
        keep: how many of them go on.
    """

    number: int
    effort: float
    entrants: int
    keep: int


def rungs_of(entrants: int, rungs: int, eta: int, finalists: int) -> list[Rung]:
    """The rounds that are needed until at most so many finalists are left; none where they are few already.

    Example:
        >>> [(rung.entrants, rung.keep, round(rung.effort, 2)) for rung in rungs_of(15, 2, 3, 3)]
        [(15, 5, 0.11), (5, 3, 0.33)]
    """
    found, left = [], entrants
    for number in range(1, rungs + 1):
        if left <= finalists:
            break
        keep = max(finalists, math.ceil(left / eta))
        found.append(Rung(number, float(eta) ** (number - 1 - rungs), left, keep))
        left = keep
    return found


def survivors(names: Sequence[str], scores: Mapping[str, float], keep: int) -> list[str]:
    """The names with the highest scores, in the order in which they came; of equal scores the earlier name.

    What has no score (a fit that failed or was stopped) does not go on.

    Example:
        >>> survivors(["a", "b", "c"], {"a": -2.0, "c": -1.0}, 1)
        ['c']
    """
    scored = [name for name in names if name in scores and not math.isnan(scores[name])]
    best = set(sorted(scored, key=lambda name: -scores[name])[:keep])
    return [name for name in scored if name in best]
