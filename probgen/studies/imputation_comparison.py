r"""Which model imputes this table best? Proper scores without a truth.

Rows borrow the patterns of other rows: what those lack is hidden, imputed, and compared with what was there. Each row's
hidden cells are one vector with one energy score, in which numbers count in standard deviations and labels that differ are
at distance 1. This is the energy version of imputation scores (Näf, Grzesiak and Scornet, 2025) for vectors in place of
single columns; the earlier density ratios of random forests on random projections (Näf et al., 2023) see no more and need
a classifier. It says who is right where the law of hidden cells given the rest of the row is the same in rows that know
them as in rows that lack them: always if cells are missing completely at random, not under all that is called missing at
random, and never where cells are missing because of what they would be.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from probgen.data.native import from_mapping
from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError, ProbgenError
from probgen.inference.runtime import seed_of
from probgen.studies.hidable import Hidable, hidable
from probgen.studies.multiple_imputation import impute
from probgen.studies.paired import paired
from probgen.studies.scoring import Encoding, energy_score, energy_terms
from probgen.whole import check_whole

__all__ = ["ImputationComparison", "compare_imputations"]

FEWEST_ROWS = 10  # that know the same columns, for an energy distance
MOST_ROWS = 600
MOST_DRAWS = 10
TRIES = 8


@dataclass(frozen=True, eq=False)
class ImputationComparison:
    """Energy scores of several models' imputations, row by row.

    Attributes:
        scores: one record a model, best first: ``energy_score``, its paired ``difference`` to the best and
            ``difference_se``; ``energy_distance`` between rows and their completions (0 where they follow the same law),
            with the same two; ``seconds``.
        rows: ``(S,)``, which rows were scored.
        energy_scores: model -> ``(S,)``.
        hidden: ``(N, D)``, the cells that were hidden.
        failures: model -> why it could not be used.
    """

    scores: list[dict[str, Any]]
    rows: np.ndarray
    energy_scores: dict[str, np.ndarray]
    hidden: np.ndarray
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def best(self) -> str:
        """The model with the smallest energy score."""
        return str(self.scores[0]["model"])

    def to_pandas(self) -> Any:
        """The records as a data frame."""
        return from_mapping({key: [record[key] for record in self.scores] for key in self.scores[0]})

    def __str__(self) -> str:
        width = max(len("model"), *(len(name) for name in (*self.energy_scores, *self.failures)))
        lines = [
            f"{len(self.rows)} rows scored, {int(self.hidden.sum())} cells hidden in borrowed patterns; smaller is better",
            f"{'model':<{width}}{'energy score':>14}{'to the best':>21}{'energy distance':>17}{'seconds':>9}",
        ]
        for record in self.scores:
            gap = "" if record is self.scores[0] else f"{record['difference']:+.4f} ± {record['difference_se']:.4f}"
            numbers = f"{record['energy_score']:>14.4f}{gap:>21}{record['energy_distance']:>17.4f}"
            lines.append(f"{record['model']:<{width}}{numbers}{record['seconds']:>9.1f}")
        lines += [f"{name:<{width}}  could not be used: {why}" for name, why in self.failures.items()]
        return "\n".join(lines)


def compare_imputations(
    table: Any,
    models: Mapping[str, Any] | Iterable[str],
    *,
    folds: int = 5,
    m: int = 20,
    seed: int = 0,
    **options: Any,
) -> ImputationComparison:
    """Rank models by how well they impute cells that are known, hidden in the patterns in which the table lacks cells.

    Args:
        table: a Table, or anything a Table can be made of; some of its rows have holes.
        models: names; or name -> model, or name -> dictionary with ``model`` ("auto" where it has
            none) and other options of :func:`probgen.impute`.
        folds: rounds; in each one a part of the rows borrows a pattern, and every model is fitted anew.
        m: imputations of every hidden cell.
        seed: of patterns and draws; the same for all models.
        **options: of :func:`probgen.impute`, for all models. Under a ``design`` cells are hidden that the model draws and returns,
            and the columns that it sees are compared.

    Returns:
        An :class:`ImputationComparison`, best first; differences are paired, row by row.

    Raises:
        DataError: the table has no holes, or no row can borrow another's pattern.
        CapabilityError: a ``mechanism``, or a design of one model.
        ProbgenError: of the first model, where none could be used.

    Example:
        >>> a, noise = np.random.default_rng(0).normal(size=(2, 90))
        >>> holed = {"a": a, "b": np.where(np.arange(90) < 30, np.nan, a + 0.3 * noise)}
        >>> models = {"apart": "latent_class", "together": "gaussian_mixture"}
        >>> found = compare_imputations(holed, models, components=1, folds=2, m=5, progress=False)
        >>> found.best, [score["model"] for score in found.scores]
        ('together', ['together', 'apart'])

    Sources: Gneiting and Raftery (2007); Näf, Grzesiak and Scornet (2025), arXiv:2507.11297.
    """
    candidates, found = read_candidates(models), hidable(table, options)
    check(found, folds, m)
    hidden, part = borrowed(found, folds, seed)
    seen = found.table.select([found.table.names[place] for place in found.places])
    at, encoding = hidden[:, found.places], Encoding.of(seen)
    terms, distances, seconds = {}, {}, {}
    failures: dict[str, ProbgenError] = {}
    for name, candidate in candidates.items():
        began = time.perf_counter()
        try:
            drawn = refilled(found, hidden, part, {**options, **candidate}, m, seed)[..., found.places]
        except ProbgenError as error:
            failures[name] = error
            continue
        terms[name], distances[name] = row_scores(seen, at, drawn, encoding), distance_terms(seen, at, drawn, encoding)
        seconds[name] = time.perf_counter() - began
    if not terms:
        raise next(iter(failures.values()))
    told = {name: str(error) for name, error in failures.items()}
    return ImputationComparison(ranked(terms, distances, seconds), np.flatnonzero(hidden.any(1)), terms, hidden, told)


def read_candidates(models: Mapping[str, Any] | Iterable[str]) -> dict[str, dict[str, Any]]:
    """Name -> model and options."""
    named = models if isinstance(models, Mapping) else {name: name for name in models}
    found = {name: dict(what) if isinstance(what, Mapping) else {"model": what} for name, what in named.items()}
    if not found:
        raise CapabilityError("There is no model to compare; name at least one.")
    check_common(found)
    return found


def check_common(candidates: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse what would give candidates other cells to hide."""
    for name, what in candidates.items():
        for key in {"design", "mechanism"} & set(what):
            raise CapabilityError(
                f"{name!r} has a {key} of its own, so that its scores would be of other cells than those of the rest;"
                f" {'give one design to all, beside the models' if key == 'design' else 'leave it out'}."
            )


