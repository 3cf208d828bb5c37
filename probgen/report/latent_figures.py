"""The figures of latent spaces: as pictures where the columns are those of one, else column by column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from probgen import plots
from probgen.plots.latent import as_pictures
from probgen.plots.pictures import ends
from probgen.report.svg import draw

if TYPE_CHECKING:
    from probgen.data.table import Table
    from probgen.queries.decoded import Decoded
    from probgen.studies.latent_paths import LatentPictures, Traversal
    from probgen.studies.main_study import Study

__all__ = ["latent_figures", "latent_use", "reconstruction_errors"]

MOVED, SHOWN = 3, 5  # latent dimensions and columns whose walks are drawn
STILL = 0.02  # a column that moves by less is not drawn
MOST_COLUMNS = 40  # whose errors are drawn


def latent_use(study: Study) -> Markup | None:
    """How much each latent dimension of each model says."""
    found = {name: each.dimensions for name, each in study.latents.items() if each.dimensions.rows is not None}
    if not found:
        return None
    width = min(max(len(each.names) for each in found.values()), 20)
    size = (2.4 + 0.62 * max(width, 6), 0.9 + 0.42 * len(found))
    words = "Nats that each latent dimension says of a row, by model, most used first"
    return draw("latent_use", words, size, lambda f: plots.latent_use(found, f.subplots()))


def reconstruction_errors(study: Study) -> Markup | None:
    """Errors of decoded rows, column by column, where there are not too many."""
    found = {name: each.reconstruction for name, each in study.latents.items()}
    if not found or study.table.n_columns > MOST_COLUMNS:
        return None
    size = (8.4, 0.9 + 0.34 * study.table.n_columns)
    words = "Error of decoded rows by column and model"
    return draw("reconstruction_errors", words, size, lambda f: plots.reconstruction_errors(found, f.subplots()))


def latent_figures(study: Study) -> list[dict[str, Any]]:
    """For each model its name, its pictures, and what they are called."""
    return [
        {"model": name, "row": found.traversal.row, "slots": bool(np.isnan(found.traversal.quantiles).all())}
        | figures_of(name, found, study.table)
        for name, found in study.latents.items()
    ]


def figures_of(name: str, found: LatentPictures, table: Table) -> dict[str, Any]:
    """Of one latent space."""
    schema = found.reconstruction.decoded.schema
    rows = as_pictures(found.reconstruction.original, schema)
    if rows is None:
        return {
            "pictures": False,
            "traversal": traversal(name, found, table),
            "interpolation": interpolation(name, found, table),
        }
    walk, path = found.traversal, found.interpolation
    limits, lines = ends(rows), np.stack([rows, *decoded_and_drawn(found)])
    words = ["rows", "decoded", "drawn"]
    made = {
        "traversal": (lambda axes: plots.traversal_pictures(walk, axes, limits=limits), walk.values.shape),
        "interpolation": (
            lambda axes: plots.interpolation_pictures(path, axes, limits=limits),
            (3, len(path.decoded["straight"])),
        ),
        "rows": (lambda axes: plots.picture_rows(lines, axes, rows=words, limits=limits), lines.shape[:2]),
    }
    return {"pictures": True, **{what: picture(name, what, paint, *size) for what, (paint, size) in made.items()}}


def decoded_and_drawn(found: LatentPictures) -> list[np.ndarray]:
    """``(R, H, W)`` of rows as they are decoded, and of rows drawn from the prior."""
    decoded = found.reconstruction.decoded
    images = [as_pictures(values, decoded.schema) for values in (decoded.centres, found.samples)]
    return [each for each in images if each is not None]


def picture(model: str, what: str, paint: Any, lines: int, across: int) -> Markup:
    """A figure of small pictures."""
    size = (2.0 + 0.6 * across, 0.3 + 0.62 * lines)
    return draw(f"{what}_{model}", f"{what.capitalize()} of {model}", size, lambda f: paint(f.subplots()))


def traversal(name: str, found: LatentPictures, table: Table) -> Markup:
    """Lines: latent dimensions; across: the columns that move most."""
    walk = found.traversal
    count, columns = min(MOVED, len(walk.names)), moving(walk, table)

    def paint(figure: Figure) -> None:
        panels = figure.subplots(count, len(columns), squeeze=False, sharey="col")
        for number, line in enumerate(panels):
            for axes, column in zip(line, columns, strict=True):
                plots.traversal_column(walk, number, column, axes)
                axes.set_ylabel(axes.get_xlabel() if column == columns[0] else "")
                axes.set_xlabel("")
                if number:
                    axes.set_title("", loc="left")

    words = f"Columns expected by {name} while one latent dimension moves"
    return draw(f"traversal_{name}", words, (10.2, 0.4 + 1.65 * count), paint)


def interpolation(name: str, found: LatentPictures, table: Table) -> Markup:
    """The columns that change most between two rows, on three paths."""
    walk = found.interpolation
    columns = changing(walk.decoded["straight"], table)

    def paint(figure: Figure) -> None:
        panels = figure.subplots(1, len(columns), squeeze=False)[0]
        for axes, column in zip(panels, columns, strict=True):
            plots.interpolation_column(walk, column, axes)
        handles, labels = panels[0].get_legend_handles_labels()
        lengths = [f"{label} (length {walk.lengths[label]:.1f})" for label in labels]
        figure.legend(
            handles, lengths, loc="outside lower center", ncols=3, frameon=False, labelcolor=plots.latent.MUTED
        )

    words = f"Columns expected by {name} on three paths between two rows"
    return draw(f"interpolation_{name}", words, (10.2, 2.5), paint)


def moving(walk: Traversal, table: Table) -> list[str]:
    """The columns that change most along the dimensions that are drawn."""
    steps = len(walk.quantiles)
    return changing(walk.decoded.take(np.arange(min(MOVED, len(walk.names)) * steps)), table)


def changing(found: Decoded, table: Table) -> list[str]:
    """Columns by how far their expectation moves: numbers over four of their standard deviations, levels by their probabilities."""
    spread = np.nanstd(table.select(found.schema.names).values, axis=0)
    moves = {
        column.name: float(np.ptp(found.levels[column.name], axis=0).max())
        if column.name in found.levels
        else float(np.ptp(found.centres[:, at]) / max(4 * spread[at], 1e-300))
        for at, column in enumerate(found.schema)
    }
    kept = [name for name in sorted(moves, key=lambda name: -moves[name])[:SHOWN] if moves[name] > STILL]
    return [name for name in found.schema.names if name in kept] or list(found.schema.names[:1])
