"""A density a class, beside Bayes' rule by hand and scikit-learn's discriminant analyses."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.errors import CapabilityError, DataError, SchemaError
from probgen.estimate import Estimate
from probgen.queries.class_conditional import ClassConditional

SCHEMA = Schema((*(Column(f"x{at}", "real") for at in range(3)), Column("y", "categorical", levels=("a", "b", "c"))))


def three_classes(rows=240, seed=0):
    """Normal rows of three classes with means and covariances of their own; the label stands last."""
    rng = np.random.default_rng(seed)
    label = rng.choice(3, rows, p=[0.5, 0.3, 0.2])
    factors = rng.normal(size=(3, 3, 3))
    x = (
        np.einsum("nij,nj->ni", factors[label], rng.normal(size=(rows, 3)))
        + np.array([[0, 0, 0], [2, 1, 0], [0, 2, 2]])[label]
    )
    return x, label


@functools.cache
def fitted():
    x, label = three_classes()
    return pg.class_conditional("gaussian_mixture", rows_of(x, label), "y", components=1, prior=None, progress=False)


def rows_of(x, label):
    return Table.from_codes(np.column_stack([x, np.asarray(label, float)]), SCHEMA)


def by_hand(x, label, new):
    """``(3, N)`` log pi + log N(known cells), from the moments of every class."""
    found = np.empty((3, len(new)))
    for code in range(3):
        own = x[label == code]
        mean, covariance = own.mean(0), np.cov(own.T, bias=True)
        for row, cells in enumerate(new):
            known = ~np.isnan(cells)
            law = stats.multivariate_normal(mean[known], covariance[np.ix_(known, known)]) if known.any() else None
            found[code, row] = np.log((label == code).mean()) + (0.0 if law is None else law.logpdf(cells[known]))
    return found


@pytest.mark.reference
def test_one_gaussian_a_class_is_quadratic_discriminant_analysis():
    discriminant = pytest.importorskip("sklearn.discriminant_analysis")
    covariance = pytest.importorskip("sklearn.covariance").EmpiricalCovariance()  # of maximum likelihood
    x, label = three_classes()
    new = three_classes(50, 1)[0]
    peer = discriminant.QuadraticDiscriminantAnalysis(solver="eigen", covariance_estimator=covariance).fit(x, label)
    ours = fitted().class_probabilities(rows_of(new, np.full(50, np.nan)))
    np.testing.assert_allclose(ours, peer.predict_proba(new), atol=1e-6)


@pytest.mark.reference
@pytest.mark.parametrize("joint", [False, True])
def test_independent_columns_a_class_are_naive_bayes(joint):
    bayes = pytest.importorskip("sklearn.naive_bayes")
    x, label = three_classes()
    new = three_classes(50, 1)[0]
    peer = bayes.GaussianNB(var_smoothing=0.0).fit(x, label)
    if joint:
        fit = pg.fit("naive_bayes", rows_of(x, label), target="y", prior=None, progress=False)
    else:
        fit = pg.class_conditional("latent_class", rows_of(x, label), "y", components=1, prior=None, progress=False)
    ours = pg.class_probabilities(fit, rows_of(new, np.full(50, np.nan)), "y")
    np.testing.assert_allclose(ours, peer.predict_proba(new), atol=1e-6)


def test_holes_and_labels_are_summed_out_exactly():
    x, label = three_classes()
    new, told = three_classes(60, 2)
    new[np.random.default_rng(3).random(new.shape) < 0.5] = np.nan
    joint = by_hand(x, label, new)
    assert np.isnan(new).all(1).any()
    hidden, known = rows_of(new, np.full(60, np.nan)), rows_of(new, told)
    np.testing.assert_allclose(fitted().log_prob(hidden).value, logsumexp(joint, axis=0), atol=1e-6)
    np.testing.assert_allclose(fitted().log_prob(known).value, joint[told, np.arange(60)], atol=1e-6)
    np.testing.assert_allclose(
        fitted().class_probabilities(known), np.exp(joint - logsumexp(joint, axis=0)).T, atol=1e-6
    )
    np.testing.assert_allclose(pg.class_probabilities(fitted(), known, "y"), fitted().embed(known), atol=1e-12)
    assert fitted().log_prob(known).kind == "exact"


def test_the_density_of_mixed_columns_is_one_in_all():
    rng = np.random.default_rng(4)
    label = rng.integers(0, 2, 120)
    frame = {"x": rng.normal(label, 1.0), "colour": rng.choice(["red", "blue"], 120), "y": np.array(["n", "p"])[label]}
    fit = pg.class_conditional("latent_class", frame, "y", components=2, restarts=1, progress=False)
    grid = np.linspace(-8, 9, 4001)
    total = 0.0
    for colour in range(2):
        for code in range(2):
            values = np.column_stack([grid, np.full_like(grid, colour), np.full_like(grid, code)])
            total += np.trapezoid(np.exp(fit.log_prob(Table.from_codes(values, fit.schema)).value), grid)
    assert total == pytest.approx(1.0, abs=1e-6)


def test_rows_of_other_classes_count_for_what_is_shared():
    x, label = three_classes()
    fit = pg.class_conditional(
        "gaussian_mixture", rows_of(x, label), "y", components=1, prior=None, shared=0.25, progress=False
    )
    weights = np.where(label == 2, 1.0, 0.25)
    mean, covariance = np.average(x, 0, weights), np.cov(x.T, aweights=weights, bias=True)
    new = three_classes(20, 5)[0]
    expected = np.log((label == 2).mean()) + stats.multivariate_normal(mean, covariance).logpdf(new)
    np.testing.assert_allclose(fit.log_prob(rows_of(new, np.full(20, 2))).value, expected, atol=1e-6)


def test_rows_without_a_label_are_learnt_from_by_em():
    """One normal column: the rounds written out."""
    rng = np.random.default_rng(6)
    label = np.r_[np.zeros(15), np.ones(15), np.full(300, np.nan)]
    true = np.r_[label[:30], rng.integers(0, 2, 300)]
    x = rng.normal(2.5 * true, 1.0)
    schema = Schema((Column("x", "real"), Column("y", "binary", levels=("a", "b"))))
    table = Table.from_codes(np.column_stack([x, label]), schema)
    own = (label[:, None] == np.arange(2)) * 1.0
    share, totals = own, []
    for _ in range(6):
        weight = share.sum(0) / share.sum()
        mean = (share * x[:, None]).sum(0) / share.sum(0)
        spread = np.sqrt((share * (x[:, None] - mean) ** 2).sum(0) / share.sum(0))
        joint = np.log(weight) + stats.norm.logpdf(x[:, None], mean, spread)
        totals.append(np.where(np.isnan(label), logsumexp(joint, axis=1), (own * joint).sum(1)).sum())
        share = np.where(np.isnan(label)[:, None], np.exp(joint - logsumexp(joint, axis=1, keepdims=True)), own)
    fit = pg.class_conditional("gaussian_mixture", table, "y", components=1, prior=None, rounds=5, progress=False)
    np.testing.assert_allclose(fit.history, totals, rtol=1e-6)
    assert (np.diff(fit.history) > 0).all()
    alone = pg.class_conditional(
        "gaussian_mixture", table, "y", components=1, prior=None, unlabelled=0.0, progress=False
    )
    kept = pg.class_conditional(
        "gaussian_mixture", table.take(np.arange(30)), "y", components=1, prior=None, progress=False
    )
    np.testing.assert_array_equal(alone.class_probabilities(table), kept.class_probabilities(table))


def test_rows_without_a_label_may_count_for_less():
    x, label = three_classes()
    unknown = np.arange(240) % 2 == 1
    table = rows_of(x, np.where(unknown, np.nan, label))
    options = {"components": 1, "rounds": 2, "progress": False}
    one = pg.class_conditional("gaussian_mixture", table, "y", unlabelled=0.3, **options)
    other = pg.class_conditional("gaussian_mixture", table.with_weights(np.where(unknown, 0.3, 1.0)), "y", **options)
    np.testing.assert_allclose(one.class_probabilities(table), other.class_probabilities(table), atol=1e-12)
    whole = pg.class_conditional("gaussian_mixture", table, "y", **options)
    assert np.abs(one.shares - whole.shares).max() > 1e-4


@pytest.mark.stats
def test_fills_and_rows_follow_bayes_rule():
    fit = fitted()
    row = rows_of(np.array([[1.0, np.nan, 0.5]]), [np.nan])
    drawn = fit.fill(row.take(np.zeros(4000, dtype=int)), 1, seed=1)[0].values
    assert (drawn[:, [0, 2]] == row.values[0, [0, 2]]).all()
    share = fit.class_probabilities(row)[0]
    counts = np.bincount(drawn[:, 3].astype(int), minlength=3) / 4000
    assert np.abs((counts - share) / np.sqrt(share * (1 - share) / 4000)).max() < 4
    x, label = three_classes()
    means = []
    for code in range(3):  # of x1 given x0 and x2
        mean, cov = x[label == code].mean(0), np.cov(x[label == code].T, bias=True)
        beta = np.linalg.solve(cov[np.ix_([0, 2], [0, 2])], cov[[0, 2], 1])
        means.append(mean[1] + beta @ (row.values[0, [0, 2]] - mean[[0, 2]]))
    assert drawn[:, 1].mean() == pytest.approx(share @ means, abs=4 * drawn[:, 1].std() / np.sqrt(4000))
    new = fit.sample(4000, seed=2)
    known = np.bincount(new.values[:, 3].astype(int)) / 4000
    assert np.abs((known - fit.shares) / np.sqrt(fit.shares * (1 - fit.shares) / 4000)).max() < 4
    own = new.values[new.values[:, 3] == 1, :3]
    assert np.abs((own.mean(0) - x[label == 1].mean(0)) / (own.std(0) / np.sqrt(len(own)))).max() < 4


@pytest.mark.parametrize("kind", ["classes", "ensemble"])
def test_rows_of_different_members_share_no_noise(kind):
    """Two members of one law, each asked for every other row: the draws are independent, and no row is drawn twice."""
    x = three_classes()[0]
    law = pg.fit("gaussian_mixture", pg.Table({"x": x[:, 0]}), components=1, progress=False)
    schema = Schema((Column("x", "real"), Column("y", "binary", levels=("a", "b"))))
    if kind == "classes":
        made = ClassConditional(schema, "y", [law, law], [0.5, 0.5])
        asked = Table.from_codes(np.column_stack([np.full(400, np.nan), np.arange(400) % 2]), schema)
        filled = made.fill(asked, 1, seed=1)[0].values[:, 0]
        assert abs(np.corrcoef(filled[::2], filled[1::2])[0, 1]) < 4 / np.sqrt(200)
    else:
        made = pg.ensemble([law, law])
        filled = made.fill(Table.from_codes(np.full((400, 1), np.nan), law.schema), 1, seed=1)[0].values[:, 0]
        assert len(np.unique(filled)) == 400
    drawn = made.sample(400, seed=1).values[:, 0]
    assert len(np.unique(drawn)) == 400


def test_folders_are_of_what_was_saved_last(tmp_path):
    law = pg.fit("gaussian_mixture", pg.Table({"x": three_classes()[0][:, 0]}), components=1, progress=False)
    schema = Schema((Column("x", "real"), Column("y", "binary", levels=("a", "b"))))
    ClassConditional(schema, "y", [law, law], [0.5, 0.5]).save(tmp_path / "one")
    pg.ensemble([law, law]).save(tmp_path / "one", overwrite=True)
    assert type(pg.load(tmp_path / "one")).__name__ == "Ensemble"
    ClassConditional(schema, "y", [law, law], [0.5, 0.5]).save(tmp_path / "one", overwrite=True)
    assert type(pg.load(tmp_path / "one")).__name__ == "ClassConditional"


def test_what_members_say_of_their_errors_is_kept(monkeypatch):
    """Errors of single rows, the one of a normaliser that all rows have in common, and whether weights can be trusted."""
    told = Estimate([-1.0, -2.0], "annealed", np.array([0.5, 0.5]), shared_error=0.4, k_hat=np.array([0.1, 0.9]))
    monkeypatch.setattr(type(fitted().members[0]), "log_prob", lambda self, rows, **_: told.take(np.arange(len(rows))))
    known = fitted().log_prob(rows_of(np.zeros((2, 3)), [0, 0]))
    assert (known.kind, known.shared_error) == ("annealed", 0.4)
    np.testing.assert_allclose(known.standard_error, 0.5)
    np.testing.assert_allclose(known.k_hat, [0.1, 0.9])
    assert known.mean().standard_error == pytest.approx(np.hypot(0.4, 0.3 / np.sqrt(2)))


def test_discrete_rows_are_one_in_all_with_holes_and_labels_unknown():
    """All rows there are, written down: probabilities sum to one, and Bayes' rule is theirs."""
    rng = np.random.default_rng(8)
    frame = {
        name: rng.choice(list(levels), 90).astype(object)
        for name, levels in {"a": "pqr", "b": "uv", "y": "klm"}.items()
    }
    frame["y"][:20], frame["a"][10:40] = None, None
    fit = pg.class_conditional(
        "latent_class", frame, "y", components=2, restarts=1, max_steps=4, shared=0.2, progress=False
    )
    codes = np.array(list(itertools.product(range(3), range(2), range(3))), float)
    p = np.exp(fit.log_prob(Table.from_codes(codes, fit.schema)).value).reshape(6, 3)
    assert p.sum() == pytest.approx(1.0, abs=1e-9)
    asked = codes[::3].copy()
    asked[:, 2] = np.nan
    hidden = Table.from_codes(asked, fit.schema)
    np.testing.assert_allclose(np.exp(fit.log_prob(hidden).value), p.sum(1), rtol=1e-9)
    np.testing.assert_allclose(fit.class_probabilities(hidden), p / p.sum(1, keepdims=True), rtol=1e-9)


