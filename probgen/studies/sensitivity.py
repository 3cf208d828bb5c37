"""How far imputed cells may lie from what the model expects before a conclusion changes (delta adjustment, swept)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from probgen.data.native import from_mapping
from probgen.errors import CapabilityError, DataError
from probgen.studies.multiple_imputation import Imputations, impute
from probgen.studies.pooling import INTERCEPTS, Pooled, pool
from probgen.studies.shifts import neutral, shifted

__all__ = ["Sensitivity", "sensitivity"]

SHOWN = ("estimate", "standard_error", "df", "p_value", "lower", "upper")
UNITS = {"units": "{}", "sd": "{} standard deviations", "factor": "factor {}", "log_odds": "log odds {}"}


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Pooled estimates for every delta.

    Attributes:
        column: whose draws were shifted.
        scale, given: of the shift (see :meth:`Imputations.shifted`).
        deltas: ``(S,)``, increasing.
        pooled: one pooled analysis a delta.
        m: number of imputations.
    """

    column: str
    scale: str
    given: str
    deltas: np.ndarray
    pooled: tuple[Pooled, ...]
    m: int

    @property
    def names(self) -> tuple[str, ...]:
        """The terms of the analysis."""
        return self.pooled[0].names

    @property
    def at_random(self) -> float:
        """The delta that shifts nothing."""
        return neutral(self.scale)

    def records(self, term: str | None = None) -> list[dict[str, Any]]:
        """One record a delta and term (or of one term): the pooled numbers, and ``changed``, as in :meth:`tipping_points`."""
        made = []
        for name in self.names if term is None else [self.chosen(term)]:
            sides = self.sides(name)
            before = self.side_at_random(name)
            for delta, one, side in zip(self.deltas.tolist(), self.pooled, sides.tolist(), strict=True):
                numbers = {key: float(getattr(one, key)[one.names.index(name)]) for key in SHOWN}
                made.append({"delta": delta, "term": name, **numbers, "changed": side != before})
        return made

    def to_pandas(self) -> Any:
        """The records as a data frame."""
        records = self.records()
        return from_mapping({name: [record[name] for record in records] for name in records[0]})

    def chosen(self, term: str | None) -> str:
        """A term by name; the first that is no intercept where it is None."""
        if term is None:
            return next((name for name in self.names if name not in INTERCEPTS), self.names[0])
        if term not in self.names:
            raise DataError(f"There is no term {term!r} in the analysis. Terms: {', '.join(self.names)}.")
        return term

    def ends(self, term: str) -> np.ndarray:
        """``(S, 2)`` ends of the intervals of one term."""
        return np.array([[one.lower[one.names.index(term)], one.upper[one.names.index(term)]] for one in self.pooled])

    def sides(self, term: str) -> np.ndarray:
        """``(S,)``: +1 where the interval lies above 0, -1 below, 0 where it holds 0."""
        lower, upper = self.ends(term).T
        return (lower > 0).astype(int) - (upper < 0)

    def side_at_random(self, term: str) -> int:
        return int(self.sides(term)[np.argmin(np.abs(self.deltas - self.at_random))])

    def tipping_points(self, term: str | None = None) -> tuple[float, ...]:
        """Deltas nearest to no shift, on either side, at which the conclusion changes: the interval comes to hold 0, or no longer.

        Between the deltas tried the interval's end is taken as a straight line.

        Args:
            term: of the analysis; the first that is no intercept where it is None.

        Returns:
            At most two numbers, in order; none where the conclusion holds over the whole sweep.
        """
        name = self.chosen(term)
        sides, ends = self.sides(name), self.ends(name)
        middle, found = int(np.argmin(np.abs(self.deltas - self.at_random))), []
        for step in (-1, 1):
            here = middle
            while 0 <= here + step < len(sides) and sides[here + step] == sides[middle]:
                here += step
            if 0 <= here + step < len(sides):
                found.append(self.crossing(ends, sides, here, here + step))
        return tuple(found)

    def crossing(self, ends: np.ndarray, sides: np.ndarray, here: int, there: int) -> float:
        """Where an interval's end passes 0 between two neighbouring deltas."""
        end = 0 if max(sides[here], sides[there]) > 0 else 1
        a, b = ends[here, end], ends[there, end]
        return float(self.deltas[here] + (self.deltas[there] - self.deltas[here]) * a / (a - b))

    def __str__(self) -> str:
        head = f"{'delta':>9} {'estimate':>10} {'std.error':>10} {'p.value':>9} {'lower':>10} {'upper':>10}"
        lines = [f"draws of {self.column!r} shifted ({self.scale}), m = {self.m}"]
        for name in self.names:
            lines += ["", name, head]
            for r in self.records(name):
                numbers = [r["estimate"], r["standard_error"], r["p_value"], r["lower"], r["upper"]]
                cells = " ".join(f"{x:>{w}.4g}" for x, w in zip(numbers, (10, 10, 9, 10, 10), strict=True))
                lines.append(f"{r['delta']:>9.4g} {cells}" + ("  *" if r["changed"] else ""))
            lines.append(self.sentence(name))
        return "\n".join(lines)

    def sentence(self, name: str) -> str:
        """What the sweep says of one term."""
        points = [UNITS[self.scale].format(f"{point:.3g}") for point in self.tipping_points(name)]
        if not points:
            return "the conclusion holds over the whole sweep"
        return f"tipping point: {' and '.join(points)} (* the conclusion differs from that at random)"


