"""Several fits of one model as one: the mean of their densities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import torch

from probgen.errors import CapabilityError
from probgen.inference.posterior import Posterior
from probgen.queries.fit import Fit

__all__ = ["ensemble"]


def ensemble(fits: Sequence[Fit]) -> Fit:
    r"""One fit whose density is the mean of theirs, :math:`p(x) = \frac1M \sum_m p(x \mid \theta_m)`.

    Likelihoods with many maxima (mixtures of trees above all) are estimated much better by an average of fits from
    several seeds than by any one of them. The fits become draws of a posterior: verbs average over these, and standard
    errors tell how far they lie apart.

    Args:
        fits: of one model with the same options to the same table, without networks, differing in their seeds.

    Raises:
        CapabilityError: no fits, or fits of different things.
    """
    if not fits:
        raise CapabilityError("An ensemble needs at least one fit, got none.")
    first = fits[0]
    for number, other in enumerate(fits):
        check_alike(first, other, number)
    posterior = reduce(side_by_side, (fit.posterior for fit in fits))
    diagnostics = {**first.diagnostics, "members": len(fits)}
    seconds = sum(fit.seconds for fit in fits)
    return replace(first, posterior=posterior, diagnostics=diagnostics, seconds=seconds, memory={})


def check_alike(one: Fit, other: Fit, number: int) -> None:
    """The same model, options and rows, and nothing that a posterior does not hold."""
    if any(weight.requires_grad for weight in other.program.parameters()):
        raise CapabilityError(f"{other.name!r} has networks, whose weights are no draws of a posterior.")
    for what, mine, yours in (
        ("model", one.name, other.name),
        ("options", one.program.options, other.program.options),
        ("draws", one.posterior.shape[1], other.posterior.shape[1]),
        ("data", one.provenance.get("data"), other.provenance.get("data")),
    ):
        if mine != yours:
            raise CapabilityError(
                f"Fits of an ensemble have the same {what}; that of fit {number} is {yours!r}, of fit 0 {mine!r}."
            )


def side_by_side(one: Posterior, other: Posterior) -> Posterior:
    """The draws of both, as chains of one posterior."""
    parameters = {
        name: {key: torch.cat([value, other.parameters[name][key]]) for key, value in theta.items()}
        for name, theta in one.parameters.items()
    }
    return Posterior(parameters, {k: torch.cat([v, other.sites[k]]) for k, v in one.sites.items()}, point=False)
