"""Texts, sounds and pictures inside of rows."""

import numpy as np
import pytest

import probgen as pg
from probgen.data.batches import Standardiser
from probgen.data.groups import Sound, Tokens
from probgen.data.schema import Column, Schema
from probgen.errors import CapabilityError, DataError, SchemaError

librosa = pytest.importorskip("librosa", reason="sounds need librosa")
RATE = 8000


def tones(*pitches, seconds=0.3):
    """Recordings of pure tones."""
    at = np.arange(int(seconds * RATE)) / RATE
    return [np.sin(2 * np.pi * pitch * at) for pitch in pitches]


@pytest.fixture
def table():
    return pg.Table.from_parts({
        "word": pg.Texts(["at", None, "", "hat"]),
        "said": pg.Texts([["AE", "T"], "HH AE T", None, ["HH"]], tokens="words"),
        "size": [1.5, 2.5, None, 4.5],
        "picture": pg.Pictures(np.arange(16).reshape(4, 2, 2), levels=16),
        "sound": pg.Sounds([*tones(500, 1000, 1500), None], RATE, bands=8),
    })  # fmt: skip


def test_what_goes_in_comes_out(table):
    assert table.texts("word") == ["at", None, "", "hat"]
    assert table.texts("said") == ["AE T", "HH AE T", None, "HH"]
    np.testing.assert_array_equal(table.images("picture")[..., 0], np.arange(16).reshape(4, 2, 2))
    assert table.column("size")[:2].tolist() == [1.5, 2.5]
    assert [group.name for group in table.schema.groups] == ["picture", "sound", "word", "said"]
    assert table.schema.explain().splitlines()[0].startswith("word     text of up to 3 characters")


def test_unknown_parts_are_holes_and_a_half_known_text_is_none(table):
    assert not table.known[1, :3].any()
    assert table.hide("word[1]").texts("word") == [None, None, "", None]
    assert table.hide("said", "sound").known[0].sum() == 3 + 1 + 4
    np.testing.assert_array_equal(table.known[3][-table.schema.image("sound").pixels :], False)


def test_the_schema_is_saved_with_what_belongs_together(table):
    again = Schema.from_json(table.schema.to_json())
    assert again == table.schema
    sound = again.image("sound")
    assert isinstance(sound, Sound)
    assert (sound.rate, sound.window, sound.step) == (RATE, 200, 80)


def test_a_table_of_the_same_parts_may_lack_some_and_have_others_order(table):
    asked = pg.Table.from_parts({"size": [3.0], "word": pg.Texts(["ah"])}, schema=table.schema)
    assert asked.schema == table.schema
    assert (asked.texts("word"), asked.texts("said")) == (["ah"], [None])
    assert asked.known.sum() == 4


def test_parts_of_a_table_stay_whole_or_become_columns(table):
    assert table.select(table.schema.columns_named(["said", "size"])).schema.tokens == (Tokens("said", 3, "words"),)
    assert table.drop(["word[0]"]).schema.tokens == (Tokens("said", 3, "words"),)
    assert table.select(["said", "size"]).names == ("said[0]", "said[1]", "said[2]", "size")
    assert table.select("word").texts() == table.texts("word")
    assert table.drop(["word", "sound"]).names == table.drop(["sound"]).drop("word").names
    with pytest.raises(
        SchemaError, match=r"'word' is no column but a text of up to 3 characters, columns 'word\[0\]'"
    ):
        table.column("word")


def test_parts_may_be_read_once():
    table = pg.Table.from_parts(
        {"a": pg.Texts(text for text in ["ab", "c"]), "b": pg.Sounds(iter(tones(500, 600)), RATE)}
    )
    assert table.texts() == ["ab", "c"]
    assert table.known.all()


