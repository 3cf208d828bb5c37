"""A transformer that reads some columns and says the others."""

from itertools import product

import numpy as np
import pytest
import torch

import probgen as pg
from probgen.errors import CapabilityError, DataError

SMALL = {"width": 16, "layers": 1, "heads": 2, "progress": False, "validation_fraction": 0.0}
READ = ("spelling", "size", "picture")


def words(rows=40, seed=0):
    """Spellings, a number, a picture; the same letters in capitals, and another number."""
    rng = np.random.default_rng(seed)
    spelt = ["abc", *("".join(rng.choice(list("abc"), rng.integers(0, 4))) for _ in range(rows - 1))]
    return pg.Table.from_parts({
        "spelling": pg.Texts(spelt, length=3),
        "size": rng.normal(size=rows),
        "picture": pg.Pictures(rng.integers(0, 2, (rows, 5, 4))),
        "said": pg.Texts([list(word.upper()) for word in spelt], tokens="words", length=3),
        "height": rng.normal(size=rows),
    })  # fmt: skip


@pytest.fixture(scope="module")
def fit():
    return pg.fit("conditional_transformer", words(), inputs=READ, seed=0, max_steps=30, **SMALL)


def texts(length=3, tokens=3):
    """``(T, length)`` codes of all texts of so many tokens at most, ends behind them."""
    every = [text for size in range(length + 1) for text in product(range(tokens), repeat=size)]
    return np.array([[*text, *[tokens] * (length - len(text))] for text in every], dtype=float)


def with_texts(table, row):
    """One row as often as there are texts, with each of them."""
    at = [table.schema.index(name) for name in table.schema.text_named("said").names]
    made = table.take(np.full(len(texts()), row))
    values = made.values.copy()
    values[:, at] = texts()
    return made.with_values(values)


def test_probabilities_of_all_texts_sum_to_one_whatever_is_read(fit):
    table = words().hide("height")
    sums = [np.exp(fit.log_prob(with_texts(table, row)).value).sum() for row in range(4)]
    assert sums == pytest.approx([1.0] * 4, abs=1e-5)
    apart = fit.log_prob(with_texts(table, 0)).value - fit.log_prob(with_texts(table, 1)).value
    assert np.ptp(apart) > 1e-3  # it reads


def test_nothing_but_ends_stands_behind_an_end(fit):
    table = words(1).hide("height")
    values = table.values.copy()
    values[:, [table.schema.index(name) for name in table.schema.text_named("said").names]] = [[3.0, 0.0, 3.0]]
    assert fit.log_prob(table.with_values(values)).value[0] == -np.inf


def test_densities_do_not_depend_on_the_rows_beside(fit):
    table = words()
    alone = np.concatenate([fit.log_prob(table.take([row])).value for row in range(len(table))])
    np.testing.assert_allclose(fit.log_prob(table).value, alone, atol=1e-5)


def test_draws_have_the_frequencies_of_their_probabilities(fit):
    table, draws = words(1).hide("said", "height"), 3000
    told = fit.fill(table.take(np.zeros(draws, int)), 1, seed=0)[0].texts("said")
    every = with_texts(words(1).hide("height"), 0)
    expected = draws * np.exp(fit.log_prob(every).value)
    seen = np.array([told.count(text) for text in every.texts("said")])
    large = expected > 5
    z = (seen - expected)[large] / np.sqrt(expected * (1 - expected / draws))[large]
    assert seen.sum() == draws
    assert np.abs(z).max() < 4  # of a few dozen, at odds of 1 : 16 000 each


def test_a_walk_says_what_one_pass_says(fit):
    """Drawn cell by cell from memory, and scored all at once."""
    program, table = fit.program, words(8)
    with torch.no_grad(), fit.setting():
        batch = next(iter(fit.batches(table, 8).pieces()))
        chain = program.rows(batch)
        x = batch.x[:, [table.schema.index(name) for name in program.said]]
        from probgen.families.row_chain import Walk

        walk, total = Walk(program.cells, chain.heard), torch.zeros(8)
        for at in range(x.shape[1]):
            options = walk.options(x, at, program.cells.going_on(x)[:, at]) if at < 3 else program.cells.heads.of[at].log_prob(
                program.cells.say(walk.state(x, at), at), x[:, at]
            )[:, None]  # fmt: skip
            total += options[:, 0] if at == 3 else options.gather(1, x[:, at : at + 1].long())[:, 0]
        np.testing.assert_allclose(total, chain.log_prob(x), atol=1e-5)


