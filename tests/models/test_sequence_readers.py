"""recurrent and transformer: the chain rule against loops and sums, draws against densities, and text in and out."""

import functools
import itertools
import math
import sys
import warnings

import numpy as np
import pytest
import torch

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.data.sequences import Steps
from probgen.families.step_chain import StepChain
from probgen.families.step_windows import Windowing
from probgen.inference.tracing import observe
from probgen.queries.texts import narrowed

MODELS = ("recurrent", "transformer")
SMALL = {
    "recurrent": {"width": 16, "context": 6},
    "transformer": {"width": 16, "heads": 2, "layers": 2, "context": 6},
}
LETTERS = Schema((Column("letter", "categorical", levels=("a", "b", "c")),))


def fitted(name, table, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return pg.fit(name, table, **{"max_steps": 60, "progress": False, **SMALL[name], **more})


def letters(*texts):
    codes = [["abc".index(letter) for letter in text] for text in texts]
    return Table.from_codes(np.concatenate(codes)[:, None].astype(float), LETTERS, lengths=[len(c) for c in codes])


def random_letters(count=40, length=9, seed=0):
    rng = np.random.default_rng(seed)
    return letters(*("".join(rng.choice(list("abc"), p=[0.6, 0.3, 0.1], size=length)) for _ in range(count)))


@functools.cache
def once(name, **more):
    return fitted(name, random_letters(), **more)


def mixed(count=30, seed=0, holes=0.0):
    """Steps of a category, a count and a number that depend on one another and on the step before."""
    rng, made = np.random.default_rng(seed), []
    for _ in range(count):
        level, rows = 0, []
        for _ in range(rng.integers(2, 6)):
            level = int(rng.random() < (0.9 if level else 0.2))
            rows.append([level, rng.poisson(1 + 3 * level), rng.normal(2.0 * level, 0.5)])
        made.append(np.array(rows, dtype=float))
    schema = Schema(
        (
            Column("c", "categorical", levels=("u", "v")),
            Column("n", "count", incomplete=True),
            Column("x", "real", incomplete=True),
        )
    )
    values = np.concatenate(made)
    values[:, 1:][rng.random((len(values), 2)) < holes] = np.nan
    return Table.from_codes(values, schema, lengths=[len(rows) for rows in made])


# --------------------------------------------------------------------------------------------------------- density
@pytest.mark.parametrize("name", MODELS)
def test_all_strings_of_three_letters_sum_to_one(name):
    table = letters(*("".join(s) for s in itertools.product("abc", repeat=3)))
    found = once(name).log_prob(table)
    assert found.kind == "exact"
    assert np.exp(found.value).sum() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_the_density_is_the_product_of_conditionals(name):
    """Of the windows of the rule, by a loop that reads each beginning anew."""
    fit, table = once(name), random_letters(1, 15, seed=3)
    cells, codes, total = fit.program.cells, torch.tensor(table.values[:, 0]).float(), 0.0
    with torch.no_grad():
        for t in range(15):
            begin = 0 if t < 6 else 3 * ((t - 6) // 3 + 1)  # context 6, stride 3
            before = codes[begin - 1] if begin else torch.tensor(torch.nan)
            said = cells(codes[begin : t + 1].view(1, -1, 1), before.view(1, 1))[0][0, -1]
            total += float(said.log_softmax(-1)[int(codes[t])])
    assert float(np.asarray(fit.log_prob(table).value)[0]) == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_later_tokens_change_nothing_before_them(name):
    fit, codes = once(name), torch.tensor([[0.0, 1, 2, 0, 1, 2]])[..., None]
    other = codes.clone()
    other[0, 4] = 0.0
    with torch.no_grad():
        one, two = (fit.program.cells(x, torch.full((1, 1), torch.nan))[0] for x in (codes, other))
    torch.testing.assert_close(one[:, :5], two[:, :5], rtol=0, atol=0)
    assert not torch.allclose(one[:, 5], two[:, 5])


@pytest.mark.parametrize("name", MODELS)
def test_sequences_are_scored_alone_as_among_others(name):
    fit, table = once(name), letters("abc", "aabbaabbaabbcc", "c")
    together = np.asarray(fit.log_prob(table).value)
    alone = [np.asarray(fit.log_prob(table.take([i])).value)[0] for i in range(3)]
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize(("context", "stride"), [(4, 1), (4, 3), (5, 5), (1, 1), (7, 2)])
def test_windows_say_every_step_once_and_know_enough(context, stride):
    steps = Steps(torch.tensor([1, 4, 23, 8]))
    windows = Windowing(context, stride)(steps)
    said = windows.rows[windows.said]
    assert sorted(said.tolist()) == list(range(36))
    first, place = windows.rows[:, :1], torch.arange(windows.rows.shape[1])
    known = torch.minimum(steps.time[windows.rows], place.expand_as(windows.rows))[windows.said]
    assert (known >= torch.minimum(steps.time[said], torch.tensor(context - stride))).all()
    assert (steps.sequence[first] == steps.sequence[windows.rows]).all()


@pytest.mark.parametrize("name", MODELS)
def test_unknown_letters_are_summed_out(name):
    """Behind the last known one exactly; before it by importance draws within their error."""
    fit, table = once(name), letters("abca")
    values = np.array([0.0, np.nan, 2.0, np.nan])[:, None]
    found = fit.log_prob(table.with_values(values), draws=4000)
    filled = letters(*(f"a{one}c{two}" for one, two in itertools.product("abc", repeat=2)))
    truth = np.log(np.exp(fit.log_prob(filled).value).sum())
    assert found.kind == "importance"
    assert abs(found.value[0] - truth) < 4 * found.standard_error[0] + 1e-5
    end = fit.log_prob(table.with_values(np.array([0.0, 1.0, np.nan, np.nan])[:, None]))
    assert end.kind == "exact"
    assert end.value[0] == pytest.approx(
        np.log(np.exp(fit.log_prob(letters("aba", "abb", "abc")).value).sum()), abs=1e-5
    )


@pytest.mark.parametrize("name", MODELS)
def test_mixed_steps_are_said_cell_by_cell(name):
    """A category that is known given its number is Bayes' rule; the numbers integrate to one."""
    table = mixed()
    fit = fitted(name, table, max_steps=200, learning_rate=3e-3)
    grid = np.linspace(-6, 8, 2001)
    rows = np.column_stack([np.ones(2001), np.full(2001, 4.0), grid])
    points = Table.from_codes(rows, fit.schema, lengths=np.ones(2001, int))
    density = np.exp(fit.log_prob(points).value)
    marginal = fit.log_prob(points.take([0]).with_values(np.array([[1.0, 4.0, np.nan]])))
    assert marginal.kind == "exact"
    assert np.trapezoid(density, grid) == pytest.approx(math.exp(marginal.value[0]), rel=1e-3)
    pulled = grid[density.argmax()]
    assert abs(pulled - 2.0) < 0.7  # the number follows the category of its own step


# ----------------------------------------------------------------------------------------------------------- draws
@pytest.mark.parametrize("name", MODELS)
def test_draws_are_as_frequent_as_their_density(name):
    strings = ["".join(s) for s in itertools.product("abc", repeat=3)]
    p = np.exp(once(name).log_prob(letters(*strings)).value)
    drawn = once(name).sample(20_000, steps=3, seed=1).values.reshape(-1, 3) @ [9, 3, 1]
    seen = np.bincount(drawn.astype(int), minlength=27)
    assert ((seen - 20_000 * p) ** 2 / (20_000 * p)).sum() < 55  # 26 degrees of freedom: above it once in 1000


@pytest.mark.parametrize("name", MODELS)
def test_draws_in_windows_follow_the_rule_of_the_density(name):
    """Of the eighth step of longer sequences, whose window begins at the fourth, given the seven before."""
    fit = once(name)
    given = np.array([0, 1, 0, 2, 0, 1, 1, np.nan])
    table = Table.from_codes(np.tile(given, 4000)[:, None], LETTERS, lengths=np.full(4000, 8))
    drawn = fit.fill(table, 1)[0].values.reshape(4000, 8)[:, 7]
    one = fit.log_prob(letters(*("abacabb" + c for c in "abc"))).value
    p = np.exp(one - np.logaddexp.reduce(one))
    assert ((np.bincount(drawn.astype(int), minlength=3) - 4000 * p) ** 2 / (4000 * p)).sum() < 14


@pytest.mark.parametrize(("name", "more"), [("recurrent", {"cell": "lstm", "layers": 2}), ("recurrent", {}), ("transformer", {}), ("transformer", {"positions": "rotary"})])  # fmt: skip
def test_draws_that_remember_are_draws_that_read_anew(name, more):
    fit = fitted(name, random_letters(), max_steps=2, **more)
    chain = StepChain(fit.program.cells, Steps(torch.tensor([14, 5])), Windowing(6, 3))
    remembered, net = seeded_draws(chain), fit.program.cells.net
    read = []

    def anew(tokens, memory=None):
        if memory is None:
            read.clear()
        read.append(tokens)
        return type(net).forward(net, torch.cat(read, 1))[0], True

    net.forward = anew
    torch.testing.assert_close(seeded_draws(chain), remembered, rtol=0, atol=0)


def seeded_draws(chain):
    torch.manual_seed(0)
    return chain.sample((50,))


@pytest.mark.parametrize("name", MODELS)
def test_holes_are_filled_by_what_comes_after(name):
    """a or c in the middle, after which comes the same again: forward draws alone would be wrong half of the time."""
    rng = np.random.default_rng(0)
    table = letters(*("b" + 2 * letter for letter in rng.choice(["a", "c"], size=300)))
    fit = fitted(name, table, max_steps=300, learning_rate=1e-2)
    asked = Table.from_codes(np.tile([1.0, np.nan, 2.0], 50)[:, None], LETTERS, lengths=np.full(50, 3))
    assert (fit.fill(asked, 1)[0].values.reshape(50, 3)[:, 1] == 2).mean() > 0.95


@pytest.mark.parametrize("name", MODELS)
def test_it_learns_with_holes(name):
    table = mixed(60, holes=0.3)
    fit = fitted(name, table, max_steps=150, learning_rate=3e-3)
    assert np.mean(fit.history["objective"][-10:]) > np.mean(fit.history["objective"][:3]) + 1
    assert not np.isnan(fit.fill(table, 2)[1].values).any()
    forecast = fit.forecast(table.take([0, 1]), steps=2, draws=20)
    assert len(forecast) == 2 * 2 * 3


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_entropy_of_a_markov_chain_is_reached(name):
    rng = np.random.default_rng(1)
    move = np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.4, 0.6, 0.0]])
    codes = [0]
    for u in rng.random(40_000):
        codes.append(int((u > move[codes[-1]].cumsum()).sum()))
    table = Table.from_codes(np.array(codes, float)[:, None], LETTERS, lengths=[len(codes)])
    train = Table.from_codes(table.values[:30_000], LETTERS, lengths=[30_000])
    test = Table.from_codes(table.values[30_000:], LETTERS, lengths=[10_001])
    fit = fitted(name, train, max_steps=800, learning_rate=3e-3, batch_size=32)
    c = table.values[30_000:, 0].astype(int)
    truth = np.log(move[c[:-1], c[1:]]).mean()
    assert truth - 0.01 < fit.log_prob(test).value[0] / 10_001 < truth + 0.005


