"""One cell of a prediction study: every method learns from the same rows, is chosen among by the same folds, and tells of the same test rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import optimize, stats

from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError, FitError, ProbgenError
from probgen.inference.runtime import seed_of
from probgen.program import accepted_options, find
from probgen.queries import class_probabilities, fit
from probgen.queries.class_fitting import class_conditional
from probgen.queries.ensemble import learnt_weights
from probgen.studies.baselines import Baseline, Inputs
from probgen.studies.prediction_scores import Answer, Forecast, log_scores, mixed_answers, taken

__all__ = [
    "Cell", "Tried", "attempted", "default_candidates", "judged_baseline", "judged_model", "shares_alone", "stacked", "tempered",
]  # fmt: skip

QUICK = {"max_steps": 40, "tolerance": 1e-4}  # of EM: what comes later changes log densities of targets by thousandths
MOSTLY = 0.5
POWERS = (0.0, 4.0)  # of likelihood ratios
LEAST = 1e-12  # probability whose logarithm is taken


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
        return Inputs(self.table, self.target, self.extra, seed_of(self.seed, "imputer"))

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
        out: answers about the rows learnt from, each by what had not seen it; in the order of the folds.
        answer: about the test rows.
        setting: that was chosen.
        raw: the answer before its likelihood ratios were raised to a power; None where they were not.
    """

    name: str
    family: str
    out: Answer
    answer: Answer
    setting: dict[str, Any]
    raw: Answer | None = None

    def held_out(self, cell: Cell) -> np.ndarray:
        """``(n,)`` log density of the target."""
        return log_scores(self.out, cell.label[cell.left_out])


# ------------------------------------------------------------------------------------------------------- generative
def default_candidates(table: Table, target: str) -> dict[str, dict[str, Any]]:
    """Models that are fitted in about a second: joint ones with the target hidden, and, of levels, one density a class."""
    column, wide = table.schema[target], {"restarts": 1, **QUICK}
    names: dict[str, dict[str, Any]] = {"gaussian_mixture": {"components": 6, **wide}}
    if np.mean([one.is_continuous for one in table.schema]) >= MOSTLY:  # which is what these two couple
        names["gaussian_copula"] = {"components": 3, **wide}
        names["gaussian_mixture, tied"] = {"model": "gaussian_mixture", "components": 6, "covariance": "tied", **wide}
    if column.is_discrete:
        own = {"by_class": True, "shared": 0.1}
        names["naive_bayes"] = {}
        names["gaussian by class"] = {"model": "gaussian_mixture", "components": 1, **own, **wide}
        names["tree by class"] = {"model": "chow_liu_mixture", "components": 1, **own, **wide, "max_steps": 10}
    else:
        names["gaussian"] = {"model": "gaussian_mixture", "components": 1, **wide}
        names["latent_class"] = {"components": 8, **wide}
    kinds = {one.kind for one in table.schema}
    return {name: own for name, own in names.items() if kinds <= set(find(own.get("model", name)).traits.kinds)}


def judged_model(cell: Cell, name: str, options: Mapping[str, Any]) -> Tried:
    """A model's answers by what has not seen a fold, and by what has seen them all."""
    out = taken([model_answer(cell, name, options, learn, ask) for learn, ask in cell.parts])
    return Tried(name, "generative", out, model_answer(cell, name, options, cell.learn, cell.test), {})


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
    if len(left) == rows.n_columns - 1:
        raise DataError(f"None of the features has cells in the {len(rows)} rows that something can be learnt from.")
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
    truth, seed = cell.label[cell.left_out], seed_of(cell.seed, name)
    tried = []
    for setting in baseline.settings:
        found = np.concatenate([told(cell, baseline, learn, ask, setting, seed) for learn, ask in cell.parts])
        spread = 0.0 if cell.levels else float(np.sqrt(np.mean((found - truth) ** 2)))
        tried.append((answer_of(found, truth, spread, cell), setting, spread))
    out, setting, spread = max(tried, key=lambda one: log_scores(one[0], truth).mean())
    found = told(cell, baseline, cell.learn, cell.test, setting, seed)
    answer = answer_of(found, cell.label[cell.test], spread, cell)
    return Tried(name, "discriminative", out, answer, dict(setting))


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
def shares_of(cell: Cell) -> np.ndarray:
    """``(L,)``: of the levels among the rows learnt from, one row more each."""
    counts = np.bincount(cell.label[cell.learn].astype(int), minlength=cell.levels) + 1.0
    return counts / counts.sum()


