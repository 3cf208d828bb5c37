"""How sure the parameters of a point estimate are, and how probable the data are under the whole model."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.batches import Batches
from probgen.data.table import Table
from probgen.errors import CapabilityError, ConvergenceWarning, IdentificationWarning
from probgen.families.base import Parameters
from probgen.inference.curvature import LogDensity, delta_errors, jacobian
from probgen.inference.potential import Potential
from probgen.inference.runtime import seeded, setting
from probgen.queries.criteria import need_exact_point
from probgen.queries.log_prob import log_jacobian
from probgen.queries.reading import in_double

__all__ = ["log_marginal_likelihood", "standard_errors"]

ROWS = 8192
FAR = 0.05  # nats that a maximum may be away before somebody is told


def standard_errors(fit: Any, table: Table) -> dict[str, dict[str, np.ndarray]]:
    r"""Root of the diagonal of :math:`J I^{-1} J^\top`, I the observed information and J = d parameters / d u.

    At a maximum of the density that the fit climbed, the result does not depend on the coordinates u.
    """
    need_exact_point(fit, "standard_errors")
    with setting(torch.float64, fit.device):
        potentials, at = surroundings(fit, table)
        density = LogDensity([potentials[0].log_mode, *likelihoods(potentials[1:])], potentials[0].sequential)
        at, information = maximum(density, at)
        with torch.no_grad():
            described = potentials[0].described
            errors = delta_errors(information, jacobian(lambda u: flat(described(u)), at))
            found = shaped(errors, described(at))
    tell_unidentified(found)
    return found


def log_marginal_likelihood(fit: Any, table: Table) -> float:
    """Log p(known cells), parameters integrated out by Laplace's approximation, in nats and original units.

    A latent's values can be renamed without changing anything: each of these relabellings has a maximum of its own.
    """
    need_exact_point(fit, "the evidence")
    with setting(torch.float64, fit.device):
        potentials, at = surroundings(fit, table)
        bare = [name for name, family in potentials[0].families.items() if family.prior_choice is None]
        if bare:
            raise CapabilityError(
                f"The evidence integrates over a prior; {bare[0]!r} has none. Fit with prior='default'."
            )
        density = LogDensity([potentials[0].log_posterior, *likelihoods(potentials[1:])], potentials[0].sequential)
        found = density.laplace(at) + log_relabellings(potentials, at)
    weights = np.ones(len(table)) if table.weights is None else table.weights
    return found + float(weights @ log_jacobian(fit, table))


def surroundings(fit: Any, table: Table) -> tuple[list[Potential], Tensor]:
    """The density piece by piece, in double precision, and the fitted point."""
    program = in_double(fit)
    batches = Batches(table, fit.standardiser, rows=ROWS, dtype=torch.float64, device=fit.device, schema=fit.schema)
    with seeded(0, "surroundings"):
        potentials = [Potential(program, batch) for batch in batches.pieces()]
    theta = {name: {k: v.double() for k, v in group.items()} for name, group in fit.posterior.theta().items()}
    values = {name: value[0, 0].double() for name, value in fit.posterior.sites.items()}
    for name, family in potentials[0].families.items():
        values |= {f"{name}.{key}": value for key, value in family.disassemble(theta[name]).items()}
    return potentials, potentials[0].unconstrain(values)


def maximum(density: LogDensity, fitted: Tensor) -> tuple[Tensor, Tensor]:
    """The exact maximum that the fit stopped beside, and the information there; the fit itself where that is far."""
    top, information = density.climb(fitted)
    gap = density.value(top) - density.value(fitted)
    if gap <= FAR:
        return top, information
    warnings.warn(
        f"The fit is {gap:.2g} nats below a maximum for these rows, so that its standard errors are approximate. Give the"
        " table that the model was fitted to, or fit with a smaller tolerance and more steps.",
        ConvergenceWarning,
        stacklevel=4,
    )
    return fitted, density.information(fitted)


def likelihoods(potentials: list[Potential]) -> list[Any]:
    return [potential.log_likelihood for potential in potentials]


def log_relabellings(potentials: list[Potential], at: Tensor) -> float:
    """Log number of ways to rename the values of the latents that no row has a label of."""
    tracers = [potential.trace(at)[0] for potential in potentials]
    labelled = {
        factor.symbols[0].name
        for tracer in tracers
        for factor in tracer.factors
        if len(factor.symbols) == 1 and bool(factor.value.isneginf().any())
    }
    sites = tracers[0].sites
    symbols = {symbol.name for factor in tracers[0].factors for symbol in factor.symbols if not symbol.inner}
    return sum(sites[name].distribution.family.log_relabellings for name in symbols - labelled)


def flat(described: dict[str, Parameters]) -> Tensor:
    return torch.cat([value.reshape(-1) for group in described.values() for value in group.values()])


def shaped(values: Tensor, like: dict[str, Parameters]) -> dict[str, dict[str, np.ndarray]]:
    """A flat vector in the shapes of the parameters."""
    found: dict[str, dict[str, np.ndarray]] = {}
    at = 0
    for name, group in like.items():
        found[name] = {}
        for key, value in group.items():
            found[name][key] = values[at : at + value.numel()].reshape(value.shape).cpu().numpy()
            at += value.numel()
    return found


def tell_unidentified(found: dict[str, dict[str, np.ndarray]]) -> None:
    counts = {f"{name}.{key}": int(np.isnan(v).sum()) for name, group in found.items() for key, v in group.items()}
    lost = [f"{name} ({count} of {found_size(found, name)})" for name, count in counts.items() if count]
    if lost:
        warnings.warn(
            f"These rows do not determine {', '.join(lost)}: their standard errors are NaN. An empty component, a"
            " probability of zero, or parameters that can stand in for each other do this.",
            IdentificationWarning,
            stacklevel=4,
        )


def found_size(found: dict[str, dict[str, np.ndarray]], path: str) -> int:
    name, key = path.rsplit(".", 1)
    return found[name][key].size
