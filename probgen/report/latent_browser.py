"""A latent space as one HTML page: drag in it and see what is decoded there, or walk from one row to another."""

from __future__ import annotations

import json
import os
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from probgen.data.schema import Column
from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError
from probgen.report.exported_decoder import ExportedDecoder, encoded, export, principal
from probgen.report.imputation import check_place
from probgen.report.page import put, template
from probgen.report.pictures import Picture, atlas, limits, pictures_of

if TYPE_CHECKING:
    from probgen.queries.fit import Fit

__all__ = ["latent_browser"]

MOST_LATENTS = 64
BINS = 24  # of the small histograms
SCRIPTS = ("latent_decoder.js", "latent_plane.js", "latent_sample.js", "latent_browser.js")


def latent_browser(
    fit: Fit,
    table: Any,
    path: str | os.PathLike,
    colour: str | None = None,
    shape: tuple[int, ...] | None = None,
    points: int = 2000,
    title: str = "",
    *,
    overwrite: bool = False,
) -> Path:
    """Write a page in which a person drags in latent space, sees the sample change, and walks between two rows.

    The page needs nothing beside it: the decoder goes along, and what it shows are the numbers of :meth:`Fit.decode`, with the
    probabilities of all levels; a label that the decoder reads beside its latents is chosen on the page. Weights are in single
    precision, in half from 400 000 of them on. A decoder with operations that a page cannot carry out is replaced by its values on
    a grid over the plane of the two directions of largest variance, and the page says so.

    Args:
        fit: of a model whose rows have continuous latents that are decoded, such as ``vae`` or ``factor_analysis``.
        table: the rows whose codes are shown.
        path: of the file; nothing is overwritten unasked.
        colour: a column of the table that colours the points; the fit need not know it.
        shape: (height, width), or (height, width, 3), of the picture that the columns of numbers are. None: what the schema says.
        points: most rows that are shown, drawn from the table if it has more.
        title: above everything.
        overwrite: replace a file that exists.

    Raises:
        CapabilityError: the model has no continuous latents to decode, or it has a single one, or more than 64.
        DataError: a table without rows; the file exists, or there is no folder for it.
        SchemaError: a colour that is no column, or a shape that the columns do not have.
    """
    check_place(path, overwrite)
    check_model(fit)
    source = checked_rows(table if isinstance(table, Table) else Table(table), points, colour)
    pictures = pictures_of(fit.schema, shape)
    rows = chosen(len(source), points)
    table = fit.read(source.select([name for name in source.names if name in fit.schema.names]))
    codes = checked_codes(fit, fit.embed(table.take(rows)))
    colours = None if colour is None else colour_told(source.take(rows), colour)
    told = page_data(fit, table, rows, codes, pictures, colours)
    page = template("latent_browser.html.jinja").render(
        title=title or f"The latent space of {article(fit.name)}",
        fit=fit,
        told=told,
        shown=len(rows),
        rows=len(source),
        data=as_script(told),
        scripts=scripts(),
    )
    return put(page, path)


def check_model(fit: Fit) -> None:
    """Continuous latents of rows that stand alone, and a decoder."""
    traits = fit.traits
    if fit.standardiser is None or traits.embedding != "mean" or traits.sequences or not traits.normalised:
        raise CapabilityError(
            f"{fit.name!r} has no continuous latents of single rows that a page could decode. Fit vae, conditional_vae,"
            " hierarchical_vae, autoencoder, factor_analysis or probabilistic_pca; fit.embed, where there is one, says what"
            " a row is like for this model."
        )


def checked_rows(source: Table, points: int, colour: str | None) -> Table:
    """Some rows that stand alone, with the column that colours them."""
    if not len(source) or points < 1:
        raise DataError(f"A latent browser shows at least one row; there are {len(source)}, and points={points}.")
    if source.lengths is not None:
        raise DataError("A latent browser shows rows that stand alone; these stand in sequences.")
    if colour is not None:
        source.schema.index(colour)
    return source


def checked_codes(fit: Fit, codes: np.ndarray) -> np.ndarray:
    """At least two latents and not too many."""
    latent = codes.shape[1]
    if latent < 2:
        raise CapabilityError(
            f"This {fit.name} has a single latent number a row, and a plane needs two: fit it with latent=2, or walk along it by"
            " fit.decode(np.linspace(-3, 3, 9)[:, None])."
        )
    if latent > MOST_LATENTS:
        raise CapabilityError(
            f"This {fit.name} has {latent} latent numbers a row; a browser has sliders for at most {MOST_LATENTS}."
            " Fit it with fewer, or look at probgen.representation_study."
        )
    return codes


