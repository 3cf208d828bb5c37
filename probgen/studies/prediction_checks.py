"""What a prediction study is asked for, refused before anything is fitted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np

from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError
from probgen.program import find
from probgen.studies.baselines import BASELINES, check_scikit_learn
from probgen.studies.predictors import default_candidates
from probgen.whole import is_whole

__all__ = ["check_sizes", "checked"]


def checked(
    table: Any, target: str, models: Any, baselines: Any
) -> tuple[Table, dict[str, dict[str, Any]], list[str]]:
    """The rows with a target, and what is to be tried."""
    source = table if isinstance(table, Table) else Table(table)
    column = source.schema[target]
    if source.lengths is not None:
        raise CapabilityError("Rows that stand in sequences are not told one by one; give one row a sequence.")
    if source.n_columns < 2:
        raise DataError(f"There is no column beside {target!r}; it is told by at least one.")
    source = source.take(source.known[:, source.schema.index(target)])
    values = np.unique(source.values[:, source.schema.index(target)])
    if len(values) < 2:
        raise DataError(f"{target!r} has {len(values)} value in {len(source)} rows; there is nothing to tell apart.")
    if models is None:
        candidates = default_candidates(source, target)
    else:
        named = [models] if isinstance(models, str) else models
        given = named if isinstance(named, Mapping) else {name: {} for name in named}
        candidates = {name: dict(own) for name, own in given.items()}
    for name, own in candidates.items():
        traits = find(own.get("model", name)).traits
        if traits.density == "none" or (own.get("by_class") and not column.is_discrete):
            why = (
                "has no density"
                if traits.density == "none"
                else f"cannot be fitted by class: {target!r} is {column.kind}"
            )
            raise CapabilityError(f"{name!r} {why}; leave it out.")
    chosen = list(BASELINES) if baselines is None else [baselines] if isinstance(baselines, str) else list(baselines)
    for name in chosen:
        if name not in BASELINES:
            near = get_close_matches(str(name), list(BASELINES), 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise CapabilityError(f"There is no baseline {name!r}; there are {', '.join(BASELINES)}.{hint}")
    if not candidates and not chosen:
        raise CapabilityError("There is nothing to try: name a model or a baseline.")
    if chosen:
        check_scikit_learn()
    return source, candidates, chosen


def check_sizes(
    source: Table, rows: Any, holes: Any, repeats: Any, test_fraction: Any, folds: Any, unlabelled: Any, draws: Any
) -> None:
    """Numbers that a study can be made of."""
    for name, value, least in (
        ("repeats", repeats, 1),
        ("folds", folds, 2),
        ("unlabelled", unlabelled, 0),
        ("draws", draws, 2),
    ):
        if not is_whole(value, least):
            raise CapabilityError(f"{name} must be a whole number of at least {least}, got {value!r}.")
    if isinstance(test_fraction, bool) or not isinstance(test_fraction, int | float) or not 0 < test_fraction < 1:
        raise CapabilityError(f"test_fraction must lie between 0 and 1, got {test_fraction!r}.")
    if not round(test_fraction * len(source)):
        raise DataError(f"test_fraction={test_fraction} of {len(source)} rows with a target is no row; give more.")
    for name, given in (("rows", rows), ("holes", holes)):
        if not isinstance(given, Iterable) or isinstance(given, str):
            raise CapabilityError(f"{name} must be several numbers, such as ({given!r},); got {given!r}.")
    for share in holes:
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
            raise CapabilityError(f"holes must be shares from 0 to below 1, got {share!r}.")
    there = len(source) - round(test_fraction * len(source)) - unlabelled
    for n in rows:
        if not is_whole(n, 2 * folds):
            raise CapabilityError(f"rows must be whole numbers of at least {2 * folds}, two a fold; got {n!r}.")
        if n > there:
            raise DataError(
                f"There are {there} rows to learn from ({len(source)} with a target, less the test and {unlabelled} without a label), {n} were asked for."
            )
    if not len(list(rows)) or not len(list(holes)):
        raise CapabilityError("rows and holes must each hold at least one number.")