def shares_alone(cell: Cell) -> Tried:
    """What the labels alone say: shares of the levels, or a normal distribution."""
    places = (cell.left_out, cell.test)
    if cell.levels:
        answers: list[Answer] = [np.tile(shares_of(cell), (len(at), 1)) for at in places]
    else:
        y = cell.label[cell.learn]
        answers = [answer_of(np.full(len(at), y.mean()), cell.label[at], float(y.std()), cell) for at in places]
    return Tried("labels alone", "none", answers[0], answers[1], {})


def tempered(cell: Cell, tried: Tried) -> Tried:
    """The answers with their likelihood ratios raised to the power under which the rows that were left out are likeliest; numbers as they are.

    One row more has every label by its share (as in Platt, 1999): where few rows are all told right, no power would be high enough.
    """
    if isinstance(tried.out, Forecast) or isinstance(tried.answer, Forecast):
        return tried
    shares, truth, out = shares_of(cell), cell.label[cell.left_out], tried.out

    def loss(power: float) -> float:
        told = to_the_power(out, shares, power)
        return -log_scores(told, truth).sum() - (np.log(np.maximum(told, LEAST)) @ shares).mean()

    power = float(optimize.minimize_scalar(loss, bounds=POWERS, method="bounded").x)
    out, answer = (to_the_power(p, shares, power) for p in (tried.out, tried.answer))
    return Tried(tried.name, tried.family, out, answer, {**tried.setting, "power": round(power, 3)}, tried.answer)


def to_the_power(probabilities: np.ndarray, shares: np.ndarray, power: float) -> np.ndarray:
    r"""Probabilities proportional to :math:`\pi_k (p_k / \pi_k)^t`, the likelihoods under them to the power t (Raina et al., 2003).

    With t = 0 the shares alone are left, with 1 nothing changes; for equal shares it is temperature scaling (Guo et al., 2017).

    Example:
        >>> to_the_power(np.array([[0.9, 0.1]]), np.array([0.5, 0.5]), 0.5).round(2).tolist()
        [[0.75, 0.25]]
    """
    joint = np.log(shares) + power * (np.log(np.maximum(probabilities, LEAST)) - np.log(shares))
    found = np.exp(joint - joint.max(1, keepdims=True))
    return found / found.sum(1, keepdims=True)


def stacked(cell: Cell, tried: Sequence[Tried], alone: Tried) -> list[Tried]:
    """Of one family: the method with the best held-out score, and all of them weighted so that this is as high as can be (Wolpert, 1992).

    What the labels alone say is among those that are weighted. A weighted mean of calibrated distributions is not confident enough (Ranjan and Gneiting, 2010), so that its
    likelihood ratios are raised to a power in turn.
    """
    family = tried[0].family
    best = max(tried, key=lambda one: one.held_out(cell).mean())
    both = [*tried, alone]
    weights = learnt_weights(np.stack([one.held_out(cell) for one in both]))
    out, answer = (mixed_answers([getattr(one, part) for one in both], weights) for part in ("out", "answer"))
    told = dict(zip([one.name for one in both], weights.round(4).tolist(), strict=True))
    return [
        Tried(f"{family}, chosen", family, best.out, best.answer, {"chosen": best.name}, best.raw),
        tempered(cell, Tried(f"{family}, stacked", family, out, answer, told)),
    ]


def attempted(cell: Cell, judged: Callable[[], Tried]) -> Tried | str:
    """A method's answers, or why there are none; what cannot be asked for at all is raised."""
    try:
        found = judged()
    except CapabilityError:
        raise
    except (ProbgenError, RuntimeError, ValueError) as error:  # matrices without a root; what scikit-learn refuses
        return str(error)
    if not np.isfinite(found.held_out(cell)).all():
        return str(FitError("held-out log densities are not finite"))
    return found
