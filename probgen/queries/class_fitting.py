"""A model fitted to the rows of every class, to some rows of the others, and to rows whose class is unknown."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from probgen.data.schema import Column
from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError, FitError, ProbgenError
from probgen.queries.class_conditional import ClassConditional, check_density
from probgen.queries.fit import Fit, fit
from probgen.whole import check_whole

__all__ = ["class_conditional"]

TOLERANCE = 1e-6  # nats a row that a round of EM has to add
NEGLIGIBLE = 1e-6  # responsibilities below which a class does not read a row


def class_conditional(
    model: Any,
    table: Any,
    target: str,
    *,
    shares: Any = None,
    shared: float = 0.0,
    unlabelled: float = 1.0,
    rounds: int = 10,
    seed: int = 0,
    **options: Any,
) -> ClassConditional:
    """Fit a model to the rows of every class.

    Args:
        model: a name from :func:`probgen.available`, or a Model class.
        table: a Table or anything one can be made of; features and labels may have holes.
        target: a discrete column.
        shares: p(y), one a level; where it is None those of the labels, with one row more a class unless ``prior=None`` is among the options. Give it where classes are not
            as frequent where the fit is used as they were in the table.
        shared: what each row of the other classes counts for in every class; for small classes, and for columns that do not vary inside one. With 1 all classes would be alike.
        unlabelled: weight of each row without a label; such rows are learnt from by EM over the label, and left out with 0.
        rounds: of that EM, at most; it ends where the log density no longer grows, and the best round is kept.
        seed: of all random numbers.
        **options: of the model and its fit, as for :func:`probgen.fit`.

    Raises:
        CapabilityError: a target without levels, an option that there is not, a model without a density.
        DataError: labels of one class only, or a class that cannot be learnt from its rows; the message names it.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> data = {"x": np.r_[rng.normal(-2, 1, 50), rng.normal(2, 1, 50)], "y": ["a"] * 50 + ["b"] * 50}
        >>> fit = class_conditional("gaussian_mixture", data, "y", components=1, progress=False)
        >>> fit.class_probabilities({"x": [-2.0, 2.0], "y": [None, "a"]}).round(1).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    source = table if isinstance(table, Table) else Table(table)
    column = checked_target(source, target)
    check_density(model)
    for name, value in (("shared", shared), ("unlabelled", unlabelled)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise CapabilityError(f"{name} must be a number from 0 to 1, got {value!r}.")
    check_whole("rounds", rounds)
    label = source.values[:, source.schema.index(target)]
    weights = np.ones(len(source)) if source.weights is None else source.weights
    own = (label[:, None] == np.arange(column.cardinality)) * 1.0
    if (weights @ own > 0).sum() < 2:
        raise DataError(
            f"The labels in {target!r} are of one class, or none; classes are learnt from rows of at least two."
        )
    spread = np.where(np.isnan(label), unlabelled, 1.0) * weights
    recipe = Recipe(model, source, target, own, spread, shared, shares, {**options, "seed": seed})
    return recipe.fitted(own) if not np.isnan(label).any() or not unlabelled else recipe.with_unlabelled(rounds)


@dataclass(frozen=True)
class Recipe:
    """What is fitted to what, whoever the rows belong to.

    Attributes:
        model, source, target, shared, shares, options: as they are given.
        own: ``(N, L)``, one at each row's label; rows without a label are nought throughout.
        spread: ``(N,)``, what each row counts for.
    """

    model: Any
    source: Table
    target: str
    own: np.ndarray
    spread: np.ndarray
    shared: float
    shares: Any
    options: dict[str, Any]

    def fitted(self, responsibility: np.ndarray) -> ClassConditional:
        """Every class fitted to the rows by how far they are its own, ``(N, L)``."""
        counts, features = self.spread[:, None] * responsibility, self.source.drop([self.target])
        column = self.source.schema[self.target]
        members = [
            member(self.model, features, counts, code, column, self.shared, self.options)
            for code in range(column.cardinality)
        ]
        added = 0.0 if self.options.get("prior", "default") is None else 1.0
        shares = counts.sum(0) + added if self.shares is None else self.shares
        return ClassConditional(self.source.schema, self.target, members, shares)

    def with_unlabelled(self, rounds: int) -> ClassConditional:
        """EM over the labels that are unknown, from what the known ones say; the round with the highest log density."""
        unknown, read = np.flatnonzero(self.own.sum(1) == 0), self.spread > 0
        asked, history, best = self.source.take(read), [], None
        now = self.fitted(self.own)
        for _ in range(rounds + 1):
            history.append(float(self.spread[read] @ np.asarray(now.log_prob(asked))))
            if best is not None and history[-1] <= max(history[:-1]) + TOLERANCE * self.spread.sum():
                break
            best, responsibility = now, self.own.copy()
            if len(history) <= rounds:
                responsibility[unknown] = now.class_probabilities(self.source.take(unknown))
                now = self.fitted(responsibility)
        assert best is not None
        best.history = history
        return best


def member(
    model: Any, features: Table, counts: np.ndarray, code: int, column: Column, shared: float, options: dict[str, Any]
) -> Fit:
    """The fit of one class, to rows weighted by how far they are its own."""
    weights, others = counts[:, code], np.delete(counts, code, axis=1).sum(1)
    weights = weights + shared * others
    rows = np.flatnonzero((weights > NEGLIGIBLE) & features.known.any(1))
    name = f"Class {column.levels[code]!r} of {column.name!r}"
    remedy = "give shared=.1 to let it borrow from the others, merge it with another, or leave its column out"
    if not len(rows):
        raise DataError(f"{name} has no row with a known feature; {remedy}.")
    chosen = features.take(rows).with_weights(None if (weights[rows] == 1.0).all() else weights[rows])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # told by each member's diagnostics
            return fit(model, chosen, **options)
    except CapabilityError:
        raise
    except (ProbgenError, RuntimeError) as error:  # RuntimeError: a matrix that cannot be decomposed
        kind = type(error) if isinstance(error, DataError | FitError) else FitError
        raise kind(f"{name} cannot be learnt from its {len(rows)} rows: {error} Or {remedy}.") from error


def checked_target(table: Table, target: str) -> Column:
    """A discrete column of rows that stand alone."""
    column = table.schema[target]
    if not column.is_discrete:
        raise CapabilityError(
            f"Classes are the levels of a discrete column; {target!r} is {column.kind}. Change it with schema.with_kind, or predict"
            " numbers with a joint model and the target hidden."
        )
    if table.lengths is not None:
        raise CapabilityError("Rows that stand in sequences have no class of their own; give one row a sequence.")
    if table.n_columns < 2:
        raise DataError(f"There is no column beside {target!r}; classes need at least one to be told by.")
    return column
