"""Compressed tables: every bit comes back, and sizes are what densities say."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal, norm, poisson

import probgen as pg
from probgen.data.stored import Reading, dissected
from probgen.queries.compression.bits_back import parts
from probgen.queries.compression.chain_rule import ChainRule
from probgen.queries.compression.coders import Meter, Reader, Recorder, Stack, Writer
from probgen.queries.compression.container import checksum, packed, unpacked
from probgen.queries.compression.densities import Piecewise, first_knots, fitted_density
from probgen.queries.compression.holes import code_holes, describe_holes
from probgen.queries.compression.texts import packed_texts, pieces, symbols_of, unpacked_texts, walk
from probgen.queries.compression.verbs import identity

BITS = 1 / np.log(2)


def groups_of(rows, seed=0):
    """Three groups with categories, numbers with two decimals, doubles, counts, dates, and texts; a tenth is unknown."""
    rng = np.random.default_rng(seed)
    z = rng.integers(3, size=rows)
    x = rng.normal(3 * z, 1.0)
    frame = pd.DataFrame(
        {
            "group": pd.Categorical(np.array(["a", "b", "c"])[z]),
            "sign": np.where(rng.random(rows) < 0.2 + 0.3 * z, "yes", "no"),
            "x": np.round(x, 2),
            "y": rng.normal(x, 0.5),
            "amount": np.where(rng.random(rows) < 0.3, 0.0, np.round(rng.exponential(20, rows) + 0.01, 2)),
            "visits": rng.poisson(1 + 4 * z),
            "day": pd.to_datetime("2020-01-01") + pd.to_timedelta(rng.integers(0, 700, rows), unit="D"),
            "note": [f"note {i % 13}" for i in range(rows)],
        }
    )
    for name in ("group", "sign", "x", "y", "day"):
        frame.loc[rng.random(rows) < 0.1, name] = None
    return frame


@pytest.fixture(scope="module")
def frame():
    return groups_of(400)


@pytest.fixture(scope="module")
def mixture(frame):
    return pg.fit("gaussian_mixture", frame.drop(columns="note"), components=3, progress=False)


@pytest.fixture(scope="module")
def binary():
    """Rows of six dependent bits, a tenth unknown."""
    rng = np.random.default_rng(2)
    z = rng.random((3000, 1)) < 0.4
    x = (rng.random((3000, 6)) < np.where(z, 0.85, 0.15)).astype(float)
    x[rng.random(x.shape) < 0.1] = np.nan
    return pg.Table(pd.DataFrame(x, columns=list("abcdef")))


@pytest.fixture(scope="module")
def classes(binary):
    return pg.fit("latent_class", binary, components=2, progress=False)


def bytes_said(fit, stored):
    """The code length of cells at their precision in bytes: of densities the density times the width of a cell."""
    values, widths = np.full(stored.numbers.shape, np.nan), 0.0
    for place, (reading, column) in enumerate(zip(stored.readings, fit.schema)):
        known, numbers = stored.known[:, place], stored.numbers[:, place]
        values[known, place] = reading.values(numbers[known])
        if column.is_continuous:
            some = numbers[known & ~((column.kind == "semicontinuous") & (reading.values(numbers) == 0))]
            widths += np.log(reading.widths(some)).sum()
    rows = fit.log_prob(pg.Table.from_codes(values, fit.schema)).value
    return -(rows.sum() + widths) * BITS / 8


def bytes_of_holes(known):
    """By the entropy of the patterns."""
    counts = np.unique(known, axis=0, return_counts=True)[1]
    return -(counts * np.log2(counts / counts.sum())).sum() / 8


# ------------------------------------------------------------------------------------------------------ round trips
def test_a_mixed_frame_comes_back_bit_for_bit(mixture, frame, tmp_path):
    path = tmp_path / "table.pgz"
    size = mixture.compress(frame, path)
    assert size == path.stat().st_size
    pd.testing.assert_frame_equal(pg.decompress(path, mixture), frame, check_exact=True)
    stored, file = dissected(frame, mixture.schema), unpacked(path)
    said = bytes_said(mixture, stored) + bytes_of_holes(stored.known)
    assert sum(len(block.bits) for block in file.blocks) <= 1.01 * said + 4


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("latent_class", {"components": 2}),
        ("naive_bayes", {"target": "a"}),
        ("chow_liu_mixture", {"components": 2}),
        ("bayesian_network", {}),
        ("made", {"hidden": (16,), "max_steps": 60}),
        ("masked_transformer", {"max_steps": 10}),
    ],
)
def test_sizes_are_those_of_the_density(model, options, binary, tmp_path):
    fit = pg.fit(model, binary, progress=False, **options)
    fit.compress(binary, tmp_path / "table.pgz", rows=1500)
    back = pg.decompress(tmp_path / "table.pgz", fit)
    assert back.values.tobytes() == binary.values.tobytes()
    said = -np.asarray(fit.log_prob(binary)).sum() * BITS / 8 + bytes_of_holes(binary.known)
    blocks = unpacked(tmp_path / "table.pgz").blocks
    assert len(blocks) == 2
    assert said - 8 <= sum(len(block.bits) for block in blocks) <= 1.01 * said + 8


def test_rows_of_some_blocks_are_read_alone(mixture, frame, tmp_path, monkeypatch):
    mixture.compress(frame, tmp_path / "t", rows=150)
    for rows in (slice(160, 170), slice(140, 310), slice(-5, None), slice(7, 7)):
        found = pg.decompress(tmp_path / "t", mixture, rows=rows)
        pd.testing.assert_frame_equal(found, frame.iloc[rows], check_exact=True)
    asked = []
    walk = ChainRule.code
    monkeypatch.setattr(ChainRule, "code", lambda *given: asked.append(len(given[3])) or walk(*given))
    pg.decompress(tmp_path / "t", mixture, rows=slice(305, 310))
    assert asked == [100]
    with pytest.raises(pg.DataError, match="without a step"):
        pg.decompress(tmp_path / "t", mixture, rows=slice(0, 10, 2))
    for odd in (5, slice(0.5, 2), slice("a")):
        with pytest.raises(pg.DataError, match="slice of whole numbers"):
            pg.decompress(tmp_path / "t", mixture, rows=odd)


def test_a_saved_model_reads_it_and_threads_change_nothing(classes, binary, tmp_path):
    classes.compress(binary, tmp_path / "one")
    classes.save(tmp_path / "m.probgen")
    loaded = pg.load(tmp_path / "m.probgen")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        loaded.compress(binary, tmp_path / "two")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert pg.decompress(tmp_path / "one", loaded).values.tobytes() == binary.values.tobytes()


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_small_tables(mixture, frame, rows, tmp_path):
    few = frame.iloc[:rows]
    mixture.compress(few, tmp_path / "t")
    pd.testing.assert_frame_equal(pg.decompress(tmp_path / "t", mixture), few, check_exact=True)


def test_values_far_from_all_that_the_model_knows_come_back(mixture, frame, tmp_path):
    odd = frame.copy()
    odd.loc[0, ["x", "y", "amount"]] = [1e6, -1e12, 1e5]
    odd.loc[1, "visits"] = 300
    mixture.compress(odd, tmp_path / "t")
    pd.testing.assert_frame_equal(pg.decompress(tmp_path / "t", mixture), odd, check_exact=True)


# -------------------------------------------------------------------------------------------------------- bits back
def test_bits_back_costs_the_bound(tmp_path):
    rng = np.random.default_rng(9)
    x = (rng.random((2500, 16)) < norm.cdf(2 * rng.normal(size=(2500, 1)) * rng.choice([-1, 1], 16))).astype(float)
    x[rng.random(2500) < 0.1, 3] = np.nan
    table = pg.Table(x)
    fit = pg.fit("vae", table, latent=2, hidden=(16,), max_steps=400, progress=False)
    fit.compress(table, tmp_path / "t")
    assert pg.decompress(tmp_path / "t", fit).values.tobytes() == table.values.tobytes()
    bound = -fit.log_prob(table, method="lower_bound", draws=50).value.sum() * BITS / 8 + bytes_of_holes(table.known)
    bits = len(unpacked(tmp_path / "t").blocks[0].bits) - 32  # what was put there for the first row
    assert 0.99 * bound <= bits <= 1.02 * bound


def test_bits_back_of_a_mixed_frame(frame, tmp_path):
    fit = pg.fit("vae", frame.drop(columns="note"), latent=2, hidden=(16,), max_steps=60, progress=False)
    few = frame.iloc[:60]
    fit.compress(few, tmp_path / "t")
    pd.testing.assert_frame_equal(pg.decompress(tmp_path / "t", fit), few, check_exact=True)


def test_bits_back_refuses_priors_that_it_has_no_intervals_of(binary, tmp_path):
    fit = pg.fit("vae", binary, latent=2, latent_prior="mixture", hidden=(8,), max_steps=5, progress=False)
    with pytest.raises(pg.CapabilityError, match="one site of independent normals"):
        fit.compress(binary, tmp_path / "t")
    assert not list(tmp_path.iterdir())


def test_parts_are_all_rows_once():
    for rows in (0, 1, 5, 100, 3000):
        assert np.concatenate([np.arange(rows)[part] for part in parts(rows)] or [[]]).tolist() == list(range(rows))


# ----------------------------------------------------------------------------------------------------- cell by cell
def pictures(rows, seed=0):
    """Squares of five pixels, bright where a label says so, of four grey levels; a tenth of the cells is unknown."""
    rng = np.random.default_rng(seed)
    label = rng.integers(2, size=rows)
    grey = rng.binomial(3, np.where(label[:, None, None] == np.indices((5, 5)).sum(0) % 2, 0.8, 0.2))
    return pg.Table.from_images(grey, levels=4, others={"label": [("even", "odd")[at] for at in label]})


@pytest.fixture(scope="module")
def pixel_by_pixel():
    return pg.fit("pixel_cnn", pictures(400), hidden=(8, 8), max_steps=60, seed=0, progress=False)


def test_pictures_cost_their_exact_densities(pixel_by_pixel, tmp_path):
    test = pictures(700, 1)
    pixel_by_pixel.compress(test, tmp_path / "t")
    assert pg.decompress(tmp_path / "t", pixel_by_pixel).values.tobytes() == test.values.tobytes()
    said = -pixel_by_pixel.log_prob(test).value.sum() * BITS / 8
    assert said <= len(unpacked(tmp_path / "t").blocks[0].bits) <= 1.002 * said + 4


def test_holes_in_pictures_and_in_their_labels_come_back(pixel_by_pixel, tmp_path):
    whole = pictures(60, 2)
    test = whole.with_values(np.where(np.random.default_rng(0).random(whole.values.shape) < 0.2, np.nan, whole.values))
    pixel_by_pixel.compress(test, tmp_path / "t", rows=25)
    assert pg.decompress(tmp_path / "t", pixel_by_pixel).values.tobytes() == test.values.tobytes()
    some = pg.decompress(tmp_path / "t", pixel_by_pixel, rows=slice(20, 31))
    assert some.values.tobytes() == test.values[20:31].tobytes()


@pytest.fixture(scope="module")
def said():
    """Words of three lengths, a level beside."""
    rng = np.random.default_rng(3)
    word = rng.choice(["a", "ba", "bab", ""], 300)
    return pg.Table.from_parts(
        {"word": pg.Texts([str(w) for w in word]), "long": ["no" if len(w) < 2 else "yes" for w in word]}
    )


def test_texts_of_rows_cost_their_exact_densities(said, tmp_path):
    fit = pg.fit("conditional_transformer", said, width=16, max_steps=40, learning_rate=3e-3, seed=0, progress=False)
    for table in (said, said.take([0]), said.take([1, 5]), said.take([])):
        fit.compress(table, tmp_path / "t", overwrite=True)
        assert pg.decompress(tmp_path / "t", fit).values.tobytes() == table.values.tobytes()
    fit.compress(said, tmp_path / "t", overwrite=True)
    cost = -fit.log_prob(said).value.sum() * BITS / 8
    assert cost <= len(unpacked(tmp_path / "t").blocks[0].bits) <= 1.01 * cost + 4
    assert pg.decompress(tmp_path / "t", fit).texts("word") == said.texts("word")
    holes = said.with_values(np.where(np.random.default_rng(0).random(said.values.shape) < 0.3, np.nan, said.values))
    fit.compress(holes, tmp_path / "t", overwrite=True)
    assert pg.decompress(tmp_path / "t", fit).values.tobytes() == holes.values.tobytes()


def test_letters_behind_the_end_of_a_text_are_refused(said, tmp_path):
    fit = pg.fit("conditional_transformer", said, width=16, max_steps=2, seed=0, progress=False)
    values = said.values.copy()
    values[4, :2] = [said.schema.columns[0].cardinality - 1, 0]
    with pytest.raises(pg.DataError, match=r"Row 4 .* behind the end"):
        fit.compress(said.with_values(values), tmp_path / "t")
    assert not list(tmp_path.iterdir())


def test_numbers_that_cannot_be_listed_are_refused_cell_by_cell(said, tmp_path):
    frame = pd.DataFrame({"a": np.arange(40) / 7, "b": list("xy") * 20})
    fit = pg.fit("conditional_transformer", frame, width=16, max_steps=2, seed=0, progress=False)
    with pytest.raises(pg.CapabilityError, match="column 'a' is real"):
        fit.compress(frame, tmp_path / "t")


# -------------------------------------------------------------------------------------------------------- sequences
@pytest.mark.parametrize("covariance", [None, "full"])
def test_sequences_cost_what_the_forward_pass_says(covariance, tmp_path):
    rng, sequences = np.random.default_rng(10), []
    for length in rng.integers(3, 40, 60):
        z = np.cumsum(rng.random(length) < 0.2) % 3
        x = np.stack([np.round(rng.normal(3 * z, 1), 1), rng.poisson(1 + 2 * z), z == 2], 1)
        x[rng.random(length) < 0.1, 0] = np.nan
        sequences.append(x)
    table = pg.Table.from_sequences(sequences)
    fit = pg.fit("hidden_markov", table, states=3, covariance=covariance, restarts=2, progress=False)
    fit.compress(table, tmp_path / "t", rows=40)
    back = pg.decompress(tmp_path / "t", fit)
    assert back.values.tobytes() == table.values.tobytes()
    assert back.lengths.tolist() == table.lengths.tolist()
    some = pg.decompress(tmp_path / "t", fit, rows=slice(45, 50))
    assert some.values.tobytes() == table.take(range(45, 50)).values.tobytes()
    assert some.lengths.tolist() == table.lengths[45:50].tolist()
    stored = dissected(table, fit.schema)
    nats = np.asarray(fit.log_prob(table)).sum() + stored.known[:, 0].sum() * np.log(0.1)
    said = -nats * BITS / 8 + bytes_of_holes(stored.known)
    coded = sum(len(block.bits) for block in unpacked(tmp_path / "t").blocks)
    assert 0.98 * said <= coded <= 1.01 * said + 8
    with pytest.raises(pg.DataError, match="model of sequences"):
        fit.compress(table.sequence(0), tmp_path / "u")


# --------------------------------------------------------------------------------------------------------- refusals
def test_a_byte_changed_or_lost_is_refused(classes, binary, tmp_path):
    path = tmp_path / "t"
    classes.compress(binary.take(range(200)), path)
    whole = path.read_bytes()
    for at in range(4, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        with pytest.raises(pg.DataError, match="damaged"):
            pg.decompress(path, classes)
    for size in range(4, len(whole), 11):
        path.write_bytes(whole[:size])
        with pytest.raises(pg.DataError, match="damaged"):
            pg.decompress(path, classes)
    for content, said in (
        (b"", "no table"),
        (whole[:3], "no table"),
        (whole + b"\0", "damaged"),
        (b"PK" + whole, "no table"),
        (b"pgz\x09" + whole[4:], "format 9"),
    ):
        path.write_bytes(content)
        with pytest.raises(pg.DataError, match=said):
            pg.decompress(path, classes)


def test_another_model_is_refused(classes, binary, tmp_path):
    classes.compress(binary, tmp_path / "t")
    for other in (
        pg.fit("latent_class", binary.take(range(2000)), components=2, progress=False),
        pg.fit("latent_class", binary.select(list("fedcba")), components=2, progress=False),
        pg.fit("naive_bayes", binary, progress=False),
    ):
        assert identity(other) != identity(classes)
        with pytest.raises(pg.DataError, match="another model"):
            pg.decompress(tmp_path / "t", other)


def test_the_units_of_columns_are_part_of_a_model():
    """Twice the unit leaves the weights as they are, to the last bit."""
    x = np.random.default_rng(0).normal(size=(60, 2))
    first, second = (pg.fit("gaussian_mixture", pg.Table(k * x), components=1, progress=False) for k in (1, 2))
    states = [fit.posterior.theta() for fit in (first, second)]
    assert all(
        (states[0][name][key] == value).all() for name, part in states[1].items() for key, value in part.items()
    )
    assert identity(first) != identity(second)


def test_a_checksum_is_of_holes_as_well():
    numbers, known = np.zeros((3, 2), np.int64), np.ones((3, 2), bool)
    holed = known & (np.arange(2) < 1)
    assert len({checksum(numbers, known), checksum(numbers, holed), checksum(numbers + 1, known)}) == 3


def test_noughts_of_a_semicontinuous_column_cost_their_own_probability(tmp_path):
    rng = np.random.default_rng(13)
    amount = np.where(rng.random(3000) < 0.9, 0.0, np.round(rng.exponential(20, 3000) + 0.01, 2))
    frame = pd.DataFrame({"amount": amount, "other": rng.normal(size=3000).round(1)})
    schema = pg.Table(frame).schema.with_kind("amount", "semicontinuous")
    fit = pg.fit("latent_class", pg.Table(frame, schema=schema), components=1, progress=False)
    fit.compress(frame, tmp_path / "t")
    coded = sum(len(block.bits) for block in unpacked(tmp_path / "t").blocks)
    assert 0.98 <= coded / bytes_said(fit, dissected(frame, schema)) <= 1.01


def test_rows_that_a_decoder_gets_wrong_are_told(classes, binary, tmp_path):
    """Another machine's arithmetic: a block whose cells are not those of its checksum."""
    classes.compress(binary, tmp_path / "t")
    file = unpacked(tmp_path / "t")
    block = file.blocks[0]
    for bits in (block.bits[:50] + bytes([block.bits[50] ^ 1]) + block.bits[51:], b"\xff" * len(block.bits)):
        wrong = type(file)(file.model, file.header, file.rest, [type(block)(block.check, bits)])
        (tmp_path / "t").write_bytes(packed(wrong))
        with pytest.raises(pg.DataError, match="Block 0 does not decode"):
            pg.decompress(tmp_path / "t", classes)


