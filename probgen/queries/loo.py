r"""How well a posterior predicts data that it has not seen, and which of several models does it best.

Leave-one-out cross-validation without refitting, by Pareto-smoothed importance sampling (Vehtari, Gelman and Gabry, 2017;
Vehtari et al., 2024), and the widely applicable information criterion (Watanabe, 2010):

.. math:: \mathrm{elpd}_n^{loo} = \log p(x_n \mid x_{-n}) \approx
              \log \frac{\sum_s w_{sn} p(x_n \mid \theta_s)}{\sum_s w_{sn}}, \quad w_{sn} \propto \frac{1}{p(x_n \mid \theta_s)},
          \qquad \mathrm{elpd}_n^{waic} = \log \overline{p(x_n \mid \theta)} - \mathrm{Var}_s \log p(x_n \mid \theta_s).

Models are compared by the sum over rows, and combined by stacking (Yao, Vehtari, Simpson and Gelman, 2018): the weights that
maximise the leave-one-out log score of the mixture of their predictive densities.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from probgen.errors import CapabilityError, DataError, ImproperWarning
from probgen.inference.diagnostics import mean_effective_sample_size
from probgen.inference.pareto import GOOD_ENOUGH, smoothed_log_weights, trusted_shape
from probgen.queries.pointwise import Pointwise, pointwise
from probgen.queries.reading import aligned

__all__ = ["Comparison", "Predictive", "compare_models", "loo", "waic"]

DRAWS = 4000
MANY_VARIANCE = 0.4  # of a row's log likelihood, beyond which the criterion fails
SHOWN = 8  # rows in a warning


@dataclass(frozen=True)
class Predictive:
    """Expected log predictive density (elpd) of new rows, in nats and original units; larger is better.

    Attributes:
        criterion: "loo" or "waic".
        rows: ``(N,)`` contributions of the data; they carry the rows' weights.
        complexity: ``(N,)`` what each row adds to the effective number of parameters.
        pareto_k: ``(N,)`` shapes of the importance weights' tails; empty for "waic".
        threshold: the largest shape that can be trusted with so many draws.
        fingerprint: of the data.
    """

    criterion: str
    rows: np.ndarray
    complexity: np.ndarray
    draws: int
    pareto_k: np.ndarray = field(default_factory=lambda: np.empty(0))
    threshold: float = GOOD_ENOUGH
    fingerprint: str = ""

    @property
    def elpd(self) -> float:
        """The sum over rows."""
        return float(self.rows.sum())

    @property
    def standard_error(self) -> float:
        """Of the sum, over data sets of this size."""
        return float(math.sqrt(len(self.rows)) * self.rows.std())

    @property
    def effective_parameters(self) -> float:
        """How many parameters the data decide."""
        return float(self.complexity.sum())

    @property
    def bad_rows(self) -> np.ndarray:
        """Numbers of the rows whose value cannot be trusted, the worst first."""
        if self.criterion == "waic":
            bad = self.complexity
            return np.argsort(-bad, kind="stable")[: int((bad > MANY_VARIANCE).sum())]
        return np.argsort(-self.pareto_k, kind="stable")[: int((self.pareto_k > self.threshold).sum())]

    def table(self) -> str:
        """How many rows have which Pareto k."""
        edges = [-np.inf, self.threshold, 1.0, np.inf]
        names = [f"good (k <= {self.threshold:.2f})", "bad (up to 1)", "very bad (beyond 1)"]
        counts, total = np.histogram(self.pareto_k, edges)[0], max(len(self.pareto_k), 1)
        return "\n".join(
            aligned([[n, str(c), f"{100 * c / total:.1f} %"] for n, c in zip(names, counts, strict=True)])
        )

    def warning(self) -> str:
        """What is wrong with it, in words; empty where nothing is."""
        bad = self.bad_rows
        if not len(bad):
            return ""
        what = (
            "the variance of the log likelihood exceeds 0.4 in"
            if self.criterion == "waic"
            else "Pareto k is too large in"
        )
        named = ", ".join(str(row) for row in bad[:SHOWN]) + (", ..." if len(bad) > SHOWN else "")
        remedy = (
            "use pg.loo" if self.criterion == "waic" else "fit again without them, or look for what makes them unusual"
        )
        return f"{what} {len(bad)} of {len(self.rows)} rows ({named}): their predictive densities are not reliable; {remedy}."

    def __str__(self) -> str:
        lines = [
            f"elpd_{self.criterion} {self.elpd:.2f} ± {self.standard_error:.2f} nats over {len(self.rows)} rows,"
            f" {self.effective_parameters:.1f} effective parameters, {self.draws} draws"
        ]
        if self.criterion == "loo":
            lines += ["Pareto k", self.table()]
        return "\n".join([*lines, self.warning()]).rstrip()


@dataclass(frozen=True)
class Comparison:
    """Several models on the same rows, the best first.

    Attributes:
        models: name -> its predictive density.
        difference: name -> elpd minus that of the best, in nats.
        difference_error: name -> the standard error of the difference, rows being paired.
        weight: name -> stacking weight.
    """

    models: dict[str, Predictive]
    difference: dict[str, float]
    difference_error: dict[str, float]
    weight: dict[str, float]

    @property
    def best(self) -> str:
        """The model with the highest elpd."""
        return next(iter(self.models))

    def records(self) -> list[dict[str, Any]]:
        """One dictionary a model, for a frame."""
        return [
            {
                "model": name, "elpd": found.elpd, "standard_error": found.standard_error,
                "effective_parameters": found.effective_parameters, "difference": self.difference[name],
                "difference_error": self.difference_error[name], "weight": self.weight[name],
                "bad_rows": len(found.bad_rows),
            }
            for name, found in self.models.items()
        ]  # fmt: skip

    def verdict(self) -> str:
        """Whether the best is better than the next, in words."""
        if len(self.models) < 2:
            return "Only one model."
        second = list(self.models)[1]
        gap, error = -self.difference[second], self.difference_error[second]
        if gap < 4:
            return f"{self.best!r} and {second!r} predict equally well (difference {gap:.1f} nats, below 4)."
        if gap < 2 * error:
            return f"{self.best!r} may be better than {second!r}: {gap:.1f} nats, not two standard errors ({error:.1f} each)."
        return f"{self.best!r} predicts better than {second!r} by {gap:.1f} nats, {gap / max(error, 1e-300):.1f} standard errors."

    def __str__(self) -> str:
        head = ["model", "elpd", "se", "p", "difference", "se", "weight", "bad rows"]
        body = [
            [
                r["model"], f"{r['elpd']:.2f}", f"{r['standard_error']:.2f}", f"{r['effective_parameters']:.1f}",
                f"{r['difference']:.2f}", f"{r['difference_error']:.2f}", f"{r['weight']:.3f}", str(r["bad_rows"]),
            ]
            for r in self.records()
        ]  # fmt: skip
        return "\n".join([*aligned([head, *body]), "", self.verdict()])


# ------------------------------------------------------------------------------------------------------------ one model
def loo(fit: Any, data: Any, *, draws: int = DRAWS) -> Predictive:
    """Leave-one-out log predictive densities of the rows that a model was fitted to, from its posterior draws.

    Args:
        fit: with posterior draws (methods "nuts", "gibbs", "chees", "svi", ...).
        data: the rows it was fitted to (the data of a user's own program).
        draws: at most so many draws are used, evenly spaced.

    Raises:
        CapabilityError: a point estimate, which does not say how sure it is.
    """
    found = draws_needed(fit, data, draws, "loo")
    matrix = found.matrix()
    chains, kept, rows = matrix.shape
    weights = row_weights(fit, data, rows)
    efficiency = relative_efficiency(matrix)
    flat = matrix.reshape(chains * kept, rows).T  # (N, S)
    log_weights, shapes = smoothed_log_weights(-flat, efficiency)
    elpd, full = logsumexp(log_weights + flat, axis=1), logsumexp(flat, axis=1) - math.log(flat.shape[1])
    made = Predictive(
        "loo", weights * elpd, weights * (full - elpd), flat.shape[1], shapes, trusted_shape(flat.shape[1]),
        fingerprint(fit, data),
    )  # fmt: skip
    tell(made, fit)
    return made


def waic(fit: Any, data: Any, *, draws: int = DRAWS) -> Predictive:
    """The widely applicable information criterion as an expected log predictive density, row by row; see :func:`loo`."""
    matrix = draws_needed(fit, data, draws, "waic").matrix()
    weights = row_weights(fit, data, matrix.shape[2])
    flat = matrix.reshape(-1, matrix.shape[2])
    full, variance = logsumexp(flat, axis=0) - math.log(len(flat)), flat.var(0)
    made = Predictive(
        "waic", weights * (full - variance), weights * variance, len(flat), fingerprint=fingerprint(fit, data)
    )
    tell(made, fit)
    return made


def draws_needed(fit: Any, data: Any, draws: int, what: str) -> Pointwise:
    """Log likelihoods, where the posterior has draws at all."""
    if fit.posterior.point or len(fit.posterior) < 2:
        raise CapabilityError(
            f"{what} needs posterior draws; this fit is a point estimate. Fit with method='nuts' (or another method that"
            " draws), or judge it by fit.log_prob on rows that were held out."
        )
    check_fitted_rows(fit, data)
    return pointwise(fit, data, draws)


def relative_efficiency(matrix: np.ndarray) -> float:
    """Effective sample size of the likelihoods divided by the number of draws, mean over rows."""
    likelihood = np.exp(matrix - matrix.max((0, 1)))
    size = np.nanmean(mean_effective_sample_size(likelihood)) if matrix.shape[1] >= 4 else np.nan
    return float(size) / (matrix.shape[0] * matrix.shape[1]) if np.isfinite(size) else 1.0


def row_weights(fit: Any, data: Any, rows: int) -> np.ndarray:
    """Weights of a table's rows, ones otherwise."""
    found = None if fit.standardiser is None else fit.read(data).weights
    return np.ones(rows) if found is None else np.asarray(found, dtype=float)


def tell(found: Predictive, fit: Any) -> None:
    if found.warning():
        warnings.warn(f"{fit.name}: {found.warning()}", ImproperWarning, stacklevel=3)


def fingerprint(fit: Any, data: Any) -> str:
    """Of a table's rows; a user's own data have none."""
    return "" if fit.standardiser is None else str(fit.read(data).fingerprint())


def check_fitted_rows(fit: Any, data: Any) -> None:
    """Refuse rows that the model was not fitted to: leaving one of them out would change nothing."""
    fitted = fit.provenance.get("data")
    if fitted is not None and fingerprint(fit, data) != fitted:
        raise DataError(
            f"{fit.name!r} was fitted to {fit.provenance['rows']} rows, and these {len(fit.read(data))} are not the same"
            " (values, weights and kinds of columns count). Give the table that it was fitted to; on other rows,"
            " fit.log_prob is the predictive density."
        )


# -------------------------------------------------------------------------------------------------------- several models
def compare_models(fits: Mapping[str, Any], data: Any, *, criterion: str = "loo", draws: int = DRAWS) -> Comparison:
    """Rank models by the predictive density of rows left out, with errors of the differences and stacking weights.

    Args:
        fits: name -> fit, or -> what :func:`loo` gave for it.
        data: the rows that all of them were fitted to.
        criterion: "loo" or "waic".
        draws: as for :func:`loo`.

    Raises:
        DataError: models that were fitted to other rows, or whose predictive densities are of different rows.
        CapabilityError: fewer than two models, an unknown criterion, or a point estimate.
    """
    if len(fits) < 2:
        raise CapabilityError(f"A comparison needs two models or more, got {list(fits)}.")
    if criterion not in ("loo", "waic"):
        raise CapabilityError(f"criterion must be 'loo' or 'waic', got {criterion!r}.")
    judge = loo if criterion == "loo" else waic
    found = {name: f if isinstance(f, Predictive) else judge(f, data, draws=draws) for name, f in fits.items()}
    check_same_rows(found)
    return ranked(found)


def check_same_rows(found: Mapping[str, Predictive]) -> None:
    """Refuse what does not belong together."""
    if len({(p.criterion, len(p.rows), p.fingerprint) for p in found.values()}) > 1:
        listed = ", ".join(f"{name}: {p.criterion} of {len(p.rows)} rows" for name, p in found.items())
        raise DataError(
            f"Models are compared by one criterion on the same rows; got {listed}, of different data. Fit and judge all of"
            " them on one table."
        )


def ranked(found: dict[str, Predictive]) -> Comparison:
    """Differences to the best, and weights."""
    names = sorted(found, key=lambda name: -found[name].elpd)
    rows = np.stack([found[name].rows for name in names])
    gaps = rows - rows[0]
    weights = stacking_weights(rows)
    return Comparison(
        {name: found[name] for name in names},
        dict(zip(names, gaps.sum(1).tolist(), strict=True)),
        dict(zip(names, (math.sqrt(rows.shape[1]) * gaps.std(1)).tolist(), strict=True)),
        dict(zip(names, weights.tolist(), strict=True)),
    )


def stacking_weights(rows: np.ndarray) -> np.ndarray:
    """``(M,)`` weights that maximise the mean log of the mixture of ``(M, N)`` log densities: a concave problem."""
    density = np.exp(rows - rows.max(0))

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        mixture = np.maximum(w @ density, 1e-300)
        return -float(np.log(mixture).mean()), -(density / mixture).mean(1)

    start = np.full(len(rows), 1 / len(rows))
    found = minimize(
        loss, start, jac=True, method="SLSQP", bounds=[(0.0, 1.0)] * len(rows), options={"ftol": 1e-12, "maxiter": 500},
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
    )  # fmt: skip
    weights = np.clip(found.x, 0, None)
    return weights / weights.sum()
