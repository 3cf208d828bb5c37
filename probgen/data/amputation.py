"""Holes made on purpose by patterns of columns, as mice's ``ampute`` makes them (Schouten, Lugtig and Vink, 2018)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit

from probgen.data.schema import Schema
from probgen.data.table import Table
from probgen.errors import DataError, DataWarning

__all__ = ["ampute_patterns", "check_proportion", "logistic_shift", "scaled"]

MECHANISMS = ("mcar", "mar", "mnar")
SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "right": lambda score: score,
    "left": lambda score: -score,
    "mid": lambda score: 0.75 - np.abs(score),
    "tail": lambda score: np.abs(score) - 0.75,
}
Curve = Callable[[np.ndarray, float, np.ndarray], np.ndarray]  # scores, share to be hidden, sizes -> probabilities


def ampute_patterns(
    table: Table,
    proportion: float = 0.5,
    *,
    patterns: Sequence[Iterable[str]] | np.ndarray | None = None,
    frequencies: Sequence[float] | None = None,
    mechanism: str = "mar",
    weights: Sequence[Mapping[str, Any]] | np.ndarray | None = None,
    kind: str | Sequence[str] = "right",
    odds: Sequence[Any] | None = None,
    by_cases: bool = True,
    standardise: bool = True,
    seed: int = 0,
) -> tuple[Table, np.ndarray]:
    r"""Hide columns together: each row is candidate for one pattern, and loses its columns with a probability.

    .. math:: P(\text{row } i \text{ loses pattern } p) = \operatorname{logit}^{-1}\bigl(g(s_{ip}) + b_p\bigr),\qquad
        s_{ip} = \operatorname{scale}\Bigl(\sum_d w_{pd} \operatorname{scale}(x_{id})\Bigr)

    over the candidates of p, with g(s) = s (right), -s (left), .75 - \|s\| (mid) or \|s\| - .75 (tail), and the shift
    b that makes the expected proportion exact. Unknown cells count as 0 in the weighted sum. A row is candidate only
    for patterns that take some of its known cells and leave others.

    Args:
        table: two columns or more, which may have holes already.
        proportion: of the rows that lose cells, or of the known cells (``by_cases=False``).
        patterns: sets of column names (a text is one), or 0/1 ``(P, D)`` with 0 = hidden; one a column if None.
        frequencies: ``(P,)`` of the candidates, summing to 1; equal where it is None.
        mechanism: "mcar", "mar" (by columns that the pattern leaves) or "mnar" (by those that it hides).
        weights: of each pattern, by column name, or ``(P, D)``; categorical columns take ``{level: number}``, added
            as it is. None: 1 for all columns that the mechanism may use, 0 for categorical ones.
        kind: "right", "left", "mid" or "tail", for all patterns or for each.
        odds: instead of the logistic curve, relative probabilities of equal groups by score, lowest first.
        by_cases: whether the proportion is one of rows or of cells.
        standardise: columns before they are summed.
        seed: of the random numbers.

    Returns:
        The table with holes, its weights kept, and the mask ``(N, D)`` of the cells that were hidden.

    Example:
        >>> table = Table({"a": np.arange(9.0), "b": np.arange(9.0) ** 2, "c": np.arange(9.0) % 4})
        >>> hidden = ampute_patterns(table, patterns=[("a", "b")], seed=3)[1]
        >>> hidden.sum(0).tolist()
        [5, 5, 0]
    """
    check_proportion(proportion)
    check_mechanism(mechanism, weights, kind, odds)
    hides = hidden_columns(table.schema, patterns)
    shares = pattern_shares(frequencies, len(hides))
    effects = None if mechanism == "mcar" else effects_of(table.schema, hides, mechanism, weights)
    curves = curves_of(kind, odds, len(hides))
    rng = np.random.default_rng(seed)
    candidate = draw_candidates(table.known, hides, shares, rng)
    lost = np.vstack([hides, np.zeros(table.n_columns, bool)])[candidate] & table.known
    sizes = (lost.any(1) if by_cases else lost.sum(1)).astype(float)
    share = share_of_candidates(proportion, int(table.known.any(1).sum() if by_cases else table.known.sum()), sizes)
    scores = np.zeros(table.n_rows) if effects is None else all_scores(table.values, candidate, effects, standardise)
    hidden = lost & (rng.random(table.n_rows) < probabilities(scores, candidate, curves, share, sizes))[:, None]
    return table.with_values(np.where(hidden, np.nan, table.values)), hidden


@dataclass(frozen=True)
class Effects:
    """What a pattern's weighted sum is made of.

    Attributes:
        numbers: ``(D,)`` weights of the columns that are numbers or have an order.
        levels: place of a categorical column -> one weight a level.
    """

    numbers: np.ndarray
    levels: dict[int, np.ndarray]

    @property
    def used(self) -> np.ndarray:
        """``(D,)``: which columns carry weight."""
        found = self.numbers != 0
        found[[place for place, weights in self.levels.items() if weights.any()]] = True
        return found


# -- what was asked --------------------------------------------------------------------------------------------------
def check_proportion(proportion: float) -> None:
    """Refuse what is no share."""
    if not 0 < proportion < 1:
        raise DataError(f"proportion must lie between 0 and 1, got {proportion}.")


def check_mechanism(mechanism: str, weights: Any, kind: Any, odds: Any) -> None:
    if mechanism not in MECHANISMS:
        raise DataError(f"mechanism must be 'mcar', 'mar' or 'mnar', got {mechanism!r}.")
    shaped = not isinstance(kind, str) or kind != "right"
    if mechanism == "mcar" and (weights is not None or odds is not None or shaped):
        raise DataError("mechanism 'mcar' looks at no column: leave weights, odds and kind out, or ask for 'mar'.")
    if odds is not None and shaped:
        raise DataError("kind is the shape of the logistic curve and odds replace that curve; give one of them.")


def hidden_columns(schema: Schema, patterns: Sequence[Iterable[str]] | np.ndarray | None) -> np.ndarray:
    """``(P, D)``: the columns that each pattern hides."""
    if patterns is None:
        hides = np.eye(len(schema), dtype=bool)
    elif isinstance(patterns, np.ndarray):
        hides = matrix_of_patterns(schema, patterns)
    else:
        hides = np.array([named_pattern(schema, pattern) for pattern in patterns], bool).reshape(-1, len(schema))
    if len(hides) == 0:
        raise DataError("patterns is empty; give at least one set of columns to be hidden.")
    for number, hide in enumerate(hides):
        if hide.all() or not hide.any():
            what = "every column" if hide.all() else "no column"
            raise DataError(f"patterns[{number}] hides {what}; a pattern must hide some columns and leave others.")
    return hides


def matrix_of_patterns(schema: Schema, patterns: np.ndarray) -> np.ndarray:
    if patterns.ndim != 2 or patterns.shape[1] != len(schema):
        raise DataError(f"patterns must have shape (patterns, {len(schema)}), got {patterns.shape}.")
    wrong = np.argwhere(~np.isin(patterns, (0, 1)))
    if len(wrong):
        row, place = (int(at) for at in wrong[0])
        found = f"column {schema.names[place]!r} has {patterns[row, place]!r}"
        raise DataError(f"patterns[{row}]: an array of patterns holds 0 (hidden) and 1 (known); {found}.")
    return patterns == 0


def named_pattern(schema: Schema, pattern: Iterable[str]) -> np.ndarray:
    """``(D,)`` of column names; a text is one name."""
    hide = np.zeros(len(schema), bool)
    hide[[schema.index(name) for name in ([pattern] if isinstance(pattern, str) else pattern)]] = True
    return hide


def pattern_shares(frequencies: Sequence[float] | None, patterns: int) -> np.ndarray:
    if frequencies is None:
        return np.full(patterns, 1.0 / patterns)
    found = np.asarray(frequencies, float)
    if found.shape != (patterns,):
        raise DataError(f"There are {patterns} patterns and {found.size} frequencies; give one a pattern.")
    if not (found >= 0).all() or abs(found.sum() - 1) > 1e-8:
        raise DataError(f"frequencies must not be negative and must sum to 1, got {found.tolist()}.")
    return found


def curves_of(kind: str | Sequence[str], odds: Sequence[Any] | None, patterns: int) -> list[Curve]:
    """How the probability of each pattern follows its scores."""
    if odds is not None:
        return [partial(odds_curve, check_odds(each)) for each in odds_of_patterns(odds, patterns)]
    kinds = [kind] * patterns if isinstance(kind, str) else list(kind)
    if len(kinds) != patterns:
        raise DataError(f"There are {patterns} patterns and {len(kinds)} kinds; give one for all, or one a pattern.")
    wrong = [each for each in kinds if each not in SHAPES]
    if wrong:
        raise DataError(f"kind must be one of {', '.join(map(repr, SHAPES))}, got {wrong[0]!r}.")
    return [partial(logistic_curve, SHAPES[each]) for each in kinds]


def odds_of_patterns(odds: Sequence[Any], patterns: int) -> list[Any]:
    if len(odds) and all(np.ndim(each) == 0 for each in odds):
        return [odds] * patterns
    if len(odds) != patterns:
        raise DataError(
            f"There are {patterns} patterns and odds of {len(odds)}; give a row for all, or one a pattern."
        )
    return list(odds)


def check_odds(odds: Any) -> np.ndarray:
    found = np.asarray(odds, float)
    if found.ndim != 1 or not (np.isfinite(found) & (found >= 0)).all() or not (found > 0).any():
        raise DataError(f"odds of a pattern must be numbers from zero up, one of them positive, got {odds!r}.")
    return found


# -- weights ---------------------------------------------------------------------------------------------------------
def effects_of(schema: Schema, hides: np.ndarray, mechanism: str, weights: Any) -> list[Effects]:
    """The weights of every pattern, checked against the mechanism."""
    allowed = ~hides if mechanism == "mar" else hides
    if weights is None:
        ordered = np.array([column.kind != "categorical" for column in schema])
        effects = [Effects((row & ordered).astype(float), {}) for row in allowed]
    elif len(weights) != len(hides):
        raise DataError(f"There are {len(hides)} patterns and weights of {len(weights)}; give weights of each.")
    else:
        effects = [read_weights(schema, number, given) for number, given in enumerate(weights)]
    for number, (effect, hide) in enumerate(zip(effects, hides, strict=True)):
        check_effects(schema, number, effect, hide, mechanism)
    return effects


def read_weights(schema: Schema, number: int, given: Any) -> Effects:
    """One pattern's weights, by name or by place."""
    if not isinstance(given, Mapping):
        if np.shape(given) != (len(schema),):
            raise DataError(f"weights[{number}] must have one number a column ({len(schema)}), got {np.size(given)}.")
        given = dict(zip(schema.names, given, strict=True))
    numbers, levels = np.zeros(len(schema)), {}
    for name, weight in given.items():
        place = schema.index(name)
        if isinstance(weight, Mapping):
            levels[place] = level_weights(schema, number, name, weight)
        else:
            numbers[place] = number_weight(schema, number, name, weight)
    return Effects(numbers, levels)


