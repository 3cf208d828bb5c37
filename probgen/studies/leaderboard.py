"""The table that a comparison ends in: held-out log densities, paired, with places, weights and what else fits say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from probgen.data.records import frame_of_records
from probgen.errors import FitError
from probgen.queries.loo import stacking_weights
from probgen.queries.reading import aligned
from probgen.studies.compare_entries import Entry
from probgen.studies.compare_task import FINAL, Result
from probgen.studies.paired import Paired, paired
from probgen.studies.standing import MARKS, is_open, order_notes, places, shown_place

__all__ = ["Leaderboard"]

Record = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """Models by the mean log density of the same test rows, in nats and original units; the highest number first.

    Attributes:
        scores: one record a finalist: ``model`` (its title) and ``name``, ``place`` in words, ``best_place`` and ``worst_place``, ``kind``, ``mean``
            and ``se`` over rows, ``drawing_error`` of the mean, paired ``difference`` to the highest number with ``difference_se``, stacking ``weight``, and
            where they are there ``cross_validated``, ``elpd_loo``, ``log_marginal`` with their errors and kinds.
        others: one record a model that is no finalist: its ``status`` ("left out", "failed", "stopped"), the last ``stage`` and why.
        results: one record a fit.
        log_prob: title -> ``(rows,)`` log densities of the test rows.
        rows: how many rows were for training and for the test.
        seconds: that the comparison took, over all its sittings.
        minutes: of the budget, None where there was none.
        folds: of the cross-validation, 0 where there was none.
        notes: what a reader has to know before believing the order.
    """

    scores: list[Record]
    others: list[Record]
    results: list[Record]
    log_prob: dict[str, np.ndarray]
    rows: dict[str, int]
    seconds: float
    minutes: float | None = None
    folds: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def best(self) -> str:
        """The finalist with the highest number; see ``notes`` for those of which nobody knows whether they are better."""
        return self.scores[0]["model"]

    @property
    def weight(self) -> dict[str, float]:
        """Stacking weights of the finalists."""
        return {score["model"]: score["weight"] for score in self.scores}

    def scored(self) -> Leaderboard:
        """Itself; FitError where no model got to a score."""
        if not self.scores:
            failures = "; ".join(f"{other['model']}: {other['why']}" for other in self.others)
            raise FitError(f"No model got to a score on the test rows. {failures}")
        return self

    def records(self) -> list[Record]:
        """One record a model, finalists first."""
        return [dict(record) for record in (*self.scores, *self.others)]

    def to_pandas(self) -> Any:
        """A frame with one row a model, finalists first."""
        return frame_of_records(self.records())

    def verdict(self) -> str:
        """Who is best, as far as that can be told."""
        first, rest = self.scores[0], self.scores[1:]
        close = [s["model"] for s in rest if s["within_noise"]]
        open_below = [s["model"] for s in rest if is_open(s)]
        bound = "a lower bound of " if first["kind"] == "lower_bound" else ""
        text = f"{self.best} has the highest number, {bound}{first['mean']:.3f} ± {first['se']:.3f} nats a row"
        text += f"; within noise of it: {', '.join(close)}" if close else ""
        text += (
            f"; nobody knows whether it is better than {', '.join(open_below)}, of which there are only bounds"
            if open_below
            else ""
        )
        return text + "."

    def __str__(self) -> str:
        lines = aligned([heads(self.scores), *(line(score, self.scores) for score in self.scores)])
        if self.others:
            lines += ["", *(f"{other['model']}: {other['why']}" for other in self.others)]
        return "\n".join([*lines, "", self.verdict(), *self.notes])


def heads(scores: Sequence[Record]) -> list[str]:
    """Of the columns that are there."""
    found = ["model", "place", "nats/row", "se", "to best", "se", "weight", "kind"]
    found += ["cv", "se"] if has(scores, "cross_validated") else []
    found += ["elpd loo", "se"] if has(scores, "elpd_loo") else []
    found += ["log marginal"] if has(scores, "log_marginal") else []
    return [*found, "seconds"]


def line(score: Record, scores: Sequence[Record]) -> list[str]:
    """One model."""
    mark = MARKS.get(score["kind"], "")
    found = [
        score["model"], score["place"], f"{mark}{score['mean']:.3f}", f"{score['se']:.3f}", f"{score['difference']:.3f}",
        f"{score['difference_se']:.3f}", f"{score['weight']:.3f}", score["kind"] + ("" if score["trusted"] else " (k-hat)"),
    ]  # fmt: skip
    for key, error in (("cross_validated", "cross_validated_se"), ("elpd_loo", "loo_se")):
        if has(scores, key):
            found += [told(score.get(key), 3 if key == "cross_validated" else 1), told(score.get(error), 3)]
    if has(scores, "log_marginal"):
        found.append(f"{score['log_marginal']:.0f} {score['marginal']}" if "log_marginal" in score else "-")
    return [*found, f"{score['seconds']:.0f}"]


def has(scores: Sequence[Record], key: str) -> bool:
    return any(key in score for score in scores)


def told(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


# ------------------------------------------------------------------------------------------------------- making of it
def leaderboard(
    entries: Sequence[Entry],
    results: Mapping[tuple[str, str], Result],
    left_out: Mapping[str, str],
    fold: np.ndarray | None,
    weighted: bool = False,
    **facts: Any,
) -> Leaderboard:
    """The table of all results.

    Args:
        entries: in the order asked for.
        results: by title and stage.
        left_out: title -> the rung that it did not survive.
        fold: of each training row, where there was cross-validation.
        weighted: whether rows have weights.
        **facts: ``rows``, ``seconds``, ``minutes``, ``folds``.
    """
    titles = [entry.title for entry in entries]
    mine = {key: result for key, result in results.items() if key[0] in titles}
    done = {t: mine[t, FINAL] for t in titles if (t, FINAL) in mine and mine[t, FINAL].done}
    order = sorted(done, key=lambda title: standing_of(done[title].arrays["log_prob"]), reverse=True)
    scores = [score_of(done[title], done[order[0]]) for title in order]
    if scores:
        add_places(scores)
        for score, weight in zip(scores, weights_of([done[t].arrays["log_prob"] for t in order]), strict=True):
            score["weight"] = weight
    if fold is not None:
        add_folds(scores, mine, fold)
    others = [other_of(entry, mine, left_out) for entry in entries if entry.title not in done]
    told_results = [result.record for _, result in sorted(mine.items(), key=lambda pair: place_of(pair[0], titles))]
    rows = {title: done[title].arrays["log_prob"] for title in order}
    return Leaderboard(scores, others, told_results, rows, **facts, notes=notes(scores, others, weighted))


def standing_of(rows: np.ndarray) -> tuple[float, int, float]:
    """What models are ordered by: the mean; of those to whom some rows are impossible, how few these are, then the mean of the others."""
    possible = np.isfinite(rows)
    return float(rows.mean()), int(possible.sum()), float(rows[possible].mean()) if possible.any() else -np.inf


def place_of(key: tuple[str, str], titles: Sequence[str]) -> tuple[int, int, str]:
    """Order of records: rungs, finals, folds; in each as asked for."""
    title, stage = key
    return ("rung", FINAL, "fold").index(stage.split()[0]), titles.index(title), stage


def score_of(result: Result, best: Result) -> Record:
    """A finalist beside the highest number; what is drawn once for all rows adds to the error of the difference."""
    gap = beside(result.arrays["log_prob"], best.arrays["log_prob"]) if result is not best else None
    error = 0.0
    if gap is not None:
        error = float(
            np.hypot(gap.standard_error, np.hypot(result.record["shared_error"], best.record["shared_error"]))
        )
    difference = 0.0 if gap is None else gap.difference
    return {
        **{key: value for key, value in result.record.items() if key not in ("status", "message", "stage", "clock", "minutes")},
        "status": FINAL, "difference": difference, "difference_se": error,
        "within_noise": gap is not None and abs(difference) <= 2 * error,
    }  # fmt: skip


def beside(rows: np.ndarray, best: np.ndarray) -> Paired:
    """The paired difference; rows that are impossible to both say nothing, and to one of them take its error away."""
    possible = np.isfinite(rows) | np.isfinite(best)
    one, other = rows[possible], best[possible]
    if not possible.any():
        return Paired(float("nan"), float("nan"))
    if np.isfinite(one).all() and np.isfinite(other).all():
        return paired(one, other)
    with np.errstate(invalid="ignore"):  # each is the only one to whom some row is impossible
        return Paired(float((one - other).mean()), float("nan"))


def add_places(scores: list[Record]) -> None:
    found = places([is_open(score) for score in scores])
    for score, (best, worst) in zip(scores, found, strict=True):
        score |= {"place": shown_place(best, worst), "best_place": best, "worst_place": worst}


def weights_of(rows: Sequence[np.ndarray]) -> list[float]:
    """Stacking weights; rows that no model gives a density to say nothing (Yao et al., 2018)."""
    stacked = np.stack(rows)
    possible = np.isfinite(stacked.max(0))
    if not possible.any():
        return [1 / len(rows)] * len(rows)
    return stacking_weights(stacked[:, possible]).tolist()


def add_folds(scores: list[Record], results: Mapping[tuple[str, str], Result], fold: np.ndarray) -> None:
    """Cross-validated means and paired differences, with errors over rows and over folds."""
    folds, values = int(fold.max()) + 1, {}
    for score in scores:
        parts = [results.get((score["model"], f"fold {number + 1}")) for number in range(folds)]
        if all(part is not None and part.done for part in parts):
            rows = np.empty(len(fold))
            for number, part in enumerate(parts):
                rows[fold == number] = part.arrays["log_prob"]  # type: ignore[union-attr]
            values[score["model"]] = rows
    if not values:
        return
    top = max(values, key=lambda title: values[title].mean())
    for score in scores:
        if score["model"] in values:
            score |= folded(values[score["model"]], values[top], fold, score["model"] == top)


def folded(rows: np.ndarray, best: np.ndarray, fold: np.ndarray, is_best: bool) -> Record:
    gap = beside(rows, best)
    parts = [beside(rows[fold == number], best[fold == number]).difference for number in range(int(fold.max()) + 1)]
    means = np.array(parts) if np.isfinite(parts).all() else np.full(len(parts), np.nan)
    return {
        "cross_validated": float(rows.mean()), "cross_validated_se": beside(rows, np.zeros_like(rows)).standard_error,
        "cross_validated_difference": 0.0 if is_best else gap.difference,
        "cross_validated_difference_se": 0.0 if is_best else gap.standard_error,
        "cross_validated_folds_se": 0.0 if is_best else float(means.std(ddof=1) / np.sqrt(len(means))),
    }  # fmt: skip


def other_of(entry: Entry, results: Mapping[tuple[str, str], Result], left_out: Mapping[str, str]) -> Record:
    """A model without a place, and why."""
    own = [result for key, result in results.items() if key[0] == entry.title]
    scored = [result for result in own if result.done]
    last: Record = scored[-1].record if scored else {}
    ended = next((result.record for result in own if not result.done), None)
    if ended is not None:
        status, why = ended["status"], f"{ended['status']} at {ended['stage']}: {ended['message']}"
    elif entry.title in left_out:
        status, why = "left out", f"left out at {left_out[entry.title]}"
    else:
        status, why = "stopped", "the time was over before it began"
    if last:
        bound = ", a lower bound: it may be better" if last["kind"] == "lower_bound" else ""
        bound += ", by weights that cannot be trusted: it may be better" if is_open(last) and not bound else ""
        mark = MARKS.get(last["kind"], "")
        bound += ", cut short by the time" if last["cut"] else ""
        why += f" ({last['stage']}: {mark}{last['mean']:.3f} nats a row of {last['scored']} validation rows{bound})"
    kept: Record = {
        key: last[key] for key in ("kind", "trusted", "mean", "se", "rows", "stage", "seconds", "cut") if key in last
    }
    return {"model": entry.title, "name": entry.model, "status": status, **kept, "why": why}


def notes(scores: Sequence[Record], others: Sequence[Record], weighted: bool) -> list[str]:
    """What a reader has to know before believing the order."""
    found = order_notes(scores)
    halved = [other["model"] for other in others if other["status"] == "left out" and is_open(other)]
    if halved:
        found.append(f"Left out by a number that is a bound, and perhaps better than that: {', '.join(halved)}.")
    if weighted:
        found.append("Rows count by their weights in the fits, and alike in the scores.")
    kinds = {score["marginal"] for score in scores if "marginal" in score}
    if "bic" in kinds:
        found.append("Log marginal: of the training rows, minus half the BIC (Schwarz, 1978).")
    if "laplace" in kinds:
        found.append("Log marginal: of the training rows, by Laplace's approximation at the mode.")
    cut = [f"{score['model']} (after {score['steps']} steps)" for score in scores if score["cut"]]
    if cut:
        found.append(f"Cut short by the time, and perhaps better with more: {', '.join(cut)}.")
    cut = [other["model"] for other in others if other.get("cut")]
    if cut:
        found.append(f"Left out with a fit that the time had cut short: {', '.join(cut)}.")
    unsettled = [score["model"] for score in scores if not (score["converged"] or score["cut"])]
    if unsettled:
        found.append(f"Not converged within their steps: {', '.join(unsettled)}.")
    return found
