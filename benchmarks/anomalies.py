"""Odd rows told from those in order: densities beside detectors of scikit-learn on labelled sets, planted cells, and p-values.

Half of the rows in order are learnt from; the other half and all odd ones are scored. Areas under the curve are means over splits. No detector sees a label. ``ours``
is the model with the best held-out log density of the training half, chosen anew in every split, by its surprise. ``CASES=`` and ``SEEDS=`` choose.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np

import probgen as pg
from probgen.data.schema import Column, Schema
from probgen.data.table import Table
from probgen.studies.conformal import area_under_curve

Line = dict[str, Any]
MODELS: dict[str, dict[str, Any]] = {
    "gaussian_mixture": {}, "latent_class": {"components": 8}, "kernel_density": {}, "mixture_of_factor_analysers": {}, "student_mixture": {},
}  # fmt: skip
SETS = ("breast tumours", "breast cells", "digits", "banknotes")


def labelled_sets() -> dict[str, tuple[Table, np.ndarray]]:
    """Rows of numbers, and which are odd."""
    from sklearn.datasets import load_breast_cancer, load_digits

    folder = Path(os.environ["PROBGEN_DATA"]) / "tabular"
    tumours = load_breast_cancer()
    cells = np.genfromtxt(folder / "breast_wisconsin_orig.csv", delimiter=",", skip_header=1)
    notes = np.genfromtxt(folder / "banknote.csv", delimiter=",", skip_header=1)
    digits = load_digits()
    return {
        "breast tumours": (reals(tumours.data), tumours.target == 0),
        "breast cells": (reals(cells[:, :-1]), cells[:, -1] == cells[:, -1].max()),
        "banknotes": (reals(notes[:, :-1]), notes[:, -1] == 1),
        "digits": (reals(digits.data[:, digits.data.std(0) > 0.5]), digits.target == 8),
    }


def reals(values: np.ndarray) -> Table:
    """Columns of numbers."""
    return Table.from_codes(values, Schema(tuple(Column(f"x{at}", "real") for at in range(values.shape[1]))))


def detectors() -> dict[str, Any]:
    """As scikit-learn has them, in standardised columns, medians in place of holes."""
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import KernelDensity, LocalOutlierFactor
    from sklearn.svm import OneClassSVM

    return {
        "isolation forest": IsolationForest(random_state=0), "local outlier factor": LocalOutlierFactor(novelty=True),
        "one-class SVM": OneClassSVM(nu=0.1), "kernel density of scikit-learn": KernelDensity(bandwidth="scott"),
    }  # fmt: skip


def detection() -> Iterator[Line]:
    """Areas under the curve of models, the chosen one, and detectors."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    seeds = int(os.environ.get("SEEDS", 5))
    for title, (table, odd) in labelled_sets().items():
        if title not in os.environ.get("SETS", ",".join(SETS)).split(","):
            continue
        areas: dict[str, list[float]] = {}
        seconds: dict[str, float] = {}
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(np.flatnonzero(~odd))
            train, rest = table.take(order[: len(order) // 2]), order[len(order) // 2 :]
            asked, truth = table.take(np.r_[rest, np.flatnonzero(odd)]), np.arange(len(rest) + odd.sum()) >= len(rest)
            before = time.process_time()
            study = pg.anomaly_study(
                train, asked, MODELS, truth=truth, scores=["surprise"], seed=seed, progress=False, calibration=0.2
            )
            seconds["ours"] = time.process_time() - before
            held = {name: study.calibration[name, "surprise"].mean() for name in study.models}
            for name in study.models:
                areas.setdefault(name, []).append(area_under_curve(truth, study.scores[name, "surprise"]))
            areas.setdefault("ours", []).append(areas[min(held, key=lambda name: held[name])][-1])
            for name, detector in detectors().items():
                before = time.process_time()
                pipe = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), detector)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    pipe.fit(train.values)
                areas.setdefault(name, []).append(area_under_curve(truth, -pipe.score_samples(asked.values)))
                seconds[name] = time.process_time() - before
        for name, found in areas.items():
            yield {
                "set": title, "detector": name, "auc": float(np.mean(found)), "error": float(np.std(found, ddof=1) / np.sqrt(seeds)) if seeds > 1 else 0.0,
                "rows": int((~odd).sum() // 2), "odd": int(odd.sum()), "seconds": seconds.get(name, float("nan")),
            }  # fmt: skip


def planted() -> Iterator[Line]:
    """One cell of every row moved by four standard deviations of its column: how often it is the one that is named."""
    for title, table in {"white wine": wine(), "breast tumours": labelled_sets()["breast tumours"][0]}.items():
        train, test = table.split(0.7, 0.3, seed=0)
        rng, values = np.random.default_rng(1), test.values.copy()
        place = rng.integers(0, table.n_columns, len(test))
        values[np.arange(len(test)), place] += rng.choice([-4, 4], len(test)) * train.values.std(0)[place]
        study = pg.anomaly_study(
            train, test.with_values(values), {"gaussian_mixture": {}}, scores=["cells"], progress=False
        )
        named = study.oddest_cell() == np.array(table.names)[place]
        apart = np.abs((values - train.values.mean(0)) / train.values.std(0)).argmax(1) == place
        yield {
            "table": title,
            "named": float(named.mean()),
            "by the largest standardised value": float(apart.mean()),
            "rows": len(test),
        }


def wine() -> Table:
    """White wine's eleven measurements."""
    found = cast("Table", pg.read_table(Path(os.environ["PROBGEN_DATA"]) / "tabular" / "winequality_white.csv"))
    return reals(found.values[:, :11])


def validity() -> Iterator[Line]:
    """P-values of wines like those learnt from: their distance from uniform, and the share at or below a twentieth, over splits."""
    from scipy import stats

    table, shares, gaps = wine(), [], []
    for seed in range(int(os.environ.get("SEEDS", 5))):
        train, new = table.split(0.6, 0.4, seed=seed)
        study = pg.anomaly_study(
            train, new, {"gaussian_mixture": {"components": 4}}, scores=["surprise"], seed=seed, progress=False
        )
        p = study.p_values["gaussian_mixture", "surprise"]
        shares.append(float((p <= 0.05).mean()))
        gaps.append(stats.kstest(p, "uniform").statistic)
    held = int(0.3 * 0.6 * len(table))
    yield {
        "kolmogorov_smirnov": float(np.mean(gaps)), "band_95": 1.36 * float(np.sqrt(1 / held + 1 / (0.4 * len(table)))),
        "at_most_.05": float(np.mean(shares)), "error": float(np.std(shares, ddof=1) / np.sqrt(len(shares))),
    }  # fmt: skip


CASES = {"detection": detection, "planted": planted, "validity": validity}


def cases() -> Iterator[Line]:
    """The lines of all cases that were asked for."""
    for name in os.environ.get("CASES", ",".join(CASES)).split(","):
        for line in CASES[name]():
            yield {"case": name, **line}