def number_weight(schema: Schema, number: int, name: str, weight: Any) -> float:
    column = schema[schema.index(name)]
    if not np.isfinite(weight):
        raise DataError(f"weights[{number}], column {name!r}: a weight must be a finite number, got {weight!r}.")
    if weight != 0 and column.kind == "categorical":
        example = ", ".join(f"{level!r}: {place}.0" for place, level in enumerate(column.levels[:2]))
        raise DataError(
            f"weights[{number}]: the levels of column {name!r} have no order, so that one weight says nothing; give"
            f" one a level, {{{name!r}: {{{example}}}}}, or zero."
        )
    return float(weight)


def level_weights(schema: Schema, number: int, name: str, weight: Mapping[Any, float]) -> np.ndarray:
    levels = schema[schema.index(name)].levels
    wrong = [level for level in weight if level not in levels]
    if wrong:
        known = ", ".join(map(repr, levels[:12])) or "none"
        raise DataError(f"weights[{number}]: column {name!r} has no level {wrong[0]!r}; its levels: {known}.")
    found = np.array([weight.get(level, 0.0) for level in levels], float)
    if not np.isfinite(found).all():
        raise DataError(f"weights[{number}], column {name!r}: weights must be finite, got {dict(weight)}.")
    return found


def check_effects(schema: Schema, number: int, effect: Effects, hide: np.ndarray, mechanism: str) -> None:
    """A pattern's weights are what its mechanism means."""
    used = effect.used
    if mechanism == "mar" and (used & hide).any():
        name = schema.names[int(np.nonzero(used & hide)[0][0])]
        raise DataError(
            f"weights[{number}]: column {name!r} is hidden by its pattern, which is not missing at random; set its"
            " weight to zero or ask for mechanism='mnar'."
        )
    if mechanism == "mnar" and used.any() and not (used & hide).any():
        raise DataError(f"weights[{number}]: no column that is hidden carries weight; ask for mechanism='mar'.")
    if not used.any():
        names = ", ".join(
            repr(n) for n, hidden in zip(schema.names, hide, strict=True) if hidden == (mechanism != "mar")
        )
        raise DataError(
            f"No column carries weight in patterns[{number}]; give weights of {names} (categorical columns take"
            " {level: number}), or ask for mechanism='mcar'."
        )


