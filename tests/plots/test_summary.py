"""Summaries are tables that a person reads."""

import numpy as np
import pytest

import probgen as pg
from probgen.queries.components import components
from probgen.queries.reading import LINES, WIDTH, percent, spread


def row_of(text, name):
    line = next(line for line in text.splitlines() if line.strip().startswith(name))
    return line.strip()[len(name) :].split("  ")


def cells(text, name):
    return [cell.strip() for cell in row_of(text, name) if cell.strip()]


def test_a_mixtures_components_are_a_table(mixture):
    text, found = mixture.summary(), components(mixture)[0]
    assert text.startswith("gaussian_mixture fitted by em (point estimate)")
    assert cells(text, "component") == ["0", "1"]
    assert cells(text, "weight") == [percent(w) for w in found.weight]
    assert [float(cell) for cell in cells(text, "rows")] == pytest.approx(400 * found.weight, abs=0.05)
    means = [float(cell.split(" ± ")[0]) for cell in cells(text, "x")]
    assert means == pytest.approx(found.moments("x")[0], abs=0.06)
    assert cells(text, "day")[0].startswith("202")
    assert cells(text, "smoker = yes") == [percent(p) for p in found.levels("smoker")[:, 1]]
    assert text.index("  a ") < text.index("  b ") < text.index("  c ")  # the most probable first


def test_a_chains_transitions_are_a_table(markov):
    text = markov.summary()
    from probgen.queries.states import state_chains

    chain = state_chains(markov)[0]
    for k in range(3):
        found = cells(text, f"state {k}")
        assert [float(cell.replace(".", "0.", 1) if cell == "." else cell) for cell in found[:3]] == pytest.approx(
            chain.transition[k], abs=6e-4
        )
        assert found[3:] == [percent(chain.share[k]), f"{chain.stay[k]:.1f}"]
    assert len(cells(text, "count")) == 3
    assert "rows" not in text.split("state  ")[1]


def test_long_tables_are_cut_to_a_page(quick):
    rng = np.random.default_rng(0)
    table = pg.Table({f"column {d}": rng.normal(1e4, 500, size=120) for d in range(60)})
    fit = quick(table, "latent_class", components=9)
    lines = fit.summary().splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= WIDTH
    assert "more lines" in lines[-1]
    assert "lighter components" in lines[-1]


def test_many_levels_are_one_line_each_where_there_is_no_room(quick):
    rng = np.random.default_rng(0)
    labels = np.array([f"level {k}" for k in range(6)], dtype=object)
    table = pg.Table({f"c{d}": labels[rng.integers(6, size=200)] for d in range(8)})
    fit = quick(table, "latent_class", components=2)
    text = fit.summary()
    assert len(text.splitlines()) <= LINES
    for d in range(8):
        share = components(fit)[0].levels(f"c{d}")
        assert cells(text, f"c{d}") == [f"level {p.argmax()} {percent(p.max())}" for p in share]


@pytest.mark.parametrize("states", [2, 14])
def test_big_chains_fit_the_page_too(earthquakes, states, quick):
    fit = quick(earthquakes, states=states)
    lines = fit.summary().splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= WIDTH


def test_summaries_of_fits_without_components_stay_short(mixed):
    fit = pg.fit("vae", mixed, max_steps=1, seed=0, progress=False)
    assert len(fit.summary().splitlines()) < 8


def test_a_saved_fit_reads_the_same(mixture, tmp_path):
    mixture.save(tmp_path / "m.probgen")
    before, after = (fit.summary().splitlines()[-10:] for fit in (mixture, pg.load(tmp_path / "m.probgen")))
    assert before == after


@pytest.mark.parametrize(
    ("mean", "sd", "kind", "text"),
    [
        (38.79, 2.66, "real", "38.8 ± 2.7"),
        (3701.2, 456.7, "real", "3701 ± 457"),
        (0.00123, 0.00045, "positive", "0.00123 ± 0.00045"),
        (1e-12, 1e-13, "real", "1e-12 ± 1e-13"),
        (5.0, np.nan, "real", "5.0"),
        (2.0, 0.0, "count", "2.0 ± 0.0"),
        (0.0, 0.0, "real", "0.0 ± 0.0"),
        (18262.2, 30.0, "datetime", "2020-01-01 ± 30 d"),
    ],
)
def test_numbers_have_two_digits_of_their_spread(mean, sd, kind, text):
    assert spread(mean, sd, kind) == text
