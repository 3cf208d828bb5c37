"""The posterior as ArviZ's container, with all groups: InferenceData on 0.x, DataTree on 1.x.

What costs time (log likelihoods, replicated data, the prior) is made when the data are given, under evenly spaced draws.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from probgen.data.table import Table
from probgen.errors import CapabilityError, ImproperWarning
from probgen.inference.posterior import Posterior
from probgen.inference.tracing import Given
from probgen.program import UserProgram
from probgen.queries.draws import Variable, variables
from probgen.queries.pointwise import Recorder, pointwise
from probgen.queries.predictive import posterior_predictive, prior_predictive

__all__ = ["to_arviz"]

STATISTIC_KINDS = {"diverging": bool, "n_steps": int}  # the others are numbers

Group = dict[str, Variable]


def to_arviz(fit: Any, data: Any = None, *, draws: int = 400, prior_draws: int = 200, seed: int = 0) -> Any:
    """Groups of named arrays; see :meth:`probgen.Fit.to_arviz`."""
    groups: dict[str, Group] = {"posterior": variables(fit)}
    statistics = {
        name: Variable(value.cpu().numpy().astype(STATISTIC_KINDS.get(name, float)), ("chain", "draw"))
        for name, value in fit.posterior.statistics.items()
    }
    if statistics:
        groups["sample_stats"] = statistics
    if data is not None and fit.traits.conditionals:
        raise CapabilityError(
            f"{fit.name!r} states conditionals, not a joint distribution: there is no likelihood or replicated table to add; call"
            " to_arviz() without data, and fit.fill or fit.sample for draws."
        )
    if data is not None:
        for name, made in (
            ("log_likelihood", lambda: log_likelihood(fit, data, draws)),
            ("posterior_predictive", lambda: replicated(fit, data, draws, seed)),
            ("prior", lambda: prior(fit, data, prior_draws, seed)),
        ):
            groups |= attempted(fit, name, made)
        groups |= observed(fit, data)
    return container({name: dataset(group) for name, group in groups.items()}, attributes(fit))


def attempted(fit: Any, name: str, made: Any) -> dict[str, Group]:
    """The groups, or a warning that says why a model has none."""
    try:
        return made()
    except CapabilityError as error:
        warnings.warn(f"{fit.name}: no group {name!r}. {error}", ImproperWarning, stacklevel=4)
        return {}


# --------------------------------------------------------------------------------------------------------------- groups
def log_likelihood(fit: Any, data: Any, draws: int) -> dict[str, Group]:
    """Of every row of a table, or of every element of the sites that a user's program observes."""
    found = pointwise(fit, data, draws)
    names = data_dims(fit, data)
    return {"log_likelihood": {k: drawn(k, v, found.draws, names) for k, v in found.values.items()}}


def replicated(fit: Any, data: Any, draws: int, seed: int) -> dict[str, Group]:
    """The data drawn anew."""
    found, names = posterior_predictive(fit, data, draws, seed), data_dims(fit, data)
    return {
        "posterior_predictive": {k: drawn(k, whole(fit, k, v), found.draws, names) for k, v in found.values.items()}
    }


def prior(fit: Any, data: Any, draws: int, seed: int) -> dict[str, Group]:
    """Draws of the prior, and of data given them."""
    found, names = prior_predictive(fit, data, draws, seed), data_dims(fit, data)
    made = {"prior_predictive": {k: drawn(k, whole(fit, k, v), found.draws, names) for k, v in found.values.items()}}
    if isinstance(fit.program, UserProgram):
        kept = {k: v for k, v in found.parameters.items() if k in fit.posterior.sites}
        return made | {"prior": {k: drawn(k, v, found.draws, {}) for k, v in kept.items()}}
    return made | {"prior": variables(prior_fit(fit, found.parameters["theta"]))}


def prior_fit(fit: Any, thetas: list[Any]) -> Any:
    """A fit whose posterior is the prior."""
    stacked = {
        name: {key: torch.stack([theta[name][key] for theta in thetas])[None] for key in thetas[0][name]}
        for name in thetas[0]
    }
    return replace(fit, posterior=Posterior(stacked, {}, False))


def observed(fit: Any, data: Any) -> dict[str, Group]:
    """What was observed, and what was conditioned on."""
    names = data_dims(fit, data)
    if isinstance(fit.program, UserProgram):
        values = observed_sites(fit, data)
        return {"observed_data": {k: Variable(v, names[k]) for k, v in values.items()}}
    table = fit.read(data)
    columns = {name: Variable(column(table, name), ("row",)) for name in table.names}
    given = {name: columns.pop(name) for name in fit.program.inputs}
    return {"observed_data": columns} | ({"constant_data": given} if given else {})


