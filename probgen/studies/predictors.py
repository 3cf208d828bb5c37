"""One cell of a prediction study: every method learns from the same rows, is chosen among by the same folds, and tells of the same test rows."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import stats

from probgen.data.table import Table
from probgen.errors import CapabilityError, FitError, ProbgenError
from probgen.inference.runtime import seed_of
from probgen.program import accepted_options, find
from probgen.queries import class_probabilities, fit
from probgen.queries.class_conditional import class_conditional
from probgen.queries.ensemble import learnt_weights
from probgen.studies.baselines import Baseline, Inputs
from probgen.studies.prediction_scores import Answer, Forecast, log_scores, mixed_answers, taken

__all__ = ["Cell", "Tried", "default_candidates", "judged_baseline", "judged_model", "shares_alone", "stacked"]

MOSTLY = 0.5  # share of discrete columns from which on a network of them is among the candidates


@dataclass(frozen=True, eq=False)
class Cell:
    """Rows to learn from and to be tested on.

    Attributes:
        table: all rows, with holes in the features.
        target: the column to be told.
        learn: places of the rows with a label.
        extra: places of rows that are learnt from without one.
        test: places.
        folds: parts of ``learn`` for cross-validation.
        draws: of a number.
        seed: of everything.
    """

    table: Table
    target: str
    learn: np.ndarray
    extra: np.ndarray
    test: np.ndarray
    folds: int
    draws: int
    seed: int

    @cached_property
    def label(self) -> np.ndarray:
        """``(N,)`` true values or codes."""
        return self.table.values[:, self.table.schema.index(self.target)]

    @cached_property
    def levels(self) -> int:
        """How many, 0 for numbers."""
        return self.table.schema[self.target].cardinality

    @cached_property
    def inputs(self) -> Inputs:
        """Of the baselines; holes are filled by what rows without a label say, too."""
        learnt = np.sort(np.r_[self.learn, self.extra])
        return Inputs(self.table, self.target, learnt, seed_of(self.seed, "imputer"))

    @cached_property
    def parts(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(learnt from, left out) of every fold, the levels spread evenly."""
        order = np.random.default_rng(seed_of(self.seed, "folds")).permutation(self.learn)
        if self.levels:
            order = order[np.argsort(self.label[order], kind="stable")]
        fold = np.arange(len(order)) % self.folds
        return [(order[fold != number], order[fold == number]) for number in range(self.folds)]

    @property
    def left_out(self) -> np.ndarray:
        """Places of the rows in the order of the folds."""
        return np.concatenate([out for _, out in self.parts])


@dataclass(frozen=True, eq=False)
class Tried:
    """What a method has to say.

    Attributes:
        name, family: of the method.
        held_out: ``(n,)`` log density of the target of the rows learnt from, each by what had not seen it; in the order of the folds.
        answer: about the test rows.
        setting: that was chosen.
    """

    name: str
    family: str
    held_out: np.ndarray
    answer: Answer
    setting: dict[str, Any]


# ------------------------------------------------------------------------------------------------------- generative
def default_candidates(table: Table, target: str) -> dict[str, dict[str, Any]]:
    """Models that are fitted in about a second: joint ones with the target hidden, and, of levels, one density a class."""
    column = table.schema[target]
    names: dict[str, dict[str, Any]] = {
        "gaussian_mixture": {"components": 6, "restarts": 1},
        "gaussian_copula": {"components": 3, "restarts": 1},
    }
    if column.is_discrete:
        names["naive_bayes"] = {}
        names["gaussian by class"] = {"model": "gaussian_mixture", "by_class": True, "components": 1, "shared": 5.0}
        names["latent_class by class"] = {
            "model": "latent_class", "by_class": True, "components": 3, "shared": 5.0, "restarts": 1,
        }  # fmt: skip
    else:
        names["latent_class"] = {"components": 8, "restarts": 1}
        names["gaussian"] = {"model": "gaussian_mixture", "components": 1}
    if np.mean([one.is_discrete for one in table.schema]) >= MOSTLY:
        names["bayesian_network"] = {}
    kinds = {one.kind for one in table.schema}
    return {name: own for name, own in names.items() if kinds <= set(find(own.get("model", name)).traits.kinds)}


def judged_model(cell: Cell, name: str, options: Mapping[str, Any]) -> Tried:
    """A model's answers by what has not seen a fold, and by what has seen them all."""
    out = [model_answer(cell, name, options, learn, ask) for learn, ask in cell.parts]
    held_out = log_scores(taken(out), cell.label[cell.left_out])
    return Tried(name, "generative", held_out, model_answer(cell, name, options, cell.learn, cell.test), {})


def model_answer(cell: Cell, name: str, options: Mapping[str, Any], learn: np.ndarray, ask: np.ndarray) -> Answer:
    """Fit to some rows, ask about others with the target hidden."""
    own = {"seed": seed_of(cell.seed, name) % 2**31, "progress": False, **options}
    model, by_class = own.pop("model", name), own.pop("by_class", False)
    rows = cell.table.take(np.r_[learn, cell.extra])
    values = rows.values.copy()
    values[len(learn) :, rows.schema.index(cell.target)] = np.nan
    rows = rows.with_values(values)
    rows = rows.take(rows.known.any(1))
    left = silent(rows, cell.target)
    rows, asked = rows.drop(left), cell.table.take(ask).drop(left)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # told by diagnostics
        if by_class:
            made: Any = class_conditional(model, rows, cell.target, **own)
        else:
            if "target" in accepted_options(find(model) if isinstance(model, str) else model):
                own.setdefault("target", cell.target)
            made = fit(model, rows, **own)
        if cell.levels:
            return class_probabilities(made, asked.hide(cell.target), cell.target)
        return forecast(made, asked, cell)