def test_loudness_is_that_of_librosa():
    (wave,) = tones(1000)
    sound = Sound("a", (31, 12), rate=RATE, window=200, step=80)
    table = pg.Table.from_parts({"a": pg.Sounds([wave, 0.01 * wave], RATE, bands=12)})
    power = librosa.feature.melspectrogram(y=wave, sr=RATE, n_fft=256, win_length=200, hop_length=80, n_mels=12)
    expected = librosa.power_to_db(power, ref=np.max, top_db=80).T
    np.testing.assert_allclose(table.images("a")[0, ..., 0], expected, atol=1e-8)
    np.testing.assert_allclose(*table.images("a"), atol=1e-6)  # how loud the whole is does not matter
    assert table.schema.image("a") == sound


def bands_of(recording, **options):
    """``(T, F)`` decibels of one recording."""
    return pg.Table.from_parts({"a": pg.Sounds([recording], RATE, bands=8, **options)}).images()[0, ..., 0]


def test_silence_is_silent_and_how_numbers_are_stored_does_not_matter():
    assert (bands_of(np.zeros(2400)) == -80).all()
    wave = np.random.default_rng(0).uniform(-1, 1, 2400)
    expected = bands_of(wave)
    assert expected.max() == 0
    np.testing.assert_allclose(bands_of(1e-11 * wave), expected, atol=1e-6)
    for bits, still in ((np.int16, 0), (np.int64, 0), (np.uint8, 128), (np.uint16, 2**15)):
        loud = np.iinfo(np.int16).max if bits is np.int64 else np.iinfo(bits).max - still
        np.testing.assert_allclose(bands_of(np.round(wave * loud + still).astype(bits)), expected, atol=0.1)


def test_sounds_as_long_as_was_said_and_very_short_ones():
    (wave,) = tones(500)
    table = pg.Table.from_parts({"a": pg.Sounds([wave, wave[:1], float("nan")], RATE, bands=8, seconds=0.3)})
    assert table.schema.image("a").seconds == pytest.approx(0.3)
    assert (table.images()[1, 1:] == -80).all()
    assert not table.known[2].any()
    assert table.take([0, 1]).sounds().shape == (2, 2400)
    assert pg.Table.from_parts({"a": pg.Sounds([wave[:100]], RATE, bands=8)}).sounds().shape == (1, 80)
    assert pg.Table.from_parts({"a": pg.Sounds([wave[:1]], RATE, bands=8)}).sounds().shape == (1, 0)


def test_sounds_come_back_with_their_pitch():
    pitches = (500, 1000, 2000)
    table = pg.Table.from_parts({"a": pg.Sounds(tones(*pitches), RATE, bands=60)})
    waves = table.sounds()
    np.testing.assert_array_equal(waves, table.sounds("a"))
    for wave, pitch in zip(waves, pitches, strict=True):
        loudest = np.fft.rfftfreq(len(wave), 1 / RATE)[np.abs(np.fft.rfft(wave)).argmax()]
        assert loudest == pytest.approx(pitch, rel=0.06)  # within a band
    with pytest.raises(DataError, match="unknown cells in row 0"):
        table.hide("a").sounds()
    with pytest.raises(SchemaError, match="Expected the name of one sound"):
        table.sounds("b")


def test_one_scale_for_all_moments_of_a_sound():
    rng = np.random.default_rng(0)
    table = pg.Table.from_parts({
        "label": rng.choice(["a", "b"], 30), "sound": pg.Sounds(list(rng.normal(size=(30, 800))), RATE, bands=4),
    })  # fmt: skip
    scale = Standardiser.of(table).scale[1:]
    assert np.ptp(scale) == 0
    cells = table.images("sound")
    assert scale[0] == pytest.approx(cells.std())


