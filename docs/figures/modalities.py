"""The figures of one kind of data given another, from the fits that ``KEPT=folder/case CASES=case python -m benchmarks modalities`` kept of every case:
``PROBGEN_DATA=... python docs/figures/modalities.py folder [pictures photographs sounds]``.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib import pyplot

import probgen as pg
from benchmarks._modalities import WORDS, Voices, colouring, composed, enlarging, photographs, right, small_digits

HERE, KEPT, SPEAKER = Path(__file__).parent, Path(sys.argv[1]), "conditional_gan"
ASKED = (
    "a bright seven beside a dim three",
    "a dim seven beside a bright three",
    "a bright zero beside a bright eight",
    "a dim five beside a dim two",
    "a bright four beside a dim nine",
    "a dim six beside a bright one",
)


def fits(case):
    return [pg.load(path) for path in sorted((KEPT / case).glob("*.probgen"), key=lambda path: path.stem)]


def shown(axes, picture, title="", below="", **how):
    axes.imshow(picture, **({"cmap": "gray_r", "vmin": 0, "vmax": 1} if picture.ndim == 2 else {}), **how)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=8)
    axes.set_xlabel(below, fontsize=7)
    axes.spines[:].set_visible(False)


def pictures():
    """Six captions and what is drawn of each; twelve pictures and what is said of each."""
    (draws,), (says,) = fits("pictures"), fits("captions")
    draws.program.temperature = 0.6
    figure, axes = pyplot.subplots(6, 6, figsize=(9, 8), layout="constrained", height_ratios=(1, 1, 1, 1, 2, 2))
    asked = pg.Table.from_parts({"caption": pg.Texts(ASKED)}, schema=draws.schema)
    for row, drawn in enumerate(draws.fill(asked, 4, seed=1)):
        for at, picture in enumerate(drawn.images("picture")[..., 0] / 3):
            shown(axes[row, at], picture, ASKED[at].replace(" beside ", "\nbeside ") if row == 0 else "")
    found, texts = composed(*small_digits("test", 14), 12, 5)
    table = pg.Table.from_parts({"picture": pg.Pictures(np.round(15 * found), levels=16)}, schema=says.schema)
    said = says.most_probable(table).texts("caption")
    for at, (picture, text, truth) in enumerate(zip(found, said, texts, strict=True)):
        words = text.replace(" beside ", "\nbeside ").replace(" above ", "\nabove ")
        shown(axes[4 + at // 6, at % 6], picture, "", words if text == truth else f"{words}\n(wrong)")
    axes[0, 0].set_ylabel("drawn of\nthe caption", fontsize=8)
    axes[4, 0].set_ylabel("said of\nthe picture", fontsize=8)
    figure.savefig(HERE / "captions.png", dpi=100)


def mosaic(tiles, number, window):
    """Patches of eight by eight, the middle of windows of some size, put together: of the first or the second photograph."""
    height, width = right(photographs()[0]).shape[:2]
    rows, columns = ((size - window) // 8 + 1 for size in (height, width))
    some = tiles[number * rows * columns : (number + 1) * rows * columns]
    whole = some.reshape(rows, columns, 8, 8, *some.shape[3:]).swapaxes(1, 2)
    return whole.reshape(rows * 8, columns * 8, *some.shape[3:]).clip(0, 255) / 255


def drawn_of(fit, table, name, draws=20):
    """The mean of some draws, and one of them."""
    found = [one.images(name) for one in fit.fill(table.hide(name), draws, seed=0)]
    return np.mean(found, 0), found[0]


def enlarged():
    """Twice as large: columns of one figure."""
    told = enlarging()["test"]
    mean, draw = drawn_of(fits("super_resolution")[-1], told.table, "large")
    small = told.table.images("small")[:, 2:6, 2:6, 0].repeat(2, 1).repeat(2, 2)
    found = {
        "half the size": small,
        "bicubic": told.bicubic,
        "mean of 20 draws": mean[..., 0],
        "one draw": draw[..., 0],
        "as it was": told.clean,
    }
    return {title: mosaic(values, 0, 16)[40:200, 20:180] for title, values in found.items()}


def coloured():
    tables, clean = colouring()
    table = tables["test"]
    mean, draw = drawn_of(fits("colours")[-1], table, "coloured")
    found = {
        "grey": table.images("grey").repeat(3, 3),
        "mean of 20 draws": mean,
        "one draw": draw,
        "as it was": clean["test"],
    }
    return {title: mosaic(values, 1, 8)[100:300, :200] for title, values in found.items()}


def photographs_of_two():
    """A temple twice as large, a flower in colours."""
    figure, axes = pyplot.subplots(2, 5, figsize=(11, 4.7), layout="constrained")
    for row, columns in zip(axes, (enlarged(), coloured()), strict=True):
        for at, axis in enumerate(row):
            axis.set_axis_off()
            if at < len(columns):
                title, picture = list(columns.items())[at]
                axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
                axis.set_title(title, fontsize=9)
    figure.savefig(HERE / "photographs.png", dpi=100)


def sounds():
    """Words as they were recorded and as they are drawn."""
    from scipy.io import wavfile

    model, voices = next(fit for fit in fits("voices") if fit.name == SPEAKER), Voices()
    asked = pg.Table.from_parts({"word": pg.Texts(WORDS), "speaker": ["jackson"] * 10}, schema=model.schema)
    drawn = model.fill(asked, 1, seed=3)[0]
    real = [np.flatnonzero((voices.digit == digit) & (voices.speaker == "jackson"))[0] for digit in range(10)]
    cut = [voices.recordings[at][: int(0.8 * voices.rate)] for at in real]
    heard = pg.Sounds(cut, voices.rate, bands=32, seconds=0.8, step=0.0125, floor=-60.0)
    recorded = pg.Table.from_parts({"speech": heard}, schema=model.schema)
    figure, axes = pyplot.subplots(2, 10, figsize=(12, 3.4), layout="constrained", sharey=True)
    for row, (title, table) in zip(axes, {"recorded": recorded, "drawn": drawn}.items(), strict=True):
        for word, axis, picture in zip(WORDS, row, table.images("speech")[..., 0], strict=True):
            axis.imshow(picture.T, origin="lower", aspect="auto", cmap="magma", vmin=-60, vmax=0)
            axis.set(xticks=[], yticks=[])
            axis.set_title(word if title == "recorded" else "", fontsize=9)
        row[0].set_ylabel(title, fontsize=9)
    figure.savefig(HERE / "voices.png", dpi=100)
    waves = drawn.sounds("speech", 0)
    wavfile.write(
        HERE / "voices.wav", voices.rate, (np.concatenate(waves) * 25_000).clip(-32_000, 32_000).astype(np.int16)
    )


DRAWN = {"pictures": pictures, "photographs": photographs_of_two, "sounds": sounds}
for name in sys.argv[2:] or DRAWN:
    DRAWN[name]()
