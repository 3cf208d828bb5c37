"""EM against scikit-learn, a textbook, and published values."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.datasets import load_iris, load_wine
from sklearn.mixture import GaussianMixture as Peer
from sklearn.naive_bayes import CategoricalNB, GaussianNB

import probgen as pg
from probgen.data import Column, Schema, Table, ampute

IRIS = load_iris().data
REAL4 = Schema(tuple(Column(name, "real") for name in "abcd"))


def mixture_parameters(theta, fit):
    """Weights, means and covariances in the data's units."""
    gaussian = theta["component.gaussian"]
    scale, shift = fit.standardiser.scale, fit.standardiser.shift
    means = gaussian["loc"].numpy() * scale + shift
    covariances = torch.linalg.inv(gaussian["precision"]).numpy() * scale[:, None] * scale
    return theta["weights"]["logits"].exp().numpy().ravel(), means, covariances


@pytest.mark.parametrize(("components", "expected"), [(2, -214.3547), (3, -180.1855)])
def test_iris_log_likelihood(components, expected):
    table = Table(IRIS, schema=REAL4)
    fit = pg.fit(
        "gaussian_mixture", table, components=components, prior=None, restarts=8, tolerance=1e-10, progress=False
    )
    assert float(fit.log_prob(table).sum().value) == pytest.approx(expected, abs=1e-4)


def old_faithful():
    """272 eruptions of the geyser: duration and waiting time in minutes (Azzalini and Bowman, 1990)."""
    schema = Schema((Column("eruptions", "real"), Column("waiting", "real")))
    return Table(pd.read_csv(Path(__file__).parents[1] / "files" / "old_faithful.csv"), schema=schema)


@pytest.mark.parametrize(("components", "covariance", "expected"), [(3, "tied", -1126.3159), (2, "full", -1130.2640)])
def test_old_faithful_log_likelihood(components, covariance, expected):
    table = old_faithful()
    options = {"prior": None, "restarts": 10, "tolerance": 1e-11, "max_steps": 5000, "progress": False}
    fit = pg.fit("gaussian_mixture", table, components=components, covariance=covariance, **options)
    assert float(fit.log_prob(table).sum().value) == pytest.approx(expected, abs=1e-3)
    if covariance == "full":
        means = fit.parameters()["component.gaussian"]["loc"] * fit.standardiser.scale + fit.standardiser.shift
        found = means[np.argsort(means[:, 0])]
        np.testing.assert_allclose(found, [[2.0364, 54.4785], [4.2897, 79.9681]], atol=1e-3)


class FromResponsibilities(Peer):
    """scikit-learn's mixture started from given responsibilities."""

    def __init__(self, n_components=1, *, covariance_type="full", start=None, tol=0.0, max_iter=1, reg_covar=0.0):
        super().__init__(
            n_components, covariance_type=covariance_type, tol=tol, max_iter=max_iter, reg_covar=reg_covar
        )
        self.start = start

    def _initialize_parameters(self, X, *_, **__):
        self._initialize(X, self.start)


def test_trajectory_of_iris_equals_scikit_learn_at_each_of_40_iterations():
    start = np.eye(3)[np.random.default_rng(0).integers(3, size=150)]
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = pg.fit(
            "gaussian_mixture", Table(IRIS, schema=REAL4), components=3, prior=None, start=start, max_steps=40,
            tolerance=0.0, progress=False, callback=lambda _i, _v, method: seen.append(method.theta),
        )  # fmt: skip
        for step in range(1, 41):
            peer = FromResponsibilities(3, start=start, max_iter=step).fit(IRIS)
            ours = mixture_parameters(seen[step - 1], fit)
            for mine, theirs in zip(ours, (peer.weights_, peer.means_, peer.covariances_), strict=True):
                np.testing.assert_allclose(mine, theirs, atol=1e-8)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("covariance", "name"), [("full", "full"), ("tied", "tied"), ("diagonal", "diag"), ("spherical", "spherical")]
)
def test_every_iteration_of_every_covariance_is_scikit_learns(covariance, name):
    X = (IRIS - IRIS.mean(0)) / IRIS.std(0)  # spherical in both libraries' coordinates
    start, seen = np.eye(3)[np.random.default_rng(0).integers(3, size=150)], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = pg.fit(
            "gaussian_mixture", Table(X, schema=REAL4), components=3, covariance=covariance, prior=None, start=start,
            max_steps=31, tolerance=0.0, progress=False, callback=lambda _i, _v, method: seen.append(method.theta),
        )  # fmt: skip
        for step in range(1, 31):
            peer = FromResponsibilities(3, covariance_type=name, start=start, max_iter=step)
            peer.fit(X)
            assert fit.history["log_likelihood"][step] == pytest.approx(peer.score(X), abs=1e-8)
            loc, weights = seen[step - 1]["component.gaussian"]["loc"], seen[step - 1]["weights"]["logits"][0].exp()
            np.testing.assert_allclose(loc, peer.means_, atol=1e-8)
            np.testing.assert_allclose(weights, peer.weights_, atol=1e-8)