def test_nothing_is_written_or_replaced_unasked(classes, binary, tmp_path):
    path = tmp_path / "t"
    path.write_text("mine")
    with pytest.raises(pg.DataError, match="overwrite=True"):
        classes.compress(binary, path)
    with pytest.raises(pg.DataError, match="no column"):
        classes.compress(binary.to_pandas().drop(columns="a"), path, overwrite=True)
    with pytest.raises(pg.DataError, match="There is no folder"):
        classes.compress(binary, tmp_path / "nowhere" / "t")
    assert path.read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(pg.DataError, match="There is no file"):
        pg.decompress(tmp_path / "none", classes)


def test_files_of_others_stay_and_nothing_half_written_does(classes, binary, tmp_path, monkeypatch):
    path = tmp_path / "t"
    (tmp_path / "t.part").write_text("mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(pg.DataError, match="is a folder"):
        classes.compress(binary, tmp_path / "folder", overwrite=True)
    classes.compress(binary, path)
    whole, replace = path.read_bytes(), type(path).replace
    monkeypatch.setattr(type(path), "replace", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        classes.compress(binary.take(range(9)), path, overwrite=True)
    monkeypatch.setattr(type(path), "replace", replace)
    assert path.read_bytes() == whole
    assert (tmp_path / "t.part").read_text() == "mine"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["folder", "t", "t.part"]


def test_levels_that_are_numbers_are_not_those_that_look_like_them(tmp_path):
    frame = pd.DataFrame({"u": [1, 2, 1, 2, 2] * 9, "v": [0, 3, 3, 0, 3] * 9})
    fits = []
    for cells, u, v in ((frame, [1, 2], [0, 3]), (frame.astype(str), ["1", "2"], ["0", "3"])):
        schema = pg.Table(cells).schema.with_kind("u", "categorical", u).with_kind("v", "categorical", v)
        fits.append(pg.fit("naive_bayes", pg.Table(cells, schema=schema), progress=False))
    fits[0].compress(pg.Table(frame, schema=fits[0].schema), tmp_path / "t")
    fits[0].save(tmp_path / "m.probgen")
    assert pg.decompress(tmp_path / "t", pg.load(tmp_path / "m.probgen")).to_pandas()["u"][0] == 1
    with pytest.raises(pg.DataError, match="another model"):
        pg.decompress(tmp_path / "t", fits[1])


def test_models_without_a_density_of_rows_are_refused(binary, tmp_path):
    fit = pg.fit("gan", binary, max_steps=2, progress=False)
    with pytest.raises(pg.CapabilityError, match="cannot compress"):
        fit.compress(binary, tmp_path / "t")


# ------------------------------------------------------------------------------------------------------------ pieces
def coded(walk):
    """What a walk writes, and what it reads again."""
    writer = Writer()
    walk(writer)
    bits = writer.finish()
    return len(bits), walk(Reader(bits))


def test_a_known_joint_normal_costs_its_exact_masses():
    """Against scipy: the second of two correlated numbers, by the mass of each interval under its conditional."""
    rng = np.random.default_rng(3)
    joint = multivariate_normal([1.0, -2.0], [[4.0, 1.9], [1.9, 1.0]])
    x = np.round(joint.rvs(2000, random_state=rng), 2)
    middle, spread = -2 + 1.9 / 4 * (x[:, 0] - 1), np.sqrt(1 - 1.9**2 / 4)
    reading = Reading("decimal", *(round(v * 100) for v in (x[:, 1].min(), x[:, 1].max())), unit=2)
    low, high = reading.edges(np.array([reading.low, reading.high + 1]))

    def log_density(at):
        return joint.logpdf(np.stack([np.broadcast_to(x[:, :1], at.shape), at], -1))

    found = fitted_density(log_density, first_knots(low, high, -2.0, 1.0), len(x))
    numbers = np.round(x[:, 1] * 100).astype(np.int64)
    edges = reading.edges(np.stack([numbers, numbers + 1], 1))
    ours = np.diff(found.cumulative(edges), axis=1)[:, 0] / found.before[:, -1]
    ends = norm.cdf([[low], [high]], middle, spread)
    exact = np.diff(norm.cdf(edges, middle[:, None], spread), axis=1)[:, 0] / (ends[1] - ends[0])
    assert -np.log2(ours).mean() == pytest.approx(-np.log2(exact).mean(), rel=2e-3)
    chain = ChainRule.__new__(ChainRule)
    size, back = coded(lambda coder: chain.digits(coder, reading, found, numbers))
    assert (back == numbers).all()
    assert size == pytest.approx(-np.log2(exact).sum() / 8, rel=5e-3)


@pytest.mark.parametrize("covariance", ["full", "tied", "diagonal"])
def test_the_short_way_is_what_densities_say(covariance, frame):
    """Conditionals of the components' Gaussians beside those found by asking for densities alone."""
    fit = pg.fit("gaussian_mixture", frame.drop(columns="note"), components=3, covariance=covariance, progress=False)
    stored = dissected(frame, fit.schema)
    chain = ChainRule(fit, stored.readings)
    assert chain.coupled is not None
    values = pg.Table(frame.drop(columns="note"), schema=fit.schema).values
    for name in ("x", "y", "day"):
        place = fit.schema.index(name)
        before = np.where(np.arange(values.shape[1]) < place, values, np.nan)[:40]
        reading = stored.readings[place]
        edges = np.broadcast_to(
            reading.edges(np.linspace(reading.low, reading.high + 1, 30).astype(np.int64)), (40, 30)
        )
        short = np.diff(chain.density(place, reading, before).cumulative(edges), axis=1)
        chain.coupled, kept = None, chain.coupled
        asked = np.diff(chain.density(place, reading, before).cumulative(edges), axis=1)
        chain.coupled = kept
        shares = [part / part.sum(1, keepdims=True) for part in (short, asked)]
        np.testing.assert_allclose(*shares, atol=0.01)


def test_a_line_between_knots_has_the_integral_that_it_has():
    heights = np.array([[0.0, 2.0, 2.0, -50.0]])
    made = Piecewise(np.array([[0.0, 1.0, 3.0, 4.0]]), heights)
    grid = np.linspace(0, 4, 400_001)
    density = np.exp(np.interp(grid, [0, 1, 3, 4], heights[0] - 2))
    total = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)]) * (grid[1] - grid[0])
    at = np.array([0.3, 1.0, 2.2, 3.05, 4.0])
    np.testing.assert_allclose(made.cumulative(at[None])[0], np.interp(at, grid, total), rtol=1e-6)


