"""Which model describes held-out rows best: log densities, paired, with errors; and, of drawn rows, measures that need no density."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from probgen.data.table import Table
from probgen.errors import ProbgenError
from probgen.inference.runtime import seed_of
from probgen.queries import Fit
from probgen.studies.models import Models, check_options, fit_models, settings_of
from probgen.studies.paired import paired
from probgen.studies.sample_comparison import Features, SampleComparison, chosen, compare_samples, complete_rows

__all__ = ["DensityStudy", "compare_densities", "density_study"]


@dataclass(frozen=True, eq=False)
class DensityStudy:
    """Held-out log densities in nats and original units; all models score the same known cells.

    Attributes:
        models: names of those with a density, best first.
        log_prob: ``(models, rows)``.
        standard_error: Monte-Carlo error of each value, zero where it is exact.
        kind: model -> kind of number.
        scores: one record a model: mean, se, quantiles, paired difference to the best with its se.
        worst: the rows that each model finds least likely.
        fits: the fitted models.
        failures: model -> message, for models that could not be fitted.
        k_hat: model -> Pareto shape of each row's importance weights, for models that have such weights.
        samples: model -> measures of its drawn rows against the held-out ones, where they were asked for; models without a density too.
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
    samples: dict[str, SampleComparison] = field(default_factory=dict)

    @property
    def best(self) -> str:
        """The model with the highest mean; of models without densities the first."""
        return self.models[0] if self.models else next(iter(self.samples))

    def records(self) -> list[dict[str, Any]]:
        """One record a model, those with a density first: its score, and the measures of its drawn rows."""
        scores = {score["model"]: score for score in self.scores}
        names = [*self.models, *(name for name in self.samples if name not in scores)]
        return [{"model": name, **scores.get(name, {"kind": "none"}), **self.measured(name)} for name in names]

    def measured(self, model: str) -> dict[str, float]:
        """Measure -> value and error of a model's drawn rows."""
        found = self.samples[model].drawn if model in self.samples else {}
        return {k: v for name, each in found.items() for k, v in ((name, each.value), (f"{name}_error", each.error))}

    def __str__(self) -> str:
        lines = [f"{'model':<28}{'nats/row':>12}{'se':>9}{'to best':>11}{'se':>9}  kind"]
        for s in self.scores:
            gap = f"{s['difference']:>11.3f}{s['difference_se']:>9.3f}"
            lines.append(f"{s['model']:<28}{s['mean']:>12.3f}{s['se']:>9.3f}{gap}  {s['kind']}")
        others = [name for name in self.samples if name not in self.models]
        lines += [f"{name:<28}{'-':>12}{'':>29}  none" for name in others]
        lines += measure_lines(self.samples)
        return "\n".join(lines + [f"{name} failed: {message}" for name, message in self.failures.items()])


def density_study(
    table: Any,
    models: Models = None,
    *,
    target: str | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    progress: bool = True,
    measures: bool | Sequence[str] = False,
    features: Features | None = None,
    **options: Any,
) -> DensityStudy:
    """Fit models to a part of the table and compare their log densities on the rest, and rows drawn from them with it.

    Args:
        table: a Table or anything one can be made of.
        models: names, or a mapping from names to their options. "quick" stands for all models with a density of these columns that are fitted in seconds, and is meant
            where it is None; "deep" for those that take thousands of steps of a network, minutes each; "all" for both.
        target: for models that need a labelled column.
        test_fraction: share of the rows held out.
        seed: of the split, the fits and what is drawn.
        measures: True, or names of measures of :func:`probgen.compare_samples`: rows are drawn from every model and compared with the held-out ones, beside
            training rows as the yardstick, and models without a density stand in the same table. Rows with holes are left out of that.
        features: of rows, in which they are compared, as for :func:`probgen.compare_samples`.
        **options: given to every model that accepts them.
    """
    asked = measures is not False or features is not None
    if asked:
        chosen(
            None if isinstance(measures, bool) else measures, features is not None
        )  # refused before anything is fitted
    source = table if isinstance(table, Table) else Table(table)
    source.check_for_fit()
    check_options(options, settings_of(models, source, asked))
    train, test = source.split(1 - test_fraction, test_fraction, seed=seed)
    fits, failures = fit_models(
        train, models, target=target, seed=seed, progress=progress, options=options, samplers=asked
    )
    samples: dict[str, SampleComparison] = {}
    if asked:
        wanted = None if isinstance(measures, bool) else measures
        samples, unable = compare_draws(fits, test, train, measures=wanted, features=features, seed=seed)
        failures |= unable
    return compare_densities(fits, test, failures, samples)