def whole(fit: Any, name: str, values: np.ndarray) -> np.ndarray:
    """Whole numbers where a column has levels or counts: ArviZ draws bars of them, densities of others."""
    counted = name in fit.schema.names and (fit.schema[name].is_discrete or fit.schema[name].kind == "count")
    return values.astype(int) if counted and np.isfinite(values).all() else values


def column(table: Table, name: str) -> np.ndarray:
    """Values of a column, whole numbers for discrete ones without holes."""
    values, kind = table.values[:, table.schema.index(name)], table.schema[name]
    counted = (kind.is_discrete or kind.kind == "count") and not np.isnan(values).any()
    return values.astype(int) if counted else values


def observed_sites(fit: Any, data: Any) -> dict[str, np.ndarray]:
    """Values of the sites that a user's program observes."""
    return {name: value.double().cpu().numpy() for name, value in one_run(fit, data).values.items()}


class Observed(Recorder):
    """Also keeps the values."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, torch.Tensor] = {}

    def _pyro_post_sample(self, message: dict) -> None:
        super()._pyro_post_sample(message)
        if message["name"] in self.observed and message["value"].numel():
            self.values[message["name"]] = message["value"]


def one_run(fit: Any, data: Any) -> Observed:
    """A run of a user's program at the first draw."""
    first = Given(sites={name: value[0, 0] for name, value in fit.posterior.sites.items()})
    with torch.no_grad(), fit.setting(), Observed() as run, first:
        fit.program.model(fit.users_data(data))
    return run


# ----------------------------------------------------------------------------------------------------------- containers
def data_dims(fit: Any, data: Any) -> dict[str, tuple[str, ...]]:
    """Site or column -> names of the axes of its data."""
    if not isinstance(fit.program, UserProgram):
        sequences = fit.read(data).lengths is not None
        return {**dict.fromkeys(fit.schema.names, ("row",)), "table": ("sequence",) if sequences else ("row",)}
    run, given = one_run(fit, data), getattr(fit.program, "dims", None) or {}
    found = {}
    for name, value in run.values.items():
        dims = tuple(given.get(name, run.plates[name]))
        found[name] = (*dims, *(f"{name}_dim_{axis}" for axis in range(len(dims), value.dim())))
    return found


def drawn(name: str, value: np.ndarray, numbers: np.ndarray, names: dict[str, tuple[str, ...]]) -> Variable:
    """An array ``(chains, draws, ...)`` whose draws keep their numbers."""
    dims = names.get(name, ())[: value.ndim - 2]
    rest = [f"{name}_dim_{axis}" for axis in range(len(dims), value.ndim - 2)]
    return Variable(value, ("chain", "draw", *dims, *rest), {"draw": numbers.tolist()})


def dataset(group: Group) -> Any:
    """An xarray.Dataset."""
    import xarray

    coords: dict[str, Any] = {}
    for variable in group.values():
        for dim, size in zip(variable.dims, variable.values.shape, strict=True):
            coords[dim] = variable.coords.get(dim, coords.get(dim, np.arange(size)))
    return xarray.Dataset({name: (v.dims, v.values) for name, v in group.items()}, coords)


def container(groups: dict[str, Any], attributes: dict[str, Any]) -> Any:
    """The only place that knows which ArviZ is installed."""
    import arviz

    for group in groups.values():
        group.attrs.update(attributes)
    if int(arviz.__version__.split(".")[0]) >= 1:
        import xarray

        tree = xarray.DataTree.from_dict(groups)
        tree.attrs.update(attributes)
        return tree
    return arviz.InferenceData(attrs=attributes, **groups)


def attributes(fit: Any) -> dict[str, Any]:
    """How the draws were made."""
    found = {
        "kind": "point" if fit.posterior.point else "draws",
        "model": fit.name,
        "method": fit.method,
        "seed": fit.provenance["seed"],
        "seconds": float(fit.seconds),
        "inference_library": "probgen",
        **{f"version_{key}": value for key, value in fit.provenance["versions"].items()},
    }
    shape = fit.diagnostics.get("khat", fit.diagnostics.get("pareto_k"))
    return found if shape is None else {**found, "pareto_k": float(shape)}