@pytest.mark.parametrize("span", [2, 16, 17, 5000, 2**40, 2**58])
def test_digits_of_any_span_come_back(span):
    rng = np.random.default_rng(4)
    numbers = np.append(rng.integers(0, span, 200), [0, span - 1])
    reading = Reading("decimal", -7, span - 8)
    low, high = reading.edges(np.array([reading.low, reading.high + 1]))
    even = Piecewise(np.broadcast_to([low, high], (202, 2)), np.zeros((202, 2)))
    chain = ChainRule.__new__(ChainRule)
    size, back = coded(lambda coder: chain.digits(coder, reading, even, numbers - 7))
    assert (back == numbers - 7).all()
    assert size <= 202 * np.log2(span) / 8 * 1.001 + 8


def test_a_stack_gives_back_what_went_onto_it_and_what_lay_under_it():
    rng = np.random.default_rng(5)
    shares = poisson.pmf(np.arange(12), 3.0 + rng.random((500, 1)))
    symbols = rng.integers(0, 12, 500)
    under = rng.integers(1, 2**32, 20, dtype=np.uint64).astype(np.uint32)
    stack, record = Stack(under.copy()), Recorder()
    record.code(shares, symbols)
    record.bits(40, symbols << 33)
    stack.push(record)
    again = Stack.of(stack.finish())
    assert (again.code(shares, symbols * 0) == symbols).all()
    assert (again.bits(40, symbols * 0) == symbols << 33).all()
    assert again.finish() == under.tobytes()