def check(found: Hidable, folds: int, m: int) -> None:
    """Sizes that scores can be made of."""
    for name, number in (("folds", folds), ("m", m)):
        check_whole(name, number, 2)
    if found.table.known[:, found.places].all():
        raise DataError("The table has no holes, so that there are no patterns to borrow; ampute it first.")


# ------------------------------------------------------------------------------------------------------------- patterns
def borrowed(found: Hidable, folds: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mask ``(N, D)`` of the cells to hide, and the round ``(N,)`` of each row.

    A row takes the pattern of a random incomplete row, again where that would hide nothing or all it knows.
    """
    rng = np.random.default_rng(seed_of(seed, "borrowed"))
    known = np.zeros_like(found.cells)
    known[:, found.places] = found.table.known[:, found.places]
    whole = known[:, found.places].all(1)
    patterns = ~known[~whole & known.any(1)]  # (P, D) True = unknown, as often as it occurs
    hidden = np.zeros_like(known)
    left = np.arange(len(known))
    for _ in range(TRIES):
        if len(patterns) == 0 or len(left) == 0:
            break
        tried = patterns[rng.integers(len(patterns), size=len(left))] & found.cells[left]
        good = tried.any(1) & (known[left] & ~tried).any(1)
        hidden[left[good]] = tried[good]
        left = left[~good]
    if not hidden.any():
        raise DataError("No row can borrow another's pattern and keep a known cell; use pg.overimpute.")
    return hidden, rng.permutation(len(known)) % folds


def refilled(
    source: Hidable, hidden: np.ndarray, part: np.ndarray, options: Mapping[str, Any], m: int, seed: int
) -> np.ndarray:
    """``(m, N, D)``: the table with the hidden cells imputed, each row in its own round."""
    found = np.repeat(source.table.values[None], m, 0)
    for number in np.unique(part[hidden.any(1)]):
        now = hidden & (part == number)[:, None]
        filled = impute(source.holed(now), m=m, seed=seed_of(seed, "round", number) % 2**31, **options)
        found[:, now] = source.drawn(filled, now)
    return found


# --------------------------------------------------------------------------------------------------------------- scores
def row_scores(table: Table, hidden: np.ndarray, drawn: np.ndarray, encoding: Encoding) -> np.ndarray:
    """``(S,)``: the energy score of each row's hidden cells."""
    found = []
    for row in np.flatnonzero(hidden.any(1)):
        places = np.flatnonzero(hidden[row])
        found.append(energy_score(encoding(drawn[:, row], places), encoding(table.values[row], places)))
    return np.array(found)


def distance_terms(table: Table, hidden: np.ndarray, drawn: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Terms of the energy distance between rows and their completions, among rows that know the same columns."""
    scored = np.flatnonzero(hidden.any(1))
    _, which = np.unique(table.known[scored], axis=0, return_inverse=True)
    found = []
    for group in range(which.max() + 1):
        rows = scored[which.reshape(-1) == group][:MOST_ROWS]
        if len(rows) < FEWEST_ROWS:
            continue
        places = np.flatnonzero(table.known[rows[0]])
        truth = encoding(table.values[rows], places)
        terms = [energy_terms(truth, encoding(one[rows], places)) for one in drawn[:MOST_DRAWS]]
        found.append(np.mean(terms, 0))
    return np.concatenate(found) if found else np.full(1, np.nan)


def ranked(
    terms: Mapping[str, np.ndarray], distances: Mapping[str, np.ndarray], seconds: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Records, best first, with paired differences to the best."""
    order = sorted(terms, key=lambda name: float(terms[name].mean()))
    best, found = order[0], []
    for name in order:
        gap, far = paired(terms[name], terms[best]), paired(distances[name], distances[best])
        found.append(
            {
                "model": name,
                "energy_score": float(terms[name].mean()),
                "difference": gap.difference,
                "difference_se": gap.standard_error,
                "energy_distance": float(distances[name].mean()),
                "distance_difference": far.difference,
                "distance_difference_se": 2 * far.standard_error,  # each row counts in two places of a U-statistic
                "seconds": seconds[name],
            }
        )
    return found
