"""Simulations of imputation: theory's coverage where there is theory, failures told, results that do not depend on workers."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import gammaln

import probgen as pg
from probgen.errors import CapabilityError, DataError
from probgen.studies.simulation_records import LINES
from probgen.studies.simulation_run import Batched, Completed

N, KNOWN = 40, 10
S = 300
TRUTH = {"mean": 3.0}
HOLES = {"proportion": 0.5, "mechanism": "mcar", "patterns": ["y"]}
NORMAL = {"model": "gaussian_mixture", "components": 1}


def normals(rng):
    """Columns that know nothing of each other."""
    return pd.DataFrame({"x": rng.normal(size=N), "y": rng.normal(3.0, 2.0, size=N)})


def mean_of_y(frame):
    y = frame["y"].to_numpy(float)
    return pd.Series({"mean": y.mean()}), pd.Series({"mean": y.var(ddof=1) / len(y)}), len(y) - 1


def few(table, seed):
    """All but ten of y are hidden."""
    values = table.values.copy()
    values[np.random.default_rng(seed).permutation(N)[KNOWN:], 1] = np.nan
    return table.with_values(values)


def bayes(table, seed, m=5, proper=True):
    """Draws of y from the normal distribution with its noninformative prior; with its estimates where not proper."""
    rng, known = np.random.default_rng(seed), table.known[:, 1]
    seen = table.values[known, 1]
    n, filled = len(seen), []
    for _ in range(m):
        sd = np.sqrt(seen.var(ddof=1) * ((n - 1) / rng.chisquare(n - 1) if proper else 1.0))
        middle = seen.mean() + (rng.normal() * sd / np.sqrt(n) if proper else 0.0)
        values = table.values.copy()
        values[~known, 1] = rng.normal(middle, sd, (~known).sum())
        filled.append(table.with_values(values))
    return filled


def improper(table, seed):
    return bayes(table, seed, proper=False)


def study(methods, truth=TRUTH, simulations=20, **options):
    asked = {"ampute": few, "progress": False, "seed": 1, **options}
    return pg.imputation_study(normals, mean_of_y, truth, methods=methods, simulations=simulations, **asked)


def numbers(found):
    """As text, in which an unknown FMI equals another."""
    return [repr((o.simulation, o.method, o.estimate, o.lower, o.upper, o.fmi)) for o in found.outcomes]


# ----------------------------------------------------------------------------------------------------------- validity
@pytest.fixture(scope="module")
def many():
    return study({"bayes": bayes, "improper": improper}, simulations=S)


def test_intervals_cover_as_theory_says(many):
    """The t interval is exact, of all rows and of the complete ones; Rubin's is nearly so (3 standard errors)."""
    for method in ("complete data", "complete cases", "bayes"):
        assert many.record(method)["coverage"] == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / S))
        assert many.record(method)["says"] == ""
        assert many.record(method)["se_ratio"] == pytest.approx(1.0, abs=5 / np.sqrt(2 * S))


def test_widths_of_complete_tables_are_those_of_the_t_distribution(many):
    """Mean width 2 t c4 sigma / sqrt(n), with c4 the bias of a standard deviation."""
    for method, n in (("complete data", N), ("complete cases", KNOWN)):
        c4 = np.sqrt(2 / (n - 1)) * np.exp(gammaln(n / 2) - gammaln((n - 1) / 2))
        expected = 2 * stats.t.ppf(0.975, n - 1) * c4 * 2.0 / np.sqrt(n)
        record = many.record(method)
        assert record["width"] == pytest.approx(expected, abs=4 * record["width_error"])
        assert record["rmse"] == pytest.approx(2.0 / np.sqrt(n), rel=5 / np.sqrt(2 * S))


def test_improper_imputation_is_seen(many):
    """Parameters that are taken for known: at three in four missing and m = 5, variances are half of what they should be."""
    record = many.record("improper")
    assert record["coverage"] < 0.88
    assert record["says"] == "undercovers"
    assert record["se_ratio"] == pytest.approx(
        np.sqrt((1 / 40 + 1.2 * 30 / 40**2) / (1 / 10 + 30 / 40**2 / 5)), rel=0.12
    )
    assert record["fmi"] < many.record("bayes")["fmi"]