@pytest.mark.parametrize("columns", [1, 4, 70])
def test_holes_cost_their_entropy(columns):
    rng = np.random.default_rng(6)
    known = rng.random((4000, columns)) < 0.8
    known[:, 1::3] = True
    told = describe_holes(known)
    size, back = coded(lambda coder: code_holes(coder, known, told))
    assert (back == known).all()
    varied = (~known.all(0)).sum()
    assert size <= 1.01 * varied * 4000 * -(0.8 * np.log2(0.8) + 0.2 * np.log2(0.2)) / 8 + 8


def test_texts_come_back_and_cost_what_is_new_in_them():
    rng = np.random.default_rng(8)
    texts = [f"seen by {'ABCDEFG'[i]}, ward {j}" for i, j in rng.integers(0, 7, (5000, 2))]
    size = len(packed_texts(texts))
    assert size <= 1.1 * 5000 * 2 * np.log2(7) / 8 + 200
    odd = [None, "", "ä€𝄞", "a\0b", "\1", *texts[:40], "x" * 300, None]
    for some in (odd, texts[:1], [], [None], [""]):
        assert unpacked_texts(packed_texts(some), len(some)) == some
    assert unpacked_texts(packed_texts(texts), 5000) == texts


def test_texts_cost_what_the_formula_says():
    """Witten and Bell's estimate by a plain dictionary, piece after piece."""
    rng = np.random.default_rng(12)
    texts = ["".join(rng.choice(list("abra"), rng.integers(1, 9))) for _ in range(120)]
    counts, bits = [{} for _ in range(6)], 0.0
    for part in pieces(len(texts)):
        seen = []
        for text in texts[part]:
            symbols = [*text.encode(), 256]
            for at, symbol in enumerate(symbols):
                share, past = 1 / 258, [256] * 5 + symbols[:at]
                for order in range(6):
                    context = tuple(past[len(past) - order :])
                    followed = counts[order].get(context, {})
                    different = max(len(followed), 1)
                    share = (followed.get(symbol, 0) + different * share) / (sum(followed.values()) + different)
                    seen.append((order, context, symbol))
                bits -= np.log2(share)
        for order, context, symbol in seen:
            followed = counts[order].setdefault(context, {})
            followed[symbol] = followed.get(symbol, 0) + 1
    meter = Meter()
    walk(meter, len(texts), symbols_of(texts))
    assert meter.bits_spent == pytest.approx(bits, rel=1e-3)  # contexts may share a slot


def test_holes_that_follow_the_one_before_cost_what_a_chain_says():
    rng = np.random.default_rng(11)
    changes = np.hstack([rng.random((3000, 1)) < 0.5, rng.random((3000, 39)) < 0.1])
    known = np.cumsum(changes, axis=1) % 2 == 0
    size, back = coded(lambda coder: code_holes(coder, known, describe_holes(known)))
    assert (back == known).all()
    chain = 3000 * (1 + 39 * -(0.1 * np.log2(0.1) + 0.9 * np.log2(0.9))) / 8
    assert size <= 1.02 * chain + 8


def test_holes_that_come_together_cost_once():
    known = np.repeat(np.random.default_rng(7).random((4000, 1)) < 0.5, 30, axis=1)
    size, _ = coded(lambda coder: code_holes(coder, known, describe_holes(known)))
    assert size <= 4000 / 8 + 8