def test_words_rare_ones_and_lists():
    texts = pg.Texts(["a b a", "a c", "b b"], tokens="words", rare=2)
    table = pg.Table.from_parts({"t": texts})
    assert table.schema.columns[0].levels == ("a", "b", "<unk>", "<end>")
    new = pg.Table.from_parts({"t": pg.Texts(["a z"])}, schema=table.schema)
    assert new.texts() == ["a <unk>"]
    told = pg.Table.from_parts({"t": pg.Texts(["a <unk> a <unk> b"], tokens="words", rare=2)})  # as some corpora come
    assert told.texts() == ["a <unk> a <unk> <unk>"]
    steps = pg.Table.from_text(["to be or not", "to be"], tokens="words")
    assert steps.texts() == ["to be or not", "to be"]
    assert steps.lengths.tolist() == [5, 3]
    for texts, says in ((["to be", " "], "Text 1 has no token, only blanks"), ([" ", " "], "The texts have no token")):
        with pytest.raises(DataError, match=says):
            pg.Table.from_text(texts, tokens="words")


def test_byte_pairs_inside_of_rows():
    pytest.importorskip("tokenizers")
    texts = ["the cat sat on the mat", "the dog sat on the log"] * 5
    table = pg.Table.from_parts({"t": pg.Texts(texts, tokens=270)})
    assert table.texts() == texts
    assert table.schema.tokens[0].length < len(texts[0])


@pytest.mark.parametrize(
    ("parts", "error", "says"),
    [
        ({}, DataError, "no part"),
        ({"a": pg.Texts(["x", 3])}, DataError, r"Text 1: expected a string or a list of tokens, got 3 \(int\)"),
        ({"a": pg.Texts([None, ""])}, DataError, "nothing to read in 2 texts"),
        ({"a": pg.Texts([["x", "y"]])}, DataError, "tokens='words'"),
        ({"a": pg.Texts([["x y"]], tokens="words")}, DataError, "'x y' is empty or has a blank inside"),
        ({"a": pg.Texts(["abc"], length=2)}, DataError, "row 0: 'abc' has 3 tokens.*at most 2.*length=3"),
        ({"a": pg.Texts(["abc"], tokens="sylables")}, SchemaError, "tokens must be"),
        ({"a": pg.Texts(["x"]), "b": [1.0, 2.0]}, DataError, "'b' has 2 rows, and 'a' has 1"),
        ({"a": pg.Texts(["  "], tokens="words")}, DataError, "nothing to read in 1 texts"),
        ({"a": pg.Texts(["a <end> b"], tokens="words")}, DataError, "the word '<end>', which says that texts end"),
        ({"a": pg.Texts(["abc"], rare=2)}, DataError, "Each of the 3 tokens comes fewer than 2 times"),
        ({"a": pg.Sounds(tones(500), RATE, step=-1)}, SchemaError, "step must be seconds above 0"),
        ({"a": pg.Sounds([np.ones(9, complex)], RATE)}, DataError, "Recording 0: expected numbers"),
        ({"a": pg.Sounds([None], RATE)}, DataError, "all 1 recordings are unknown"),
        ({"a": pg.Sounds([np.zeros((3, 2))], RATE)}, DataError, r"Recording 0: .*\(3, 2\)"),
        ({"a": pg.Sounds([np.array([0.0, np.nan])], RATE)}, DataError, "sample 1 is no finite number"),
        ({"a": pg.Sounds(tones(500), RATE, seconds=0.1)}, DataError, "row 0: it has 31 frames.*have 11"),
        ({"a": pg.Sounds(tones(500), RATE, bands=0)}, SchemaError, "bands"),
        ({"a": pg.Sounds(tones(500), RATE, floor=3.0)}, SchemaError, "floor must be negative"),
    ],
)
def test_bad_parts_are_refused(parts, error, says):
    with pytest.raises(error, match=says):
        pg.Table.from_parts(parts)