def forecast(made: Any, asked: Table, cell: Cell) -> Forecast:
    """Draws of a hidden number, and the conditional density of what it was."""
    hidden, place = asked.hide(cell.target), asked.schema.index(cell.target)
    drawn = np.stack(
        [t.values[:, place] for t in made.fill(hidden, cell.draws, seed=seed_of(cell.seed, "draws") % 2**31)]
    )
    density = np.asarray(made.log_prob(asked)) - np.asarray(made.log_prob(hidden))
    return Forecast(drawn.mean(0), drawn, density)


def silent(rows: Table, target: str) -> list[str]:
    """Features without a known cell, and numbers that never vary: nothing can be learnt from them."""
    found = []
    for at, column in enumerate(rows.schema):
        known = rows.values[rows.known[:, at], at]
        if column.name != target and (not len(known) or (not column.is_discrete and (known == known[0]).all())):
            found.append(column.name)
    return found


# --------------------------------------------------------------------------------------------------- discriminative
def judged_baseline(cell: Cell, name: str, baseline: Baseline) -> Tried:
    """The setting with the best held-out score of a baseline, and its answer about the test rows."""
    truth, best = cell.label[cell.left_out], None
    seed = seed_of(cell.seed, name)
    for setting in baseline.settings:
        out = [told(cell, baseline, learn, ask, setting, seed) for learn, ask in cell.parts]
        spread = 0.0 if cell.levels else float(np.sqrt(np.mean((np.concatenate(out) - truth) ** 2)))
        scores = log_scores(answer_of(np.concatenate(out), truth, spread, cell), truth)
        if best is None or scores.mean() > best[0].mean():
            best = scores, setting, spread
    assert best is not None
    found = told(cell, baseline, cell.learn, cell.test, best[1], seed)
    answer = answer_of(found, cell.label[cell.test], best[2], cell)
    return Tried(name, "discriminative", best[0], answer, dict(best[1]))


def told(cell: Cell, baseline: Baseline, learn: np.ndarray, ask: np.ndarray, setting: dict, seed: int) -> np.ndarray:
    """Probabilities, or predicted numbers."""
    if cell.levels:
        return baseline.probabilities(cell.inputs, cell.label, cell.levels, learn, ask, setting, seed)
    return baseline.numbers(cell.inputs, cell.label, learn, ask, setting, seed)


def answer_of(found: np.ndarray, truth: np.ndarray, spread: float, cell: Cell) -> Answer:
    """Probabilities as they are; around a number, a normal distribution with the spread of the rows that were left out."""
    if cell.levels:
        return found
    noise = np.random.default_rng(seed_of(cell.seed, "noise")).normal(size=(cell.draws, len(found)))
    return Forecast(found, found + spread * noise, stats.norm.logpdf(truth, found, spread))


# ------------------------------------------------------------------------------------------------------------ both
def shares_alone(cell: Cell) -> Tried:
    """What the labels alone say: shares of the levels, one row more each, or a normal distribution."""
    y = cell.label[cell.learn]
    if cell.levels:
        counts = np.bincount(y.astype(int), minlength=cell.levels) + 1.0
        answers: list[Answer] = [np.tile(counts / counts.sum(), (n, 1)) for n in (len(cell.learn), len(cell.test))]
    else:
        places = (cell.left_out, cell.test)
        answers = [answer_of(np.full(len(at), y.mean()), cell.label[at], float(y.std()), cell) for at in places]
    return Tried("labels alone", "none", log_scores(answers[0], cell.label[cell.left_out]), answers[1], {})


def stacked(tried: Sequence[Tried], alone: Tried) -> list[Tried]:
    """Of one family: the method with the best held-out score, and all of them weighted so that this is as high as can be (Wolpert, 1992).

    What the labels alone say is among those that are weighted.
    """
    family = tried[0].family
    best = max(tried, key=lambda one: one.held_out.mean())
    both = [*tried, alone]
    weights = learnt_weights(np.stack([one.held_out for one in both]))
    mixture = mixed_answers([one.answer for one in both], weights)
    scores = np.stack([one.held_out for one in both]).T
    told = dict(zip([one.name for one in both], weights.round(4).tolist(), strict=True))
    return [
        Tried(f"{family}, chosen", family, best.held_out, best.answer, {"chosen": best.name}),
        Tried(f"{family}, stacked", family, np.log(np.exp(scores) @ weights), mixture, told),
    ]


def attempted(cell: Cell, name: str, options: Mapping[str, Any]) -> Tried | str:
    """A model's answers, or why there are none; what cannot be asked for at all is raised."""
    try:
        found = judged_model(cell, name, options)
    except CapabilityError:
        raise
    except (ProbgenError, RuntimeError) as error:  # RuntimeError: a matrix that cannot be decomposed
        return str(error)
    if not np.isfinite(found.held_out).all():
        return str(FitError("held-out log densities are not finite"))
    return found
