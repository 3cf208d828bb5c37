"""Diffusion: bits a pixel of digits, the digit that guidance is asked for, tables beside a mixture. ``CASES=digits,guidance,tabular,inpainting`` chooses; ``STEPS`` is the length of training.

Folder ``PROBGEN_DATA`` holds the tables.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.studies.sample_distances import energy_distance

Line = dict[str, Any]
PIXELS, LEVELS, TRAINED = 64, 17, 1437


def cases() -> Iterator[Line]:
    """The lines of all cases that were asked for."""
    for name in os.environ.get("CASES", ",".join(CASES)).split(","):
        for line in CASES[name]():
            yield {"case": name, **line}


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grey levels ``(1797, 8, 8)``, labels, and an order of the rows, the training rows first."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.images.astype(np.uint8), data.target, np.random.RandomState(0).permutation(len(data.target))


def fitted(table: Table, model: str = "diffusion", **options: Any) -> tuple[pg.Fit, float]:
    """A fit and its CPU seconds."""
    before = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pg.fit(model, table, progress=False, seed=0, **options)
    return found, time.process_time() - before


def bits(total: float) -> float:
    return -total / PIXELS / np.log(2)


def density() -> Iterator[Line]:
    """Test rows of the digits, beside pixels that are independent."""
    images, _, order = digits()
    train, test = images[order[:TRAINED]], images[order[TRAINED:]]
    counts = (train.reshape(-1, PIXELS, 1) == np.arange(LEVELS)).mean(0) + 1e-3
    shares = counts / counts.sum(-1, keepdims=True)
    alone = np.log(shares[np.arange(PIXELS), test.reshape(-1, PIXELS)]).sum(1).mean()
    yield {"model": "independent pixels", "bits": bits(alone)}
    steps = int(os.environ.get("STEPS", "800"))
    perceptron, convolutions = {"hidden": (256, 256)}, {"network": "unet", "hidden": (32, 64)}
    models: dict[str, Line] = {
        "endless": perceptron, "T = 100": {"steps": 100, **perceptron},
        "T = 100, posterior variance": {"steps": 100, "variance": "posterior", **perceptron},
        "endless, U-net": convolutions, "T = 100, U-net": {"steps": 100, **convolutions},
        "T = 100, posterior variance, U-net": {"steps": 100, "variance": "posterior", **convolutions},
    }  # fmt: skip
    for name, options in models.items():
        fit, seconds = fitted(Table.from_images(train, levels=LEVELS), max_steps=steps, conditioning=0.0, **options)
        found = fit.log_prob(Table.from_images(test, levels=LEVELS), draws=100).mean()
        error = float(found.standard_error) / PIXELS / np.log(2)
        yield {"model": name, "steps": steps, "bits": bits(found.value), "error": error, "seconds": seconds}


def guidance() -> Iterator[Line]:
    """Digits drawn given their label, as a nearest-neighbour and a support-vector classifier that were trained on the data read them."""
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    images, labels, order = digits()
    rows = np.column_stack([images.reshape(-1, PIXELS), labels])[order[:TRAINED]].astype(float)
    varies = np.ptp(rows, axis=0) > 0  # some pixels are never lit
    pixels = tuple(Column(f"p{at}", "count", bounds=(0, LEVELS - 1)) for at in range(PIXELS))
    columns = (*pixels, Column("digit", "categorical", levels=tuple(range(10))))
    schema = Schema(tuple(column for column, kept in zip(columns, varies, strict=True) if kept))
    steps = int(os.environ.get("STEPS", "800"))
    judges = {"svm": SVC(gamma=0.001), "nearest": KNeighborsClassifier(3)}
    held = np.column_stack([images.reshape(-1, PIXELS), labels])[order[TRAINED:]]
    for judge in judges.values():
        judge.fit(rows[:, :PIXELS], rows[:, PIXELS])
    yield {f"{name} on test rows": judge.score(held[:, :PIXELS], held[:, PIXELS]) for name, judge in judges.items()}
    fit, seconds = fitted(
        Table.from_codes(rows[:, varies], schema), hidden=(256, 256), max_steps=steps, conditioning=0.9, classifier="digit"
    )  # fmt: skip
    asked, drawn = np.full((300, len(schema)), np.nan), np.zeros((300, PIXELS + 1))
    asked[:, -1] = np.arange(300) % 10
    process: Any = fit.program.process
    for weight, slope in (
        (0.0, 0.0),
        (2.0, 0.0),
        (4.0, 0.0),
        (8.0, 0.0),
        (0.0, 1.0),
        (0.0, 2.0),
        (0.0, 4.0),
        (0.0, 8.0),
    ):
        process.guidance, process.classifier.guidance = weight, slope
        drawn[:, varies] = fit.fill(Table.from_codes(asked, schema), 1)[0].values
        shares = {name: judge.score(drawn[:, :PIXELS], drawn[:, PIXELS]) for name, judge in judges.items()}
        spread = np.mean([drawn[drawn[:, PIXELS] == digit][:, :PIXELS].std(0).mean() for digit in range(10)])
        yield {"guidance": weight, "classifier_guidance": slope, **shares, "spread": spread, "seconds": seconds}


def inpainting() -> Iterator[Line]:
    """Lower halves of test digits, drawn by a network that is shown the upper ones, or with those held while steps are repeated; mean distances in grey levels."""
    images, _, order = digits()
    train, test = (Table.from_images(images[part], levels=LEVELS) for part in (order[:TRAINED], order[TRAINED:]))
    steps = int(os.environ.get("STEPS", "3000"))
    asked, truth = test.hide(*test.names[PIXELS // 2 :]), test.values[:, PIXELS // 2 :]
    networks: dict[str, Line] = {"mlp": {"hidden": (256, 256)}, "unet": {"network": "unet", "hidden": (32, 64)}}
    for network, options in networks.items():
        fit, _ = fitted(train, max_steps=steps, conditioning=0.8, dropout=0.1, **options)
        for times in (0, 1, 10):
            fit.program.process.resampling = times  # type: ignore[union-attr]
            before = time.process_time()
            lower = np.stack([one.values[:, PIXELS // 2 :] for one in fit.fill(asked, 4)])
            off, apart = np.abs(lower - truth).mean(), np.abs(lower[1:] - lower[:-1]).mean()
            yield {
                "network": network, "resampling": times, "from_truth": off, "between_draws": apart, "crps": off - apart / 2,
                "seconds_of_drawing": time.process_time() - before,
            }  # fmt: skip


TABLES = {"banknote": 8, "winequality_white": 20}  # with components of the mixture
NETWORK = {"batch_size": 256, "learning_rate": 3e-3}
HELD, DRAWS = 300, 50


def halves(name: str) -> tuple[Table, Table, np.ndarray]:
    """Rows to learn from and to test, all columns but the last as real numbers, and the former's standard deviations."""
    values = np.loadtxt(Path(os.environ["PROBGEN_DATA"]) / "tabular" / f"{name}.csv", delimiter=",", skiprows=1)[
        :, :-1
    ]
    order = np.random.default_rng(0).permutation(len(values))
    schema = Schema(tuple(Column(f"x{at}", "real") for at in range(values.shape[1])))
    train, test = (Table.from_codes(values[part], schema) for part in (order[HELD:], order[:HELD]))
    return train, test, train.values.std(0)


