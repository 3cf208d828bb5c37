"""A study as one HTML page that needs nothing beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from probgen.report.caveats import caveats
from probgen.report.figures import baseline, best_classifiers, figures
from probgen.report.latent_figures import latent_figures

if TYPE_CHECKING:
    from probgen.studies.main_study import Study

__all__ = ["render", "write"]


def render(study: Study, title: str = "") -> str:
    """The page as text.

    Args:
        study: as :func:`probgen.study` returns it.
        title: above everything; "A study of N rows" where empty.
    """
    return template("template.html.jinja").render(
        study=study,
        title=title or f"A study of {len(study.table):,} rows",
        figures=figures(study),
        latents=latent_figures(study),
        made={**study.fits, **study.represented},
        caveats=caveats(study),
        columns=column_rows(study),
        density=density_rows(study),
        worst=worst_rows(study),
        measured=measure_rows(study),
        imputation=imputation_rows(study),
        baseline=baseline(study),
        classification=classification_rows(study),
        unknown=float((~study.table.known).mean()),
        versions=next(iter(study.fits.values())).provenance,
    )


def write(study: Study, path: str | os.PathLike, title: str = "") -> Path:
    """The page as a file; a file of that name is replaced as a whole or not at all."""
    return put(render(study, title), path)


def template(name: str) -> Template:
    """A page to be filled in."""
    surroundings = Environment(
        loader=PackageLoader("probgen.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    surroundings.filters.update(number=number, percent=percent, cell=cell)
    return surroundings.get_template(name)


def put(text: str, path: str | os.PathLike) -> Path:
    """A page's text as a file, whole or not at all."""
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(place.name + ".part")
    beside.write_text(text, encoding="utf-8")
    return beside.replace(place)


# ------------------------------------------------------------------------------------------ tables
def column_rows(study: Study) -> list[dict[str, Any]]:
    """The schema, one line a column."""
    unknown = (~study.table.known).mean(0)
    return [
        {"column": column, "detail": detail(column), "unknown": float(unknown[place])}
        for place, column in enumerate(study.table.schema)
    ]


def detail(column: Any) -> str:
    """Levels or bounds."""
    if column.levels:
        shown = ", ".join(str(level) for level in column.levels[:6])
        return shown + (f", … ({len(column.levels)} levels)" if len(column.levels) > 6 else "")
    return f"{column.bounds[0]:g} to {column.bounds[1]:g}" if column.bounds else ""


def density_rows(study: Study) -> list[dict[str, Any]]:
    """Scores, each with its verdict beside the best."""
    found = []
    for score in study.density.scores:
        best = score["model"] == study.best
        noise = abs(score["difference"]) <= 2 * np.nan_to_num(score["difference_se"], nan=np.inf)
        verdict = "best" if best else "within noise" if noise else "behind"
        found.append({**score, "verdict": verdict, "seconds": study.fits[score["model"]].seconds})
    return found


def worst_rows(study: Study) -> list[dict[str, Any]]:
    """The rows that the best model finds least likely, with their cells."""
    mine = [row for row in study.density.worst if row["model"] == study.best]
    table = study.test.take([row["row"] for row in mine])
    labels = {name: table.column(name) for name in table.names[:12]}
    return [
        {"log_prob": row["log_prob"], "cells": [values[i] for values in labels.values()]} for i, row in enumerate(mine)
    ]


def measure_rows(study: Study) -> list[dict[str, Any]]:
    """Measures of the rows that each model drew, and last those of training rows; empty where none were asked for."""
    samples = study.density.samples
    lines: list[dict[str, Any]] = [{"model": name, "found": each.drawn} for name, each in samples.items()]
    return lines + [{"model": "training rows", "found": each.real} for each in list(samples.values())[:1]]


def imputation_rows(study: Study) -> list[dict[str, Any]]:
    """Scores of filled cells, in the order of the densities, the baseline last."""
    by_name = {score["model"]: score for score in study.imputation.scores}
    return [by_name[name] for name in (*study.density.models, baseline(study)) if name in by_name]


def classification_rows(study: Study) -> list[dict[str, Any]]:
    """Classifiers by rising log loss, the baseline last."""
    if study.classification is None:
        return []
    by_name = {score["model"]: score for score in study.classification.scores}
    ranked = best_classifiers(study)
    return [by_name[name] for name in (*ranked, *(n for n in by_name if n not in ranked))]


# ------------------------------------------------------------------------------------------- words
def number(value: float | None, digits: int = 3) -> str:
    """A number with a real minus sign; a dash for what is not there.

    Example:
        >>> number(-17.2184, 2), number(None), number(float("-inf"))
        ('−17.22', '–', '−∞')
    """
    if value is None or np.isnan(value):
        return "–"
    if np.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{abs(value):,.{digits}f}" if abs(value) < 1e6 else f"{abs(value):.2e}"
    return ("−" if value < 0 and text.strip("0.,") else "") + text


def percent(value: float | None) -> str:
    """A share.

    Example:
        >>> percent(0.8766), percent(0.0042), percent(None)
        ('88 %', '0.4 %', '–')
    """
    if value is None or np.isnan(value):
        return "–"
    digits = 1 if 0 < value < 0.1 else 0
    return f"{100 * value:.{digits}f} %"


def cell(value: Any) -> str:
    """A table's cell as a person writes it; a dash where it is unknown."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, np.datetime64):
        return "–" if np.isnat(value) else str(value)[:10]
    return f"{value:g}" if isinstance(value, float) else str(value)
