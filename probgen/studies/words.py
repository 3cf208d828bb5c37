"""A study in sentences. Model and column names stand between double asterisks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from probgen.studies.classification import CLASS_SHARES
from probgen.studies.imputation import BASELINE

if TYPE_CHECKING:
    from probgen.studies.classification import ClassificationStudy
    from probgen.studies.density import DensityStudy
    from probgen.studies.imputation import ImputationStudy
    from probgen.studies.main_study import Study
    from probgen.studies.representation import RepresentationStudy

__all__ = ["caveats", "number", "percent", "summary"]


def summary(study: Study) -> list[str]:
    """What was found, one paragraph a question."""
    found = [density_words(study.density)]
    if study.imputation is not None:
        found.append(imputation_words(study.imputation))
    if study.classification is not None:
        found.append(classification_words(study.classification))
    if study.prediction is not None:
        found.append(prediction_words(study.prediction, study.target or ""))
    if study.representation is not None and study.representation.scores:
        found.append(representation_words(study.representation))
    return found


# ---------------------------------------------------------------------------------------- findings
def density_words(density: DensityStudy) -> str:
    """Which model describes the table best, by how much, and whether that is noise."""
    best, *others = density.scores
    rows = len(density.test)
    first = (
        f"**{best.model}** describes the table best: {number(best.mean)} nats a row (± {number(best.se)}) on"
        f" {counted(rows, 'held-out row')}"
    )
    if not others:
        return first + "; there is no other model to compare it with."
    ties = [s for s in others if not s.difference.decided]
    behind = [s for s in others if s.difference.decided]
    parts = []
    if ties:
        parts.append(f"{listed([s.model for s in ties])} {are(ties)} within noise of it ({margin(ties[0])})")
    if behind:
        more = "the others are" if ties else "all others are"
        near = behind[0]
        if len(behind) == 1:
            parts.append(f"**{near.model}** is behind by {margin(near)}")
        else:
            parts.append(f"{more} behind, the nearest, **{near.model}**, by {margin(near)}")
    return f"{first}; {', and '.join(parts)}."


def margin(score: object) -> str:
    """A paired difference as a distance."""
    d = score.difference  # type: ignore[attr-defined]
    return f"{number(abs(d.mean))} ± {number(d.se)} nats a row, paired"


def imputation_words(found: ImputationStudy) -> str:
    """How well holes are filled, against the column by itself."""
    best, base = found.score(found.best), found.score(BASELINE)
    parts = []
    if np.isfinite(best.crps):
        parts.append(
            f"**{best.model}** misses hidden numbers by {number(best.rmse)} standard deviations (root mean square;"
            f" {number(base.rmse)} for the column's mean) and lowers their CRPS by {percent(-best.crps_gain.mean / base.crps)}"
            f" {verdict(best.crps_gain.decided)}; its 90 % intervals hold {percent(best.coverage[0.9])} of the truths"
        )
    if np.isfinite(best.log_loss):
        who = "it" if parts else f"**{best.model}**"
        parts.append(
            f"{who} guesses {percent(best.accuracy)} of hidden labels ({percent(base.accuracy)} for the commonest label;"
            f" log loss {number(best.log_loss)} against {number(base.log_loss)} nats"
            f"{'' if best.log_loss_gain.decided else ', within noise'})"
        )
    better = (
        min(
            best.crps_gain.mean if np.isfinite(best.crps) else np.inf,
            best.log_loss_gain.mean if np.isfinite(best.log_loss) else np.inf,
        )
        < 0
    )
    opening = "Holes" if better else "No model fills holes better than the columns by themselves. Still, for holes"
    return f"{opening} ({percent(found.fraction)} of the known cells, hidden for this): {'; '.join(parts)}."


def verdict(decided: bool) -> str:
    """Whether a difference is more than noise."""
    return "against drawing from the column" if decided else "against drawing from the column, which is within noise"


def classification_words(found: ClassificationStudy) -> str:
    """How well the target is told, and whether the probabilities mean what they say."""
    best = found.score(found.best)
    base = next((s for s in found.scores if s.model == CLASS_SHARES), None)
    against = "" if base is None else f" ({percent(base.accuracy)} for always saying the commonest)"
    near = [s for s in found.scores if s.model not in (best.model, CLASS_SHARES) and not s.difference.decided]
    ties = f" {listed([s.model for s in near])} {are(near)} within noise of it." if near else ""
    return (
        f"**{best.model}** tells **{found.target}** right in {percent(best.accuracy)} (± {percent(best.accuracy_se)}) of"
        f" {counted(len(found.truth), 'held-out row')}{against}; log loss {number(best.log_loss)} nats."
        f" {calibration_words(best.ece, best.ece_if_calibrated)}{ties}"
    )


def calibration_words(ece: float, chance: float) -> str:
    """A calibration error against what chance alone makes of perfect probabilities."""
    if ece <= max(1.5 * chance, 0.01):
        return f"Its probabilities can be taken at their word (calibration error {number(ece)}, chance alone gives {number(chance)})."
    return f"Its probabilities are off by {number(ece)} on average, where chance alone gives {number(chance)}."


def prediction_words(found: ImputationStudy, target: str) -> str:
    """How well a numeric target is predicted."""
    best, base = found.score(found.best), found.score(BASELINE)
    return (
        f"**{best.model}** predicts **{target}** in held-out rows to {number(best.rmse)} standard deviations (root mean"
        f" square; {number(base.rmse)} for the mean); its 90 % intervals hold {percent(best.coverage[0.9])} of the truths."
    )


def representation_words(found: RepresentationStudy) -> str:
    """What the embedding holds of the target."""
    best = found.scores[0]
    first = (
        f"**{best.model}** places each row by {counted(best.size, 'coordinate')}; a plane holds"
        f" {percent(best.explained)} of their variance"
    )
    if not np.isfinite(best.linear):
        return first + "."
    return (
        f"{first}. With **{found.target}** hidden, a linear probe finds it there in {percent(best.linear)} of"
        f" {counted(found.probed, 'row')} ({percent(found.majority)} by the commonest)."
    )


# ----------------------------------------------------------------------------------------- caveats
def caveats(study: Study) -> list[str]:
    """What a careful reader should know."""
    return [
        *study.notes,
        *kind_caveats(study.density),
        *row_caveats(study.density),
        *column_caveats(study),
        *fit_caveats(study),
        *failure_caveats(study),
    ]


def kind_caveats(density: DensityStudy) -> list[str]:
    """Numbers that are not exact."""
    found = []
    for s in density.scores:
        if s.kind == "lower_bound":
            found.append(f"The log density of **{s.model}** is a lower bound; the true value is higher.")
        elif s.kind != "exact":
            how = {"importance": "by importance sampling", "annealed": "by annealing", "ode": "by solving an ODE"}[
                s.kind
            ]
            error = f" with a Monte-Carlo error of {number(s.monte_carlo_se)} nats a row" if s.monte_carlo_se else ""
            found.append(f"The log density of **{s.model}** is estimated {how}{error}; such estimates err downwards.")
    return found


def row_caveats(density: DensityStudy) -> list[str]:
    """Few rows, few known cells, impossible rows, and the choice among models."""
    found = []
    if len(density.test) < 50:
        found.append(
            f"Only {counted(len(density.test), 'row')} held out: differences are uncertain and so are their errors."
        )
    sparse = int((density.test.known.mean(1) < 0.5).sum())
    if sparse:
        found.append(
            f"{counted(sparse, 'held-out row')} {'have' if sparse > 1 else 'has'} fewer than half of the cells known; a row"
            " is scored by its known cells alone, so its log density is not comparable with a full row's."
        )
    for s in density.scores:
        if s.impossible:
            found.append(
                f"**{s.model}** gives no density at all to {counted(s.impossible, 'held-out row')}; its mean is minus infinity."
            )
    if len(density.scores) > 1:
        found.append(
            "The best model was picked by the same held-out rows that give its score, which flatters it a little."
        )
    return found


def column_caveats(study: Study) -> list[str]:
    """Continuous columns with heaps, where a density can grow without bound."""
    heaped = []
    for place, column in enumerate(study.table.schema):
        if column.kind in ("real", "positive", "bounded"):
            known = study.table.values[study.table.known[:, place], place]
            if np.unique(known, return_counts=True)[1].max() > 0.1 * len(known):
                heaped.append(column.name)
    if not heaped:
        return []
    return [
        f"More than a tenth of {listed(heaped)} sits on one value. A continuous density can be made as high as one likes"
        " there; consider another kind for such a column."
    ]


def fit_caveats(study: Study) -> list[str]:
    """First looks, and fits that had not settled."""
    found = ["This is a first look: fewer steps and restarts than a full study."] if study.fast else []
    loose = [
        name for name, fit in study.density.fits.items() if getattr(fit, "diagnostics", {}).get("converged") is False
    ]
    if loose:
        found.append(f"{listed(loose)} had not converged when fitting ended; more steps may help.")
    return found


def failure_caveats(study: Study) -> list[str]:
    """Models that are missing from a part."""
    return [f"**{model}** is missing from {part}: {why}" for part, model, why in study.failures]


# ------------------------------------------------------------------------------------------- words
def number(x: float) -> str:
    """A few significant digits, with a real minus sign.

    Example:
        >>> number(-1234.5), number(0.01234), number(17.2184), number(float("-inf")), number(float("nan"))
        ('−1234', '0.012', '17.22', '−∞', '–')
    """
    if np.isnan(x):
        return "–"
    if np.isinf(x):
        return "∞" if x > 0 else "−∞"
    size = abs(x)
    if size >= 1e5 or 0 < size < 1e-4:
        text = f"{size:.1e}"
    else:
        text = f"{size:.{0 if size >= 100 else 2 if size >= 0.1 else 3 if size >= 0.01 else 4}f}"
    return ("−" if x < 0 and float(text) else "") + text


def percent(x: float) -> str:
    """A share.

    Example:
        >>> percent(0.8766), percent(0.0042)
        ('88 %', '0.4 %')
    """
    if np.isnan(x):
        return "–"
    digits = 1 if abs(x) < 0.1 and round(100 * x) != 100 * x else 0
    return f"{100 * x:.{digits}f} %".replace("-", "−")


def counted(n: int, what: str) -> str:
    """A number of things."""
    return f"{n} {what}{'' if n == 1 else 's'}"


def listed(names: list[str]) -> str:
    """Names in a sentence.

    Example:
        >>> listed(["a", "b", "c"])
        '**a**, **b** and **c**'
    """
    marked = [f"**{name}**" for name in names]
    return marked[0] if len(marked) == 1 else f"{', '.join(marked[:-1])} and {marked[-1]}"


def are(things: list) -> str:
    """The verb that goes with so many."""
    return "is" if len(things) == 1 else "are"