# ------------------------------------------------------------------------------------------------- which are drawn
def test_logits_are_narrowed():
    p = torch.tensor([0.1, 0.4, 0.2, 0.3])
    assert narrowed(p.log(), 1.0, 2, None).softmax(-1).tolist() == pytest.approx([0, 4 / 7, 0, 3 / 7])
    assert narrowed(p.log(), 1.0, None, 0.75).softmax(-1).tolist() == pytest.approx([0, 4 / 9, 2 / 9, 3 / 9])
    assert narrowed(p.log(), 0.5, None, None).softmax(-1).tolist() == pytest.approx([1 / 30, 16 / 30, 4 / 30, 9 / 30])
    assert narrowed(p.log(), 1.0, None, 1.0).softmax(-1).tolist() == pytest.approx(p.tolist())


@functools.cache
def poem(name="transformer", **more):
    return fitted(name, Table.from_text("the cat sat on the mat. " * 40), max_steps=30, context=16, **more)


def test_only_the_allowed_tokens_are_drawn():
    fit = poem()
    first = np.array([text[-1] for text in pg.continue_text(fit, "the ca", 1, draws=2000, seed=1)])
    shares = {c: (first == c).mean() for c in set(first)}
    best = sorted(shares, key=shares.get, reverse=True)
    narrow = {text[-1] for text in pg.continue_text(fit, "the ca", 1, draws=500, top_k=2)}
    assert narrow <= set(best[:3])
    assert len(narrow) == 2
    assert {text[-1] for text in pg.continue_text(fit, "the ca", 1, draws=50, temperature=0)} == {best[0]}
    assert len({text[-1] for text in pg.continue_text(fit, "the ca", 1, draws=500, top_p=0.5)}) < len(best)