@pytest.mark.parametrize("beams", [1, 4, 200])
def test_the_search_finds_the_most_probable_text(fit, beams):
    """With more beams than there are texts it is exhaustive; with fewer, never better than that."""
    table = words(6, seed=3)
    said = fit.most_probable(table.hide("said"), beams=beams)
    found = fit.log_prob(said.hide("height")).value
    best = np.array([fit.log_prob(with_texts(said.hide("height"), row)).value.max() for row in range(6)])
    assert (found <= best + 1e-6).all()
    if beams == 200:
        joint = [fit.log_prob(with_texts(table, row)).value for row in range(6)]
        np.testing.assert_allclose(fit.log_prob(said).value, [row.max() for row in joint], atol=1e-6)


def test_known_cells_behind_unknown_ones_count_in_the_search():
    """The second letter decides the first: aa or bb, aa four times as often."""
    table = pg.Table.from_parts({"word": pg.Texts(["aa"] * 80 + ["bb"] * 20)})
    fit = pg.fit("conditional_transformer", table, seed=0, max_steps=300, learning_rate=1e-2, **SMALL)
    asked = table.take([0, 99]).hide("word[0]")
    assert fit.most_probable(asked).texts() == ["aa", "bb"]
    assert fit.most_probable(table.take([0]).hide("word")).texts() == ["aa"]
    np.testing.assert_allclose(np.exp(fit.log_prob(asked, draws=2000).value), [0.8, 0.2], atol=0.05)
    assert [t.texts() for t in fit.fill(asked, 3, seed=1)] == [["aa", "bb"]] * 3


@pytest.fixture(scope="module")
def mostly_empty():
    """Texts that mostly end where they begin, so that a guess of what stands before a known letter is rarely a letter."""
    table = pg.Table.from_parts(
        {"word": pg.Texts([""] * 80 + ["ab"] * 8 + ["bb"] * 12, length=3), "n": np.arange(100.0)}
    )
    return table, pg.fit("conditional_transformer", table, seed=0, max_steps=100, learning_rate=1e-2, **SMALL)


@pytest.mark.parametrize("beams", [1, 8])
def test_no_end_is_found_before_a_known_letter(mostly_empty, beams):
    table, fit = mostly_empty
    asked = table.take([80, 99, 0]).hide("word[0]")
    found = fit.most_probable(asked, beams=beams)
    assert np.isfinite(fit.log_prob(found).value).all()
    assert [len(text) for text in found.texts()] == [2, 2, 0]
    every = np.repeat(asked.values[:1], 3, 0)
    every[:, 0] = range(3)
    density = fit.log_prob(table.take([0] * 3).with_values(every)).value
    assert fit.log_prob(found).value[0] == pytest.approx(density.max(), abs=1e-5)


def test_guesses_before_a_known_letter_are_letters(mostly_empty):
    """Their weights are those of what they are guesses of: the sum over all first letters."""
    table, fit = mostly_empty
    asked = table.take([80]).hide("word[0]")
    every = np.repeat(asked.values, 2, 0)
    every[:, 0] = range(2)
    exact = np.logaddexp(*fit.log_prob(table.take([0, 0]).with_values(every)).value)
    assert fit.log_prob(asked, draws=200).value[0] == pytest.approx(exact, abs=0.03)
    asked = table.take([80]).hide("word[0]", "word[1]")  # an end is known behind them
    assert {len(t.texts()[0]) for t in fit.fill(asked, 40, seed=0)} == {0, 2}


def test_parts_that_are_left_out_are_filled(mostly_empty):
    table, fit = mostly_empty
    assert fit.fill({"n": [3.0, 4.0]}, 1)[0].column("n").tolist() == [3.0, 4.0]
    assert all(isinstance(text, str) for text in fit.fill({"n": [3.0, 4.0]}, 1)[0].texts())
    with pytest.raises(DataError, match="lacks column"):
        fit.fill({name: table.column(name) for name in table.schema.names[:2]}, 1)


def test_rows_that_cannot_be_are_refused(mostly_empty):
    table, fit = mostly_empty
    asked = table.take([80, 81])
    asked = asked.with_values(np.array([[0.0, 1.0, np.nan, 0.1], [2.0, np.nan, 1.0, 0.1]]))
    with pytest.raises(DataError, match="Row 1: its known cells have probability zero"):
        fit.fill(asked, 1)
    with pytest.raises(CapabilityError, match="row 1 have probability zero"):
        fit.most_probable(asked)


