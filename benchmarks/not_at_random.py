"""Cells that are lost because they are large: the protocol of not-MIWAE (Ipsen, Mattei and Frellsen, 2021, table 1).

Columns are standardised; in the first half of them every value above the mean is deleted; RMSE over the deleted cells, of the
mean of 20 draws. The rule is one for all sets: a single Gaussian (``gaussian_mixture``,
``components=1``), each cell's loss a logistic function of itself with a free threshold and steepness, larger values known to
be lost rather than smaller ones, as the published "self-masking known". ``at_random`` is the same Gaussian without a model of the
mask. A second rule, ``factors``, has five factors in place of a full covariance, where there are more than ten columns.

Data are looked for in the folder that PROBGEN_DATA names, but for breast, which comes with scikit-learn. The mask is determined by the
data; what varies with the seed are our draws.
"""

import os
import warnings
from functools import partial
from pathlib import Path

import numpy as np

import probgen as pg
from benchmarks import seconds

SEEDS = (0, 1, 2)
DRAWS = 20
PUBLISHED = {  # not-MIWAE with PPCA and with networks, both self-masking known; MIWAE; missForest
    "banknote": (0.57, 0.74, 1.19, 1.28),
    "concrete": (1.31, 1.12, 1.66, 1.76),
    "red_wine": (1.13, 1.07, 1.62, 1.64),
    "white_wine": (0.99, 1.04, 1.55, 1.63),
    "breast": (0.72, 0.76, 1.20, 1.57),
}


def cases():
    """One line a data set, method and seed."""
    for name in PUBLISHED:
        yield from lines(name)


def lines(name):
    """Of one data set."""
    truth = standardised(columns(name))
    hidden = np.zeros(truth.shape, dtype=bool)
    half = truth.shape[1] // 2
    hidden[:, :half] = truth[:, :half] > truth[:, :half].mean(0)
    published = dict(zip(("not_miwae_ppca", "not_miwae", "miwae", "miss_forest"), PUBLISHED[name], strict=True))
    for method, fill, seeds in methods(*truth.shape):
        for seed in seeds:
            yield {"set": name, "method": method, "seed": seed, **case(fill, truth, hidden, seed), **published}


def methods(rows, width):
    """Name, function of a table with holes, and the seeds that it depends on."""
    gaussian = {"model": "gaussian_mixture", "components": 1}
    yield "mean", mean, (0,)
    yield "sklearn_iterative", iterative, (0,)
    yield "at_random", partial(ours, masked=False, **gaussian), (0,)
    yield "self_masking", partial(ours, **gaussian), SEEDS if rows < 2000 else SEEDS[:1]
    if width > 10:
        yield "self_masking_factors", partial(ours, model="factor_analysis", latent=5), SEEDS[:1]


def case(fill, truth, hidden, seed):
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spent = seconds(lambda: found.append(fill(np.where(hidden, np.nan, truth), seed)))
    return {"rmse": float(np.sqrt(np.mean((found[0] - truth)[hidden] ** 2))), "seconds": spent}


# ------------------------------------------------------------------------------------------------------------ methods
def mean(holed, seed):  # noqa: ARG001
    return np.where(np.isnan(holed), np.nanmean(holed, 0), holed)


def iterative(holed, seed):
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    return IterativeImputer(random_state=seed).fit_transform(holed)


def ours(holed, seed, masked=True, **options):
    width = holed.shape[1]
    schema = pg.Schema(tuple(pg.Column(f"x{at}", "real") for at in range(width)))
    known = {f"x{at}": "high" for at in range(width // 2)}
    mechanism = pg.Mechanism("self_masking", direction=known, chains=1, thin=5) if masked else None
    imputed = pg.impute(
        pg.Table(holed, schema=schema), m=DRAWS, mechanism=mechanism, seed=seed, progress=False, **options
    )
    return np.mean([table.values for table in imputed], 0)


# --------------------------------------------------------------------------------------------------------------- data
def columns(name):
    """Rows of one set, the class or target left out."""
    if name == "breast":
        from sklearn.datasets import load_breast_cancer

        return load_breast_cancer().data
    folder = Path(os.environ["PROBGEN_DATA"]) / "tabular"
    files = {"white_wine": "winequality_white", "red_wine": "hivae_Wine"}
    rows = np.loadtxt(folder / f"{files.get(name, name)}.csv", delimiter=",", skiprows=1)
    return rows[rows[:, 12] == 1][:, :11] if name == "red_wine" else rows[:, :-1]


def standardised(rows):
    return (rows - rows.mean(0)) / rows.std(0)