def test_continuations_begin_with_their_prompt():
    found = pg.continue_text(poem(), ["the ", "", "on the mat. the cat sat on"], 5, draws=2)
    assert [len(text) for text in found] == [9, 9, 5, 5, 31, 31]
    assert all(text.startswith("the ") for text in found[:2])
    assert found == pg.continue_text(poem(), ["the ", "", "on the mat. the cat sat on"], 5, draws=2)
    assert found != pg.continue_text(poem(), ["the ", "", "on the mat. the cat sat on"], 5, draws=2, seed=1)


def test_sequences_go_on():
    fit = fitted("recurrent", mixed())
    longer = pg.continue_sequences(fit, mixed(3), 2, draws=4)
    assert len(longer) == 4
    assert (longer[0].lengths == mixed(3).lengths + 2).all()
    with pytest.raises(pg.CapabilityError, match="columns with levels"):
        pg.continue_sequences(fit, mixed(3), 2, top_k=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature must be a number of at least 0, got -1.0"),
        ({"temperature": float("nan")}, "temperature must be a number"),
        ({"top_k": 0}, "top_k must be a whole number of at least 1, got 0"),
        ({"top_p": 0.0}, "top_p must be a probability above 0"),
        ({"top_p": 1.5}, "top_p must be a probability above 0 and at most 1, got 1.5"),
        ({"length": 0}, "length must be a whole number"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(pg.CapabilityError, match=message):
        pg.continue_text(poem(), "the", **options)


def test_questions_to_the_wrong_fit_are_refused():
    with pytest.raises(pg.CapabilityError, match="was not fitted to text"):
        pg.continue_text(once("recurrent"), "abc")
    with pytest.raises(pg.CapabilityError, match="was not fitted to text"):
        pg.text_score(once("recurrent"), "abc")
    with pytest.raises(pg.CapabilityError, match="token by token"):
        pg.continue_text(pg.fit("hidden_markov", Table.from_text("abcabc" * 9), states=2, progress=False, restarts=1, max_steps=2, tolerance=1e9), "ab")  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ text
def test_text_comes_back():
    texts = ["Ünïcode 𝔘\n", "two", "a\tb"]
    table = Table.from_text(texts)
    assert table.texts() == texts
    assert table.schema[0].levels[-1] == "<end>"
    assert len(Table.from_text("one text").schema[0].levels) == len(set("one text"))
    assert Table.from_text("two", schema=table.schema).texts() == ["two"]
    assert Schema.from_json(table.schema.to_json()) == table.schema
    assert "'\\t'" in str(table.schema)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a", 3.0], r"Text 1: expected a string, got 3.0 \(float\)"),
        (["ab", ""], "Text 1 is empty"),
        ("", "Text 0 is empty"),
        ([], "There is no text"),
        ("aaaa", "the one token 'a'"),
    ],
)
def test_what_is_no_text_is_refused(texts, message):
    with pytest.raises(pg.DataError, match=message):
        Table.from_text(texts)