def sensitivity(
    data: Any,
    column: str,
    deltas: Sequence[float],
    analysis: Callable[[Any], Any] | str,
    *,
    scale: str = "units",
    given: str = "known",
    level: Any = None,
    rows: Any = None,
    confidence: float = 0.95,
    model: Any = "auto",
    complete_df: float | None = None,
    analysis_options: dict[str, Any] | None = None,
    **options: Any,
) -> Sensitivity:
    """The same pooled analysis for every delta by which the draws of a column may lie from what the model expects.

    The shift that changes nothing (0, or a factor of 1) is always among them. Random numbers are the same for all deltas, so
    that curves are smooth. Other unknown cells of the rows that shift are drawn anew for every delta, for no shift too:
    where there are any, the analysis at random is that of ``imputed`` within Monte-Carlo error.

    Args:
        data: imputations; or a table, which is imputed first with ``model`` and ``options``.
        column: whose unknown cells are shifted.
        deltas: shifts to try: conditional sensitivity parameters, see :meth:`Imputations.shifted`.
        analysis: as for :meth:`Imputations.analyse`.
        scale, given: of the shift.
        level: of a categorical column, the level whose log odds are shifted.
        rows: ``(N,)`` mask of the rows that shift, such as one arm of a trial; all where it is None.
        confidence: of the intervals.
        model: that imputes a table, as for :func:`probgen.impute`.
        complete_df: as for :func:`probgen.pool`.
        analysis_options: of a formula, such as ``{"family": "binomial"}``.
        **options: of :func:`probgen.impute`.

    Raises:
        DataError: no delta, or one that is no number; what ``shifted`` and ``analyse`` raise.
        CapabilityError: imputations with a model or with options.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> a, noise = rng.normal(size=(2, 80))
        >>> table = {"a": a, "b": np.where(np.arange(80) < 30, np.nan, 0.4 * a + noise)}
        >>> found = sensitivity(
        ...     table, "b", [-4, -2, 2, 4], "b ~ 1", model="gaussian_mixture", components=1, m=5, progress=False
        ... )
        >>> found.deltas.tolist(), len(found.tipping_points())
        ([-4.0, -2.0, 0.0, 2.0, 4.0], 2)

    Reference: Rubin (1977); van Buuren (2018), section 9.2; Cro et al. (2020).
    """
    tried, pooled = checked_deltas(deltas, scale), []
    imputed = imputations_of(data, model, options)
    anew = np.ones(len(imputed.table), dtype=bool) if rows is None else moving(rows, level, len(imputed.table))
    for delta in tried.tolist():
        one = shifted(imputed, {column: size_of(delta, scale, level, rows)}, scale, given, anew)
        found = one.analyse(analysis, **(analysis_options or {}))
        pooled.append(pool(found, confidence=confidence, complete_df=complete_df))
    return Sensitivity(column, scale, given, tried, tuple(pooled), imputed.m)


def checked_deltas(deltas: Sequence[float], scale: str) -> np.ndarray:
    """In order, no shift among them."""
    numbers = np.atleast_1d(np.asarray(deltas))
    if numbers.ndim != 1 or not numbers.size or numbers.dtype.kind not in "iuf" or not np.isfinite(numbers).all():
        raise DataError(f"deltas must be finite numbers, at least one, got {deltas!r}.")
    return np.unique(np.append(numbers.astype(float), neutral(scale)))


def size_of(delta: float, scale: str, level: Any, rows: Any) -> Any:
    """The shift of one delta: a number, a number for one level, or one a row."""
    if rows is None:
        return delta if level is None else {level: delta}
    return np.where(np.asarray(rows), delta, neutral(scale))


def moving(rows: Any, level: Any, n: int) -> np.ndarray:
    """The mask of the rows that shift, checked."""
    if level is not None:
        raise CapabilityError("Levels of a categorical column are shifted in all rows; leave out rows.")
    mask = np.asarray(rows)
    if mask.dtype != bool or mask.shape != (n,):
        raise DataError(f"rows must be a mask of {n} booleans, got {mask.dtype} of shape {mask.shape}.")
    return mask


def imputations_of(data: Any, model: Any, options: dict[str, Any]) -> Imputations:
    """Imputations as they are; a table imputed."""
    if isinstance(data, Imputations):
        if options or not (isinstance(model, str) and model == "auto"):
            raise CapabilityError("These are imputations already; leave out model and options of impute.")
        return data
    return impute(data, model, **options)
