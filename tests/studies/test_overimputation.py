"""Overimputation and comparison of imputations: scores against closed forms, and models that are right or wrong on purpose."""

import numpy as np
import pytest
from scipy import stats

import probgen as pg
from probgen.errors import CapabilityError, DataError, SchemaError
from probgen.studies import imputation_comparison, overimputation
from probgen.studies.hidable import hidable
from probgen.studies.scoring import (
    Encoding,
    brier_score,
    crps,
    energy_score,
    energy_terms,
    log_score,
    random_ranks,
)
from probgen.studies.uniformity import bands

RNG = np.random.default_rng(0)
QUICK = {"components": 1, "progress": False}


class Drawn:
    """Imputations by a conditional normal that is known: its spread may be wrong on purpose."""

    def __init__(self, spread=1.0, shift=0.0):
        self.spread, self.shift = spread, shift

    def __call__(self, table, model, *, m, seed, **options):
        rng = np.random.default_rng(seed)
        values, unknown = table.values, ~table.known
        made = []
        for _ in range(m):
            other = np.nan_to_num(values[:, ::-1])  # rows with nothing known of the other draw from the margin
            sd = np.where(table.known[:, ::-1], np.sqrt(0.75), 1.0)
            drawn = 0.5 * other + self.shift + self.spread * sd * rng.normal(size=values.shape)
            made.append(table.with_values(np.where(unknown, drawn, values)))
        return made


@pytest.fixture
def pair():
    """Two standard normals with correlation one half."""
    x = np.random.default_rng(1).normal(size=(3000, 2))
    x[:, 1] = 0.5 * x[:, 0] + np.sqrt(0.75) * x[:, 1]
    return pg.Table({"a": x[:, 0], "b": x[:, 1]})


# -------------------------------------------------------------------------------------------------------------- scores
def test_the_crps_of_a_normal():
    """E CRPS(N(0,1), y) = y (2 Phi(y) - 1) + 2 phi(y) - 1 / sqrt(pi) (Gneiting and Raftery, 2007, eq. 21)."""
    for y in (0.0, 0.7, -2.1):
        wanted = y * (2 * stats.norm.cdf(y) - 1) + 2 * stats.norm.pdf(y) - 1 / np.sqrt(np.pi)
        few = crps(RNG.normal(size=(3, 100_000)), np.full(100_000, y))  # fair: three draws are enough on average
        assert few.mean() == pytest.approx(wanted, abs=4 * few.std() / np.sqrt(len(few)))


def test_the_energy_score_of_one_number_is_the_crps():
    draws, truth = RNG.normal(size=(9, 4)), RNG.normal(size=4)
    found = [energy_score(draws[:, [i]], truth[[i]]) for i in range(4)]
    np.testing.assert_allclose(found, crps(draws, truth))


def test_the_energy_score_of_a_normal_vector():
    """At y = 0 under N(0, I_D): E|X| - E|X - X'| / 2 = (1 - 1 / sqrt 2) sqrt 2 Gamma((D + 1) / 2) / Gamma(D / 2)."""
    from scipy.special import gammaln

    for D in (1, 3, 8):
        length = np.sqrt(2) * np.exp(gammaln((D + 1) / 2) - gammaln(D / 2))
        found = np.array([energy_score(RNG.normal(size=(5, D)), np.zeros(D)) for _ in range(4000)])
        assert found.mean() == pytest.approx(length * (1 - 1 / np.sqrt(2)), abs=4 * found.std() / np.sqrt(4000))


def test_the_energy_distance_of_two_normals():
    """Of N(0,1) and N(d,1): 2 E|X - Y| - 2 E|X - X'| by the folded normal; and 0 of equal laws, though rows are paired."""

    def distance(d):
        folded = np.sqrt(2) * np.sqrt(2 / np.pi) * np.exp(-(d**2) / 4) + d * (1 - 2 * stats.norm.cdf(-d / np.sqrt(2)))
        return 2 * folded - 4 / np.sqrt(np.pi)

    for d in (0.0, 1.0):
        found = [energy_terms(x := RNG.normal(size=(300, 1)), 0.6 * x + 0.8 * RNG.normal(size=(300, 1)) + d).mean()
                 for _ in range(60)]  # fmt: skip
        assert np.mean(found) == pytest.approx(distance(d), abs=4 * np.std(found) / np.sqrt(60))


