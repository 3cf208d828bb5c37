"""Unknown labels while learning, beside sums by hand; their latents beside torch's own mixture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.data.batches import Batch
from probgen.families.level_mixture import LevelMixture, among
from probgen.inference.tried_levels import over_levels, with_every_level

SCHEMA = Schema((Column("x", "real"), Column("y", "categorical", levels=("a", "b", "c"), incomplete=True)))
X = torch.tensor([[0.5, 1.0], [2.0, float("nan")], [-1.0, 2.0], [0.3, float("nan")]])
WEIGHTS = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]).log()
LOC, SCALE = torch.tensor([[-1.0, 0.0], [0.5, 2.0], [3.0, 1.0]]), torch.tensor([[0.5, 1.0], [0.3, 0.4], [1.0, 0.2]])


class Classifier:
    """Says the same of every row."""

    tried, taught = "y", 4.0

    def __init__(self):
        self.logits = torch.tensor([0.1, 0.7, -0.4], requires_grad=True)

    def classify(self, batch):
        return self.logits.log_softmax(-1).expand(len(batch), -1)


def worth(batch):
    """Of a row with a label."""
    return -(batch.column("x") - batch.column("y")).square()


def normals(level):
    return torch.distributions.Normal(LOC[level.long()], SCALE[level.long()])


def mixture():
    return LevelMixture(lambda level: torch.distributions.Independent(normals(level), 1), WEIGHTS)


def peer():
    parts = torch.distributions.Independent(torch.distributions.Normal(LOC.expand(2, 3, 2), SCALE.expand(2, 3, 2)), 1)
    return torch.distributions.MixtureSameFamily(torch.distributions.Categorical(logits=WEIGHTS), parts)


def test_every_level_stands_where_none_is_known():
    tried = with_every_level(Batch(X, SCHEMA, total=40), "y")
    assert tried.column("y").tolist() == [1, 1, 1, 0, 1, 2, 2, 2, 2, 0, 1, 2]
    assert tried.column("x").tolist() == X[:, 0].repeat_interleave(3).tolist()
    assert tried.total == 120


def test_a_row_without_a_label_is_worth_the_bound_over_levels():
    program, batch = Classifier(), Batch(X, SCHEMA)
    found = over_levels(program, batch, worth).detach()
    log_q = program.logits.detach().log_softmax(-1).double().numpy()
    for row in (1, 3):
        each = np.array([-((float(X[row, 0]) - level) ** 2) for level in range(3)])
        assert float(found[row]) == pytest.approx((np.exp(log_q) * (each - log_q)).sum(), abs=1e-6)
        assert float(found[row]) < np.logaddexp.reduce(each)
    for row in (0, 2):  # as it stands: what teaches the classifier is not shown
        assert float(found[row]) == pytest.approx(-((float(X[row, 0]) - float(X[row, 1])) ** 2), abs=1e-6)


@pytest.mark.parametrize("incomplete", [True, False])
def test_labels_teach_the_classifier(incomplete):
    column = Column("y", "categorical", levels=("a", "b", "c"), incomplete=incomplete)
    program, batch = Classifier(), Batch(X[[0, 2]], Schema((SCHEMA["x"], column)))
    over_levels(program, batch, worth).sum().backward()
    want = program.logits.detach().clone().requires_grad_()
    (4.0 * (want.log_softmax(-1)[1] + want.log_softmax(-1)[2])).backward()
    torch.testing.assert_close(program.logits.grad, want.grad)


def test_latents_of_an_unknown_label_are_a_mixture():
    q, by_torch, z = mixture(), peer(), torch.randn(50, 2, 2)
    torch.testing.assert_close(q.log_prob(z), by_torch.log_prob(z))
    torch.testing.assert_close(q.mean, by_torch.mean)
    torch.testing.assert_close(q.variance, by_torch.variance)
    torch.manual_seed(0)
    drawn = q.expand(torch.Size([20_000, 2])).sample()
    error = (by_torch.variance / 20_000).sqrt()
    assert ((drawn.mean(0) - by_torch.mean).abs() / error).max() < 4
    assert (drawn.var(0) / by_torch.variance - 1).abs().max() < 0.05


def test_a_known_label_is_the_only_level():
    weights = among(WEIGHTS, torch.tensor([float("nan"), 1.0])).softmax(-1)
    torch.testing.assert_close(weights, torch.tensor([[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]]))


def test_moved_latents_are_moved_in_every_level():
    shift, factor = torch.full((2, 2), 0.7), torch.full((2, 2), 0.2)
    q = mixture().moved(shift, factor)
    torch.testing.assert_close(q.mean, peer().mean + 0.7)
    assert (q.variance > mixture().variance).all()


def test_rows_without_labels_help_to_tell_them():
    """Two moons with three labels each: a line through those six is wrong in more rows than the shape of all rows is."""
    rng = np.random.default_rng(2)
    moon = rng.integers(2, size=1200)
    angle = np.pi * rng.random(1200)
    x = np.column_stack([np.cos(angle) + moon, (1 - 2 * moon) * np.sin(angle) + 0.4 * moon]) + 0.08 * rng.normal(
        size=(1200, 2)
    )
    told = np.full(1200, np.nan)
    for level in range(2):
        told[np.flatnonzero(moon == level)[:3]] = level
    schema = Schema(
        (Column("a", "real"), Column("b", "real"), Column("moon", "categorical", levels=(0, 1), incomplete=True))
    )
    table = Table.from_codes(np.column_stack([x, told]), schema)
    fit = pg.fit(
        "conditional_vae", table, label="moon", latent=2, hidden=(64,), max_steps=1500, learning_rate=3e-3,
        validation_fraction=0.0, progress=False, seed=0,
    )  # fmt: skip
    right = pg.class_probabilities(fit, table.hide("moon"), "moon").argmax(1) == moon
    from sklearn.linear_model import LogisticRegression

    seen = ~np.isnan(told)
    line = LogisticRegression().fit(x[seen], told[seen]).score(x, moon)
    assert right.mean() > line + 0.03


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_of_labels_is_a_number(weight):
    with pytest.raises(pg.CapabilityError, match="label_weight must be a number"):
        pg.fit("conditional_vae", Table.from_codes(X.numpy(), SCHEMA), label_weight=weight, progress=False)


def test_holes_are_seen_where_a_schema_says_that_there_are_none():
    """Labels that are unknown although the column is called complete teach no level, and the fit knows of the holes."""
    rng = np.random.default_rng(0)
    label = rng.integers(3, size=300)
    told = np.where(np.arange(300) < 60, label, np.nan)
    shared = rng.normal(size=300)
    rows = np.column_stack([6.0 * label + shared, shared + 0.1 * rng.normal(size=300), told])
    complete = Schema((Column("x", "real"), Column("w", "real"), Column("y", "categorical", levels=("a", "b", "c"))))
    fits = [
        pg.fit("conditional_vae", Table.from_codes(rows, schema), latent=1, hidden=(8,), max_steps=300,
               learning_rate=1e-2, validation_fraction=0.0, progress=False)
        for schema in (complete, complete.with_holes(["y"]))
    ]  # fmt: skip
    one, other = (fit.log_prob(Table.from_codes(rows, complete)).value for fit in fits)
    np.testing.assert_array_equal(one, other)
    assert fits[0].schema["y"].incomplete
    hidden = Table.from_codes(np.column_stack([rows[:, :2], np.full(300, np.nan)]), complete)
    assert (pg.class_probabilities(fits[0], hidden, "y").argmax(1) == label).mean() > 0.95


def test_a_row_without_a_label_is_never_taught_the_first_level():
    program = Classifier()
    schema = Schema((SCHEMA["x"], Column("y", "categorical", levels=("a", "b", "c"))))
    found = over_levels(program, Batch(X, schema), worth)
    np.testing.assert_allclose(found.detach(), over_levels(program, Batch(X, SCHEMA), worth).detach(), rtol=1e-6)
