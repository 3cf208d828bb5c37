r"""Overimputation: known cells are hidden, imputed as if they were missing, and compared with what they were.

Of a cell with value y and draws :math:`x_1, \dots, x_L` the rank of y among the draws is uniform on 0 .. L where the draws
come from the law of y given the rest of its row; :math:`(\text{rank} + U) / (L + 1)` is its probability integral transform
(PIT), and y lies in the central interval of level p where the PIT is within p / 2 of one half. That is exact for any L.
Labels have no ranks. With q the shares of the levels among truth and draws together, the truth of right draws is any one
of the L + 1, so that its own share is :math:`\sum_k q_k^2` on average.

Sources: Blackwell, Honaker and King (2017) for the name and the figure; Gneiting, Balabdaoui and Raftery (2007).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy import stats

from probgen.data.missing import keep_one
from probgen.data.native import from_mapping
from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError
from probgen.inference.runtime import seed_of
from probgen.studies.hidable import Hidable, hidable
from probgen.studies.multiple_imputation import impute
from probgen.studies.scoring import brier_score, crps, is_nominal, log_score, random_ranks
from probgen.studies.uniformity import Bands, bands
from probgen.whole import check_whole

__all__ = ["Overimputation", "overimpute"]

LEVELS = (0.5, 0.8, 0.95)
DOUBT = 0.01  # probability that columns that are all right are doubted
FEWEST_LABELS = 20  # cells from which the sum of shares is nearly normal
MOST_RANKS = 2000  # that the test of uniformity looks at
NUMBERS = ("coverage50", "coverage80", "coverage95", "width95", "rmse", "crps", "skill")
LABELS = ("accuracy", "brier", "log_score", "confidence", "expected", "skill")


@dataclass(frozen=True, eq=False)
class Overimputation:
    """Hidden cells and their draws.

    Attributes:
        table: as it was.
        cells: ``(C, 2)``, row and column of each hidden cell.
        draws: ``(L, C)``, what was imputed, coded as ``table.values`` are.
        missing: ``(C,)``, the share of its row that was unknown while the cell was imputed.
        seed: of everything.
        settings: of the imputation.
    """

    table: Table
    cells: np.ndarray
    draws: np.ndarray
    missing: np.ndarray
    seed: int
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Columns with hidden cells, in the table's order."""
        return tuple(self.table.names[place] for place in np.unique(self.cells[:, 1]))

    def chosen(self, column: str) -> np.ndarray:
        """``(C,)``: which cells belong to a column."""
        found = self.cells[:, 1] == self.table.schema.index(column)
        if not found.any():
            raise DataError(f"No cell of column {column!r} was hidden; there are: {', '.join(self.names)}.")
        return found

    def truth(self, column: str) -> np.ndarray:
        """What the hidden cells of a column were."""
        return self.table.values[tuple(self.cells[self.chosen(column)].T)]

    def ranks(self, column: str) -> np.ndarray:
        """Of the hidden cells among their draws, 0 .. L, ties at random.

        Raises:
            CapabilityError: the column's levels have no order.
        """
        if is_nominal(self.table.schema[column].kind):
            raise CapabilityError(
                f"Levels of {column!r} have no order and so no ranks; look at its calibration instead."
            )
        rng = np.random.default_rng(seed_of(self.seed, "ranks", column))
        return random_ranks(self.draws[:, self.chosen(column)], self.truth(column), rng)

    def pit(self, column: str) -> np.ndarray:
        """Probability integral transforms of the hidden cells, uniform between 0 and 1 where the draws are right."""
        ranks = self.ranks(column)
        jitter = np.random.default_rng(seed_of(self.seed, "pit", column)).random(len(ranks))
        return (ranks + jitter) / (len(self.draws) + 1)

    def counts(self, column: str) -> np.ndarray:
        """``(cells, levels)``: how many draws of each hidden cell had each level."""
        drawn = self.draws[:, self.chosen(column)]
        return np.stack([(drawn == level).sum(0) for level in range(self.table.schema[column].cardinality)], 1)

    def bands(self, column: str) -> Bands:
        """What uniform ranks of a column look like."""
        return bands(min(int(self.chosen(column).sum()), MOST_RANKS), len(self.draws))

    @cached_property
    def columns(self) -> list[dict[str, Any]]:
        """One record a column: scores, in standard deviations of the column, and what they say in words."""
        records = [self.record(name) for name in self.names]
        for record in records:
            doubt = record["p_value"] * len(records) < DOUBT
            record["says"] = record.pop("direction") if doubt else ""
        return records

    def record(self, name: str) -> dict[str, Any]:
        """One column."""
        column, truth, drawn = self.table.schema[name], self.truth(name), self.draws[:, self.chosen(name)]
        head = {"column": name, "kind": column.kind, "cells": len(truth)}
        if is_nominal(column.kind):
            return head | label_scores(self.counts(name), truth)
        known = self.table.values[self.table.known[:, self.table.schema.index(name)], self.table.schema.index(name)]
        pit, ranks = self.pit(name), self.ranks(name)[:MOST_RANKS]
        tested = {"p_value": self.bands(name).p_value(ranks), "direction": in_words(pit)}
        return head | number_scores(drawn, truth, known) | coverages(pit) | tested

    def to_pandas(self) -> Any:
        """The records as a data frame."""
        keys = ("column", "kind", "cells", *dict.fromkeys((*NUMBERS, *LABELS)), "p_value", "says")
        return from_mapping({key: [record.get(key, np.nan) for record in self.columns] for key in keys})

    def __str__(self) -> str:
        head = f"Overimputation of {len(self.cells)} known cells, {len(self.draws)} draws each"
        numbers = [record for record in self.columns if "crps" in record]
        labels = [record for record in self.columns if "brier" in record]
        return "\n".join([head, *lines_of(numbers, NUMBERS), *lines_of(labels, LABELS)])