def tabular() -> Iterator[Line]:
    """Energy distance of drawn rows from held-out ones, and three cells of ten hidden and filled, beside the mixture's and each column by itself."""
    steps = int(os.environ.get("STEPS", "1500"))
    for name, components in TABLES.items():
        train, test, scale = halves(name)
        fits, seconds = {}, {}
        for model in ("gaussian_mixture", "diffusion", "score_sde", "continuous_flow"):
            mixed = model == "gaussian_mixture"
            options: dict[str, Any] = {"components": components} if mixed else {"max_steps": steps, **NETWORK}
            fits[model], seconds[model] = fitted(train, model, **options)
        scores = {
            score["model"]: score for score in pg.fill_study(fits, test, train, fraction=0.3, draws=DRAWS).scores
        }
        rows = train.values[:2000]
        yield {"table": name, "model": "rows to learn from", "energy": distance(rows, test, scale)}
        for model, score in scores.items():
            told = {key: score[key] for key in ("rmse", "crps", "coverage90")}
            drawn = {"energy": distance(fits[model].sample(2000, seed=1).values, test, scale)} if model in fits else {}
            yield {"table": name, "model": model, **told, **drawn, "seconds": seconds.get(model)}


def distance(rows: np.ndarray, test: Table, scale: np.ndarray) -> float:
    """Between rows and those held out, in standard deviations."""
    return float(energy_distance(rows / scale, test.values / scale).value)


CASES: dict[str, Callable[[], Iterator[Line]]] = {
    "digits": density,
    "guidance": guidance,
    "tabular": tabular,
    "inpainting": inpainting,
}
