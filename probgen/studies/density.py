"""Which model describes held-out rows best: log densities, paired, with errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from probgen.data.table import Table
from probgen.queries import Fit
from probgen.studies.comparison import paired
from probgen.studies.models import Models, fit_models

__all__ = ["DensityStudy", "compare_densities", "density_study"]


@dataclass(frozen=True, eq=False)
class DensityStudy:
    """Held-out log densities in nats and original units; all models score the same known cells.

    Attributes:
        models: names, best first.
        log_prob: ``(models, rows)``.
        standard_error: Monte-Carlo error of each value, zero where it is exact.
        kind: model -> kind of number.
        scores: one record a model: mean, se, quantiles, paired difference to the best with its se.
        worst: the rows that each model finds least likely.
        fits: the fitted models.
        failures: model -> message, for models that could not be fitted.
        k_hat: model -> Pareto shape of each row's importance weights, for models that have such weights.
    """

    models: list[str]
    log_prob: np.ndarray
    standard_error: np.ndarray
    kind: dict[str, str]
    scores: list[dict[str, Any]]
    worst: list[dict[str, Any]]
    fits: dict[str, Fit]
    failures: dict[str, str]
    k_hat: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def best(self) -> str:
        """The model with the highest mean."""
        return self.models[0]

    def __str__(self) -> str:
        lines = [f"{'model':<28}{'nats/row':>12}{'se':>9}{'to best':>11}{'se':>9}  kind"]
        for s in self.scores:
            gap = f"{s['difference']:>11.3f}{s['difference_se']:>9.3f}"
            lines.append(f"{s['model']:<28}{s['mean']:>12.3f}{s['se']:>9.3f}{gap}  {s['kind']}")
        return "\n".join(lines + [f"{name} failed: {message}" for name, message in self.failures.items()])


def density_study(
    table: Any,
    models: Models = None,
    *,
    target: str | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> DensityStudy:
    """Fit models to a part of the table and compare their log densities on the rest.

    Args:
        table: a Table or anything one can be made of.
        models: names, or a mapping from names to their options; every model with a density where it is None.
        target: for models that need a labelled column.
        test_fraction: share of the rows held out.
        seed: of the split and the fits.
        **options: given to every model that accepts them.
    """
    source = table if isinstance(table, Table) else Table(table)
    source.check_for_fit()
    train, test = source.split(1 - test_fraction, test_fraction, seed=seed)
    fits, failures = fit_models(train, models, target=target, seed=seed, progress=progress, options=options)
    return compare_densities(fits, test, failures)


def compare_densities(fits: Mapping[str, Fit], test: Table, failures: Mapping[str, str] | None = None) -> DensityStudy:
    """Score the same rows under every fit."""
    estimates = {name: fit.log_prob(test) for name, fit in fits.items()}
    order = sorted(estimates, key=lambda name: -float(np.mean(estimates[name].value)))
    values = np.stack([np.asarray(estimates[name]) for name in order])
    errors = np.stack([monte_carlo_error(estimates[name]) for name in order])
    scores = [score(name, values[i], values[0], estimates[name].kind) for i, name in enumerate(order)]
    worst = [
        {"model": name, "row": int(row), "log_prob": float(values[i, row])}
        for i, name in enumerate(order)
        for row in np.argsort(values[i])[:5]
    ]
    kinds = {name: estimates[name].kind for name in order}
    shapes = {name: np.asarray(estimates[name].k_hat) for name in order if estimates[name].k_hat is not None}
    return DensityStudy(order, values, errors, kinds, scores, worst, dict(fits), dict(failures or {}), shapes)


def monte_carlo_error(estimate: Any) -> np.ndarray:
    return np.zeros(len(estimate)) if estimate.standard_error is None else np.asarray(estimate.standard_error)


def score(name: str, values: np.ndarray, best: np.ndarray, kind: str) -> dict[str, Any]:
    gap = paired(values, best)
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    return {
        "model": name, "mean": float(values.mean()), "se": float(values.std(ddof=1) / np.sqrt(len(values))),
        "q05": float(low), "median": float(middle), "q95": float(high),
        "difference": gap.difference, "difference_se": gap.standard_error, "kind": kind,
    }  # fmt: skip
