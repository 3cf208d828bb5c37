"""What a study is known by: the same in every process, another where anything is another."""

import os
import subprocess
import sys
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

import probgen as pg
from probgen.errors import DataError
from probgen.studies.telling import told


class Filler:
    """An object that is called, and one that is not."""

    def __init__(self, size):
        self.size = size
        self.whole = self  # a circle

    def __call__(self, table, seed):
        return [table] * self.size

    def fill(self, table, seed):
        return [table] * self.size


def scaled(by):
    return lambda frame: by * frame["x"].mean()


def program(prior):
    def model(data):
        return prior

    return model


SCHEMA = pg.Schema((pg.Column("x", "real"), pg.Column("y", "real")))
DIFFERENT = {
    "bounds": lambda: pg.Design(bounds={"y": (0, None)}),
    "other bounds": lambda: pg.Design(bounds={"y": (0, 9)}),
    "rule": lambda: pg.Design(rules=["x < y"]),
    "function": lambda: pg.Design(rules=[lambda frame: frame["x"] < 3]),
    "other function": lambda: pg.Design(rules=[lambda frame: frame["x"] < 4]),
    "censored": lambda: pg.Design(censored={"x": (None, 2.0)}),
    "censored elsewhere": lambda: pg.Design(censored={"x": pg.censored(upper=np.full(40, 2.0))}),
    "at another limit": lambda: pg.Design(censored={"x": pg.censored(upper=np.full(40, 3.0))}),
    "mask": lambda: pg.Design(keep_missing=np.eye(3, dtype=bool)),
    "other mask": lambda: pg.Design(keep_missing=np.eye(3, dtype=bool)[::-1]),
    "mechanism": lambda: pg.Mechanism("self_masking"),
    "other form": lambda: pg.Mechanism("logistic"),
    "other chains": lambda: pg.Mechanism("self_masking", warmup=7),
    "schema": lambda: SCHEMA,
    "other schema": lambda: SCHEMA.with_kind("y", "positive"),
    "frame": lambda: pd.DataFrame({"a": [1.0, 2.0], "b": ["u", "v"]}),
    "other frame": lambda: pd.DataFrame({"a": [1.0, 2.0], "b": ["u", "w"]}),
    "object": lambda: Filler(2),
    "other object": lambda: Filler(3),
    "method": lambda: Filler(2).fill,
    "method of another": lambda: Filler(3).fill,
    "closure": lambda: scaled(2.0),
    "other closure": lambda: scaled(3.0),
    "partial": lambda: partial(Filler, 2),
    "other partial": lambda: partial(Filler, size=2),
    "partial of arrays": lambda: partial(scaled, np.arange(3)),
    "partial of other arrays": lambda: partial(scaled, np.arange(4)),
    "set": lambda: {"a", "b", "c"},
    "program": lambda: pg.program(program(1.0)),
    "other program": lambda: pg.program(program(2.0)),
    "model": lambda: pg.fit("gaussian_mixture", {"x": [0.1, 0.5, 0.2, 3.0]}, components=1, progress=False).program,
    "number": lambda: np.float64(2.0),
    "other number": lambda: np.float64(2.5),
}


def test_what_is_different_is_told_apart():
    words = {name: told(make()) for name, make in DIFFERENT.items()}
    for one, other in combinations(words, 2):
        assert words[one] != words[other], (one, other)


def test_what_is_equal_is_told_alike_in_every_process():
    here = [told(make()) for make in DIFFERENT.values()]
    assert here == [told(make()) for make in DIFFERENT.values()]
    order = "from tests.studies.test_telling import *; print(repr([told(make()) for make in DIFFERENT.values()]))"
    more = {"PYTHONHASHSEED": "7"}
    there = subprocess.run([sys.executable, "-c", order], capture_output=True, text=True, env={**os.environ, **more})
    assert there.stdout.strip() == repr(here), there.stderr


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"design": pg.Design(bounds={"y": (-99, None)})}, {"design": pg.Design(bounds={"y": (-98, None)})}),
        (
            {"mechanism": pg.Mechanism("self_masking", chains=1, warmup=2, thin=1)},
            {"mechanism": pg.Mechanism("self_masking", chains=1, warmup=3, thin=1)},
        ),
        ({"prior": None}, {"prior": "default"}),
    ],
)
def test_a_study_goes_on_with_the_same_options_only(tmp_path, one, other):
    x = np.random.default_rng(0).normal(size=(40, 2))
    population = pg.Table({"x": x[:, 0], "y": x @ [1.0, 1.0]})
    asked = {"ampute": {"proportion": 0.3, "patterns": ["y"]}, "rows": 30, "m": 2, "path": tmp_path, "progress": False}

    def study(simulations, **options):
        methods = {"normal": {"model": "gaussian_mixture", "components": 1, **options}}
        return pg.imputation_study(population, "y ~ x", methods=methods, simulations=simulations, **asked)

    study(1, **one)
    study(2, **one)
    with pytest.raises(DataError, match="outcomes of another method 'normal'"):
        study(2, **other)
