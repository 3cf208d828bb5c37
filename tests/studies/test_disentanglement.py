"""Disentanglement of codes whose answer is known, and the pictures that it is measured on."""

from __future__ import annotations

import numpy as np
import pytest

from probgen.data.sprites import FACTORS, drawn, sprites
from probgen.studies.disentanglement import disentanglement, mutual_information


def factors(rows=6000):
    rng = np.random.default_rng(0)
    return np.column_stack([rng.integers(count, size=rows) for count in (3, 4, 5)]), rng


def test_codes_that_are_the_factors_are_disentangled():
    v, rng = factors()
    z = np.column_stack([v + 0.01 * rng.normal(size=v.shape), rng.normal(size=(len(v), 2))])
    found = disentanglement(z, v)
    assert found.mig > 0.94  # bins with equal counts do not end where levels do
    assert found.sap > 0.97
    assert min(found.disentanglement, found.completeness, found.informativeness) > 0.95
    assert found.information.shape == (5, 3)


def test_turned_codes_and_noise_are_not():
    v, rng = factors()
    standard = (v - v.mean(0)) / v.std(0)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    turned = disentanglement(standard @ turn, v)
    assert turned.mig < 0.35
    assert turned.disentanglement < 0.6
    assert turned.informativeness > 0.95
    noise = disentanglement(rng.normal(size=(len(v), 4)), v)
    assert max(noise.mig, noise.sap, noise.informativeness) < 0.02
    assert disentanglement(np.zeros((len(v), 2)), v).mig == 0.0


def test_information_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    v, rng = factors(500)
    other = np.where(rng.random(500) < 0.5, v[:, 0], v[:, 1])
    assert mutual_information(v[:, 0], other) == pytest.approx(metrics.mutual_info_score(v[:, 0], other), abs=1e-12)


def test_sprites_are_drawn_from_their_factors():
    table, found = sprites(200, seed=1)
    assert table.values.shape == (200, 256)
    assert found.max(0).tolist() == [count - 1 for count in FACTORS.values()]
    again, _ = sprites(200, seed=1)
    np.testing.assert_array_equal(table.values, again.values)
    one = np.array([[0, 2, 0, 3, 5]])
    right, larger, turned = (
        one + np.array([change]) for change in ([0, 0, 0, 4, 0], [0, 1, 0, 0, 0], [0, 0, 3, 0, 0])
    )
    picture, moved, grown = (drawn(each, 16)[0] for each in (one, right, larger))
    centre = lambda image: np.argwhere(image).mean(0)  # noqa: E731
    assert centre(moved)[1] - centre(picture)[1] == pytest.approx(16 * 0.36 * 4 / 11, abs=0.6)
    assert centre(moved)[0] == pytest.approx(centre(picture)[0], abs=0.3)
    assert grown.sum() > picture.sum()
    np.testing.assert_array_equal(drawn(turned, 16)[0], picture)  # a square turned by a quarter
    shapes = [drawn(np.array([[shape, 3, 0, 5, 5]]), 32)[0] for shape in range(3)]
    areas = [image.mean() for image in shapes]
    half = 0.31
    assert areas[0] == pytest.approx((1.5 * half) ** 2, rel=0.05)
    assert areas[1] == pytest.approx(np.pi * half**2 * 0.55, rel=0.05)
    heart = shapes[2]
    assert heart[: len(heart) // 2].sum() != heart[len(heart) // 2 :].sum()  # a top and a bottom
