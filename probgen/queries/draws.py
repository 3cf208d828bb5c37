"""Posterior draws as a person reads them: readable parameters of all draws at once, with names for their axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.batches import Batch
from probgen.data.schema import Schema
from probgen.families.base import Family, Symbol
from probgen.families.columns import Joint
from probgen.inference.tracing import observe
from probgen.queries.pointwise import over_draws
from probgen.queries.reading import families

__all__ = ["Variable", "described_draws", "variables"]


@dataclass(frozen=True)
class Variable:
    """Numbers with names for their axes.

    Attributes:
        values: any array.
        dims: a name for each axis.
        coords: labels along some of the axes.
    """

    values: np.ndarray
    dims: tuple[str, ...]
    coords: dict[str, list[Any]] = field(default_factory=dict)


def described_draws(fit: Any) -> dict[str, dict[str, np.ndarray]]:
    """Family -> readable parameter -> ``(chains, draws, ...)``, in model coordinates."""
    owners = families(fit) if fit.posterior.parameters else {}
    with torch.no_grad(), fit.setting():
        return {name: described(owners[name], theta) for name, theta in fit.posterior.parameters.items()}


def described(family: Family, theta: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """All draws of one family."""
    keys, shape = list(theta), next(iter(theta.values())).shape[:2]

    def one(*values: Tensor) -> dict[str, Tensor]:
        return dict(family.describe(dict(zip(keys, values, strict=True))))

    found = over_draws(one, [value.flatten(0, 1) for value in theta.values()], 4096)
    return {key: value.double().cpu().numpy().reshape(*shape, *value.shape[1:]) for key, value in found.items()}


# ------------------------------------------------------------------------------------------------------- names of axes
def variables(fit: Any) -> dict[str, Variable]:
    """All parameters of a posterior by name; tables of a single row lose the axis of rows."""
    found = {name: sited(fit, name, value.double().cpu().numpy()) for name, value in fit.posterior.sites.items()}
    if not fit.posterior.parameters:
        return found
    names = AxisNames.of(fit)
    for family, theta in described_draws(fit).items():
        for key, value in theta.items():
            found[f"{family}.{key}"] = names.variable(family, key, value, fit.schema)
    return found


def sited(fit: Any, name: str, value: np.ndarray) -> Variable:
    """A site of a user's program: its plates' names, or the names that the program gives in ``dims``."""
    given = tuple((getattr(fit.program, "dims", None) or {}).get(name, ()))
    shape = value.shape[2:]
    rest = [f"{name}_dim_{axis}" for axis in range(len(shape) - len(given))]
    return Variable(value, ("chain", "draw", *given, *rest)[: value.ndim])


@dataclass
class AxisNames:
    """What the axes of families' parameters run over: values of a latent, columns, levels.

    Attributes:
        families: by their names in the program.
        columns: family's name -> its columns.
        latents: family's name -> the discrete site that is drawn from it, and its number of values.
    """

    families: dict[str, Family]
    columns: dict[str, list[str]] = field(default_factory=dict)
    latents: dict[str, tuple[str, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, fit: Any) -> AxisNames:
        """From one run of the program on rows with nothing known."""
        with torch.no_grad(), fit.setting():
            batch = Batch(torch.full((2, len(fit.schema)), torch.nan), fit.schema)
            tracer = observe(fit.program, batch)
        made, names = cls(tracer.families), {id(family): name for name, family in tracer.families.items()}
        for site in tracer.sites.values():
            places = [] if site.data is None else batch.places(site.data)
            held = [fit.schema.names[place] for place in places]
            for family, columns in blocks(site.distribution, held):
                if id(family) in names:
                    made.columns[names[id(family)]] = columns
            owner = names.get(id(getattr(site.distribution, "family", None)))
            if owner is not None and isinstance(site.value, Symbol):
                made.latents[owner] = (site.name, site.value.size)
        return made

    def variable(self, name: str, key: str, value: np.ndarray, schema: Schema) -> Variable:
        """Draws of one parameter of one family."""
        family = self.families[name]
        if family.table == 1 and value.ndim > 2 and value.shape[2] == 1:
            value = value[:, :, 0]
            rows: list[str] = []
        else:
            rows = [self.rows_of(name, family.table)] if value.shape[2:3] == (family.table,) else []
        dims, coords = ["chain", "draw", *rows], {}
        for axis, size in enumerate(value.shape[len(dims) :], start=len(dims)):
            label, labels = self.rest(name, size, schema)
            fallback = f"{name}.{key}_dim_{axis - 2}"
            choices = [label, f"{label}_to"] if label else []
            dims.append(next((choice for choice in choices if choice not in dims), fallback))
            if labels and dims[-1] != fallback:
                coords[dims[-1]] = labels
        return Variable(value, tuple(dims), coords)

    def rows_of(self, name: str, size: int) -> str:
        """The latent whose values the rows of a table stand for."""
        own = self.latents.get(name)
        if own is not None and own[1] == size:
            return own[0]
        return next((latent for latent, values in self.latents.values() if values == size), f"{name}_row")

    def rest(self, name: str, size: int, schema: Schema) -> tuple[str | None, list[Any]]:
        """A name for an axis after the rows, and its labels."""
        columns, own = self.columns.get(name, []), self.latents.get(name)
        if own is not None and own[1] == size:
            return own[0], labels_of(schema, own[0], size)
        if columns and size == len(columns):
            return f"{name}_column", columns
        if len(columns) == 1:
            found = labels_of(schema, columns[0], size)
            return (f"{columns[0]}_level", found) if found else (None, [])
        return None, []


def labels_of(schema: Schema, name: str, size: int) -> list[Any]:
    """Levels of a column, where there is one with so many."""
    levels = schema[name].levels if name in schema.names else None
    return [str(level) for level in levels] if levels is not None and len(levels) == size else []


def blocks(distribution: Any, columns: list[str]) -> list[tuple[Family, list[str]]]:
    """The families of an observed site, and the columns of each."""
    if isinstance(distribution, Joint):
        return [(part.family, [columns[at] for at in block.index]) for block, part in distribution.parts if columns]
    family = getattr(distribution, "family", None)
    return [] if family is None or not columns else [(family, columns)]
