"""Formulas over columns: numbers, truth in three values, levels, dates; and nothing else."""

import numpy as np
import pandas as pd
import pytest

from probgen.data.formulas import formula
from probgen.data.limits import Limits, censored
from probgen.data.schema import Column, Schema
from probgen.data.solving import FOUND, NO_VALUE, NOT_MONOTONE, solve
from probgen.data.table import Table
from probgen.errors import DataError, SchemaError

TABLE = Table(
    pd.DataFrame(
        {
            "a": [1.5, 2.5, None, -4.0],
            "b b": [2.0, 0.25, 3.0, None],
            "yes": [1, 0, 1, None],
            "grade": pd.Categorical(["low", "high", "mid", None], categories=["low", "mid", "high"], ordered=True),
            "sex": ["f", "m", None, "f"],
            "day": pd.to_datetime(["2020-01-01", "2020-03-01", None, "1970-01-11"]),
        }
    )
)
NAN = np.nan


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + 1", [2.5, 3.5, NAN, -3.0]),
        ("`b b` ** 2 / a", [4 / 1.5, 0.0625 / 2.5, NAN, NAN]),
        ("max(a, 2) - min(a, 2, 1)", [1.0, 1.5, NAN, 6.0]),
        ("abs(-a) + log(exp(1.0))", [2.5, 3.5, NAN, 5.0]),
        ("a // 1 + a % 1", [1.5, 2.5, NAN, -4.0]),
        ("a < 2", [1, 0, NAN, 1]),
        ("1 < a <= 2.5", [1, 1, NAN, 0]),
        ("a > 0 and `b b` > 1", [1, 0, NAN, 0]),  # false and unknown is false
        ("a > 0 or `b b` > 1", [1, 1, 1, NAN]),  # unknown or true is true
        ("not a > 2", [1, 0, NAN, 1]),
        ("(a > 2) | ~(yes == 1)", [0, 1, NAN, NAN]),
        ("yes", [1, 0, 1, NAN]),
        ("grade >= 'mid'", [0, 1, 1, NAN]),
        ("'mid' > grade", [1, 0, 0, NAN]),
        ("sex == 'f'", [1, 0, NAN, 1]),
        ("sex in ('f', 'm')", [1, 1, NAN, 1]),
        ("sex not in ['m']", [1, 0, NAN, 1]),
        ("day >= '2020-01-01'", [1, 1, NAN, 0]),
        ("day - '2020-01-01'", [0, 60, NAN, -18252]),
        ("day", [18262, 18322, NAN, 10]),
        ("1 if sex == 'f' else a", [1, 2.5, NAN, 1]),
        ("5", [5, 5, 5, 5]),
    ],
)
def test_values(text, expected):
    np.testing.assert_allclose(formula(text).of(TABLE.values, TABLE.schema), expected, rtol=1e-12)


def test_labels_and_functions():
    assert formula("'x' if a > 2 else 'y'").of(TABLE.values, TABLE.schema).tolist() == ["y", "x", None, "y"]
    assert formula("sex").of(TABLE.values, TABLE.schema).tolist() == ["f", "m", None, "f"]
    column = Column("c", "binary", levels=("y", "x"))
    found = formula("'x' if a > 2 else 'y'").codes(TABLE.values, TABLE.schema, column)
    np.testing.assert_array_equal(found, [0, 1, NAN, 0])
    doubled = formula(lambda frame: 2 * frame["a"]).of(TABLE.values, TABLE.schema)
    np.testing.assert_array_equal(doubled, [3, 5, NAN, -8])
    assert formula("`b b` + a * a").names == ("b b", "a")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a +", "is no formula"),
        ("a.b", "what no formula may"),
        ("a[0]", "what no formula may"),
        ("open('x')", "functions of formulas are"),
        ("log(x=a)", "functions of formulas are"),
        ("(lambda: 1)()", "what no formula may|functions of formulas are"),
        ("[x for x in a]", "what no formula may"),
        ("f'{a}'", "what no formula may"),
        (3, "A formula is a text"),
        ("missing > 1", "no column 'missing'"),
        ("sex < 'm'", "have no order"),
        ("sex == 'q'", "no level of column 'sex'"),
        ("sex + 1", "whose levels are texts"),
        ("a + 'x'", "is no number"),
        ("a in sex", "a list of values"),
        ("sex == grade", "different levels"),
    ],
)
def test_what_is_no_formula(text, said):
    with pytest.raises(SchemaError, match=said):
        formula(text).of(TABLE.values, TABLE.schema)


