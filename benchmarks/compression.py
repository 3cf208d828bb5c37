"""Tables in files: sizes by models and by others' compressors, and rows a second.

Half of the rows, drawn at random, teach the model; the other half is compressed. ``CASES=wine,nltcs`` chooses. Needs the folder of data sets
(``PROBGEN_DATA``).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import probgen as pg
from benchmarks.binary_sets import read
from probgen.data.reading import read_frame
from probgen.queries.persistence import to_bytes

MIXTURE = {"model": "gaussian_mixture", "max_steps": 150, "restarts": 1}
LEARNT = 50_000  # rows, at most
PICTURES = 10_000
Line = dict[str, Any]


def folder() -> Path:
    return Path(os.environ.get("PROBGEN_DATA", "../shared/data"))


def cases() -> Iterator[Line]:
    """The lines of all cases that were asked for."""
    for name in os.environ.get("CASES", ",".join([*TABLES, "nltcs", "mnist"])).split(","):
        made = {"nltcs": nltcs, "mnist": mnist}.get(name)
        yield from made() if made else tabular(name)


def tabular(name: str) -> Iterator[Line]:
    """One table."""
    frame, options = TABLES[name][0](), TABLES[name][1]
    order = np.random.default_rng(0).permutation(len(frame))
    half = min(len(frame) // 2, LEARNT)
    learnt, kept = frame.iloc[np.sort(order[:half])], frame.iloc[np.sort(order[half:])].reset_index(drop=True)
    modelled = frame.drop(columns=list(options.get("beside", ())))
    schema = pg.Table(modelled).schema
    for column in schema:
        if options.get("levels") and column.kind == "count":
            schema = schema.with_kind(column.name, "categorical", sorted(frame[column.name].unique().tolist()))
    how = {key: value for key, value in options.items() if key not in ("levels", "beside")}
    fit = fitted(pg.Table(learnt[list(schema.names)], schema=schema), **how)
    yield line(name, fit, kept)


def fitted(table: pg.Table, model: str, **options: Any) -> pg.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pg.ProbgenWarning)
        return pg.fit(model, table, seed=0, progress=False, **options)


def line(name: str, fit: pg.Fit, data: Any) -> Line:
    """Sizes and times of one table by one model."""
    found = pg.compression_study(fit, data, columns=False)
    return {
        "case": name, "model": fit.name, "rows": found.rows, "bytes": found.bytes, "coded": found.coded, "beside": found.kept,
        "coded_to_said": found.coded / found.said, "bits_a_row": found.bits_a_row, **found.peers, "ratio": found.ratio,
        "model_bytes": len(to_bytes(fit)), "text": found.text,
        "rows_per_second": found.rows / found.seconds["compress"], "back": found.rows / found.seconds["decompress"],
        "megabytes_per_second": found.text / 1e6 / found.seconds["compress"],
    }  # fmt: skip


def nltcs() -> Iterator[Line]:
    """The test rows by models of the training rows."""
    train, _, test = read(folder() / "binary" / "nltcs.npz")
    for model, options in (
        ("naive_bayes", {}),
        ("latent_class", {"components": 16}),
        ("chow_liu_mixture", {"components": 16}),
        ("made", {"order": "column", "average": 0.999}),
    ):
        yield line("nltcs", fitted(train, model, **options), test)


def mnist() -> Iterator[Line]:
    """Static binarised test digits: bits back, and pixel by pixel. ``MODELS`` chooses."""
    with np.load(folder() / "images" / "binarized_mnist_static.npz") as arrays:
        train, test = (pg.Table.from_images(pictures(arrays, part), "binary") for part in ("train", "test"))
    models: dict[str, dict[str, Any]] = {
        "vae": {"latent": 16, "hidden": (256,), "max_steps": 4000, "batch_size": 256},
        "pixel_cnn": {
            "hidden": (32, 32, 32, 32), "kernel": 3, "batch_size": 16, "learning_rate": 3e-3, "average": 0.99, "max_steps": 2800,
            "validation_fraction": 0.0,
        },
    }  # fmt: skip
    for name in os.environ.get("MODELS", ",".join(models)).split(","):
        options = {**models[name], **({"max_steps": int(os.environ["STEPS"])} if "STEPS" in os.environ else {})}
        found = line("mnist", fitted(train, name, **options), test.take(range(PICTURES)))
        yield {**found, "bits_a_pixel": found["bits_a_row"] / 784}


def pictures(arrays: Any, part: str) -> np.ndarray:
    """``(N, 28, 28)`` zeros and ones."""
    return np.unpackbits(arrays[part], axis=1)[:, :784].reshape(-1, 28, 28)


# ----------------------------------------------------------------------------------------------------------- tables
def tabular_file(name: str) -> Callable[[], pd.DataFrame]:
    return lambda: read_frame(folder() / "tabular" / f"{name}.csv")


def visits() -> pd.DataFrame:
    """Three groups of patients: categories, decimals, doubles, counts, dates, instants and texts, a tenth of the cells unknown."""
    rng, rows = np.random.default_rng(1), 20_000
    z = rng.integers(3, size=rows)
    weight = rng.normal(60 + 8 * z, 6)
    frame = pd.DataFrame(
        {
            "number": np.arange(100_000, 100_000 + rows),
            "group": pd.Categorical(np.array(["control", "low", "high"])[z]),
            "smoker": rng.random(rows) < 0.2 + 0.2 * z,
            "weight": np.round(weight, 1),
            "after": np.round(weight - rng.normal(2 * z, 1), 1),
            "marker": np.exp(rng.normal(z, 0.5)).astype(np.float32),
            "visits": rng.poisson(1 + 3 * z),
            "day": pd.to_datetime("2020-01-01") + pd.to_timedelta(rng.integers(0, 1000, rows), unit="D"),
            "note": [f"seen by {'ABCDEFG'[i]}, ward {j}" for i, j in rng.integers(0, 7, (rows, 2))],
        }
    )
    for name in ("group", "weight", "after", "day"):
        frame.loc[rng.random(rows) < 0.1, name] = None
    return frame


def sales() -> pd.DataFrame:
    """A million and fifty thousand rows: shop, weekday, product, amount and price, which depend on each other."""
    rng, rows = np.random.default_rng(2), 1_050_000
    kind = rng.choice(3, rows, p=[0.5, 0.3, 0.2])
    product = (rng.binomial(11, 0.2 + 0.3 * kind)).astype(int)
    frame = pd.DataFrame(
        {
            "shop": np.array([f"shop {i}" for i in range(8)])[rng.binomial(7, 0.3 + 0.2 * kind)],
            "weekday": np.array(["Mo", "Tu", "We", "Th", "Fr", "Sa"])[rng.binomial(5, 0.7 - 0.2 * kind)],
            "product": np.array([f"P{i:02d}" for i in range(12)])[product],
            "amount": 1 + rng.poisson(1 + 2 * kind),
            "price": np.round(np.exp(rng.normal(1.5 * kind, 0.4)), 2),
        }
    )
    frame.loc[rng.random(rows) < 0.05, "weekday"] = None
    return frame


TABLES: dict[str, tuple[Callable[[], pd.DataFrame], dict[str, Any]]] = {
    "penguins": (tabular_file("penguins"), {**MIXTURE, "components": 4}),
    "boys": (tabular_file("mice_boys"), {**MIXTURE, "components": 6}),
    "wine": (tabular_file("winequality_white"), {**MIXTURE, "components": 12}),
    "abalone": (tabular_file("abalone"), {**MIXTURE, "components": 12}),
    "housing": (tabular_file("california_housing"), {**MIXTURE, "components": 16}),
    "letter": (tabular_file("letter"), {"model": "chow_liu_mixture", "components": 16, "levels": True, "max_steps": 60, "restarts": 1}),
    "adult": (tabular_file("adult_train"), {**MIXTURE, "components": 12}),
    "visits": (visits, {**MIXTURE, "components": 6, "beside": ("number", "note")}),
    "sales": (sales, {**MIXTURE, "components": 6}),
}  # fmt: skip