def textbook_step(X, weights, means, covariances):
    """One EM iteration with holes, cell by cell (Ghahramani and Jordan, 1994). Returns the old log-likelihood too."""
    N, D = X.shape
    K = len(weights)
    log = np.zeros((N, K))
    filled, extra = np.zeros((N, K, D)), np.zeros((N, K, D, D))
    for n, row in enumerate(X):
        m = np.isnan(row)
        o = ~m
        for k in range(K):
            S, mu = covariances[k], means[k]
            log[n, k] = np.log(weights[k]) + multivariate_normal(mu[o], S[np.ix_(o, o)]).logpdf(row[o])
            filled[n, k, o] = row[o]
            gain = S[np.ix_(m, o)] @ np.linalg.inv(S[np.ix_(o, o)])
            filled[n, k, m] = mu[m] + gain @ (row[o] - mu[o])
            extra[n, k][np.ix_(m, m)] = S[np.ix_(m, m)] - gain @ S[np.ix_(o, m)]
    top = log.max(1, keepdims=True)
    evidence = (top + np.log(np.exp(log - top).sum(1, keepdims=True))).ravel()
    R = np.exp(log - evidence[:, None])
    n_k = R.sum(0)
    new_means = np.einsum("nk,nkd->kd", R, filled) / n_k[:, None]
    gap = filled - new_means
    new = np.einsum("nk,nkd,nke->kde", R, gap, gap) + np.einsum("nk,nkde->kde", R, extra)
    return evidence.sum(), n_k / N, new_means, new / n_k[:, None, None]


def test_em_with_30_percent_holes_is_the_textbook_algorithm_and_monotone():
    rng = np.random.default_rng(3)
    X = IRIS.copy()
    hole = rng.random(X.shape) < 0.3
    hole[hole.all(1), 0] = False
    X[hole] = np.nan
    start = np.eye(2)[(IRIS[:, 2] > 2.5).astype(int)]
    seen, objective = [], []

    def callback(_step, values, method):
        seen.append(method.theta)
        objective.append(values["log_likelihood"])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = Table(X, schema=REAL4)
        fit = pg.fit(
            "gaussian_mixture", table, components=2, prior=None, start=start, max_steps=13, tolerance=0.0, progress=False,
            callback=callback,
        )  # fmt: skip
    state = mixture_parameters(seen[0], fit)
    for value in objective[1:]:
        evidence, *state = textbook_step(X, *state)
        assert value * 150 == pytest.approx(evidence, abs=1e-8)  # in the data's own units
    assert np.all(np.diff(objective) > -1e-12)


def test_naive_bayes_with_all_labels_is_gaussian_nb():
    X, y = load_wine(return_X_y=True)
    columns = [Column(f"x{i}", "real") for i in range(13)]
    schema = Schema((*columns, Column("x13", "categorical", levels=(0, 1, 2))))
    table = Table(np.column_stack([X, y]), schema=schema)
    fit = pg.fit("naive_bayes", table, target="x13", prior=None, progress=False)
    peer = GaussianNB(var_smoothing=0).fit(X, y)
    joint = peer._joint_log_likelihood(X)
    np.testing.assert_allclose(np.asarray(fit.log_prob(table)), joint[np.arange(178), y], atol=1e-8)
    np.testing.assert_allclose(pg.class_probabilities(fit, table, "x13"), peer.predict_proba(X), atol=1e-8)
    assert np.mean(peer.predict(X) == y) == pytest.approx(0.988764, abs=1e-6)


def test_naive_bayes_with_all_labels_is_categorical_nb():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=400)
    X = (rng.integers(4, size=(400, 5)) + y[:, None] * rng.integers(2, size=(400, 5))) % 4
    columns = [Column(f"x{i}", "categorical", levels=(0, 1, 2, 3)) for i in range(5)]
    schema = Schema((*columns, Column("x5", "categorical", levels=(0, 1, 2))))
    fit = pg.fit("naive_bayes", Table(np.column_stack([X, y]), schema=schema), target="x5", prior=None, progress=False)
    peer = CategoricalNB(alpha=1e-12, force_alpha=True, min_categories=4).fit(X, y)
    table = Table(np.column_stack([X, y]), schema=schema)
    np.testing.assert_allclose(pg.class_probabilities(fit, table, "x5"), peer.predict_proba(X), atol=1e-8)