# -- candidates and probabilities ------------------------------------------------------------------------------------
def draw_candidates(known: np.ndarray, hides: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``(N,)``: the pattern for which each row is candidate, -1 where no pattern takes a part of its known cells."""
    cells = known.astype(float)
    open_to = (cells @ hides.T > 0) & (cells @ ~hides.T > 0) & (shares > 0)
    keys = np.where(open_to, np.log(np.maximum(shares, 1e-300)) + rng.gumbel(size=open_to.shape), -np.inf)
    candidate = np.where(open_to.any(1), keys.argmax(1), -1)
    for number in np.nonzero(shares > 0)[0]:
        if not (candidate == number).any():
            told(f"No row is candidate for patterns[{number}], so that it does not occur; give more rows.")
    return candidate


def share_of_candidates(proportion: float, total: int, sizes: np.ndarray) -> float:
    """The expected share of the candidates' sizes (rows or cells) that must be hidden."""
    if proportion * total >= sizes.sum():
        most = sizes.sum() / max(total, 1)
        raise DataError(
            f"The patterns can hide less than {most:.3g} of all, and proportion is {proportion}; lower it."
        )
    return proportion * total / sizes.sum()


def all_scores(values: np.ndarray, candidate: np.ndarray, effects: Sequence[Effects], standardise: bool) -> np.ndarray:
    """``(N,)``: each row's score for its own pattern."""
    scores = np.zeros(len(values))
    for number, effect in enumerate(effects):
        rows = candidate == number
        scores[rows] = weighted_sum(values[rows], effect, standardise)
        if rows.any() and not scores[rows].any():
            told(f"All candidates of patterns[{number}] have the same weighted sum: it hides completely at random.")
    return scores


def weighted_sum(values: np.ndarray, effect: Effects, standardise: bool) -> np.ndarray:
    """Standardised weighted sums ``(n,)`` of some rows."""
    numbers = scaled(values) if standardise else np.nan_to_num(values)
    total = numbers @ effect.numbers
    for place, weights in effect.levels.items():
        codes = values[:, place]
        total = total + np.where(np.isnan(codes), 0.0, weights[np.nan_to_num(codes).astype(int)])
    return scaled(total)


def scaled(x: np.ndarray) -> np.ndarray:
    """Columns with mean 0 and standard deviation 1 (divisor n - 1); unknown cells and constant columns are 0."""
    known = ~np.isnan(x)
    count = known.sum(0)
    mean = np.where(known, x, 0.0).sum(0) / np.maximum(count, 1)
    centred = np.where(known, x - mean, 0.0)
    deviation = np.sqrt((centred**2).sum(0) / np.maximum(count - 1, 1))
    varies = deviation > 1e-12 * np.abs(mean)
    return np.where(varies, centred / np.where(varies, deviation, 1.0), 0.0)


def probabilities(
    scores: np.ndarray, candidate: np.ndarray, curves: Sequence[Curve], share: float, sizes: np.ndarray
) -> np.ndarray:
    """``(N,)``: of each row to lose its pattern."""
    found = np.zeros(len(scores))
    for number, curve in enumerate(curves):
        rows = candidate == number
        if rows.any():
            found[rows] = curve(scores[rows], share, sizes[rows])
    return found


def logistic_curve(
    shape: Callable[[np.ndarray], np.ndarray], scores: np.ndarray, share: float, sizes: np.ndarray
) -> np.ndarray:
    logits = shape(scores)
    return expit(logits + logistic_shift(logits, share, sizes))


def logistic_shift(logits: np.ndarray, share: float, sizes: np.ndarray | None = None) -> float:
    """The number which, added to the logits, makes the (weighted) mean probability the share that was asked."""
    low, high = logit(share) - logits.max() - 1, logit(share) - logits.min() + 1

    def excess(shift: float) -> float:
        return float(np.average(expit(logits + shift), weights=sizes)) - share

    return float(brentq(excess, low, high, xtol=1e-12))


def odds_curve(odds: np.ndarray, scores: np.ndarray, share: float, sizes: np.ndarray) -> np.ndarray:
    """Probabilities in proportion to the odds of the quantile group in which a score lies."""
    edges = np.quantile(scores, np.arange(1, len(odds)) / len(odds))
    relative = odds[np.searchsorted(edges, scores, side="right")]
    mean = float(np.average(relative, weights=sizes))
    if mean <= 0 or share * relative.max() > mean:
        raise DataError(
            f"odds {odds.tolist()} cannot hide {share:.3g} of the candidates: a group would need a probability above"
            " 1. Lower the proportion or bring the odds closer together."
        )
    return share * relative / mean


def told(message: str) -> None:
    warnings.warn(message, DataWarning, stacklevel=4)