def test_unseen_characters_are_named_or_one_token():
    schema = Table.from_text("abcabc").schema
    with pytest.raises(pg.DataError, match="Text 1, character 2: 'ß' is none of the 3 characters"):
        Table.from_text(["ab", "caßß"], schema=schema)
    table = Table.from_text("aabbcc!", rare=2)
    assert table.schema[0].levels == ("a", "b", "c", "<unk>")
    assert Table.from_text("axb", schema=table.schema).texts() == ["a\ufffdb"]


def test_other_schemas_and_tokens_are_refused():
    with pytest.raises(pg.SchemaError, match="not that of a text"):
        Table.from_text("abc", schema=LETTERS)
    with pytest.raises(pg.SchemaError, match="not that of a text"):
        letters("abc").texts()
    for tokens in ("syllables", 10, 2.5):
        with pytest.raises((pg.SchemaError, pg.CapabilityError), match="tokens must be"):
            Table.from_text("abc", tokens=tokens)


def test_words_are_scored_exactly_and_go_on_with_blanks():
    """A text has one way to be cut into words, other than into byte pairs."""
    table = Table.from_text(["to be or not to be", "to be not"] * 4, tokens="words")
    fit = fitted("recurrent", table, max_steps=20)
    score = pg.text_score(fit, "to be or")
    assert (score.kind, score.tokens, score.characters) == ("exact", 4, 8)
    assert pg.continue_text(fit, "to be", 3, seed=0)[0].startswith("to be ")


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_fit_keeps_its_tokens(name, tmp_path):
    fit = poem(name)
    fit.save(tmp_path / "poem.probgen")
    again = pg.load(tmp_path / "poem.probgen")
    assert again.schema == fit.schema
    assert pg.continue_text(again, "the", 20, seed=3) == pg.continue_text(fit, "the", 20, seed=3)
    assert pg.text_score(again, "on the mat") == pg.text_score(fit, "on the mat")


