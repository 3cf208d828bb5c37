"""Models fitted to densities that are known: their divergence from the truth in nats, nothing left out."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from probgen.data.native import from_mapping
from probgen.data.table import Table
from probgen.data.toys import PLANE, TOYS, schema_of, toy, toy_entropy, toy_log_density
from probgen.errors import ConvergenceWarning, DataError, ProbgenError
from probgen.estimate import Estimate
from probgen.inference.runtime import seed_of
from probgen.queries import Fit
from probgen.studies.density import monte_carlo_error
from probgen.studies.models import Models, check_options, fit_models, settings_of
from probgen.whole import check_whole

__all__ = ["ToyStudy", "divergence", "toy_study"]

DOUBTFUL = 0.7  # Pareto shape above which weights cannot be trusted


@dataclass(frozen=True, eq=False)
class ToyStudy:
    """What models made of known densities.

    Attributes:
        toys: names of the densities.
        models: names of the models.
        scores: one record a density and model: ``kl`` in nats with its ``error``, ``entropy`` of the truth, ``log_prob`` a fresh row on average,
            ``kind`` of that number, ``doubtful``, the share of rows whose importance weights cannot be trusted, and ``seconds`` of the fit.
        rows: density -> the rows that were fitted to.
        drawn: (density, model) -> rows ``(N, D)`` drawn from the fit.
        planes: (density, model) -> ``(G, G)`` log density of the fit over the density's window, second column downwards from the top; under
            (density, "") the truth. Of densities in the plane, where they were asked for.
        failures: (density, model) -> why there is no score.
    """

    toys: list[str]
    models: list[str]
    scores: list[dict[str, Any]]
    rows: dict[str, Table]
    drawn: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    planes: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)

    def score(self, name: str, model: str) -> dict[str, Any] | None:
        """The record of a density and model; None where that failed."""
        return next((s for s in self.scores if (s["toy"], s["model"]) == (name, model)), None)

    def to_pandas(self) -> Any:
        """The records as a data frame."""
        return from_mapping({key: [score[key] for score in self.scores] for key in self.scores[0]})

    def __str__(self) -> str:
        width = max(len(name) for name in ("model", *self.models))
        lines = ["Kullback-Leibler divergence from the truth, nats a row", f"{'model':<{width}}"]
        lines[1] += "".join(f"{name:>19}" for name in self.toys)
        for model in self.models:
            told = [self.score(name, model) for name in self.toys]
            cells = ["-" if s is None else f"{s['kl']:.3f} ± {s['error']:.3f}" for s in told]
            lines.append(f"{model:<{width}}" + "".join(f"{cell:>19}" for cell in cells))
        lines += [f"{model} on {name}: {why}" for (name, model), why in self.failures.items()]
        return "\n".join(lines)


def toy_study(
    models: Models = None,
    toys: Sequence[str] | None = None,
    *,
    rows: int = 2000,
    test_rows: int = 4000,
    points: int = 0,
    draws: int = 1000,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> ToyStudy:
    """Fit models to toy densities, and say how far each is from the truth.

    Args:
        models: names, or a mapping from names to their options; every model with a density of two real columns where it is None.
        toys: out of :func:`probgen.toy_names`; the eight in the plane where it is None.
        rows: that are fitted to.
        test_rows: fresh ones, over which the divergence is a mean.
        points: a side of the grid on which densities in the plane are evaluated, for the picture; 0 for none.
        draws: rows drawn from each fit, where there is a grid.
        seed: of rows, fits and draws.
        progress: whether fits show theirs.
        **options: given to every model that accepts them.

    Raises:
        DataError: an unknown density.

    Example:
        >>> found = toy_study(
        ...     {"gaussian_mixture": {"components": 8}}, ["eight_normals"], rows=800, progress=False, restarts=1
        ... )
        >>> found.scores[0]["kl"] < 0.1
        True
    """
    names = list(PLANE) if toys is None else [toys] if isinstance(toys, str) else list(toys)
    unknown = [name for name in names if name not in TOYS]
    if unknown or not names:
        raise DataError(f"toys must be some of {', '.join(TOYS)}; got {names}.")
    check_whole("points", points, 0)
    tables = {name: toy(name, rows, seed=seed_of(seed, "train") % 2**31) for name in names}
    settings = settings_of("all" if models is None else models, tables[names[0]])
    check_options(options or {}, settings)
    found = ToyStudy(names, list(settings), [], tables)
    for name in names:
        if points and name in PLANE:
            found.planes[name, ""] = toy_log_density(name, grid(name, points)).reshape(points, points)
        for model, own in settings.items():
            began = time.perf_counter()
            try:
                fits, _ = fit_models(
                    tables[name], {model: own}, target=None, seed=seed, progress=progress, options=options
                )
                fit = fits[model]
                add(found, name, model, fit, time.perf_counter() - began, (test_rows, points, draws, seed))
            except ProbgenError as error:
                found.failures[name, model] = str(error)
    return found


def add(found: ToyStudy, name: str, model: str, fit: Fit, seconds: float, sizes: tuple[int, int, int, int]) -> None:
    """The score of one fit, and what a picture of it needs."""
    test_rows, points, draws, seed = sizes
    fresh = toy(name, test_rows, seed=seed_of(seed, "test") % 2**31)
    score = {"toy": name, "model": model, **divergence(fit, name, fresh), "seconds": seconds}
    if points and name in PLANE:
        cells = Table.from_codes(grid(name, points), schema_of(TOYS[name]))
        found.planes[name, model] = np.asarray(scored(fit, cells)).reshape(points, points)
        found.drawn[name, model] = fit.sample(draws, seed=seed).values
    found.scores.append(score)


def divergence(fit: Fit, name: str, fresh: Table) -> dict[str, Any]:
    """Mean of the log density of the truth minus that of a fit over fresh rows, paired, and its standard error."""
    truth, estimate = toy_log_density(name, fresh), scored(fit, fresh)
    gap = truth - np.asarray(estimate)
    own, shared = monte_carlo_error(estimate), estimate.shared_error
    chance = np.hypot(np.sqrt(max(float((own**2).sum()) - len(own) * shared**2, 0.0)) / len(own), shared)
    error = float(np.hypot(gap.std(ddof=1) / np.sqrt(len(gap)), chance))
    shapes = np.zeros(1) if estimate.k_hat is None else np.nan_to_num(estimate.k_hat)
    return {
        "kl": float(gap.mean()), "error": error, "entropy": toy_entropy(name), "log_prob": float(np.mean(estimate.value)),
        "kind": estimate.kind, "doubtful": float((shapes > DOUBTFUL).mean()),
    }  # fmt: skip


def scored(fit: Fit, table: Table) -> Estimate:
    """Log densities; what is to be said of their weights is said by a share in the score, not by a warning for every fit."""
    with warnings.catch_warnings(), np.errstate(over="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fit.log_prob(table)


def grid(name: str, points: int) -> np.ndarray:
    """``(G * G, 2)``: middles of the squares of a density's window, row by row from the top."""
    half = PLANE[name].window
    line = half * ((2 * np.arange(points) + 1) / points - 1)
    across, up = np.meshgrid(line, line[::-1])
    return np.column_stack([across.ravel(), up.ravel()])