def test_bias_is_seen_and_measured():
    shift = np.array([0.0, 4.0])

    def shifted(table, seed):
        return [t.with_values(np.where(table.known, table.values, t.values + shift)) for t in bayes(table, seed)]

    record = study({"shifted": shifted}, simulations=60).record("shifted")
    assert record["bias"] == pytest.approx(4.0 * (N - KNOWN) / N, abs=5 * record["bias_error"])
    assert record["percent_bias"] == pytest.approx(100 * record["bias"] / 3.0)
    assert record["says"] == "biased, undercovers"


def test_numbers_are_those_of_the_outcomes(many):
    rows = many.outcomes_to_pandas().query("method == 'bayes'")
    record = many.record("bayes")
    assert record["bias"] == pytest.approx(rows["estimate"].mean() - 3.0)
    assert record["empirical_sd"] == pytest.approx(rows["estimate"].std())
    covered = ((rows["lower"] <= 3.0) & (rows["upper"] >= 3.0)).mean()
    assert record["coverage"] == pytest.approx(covered)
    assert record["coverage_error"] == pytest.approx(np.sqrt(covered * (1 - covered) / S))
    assert list(many.to_pandas()["method"]) == ["complete data", "complete cases", "bayes", "improper"]
    assert "undercovers" in str(many)


# ------------------------------------------------------------------------------------------------------------ the same
def test_methods_do_not_depend_on_each_other():
    both, alone = study({"other": improper, "bayes": bayes}), study({"bayes": bayes})
    assert [n for n in numbers(both) if "other" not in n] == numbers(alone)


def test_more_simulations_begin_with_the_same():
    assert numbers(study({"bayes": bayes}, simulations=7)) == numbers(study({"bayes": bayes}))[: 7 * 3]


def test_batches_give_what_single_calls_give():
    def together(tables, seeds):
        return [Completed(bayes(t, s), seconds=2.5) for t, s in zip(tables, seeds, strict=True)]

    found = study({"bayes": Batched(together, size=6)})
    assert numbers(found) == numbers(study({"bayes": bayes}))
    assert found.record("bayes")["seconds"] == 2.5


