"""Deep latent-variable models: objectives, priors, networks, codes, estimates, factors and probes, imputation, coverage, chorales, binarised MNIST.

``CASES=objectives,codes`` chooses; ``EPOCHS`` is the length of training on MNIST, ``ROWS`` how many of its test rows are scored.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import probgen as pg
from benchmarks._imputation_accuracy import PUBLISHED, miwae_sets
from benchmarks._imputation_populations import AtRandom, scenarios
from benchmarks.imputation import lines
from benchmarks.music import read
from probgen.data import Column, Schema, Table
from probgen.inference.runtime import seed_of

Line = dict[str, Any]
DIGITS = {"latent": 8, "hidden": (128,), "max_steps": 3000, "learning_rate": 1e-3, "batch_size": 100}
NETWORKS = ("mlp", "residual", "convolution", "set", "attention")
LATENTS: dict[str, dict[str, Any]] = {
    "normal": {},
    "mixture": {"latent_prior": "mixture"},
    "vamp": {"latent_prior": "vamp"},
    "flow": {"latent_prior": "flow"},
    "normal, posterior flow": {"posterior": "flow"},
    "flow, posterior flow": {"latent_prior": "flow", "posterior": "flow"},
}  # fmt: skip
OBJECTIVES = (("elbo", 1), ("iwae", 5), ("iwae", 20), ("dreg", 20), ("wake_sleep", 5), ("wake_sleep", 20))
MNIST: dict[str, dict[str, Any]] = {
    "VAE": {"model": "vae"},
    "DReG-5": {"model": "vae", "objective": "dreg", "draws": 5},
    "IWAE-50": {"model": "vae", "objective": "iwae", "draws": 50},
    "VampPrior 200": {"model": "vae", "latent_prior": "vamp", "prior_components": 200},
    "flow prior and guide": {"model": "vae", "latent_prior": "flow", "posterior": "flow"},
    "hierarchical DReG-5": {
        "model": "hierarchical_vae", "latent": (32, 16), "hidden": (300, 300), "objective": "dreg", "draws": 5,
    },
    "hierarchical": {"model": "hierarchical_vae", "latent": (32, 16), "hidden": (300, 300), "beta_steps": 4000},
}  # fmt: skip
SPRITES = {"latent": 10, "hidden": (256, 128), "max_steps": 6000, "learning_rate": 1e-3, "batch_size": 128}
READ = {"max_steps": 4000, "learning_rate": 1e-3, "batch_size": 100, "hidden": (128,)}
READERS: dict[str, dict[str, Any]] = {
    "probabilistic_pca": {"latent": 8},
    "autoencoder": {"latent": 8, **READ},
    "vae": {"latent": 8, "spread": "column", **READ},
    "vq_vae": {"slots": 8, "codes": 16, "width": 4, "spread": "column", **READ},
}  # fmt: skip
DEEP = {"latent": 10, "hidden": (128, 128), "objective": "iwae", "draws": 20, "batch_size": 64}
STATES = {
    "latent": 64, "hidden": (200,), "recurrent": 200, "batch_size": 20, "learning_rate": 2e-3, "beta_steps": 1500,
    "validation_fraction": 0.0,
}  # fmt: skip
SMALL = {
    "latent": 3, "hidden": (32,), "spread": "row", "objective": "iwae", "draws": 10, "batch_size": 50, "max_steps": 600,
    "learning_rate": 3e-3,
}  # fmt: skip


def cases() -> Iterator[Line]:
    """The lines of all cases that were asked for."""
    for name in os.environ.get("CASES", ",".join(CASES)).split(","):
        for line in CASES[name]():
            yield {"case": name, **line}


def fitted(model: str, table: Table, **options: Any) -> tuple[pg.Fit, float]:
    """A fit and its CPU seconds."""
    before = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pg.fit(model, table, progress=False, seed=options.pop("seed", 0), **options)
    return found, time.process_time() - before


def digits() -> tuple[Table, Table]:
    """1437 and 360 images of eight by eight pixels, black or white."""
    from sklearn.datasets import load_digits

    x = (load_digits().images > 7.5)[np.random.default_rng(0).permutation(1797)]
    return Table.from_images(x[:1437]), Table.from_images(x[1437:])


def objectives() -> Iterator[Line]:
    """One pair, five seeds: the test density that each objective ends with."""
    train, test = digits()
    for name, draws in OBJECTIVES:
        values, seconds = [], 0.0
        for seed in range(5):
            fit, taken = fitted(
                "vae", train, objective=name, draws=draws, seed=seed, validation_fraction=0.0, **DIGITS
            )
            values.append(fit.log_prob(test, draws=2000).mean().value)
            seconds += taken / 5
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        yield {
            "objective": name,
            "draws": draws,
            "test": float(np.mean(values)),
            "error": float(error),
            "seconds": seconds,
        }


def networks() -> Iterator[Line]:
    """One seed: the test density with each network, and what is estimated of the upper half alone."""
    train, test = digits()
    upper = test.hide(*test.names[32:])
    asked = os.environ.get("METHODS", ",".join(NETWORKS)).split(",")
    for name in asked:
        fit, seconds = fitted("vae", train, network=name, validation_fraction=0.0, **DIGITS)
        whole, half = (fit.log_prob(table, draws=2000).mean() for table in (test, upper))
        yield {
            "network": name, "test": whole.value, "error": whole.standard_error, "upper_half": half.value,
            "bound": float(np.mean(fit.history["objective"][-100:])), "parameters": sum(p.numel() for p in fit.program.parameters()), "seconds": seconds,
        }  # fmt: skip


def priors() -> Iterator[Line]:
    """Priors and guides of the latents, three seeds, by the evidence lower bound: the test density and the bound itself."""
    train, test = digits()
    for name, options in LATENTS.items():
        values, bounds, seconds = [], [], 0.0
        for seed in range(3):
            fit, taken = fitted("vae", train, seed=seed, validation_fraction=0.0, **DIGITS, **options)
            values.append(fit.log_prob(test, draws=2000).mean().value)
            bounds.append(float(np.mean([fit.log_prob(test, draws=1, seed=at).mean().value for at in range(50)])))
            seconds += taken / 3
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        yield {
            "prior": name, "test": float(np.mean(values)), "error": float(error), "bound": float(np.mean(bounds)),
            "seconds": seconds,
        }  # fmt: skip


ESTIMATES: dict[str, dict[str, Any]] = {
    "bound": {"method": "lower_bound"},
    "bound, refined by 50 steps": {"method": "lower_bound", "refine": 50},
    "bound, refined by 200 steps": {"method": "lower_bound", "refine": 200},
    "importance, 100 draws": {"draws": 100},
    "importance, 1000 draws": {"draws": 1000},
    "importance, 10000 draws": {"draws": 10_000},
    "importance, 100 draws, refined by 50 steps": {"draws": 100, "refine": 50},
    "importance, 1000 draws, refined by 50 steps": {"draws": 1000, "refine": 50},
    "importance, 1000 draws, refined by 200 steps": {"draws": 1000, "refine": 200},
    "importance, 10000 draws, refined by 50 steps": {"draws": 10_000, "refine": 50},
    "annealed, 100 temperatures": {"method": "annealed", "temperatures": 100},
    "annealed, 500 temperatures": {"method": "annealed", "temperatures": 500},
}  # fmt: skip


def estimates() -> Iterator[Line]:
    """One fit, many numbers for the same images: with all of their pixels, and with 40 % of them unknown."""
    train, test = digits()
    fit, _ = fitted("vae", train, validation_fraction=0.0, **DIGITS)
    hidden = np.random.default_rng(0).random(test.values.shape) < 0.4
    some = test.with_values(np.where(hidden, np.nan, test.values))
    for rows, table in (("complete", test), ("holes", some)):
        for name, asked in ESTIMATES.items():
            before = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = fit.log_prob(table, progress=False, **asked)
            shapes = {} if found.k_hat is None else {"above": int((found.k_hat > 0.7).sum())}
            yield {
                "rows": rows, "estimate": name, "nats": found.mean().value, "error": found.mean().standard_error, **shapes,
                "seconds": time.process_time() - before,
            }  # fmt: skip
        yield from filled(fit, test, some, hidden) if rows == "holes" else ()


def filled(fit: pg.Fit, test: Table, some: Table, hidden: np.ndarray) -> Iterator[Line]:
    """Brier score of the unknown pixels, the mean of 20 draws."""
    for asked in ({}, {"refine": 50}, {"sweeps": 20}, {"refine": 50, "sweeps": 20}):
        before = time.process_time()
        share = np.mean([table.values[hidden] for table in fit.fill(some, 20, **asked)], 0)
        yield {
            "fill": str(asked), "score": float(np.mean((share - test.values[hidden]) ** 2)),
            "seconds": time.process_time() - before,
        }  # fmt: skip


def codes() -> Iterator[Line]:
    """Eight slots of sixteen codes."""
    train, test = digits()
    for prior in ("independent", "recurrent"):
        fit, seconds = fitted(
            "vq_vae", train, slots=8, codes=16, width=8, hidden=(128,), prior=prior, max_steps=3000, learning_rate=2e-3
        )
        book: Any = fit.program.book
        yield {
            "prior": prior, "bound": fit.log_prob(test).mean().value, "perplexity": book.perplexity, "of": book.codes,
            "seconds": seconds,
        }  # fmt: skip


SPREADS = ("row", "column")


def miwae() -> Iterator[Line]:
    """Half of the cells completely at random, mean squared error of the mean of draws (Mattei and Frellsen, 2019).

    Of each of two fits, with variances of every row and of a column, and of the mean of both. ``SETS`` chooses.
    """
    steps, masks = int(os.environ.get("STEPS", 10_000)), int(os.environ.get("SIMULATIONS", 5))
    tables = miwae_sets()
    for title in os.environ.get("SETS", ",".join(tables)).split(","):
        complete, seconds = tables[title], 0.0
        errors: dict[str, list[float]] = {kind: [] for kind in (*SPREADS, "both")}
        for number in range(masks):
            seed = seed_of(0, "miwae", title, number) % 2**31
            holed = AtRandom(complete.names, 0.5)(complete, seed)
            cells, some = ~holed.known, np.flatnonzero(holed.known.any(1))
            deep = {"max_steps": steps, "patience": 200, "seed": seed, **DEEP}
            means = []
            for spread in SPREADS:
                fit, taken = fitted("vae", holed.take(some), spread=spread, **deep)
                means.append(np.mean([table.values[cells] for table in fit.fill(holed, 50)], 0))
                seconds += taken / masks
            for kind, guess in zip(errors, [*means, np.mean(means, 0)], strict=True):
                errors[kind].append(float(np.mean((guess - complete.values[cells]) ** 2)))
        found = {
            kind: (float(np.mean(of)), float(np.std(of, ddof=1) / np.sqrt(masks)) if masks > 1 else float("nan"))
            for kind, of in errors.items()
        }
        yield {"set": title, "mse": found, "published": PUBLISHED[title], "seconds": seconds}


def coverage() -> Iterator[Line]:
    """Nominal 95 % intervals after imputation by ``vae``: 200 rows of five normals, 35 % at random in three columns."""
    case = scenarios()["A normal"]
    vae = {"model": "vae", **SMALL}
    found = pg.imputation_study(
        case.sample, case.analysis, case.truth, ampute=case.holes, rows=case.rows, m=5,
        methods={
            "vae, improper": {**vae, "uncertainty": "none"},
            "vae, ensemble": {**vae, "uncertainty": "ensemble"},
            "auto": {"model": "auto"},
        },
        simulations=int(os.environ.get("SIMULATIONS", 40)), progress=False,
    )  # fmt: skip
    for method in found.methods:
        yield from lines(found, method, "A normal")


def chorales() -> Iterator[Line]:
    """States that follow each other: nats a time step of the three parts by a draw, by whole paths, and by particles."""
    parts = dict(zip(("train", "validation", "test"), read("JSB_Chorales"), strict=True))
    for model in os.environ.get("METHODS", "deep_markov,recurrent_state_space").split(","):
        fit, seconds = fitted(model, parts["train"], **{**STATES, "max_steps": int(os.environ.get("STEPS", 10_000))})
        for part, table in parts.items():
            asked: dict[str, dict[str, Any]] = {"bound": {"draws": 1}}
            if part != "train":
                asked |= {"paths": {"draws": 100}, "particles": {"method": "particles"}}
            found = {name: fit.log_prob(table, **options).sum() for name, options in asked.items()}
            nats = {name: -one.value / table.n_rows for name, one in found.items()}
            error = {"error": found["particles"].standard_error / table.n_rows} if "particles" in found else {}
            yield {"model": model, "part": part, **nats, **error, "seconds": seconds}


def mnist() -> Iterator[Line]:
    """Static binarised MNIST, nats a test image by 5000 importance draws, at the lengths of training that were asked for."""
    train, test = (pg.load_dataset("binarized_mnist", split=split) for split in ("train", "test"))
    rows = np.random.default_rng(0).permutation(len(test))[: int(os.environ.get("ROWS", 1000))]
    asked = os.environ.get("METHODS", "").split(",")
    for name, options in MNIST.items():
        if asked != [""] and name not in asked:
            continue
        for epochs in map(int, os.environ.get("EPOCHS", "10,40").split(",")):
            settings = {"latent": 40, "hidden": (300, 300), **options}
            fit, seconds = fitted(
                settings.pop("model"), train, batch_size=128, max_steps=epochs * len(train) // 128,
                learning_rate=1e-3, validation_fraction=0.02, validate_every=500, patience=1000, **settings,
            )  # fmt: skip
            found = fit.log_prob(test.take(rows), draws=5000)
            yield {
                "method": name, "epochs": epochs, "nats": -found.mean().value, "error": found.mean().standard_error,
                "spread": float(np.std(found.value) / np.sqrt(len(rows))), "rows": len(rows), "seconds": seconds,
                **{key: str(fit.diagnostics[key]) for key in ("latent_nats", "active_units")},
            }  # fmt: skip


def disentanglement() -> Iterator[Line]:
    """Known factors of small pictures: scores of the codes by the price of the divergence, over seeds."""
    seeds = int(os.environ.get("SEEDS", 3))
    rows = int(os.environ.get("ROWS", 10_000))
    table, _ = pg.sprites(rows)
    judged, factors = pg.sprites(4000, seed=1)
    for beta in map(float, os.environ.get("BETAS", "1,4,8").split(",")):
        scores, nats, active, seconds = [], [], [], 0.0
        for seed in range(seeds):
            fit, taken = fitted("vae", table, beta=beta, seed=seed, validation_fraction=0.0, **SPRITES)
            found = pg.disentanglement(fit.embed(judged), factors)
            scores.append((found.mig, found.sap, found.disentanglement, found.completeness, found.informativeness))
            nats.append(fit.diagnostics["latent_nats"]["z"])
            active.append(int(fit.diagnostics["active_units"]["z"].split()[0]))
            seconds += taken / seeds
        for name, values in zip(("mig", "sap", "dci", "completeness", "informativeness"), zip(*scores)):
            yield {
                "beta": beta, "score": name, "mean": float(np.mean(values)), "low": min(values), "high": max(values),
                "nats": float(np.mean(nats)), "active": float(np.mean(active)), "seconds": seconds,
            }  # fmt: skip


def grey_digits() -> tuple[Table, np.ndarray]:
    """1797 images of eight by eight pixels from 0 to 16, with a little noise between the whole numbers, and their labels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x = found.data + np.random.default_rng(0).uniform(-0.5, 0.5, found.data.shape)
    return Table.from_codes(x, Schema(tuple(Column(f"p{at}", "real") for at in range(64)))), found.target


def probes() -> Iterator[Line]:
    """What readers tell of the ten digits from codes that never saw the labels."""
    table, labels = grey_digits()
    fits, seconds = {}, {}
    for name, options in READERS.items():
        fits[name], seconds[name] = fitted(name, table, **options)
    told = Table.from_codes(
        np.column_stack([table.values, labels]),
        Schema((*table.schema, Column("digit", "categorical", levels=tuple(range(10))))),
    )
    for line in pg.representation_study(fits, told, "digit").scores:
        kept = ("model", "dimensions", "linear", "linear_error", "neighbours", "neighbours_error", "ari", "nmi")
        yield {**{key: line[key] for key in kept}, "seconds": seconds.get(line["model"], 0.0)}


CASES: dict[str, Callable[[], Iterator[Line]]] = {
    case.__name__: case
    for case in (
        objectives,
        priors,
        networks,
        codes,
        miwae,
        coverage,
        chorales,
        mnist,
        estimates,
        disentanglement,
        probes,
    )
}