def test_other_frequencies_of_classes():
    x, label = three_classes()
    table, new = rows_of(x, label), rows_of(three_classes(30, 7)[0], np.full(30, np.nan))
    options = {"components": 1, "prior": None, "progress": False}
    moved = pg.class_conditional("gaussian_mixture", table, "y", shares=[1, 1, 8], **options).class_probabilities(new)
    expected = fitted().class_probabilities(new) / fitted().shares * [0.1, 0.1, 0.8]
    np.testing.assert_allclose(moved, expected / expected.sum(1, keepdims=True), atol=1e-9)


def test_save_and_load(tmp_path):
    fit, new = fitted(), rows_of(three_classes(20, 8)[0], np.full(20, np.nan))
    fit.save(tmp_path / "three")
    back = pg.load(tmp_path / "three")
    np.testing.assert_array_equal(back.class_probabilities(new), fit.class_probabilities(new))
    assert (back.target, back.levels) == ("y", ("a", "b", "c"))
    with pytest.raises(DataError, match="exists"):
        fit.save(tmp_path / "three")
    (tmp_path / "three" / "class_01.probgen").unlink()
    with pytest.raises(DataError, match="class_01"):
        pg.load(tmp_path / "three")


def test_the_same_seed_is_the_same_fit():
    x, label = three_classes()
    new = rows_of(three_classes(20, 9)[0], np.full(20, np.nan))
    one, other = (
        pg.class_conditional("latent_class", rows_of(x, label), "y", components=2, restarts=1, seed=5, progress=False)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.class_probabilities(new), other.class_probabilities(new))
    np.testing.assert_array_equal(one.sample(9, seed=1).values, other.sample(9, seed=1).values)