def test_what_a_schema_does_not_know_is_refused(table):
    with pytest.raises(DataError, match=r"'word' is a text of up to 3 characters; give pg\.Texts"):
        pg.Table.from_parts({"word": ["hat"]}, schema=table.schema)
    with pytest.raises(DataError, match="'word' has no rows"):
        pg.Table.from_parts({"word": pg.Texts([])}, schema=table.schema)
    with pytest.raises(DataError, match="'z' is none of the 3 characters"):
        pg.Table.from_parts({"word": pg.Texts(["zat"])}, schema=table.schema)
    with pytest.raises(DataError, match="'ZH' is none of the 3 words"):
        pg.Table.from_parts({"said": pg.Texts(["ZH"])}, schema=table.schema)
    with pytest.raises(DataError, match=r"'hatt' has 4 tokens"):
        pg.Table.from_parts({"word": pg.Texts(["hatt"])}, schema=table.schema)
    with pytest.raises(DataError, match=r"16000 samples a second.*8000"):
        pg.Table.from_parts({"sound": pg.Sounds(tones(500), 16000)}, schema=table.schema)
    with pytest.raises(DataError, match=r"shape \(3, 3, 1\)"):
        pg.Table.from_parts({"picture": pg.Pictures(np.zeros((1, 3, 3)))}, schema=table.schema)
    with pytest.raises(SchemaError, match=r"no column 'color'. Columns: word, said, size, picture, sound"):
        pg.Table.from_parts({"color": [1.0]}, schema=table.schema)
    with pytest.raises(SchemaError, match=r"Expected the name of one text, got None. Texts: 'word', 'said'"):
        table.texts()


def test_a_token_that_another_schema_does_not_know_is_no_hole():
    known = pg.Table.from_parts({"t": pg.Texts(["a_b", "b_a"])}).schema
    with pytest.raises(
        DataError, match=r"Column 't\[1\]', row 1: the value ' ' is none of its levels \(1 such cells\)"
    ):
        pg.Table(pg.Table.from_parts({"t": pg.Texts(["aba", "a b"])}), schema=known)
    assert pg.Table(pg.Table.from_parts({"t": pg.Texts(["aba", None])}), schema=known).texts() == ["aba", None]
    with pytest.raises(DataError, match=r"lacks column 't\[2\]'.*from_parts with this schema"):
        pg.Table(pg.Table.from_parts({"t": pg.Texts(["ab"])}), schema=known)


def test_of_thousands_of_columns_that_are_lacking_the_first_are_named():
    known = pg.Table.from_parts({"p": pg.Pictures(np.zeros((2, 28, 28), np.uint8), levels=2)}).schema
    with pytest.raises(DataError, match=r"lacks column 'p\[0,0\]', .* and 764 more; it has 'a'") as caught:
        pg.Table({"a": [1.0]}, schema=known)
    assert len(str(caught.value)) < 600


def test_unknown_pictures():
    grey = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    table = pg.Table.from_parts({"p": pg.Pictures([grey[0], None, grey[1]])})
    np.testing.assert_array_equal(table.images()[[0, 2], ..., 0], grey)
    assert not table.known[1].any()
    assert table.schema.columns[0].bounds == (0, 255)
    assert all(column.incomplete for column in table.schema)
    with pytest.raises(DataError, match="All 1 pictures are unknown"):
        pg.Table.from_parts({"p": pg.Pictures([None])})


def test_one_string_is_not_a_text_a_row():
    with pytest.raises(DataError, match="Expected a text a row, got the one string 'hat'"):
        pg.Texts("hat")


def test_groups_have_names_of_their_own():
    with pytest.raises(SchemaError, match=r"a\[0\] repeat"):
        pg.Table.from_parts({"a": pg.Texts(["x", "y"]), "a[0]": [1.0, 2.0]})
    with pytest.raises(SchemaError, match="must have the same levels"):
        Schema((Column("t[0]", "real"),), tokens=(Tokens("t", 1),))
    with pytest.raises(SchemaError, match="its name is that of something else"):
        Schema((Column("t[0]", "binary", levels=(0, 1)), Column("t", "real")), tokens=(Tokens("t", 1),))


def test_without_the_library_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "librosa", None)
    with pytest.raises(CapabilityError, match=r"pip install 'probgen\[audio\]'"):
        pg.Table.from_parts({"a": pg.Sounds(tones(500), RATE)})
