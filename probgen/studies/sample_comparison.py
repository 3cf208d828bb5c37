"""Are drawn rows like real ones? Measures that need no density, beside the same measures of real rows against real rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from probgen.data.native import from_mapping
from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError
from probgen.inference.runtime import seed_of
from probgen.studies.sample_classifier import classifier_two_sample
from probgen.studies.sample_distances import (
    Measured,
    energy_distance,
    frechet_distance,
    maximum_mean_discrepancy,
    sliced_wasserstein,
)
from probgen.studies.sample_neighbours import density_coverage, precision_recall
from probgen.studies.scoring import Encoding
from probgen.whole import check_whole

__all__ = ["MEASURES", "SampleComparison", "compare_samples", "complete_rows"]

Features = Callable[[Table], Any]
MOST_ROWS = 1000  # of each set
FEWEST_ROWS = 20

MEASURES = {
    "energy_distance": "0 where the laws are one",
    "maximum_mean_discrepancy": "squared; 0 where the laws are one",
    "sliced_wasserstein": "as of real rows",
    "classifier_accuracy": "1/2 where nothing can be told",
    "precision": "as of real rows; low: rows that could not be real",
    "recall": "as of real rows; low: kinds of rows are missing",
    "density": "1; below: rows away from the real ones",
    "coverage": "as of real rows; low: kinds of rows are missing",
    "frechet_distance": "as of real rows",
}
"""Names of the measures, and what each is for a perfect sampler. The last one is of features only, unless it is asked for."""


@dataclass(frozen=True, eq=False)
class SampleComparison:
    """Measures of drawn rows against real ones, and of other real rows against the same.

    Attributes:
        rows: in each of the sets.
        space: what rows are compared in: the columns, or whose features.
        drawn: measure -> :class:`~probgen.studies.sample_distances.Measured`, drawn rows against real ones.
        real: the same of as many other real rows: what a perfect sampler would have.
    """

    rows: int
    space: str
    drawn: dict[str, Measured]
    real: dict[str, Measured]

    def records(self) -> list[dict[str, Any]]:
        """One record a measure: ``value``, ``error``, ``p_value``, and ``real`` and ``real_error`` of the yardstick."""
        return [
            {
                "measure": name, "value": found.value, "error": found.error, "p_value": found.p_value,
                "real": self.real[name].value, "real_error": self.real[name].error, "perfect": MEASURES[name],
            }
            for name, found in self.drawn.items()
        ]  # fmt: skip

    def to_pandas(self) -> Any:
        """The records as a data frame."""
        return from_mapping({key: [record[key] for record in self.records()] for key in self.records()[0]})

    def __getitem__(self, measure: str) -> Measured:
        return self.drawn[measure]

    def __str__(self) -> str:
        lines = [
            f"{self.rows} drawn rows and {self.rows} real ones, compared in {self.space}",
            f"{'measure':<26}{'drawn':>20}{'p':>8}{'real':>20}  for a perfect sampler",
        ]
        for name, found in self.drawn.items():
            chance = "" if found.p_value is None else f"{found.p_value:.3f}"
            told = [f"{each.value:.4f} ± {each.error:.4f}" for each in (found, self.real[name])]
            lines.append(f"{name:<26}{told[0]:>20}{chance:>8}{told[1]:>20}  {MEASURES[name]}")
        return "\n".join(lines)


def compare_samples(
    real: Any,
    drawn: Any,
    *,
    measures: Sequence[str] | None = None,
    features: Features | None = None,
    other: Any = None,
    classifier: str = "neighbours",
    permutations: int = 199,
    most: int = MOST_ROWS,
    seed: int = 0,
) -> SampleComparison:
    r"""Compare rows that a model drew with real ones.

    Numbers count in standard deviations of the real rows, labels are indicators over :math:`\sqrt 2` (two that differ are at distance 1), and all measures see
    these vectors, or the features of the rows where ``features`` makes them. Every measure is taken twice with the same numbers of rows: of drawn rows against one half
    of the real ones, and of the other half against it.

    Args:
        real: a Table, or anything one can be made of, of rows that the model was not fitted to.
        drawn: of the same columns.
        measures: names out of ``energy_distance``, ``maximum_mean_discrepancy``, ``sliced_wasserstein``, ``classifier_accuracy``, ``precision``,
            ``recall``, ``density``, ``coverage``, ``frechet_distance``; all where it is None, the last only of features.
        features: rows as vectors, ``features(table)`` -> ``(N, F)``: for pictures those of :func:`probgen.picture_features`. Its ``name``
            is told with the numbers, which no one else's features would give.
        other: further real rows as the yardstick, such as those the model was fitted to; ``real`` is halved where it is None.
        classifier: "neighbours", "linear" or "network".
        permutations: behind the p-values of the first three measures.
        most: rows of each set that are compared.
        seed: of halves, permutations and directions.

    Raises:
        DataError: unknown cells, other columns, too few rows, or rows that stand in sequences.
        CapabilityError: an unknown measure or classifier.

    Example:
        >>> from probgen.data.toys import toy
        >>> found = compare_samples(
        ...     toy("rings", 600), toy("banana", 300, seed=1), measures=["energy_distance", "recall"]
        ... )
        >>> found["energy_distance"].p_value, found["recall"].value < found.real["recall"].value - 0.2
        (0.005, True)

    Sources: Székely and Rizzo (2013); Gretton et al. (2012); Lopez-Paz and Oquab (2017); Kynkäänniemi et al. (2019); Naeem et al. (2020).
    """
    names = chosen(measures, features is not None)
    permutations, most = check_whole("permutations", permutations, 1), check_whole("most", most, FEWEST_ROWS)
    ones, draws, others = equal_sets(real, drawn, other, features, most, seed)
    look = partial(
        measured, names=names, permutations=permutations, classifier=classifier, seed=seed_of(seed, "measures")
    )
    space = "the columns, numbers in standard deviations" if features is None else f"features of {name_of(features)}"
    return SampleComparison(len(ones), space, look(ones, draws), look(ones, others))


def measured(
    x: np.ndarray, y: np.ndarray, *, names: Sequence[str], permutations: int, classifier: str, seed: int
) -> dict[str, Measured]:
    """Every measure that is asked for."""
    ways: Mapping[tuple[str, ...], Callable[[], Any]] = {
        ("energy_distance",): lambda: [energy_distance(x, y, permutations, seed)],
        ("maximum_mean_discrepancy",): lambda: [maximum_mean_discrepancy(x, y, permutations, seed=seed)],
        ("sliced_wasserstein",): lambda: [sliced_wasserstein(x, y, permutations, seed=seed)],
        ("classifier_accuracy",): lambda: [classifier_two_sample(x, y, classifier, seed)],
        ("precision", "recall"): lambda: precision_recall(x, y, seed=seed),
        ("density", "coverage"): lambda: density_coverage(x, y, seed=seed),
        ("frechet_distance",): lambda: [frechet_distance(x, y, seed)],
    }
    found: dict[str, Measured] = {}
    for keys, way in ways.items():
        if set(keys) & set(names):
            found.update(zip(keys, way(), strict=True))
    return {name: found[name] for name in names}


def chosen(measures: Sequence[str] | None, features: bool) -> list[str]:
    """Names of the measures, in the order of the list of all."""
    if measures is None:
        return [name for name in MEASURES if features or name != "frechet_distance"]
    wanted = [measures] if isinstance(measures, str) else list(measures)
    unknown = [name for name in wanted if name not in MEASURES]
    if unknown or not wanted:
        raise CapabilityError(f"measures must be some of {', '.join(MEASURES)}; got {wanted}.")
    return [name for name in MEASURES if name in wanted]


# --------------------------------------------------------------------------------------------------------------- rows
def equal_sets(
    real: Any, drawn: Any, other: Any, features: Features | None, most: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Real rows, drawn rows and other real rows as vectors, ``(n, F)`` each, at random; halves of the real rows where there are no others."""
    first = as_table(real, "real")
    tables = [
        first,
        *(as_table(each, what, first) for each, what in ((drawn, "drawn"), (other, "other")) if each is not None),
    ]
    vectors = [
        coded(table, what, first, features) for table, what in zip(tables, ("real", "drawn", "other"), strict=False)
    ]
    rng = np.random.default_rng(seed_of(seed, "samples"))
    mixed = [each[rng.permutation(len(each))] for each in vectors]
    if other is None:
        mixed.append(mixed[0][len(mixed[0]) // 2 :])
        mixed[0] = mixed[0][: len(mixed[0]) // 2]
    n = min(most, *map(len, mixed))
    if n < FEWEST_ROWS:
        raise DataError(
            f"Only {n} rows could be compared, at least {FEWEST_ROWS} are needed: {len(first)} real rows (halved, unless there are"
            f" others), {len(tables[1])} drawn ones."
        )
    return mixed[0][:n], mixed[1][:n], mixed[2][:n]


def as_table(rows: Any, what: str, like: Table | None = None) -> Table:
    """Rows that stand alone, with the columns of the real ones."""
    table = rows if isinstance(rows, Table) else Table(rows, schema=None if like is None else like.schema)
    if table.lengths is not None:
        raise DataError(f"The {what} rows stand in sequences; compare tables of rows that stand alone.")
    if table.weights is not None:
        raise DataError(
            f"The {what} rows have weights, which the measures cannot count; draw rows by their weights first."
        )
    if like is None:
        return table
    missing = [name for name in like.names if name not in table.names]
    if missing:
        raise DataError(
            f"The {what} rows lack the column {missing[0]!r} of the real ones; select the same columns of both."
        )
    table = table.select(like.names)
    same = all((a.kind, a.levels) == (b.kind, b.levels) for a, b in zip(table.schema, like.schema, strict=True))
    return table if same else Table(table.to_pandas(), schema=like.schema)


def coded(table: Table, what: str, real: Table, features: Features | None) -> np.ndarray:
    """``(N, F)``: rows as vectors."""
    if features is not None:
        found = np.asarray(features(table), dtype=float)
        if found.ndim != 2 or len(found) != len(table):
            raise DataError(f"features must make ({len(table)}, F) numbers of {len(table)} rows, got {found.shape}.")
        return found
    if not table.known.all():
        row, place = np.argwhere(~table.known)[0]
        raise DataError(
            f"Of the {what} rows, row {row} does not know column {table.names[place]!r}, and rows are compared whole. Take rows without holes"
            " (table.take(table.known.all(1))), drop the column, or fill the holes first."
        )
    return Encoding.of(real)(table.values, np.arange(table.n_columns))


def complete_rows(table: Table) -> Table:
    """The rows without holes, as they are the only ones that are compared; which is right where cells are missing completely at random."""
    return table.take(np.flatnonzero(table.known.all(1)))


def name_of(features: Features) -> str:
    """Whose features they are."""
    return str(getattr(features, "name", None) or getattr(features, "__qualname__", type(features).__qualname__))