def test_an_ensemble_is_asked_for_classes():
    x, label = three_classes()
    fits = [pg.fit("gaussian_mixture", rows_of(x, label), components=k, restarts=1, progress=False) for k in (2, 3)]
    new = rows_of(three_classes(20, 9)[0], np.full(20, np.nan))
    joint = [
        sum(
            np.exp(f.log_prob(new.with_values(np.column_stack([new.values[:, :3], np.full(20, k)]))).value)
            for f in fits
        )
        for k in range(3)
    ]
    expected = (np.stack(joint) / np.sum(joint, 0)).T
    np.testing.assert_allclose(pg.class_probabilities(pg.ensemble(fits), new, "y"), expected, atol=1e-9)


def test_a_small_class_is_named_and_may_borrow():
    x, label = three_classes(40)
    label[:] = np.arange(40) % 2
    label[7] = 2  # a class of one row
    table = rows_of(x, label)
    with pytest.raises(DataError, match=r"Class 'c' of 'y' cannot be learnt from its 1 rows: .*constant.* shared=\.1"):
        pg.class_conditional("gaussian_mixture", table, "y", components=1, progress=False)
    fit = pg.class_conditional("gaussian_mixture", table, "y", components=1, shared=0.1, progress=False)
    assert np.isfinite(fit.log_prob(table).value).all()
    with pytest.raises(DataError, match="Class 'c' of 'y' has no row"):
        pg.class_conditional("gaussian_mixture", table.take(label < 2), "y", components=1, progress=False)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"target": "x0"}, CapabilityError, "'x0' is real"),
        ({"target": "z"}, SchemaError, "no column 'z'"),
        ({"componets": 1}, CapabilityError, "Did you mean 'components'"),
        ({"model": "gausian_mixture"}, CapabilityError, "gaussian_mixture"),
        ({"model": "gan"}, CapabilityError, "no density"),
        ({"shared": 2}, CapabilityError, "shared must be a number from 0 to 1, got 2"),
        ({"unlabelled": -1}, CapabilityError, "unlabelled must be"),
        ({"rounds": 0}, CapabilityError, "rounds must be a whole number"),
        ({"shares": [1, 2]}, CapabilityError, "shares must be 3 numbers"),
        ({"one": True}, DataError, "of one class"),
    ],
)
def test_bad_requests(change, error, message):
    x, label = three_classes(60)
    if change.pop("one", False):
        label = np.where(np.arange(60) < 30, 1.0, np.nan)
    given = {"model": "gaussian_mixture", "target": "y", "progress": False, **change}
    if given["model"] == "gaussian_mixture":
        given.setdefault("components", 1)
    with pytest.raises(error, match=message):
        pg.class_conditional(given.pop("model"), rows_of(x, label), given.pop("target"), **given)
