"""Which models a study fits, and how it fits them one by one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from probgen.data.table import Table
from probgen.errors import FitError, ProbgenError
from probgen.program import accepted_options, available, find
from probgen.queries import Fit, fit

__all__ = ["default_models", "fit_models"]

Models = Sequence[str] | Mapping[str, Mapping[str, Any]] | None


def default_models(table: Table) -> list[str]:
    """Every registered model with a density that the columns allow; models of sequences where there are any."""
    schema = table.schema
    labelled = any(column.kind in ("categorical", "binary") for column in schema)
    return [
        name
        for name, traits in available().items()
        if traits.density != "none"
        and all(column.kind in traits.kinds for column in schema)
        and (not traits.sequences or table.lengths is not None)
        and (labelled or "target" not in accepted_options(find(name)))
    ]


def fit_models(
    table: Table,
    models: Models,
    *,
    target: str | None,
    seed: int,
    progress: bool,
    options: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Fit], dict[str, str]]:
    """Fits by model name, and the messages of those that failed.

    Raises:
        FitError: every model failed.
    """
    chosen = models if models is not None else default_models(table)
    settings = dict(chosen) if isinstance(chosen, Mapping) else {name: {} for name in chosen}
    fits, failures = {}, {}
    for name, own in settings.items():
        keywords = {**allowed(name, {**(options or {}), "target": target}), **own}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # told by fit.diagnostics
                fits[name] = fit(name, table, seed=seed, progress=progress, **keywords)
        except (ProbgenError, RuntimeError) as error:  # RuntimeError: a matrix that cannot be decomposed
            failures[name] = str(error)
    if not fits:
        raise FitError("Every model failed: " + "; ".join(f"{name}: {message}" for name, message in failures.items()))
    return fits, failures


def allowed(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that this model, or its fit, can take."""
    own = accepted_options(find(name))
    return {
        k: v for k, v in options.items() if v is not None and (k in own or k in ("max_steps", "restarts", "callback"))
    }