@pytest.mark.filterwarnings("ignore::probgen.errors.ConvergenceWarning")
def test_the_start_from_labelled_rows_counts_them_by_weight():
    """A row of weight k is k rows."""
    rng = np.random.default_rng(3)
    X = rng.integers(3, size=(60, 3)).astype(float)
    X[20:, 2] = np.nan
    table = Table(X, schema=Schema(tuple(Column(f"x{i}", "categorical", levels=(0, 1, 2)) for i in range(3))))
    weights = rng.integers(1, 4, size=60)
    options = {"target": "x2", "max_steps": 1, "progress": False}
    weighted = pg.fit("naive_bayes", table.with_weights(weights), **options).log_prob(table).value
    repeated = pg.fit("naive_bayes", table.take(np.repeat(np.arange(60), weights)), **options).log_prob(table).value
    np.testing.assert_allclose(weighted, repeated, rtol=1e-9)


def test_unlabelled_rows_help_naive_bayes():
    """Three classes, eight weak binary columns, 20 % labels: 20 data sets, accuracy on 1000 new rows."""
    gains = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        p = rng.uniform(0.1, 0.9, (3, 12))
        y = rng.integers(3, size=1200)
        X = (rng.random((1200, 12)) < p[y]).astype(float)
        columns = tuple(Column(f"x{i}", "binary", levels=(0, 1)) for i in range(12))
        schema = Schema((*columns, Column("x12", "categorical", levels=(0, 1, 2))))
        labels = np.where(np.arange(1200) < 40, y, np.nan)
        table = Table(np.column_stack([X, labels]), schema=schema)
        train, test = table.take(np.arange(200)), table.take(np.arange(200, 1200))
        semi = pg.fit("naive_bayes", train, target="x12", progress=False)
        supervised = pg.fit("naive_bayes", train.take(np.arange(40)), target="x12", progress=False)
        assert semi.diagnostics["monotone"]
        hits = [(pg.class_probabilities(f, test, "x12").argmax(1) == y[200:]).mean() for f in (semi, supervised)]
        gains.append(hits[0] - hits[1])
    gains = np.array(gains)
    assert gains.mean() > 3 * gains.std(ddof=1) / np.sqrt(20) > 0


def test_wine_with_20_percent_holes_is_filled_better_than_by_means():
    """In sample: fitted on the complete table, as in the published comparison; 0.567 is the figure to compare with."""
    X = load_wine().data
    Z = (X - X.mean(0)) / X.std(0)
    table = Table(Z, schema=Schema(tuple(Column(f"x{i}", "real") for i in range(13))))
    holed, hidden = ampute(table, 0.2, seed=0)
    fit = pg.fit("gaussian_mixture", table, components=3, progress=False)
    mean = np.mean([filled.values for filled in fit.fill(holed, 20)], 0)
    assert np.sqrt(((mean - Z)[hidden] ** 2).mean()) < 0.60


def test_fill_is_the_analytic_conditional_and_rows_are_independent():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 3)) @ np.array([[1.0, 0.8, 0.2], [0, 0.5, 0.4], [0, 0, 0.7]])
    table = Table(X, schema=Schema(tuple(Column(f"x{i}", "real") for i in range(3))))
    fit = pg.fit("gaussian_mixture", table, components=1, prior=None, restarts=1, progress=False)
    mean, covariance = X.mean(0), np.cov(X.T, bias=True)
    rows, draws = 40, 400
    asked = table.take(np.arange(rows)).hide("x0", "x1")
    drawn = np.stack([t.values[:, :2] for t in fit.fill(asked, draws)])  # (draws, rows, 2)
    gain = covariance[:2, 2] / covariance[2, 2]
    expected = mean[:2] + (X[:rows, 2:] - mean[2]) * gain
    left = covariance[:2, :2] - np.outer(gain, gain) * covariance[2, 2]
    z = (drawn.mean(0) - expected) / np.sqrt(np.diag(left) / draws)
    assert np.abs(z).max() < 4.5  # 80 values
    noise = (drawn - expected).reshape(-1, 2)
    error = np.sqrt((np.diag(left)[:, None] * np.diag(left) + left**2) / len(noise))
    assert (np.abs(noise.T @ noise / len(noise) - left) < 4 * error).all()
    rest = (drawn - expected)[..., 0] / np.sqrt(left[0, 0])
    between = rest.T @ rest / draws - np.eye(rows)
    assert np.abs(between[np.triu_indices(rows, 1)]).max() < 5 / np.sqrt(draws)  # 780 correlations