def test_rules_are_true_or_false():
    with pytest.raises(SchemaError, match="gives texts; a rule is true or false"):
        formula("sex").truth(TABLE.values, TABLE.schema)
    with pytest.raises(SchemaError, match="one answer a row"):
        formula(lambda frame: [1.0]).truth(TABLE.values, TABLE.schema)


# ----------------------------------------------------------------------------------------------------------- solving
def test_solving_finds_the_inverse():
    wanted = np.array([0.01, 3.0, 50.0])
    found, status = solve(lambda rows, x: x**3 / 2, wanted, (1.0, 2.0), (0.0, np.inf))
    assert (status == FOUND).all()
    np.testing.assert_allclose(found, np.cbrt(2 * wanted), rtol=1e-12)
    falling, _ = solve(lambda rows, x: (rows + 1) / x, np.array([4.0, 4.0]), (1.0, 2.0), (0.0, np.inf))
    np.testing.assert_allclose(falling, [0.25, 0.5], rtol=1e-12)
    ends, _ = solve(lambda rows, x: 2.0 + x, np.array([2.0, 3.0]), (1.0, 2.0), (0.0, np.inf))
    assert ends.tolist() == [0.0, 1.0]


def test_solving_says_why_not():
    assert solve(lambda rows, x: x**2, np.array([1.0]), (-2.0, 2.0), (-np.inf, np.inf))[1] == NOT_MONOTONE
    found, status = solve(lambda rows, x: np.exp(x), np.array([-1.0]), (0.0, 1.0), (-np.inf, np.inf))
    assert status == NO_VALUE
    assert np.isnan(found)
    assert solve(lambda rows, x: x, np.array([-1.0]), (1.0, 2.0), (0.0, np.inf))[1] == NO_VALUE


# ------------------------------------------------------------------------------------------------------------ limits
def test_limits_narrow_and_hold():
    limits = Limits.open((3, 2)).narrowed(np.array([1, 2]), 0, lower=0.0).narrowed(np.array([2]), 0, -5.0, 1.0)
    assert limits.lower[:, 0].tolist() == [-np.inf, 0.0, 0.0]
    assert limits.upper[:, 0].tolist() == [np.inf, np.inf, 1.0]
    values = np.array([[9.0, 0.0], [-1.0, 0.0], [np.nan, 0.0]])
    assert limits.hold(values)[:, 0].tolist() == [True, False, True]
    assert limits.clipped(values)[1, 0] == 0.0
    assert limits.take(np.array([2])).select([0]).upper.tolist() == [[1.0]]


@pytest.mark.parametrize(
    ("lower", "upper", "said"),
    [
        ([[0.0]], [[0.0, 1.0]], r"two \(N, D\) arrays"),
        ([[np.nan]], [[1.0]], "are not numbers"),
        ([[2.0]], [[1.0]], r"Limits \[2, 1\] of row 0, column 0 leave no value"),
    ],
)
def test_bad_limits(lower, upper, said):
    with pytest.raises(DataError, match=said):
        Limits(np.array(lower), np.array(upper))


def test_censoring_needs_a_limit():
    with pytest.raises(SchemaError, match="needs a lower or an upper limit"):
        censored()


def test_schemas_are_seen_by_name():
    schema = Schema((Column("x", "real"),))
    with pytest.raises(SchemaError, match="no column 'y'"):
        formula("y + 1").of(np.zeros((2, 1)), schema)
