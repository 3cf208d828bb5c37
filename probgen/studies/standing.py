r"""Places in a table of numbers of several kinds: what is exact is ordered, a lower bound only from below.

A model whose number is a lower bound may be better than the number says. Of two models a and b with numbers a > b,

* b exact (or solved for): a is better, whatever a's kind, because a bound above b is above it all the more;
* b a lower bound: nobody knows, b may be better than a.

So a bound's place is "at worst" one, and a model with bounds below it may lose its place to each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["KINDS", "MARKS", "is_open", "order_notes", "places", "shown_place"]

KINDS = {
    "exact": "exact",
    "ode": "solved by an integrator, exact but for its tolerance",
    "lower_bound": "a lower bound",
    "importance": "estimated by importance sampling, too low on average",
    "annealed": "its normaliser is estimated by annealing, so that it may be too high or too low",
    "monte_carlo": "an average over draws",
}
MARKS = {"lower_bound": "≥", "importance": "~", "annealed": "~", "monte_carlo": "~"}


def is_open(score: Mapping[str, Any]) -> bool:
    """Whether the true value may lie above the number by nobody knows how much: bounds, and importance weights that cannot be trusted."""
    return score["kind"] == "lower_bound" or (score["kind"] == "importance" and not score["trusted"])


def places(opened: Sequence[bool]) -> list[tuple[int, int]]:
    """The best and the worst place of each of several models, the highest number first, by whether it is a bound.

    Example:
        >>> places([False, True, False])
        [(1, 2), (1, 2), (3, 3)]
    """
    below = [sum(opened[at + 1 :]) for at in range(len(opened))]
    return [(1 if bound else at + 1, at + 1 + below[at]) for at, bound in enumerate(opened)]


def shown_place(best: int, worst: int) -> str:
    """One number, or the first and the last.

    Example:
        >>> shown_place(2, 2), shown_place(1, 3)
        ('2', '1-3')
    """
    return str(best) if best == worst else f"{best}-{worst}"


def order_notes(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """In words, which pairs cannot be ordered, and which numbers are estimates.

    Args:
        scores: records with ``model``, ``kind``, ``trusted``, ``best_place`` and ``worst_place``, the highest number first.
    """
    notes = []
    for at, score in enumerate(scores):
        if not is_open(score):
            continue
        others = [other["model"] for other in scores[:at]]
        others += [other["model"] for other in scores[at + 1 :] if is_open(other)]
        what = (
            "a lower bound"
            if score["kind"] == "lower_bound"
            else "an importance estimate that errs low by more than it says"
        )
        order = f"; its order cannot be told against {', '.join(others)}" if others else ""
        notes.append(
            f"{score['model']}: the number is {what}, so its place is at worst {score['worst_place']} and at best"
            f" {score['best_place']}{order}."
        )
    for kind in ("importance", "annealed", "monte_carlo", "ode"):
        names = [s["model"] for s in scores if s["kind"] == kind and not is_open(s)]
        if names:
            notes.append(f"{', '.join(names)}: {KINDS[kind]}.")
    return notes