@pytest.mark.parametrize("name", MODELS)
def test_texts_with_ends_have_a_density_over_all_lengths(name):
    fit = fitted(name, Table.from_text(["ab", "b", "abab", "ba"] * 10), max_steps=200, learning_rate=1e-2)
    total = 0.0
    for length in range(9):
        texts = ["".join(s) for s in itertools.product("ab", repeat=length)]
        codes = [[*("ab".index(c) for c in text), 2.0] for text in texts]
        table = Table.from_codes(np.concatenate(codes)[:, None], fit.schema, lengths=[length + 1] * len(texts))
        total += np.exp(fit.log_prob(table).value).sum()
    assert 0.97 < total <= 1.00001
    drawn = pg.continue_text(fit, "", 30, draws=400)
    assert np.mean([text in ("ab", "b", "abab", "ba") for text in drawn]) > 0.9


def test_scores_are_of_tokens_and_of_characters():
    fit = poem()
    score = pg.text_score(fit, ["the cat", "on"])
    rows = fit.log_prob(["the cat", "on"]).value
    assert score.tokens == score.characters == 9
    assert score.nats_per_token == pytest.approx(-rows.sum() / 9)
    assert score.perplexity == pytest.approx(math.exp(score.nats_per_token))
    assert score.bits_per_character == pytest.approx(score.nats_per_token / math.log(2))
    assert score.kind == "exact"


def test_byte_pairs():
    pytest.importorskip("tokenizers")
    texts = ["the cat sat on the mat", "thé dog\n sat"] * 5
    table = Table.from_text(texts, tokens=280)
    assert table.texts() == texts
    assert table.n_rows < sum(map(len, texts))
    fit = fitted("recurrent", table, max_steps=20)
    score = pg.text_score(fit, ["the zebra"])
    assert score.characters == 9
    assert score.kind == "upper_bound"
    assert score.bits_per_character * 9 == pytest.approx(score.nats_per_token * score.tokens / math.log(2))
    assert isinstance(pg.continue_text(fit, "the ", 5)[0], str)


def test_byte_pairs_without_their_library_are_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(pg.CapabilityError, match=r"pip install 'probgen\[text\]'"):
        Table.from_text("abc" * 10, tokens=300)


# --------------------------------------------------------------------------------------------------------- learning
def test_windows_of_an_epoch_hold_every_step_once():
    text = Table.from_text("".join(map(chr, range(65, 165))), end=False)
    fit = poem()
    batches = pg.Fit.batches(fit, Table.from_codes(np.arange(100.0)[:, None], text.schema, lengths=[97, 3]), 1000)
    batches.batch_size, batches.window = 4, 16
    first = list(batches.epoch(0))
    assert sorted(torch.cat([batch.x[:, 0] for batch in first]).tolist()) == list(range(100))
    for batch in first:
        start = batch.x[batch.steps.starts]
        known = batch.steps.known
        torch.testing.assert_close(known[~known.isnan()], (start - 1)[~known.isnan()])
        assert set(start[known.isnan()].tolist()) <= {0.0, 97.0}
        assert batch.steps.longest <= 16
    cuts = {
        tuple(sorted(batch.x[batch.steps.starts, 0].tolist())) for seed in range(2) for batch in batches.epoch(seed)
    }
    assert len(cuts) > len(first)


@pytest.mark.parametrize("name", MODELS)
def test_dropout_is_for_learning_only(name):
    fit = fitted(name, random_letters(), dropout=0.3, layers=2)
    table = random_letters(5, seed=9)
    np.testing.assert_array_equal(fit.log_prob(table).value, fit.log_prob(table).value)


def test_half_precision_and_one_site():
    fit = fitted("transformer", random_letters(), precision="bfloat16")
    assert np.isfinite(fit.log_prob(random_letters(3)).value).all()
    with torch.no_grad():
        sites = observe(fit.program, next(fit.batches(random_letters(3), 100).pieces())).sites
    assert list(sites) == ["x"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("transformer", {"heads": 3}, "width must be a multiple of heads, got width=16 and heads=3"),
        ("transformer", {"positions": "sinus"}, "positions must be 'learnt' or 'rotary', got 'sinus'"),
        ("transformer", {"heads": 16, "positions": "rotary"}, "with an even number for each"),
        ("transformer", {"dropout": 1.0}, "dropout must be a share from 0 to below 1, got 1.0"),
        ("transformer", {"context": 0}, "context must be a whole number of at least 1, got 0"),
        ("transformer", {"stride": 9}, "stride=9 would leave steps out of windows of context=6"),
        ("recurrent", {"cell": "elman"}, "cell must be 'gru' or 'lstm', got 'elman'"),
        ("recurrent", {"width": 0}, "width must be whole numbers of at least 1"),
        ("recurrent", {"stride": 0}, "stride must be a whole number"),
    ],
)
def test_bad_options_are_refused(name, options, message):
    with pytest.raises(pg.CapabilityError, match=message):
        fitted(name, random_letters(), **options)