def lines_of(records: Sequence[dict[str, Any]], keys: Sequence[str]) -> Iterable[str]:
    """A table of some of the records' numbers; nothing where there are no records."""
    if not records:
        return
    width = max(len("column"), *(len(str(record["column"])) for record in records))
    yield f"{'column':<{width}}{'cells':>7}" + "".join(f"{key:>12}" for key in keys) + "  says"
    for record in records:
        numbers = "".join(f"{record[key]:>12.3f}" for key in keys)
        yield f"{record['column']!s:<{width}}{record['cells']:>7}{numbers}  {record['says']}".rstrip()


def overimpute(
    table: Any,
    model: Any = "auto",
    *,
    share: float = 0.1,
    folds: int | None = None,
    columns: Sequence[str] | None = None,
    m: int = 39,
    seed: int = 0,
    **options: Any,
) -> Overimputation:
    """Hide known cells, impute them as if they were missing, and compare with what they were.

    No truth is needed, and the same data judge the model that is to impute them. It is what R's Amelia calls
    overimputation, with scores: coverage of intervals, CRPS, PIT, and for labels accuracy, Brier and log score.

    Args:
        table: a Table, or anything a Table can be made of.
        model: as for :func:`probgen.impute`.
        share: of the known cells of every column that is hidden, in one round.
        folds: hide every known cell once instead, in so many rounds; each takes as long as an imputation.
        columns: whose cells are hidden; all where it is None.
        m: imputations of every hidden cell; 39 make 40 ranks, of which 50, 80 and 95 % are whole numbers.
        seed: of holes and draws.
        **options: of :func:`probgen.impute`. Under a ``design`` cells are hidden that the model draws and returns; derived cells
            that are made of a hidden one are hidden with it.

    Returns:
        An :class:`Overimputation`; ``probgen.plots.overimputation`` draws it.

    Raises:
        DataError: nothing can be hidden, or too much, so that a column is left without values.
        CapabilityError: a ``mechanism``: cells hidden at random do not follow it.

    Example:
        >>> a, noise = np.random.default_rng(0).normal(size=(2, 80))
        >>> found = overimpute({"a": a, "b": a + noise}, "gaussian_mixture", components=1, progress=False)
        >>> len(found.draws), found.names, [record["says"] for record in found.columns]
        (39, ('a', 'b'), ['', ''])
    """
    found = hidable(table, options)
    rows = found.table
    check_whole("m", m, 2)
    parts = []
    for number, hidden in enumerate(hiding(found, share, folds, columns, seed)):
        holed = found.holed(hidden)
        own = seed_of(seed, "overimpute", number) % 2**31
        filled = impute(holed, model, m=int(m), seed=own, **options)
        cells = np.argwhere(hidden)
        drawn = found.drawn(filled, hidden)
        parts.append((cells, drawn, (~holed.known).mean(1)[cells[:, 0]]))
    cells, drawn, missing = (np.concatenate(part, axis) for part, axis in zip(zip(*parts), (0, 1, 0), strict=True))
    return Overimputation(rows, cells, drawn, missing, seed, {"model": model, **options})


