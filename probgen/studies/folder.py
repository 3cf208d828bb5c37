"""The folder of a study: ``study.json``, CSV tables and the report."""

from __future__ import annotations

import csv
import importlib
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from probgen.errors import DataError

if TYPE_CHECKING:
    from probgen.data.table import Table
    from probgen.studies.imputation import ImputationScore
    from probgen.studies.main_study import Study

__all__ = ["claim", "contents", "write"]

MADE_BY = "probgen study"
REPORT = "probgen.report"  # a face: it lies above the studies and is looked up by name when a page is wanted


def claim(out: str | Path, force: bool = False) -> Path:
    """The folder, if we may write into it; it is made when something is written.

    Raises:
        DataError: a file, or a folder that holds something that is not an earlier study.
    """
    place = Path(out)
    if place.exists() and not place.is_dir():
        raise DataError(f"{place} is a file; give a folder.")
    if place.is_dir() and any(place.iterdir()) and not force and not is_ours(place):
        raise DataError(
            f"{place} is not empty and holds no earlier study; it is left as it is. Give another folder, or force=True"
            " (--force)."
        )
    return place


def is_ours(place: Path) -> bool:
    """Whether a folder was written by a study."""
    try:
        found = json.loads((place / "study.json").read_text(encoding="utf-8"))
        return isinstance(found, dict) and found.get("made_by") == MADE_BY
    except (OSError, ValueError):
        return False


def write(study: Study, place: Path) -> None:
    """All files of a study."""
    place.mkdir(parents=True, exist_ok=True)
    write_text(place / "study.json", study.to_json() + "\n")
    write_rows(place / "scores.csv", score_rows(study))
    write_rows(place / "worst_rows.csv", [asdict(row) for row in study.density.worst])
    if study.imputation is not None:
        write_rows(place / "imputation.csv", imputation_rows(study.imputation))
    if study.classification is not None:
        write_rows(place / "classification.csv", classification_rows(study))
    if study.prediction is not None:
        write_rows(place / "prediction.csv", imputation_rows(study.prediction))
    if study.representation is not None and study.representation.best is not None:
        write_rows(place / "embedding.csv", embedding_rows(study))
    for name, table in (("completed", study.completed), ("samples", study.samples)):
        if table is not None:
            write_table(place / f"{name}.csv", table)
    importlib.import_module(REPORT).write(study, place / "report.html")


# ---------------------------------------------------------------------------------------- the rows
def score_rows(study: Study) -> list[dict[str, Any]]:
    """Held-out log densities, one model a line."""
    return [
        {
            "model": s.model,
            "mean": s.mean,
            "se": s.se,
            "difference_to_best": s.difference.mean,
            "difference_se": s.difference.se,
            **{f"q{100 * q:02.0f}": value for q, value in s.quantiles.items()},
            "kind": s.kind,
            "monte_carlo_se": s.monte_carlo_se,
            "impossible_rows": s.impossible,
            "seconds": s.seconds,
        }
        for s in study.density.scores
    ]


def imputation_rows(found: Any) -> list[dict[str, Any]]:
    """Scores of filled cells: all columns together (no column name), then column by column."""
    return [imputation_row(s) for s in (*found.scores, *found.columns)]


def imputation_row(s: ImputationScore) -> dict[str, Any]:
    """One line."""
    return {
        "model": s.model,
        "column": s.column,
        "cells": s.cells,
        "rmse": s.rmse,
        "crps": s.crps,
        "crps_se": s.crps_se,
        "crps_gain": s.crps_gain.mean,
        "crps_gain_se": s.crps_gain.se,
        **{f"coverage_{100 * q:.0f}": value for q, value in s.coverage.items()},
        **{f"width_{100 * q:.0f}": value for q, value in s.width.items()},
        "accuracy": s.accuracy,
        "log_loss": s.log_loss,
        "log_loss_se": s.log_loss_se,
        "log_loss_gain": s.log_loss_gain.mean,
        "log_loss_gain_se": s.log_loss_gain.se,
    }


def classification_rows(study: Study) -> list[dict[str, Any]]:
    """Classifiers, one model a line."""
    assert study.classification is not None
    rows = []
    for s in study.classification.scores:
        row = asdict(s)
        difference = row.pop("difference")
        rows.append({**row, "difference_to_best": difference["mean"], "difference_se": difference["se"]})
    return rows