def test_brier_and_log_scores_of_known_shares():
    """Fair: from draws of shares p against the truth from q, on average sum (p - q)^2 + 1 - sum q^2, whatever m is."""
    p, q, n = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.5, 0.3]), 40_000
    truth, counts = RNG.choice(3, n, p=q), RNG.multinomial(4, p, size=n)
    found = brier_score(counts, truth)
    assert found.mean() == pytest.approx(((p - q) ** 2).sum() + 1 - (q**2).sum(), abs=4 * found.std() / np.sqrt(n))
    many = log_score(np.tile(10_000_000 * p, (3, 1)), np.arange(3))
    np.testing.assert_allclose(many, -np.log(p), atol=1e-5)


def test_ranks_of_ties_are_uniform():
    ranks = random_ranks(RNG.poisson(0.7, size=(9, 20_000)), RNG.poisson(0.7, size=20_000), RNG)
    assert stats.chisquare(np.bincount(ranks, minlength=10)).pvalue > 1e-3


def test_labels_that_differ_are_at_distance_one():
    table = pg.Table({"kind": ["a", "b", "c", "a"], "x": [0.0, 2.0, 4.0, 6.0]})
    encoded = Encoding.of(table)(table.values, [0])
    assert np.linalg.norm(encoded[0] - encoded[1]) == pytest.approx(1.0)
    assert np.linalg.norm(encoded[0] - encoded[3]) == 0
    assert Encoding.of(table)(table.values, [1]).std() == pytest.approx(1.0)


# ------------------------------------------------------------------------------------------------------ overimputation
def test_the_right_law_is_uniform_and_half_its_spread_is_not(pair, monkeypatch):
    """PIT uniform, coverage as stated, E CRPS = sd / sqrt(pi); with half the spread neither, and it is told which."""
    monkeypatch.setattr(overimputation, "impute", Drawn())
    right = pg.overimpute(pair, None, share=0.3, seed=1)
    monkeypatch.setattr(overimputation, "impute", Drawn(spread=0.5))
    wrong = pg.overimpute(pair, None, share=0.3, seed=1)
    for record in right.columns:
        assert record["says"] == ""
        for level in (50, 80, 95):
            p = level / 100
            assert record[f"coverage{level}"] == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / record["cells"]))
        assert stats.kstest(right.pit(record["column"]), "uniform").pvalue > 1e-3
    for record in wrong.columns:
        assert record["says"] == "too narrow"
        assert record["coverage80"] == pytest.approx(2 * stats.norm.cdf(0.5 * stats.norm.ppf(0.9)) - 1, abs=0.06)
        assert stats.kstest(wrong.pit(record["column"]), "uniform").pvalue < 1e-6
        assert record["crps"] > next(r["crps"] for r in right.columns if r["column"] == record["column"])


@pytest.mark.parametrize(("how", "says"), [({"spread": 2.0}, "too wide"), ({"shift": 0.5}, "too high"), ({"shift": -0.5}, "too low")])  # fmt: skip
def test_what_is_wrong_is_named(pair, monkeypatch, how, says):
    monkeypatch.setattr(overimputation, "impute", Drawn(**how))
    assert {record["says"] for record in pg.overimpute(pair, None, share=0.2).columns} == {says}


@pytest.mark.parametrize(("power", "says"), [(1.0, ""), (3.0, "too sure"), (0.3, "not sure enough")])
def test_labels_that_are_sure_of_themselves(power, says):
    """Draws from p to a power, made to sum to one: sharper than the truth is too sure; its own draws are not."""
    rng = np.random.default_rng(2)
    p = rng.dirichlet(np.ones(4), size=4000)
    truth = np.array([rng.choice(4, p=row) for row in p])
    bent = p**power / (p**power).sum(1, keepdims=True)
    found = overimputation.label_scores(np.stack([rng.multinomial(39, row) for row in bent]), truth)
    assert (found["direction"] if found["p_value"] < 1e-3 else "") == says
    assert found["expected"] == pytest.approx(found["confidence"], abs=0.02 if not says else 1)


def test_the_columns_own_crps_leaves_the_cell_out():
    known = np.random.default_rng(3).normal(size=12)
    for at, mine in zip(range(12), overimputation.marginal_crps(known, known), strict=True):
        others = np.delete(known, at)
        spread = np.abs(others[:, None] - others).sum() / (11 * 10)
        assert mine == pytest.approx(np.abs(others - known[at]).mean() - spread / 2)