# --------------------------------------------------------------------------------------------------------- what is hidden
def hiding(
    found: Hidable, share: float, folds: int | None, columns: Sequence[str] | None, seed: int
) -> Iterable[np.ndarray]:
    """Masks ``(N, D)``, one a round; every row keeps a known cell of those that the model sees."""
    if folds is None and not 0 < share < 1:
        raise DataError(f"share must lie between 0 and 1, got {share}.")
    if folds is not None:
        check_whole("folds", folds, 2, DataError)
    rng = np.random.default_rng(seed_of(seed, "hidden"))
    order = positions(found.cells, found.asked(columns), rng)
    known = np.zeros_like(found.cells)
    known[:, found.places] = found.table.known[:, found.places]
    cuts = [(0.0, share)] if folds is None else [(at / folds, (at + 1) / folds) for at in range(folds)]
    masks = [keep_one(known, (order >= low) & (order < high), rng) for low, high in cuts]
    if not any(mask.any() for mask in masks):
        raise DataError("No cell can be hidden: every row must keep one that is known. Give a larger share.")
    return [mask for mask in masks if mask.any()]


def positions(known: np.ndarray, places: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Known cells of each column in random order, spread over [0, 1); 2 for cells that stay."""
    found = np.full(known.shape, 2.0)
    for place in places:
        rows = rng.permutation(np.flatnonzero(known[:, place]))
        found[rows, place] = (np.arange(len(rows)) + rng.random()) / max(len(rows), 1)
    return found


# -------------------------------------------------------------------------------------------------------------- scores
def coverages(pit: np.ndarray) -> dict[str, float]:
    """Share of cells in the central intervals."""
    return {f"coverage{100 * level:.0f}": float((np.abs(pit - 0.5) <= level / 2).mean()) for level in LEVELS}


def number_scores(drawn: np.ndarray, truth: np.ndarray, known: np.ndarray) -> dict[str, float]:
    """Errors over the standard deviation of a column; skill is the CRPS' gain over draws from the column itself."""
    scale = float(known.std()) or 1.0
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0, method="weibull")
    score, plain = float(crps(drawn, truth).mean()), float(marginal_crps(known, truth).mean())
    return {
        "width95": float((high - low).mean() / scale),
        "rmse": float(np.sqrt(((drawn.mean(0) - truth) ** 2).mean()) / scale),
        "crps": score / scale,
        "skill": 1 - score / plain if plain > 0 else float("nan"),
    }


def marginal_crps(known: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """CRPS of each cell against the other known values of its column."""
    others = np.sort(known)
    n, total = len(others), np.concatenate([[0.0], np.cumsum(others)])
    at = np.searchsorted(others, truth)
    near = (truth * (2 * at - n) + total[-1] - 2 * total[at]) / max(n - 1, 1)
    spread = 2 * ((2 * np.arange(1, n + 1) - n - 1) * others).sum()
    own = 2 * near * max(n - 1, 1)
    return near - 0.5 * (spread - own) / max((n - 1) * (n - 2), 1)


def label_scores(counts: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    r"""Of levels without an order.

    ``confidence`` is the mean share, among a cell and its draws together, of the level that came true; ``expected`` is what
    it would be on average, :math:`\sum_k q_k^2`, were the truth one of the draws.
    """
    score = brier_score(counts, truth)
    shares = np.bincount(truth.astype(int), minlength=counts.shape[1]) / len(truth)
    plain = float(1 - (shares**2).sum()) * len(truth) / max(len(truth) - 1, 1)
    both = counts + (np.arange(counts.shape[1]) == truth[:, None])
    q = both / both.sum(1, keepdims=True)
    own, expected = q[np.arange(len(truth)), truth.astype(int)], (q**2).sum(1)
    spread = np.sqrt(max(float(((q**3).sum(1) - expected**2).sum()), 1e-300))
    z = float((own - expected).sum() / spread) if spread > 1e-100 else 0.0
    return {
        "accuracy": float((counts.argmax(1) == truth).mean()),
        "brier": float(score.mean()),
        "log_score": float(log_score(counts, truth).mean()),
        "confidence": float(own.mean()),
        "expected": float(expected.mean()),
        "skill": 1 - float(score.mean()) / plain if plain > 0 else float("nan"),
        "p_value": float(2 * stats.norm.sf(abs(z))) if len(truth) >= FEWEST_LABELS else 1.0,
        "direction": "too sure" if z < 0 else "not sure enough",
    }


def in_words(pit: np.ndarray) -> str:
    """How imputations of numbers differ from the truth, from the mean and the spread of their PIT."""
    shift = (pit.mean() - 0.5) * np.sqrt(12 * len(pit))
    spread = (np.square(pit - 0.5).mean() - 1 / 12) * np.sqrt(180 * len(pit))
    if abs(shift) > abs(spread):
        return "too low" if shift > 0 else "too high"
    return "too narrow" if spread > 0 else "too wide"
