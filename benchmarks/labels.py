"""What labels teach a generative model of MNIST's digits: a few of them, or all. ``CASES=pixels,asked`` chooses; ``STEPS`` is the length of training."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import probgen as pg
from benchmarks.latent_variables import Line, fitted
from probgen.data import Column, Schema, Table
from probgen.queries.latent_posterior import posterior_draws

CODES = {"latent": 50, "hidden": (400, 400), "batch_size": 128, "learning_rate": 1e-3, "validation_fraction": 0.0}
OF_CODES = {
    "latent": 10, "hidden": (256, 256), "label_weight": 50.0, "batch_size": 128, "learning_rate": 1e-3,
    "validation_fraction": 0.02,
}  # fmt: skip
OF_PIXELS = {
    "latent": 16, "hidden": (400, 400), "label_weight": 100.0, "batch_size": 100, "learning_rate": 1e-3, "average": 0.999,
    "validation_fraction": 0.0,
}  # fmt: skip
OF_ALL = {"latent": 6, "hidden": (500, 500), "batch_size": 100, "learning_rate": 2e-3, "validation_fraction": 0.0}
OF_LABELLED, OF_OTHERS, OF_ASKED = 20, 2, 5  # draws of a row's codes
MOVED = 40  # copies of a picture with a label, each turned, sheared, scaled and shifted a little


def cases() -> Iterator[Line]:
    """The lines of all cases that were asked for."""
    for name in os.environ.get("CASES", ",".join(CASES)).split(","):
        for line in CASES[name]():
            yield {"case": name, **line}


def steps(usual: int) -> int:
    return int(os.environ.get("STEPS", usual))


@dataclass(frozen=True)
class Digits:
    """MNIST, black and white: training and test pictures ``(N, 28, 28)`` in grey, and what they are."""

    grey: tuple[np.ndarray, np.ndarray]
    labels: tuple[np.ndarray, np.ndarray]

    @classmethod
    def read(cls) -> Digits:
        tables = [pg.load_dataset("mnist", split=split) for split in ("train", "test")]
        grey = [table.images().reshape(-1, 28, 28) for table in tables]
        labels = [table.values[:, table.schema.index("target")] for table in tables]
        return cls((grey[0], grey[1]), (labels[0], labels[1]))

    @property
    def shown(self) -> np.ndarray:
        """The first hundred of every digit."""
        return np.concatenate([np.flatnonzero(self.labels[0] == digit)[:100] for digit in range(10)])

    @property
    def rest(self) -> np.ndarray:
        return np.setdiff1d(np.arange(len(self.labels[0])), self.shown)


def codes() -> Iterator[Line]:
    """A thousand labels of sixty thousand: ``conditional_vae`` on codes drawn by a ``vae`` (M1 + M2; Kingma et al., 2014)."""
    from sklearn.neighbors import KNeighborsClassifier

    data = Digits.read()
    black, labels, shown = [Table.from_images(grey > 127) for grey in data.grey], data.labels, data.shown
    first, seconds = fitted("vae", black[0], max_steps=10_000, **CODES)
    means = [first.embed(table) for table in black]
    used = means[0].var(0) > 0.01  # the other codes say nothing
    parts = ((black[0].take(shown), OF_LABELLED), (black[0].take(data.rest), OF_OTHERS), (black[1], OF_ASKED))
    told, others, tested = (np.asarray(posterior_draws(first, table, draws))[..., used] for table, draws in parts)
    columns = tuple(Column(f"z{at}", "real") for at in range(int(used.sum())))
    schema = Schema((*columns, DIGIT), target=DIGIT.name)
    asked = [beside(z, np.nan, schema) for z in tested]
    labelled = beside(np.concatenate(told), np.tile(labels[0][shown], OF_LABELLED), schema)
    every = Table.from_codes(
        np.concatenate([labelled.values, beside(np.concatenate(others), np.nan, schema).values]), schema
    )
    judge = KNeighborsClassifier(5).fit(means[0][:, used], labels[0])  # that has seen all labels
    for name, rows in (("labelled rows alone", labelled), ("all rows", every)):
        fit, taken = fitted("conditional_vae", rows, label=DIGIT.name, max_steps=steps(10_000), **OF_CODES)
        found = np.mean([pg.class_probabilities(fit, table, DIGIT.name, draws=20) for table in asked], 0).argmax(1)
        new = fit.fill(beside(np.full_like(tested[0], np.nan), labels[1], schema), draws=1)
        agreed = judge.predict(new[0].values[:, :-1])
        yield {
            "rows": name, "error": float((found != labels[1]).mean()), "classifier_error": classifier_error(fit, asked, labels[1]),
            "agreement": float((agreed == labels[1]).mean()), "judge": float((judge.predict(means[1][:, used]) != labels[1]).mean()),
            "codes": int(used.sum()), "seconds": taken, "seconds_codes": seconds,
        }  # fmt: skip


def pixels() -> Iterator[Line]:
    """A thousand labels of sixty thousand: ``conditional_vae`` on the pictures themselves (M2), those with a label moved about too."""
    data, rng = Digits.read(), np.random.default_rng(0)
    shown, labels = data.shown, data.labels
    pictures = data.grey[0][shown]
    copies = [moved(pictures, rng) for _ in range(int(os.environ.get("MOVED", MOVED)))]
    labelled = told(np.concatenate([pictures, *copies]), np.tile(labels[0][shown], 1 + len(copies)))
    rest = told(data.grey[0][data.rest], np.nan)
    asked, every = told(data.grey[1], np.nan), np.concatenate([labelled.values, rest.values])
    for name, rows in (("labelled rows alone", labelled), ("all rows", Table.from_codes(every, rest.schema))):
        fit, seconds = fitted("conditional_vae", rows, label=DIGIT.name, max_steps=steps(10_000), **OF_PIXELS)
        some = asked.take(range(2000))
        found = pg.class_probabilities(fit, some, DIGIT.name, draws=20).argmax(1)
        yield {
            "rows": name, "classifier_error": classifier_error(fit, [asked], labels[1]),
            "error": float((found != labels[1][:2000]).mean()), "copies": len(copies), "seconds": seconds,
        }  # fmt: skip


def asked() -> Iterator[Line]:
    """All labels: 2000 digits that were asked for, and what a classifier of real ones takes them for."""
    from sklearn.neural_network import MLPClassifier

    data = Digits.read()
    train, test = (told(grey, labels) for grey, labels in zip(data.grey, data.labels, strict=True))
    judge = MLPClassifier((256,), max_iter=12, early_stopping=True, random_state=0)
    judge.fit(train.values[:, :-1], data.labels[0])
    fit, seconds = fitted("conditional_vae", train, label=DIGIT.name, max_steps=steps(24_000), **OF_ALL)
    wanted = np.tile(np.arange(10.0), 200)
    new = fit.fill(beside(np.full((len(wanted), 784), np.nan), wanted, train.schema), draws=1)[0]
    some = beside(test.values[:500, :-1], np.nan, train.schema)
    found = pg.class_probabilities(fit, some, DIGIT.name, draws=20).argmax(1)
    yield {
        "agreement": float((judge.predict(new.values[:, :-1]) == wanted).mean()),
        "judge_on_test": float(judge.score(test.values[:, :-1], data.labels[1])),
        "error": float((found != data.labels[1][:500]).mean()), "seconds": seconds,
    }  # fmt: skip


# -- rows --------------------------------------------------------------------------------------------------------------
DIGIT = Column("digit", "categorical", tuple(range(10)))


def told(grey: np.ndarray, labels: Any) -> Table:
    """Black and white pictures beside their labels, or beside none."""
    table = Table.from_images(grey > 127)
    return beside(table.values, labels, Schema((*table.schema.columns, DIGIT), images=table.schema.images))


def beside(values: np.ndarray, labels: Any, schema: Schema) -> Table:
    """Numbers ``(N, D)`` beside labels, or beside none."""
    return Table.from_codes(np.column_stack([values, np.broadcast_to(labels, len(values))]), schema)


def moved(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each turned by at most 12 degrees, stretched by an eighth, sheared by .15 and shifted by a pixel and a half."""
    from scipy.ndimage import affine_transform

    found, centre = [], np.array([13.5, 13.5])
    for picture in pictures:
        angle = np.deg2rad(rng.uniform(-12, 12))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        change = turn @ [[1, rng.uniform(-0.15, 0.15)], [0, 1]] @ np.diag(np.exp(rng.uniform(-0.12, 0.12, 2)))
        shift = centre - change @ centre + rng.uniform(-1.5, 1.5, 2)
        found.append(affine_transform(picture.astype(float), change, shift, order=1))
    return np.stack(found)


def classifier_error(fit: pg.Fit, asked: list[Table], labels: np.ndarray) -> float:
    """Of the guide's classifier, its probabilities averaged over tables of the same rows."""
    program: Any = fit.program
    with torch.no_grad(), fit.setting():
        shares = [
            torch.cat([program.classify(piece).exp() for piece in fit.batches(table, 1000).pieces()])
            for table in asked
        ]
    return float((torch.stack(shares).mean(0).argmax(1).numpy() != labels).mean())


CASES: dict[str, Callable[[], Iterator[Line]]] = {case.__name__: case for case in (codes, pixels, asked)}