def test_pixels_of_several_kinds_have_weights_of_their_own():
    rng = np.random.default_rng(0)
    table = pg.Table.from_parts({"photo": pg.Pictures(rng.integers(0, 5, (30, 2, 2, 3)), kind="count")})
    table = pg.Table(table, schema=table.schema.with_kind("photo[0,0,1]", "real"))
    fit = pg.fit("conditional_transformer", table, seed=0, max_steps=2, **SMALL)
    assert [len(columns) for columns in fit.program.cells.alike if len(columns) > 1] == [4, 4]
    assert np.isfinite(fit.log_prob(table).value).all()


def test_it_learns_to_copy():
    table = words(300)
    fit = pg.fit(
        "conditional_transformer", table.drop(["height"]), inputs="spelling", seed=0, max_steps=400, learning_rate=5e-3, **SMALL
    )  # fmt: skip
    new = words(60, seed=7).drop(["height"])
    said = fit.most_probable(new.hide("said")).texts("said")
    right = [list(word.upper()) == text.split() for word, text in zip(new.texts("spelling"), said, strict=True)]
    assert np.mean(right) > 0.95


def test_it_says_pictures_and_numbers_given_texts():
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 200)
    table = pg.Table.from_parts({
        "caption": pg.Texts(np.where(kind, "a full one", "an empty one").tolist(), tokens="words"),
        "picture": pg.Pictures(np.tile(kind[:, None, None], (1, 4, 4))),
        "height": 10.0 + 5.0 * kind + rng.normal(0, 0.1, 200),
    })  # fmt: skip
    fit = pg.fit(
        "conditional_transformer", table, inputs="caption", seed=0, max_steps=200, learning_rate=5e-3, **SMALL
    )
    drawn = fit.fill(table.hide("picture", "height"), 1, seed=0)[0]
    assert np.mean(drawn.images("picture").mean((1, 2, 3)).round() == kind) > 0.98
    assert np.corrcoef(drawn.column("height"), kind)[0, 1] > 0.95


def test_saved_and_loaded_it_says_the_same(fit, tmp_path):
    fit.save(tmp_path / "a.probgen")
    again, table = pg.load(tmp_path / "a.probgen"), words(5)
    np.testing.assert_array_equal(again.log_prob(table).value, fit.log_prob(table).value)
    assert again.schema.tokens == fit.schema.tokens


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"inputs": (*READ, "said", "height")}, CapabilityError, "Every column is an input"),
        ({"inputs": "speling"}, pg.SchemaError, "spelling"),
        ({"width": 15}, CapabilityError, "multiple of heads"),
        ({"masking": 1.0}, CapabilityError, "masking must be a share"),
        ({"components": 0}, CapabilityError, "components"),
    ],
)
def test_bad_options_are_refused(options, error, says):
    with pytest.raises(error, match=says):
        pg.fit("conditional_transformer", words(), max_steps=1, **{**SMALL, **options})


def test_unknown_inputs_and_numbers_are_refused_with_what_to_do(fit):
    with pytest.raises(DataError, match=r"spelling\[0\].*row 0"):
        fit.log_prob(words(3).hide("spelling"))
    with pytest.raises(CapabilityError, match="'height' is unknown and has no levels"):
        fit.most_probable(words(3).hide("height"))
    with pytest.raises(CapabilityError, match="beams"):
        fit.most_probable(words(3).hide("said"), beams=0)


def test_draws_at_a_temperature_have_the_probabilities_to_its_power():
    """Of one column of three levels behind another."""
    rng = np.random.default_rng(0)
    frame = {
        "a": rng.choice(["x", "y"], 200).tolist(),
        "b": rng.choice(["u", "v", "w"], 200, p=[0.5, 0.3, 0.2]).tolist(),
    }
    fit = pg.fit("conditional_transformer", frame, inputs="a", temperature=0.5, seed=0, max_steps=20, **SMALL)
    one = pg.Table({"a": ["x"] * 4000, "b": ["u"] * 4000}, schema=fit.schema)
    drawn = np.bincount(fit.fill(one.hide("b"), 1, seed=0)[0].values[:, 1].astype(int), minlength=3) / 4000
    each = pg.Table({"a": ["x"] * 3, "b": ["u", "v", "w"]}, schema=fit.schema)
    chance = np.exp(2 * fit.log_prob(each).value)
    assert np.abs(drawn - chance / chance.sum()).max() < 0.03  # 3.8 standard errors
    with pytest.raises(CapabilityError, match="temperature"):
        pg.fit("conditional_transformer", words(), inputs=READ, temperature=0.5, **SMALL)
