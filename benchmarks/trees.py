"""Models made of trees on six binary sets, everything chosen on the validation rows; test nats a row.

A model's size is quadrupled until the validation rows say stop, then its other options are varied. Then fits from other seeds
join it, as many as the time allows, and the mean of their densities is reported beside the single one. Needs the folder of data sets
(``PROBGEN_DATA``).
"""

import os
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

import probgen as pg
from benchmarks.binary_sets import read

PUBLISHED = {"nltcs": -5.99, "plants": -12.54, "jester": -52.46, "accidents": -26.74, "dna": -79.1, "mushrooms": -12.4}
SECONDS = 170.0  # of one thread, for everything about one set and model
MEMBERS = 12  # fits that are averaged, at most


@dataclass(frozen=True)
class Contender:
    """A model, and what is tried of it.

    Attributes:
        size: the option that is raised.
        sizes: its values.
        also: other options and their values, the first being the one with which sizes are tried.
        settings: of every fit.
    """

    size: str
    sizes: tuple[int, ...]
    also: dict[str, tuple] = field(default_factory=dict)
    settings: dict[str, object] = field(default_factory=dict)


MODELS = {
    "chow_liu_mixture": Contender(
        "components",
        (5, 20, 80),
        {"pseudo_rows": (5.0, 2.0, 15.0), "start": ("kmeans", "random")},
        {"max_steps": 30, "tolerance": 2e-4, "restarts": 1},
    )
}


def cases():
    """Every set with every model."""
    torch.set_num_threads(1)
    folder = Path(os.environ.get("PROBGEN_DATA", "../shared/data")) / "binary"
    for name in PUBLISHED:
        for model, contender in MODELS.items():
            yield case(name, model, contender, *read(folder / f"{name}.npz"))


def case(name, model, contender, train, valid, test):
    """One set and model: the best single fit, and the average of several."""
    began = time.process_time()

    def fitted(seed=0, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pg.ConvergenceWarning)
            fit = pg.fit(model, train, seed=seed, progress=False, **contender.settings, **options)
        return [fit.log_prob(valid).value, fit.log_prob(test).value]

    options, scores = chosen(contender, fitted)
    spent = time.process_time() - began
    members, longest = [scores], 0.0
    while len(members) < MEMBERS and time.process_time() - began + longest < SECONDS:
        before = time.process_time()
        members.append(fitted(len(members), **options))
        longest = max(longest, time.process_time() - before)
    single, average = averages([scores]), averages(members)
    return {
        "case": name, "model": model, **options, "validation": single[0], "test": single[1],
        "members": len(members), "validation_average": average[0], "test_average": average[1], "published": PUBLISHED[name],
        "cpu_seconds_single": spent, "cpu_seconds": time.process_time() - began,
    }  # fmt: skip


def chosen(contender, fitted):
    """The options that the validation rows like best, and the scores of their fit."""
    options = {key: values[0] for key, values in contender.also.items()}
    best, scores = options, None
    for size in contender.sizes:
        tried = {contender.size: size, **options}
        found = fitted(**tried)
        if scores is not None and found[0].mean() < scores[0].mean():
            break
        best, scores = tried, found
    for key, values in contender.also.items():
        for value in values[1:]:
            tried = {**best, key: value}
            found = fitted(**tried)
            if scores is None or found[0].mean() > scores[0].mean():
                best, scores = tried, found
    return best, scores


def averages(members):
    """Mean log density on the validation and the test rows, of the mean of the members' densities."""
    return [
        float((np.logaddexp.reduce(rows, axis=0) - np.log(len(rows))).mean()) for rows in zip(*members, strict=True)
    ]
