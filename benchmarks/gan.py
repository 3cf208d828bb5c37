"""Generative adversarial networks: a ring of normals, digits of an asked label, pictures from edges with and without pairs, cells from cells.

``CASES=ring,digits`` chooses; ``SEEDS`` is how many seeds of the ring.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import probgen as pg
from benchmarks.latent_variables import fitted
from probgen.data import Column, Schema, Table

Line = dict[str, Any]
ANGLES = np.pi / 4 * np.arange(8)
CENTRES, NEAR = 2.0 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1), 0.02
OBJECTIVES: dict[str, dict[str, Any]] = {
    "non_saturating": {},
    "hinge": {},
    "relativistic": {},
    "wasserstein": {"gradient_penalty": 0.1, "critic_steps": 3},
    "non_saturating, spectral norm": {"objective": "non_saturating", "r1": 0.0, "spectral": True, "momentum": 0.0},
    "non_saturating, with masks": {"objective": "non_saturating", "masks": 0.5},
}  # fmt: skip
DIGITS = {"latent": 32, "hidden": (256, 256), "masks": 0.0, "max_steps": 5000, "batch_size": 100}
MNIST: dict[str, dict[str, Any]] = {
    "conditional_gan": {
        "latent": 64, "hidden": (512, 512), "masks": 0.0, "max_steps": 6000, "batch_size": 100, "learning_rate": 5e-4,
    },
    "conditional_vae": {"label": "digit", "latent": 32, "hidden": (256, 256), "max_steps": 5000, "batch_size": 100},
    "diffusion": {
        "hidden": (512, 512), "max_steps": 5000, "batch_size": 100, "conditioning": 0.8, "guidance": 4.0, "sampler": "dpm",
    },
}  # fmt: skip
FEATURES = ("energy_distance", "frechet_distance", "precision", "recall")
PICTURES = {"max_steps": 2500, "batch_size": 64, "masks": 0.0}
UNPAIRED: dict[str, dict[str, Any]] = {
    "image_to_image_gan": {},
    "cycle_gan, cycle=10": {"cycle": 10.0},
    "cycle_gan, cycle=1": {"cycle": 1.0},
    "cycle_gan, cycle=0": {"cycle": 0.0},
}
BRIGHT = 4.0  # step between neighbouring pixels that is an edge


def cases() -> Iterator[Line]:
    """The lines of all cases that were asked for."""
    for name in os.environ.get("CASES", ",".join(CASES)).split(","):
        for line in CASES[name]():
            yield {"case": name, **line}


def ring() -> Iterator[Line]:
    """Eight normals of standard deviation .02 on a circle of radius 2: how many are drawn from, and how many draws lie within three standard deviations."""
    rng = np.random.default_rng(0)
    table = Table(CENTRES[rng.integers(8, size=5000)] + NEAR * rng.normal(size=(5000, 2)))
    for name, options in OBJECTIVES.items():
        if name not in os.environ.get("METHODS", ";".join(OBJECTIVES)).split(";"):
            continue
        for seed in range(int(os.environ.get("SEEDS", "3"))):
            settings = {"objective": name, "masks": 0.0, "max_steps": 3000, **options}
            fit, seconds = fitted("gan", table, seed=seed, **settings)
            distance = np.linalg.norm(fit.sample(4000, seed=1).values[:, None] - CENTRES, axis=-1)
            good = distance.min(1) < 3 * NEAR
            counts = np.bincount(distance.argmin(1)[good], minlength=8)
            yield {
                "objective": name, "seed": seed, "modes": int((counts >= 20).sum()), "near": float(good.mean()),
                "energy_distance": fit.diagnostics["energy_distance"], "by_chance": fit.diagnostics["energy_distance_by_chance"],
                "seconds": seconds,
            }  # fmt: skip


def digit_images() -> tuple[np.ndarray, np.ndarray]:
    """Images of eight by eight pixels of 0 to 16, and their labels, in an order drawn once."""
    from sklearn.datasets import load_digits

    data, order = load_digits(), np.random.default_rng(0).permutation(1797)
    return data.images[order], data.target[order]


def labelled(pictures: np.ndarray, labels: np.ndarray, kind: str = "count") -> Table:
    """Pictures with their digits; real ones with even noise of one grey level."""
    if kind == "real":
        table = Table.from_images(pictures + np.random.default_rng(0).uniform(-0.5, 0.5, pictures.shape), kind=kind)
    else:
        table = Table.from_images(pictures, kind="count", levels=17)
    digit = Column("digit", "categorical", levels=tuple(range(10)))
    schema = Schema((*table.schema.columns, digit), images=table.schema.images)
    return Table.from_codes(np.column_stack([table.values, labels]), schema)


def asked(fit: pg.Fit, each: int) -> tuple[np.ndarray, np.ndarray]:
    """So many generated pictures of every digit, ``(N, H W)``, and the digits that were asked for."""
    drawn = [fit.sample(each, given={"digit": digit}, seed=digit).values[:, :-1] for digit in range(10)]
    return np.concatenate(drawn), np.repeat(np.arange(10), each)


def nearest(drawn: np.ndarray, train: np.ndarray) -> float:
    """Mean distance of generated pictures to their nearest training pictures."""
    square = (drawn**2).sum(1)[:, None] + (train**2).sum(1) - 2 * drawn @ train.T
    return float(np.sqrt(square.clip(0)).min(1).mean())


def digits() -> Iterator[Line]:
    """How many of 100 generated pictures of every digit a classifier of real pictures calls by their digit, and how near they are to training pictures."""
    from sklearn.svm import SVC

    pictures, labels = digit_images()
    flat = pictures.reshape(len(pictures), -1)
    judge = SVC(gamma=0.001, C=10.0).fit(flat[:1437], labels[:1437])
    table = labelled(pictures[:1437], labels[:1437])
    for name, options in {
        "conditional_gan": DIGITS,
        "conditional_gan, hinge": {**DIGITS, "objective": "hinge"},
        "conditional_vae": {"label": "digit", "latent": 8, "hidden": (256,), "max_steps": 5000, "batch_size": 100},
    }.items():
        if name not in os.environ.get("METHODS", name).split(";"):
            continue
        fit, seconds = fitted(name.split(",")[0], table, **options)
        drawn, digit = asked(fit, 100)
        real = flat[1437:]
        rows = {"drawn": drawn, "held out": real}
        yield {
            "model": name, "agreement": float((judge.predict(drawn) == digit).mean()),
            "judge_on_held_out": float(judge.score(real, labels[1437:])),
            "energy_distance": energy(drawn / 16, real / 16), "of_training_rows": energy(flat[:1000] / 16, real / 16),
            **{f"nearest, {key}": nearest(values, flat[:1437]) for key, values in rows.items()},
            "coverage": fit.diagnostics.get("coverage"), "seconds": seconds,
        }  # fmt: skip


def energy(one: np.ndarray, other: np.ndarray) -> float:
    """Energy distance between two sets of rows."""
    import torch

    from probgen.inference.collapse import energy_distance

    return float(energy_distance(torch.as_tensor(one), torch.as_tensor(other)))


def mnist() -> Iterator[Line]:
    """Digits of 28 by 28 pixels of 17 grey levels, perceptrons all: agreement with a classifier of real pictures, and distances in features of our own."""
    from sklearn.neural_network import MLPClassifier

    with np.load(Path(os.environ["PROBGEN_DATA"]) / "images" / "mnist.npz") as data:
        arrays = {key: data[key] for key in data.files}
    train, test = (np.round(arrays[key][:20_000] / 255 * 16) for key in ("train_x", "test_x"))
    table, real = (labelled(x, arrays[key][:20_000]) for x, key in ((train, "train_y"), (test, "test_y")))
    flat = table.values[:, :-1] / 16
    judge = MLPClassifier((256,), max_iter=12, early_stopping=True, random_state=0).fit(
        flat, arrays["train_y"][:20_000]
    )
    seen = pg.picture_features(table, "digit", max_steps=1000)
    rows: dict[str, tuple[Table, np.ndarray, float]]
    rows = {"training rows": (table.take(np.arange(600)), table.values[:600, -1], 0.0)}
    for name, options in MNIST.items():
        if name in os.environ.get("METHODS", ";".join(MNIST)).split(";"):
            own = labelled(train, arrays["train_y"][:20_000], "real") if name == "diffusion" else table
            fit, seconds = fitted(name, own, **options)
            pixels, digit = asked(fit, 60)
            drawn = labelled(np.round(pixels).clip(0, 16).reshape(-1, 28, 28), digit)
            rows = {name: (drawn, digit, seconds), **rows}
    for name, (drawn, digit, seconds) in rows.items():
        found = pg.compare_samples(real.take(np.arange(1200)), drawn, features=seen, measures=list(FEATURES))
        yield {
            "model": name, "agreement": float((judge.predict(drawn.values[:, :-1] / 16) == digit).mean()),
            "judge_on_test": float(judge.score(real.values[:, :-1] / 16, arrays["test_y"])), "features_accuracy": seen.accuracy,
            "pixels": energy(drawn.values[:, :-1] / 16, real.values[:1000, :-1] / 16),
            **{key: found[key].value for key in FEATURES}, **{f"{key}_error": found[key].error for key in FEATURES},
            **{f"{key}_real": found.real[key].value for key in FEATURES}, "seconds": seconds,
        }  # fmt: skip


def edges(pictures: np.ndarray) -> np.ndarray:
    """Where a picture is brighter than the pixel to its right or below it by so much, or darker."""
    across = np.abs(np.diff(pictures, axis=2, append=0.0)) >= BRIGHT
    down = np.abs(np.diff(pictures, axis=1, append=0.0)) >= BRIGHT
    return (across | down).astype(float)


def pairs(pictures: np.ndarray) -> Table:
    """Edges, and the pictures that they are of."""
    one, other = Table.from_images(edges(pictures), name="edges"), Table.from_images(pictures, kind="count", levels=17)
    schema = Schema((*one.schema.columns, *other.schema.columns), images=(*one.schema.images, *other.schema.images))
    return Table.from_codes(np.column_stack([one.values, other.values]), schema)


def to_pictures() -> Iterator[Line]:
    """Digits from their edges: the mean absolute difference of held-out pictures in grey levels of 16, and of draws to each other."""
    pictures, _ = digit_images()
    train, test = pairs(pictures[:1437]), pairs(pictures[1437:])
    asked_for = test.hide(*test.names[64:])
    real = test.values[:, 64:]
    for name, options in {"image_to_image_gan": {}, "difference alone": {"fidelity": 1000.0}}.items():
        fit, seconds = fitted("image_to_image_gan", train, **PICTURES, **options)
        drawn = np.stack([filled.values[:, 64:] for filled in fit.fill(asked_for, 10)])
        yield {
            "model": name, "error": float(np.abs(drawn - real).mean()), "of_the_mean": float(np.abs(drawn.mean(0) - real).mean()),
            "spread": float(np.abs(drawn[:5] - drawn[5:]).mean()),
            "energy_distance": energy(drawn[0] / 16, real / 16), "seconds": seconds,
        }  # fmt: skip
    train_mean = train.values[:, 64:].mean(0)
    yield {"model": "mean picture", "error": float(np.abs(train_mean - real).mean())}


def arc(rows: int, rng: np.random.Generator) -> np.ndarray:
    """Points near three quarters of a circle, fewer and fewer along it: no turn or mirror carries their distribution to itself."""
    angle = rng.triangular(0, 0, 1.5 * np.pi, rows)
    return np.stack([np.cos(angle), np.sin(angle)], 1) + 0.05 * rng.normal(size=(rows, 2))


def turned(points: np.ndarray) -> np.ndarray:
    """Points twice as large, turned by a radian and moved."""
    return 1.0 + 2 * points @ np.array([[np.cos(1.0), np.sin(1.0)], [-np.sin(1.0), np.cos(1.0)]])


def arcs_apart(rows: int, rng: np.random.Generator) -> Table:
    """Rows that know a point, or one of the turned points, but not its own."""
    values = np.full((2 * rows, 4), np.nan)
    values[:rows, :2], values[rows:, 2:] = arc(rows, rng), turned(arc(rows, rng))
    return Table.from_codes(values, Schema(tuple(Column(name, "real") for name in ("ax", "ay", "bx", "by"))))


def arcs() -> Iterator[Line]:
    """Points translated into turned ones that were never seen beside them: energy distance to new points, the way back, and the distance to the truth."""
    rng = np.random.default_rng(0)
    table, new, other = arcs_apart(2000, rng), arc(500, rng), turned(arc(500, rng))
    asked = Table.from_codes(np.column_stack([new, np.full_like(new, np.nan)]), table.schema)
    for weight in (10.0, 3.0, None, 1.0, 0.0):
        for seed in range(int(os.environ.get("SEEDS", "3"))):
            settings = {"hidden": (64, 64), "latent": 2, "masks": 0.0, "max_steps": 2000, "cycle": weight}
            fit, seconds = fitted("cycle_gan", table, seed=seed, **settings)
            there = fit.fill(asked, 1)[0]
            back = fit.fill(there.hide("ax", "ay"), 1)[0].values[:, :2]
            yield {
                "cycle": weight, "seed": seed, "energy_distance": energy(there.values[:, 2:], other), "of_other_points": energy(turned(new), other),
                "way_back": float(np.abs(back - new).mean()),
                "to_the_truth": float(np.linalg.norm(there.values[:, 2:] - turned(new), axis=1).mean()), "seconds": seconds,
            }  # fmt: skip


def unpaired() -> Iterator[Line]:
    """Digits from their edges, and back, where no picture is seen with its own edges: differences of held-out pictures as of :func:`to_pictures`."""
    pictures, _ = digit_images()
    train, test = pairs(pictures[:1437]), pairs(pictures[1437:])
    first = np.arange(1437) < 718  # known by their edges, the others as pictures
    halves = train.with_values(np.where(first[:, None] == (np.arange(128) < 64), train.values, np.nan))
    real, lines = test.values, test.values[:, :64]
    for name, options in UNPAIRED.items():
        if name not in os.environ.get("METHODS", name).split(";"):
            continue
        model = name.split(",")[0]
        fit, seconds = fitted(model, halves if model == "cycle_gan" else train, **PICTURES, **options)
        drawn = np.stack([filled.values[:, 64:] for filled in fit.fill(test.hide(*test.names[64:]), 10)])
        line = {
            "model": name, "error": float(np.abs(drawn - real[:, 64:]).mean()), "spread": float(np.abs(drawn[:5] - drawn[5:]).mean()),
            "energy_distance": energy(drawn[0] / 16, real[:, 64:] / 16), "seconds": seconds,
        }  # fmt: skip
        if model == "cycle_gan":
            written = np.column_stack([np.full_like(lines, np.nan), drawn[0]])
            back = fit.fill(test.with_values(written), 1)[0].values[:, :64]
            there = fit.fill(test.hide(*test.names[:64]), 1)[0].values[:, :64]
            line |= {
                "wrong_edges_and_back": float((back != lines).mean()),
                "wrong_edges": float((there != lines).mean()),
            }
        yield line
    yield {
        "model": "floors", "mean_picture": float(np.abs(train.values[:, 64:].mean(0) - real[:, 64:]).mean()),
        "another_digit": float(np.abs(train.values[:360, 64:] - real[:, 64:]).mean()),
        "of_training_rows": energy(train.values[:1000, 64:] / 16, real[:, 64:] / 16),
        "wrong_edges_of_none": float(np.minimum(lines.mean(0), 1 - lines.mean(0)).mean()),
    }  # fmt: skip


def cells() -> Iterator[Line]:
    """Cells of the penguins and of a bivariate normal hidden at random, and filled by draws: energy distance of a whole cell, its root mean square error."""
    rng = np.random.default_rng(0)
    x = rng.multivariate_normal([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]], 4000)
    fit, seconds = fitted("gan", Table(x[:2000]), max_steps=3000)
    given = Table(x[2000:]).hide("x1")
    drawn = np.stack([filled.values[:, 1] for filled in fit.fill(given, 50)])
    yield {
        "table": "bivariate normal, correlation .8", "correlation": float(np.corrcoef(x[2000:, 0], drawn[0])[0, 1]),
        "sd_given": float(drawn.std(0).mean()), "truth": 0.6, "seconds": seconds,
    }  # fmt: skip


CASES = {
    "ring": ring, "digits": digits, "mnist": mnist, "to_pictures": to_pictures, "unpaired": unpaired, "arcs": arcs,
    "cells": cells,
}  # fmt: skip