def compare_draws(
    fits: Mapping[str, Fit],
    test: Table,
    train: Table,
    *,
    measures: Sequence[str] | None = None,
    features: Features | None = None,
    seed: int = 0,
) -> tuple[dict[str, SampleComparison], dict[str, str]]:
    """Measures of as many rows drawn from each fit as are held out without holes, and why some could not be drawn from.

    Training rows are the yardstick. All fits are compared with the same held-out rows.
    """
    held_out, known = (complete_rows(table) for table in (test, train))
    found: dict[str, SampleComparison] = {}
    unable: dict[str, str] = {}
    for name, each in fits.items():
        try:
            drawn = each.sample(max(len(held_out), 1), seed=seed_of(seed, "drawn") % 2**31)
            found[name] = compare_samples(
                held_out, drawn, other=known, measures=measures, features=features, seed=seed
            )
        except ProbgenError as error:
            unable[name] = f"no measures of drawn rows: {error}"
    return found, unable


def compare_densities(
    fits: Mapping[str, Fit],
    test: Table,
    failures: Mapping[str, str] | None = None,
    samples: Mapping[str, SampleComparison] | None = None,
) -> DensityStudy:
    """Score the same rows under every fit that states a density; fits that state none need ``samples``, measures of what they draw."""
    silent = [name for name, fit in fits.items() if fit.traits.density == "none" and name in (samples or {})]
    estimates = {name: fit.log_prob(test) for name, fit in fits.items() if name not in silent}
    order = sorted(estimates, key=lambda name: -float(np.mean(estimates[name].value)))
    blank = np.empty((0, len(test)))
    values = np.stack([np.asarray(estimates[name]) for name in order]) if order else blank
    errors = np.stack([monte_carlo_error(estimates[name]) for name in order]) if order else blank
    scores = [score(name, values[i], values[0], estimates[name].kind) for i, name in enumerate(order)]
    worst = [
        {"model": name, "row": int(row), "log_prob": float(values[i, row])}
        for i, name in enumerate(order)
        for row in np.argsort(values[i])[:5]
    ]
    kinds = {name: estimates[name].kind for name in order}
    shapes = {name: np.asarray(estimates[name].k_hat) for name in order if estimates[name].k_hat is not None}
    told = dict(failures or {})
    return DensityStudy(order, values, errors, kinds, scores, worst, dict(fits), told, shapes, dict(samples or {}))


def measure_lines(samples: Mapping[str, SampleComparison]) -> list[str]:
    """A line a model, a column a measure, and a line of real rows."""
    if not samples:
        return []
    first = next(iter(samples.values()))
    heads = [name.replace("_", " ") for name in first.drawn]
    heads = [head if len(head) <= 20 else "MMD squared" for head in heads]
    lines = ["", f"{first.rows} drawn rows against {first.rows} held-out ones, in {first.space}"]
    lines.append(f"{'model':<28}" + "".join(f"{head:>21}" for head in heads))
    rows = [*((name, each.drawn) for name, each in samples.items()), ("(training rows)", first.real)]
    for name, found in rows:
        lines.append(f"{name:<28}" + "".join(f"{f'{m.value:.4f} ± {m.error:.4f}':>21}" for m in found.values()))
    return lines


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
