"""Pictures pixel by pixel: static binarised MNIST by the minute, bits a pixel of digits, classes by Bayes' rule, holes. ``CASES=mnist,digits`` chooses.

``STEPS`` is the length of training, ``WIDTHS`` one width a layer (``32,32,32,32``), ``ROWS`` how many test rows of MNIST are scored, ``MODELS`` which of ``pixels;pixels and label``.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import probgen as pg
from benchmarks.diffusion import LEVELS, PIXELS, TRAINED, digits
from probgen.data import Table

Line = dict[str, Any]
LOOKS, HIDDEN = 8, 20  # of the curve; pictures with holes
RATES = {"batch_size": 16, "learning_rate": 3e-3, "average": 0.99}


def cases() -> Iterator[Line]:
    """The lines of all cases that were asked for."""
    for name in os.environ.get("CASES", ",".join(CASES)).split(","):
        for line in CASES[name]():
            yield {"case": name, **line}


def fitted(table: Table, **options: Any) -> tuple[pg.Fit, float]:
    """A fit and its CPU seconds."""
    before = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pg.fit("pixel_cnn", table, progress=False, seed=0, **options)
    return found, time.process_time() - before


def widths(usual: str) -> tuple[int, ...]:
    return tuple(map(int, os.environ.get("WIDTHS", usual).split(",")))


def mnist() -> Iterator[Line]:
    """Nats a test picture, and what minibatches cost when they were first seen, by the minute."""
    train, test = (pg.load_dataset("binarized_mnist", split=split) for split in ("train", "test"))
    rows = np.random.default_rng(0).permutation(len(test))[: int(os.environ.get("ROWS", 1000))]
    steps = int(os.environ.get("STEPS", 3000))
    fit, seconds = fitted(
        train, hidden=widths("32,32,32,32"), max_steps=steps, validation_fraction=0.0, **{**RATES, "batch_size": 16}
    )
    history = -np.array(fit.history["objective"])
    for part in np.array_split(np.arange(len(history)), LOOKS):
        late = part[len(part) // 2 :]
        yield {"minutes": seconds / 60 * (part[-1] + 1) / len(history), "steps": int(part[-1] + 1), "training_nats": float(history[late].mean())}  # fmt: skip
    before = time.process_time()
    found = fit.log_prob(test.take(rows)).value
    yield {
        "hidden": fit.program.options["hidden"], "steps": steps, "nats": -float(found.mean()),
        "error": float(found.std() / len(rows) ** 0.5), "rows": len(rows), "seconds": seconds,
        "scoring": time.process_time() - before,
    }  # fmt: skip
    before = time.process_time()
    drawn = fit.sample(40, seed=0).images()[..., 0]
    yield {"drawn": len(drawn), "seconds": time.process_time() - before, "ink": float(drawn.mean()), "ink_of_test": float(test.values.mean())}  # fmt: skip
    if folder := os.environ.get("KEEP"):
        np.save(f"{folder}/mnist.npy", drawn)
        fit.save(f"{folder}/mnist_{steps}.probgen")


def digit_bits() -> Iterator[Line]:
    """Test rows of scikit-learn's digits, with and without their labels; classes by Bayes' rule."""
    images, labels, order = digits()
    train, test = order[:TRAINED], order[TRAINED:]
    steps = int(os.environ.get("STEPS", 1000))
    beside = {"pixels": None, "pixels and label": {"digit": [str(label) for label in labels]}}
    for name in os.environ.get("MODELS", ";".join(beside)).split(";"):
        others = beside[name]
        table = Table.from_images(images, levels=LEVELS, others=others)
        fit, seconds = fitted(
            table.take(train), hidden=widths("32,32,32,32"), max_steps=steps, batch_size=64, learning_rate=3e-3,
            average=0.99,
        )  # fmt: skip
        held = table.take(test)
        found = fit.log_prob(held if others is None else held.hide("digit")).value / PIXELS / np.log(2)
        line = {"model": name, "steps": fit.diagnostics["steps"], "bits": -float(found.mean()), "error": float(found.std() / len(test) ** 0.5), "seconds": seconds}  # fmt: skip
        if others is not None:
            said = pg.class_probabilities(fit, held, "digit").argmax(1)
            truth = held.values[:, held.schema.index("digit")]
            line["error_of_classes"] = float((said != truth).mean())
            if folder := os.environ.get("KEEP"):
                fit.save(f"{folder}/digits.probgen")
        yield line


def holes() -> Iterator[Line]:
    """How good guesses are where pixels are unknown at random, and where the lower or the upper half is."""
    images, _, order = digits()
    table = Table.from_images(images, levels=LEVELS)
    fit, _ = fitted(
        table.take(order[:TRAINED]), hidden=widths("16,16,16"), max_steps=1000, batch_size=64, learning_rate=3e-3
    )
    rows, rng = table.take(order[TRAINED : TRAINED + HIDDEN]), np.random.default_rng(0)
    chance = rng.random((HIDDEN, PIXELS))
    masks = {f"{share:.0%} at random": chance < share for share in (0.02, 0.1, 0.3)}
    masks |= {"lower half": np.arange(PIXELS)[None] >= 32, "upper half": np.arange(PIXELS)[None] < 32}
    for name, mask in masks.items():
        asked, before = rows.with_values(np.where(mask, np.nan, rows.values)), time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = fit.log_prob(asked, draws=200)
        line = {
            "hidden": name,
            "kind": found.kind,
            "nats": float(found.value.mean()),
            "seconds": time.process_time() - before,
        }
        if found.ess is not None and found.k_hat is not None:
            line |= {
                "error": float(np.mean(found.standard_error)),
                "median_ess": float(np.median(found.ess)),
                "k_hat_above_0.7": float((found.k_hat > 0.7).mean()),
            }
        truth, drawn = rows.values, np.stack([one.values for one in fit.fill(asked, 2)])
        yield {
            **line,
            "absolute_error_of_fills": float(np.abs(drawn - truth)[:, np.broadcast_to(mask, truth.shape)].mean()),
        }


CASES: dict[str, Callable[[], Iterator[Line]]] = {"mnist": mnist, "digits": digit_bits, "holes": holes}