def chosen(rows: int, points: int) -> np.ndarray:
    """Numbers of the rows that are shown, in order."""
    return np.sort(np.random.default_rng(0).choice(rows, min(rows, points), replace=False))


def article(name: str) -> str:
    """With its article.

    Example:
        >>> article("vae"), article("autoencoder")
        ('a vae', 'an autoencoder')
    """
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


# -------------------------------------------------------------------------------------------- data
def page_data(
    fit: Fit, table: Table, rows: np.ndarray, codes: np.ndarray, pictures: list[Picture], colour: dict[str, Any] | None
) -> dict[str, Any]:
    """All that the page's script reads."""
    shown, decoder = table.take(rows), export(fit, codes)
    pixels = {place for picture in pictures for place in picture.places}
    return {
        "latent": codes.shape[1],
        "rows": rows.tolist(),
        "codes": encoded(codes),
        "basis": basis(codes),
        "columns": [column_told(fit, table, at, decoder, at in pixels) for at in range(len(fit.schema))],
        "cells": [None if at in pixels else cells(shown, at) for at in range(len(fit.schema))],
        "pictures": [picture_told(table, shown, picture) for picture in pictures],
        "colour": colour,
        "label": None if decoder.label is None else fit.schema.index(decoder.label),
        "decoder": decoder.told,
        "reason": decoder.reason,
    }


def basis(codes: np.ndarray) -> dict[str, Any]:
    """Mean, principal directions and their shares of the variance; latents by the variance of the rows' means."""
    directions, spread = principal(codes)
    use = codes.var(0)
    return {
        "mean": codes.mean(0).tolist(),
        "directions": directions.tolist(),
        "shares": (spread / max(spread.sum(), 1e-300)).tolist(),
        "use": np.argsort(-use, kind="stable").tolist(),
        "variances": (use / max(use.sum(), 1e-300)).tolist(),
    }


def column_told(fit: Fit, table: Table, at: int, decoder: ExportedDecoder, pixel: bool) -> dict[str, Any]:
    """How a column's outputs are read and shown."""
    column, standardiser = fit.schema[at], fit.standardiser
    assert standardiser is not None
    first, size = decoder.outputs[at]
    told = {
        "at": first,
        "size": size,
        "scale": standardiser.scale[at],
        "shift": standardiser.shift[at],
        "pixel": pixel,
    }
    if pixel:
        return told
    return {**told, **named(column), **({} if column.is_discrete else spread_told(table.values[:, at]))}


def named(column: Column) -> dict[str, Any]:
    """Name, kind and levels."""
    return {"name": str(column.name), "kind": column.kind, "levels": [str(level) for level in column.levels]}


def spread_told(values: np.ndarray) -> dict[str, Any]:
    """The 1st and the 99th percentile, a small histogram between them, and how many decimals tell values apart."""
    known = values[~np.isnan(values)]
    low, high = np.percentile(known, [1, 99]).tolist() if len(known) else (0.0, 1.0)
    if not high > low:
        low, high = low - 0.5, low + 0.5
    counts = np.histogram(known, BINS, (low, high))[0]
    digits = int(np.clip(np.ceil(-np.log10((high - low) / 300)), 0, 6))
    return {"low": low, "high": high, "bins": (counts / max(counts.max(), 1)).round(3).tolist(), "digits": digits}


def cells(table: Table, at: int) -> list[float | int | None]:
    """A column as numbers and codes; None where unknown."""
    whole = table.schema[at].is_discrete
    return [None if np.isnan(x) else int(x) if whole else float(f"{x:.6g}") for x in table.values[:, at].tolist()]


def picture_told(table: Table, shown: Table, picture: Picture) -> dict[str, Any]:
    """Its pixels and the rows' pictures."""
    low, high = limits(table, picture)
    sheet, across = atlas(shown, picture, low, high)
    told = {"name": picture.name, "shape": picture.shape, "places": picture.places, "low": low, "high": high}
    return {**told, "sheet": sheet, "across": across}


def colour_told(shown: Table, colour: str) -> dict[str, Any]:
    """The column of colours, as the other columns are told."""
    at = shown.schema.index(colour)
    column = shown.schema[at]
    extra = {} if column.is_discrete else spread_told(shown.values[:, at])
    return {**named(column), **extra, "cells": cells(shown, at)}


# ------------------------------------------------------------------------------------------- page
def as_script(told: dict[str, Any]) -> Markup:
    """JSON that no text in it can end before its time."""
    text = json.dumps(told, separators=(",", ":"), allow_nan=False, default=plain)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def plain(value: Any) -> Any:
    """Numbers of numpy."""
    return value.item()


@cache
def scripts() -> Markup:
    """The page's programs, in their order."""
    return Markup("\n".join((files("probgen.report") / name).read_text(encoding="utf-8") for name in SCRIPTS))
