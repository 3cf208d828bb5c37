"""Imputations as one HTML page that needs nothing beside it: what was missing, what was put there, whether to trust it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from probgen.data.missing import flux
from probgen.errors import DataError
from probgen.report.imputation_figures import figures
from probgen.report.imputation_words import cautions, notes, summary
from probgen.report.page import detail, number, put, template
from probgen.studies.design import said, shown
from probgen.studies.imputed_values import chain_series, imputed_columns
from probgen.studies.pooling import Pooled, pool
from probgen.studies.propensity import Propensity, propensity

if TYPE_CHECKING:
    from probgen.studies.imputation_comparison import ImputationComparison
    from probgen.studies.multiple_imputation import Imputations
    from probgen.studies.overimputation import Overimputation

__all__ = ["Findings", "find", "render_imputations", "write_imputations"]

FEWEST_CELLS = 5  # imputed, for a look at a column's propensity
MOST_COLUMNS = 60


@dataclass(frozen=True, eq=False)
class Findings:
    """What the page tells, worked out once.

    Attributes:
        imputed: the imputations.
        columns: one record a column.
        propensities: of columns with imputed cells.
        chains: name -> ``(sweeps, chains)``; empty where there is no chain.
        pooled: name of an analysis -> its pooled numbers.
        overimputed, comparison: where they were asked for.
    """

    imputed: Imputations
    columns: list[dict[str, Any]]
    propensities: dict[str, Propensity]
    chains: dict[str, np.ndarray]
    pooled: dict[str, Pooled]
    overimputed: Overimputation | None
    comparison: ImputationComparison | None

    @property
    def incomplete(self) -> list[str]:
        """Columns with imputed cells."""
        return [record["column"] for record in self.columns if record["imputed"] and record["known"]]


def find(
    imputed: Imputations,
    analyses: Any = None,
    overimputed: Overimputation | None = None,
    comparison: ImputationComparison | None = None,
) -> Findings:
    """Everything that the page tells."""
    table, tables = imputed.table, imputed.tables
    columns = imputed_columns(table, tables)
    looked = [r["column"] for r in columns if r["imputed"] >= FEWEST_CELLS and r["known"] >= FEWEST_CELLS]
    scores = {name: propensity(table, tables, name) for name in looked[:MOST_COLUMNS]} if table.n_columns > 1 else {}
    return Findings(
        imputed, columns, scores, chain_series(imputed), pooled_all(imputed, analyses), overimputed, comparison
    )


def pooled_all(imputed: Imputations, analyses: Any) -> dict[str, Pooled]:
    """Name -> pooled numbers of one analysis, several, or several with names."""
    if analyses is None:
        return {}
    if not isinstance(analyses, Mapping):
        several = [analyses] if isinstance(analyses, str | Pooled) or callable(analyses) else list(analyses)
        analyses = {named(one, at): one for at, one in enumerate(several, 1)}
    return {
        str(name): one if isinstance(one, Pooled) else pool(imputed.analyse(one)) for name, one in analyses.items()
    }


def named(analysis: str | Callable | Pooled, at: int) -> str:
    """A formula names itself."""
    return analysis if isinstance(analysis, str) else f"analysis {at}"


def write_imputations(
    imputed: Imputations,
    path: str | os.PathLike,
    analyses: Any = None,
    *,
    overimputed: Overimputation | None = None,
    comparison: ImputationComparison | None = None,
    title: str = "",
    overwrite: bool = False,
) -> Path:
    """The page as a file; see :meth:`probgen.Imputations.report`.

    Raises:
        DataError: the file exists and ``overwrite`` is not set, or there is no folder for it.
    """
    check_place(path, overwrite)
    return put(render_imputations(find(imputed, analyses, overimputed, comparison), title), path)


def check_place(path: str | os.PathLike, overwrite: bool) -> None:
    """Say no before any work is done."""
    if Path(path).exists() and not overwrite:
        raise DataError(f"{path} exists and is left as it is; choose another name, or set overwrite=True.")
    if not Path(path).parent.is_dir():
        raise DataError(f"There is no folder {Path(path).parent} for {path}; make it first.")


def render_imputations(found: Findings, title: str = "") -> str:
    """The page as text."""
    table = found.imputed.table
    return template("imputation.html.jinja").render(
        found=found,
        imputed=found.imputed,
        table=table,
        title=title or f"{found.imputed.m} imputations of {table.n_rows:,} rows",
        unknown=float((~table.known).mean()),
        summary=summary(found),
        cautions=cautions(found),
        notes=notes(found),
        columns=column_rows(found),
        figures=figures(found),
        pooled={name: pooled_rows(one) for name, one in found.pooled.items()},
        call=call(found.imputed),
        beside=beside(found.imputed),
        provenance=found.imputed.fits[0].provenance,
        seconds=sum(fit.seconds for fit in found.imputed.fits),
    )


# ------------------------------------------------------------------------------------------ tables
def column_rows(found: Findings) -> list[dict[str, Any]]:
    """One line a column: cells, what is known beside what was imputed, flux."""
    table = found.imputed.table
    rows = []
    for record, column, moved in zip(found.columns, table.schema, flux(table), strict=True):
        share = record["unknown"] / max(table.n_rows, 1)
        shown = {"known_told": "", "imputed_told": "", "detail": detail(column), "share": share}
        if "known_mean" in record:
            shown["known_told"] = told(record["known_mean"], record["known_sd"], column.kind)
            shown["imputed_told"] = told(record["imputed_mean"], record["imputed_sd"], column.kind)
        rows.append({**record, **shown, "influx": moved.influx, "outflux": moved.outflux})
    return rows


def told(mean: float, spread: float, kind: str) -> str:
    """Mean and standard deviation; of dates a day and days.

    Example:
        >>> told(12.345, 2.0, "real"), told(18262.0, 30.0, "datetime")
        ('12.35 (2.00)', '2020-01-01 (30 days)')
    """
    if kind == "datetime":
        return f"{np.datetime64(round(mean), 'D')} ({spread:.0f} days)"
    size = max(abs(mean), abs(spread), 1e-300)
    digits = int(np.clip(3 - np.floor(np.log10(size)), 0, 6))
    return f"{number(mean, digits)} ({number(spread, digits)})"


def pooled_rows(pooled: Pooled) -> list[dict[str, Any]]:
    """One line a term, with the Monte-Carlo error of its estimate."""
    records = pooled.records()
    errors = pooled.monte_carlo_error().estimate if pooled.m > 2 else np.full(len(records), np.nan)
    return [{**record, "error": float(error)} for record, error in zip(records, errors, strict=True)]


def call(imputed: Imputations) -> str:
    """The Python that made the imputations."""
    settings = "".join(f", {name}={value!r}" for name, value in imputed.settings.items())
    also = beside(imputed)
    asked = "".join(f", {name}={also[name]}" for name in ("design", "mechanism") if name in also)
    parts = f"m={imputed.m}, uncertainty={imputed.uncertainty!r}, seed={imputed.seed}{settings}{asked}"
    return f"pg.impute(table, {imputed.fits[0].name!r}, {parts}){also.get('shift', '')}"


def beside(imputed: Imputations) -> dict[str, str]:
    """What was asked for beside the model, as it is written in Python: ``design``, ``mechanism``, ``shift``."""
    learnt, shift = getattr(imputed, "mechanism", None), getattr(imputed, "shift", None)
    found = {}
    if imputed.design is not None:
        found["design"] = repr(imputed.design)
    if learnt is not None:
        options = "".join(
            f", {name}={shown(value)}" for name, value in said(learnt.mechanism).items() if name != "form"
        )
        found["mechanism"] = f"pg.Mechanism({learnt.mechanism.form!r}{options})"
    if shift is not None:
        found["shift"] = f".shifted({shown(shift.delta)}, scale={shift.scale!r}, given={shift.given!r})"
    return found
