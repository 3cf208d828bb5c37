"""Which family each column of a fit goes by: told in saved files, and checked when they are read."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeAlias

from probgen.data.schema import Schema
from probgen.errors import DataError
from probgen.families.columns import Columns
from probgen.families.node_columns import NodeColumns

__all__ = ["Families", "check_families", "families_of"]

Families: TypeAlias = dict[str, dict[str, str]]


def families_of(program: Any) -> Families:
    """Of every distribution over columns, by its place in the program, the family of each column.

    Example:
        >>> from probgen.data import Column, Schema
        >>> from probgen.program import find
        >>> schema = Schema((Column("n", "count", bounds=(0, 9)), Column("x", "real"), Column("y", "real")))
        >>> families_of(find("vae")(schema, latent=1))
        {'columns': {'n': 'discretised_logistic10', 'x': 'real', 'y': 'real'}}
    """
    return {
        path: {module.names[at]: block.name for block in module.parts() for at in block.index.tolist()}
        for path, module in program.named_modules()
        if isinstance(module, Columns | NodeColumns)
    }


def check_families(program: Any, schema: Schema, told: Families | None, sites: Iterable[str], path: str) -> None:
    """Refuse a file whose columns went by other families than the program has now.

    Args:
        program: as this version makes it.
        schema: of the fit.
        told: what :func:`families_of` said when it was saved; None in files that do not say it.
        sites: names of the saved parameters, which end with the family's name where parameters are no network's.
        path: of the file.

    Raises:
        DataError: another family, or one that nobody can tell.
    """
    if told is None:
        check_untold(schema, families_of(program), sites, path)
        return
    for place, now in families_of(program).items():
        for name, family in now.items():
            then = told.get(place, {}).get(name)
            if then != family:
                raise DataError(
                    f"{path}: column {name!r} was fitted by the family {then!r}, and this version takes {family!r}; fit it again,"
                    " with families= where the model takes it and the family shall stay."
                )


def check_untold(schema: Schema, now: Families, sites: Iterable[str], path: str) -> None:
    """Files of old: the families of all columns are those of today but of counts with bounds."""
    blocks = {site.rpartition(".")[2] for site in sites}
    for column in schema:
        if column.kind != "count" or not math.isfinite(column.ends[1]):
            continue
        families = [family[column.name] for family in now.values() if column.name in family]
        if not families or not blocks.issuperset(families):
            raise DataError(
                f"{path} was saved by an older version and does not say by which family column {column.name!r}, a count with"
                f" bounds {column.bounds}, was fitted; fit it again and save it."
            )
