"""A comparison of models as one HTML page that needs nothing beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from probgen import plots
from probgen.report.page import put, template
from probgen.report.svg import draw
from probgen.studies.standing import KINDS, MARKS, is_open

if TYPE_CHECKING:
    from probgen.studies.leaderboard import Leaderboard

__all__ = ["render_comparison", "write_comparison"]


def render_comparison(board: Leaderboard, title: str = "") -> str:
    """The page as text.

    Args:
        board: as :func:`probgen.compare` returns it.
        title: above everything; "A comparison of M models" where empty.
    """
    scores = board.scores
    return template("comparison.html.jinja").render(
        board=board,
        title=title or f"A comparison of {len(board.records())} models",
        figure=differences(board),
        kinds={
            kind: text for kind, text in KINDS.items() if kind != "exact" and any(s["kind"] == kind for s in scores)
        },
        cross_validated=sorted((s for s in scores if "cross_validated" in s), key=lambda s: -s["cross_validated"]),
        marks=MARKS,
        trained=[score for score in scores if "log_marginal" in score or "elpd_loo" in score],
        has={key: any(key in score for score in scores) for key in ("elpd_loo", "log_marginal")},
        stages=stages(board.results),
        verdicts={score["model"]: verdict(score, at) for at, score in enumerate(scores)},
    )


def write_comparison(board: Leaderboard, path: str | os.PathLike, title: str = "") -> Path:
    """The page as a file; a file of that name is replaced as a whole or not at all."""
    return put(render_comparison(board, title), path)


def differences(board: Leaderboard) -> Markup | None:
    """The figure, where there is something to compare."""
    if len(board.scores) < 2:
        return None
    size = (8.6, 1.0 + 0.32 * len(board.scores))
    return draw(
        "differences",
        f"Paired differences of {len(board.scores)} models to {board.best}, nats a row",
        size,
        lambda figure: plots.leaderboard(board, figure.subplots()),
    )


def verdict(score: dict[str, Any], at: int) -> str:
    """In a word."""
    if at == 0:
        return "highest"
    if is_open(score):
        return "open"
    return "within noise" if score["within_noise"] else "behind"


def stages(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line a rung with its models by their validation scores; those without one last."""
    found: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        if result["stage"].startswith("rung"):
            found.setdefault(result["stage"], []).append(result)
    return [
        {
            "stage": stage,
            "results": sorted(members, key=lambda r: -r["mean"] if r["status"] == "done" else float("inf")),
        }
        for stage, members in found.items()
    ]
