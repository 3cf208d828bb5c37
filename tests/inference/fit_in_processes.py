"""A script that several processes run together: it fits models by several methods and saves what came of it.

torchrun --nproc-per-node=2 fit_in_processes.py CASE[,CASE ...] FOLDER [CHECKPOINT PAUSE]
"""

import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from safetensors.torch import save_file

import probgen as pg


def table(rows=203):
    """Three clusters in four columns with holes, one of them of levels."""
    rng = np.random.default_rng(0)
    z = rng.integers(3, size=rows)
    x = 3.0 * z[:, None] + rng.standard_normal((rows, 3))
    x[rng.random((rows, 3)) < 0.1] = np.nan
    levels = np.where(rng.random(rows) < 0.2, "other", np.array(["low", "middle", "high"])[z])
    return pg.Table({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "d": levels})


def numbers():
    return pg.Table({name: table().column(name).astype(float) for name in "abc"})


def sequences():
    rng = np.random.default_rng(1)
    lengths = [3, 30, 12, 7, 25, 9, 40]
    paths = [np.cumsum(rng.random(length) < 0.2) % 2 for length in lengths]
    return pg.Table.from_sequences([3.0 * p[:, None] + rng.standard_normal((len(p), 2)) for p in paths])


def weighted():
    found = numbers()
    return pg.Table(found, weights=np.random.default_rng(2).random(len(found)))


def coin(data):
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    with pyro.plate("tosses", len(data)):
        pyro.sample("x", dist.Bernoulli(p), obs=data)


def schools(data):
    """Eight schools (Rubin, 1981), non-centred."""
    mu, tau = pyro.sample("mu", dist.Normal(0.0, 5.0)), pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", 8):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(mu + tau * z, data["error"]), obs=data["y"])


def schools_data():
    y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0], dtype=torch.float64)
    error = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0], dtype=torch.float64)
    return {"y": y, "error": error}


def repeated():
    """Few different rows, many times each, with holes."""
    rng = np.random.default_rng(4)
    z = rng.integers(2, size=400)
    x = (rng.random((400, 4)) < 0.2 + 0.6 * z[:, None]).astype(object)
    x[rng.random((400, 4)) < 0.1] = None
    return pg.Table({name: [None if v is None else str(v) for v in x[:, at]] for at, name in enumerate("abcd")})


def labelled():
    """Numbers, of which one in three has a label."""
    x = np.random.default_rng(5).normal(size=(90, 3))
    label = [str(number % 2) if number % 3 == 0 else None for number in range(90)]
    return pg.Table({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "label": label})


def folder():
    """The numbers as parquet files of several row groups, which are cut in the middle of one."""
    path = Path(tempfile.mkdtemp())
    frame = numbers().to_pandas()
    for number, start in enumerate(range(0, len(frame), 90)):
        frame[start : start + 90].to_parquet(path / f"{number}.parquet", row_group_size=40)
    return pg.ParquetFolder(path)


MIXTURE = ("gaussian_mixture", numbers, {"components": 3})
VAE = {"latent": 2, "hidden": (8,), "dtype": "float64", "batch_size": 30, "max_steps": 40, "validate_every": 10}
NETWORK = {"structure": [("a", "b"), ("b", "c"), ("b", "d")]}
CASES = {
    "em": (*MIXTURE, {"tolerance": 1e-9, "restarts": 2}),
    "em_weighted": ("gaussian_mixture", weighted, {"components": 3, "tolerance": 1e-9, "restarts": 2}),
    "em_sequences": ("hidden_markov", sequences, {"states": 2, "max_steps": 30}),
    "em_approximate": (
        "factorial_hidden_markov",
        sequences,
        {"states": 6, "chains": 4, "max_steps": 8, "restarts": 1},
    ),
    "em_network": ("bayesian_network", repeated, NETWORK | {"max_steps": 50}),
    "em_folder": ("gaussian_mixture", folder, {"components": 3, "restarts": 1}),
    "em_start": ("gaussian_mixture", numbers, {"components": 3, "start": np.arange(203)[:, None] % 3 == np.arange(3)}),
    "svi": ("vae", table, VAE),
    "svi_weighted": ("vae", weighted, VAE | {"draws": 3, "objective": "iwae"}),
    "svi_labels": ("conditional_vae", labelled, VAE | {"label": "label"}),
    "svi_global": (*MIXTURE, {"method": "svi", "batch_size": 50, "max_steps": 40, "validate_every": 10}),
    "svi_sequences": ("hidden_markov", sequences, {"states": 2, "method": "svi", "max_steps": 30}),
    "gibbs": ("bayesian_network", repeated, NETWORK | {"method": "gibbs", "chains": 3, "draws": 10, "warmup": 10}),
    "bootstrap": (*MIXTURE, {"method": "bootstrap", "draws": 5, "starts": 2, "climb": 20}),
    "chained": ("chained_equations", table, {"draws": 5, "sweeps": 4, "matching": "values"}),
    "nuts": (pg.program(schools), schools_data, {"method": "nuts", "chains": 3, "draws": 6, "warmup": 30}),
    "chees": (pg.program(schools), schools_data, {"method": "chees", "chains": 6, "draws": 6, "warmup": 30}),
    "user": (pg.program(coin), lambda: torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0]), {"method": "svi", "max_steps": 100}),
}


def fitted(case, **options):
    """What a case's fit leaves behind, as tensors."""
    model, data, *settings = CASES[case]
    given = {key: value for part in settings for key, value in part.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = pg.fit(model, data(), progress=False, seed=3, **given | options)
    posterior = {f"{n}.{k}": v for n, group in fit.posterior.parameters.items() for k, v in group.items()}
    found = posterior | fit.posterior.sites | dict(fit.program.state_dict())
    history = {f"history.{key}": torch.tensor(v, dtype=torch.float64) for key, v in fit.history.items()}
    ranks = ("rhat", "ess")  # of draws, which are compared; ties of their ranks are broken by rounding
    told = {k: v for k, v in fit.diagnostics.items() if isinstance(v, int | float) and k not in ranks}
    if case == "chained":  # steps are those of chains that stand side by side
        history, told = {}, {"sweeps": told["sweeps"]}
    return {k: v.contiguous().clone() for k, v in (found | history).items()} | {
        "told": torch.tensor(list(told.values()), dtype=torch.float64)
    }


def main(cases, folder, checkpoint=None, pause="0"):
    """Fit, with a checkpoint after every step and a pause after each, where they are given."""
    rank = os.environ.get("RANK", "0")
    options = {"checkpoint": checkpoint, "checkpoint_seconds": 0.0} if checkpoint else {}
    (Path(folder) / f"pid.{rank}").write_text(str(os.getpid()))
    for case in cases.split(","):
        found = fitted(case, callback=lambda *_: time.sleep(float(pause)), **options)
        save_file(found, Path(folder) / f"{case}.{rank}")


if __name__ == "__main__":
    main(*sys.argv[1:])