def embedding_rows(study: Study) -> Iterable[dict[str, Any]]:
    """Coordinates of each row under the best embedding, and their projection."""
    found = study.representation
    assert found is not None and found.best is not None
    z, plane = found.embeddings[found.best], found.projections[found.best]
    for i in range(len(z)):
        row = {"row": i, **{f"z{j + 1}": value for j, value in enumerate(z[i])}}
        row |= {"pc1": plane[i, 0], "pc2": plane[i, 1]}
        yield row if found.labels is None else {**row, str(found.target): found.labels[i]}


# --------------------------------------------------------------------------------------- the files
def write_text(path: Path, text: str) -> None:
    """A whole file or none."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Dictionaries with the same keys as CSV; NaN and None are empty."""
    kept = list(rows)
    if not kept:
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(kept[0])
        writer.writerows([cell(value) for value in row.values()] for row in kept)


def cell(value: Any) -> Any:
    """A number with ten digits, nothing for what is unknown, other things as they are."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.10g}" if isinstance(value, float) else value


def write_table(path: Path, table: Table) -> None:
    """A table with its labels."""
    table.to_pandas().to_csv(path, index=False)


# ---------------------------------------------------------------------------------------- the JSON
def contents(study: Study) -> dict[str, Any]:
    """Everything but tables and fits."""
    density = study.density
    return {
        "made_by": MADE_BY,
        "version": version(),
        "seed": study.seed,
        "fast": study.fast,
        "seconds": round(study.seconds, 2),
        "table": {
            "rows": len(study.table),
            "columns": study.table.n_columns,
            "unknown_cells": int((~study.table.known).sum()),
            "fingerprint": study.table.fingerprint(),
            "schema": json.loads(study.table.schema.to_json()),
        },
        "target": study.target,
        "summary": [line.replace("**", "") for line in study.summary],
        "caveats": [line.replace("**", "") for line in study.caveats],
        "density": {
            "train_rows": len(density.train),
            "test_rows": len(density.test),
            "best": density.best,
            "scores": plain(density.scores),
            "worst_rows": plain(density.worst),
        },
        "imputation": filling_contents(study.imputation),
        "prediction": filling_contents(study.prediction),
        "classification": classification_contents(study),
        "representation": representation_contents(study),
        "final": {"model": study.final_name, "rows": len(study.table)},
        "failures": [{"part": p, "model": m, "reason": r} for p, m, r in study.failures],
        "fits": {name: fit_contents(fit) for name, fit in density.fits.items()},
    }


def version() -> str:
    """Of the library."""
    from probgen import __version__

    return __version__


def filling_contents(found: Any) -> Any:
    """Scores of filled cells."""
    if found is None:
        return None
    settings = {"fraction": found.fraction, "mechanism": found.mechanism, "draws": found.draws}
    return {**settings, "scores": plain(found.scores), "columns": plain(found.columns)}


def classification_contents(study: Study) -> Any:
    """Scores of classifiers, reliability and confusion."""
    found = study.classification
    if found is None:
        return None
    return {
        "target": found.target,
        "levels": plain(found.levels),
        "scores": plain(found.scores),
        "reliability": plain(found.reliability),
        "confusion": plain(found.confusion),
    }


def representation_contents(study: Study) -> Any:
    """Scores of embeddings."""
    found = study.representation
    if found is None:
        return None
    return {
        "target": found.target,
        "majority": plain(found.majority),
        "probed_rows": found.probed,
        "scores": plain(found.scores),
    }


def fit_contents(fit: Any) -> dict[str, Any]:
    """How a model was fitted."""
    return {
        "method": getattr(fit, "method", None),
        "seconds": plain(getattr(fit, "seconds", None)),
        "diagnostics": plain(getattr(fit, "diagnostics", {})),
        "provenance": plain(getattr(fit, "provenance", {})),
    }


def plain(value: Any) -> Any:
    """What JSON knows: NaN and infinities become null, records dictionaries, arrays lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain({key: getattr(value, key) for key in value.__dataclass_fields__})
    if isinstance(value, dict):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | type(None)) else str(value)