def test_two_workers_give_what_one_gives():
    """A population and options travel to other processes; every number has the same bits."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    population = pd.DataFrame({"x": x, "y": x + rng.normal(size=300)})
    asked = {
        "methods": {"improper": {**NORMAL, "uncertainty": "none"}},
        "ampute": {"proportion": 0.4, "patterns": ["y"]},
        "simulations": 2, "rows": 50, "seed": 3, "m": 2, "progress": False,
    }  # fmt: skip
    one, two = (pg.imputation_study(population, "y ~ x", workers=workers, **asked) for workers in (1, 2))
    assert numbers(one) == numbers(two)
    assert one.warnings == {"improper": {"ImproperWarning": 2}} == two.warnings
    assert one.truth["x"] == pytest.approx(np.polyfit(x, population["y"], 1)[0])


# ---------------------------------------------------------------------------------------------------------- stop, go on
def test_a_study_goes_on_where_it_was_killed(tmp_path):
    calls = []

    def counted(table, seed):
        if len(calls) == 5:
            calls.append(seed)
            raise KeyboardInterrupt
        calls.append(seed)
        return bayes(table, seed)

    with pytest.raises(KeyboardInterrupt):
        study({"bayes": counted}, path=tmp_path / "study")
    with (tmp_path / "study" / LINES).open("a") as file:
        file.write('{"simulation": 5, "meth')  # killed in the middle of a line
    found = study({"bayes": counted}, path=tmp_path / "study")
    assert len(calls) == 6 + 15
    assert numbers(found) == numbers(study({"bayes": bayes}))
    lines = (tmp_path / "study" / LINES).read_text().splitlines()
    assert len([json.loads(line) for line in lines]) == 60
    study({"bayes": counted}, path=tmp_path / "study")
    assert len(calls) == 21


def test_simulations_and_methods_can_be_added(tmp_path):
    study({"bayes": bayes}, simulations=5, path=tmp_path)
    found = study({"bayes": bayes, "improper": improper}, simulations=10, path=tmp_path)
    assert numbers(found) == numbers(study({"bayes": bayes, "improper": improper}, simulations=10))


def test_another_study_in_the_folder_is_refused(tmp_path):
    study({"bayes": bayes}, simulations=2, path=tmp_path / "study")
    with pytest.raises(DataError, match="seed = 1, this one has 2"):
        study({"bayes": bayes}, simulations=2, path=tmp_path / "study", seed=2)
    with pytest.raises(DataError, match="another method 'bayes'"):
        study({"bayes": improper}, simulations=2, path=tmp_path / "study")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="no imputation study"):
        study({"bayes": bayes}, path=tmp_path / "other")


# ------------------------------------------------------------------------------------------------------------ failures
def test_failures_are_counted_and_told():
    def moody(table, seed):
        if seed % 2:
            raise ValueError("not today")
        return bayes(table, seed)

    def lazy(table, seed):
        return [table]

    found = study({"moody": moody, "lazy": lazy})
    record = found.record("moody")
    assert 0 < record["failed"] < 20
    assert record["simulations"] == 20 - record["failed"]
    assert found.failures["moody"] == {"ValueError: not today": record["failed"]}
    assert found.record("lazy")["failed"] == 20
    assert np.isnan(found.record("lazy")["coverage"])
    assert any("left column 'y'" in why for why in found.failures["lazy"])
    assert "simulations failed: ValueError: not today" in str(found)


def test_failed_ones_are_tried_again(tmp_path):
    broken = [True]

    def machine(table, seed):
        if broken[0]:
            raise OSError("no space left")
        return bayes(table, seed)

    assert study({"machine": machine}, simulations=3, path=tmp_path).record("machine")["failed"] == 3
    broken[0] = False
    assert study({"machine": machine}, simulations=3, path=tmp_path).record("machine")["failed"] == 0


# ----------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"methods": {}}, CapabilityError, "methods must map"),
        ({"methods": {"complete data": bayes}}, CapabilityError, "in every study"),
        ({"methods": {"a": 3}}, CapabilityError, "must be options, a function"),
        ({"methods": {"a": {**NORMAL, "seed": 1}}}, CapabilityError, "has a seed"),
        ({"methods": {"a": {"model": "no_such_model"}}}, CapabilityError, "no_such_model"),
        ({"simulations": 0}, CapabilityError, "simulations must be"),
        ({"workers": 1.5}, CapabilityError, "workers must be"),
        ({"m": True}, CapabilityError, "m must be"),
        ({"confidence": 95}, DataError, "confidence"),
        ({"rows": 10}, CapabilityError, "a function that samples"),
        ({"truth": None}, CapabilityError, "truth must be given"),
        ({"truth": {"slope": 1.0}}, DataError, r"terms of the analysis, \['mean'\]"),
        ({"truth": [1.0, 2.0]}, DataError, "1 terms"),
        ({"ampute": 0.3}, CapabilityError, "ampute must be"),
        ({"ampute": lambda table, seed: table}, DataError, "made no holes"),
        ({"ampute": lambda table, seed: table.take([0])}, DataError, "must keep all 40 rows"),
        ({"workers": 2, "ampute": lambda table, seed: few(table, seed)}, CapabilityError, "ampute cannot be sent"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(options, error, message):
    asked = {"methods": {"bayes": bayes}, "truth": TRUTH, "simulations": 2, **options}
    with pytest.raises(error, match=message):
        study(**asked)


def test_bad_samples_are_refused():
    asked = {"methods": {"bayes": bayes}, "ampute": HOLES, "simulations": 2, "progress": False}
    with pytest.raises(DataError, match="column 'y', row 0 is unknown"):
        pg.imputation_study({"x": [1.0, 2.0], "y": [None, 1.0]}, mean_of_y, **asked)
    with pytest.raises(DataError, match="analysis failed on the first sample: KeyError"):
        pg.imputation_study(lambda rng: {"x": rng.normal(size=9)}, mean_of_y, TRUTH, **asked)
    with pytest.raises(CapabilityError, match="without replacement from 2 rows"):
        pg.imputation_study({"x": [1.0, 2.0], "y": [0.0, 1.0]}, mean_of_y, rows=3, replace=False, **asked)


def test_unknown_names_are_told():
    found = study({"bayes": bayes}, simulations=2)
    with pytest.raises(DataError, match="Methods are"):
        found.record("mice")