def test_every_known_cell_once():
    """Folds partition the known cells, but for those that their row cannot spare; a share is that share of every column."""
    values = RNG.normal(size=(101, 3))
    values[RNG.random(values.shape) < 0.3] = np.nan
    values[:, 0] = np.where(np.isnan(values).all(1), 0.0, values[:, 0])
    table = pg.Table({"a": values[:, 0], "b": values[:, 1], "c": values[:, 2]})
    masks = overimputation.hiding(hidable(table, {}), 0.1, 7, None, seed=3)
    assert len(masks) == 7
    total = sum(mask.astype(int) for mask in masks)
    assert total.max() == 1
    assert (total[~table.known] == 0).all()
    spared = table.known & (total == 0)
    assert (table.known[spared.any(1)].sum(1) <= 3).all()
    assert spared[table.known.sum(1) == 3].sum() <= 4
    (mask,) = overimputation.hiding(hidable(table, {}), 0.2, None, ["b"], seed=3)
    assert not mask[:, [0, 2]].any()
    assert mask[:, 1].sum() == pytest.approx(0.2 * table.known[:, 1].sum(), abs=4)
    assert all((table.known & ~mask).any(1).all() for mask in masks)


def test_a_mixed_table_from_end_to_end():
    """A model that is right is not doubted; known cells of the table stay; the numbers come out as a frame."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=150)
    label = np.where(rng.random(150) < 1 / (1 + np.exp(-2 * x)), "yes", "no").astype(object)
    table = pg.Table({"x": x, "y": x + rng.normal(size=150), "n": rng.poisson(3, 150), "label": label})
    found = pg.overimpute(table, "gaussian_mixture", share=0.2, m=19, **QUICK)
    assert found.names == ("x", "y", "n", "label")
    assert [record["says"] for record in found.columns] == [""] * 4
    assert len(found.to_pandas()) == 4
    assert "accuracy" in str(found)
    assert found.counts("label").sum(1).tolist() == [19] * 30
    again = pg.overimpute(table, "gaussian_mixture", share=0.2, m=19, **QUICK)
    assert np.array_equal(found.draws, again.draws)
    assert np.array_equal(found.pit("x"), again.pit("x"))


def test_bad_requests_of_overimputation(pair):
    for wrong in ({"share": 0}, {"share": 1.5}, {"folds": 1}, {"folds": 2.5}):
        with pytest.raises(DataError, match=next(iter(wrong))):
            pg.overimpute(pair, "gaussian_mixture", **wrong, **QUICK)
    with pytest.raises(CapabilityError, match="m must"):
        pg.overimpute(pair, "gaussian_mixture", m=1, **QUICK)
    with pytest.raises(SchemaError, match="no column 'z'"):
        pg.overimpute(pair, "gaussian_mixture", columns=["z"], **QUICK)
    with pytest.raises(DataError, match="No cell can be hidden"):
        pg.overimpute({"a": [1.0, 2.0, 3.0]}, "gaussian_mixture", **QUICK)
    label = pg.Table({"a": ["u", "v", "u"], "b": [1.0, 2.0, 4.0]})
    found = overimputation.Overimputation(label, np.array([[0, 0]]), np.zeros((3, 1)), np.zeros(1), 0)
    with pytest.raises(CapabilityError, match="no order"):
        found.ranks("a")
    with pytest.raises(DataError, match="No cell of column 'b'"):
        found.truth("b")


# ---------------------------------------------------------------------------------------------------------- comparison
def test_hidden_cells_follow_the_tables_own_patterns(data_sets):
    """A row's hidden cells and holes together are a pattern that some row has, and it keeps a cell."""
    table = pg.read_table(data_sets / "tabular" / "mice_boys.csv")
    hidden, part = imputation_comparison.borrowed(hidable(table, {}), 5, seed=0)
    assert not (hidden & ~table.known).any()
    assert (table.known & ~hidden).any(1).all()
    whole = table.known.all(1)
    have = {row.tobytes() for row in table.known}
    assert all((~row).tobytes() in have for row in hidden[whole])
    assert hidden[whole].any(1).all()
    assert set(np.bincount(part)) <= {len(table) // 5, len(table) // 5 + 1}


def test_the_right_law_wins(pair, monkeypatch):
    """The truth beats half its spread, a shift, and the margin in energy score; the distance of the truth is about 0."""
    rng = np.random.default_rng(7)
    values = pair.values.copy()
    values[rng.random(len(values)) < 0.3, 1] = np.nan
    holed = pg.Table({"a": values[:, 0], "b": values[:, 1]})

    def impute(table, model, **options):
        return model(table, None, **options)

    monkeypatch.setattr(imputation_comparison, "impute", impute)
    models = {"narrow": Drawn(0.5), "truth": Drawn(), "shifted": {"model": Drawn(1.0, 0.7)}}
    found = pg.compare_imputations(holed, models, m=10)
    assert found.best == "truth"
    assert [score["difference"] for score in found.scores[1:]] > [0, 0]
    assert all(score["difference"] > 3 * score["difference_se"] for score in found.scores[1:])
    far = {score["model"]: score["energy_distance"] for score in found.scores}
    assert abs(far["truth"]) < 0.1 * min(far["narrow"], far["shifted"])
    expected = np.sqrt(0.75) / np.sqrt(np.pi)  # E CRPS of N(0, s^2) at a draw of its own is s / sqrt(pi)
    scale = Encoding.of(holed).scale[1]
    assert found.scores[0]["energy_score"] == pytest.approx(expected / scale, rel=0.05)
    assert "best" in str(found)
    assert len(found.to_pandas()) == 3


def test_a_model_that_fails_is_told_and_the_others_go_on():
    x = RNG.normal(size=40)
    holed = {"x": x, "y": np.where(np.arange(40) < 9, np.nan, x + RNG.normal(size=40))}
    models = {
        "good": {"model": "gaussian_mixture", "components": 1},
        "bad": {"model": "gaussian_mixture", "components": -1},
    }
    found = pg.compare_imputations(holed, models, folds=2, m=3, progress=False)
    assert list(found.energy_scores) == ["good"]
    assert "bad" in found.failures
    assert "could not be used" in str(found)
    with pytest.raises(pg.ProbgenError):
        pg.compare_imputations(holed, {"bad": models["bad"]}, folds=2, m=3, progress=False)


def test_options_without_a_model_are_of_the_default(pair):
    holed = pair.with_values(np.where((np.arange(len(pair)) % 4 == 0)[:, None] & [True, False], np.nan, pair.values))
    candidates = {"all products": {"products": "all"}, "a mixture": {"model": "gaussian_mixture", "components": 1}}
    found = pg.compare_imputations(holed, candidates, folds=2, m=3, progress=False)
    assert set(found.energy_scores) == set(candidates)
    assert not found.failures


def test_bad_requests_of_comparison(pair):
    with pytest.raises(DataError, match="no holes"):
        pg.compare_imputations(pair, ["gaussian_mixture"])
    holed = {"a": [1.0, np.nan, 3.0], "b": [1.0, 2.0, np.nan]}
    with pytest.raises(CapabilityError, match="no model to compare"):
        pg.compare_imputations(holed, [])
    for wrong in ({"folds": 1}, {"m": 1}):
        with pytest.raises(CapabilityError, match=next(iter(wrong))):
            pg.compare_imputations(holed, ["gaussian_mixture"], **wrong)
    with pytest.raises(DataError, match="borrow"):
        pg.compare_imputations({"a": [1.0, np.nan, 3.0, np.nan]}, ["gaussian_mixture"])


def test_bands_are_those_of_the_ranks(pair, monkeypatch):
    monkeypatch.setattr(overimputation, "impute", Drawn())
    found = pg.overimpute(pair, None, share=0.02, m=9)
    assert found.bands("a").draws == 9
    assert found.record("a")["p_value"] == bands(int(found.chosen("a").sum()), 9).p_value(found.ranks("a"))


# ------------------------------------------------------------------------------------------------------ under a design
@pytest.fixture(scope="module")
def designed():
    """A derived column, one that only helps, identifiers, groups, weights, a skip pattern, cells that stay missing."""
    rng = np.random.default_rng(8)
    n = 120
    height = rng.normal(172, 9, n)
    weight = 70 + 0.9 * (height - 172) + rng.normal(0, 8, n)
    sex = rng.choice(["female", "male"], n).astype(object)
    columns = {
        "id": np.array([f"p{row}" for row in range(n)], dtype=object),
        "height": height,
        "weight": weight,
        "bmi": weight / (height / 100) ** 2,
        "helps": height + rng.normal(0, 5, n),
        "sex": sex,
        "number": np.where(sex == "male", 0.0, rng.poisson(2.5, n)),
        "comment": rng.normal(size=n),
        "limit": np.maximum(rng.normal(size=n), -1.0),
        "w": rng.uniform(1, 2, n),
    }
    for name, share in {"height": 0.1, "weight": 0.2, "bmi": 0.5, "number": 0.2, "comment": 0.3}.items():
        columns[name] = np.where(rng.random(n) < share, np.nan, columns[name])
    columns["limit"] = np.where(columns["limit"] == -1.0, np.nan, columns["limit"])
    design = pg.Design(
        derived={"bmi": "weight / (height / 100) ** 2"},
        skip={"number": ("sex == 'male'", 0)},
        keep_missing="comment",
        censored={"limit": (None, -1.0)},
        auxiliary="helps",
        exclude="id",
        weights="w",
        rounds=1,
    )
    return columns, design


def test_cells_that_a_design_decides_are_not_hidden(designed):
    columns, design = designed
    found = hidable(columns, {"design": design})
    may = {name: found.cells[:, place] for place, name in enumerate(found.table.names) if found.cells[:, place].any()}
    assert set(may) == {"height", "weight", "sex", "number"}
    assert np.array_equal(may["number"], ~np.isnan(columns["number"]) & (columns["sex"] == "female"))
    assert np.array_equal(may["height"], ~np.isnan(columns["height"]))
    hidden = found.cells & (np.array(found.table.names) == "height")
    holed = found.holed(hidden)
    assert np.isnan(holed.column("bmi")[may["height"]]).all()
    assert not np.isnan(holed.column("weight")).all()


def test_overimputation_under_a_design(designed):
    """Hidden heights and weights are drawn and not solved for; the completed tables have other columns than the table."""
    columns, design = designed
    found = pg.overimpute(columns, "gaussian_mixture", share=0.2, m=9, design=design, **QUICK)
    assert found.names == ("height", "weight", "sex", "number")
    assert np.isfinite(found.draws).all()
    assert np.array_equal(found.table.values[tuple(found.cells.T)][found.chosen("weight")], found.truth("weight"))
    spread = found.draws[:, found.chosen("weight")].std(0)
    assert spread.min() > 1.0
    assert np.abs(found.draws[:, found.chosen("height")].mean(0) - found.truth("height")).mean() < 9
    with pytest.raises(DataError, match="No cell of column 'bmi' can be hidden"):
        pg.overimpute(columns, "gaussian_mixture", columns=["bmi"], design=design, **QUICK)


def test_comparison_under_a_design(designed):
    """Ranked over the columns that the models see: the one that knows how heights and weights go together wins."""
    columns, design = designed
    models = {
        "apart": {"model": "latent_class", "components": 1},
        "together": {"model": "gaussian_mixture", "components": 1},
    }
    found = pg.compare_imputations(columns, models, folds=2, m=5, design=design, progress=False)
    assert found.failures == {}
    assert found.best == "together"
    assert np.isfinite([score["energy_distance"] for score in found.scores]).all()
    assert not found.hidden[:, [0, 3, 4, 7, 8, 9]].any()


def test_what_does_not_go_with_hidden_cells_is_refused(pair, designed):
    columns, design = designed
    for study in (pg.overimpute, lambda data, model, **more: pg.compare_imputations(data, [model], **more)):
        with pytest.raises(CapabilityError, match="did not get lost by a mechanism"):
            study(pair, "gaussian_mixture", mechanism="self_masking", **QUICK)
        with pytest.raises(CapabilityError, match="design must be"):
            study(pair, "gaussian_mixture", design={"bounds": {}}, **QUICK)
    own = {"one": {"model": "gaussian_mixture", "design": design}, "other": "gaussian_mixture"}
    with pytest.raises(CapabilityError, match=r"'one' has a design of its own.* give one design to all"):
        pg.compare_imputations(columns, own, progress=False)
    own = {"one": {"model": "gaussian_mixture", "mechanism": "logistic"}}
    with pytest.raises(CapabilityError, match=r"'one' has a mechanism of its own.* leave it out"):
        pg.compare_imputations(columns, own, progress=False)
