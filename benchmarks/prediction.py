"""Discriminative or generative: four labelled sets with growing rows and growing holes, and rows without a label.

``SETS=``, ``REPEATS=``, ``CASES=`` choose; ``FIGURES=folder`` writes the scores there, from which docs/figures/discriminative_or_generative.py draws.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import probgen as pg
from probgen.data.table import Table

Line = dict[str, Any]
ROWS, HOLES = (50, 150, 350), (0.0, 0.2, 0.5)
TEST = {"breast tumours": 0.29, "german credit": 0.5, "census": 0.5, "white wine": 0.5}
LEAST = 2000  # rows of the larger sets
REPORTED = (
    "log_loss",
    "raw_log_loss",
    "accuracy",
    "brier",
    "ece",
    "raw_ece",
    "adaptive_ece",
    "classwise_ece",
    "held_out",
)


def labelled_sets() -> dict[str, tuple[Table, str]]:
    """Chosen before any result was seen: numbers only, mixed, mostly levels, and numbers that hardly tell the label."""
    wine = pg.load_dataset("winequality_white").to_pandas()
    wine["good"] = np.where(wine.pop("quality") >= 6, "yes", "no")
    census = pg.load_dataset("adult_train")
    schema = census.schema.with_kind("capital_loss", "semicontinuous")
    return {
        "breast tumours": (pg.load_dataset("breast_cancer"), "target"),
        "german credit": (pg.load_dataset("german_credit"), "20"),
        "census": (pg.Table(some(census).to_pandas(), schema=schema), "income"),
        "white wine": (some(pg.Table(wine)), "good"),
    }


def some(table: Table) -> Table:
    """Rows of a larger set."""
    return table.take(np.sort(np.random.default_rng(0).permutation(len(table))[:LEAST]))


def prediction() -> Iterator[Line]:
    """Every method on every set: means over repeats, with standard errors of the log loss."""
    asked = os.environ.get("SETS", ",".join(TEST)).split(",")
    for title, (table, target) in labelled_sets().items():
        if title not in asked:
            continue
        before = time.process_time()
        study = pg.prediction_study(
            table, target, rows=ROWS, holes=HOLES, repeats=int(os.environ.get("REPEATS", 2)), test_fraction=TEST[title],
            seed=0, progress=False,
        )  # fmt: skip
        keep(study, title)
        for share in HOLES:
            for rows in ROWS:
                for method in study.methods:
                    found = {name: measured(study, method, name, rows, share) for name in REPORTED}
                    error = study.curve(method, "log_loss", share)[2][ROWS.index(rows)]
                    area = study.abstention(method, rows, share)["area"]
                    yield {
                        "set": title, "holes": share, "rows": rows, "method": method, "family": study.families[method],
                        **{k: v for k, v in found.items() if v is not None}, "error": float(error), "area_under_risk": area,
                    }  # fmt: skip
        yield {"set": title, "seconds": time.process_time() - before, "failures": len(study.failures)}


def measured(study: Any, method: str, name: str, rows: int, share: float) -> float | None:
    """A mean over repeats, where the method has the measure."""
    try:
        return float(study.values(method, name, rows, share).mean())
    except pg.CapabilityError:
        return None


def keep(study: Any, title: str) -> None:
    """What the figures are drawn from: scores of every repeat, and bins of confidence."""
    folder = os.environ.get("FIGURES")
    if folder is None:
        return
    lines = [{k: v for k, v in record.items() if k != "setting"} for record in study.records]
    told = {
        "target": study.target, "levels": [str(level) for level in study.levels], "families": study.families, "records": lines,
        "settings": [record["setting"] for record in study.records],
        "reliability": {f"{m}|{share}": study.reliability(m, ROWS[-1], share) for m in study.methods for share in HOLES},
        "abstention": {f"{m}|{share}": thinned(study.abstention(m, ROWS[-1], share)) for m in study.methods for share in HOLES},
        "failures": study.failures,
    }  # fmt: skip
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / f"{title.replace(' ', '_')}.json").write_text(json.dumps(told))


def thinned(found: dict[str, Any]) -> dict[str, Any]:
    """A hundred points of a curve."""
    at = np.unique(np.linspace(0, len(found["risk"]) - 1, 100).astype(int))
    return {
        "coverage": found["coverage"][at].round(4).tolist(),
        "risk": found["risk"][at].round(4).tolist(),
        "area": found["area"],
    }


def unlabelled() -> Iterator[Line]:
    """Few labels, with and without 250 rows that have none; the sets of numbers."""
    models: dict[str, dict[str, Any]] = {
        "naive_bayes": {}, "gaussian_mixture": {"components": 6, "restarts": 1},
        "gaussian by class": {"model": "gaussian_mixture", "components": 1, "by_class": True, "shared": 0.1, "rounds": 4, "restarts": 1},
    }  # fmt: skip
    for title in ("breast tumours", "white wine"):
        table, target = labelled_sets()[title]
        for extra in (0, 250):
            study = pg.prediction_study(
                table, target, models, ["logistic_regression"], rows=(12, 25, 50), holes=(0.0,), repeats=3, folds=2,
                test_fraction=0.4, unlabelled=extra, seed=0, progress=False,
            )  # fmt: skip
            for method in study.methods:
                for rows, value, error in zip(*study.curve(method), strict=True):
                    yield {
                        "set": title, "unlabelled": extra, "rows": int(rows), "method": method, "log_loss": float(value),
                        "error": float(error), "accuracy": float(study.values(method, "accuracy", int(rows)).mean()),
                    }  # fmt: skip


CASES = {"prediction": prediction, "unlabelled": unlabelled}


def cases() -> Iterator[Line]:
    """The lines of all cases that were asked for."""
    for name in os.environ.get("CASES", ",".join(CASES)).split(","):
        for line in CASES[name]():
            yield {"case": name, **line}
