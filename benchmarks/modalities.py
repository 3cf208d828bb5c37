"""One kind of data given another: sounds to words, spellings to phonemes, pictures to captions and back, small pictures to large ones, grey ones to colours.

``CASES=spelling,speech`` chooses; ``STEPS`` is the length of training, ``SPEAKERS`` those that are held out, one after another.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import probgen as pg
from benchmarks._modalities import (
    STYLES,
    WORDS,
    Voices,
    colouring,
    composed,
    distance,
    enlarging,
    nearest,
    pronunciations,
    small_digits,
)

Line = dict[str, Any]


def steps(usual: int) -> int:
    return int(os.environ.get("STEPS", usual))


def fitted(model: str, table: pg.Table, **options: Any) -> tuple[pg.Fit, float]:
    """A fit, and its CPU seconds."""
    before = time.process_time()
    fit = pg.fit(model, table, progress=False, **{"validation_fraction": 0.0, "seed": 0, **options})
    if folder := os.environ.get("KEPT"):
        fit.save(f"{folder}/{model}_{len(list(Path(folder).iterdir()))}.probgen")
    return fit, time.process_time() - before


def spelling() -> Iterator[Line]:
    """CMU dictionary, a tenth of the words held out; against the nearest of each word's pronunciations, without stress."""
    said = pronunciations()
    words = sorted(said)
    np.random.default_rng(0).shuffle(words)
    test, train = words[: len(words) // 10], words[len(words) // 10 :]
    rows = [(word, way) for word in train for way in said[word]]
    longest = {
        "spelling": max(map(len, words)),
        "phonemes": max(len(way.split()) for ways in said.values() for way in ways),
    }
    table = pg.Table.from_parts({
        "spelling": pg.Texts([word for word, _ in rows], length=longest["spelling"]),
        "phonemes": pg.Texts([way for _, way in rows], tokens="words", length=longest["phonemes"]),
    })  # fmt: skip
    fit, seconds = fitted(
        "conditional_transformer", table, inputs="spelling", width=128, layers=3, batch_size=256, learning_rate=2e-3, max_steps=steps(1900),
    )  # fmt: skip
    asked = pg.Table.from_parts({"spelling": pg.Texts(test)}, schema=table.schema)
    for beams in (1, 8):
        before = time.process_time()
        found = fit.most_probable(asked, beams=beams).texts("phonemes")
        errors = np.array([nearest(way or "", said[word]) for way, word in zip(found, test, strict=True)])
        yield {
            "beams": beams, "phoneme_error": float(errors[:, 0].sum() / errors[:, 1].sum()), "word_error": float((errors[:, 0] > 0).mean()),
            "words": len(test), "seconds": seconds, "seconds_asked": time.process_time() - before,
        }  # fmt: skip


def speech() -> Iterator[Line]:
    """One to three digits, by a speaker who was never heard; six of them in turn."""
    voices = Voices()
    everyone = sorted(set(voices.speaker.tolist()))
    for held in os.environ.get("SPEAKERS", ",".join(everyone)).split(","):
        others = [speaker for speaker in everyone if speaker != held]
        table = voices.utterances(others, int(os.environ.get("ROWS", 16_000)), 0, change=True)
        fit, seconds = fitted(
            "conditional_transformer", table, inputs="speech", width=64, layers=2, dropout=0.2, masking=0.2, batch_size=64,
            learning_rate=2e-3, max_steps=steps(4000),
        )  # fmt: skip
        test = voices.utterances([held], 400, 1)
        right = test.texts("words")
        found = fit.most_probable(test.hide("words")).texts("words")
        wrong = sum(distance((one or "").split(), other.split()) for one, other in zip(found, right, strict=True))
        yield {
            "held_out": held, "digit_accuracy": 1 - wrong / sum(len(text.split()) for text in right),
            "utterances": float(np.mean([one == other for one, other in zip(found, right, strict=True)])), "seconds": seconds,
        }  # fmt: skip


def captions() -> Iterator[Line]:
    """What two digits of MNIST are, how bright, and where; pictures of digits that were never seen."""
    told: dict[str, pg.Table] = {}
    for split, rows in (("train", int(os.environ.get("ROWS", 40_000))), ("test", 1000)):
        found, texts = composed(*small_digits(split, 14), rows, 0)
        grey = pg.Pictures(np.round(15 * found), levels=16)
        told[split] = pg.Table.from_parts({"picture": grey, "caption": pg.Texts(texts, tokens="words")})
    fit, seconds = fitted(
        "conditional_transformer", told["train"], inputs="picture", width=64, layers=2, dropout=0.1, batch_size=64, learning_rate=2e-3,
        max_steps=steps(6000),
    )  # fmt: skip
    said, right = fit.most_probable(told["test"].hide("caption")).texts("caption"), told["test"].texts("caption")
    pairs = [
        pair for one, other in zip(said, right, strict=True) for pair in zip(one.split(), other.split(), strict=False)
    ]
    yield {
        "captions": float(np.mean([one == other for one, other in zip(said, right, strict=True)])),
        "words": float(np.mean([one == other for one, other in pairs])), "seconds": seconds,
    }  # fmt: skip


def pictures() -> Iterator[Line]:
    """Pictures of captions, pixel by pixel; a judge who saw the digits that the model learnt from says what they are of."""
    from sklearn.neural_network import MLPClassifier

    side, digits = 8, {split: small_digits(split, 8) for split in ("train", "test")}
    found, texts = composed(*digits["train"], int(os.environ.get("ROWS", 60_000)), 0, above=False)
    table = pg.Table.from_parts({
        "caption": pg.Texts(texts, tokens="words"), "picture": pg.Pictures(np.round(3 * found), levels=4),
    })  # fmt: skip
    seen = [np.round(3 * style * digits["train"][0]) for style in STYLES.values()]
    judge = MLPClassifier((256,), max_iter=15, random_state=0)
    judge.fit(np.concatenate([brightened(some) for some in seen]), np.tile(digits["train"][1], len(seen)))
    fit, seconds = fitted(
        "conditional_transformer", table, inputs="caption", width=64, layers=2, batch_size=32, learning_rate=2e-3, max_steps=steps(5000),
    )  # fmt: skip
    real, asked = composed(*digits["test"], 1000, 1, above=False)
    yield {"pictures": "of test rows", **judged(judge, np.round(3 * real), asked, side), "seconds": seconds}
    program: Any = fit.program
    for temperature in (1.0, 0.8, 0.6, 0.4):
        program.temperature, before = temperature, time.process_time()
        drawn = fit.fill(pg.Table.from_parts({"caption": pg.Texts(asked)}, schema=table.schema), 1, seed=0)[0]
        yield {
            "pictures": f"temperature {temperature:g}", **judged(judge, drawn.images("picture")[..., 0], asked, side),
            "seconds": time.process_time() - before,
        }  # fmt: skip


def brightened(digits: np.ndarray) -> np.ndarray:
    """``(N, pixels)`` pictures whose brightest pixel is 1."""
    return (digits / np.maximum(digits.max((1, 2), keepdims=True), 1)).reshape(len(digits), -1)


def judged(judge: Any, drawn: np.ndarray, captions: list[str], side: int) -> Line:
    """Shares of digits, of how bright they are, and of whole captions that are as asked; grey levels are 0 to 3."""
    digit, bright = [], []
    for picture, caption in zip(drawn, captions, strict=True):
        words = caption.split()
        for place, (style, digit_word) in enumerate((words[1:3], words[5:7])):
            part = picture[:, place * side : (place + 1) * side]
            said = judge.predict(brightened(part[None]))[0]
            digit.append(WORDS[said] == digit_word)
            bright.append((part.max() > 2) == (style == "bright"))
    both = np.reshape(digit, (-1, 2)).all(1) & np.reshape(bright, (-1, 2)).all(1)
    return {"digits": float(np.mean(digit)), "brightness": float(np.mean(bright)), "captions": float(both.mean())}


def super_resolution() -> Iterator[Line]:
    """The eight by eight pixels in the middle of sixteen by sixteen, from eight by eight of half the size; the right third of two photographs is held out."""
    from scipy.stats import multivariate_normal

    told = enlarging()
    tables, test = {name: part.table for name, part in told.items()}, told["test"].table
    large, clean, bicubic = told["test"].noisy, told["test"].clean, told["test"].bicubic
    residual = (told["train"].noisy - told["train"].bicubic).reshape(-1, 64)
    for title, spread in (("one normal a pixel", np.diag(residual.var(0))), ("one normal of all", np.cov(residual.T))):
        density = multivariate_normal(residual.mean(0), spread).logpdf((large - bicubic).reshape(-1, 64)) / 64
        yield {
            "large": f"bicubic, {title}", "psnr": psnr(bicubic, clean), "nats": float(density.mean()), "error": error_of(density),
        }  # fmt: skip
    for components in (1, 5, 10):
        fit, seconds = fitted(
            "gaussian_mixture", tables["train"], components=components, restarts=1, max_steps=steps(40)
        )
        density = (fit.log_prob(test).value - fit.log_prob(test.hide("large")).value) / 64
        mean, drawn = mean_and_draw(fit, test, "large")
        yield {
            "large": f"{components} normals", "psnr": psnr(mean[..., 0], clean), "psnr_draw": psnr(drawn[..., 0], clean),
            "nats": float(density.mean()), "error": error_of(density), "seconds": seconds, "patches": len(test),
        }  # fmt: skip


def mean_and_draw(fit: pg.Fit, test: pg.Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Of a picture that is hidden: the mean of 200 draws, and one of them."""
    drawn = [one.images(name) for seed in range(10) for one in fit.fill(test.hide(name), 20, seed=seed)]
    return np.mean(drawn, 0), drawn[0]


def error_of(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def psnr(said: np.ndarray, right: np.ndarray) -> float:
    """Peak signal to noise, in decibels."""
    return float(10 * np.log10(255**2 / np.mean((said - right) ** 2)))


def colours() -> Iterator[Line]:
    """Patches of eight by eight grey pixels to their colours; the right third of two photographs is held out."""
    tables, found = colouring()
    clean = found["test"]
    test = tables["test"]
    mean = found["train"].mean((0, 1, 2))
    grey = test.images("grey")
    yield {"coloured": "grey", "psnr": psnr(np.repeat(grey, 3, 3), clean)}
    yield {"coloured": "grey and the mean colour", "psnr": psnr(grey + mean - mean.mean(), clean)}
    for components in (1, 5, 10):
        fit, seconds = fitted(
            "gaussian_mixture", tables["train"], components=components, restarts=1, max_steps=steps(40)
        )
        density = (fit.log_prob(test).value - fit.log_prob(test.hide("coloured")).value) / 192
        mean, drawn = mean_and_draw(fit, test, "coloured")
        yield {
            "coloured": f"{components} normals", "psnr": psnr(mean, clean), "psnr_draw": psnr(drawn, clean),
            "nats": float(density.mean()), "error": error_of(density), "seconds": seconds,
        }  # fmt: skip


def voices() -> Iterator[Line]:
    """Sounds of words: a listener who learnt from real recordings, and none of those that the model learnt from, says which words they are."""
    speakers, parts = Voices(), {}
    rng = np.random.default_rng(0)
    halves = np.array_split(rng.permutation(len(speakers.digit)), 2)
    for name, half in zip(("model", "listener"), halves, strict=True):
        sounds = [speakers.recordings[at][: int(0.8 * speakers.rate)] for at in half]
        parts[name] = pg.Table.from_parts({
            "speech": pg.Sounds(sounds, speakers.rate, bands=32, seconds=0.8, step=0.0125, floor=-60.0),
            "word": pg.Texts([WORDS[speakers.digit[at]] for at in half], tokens="words"),
            "speaker": speakers.speaker[half],
        })  # fmt: skip
    listener, _ = fitted(
        "conditional_transformer", parts["listener"].drop(["speaker"]), inputs="speech", width=64, layers=1, dropout=0.2, masking=0.2,
        learning_rate=2e-3, batch_size=64, max_steps=steps(1000),
    )  # fmt: skip
    real = parts["model"].take(np.arange(500))
    yield {"sounds": "recordings", "heard": heard_right(listener, real)}
    for name, options in {
        "conditional_vae": {"latent": 8, "hidden": (256, 256), "max_steps": steps(1500)},
        "conditional_gan": {"latent": 64, "hidden": (512, 512), "learning_rate": 5e-4, "max_steps": steps(4000)},
    }.items():
        model, seconds = fitted(name, parts["model"], label="word[0]", batch_size=100, **options)
        drawn = model.fill(real.hide("speech"), 1, seed=0)[0]
        yield {"sounds": name, "heard": heard_right(listener, drawn), "seconds": seconds}
        if folder := os.environ.get("KEPT"):
            write_sounds(drawn, folder, name)


def heard_right(listener: pg.Fit, told: pg.Table) -> float:
    """Share of the words that are heard as they were meant."""
    asked = told.drop(["speaker"])
    said = listener.most_probable(asked.hide("word")).texts("word")
    return float(np.mean([one == other for one, other in zip(said, asked.texts("word"), strict=True)]))


def write_sounds(drawn: pg.Table, folder: str, name: str) -> None:
    """The ten words, one after another, as a file."""
    from scipy.io import wavfile

    texts = drawn.texts("word")
    waves = drawn.take([texts.index(word) for word in WORDS]).sounds("speech")
    wavfile.write(f"{folder}/{name}.wav", 8000, (np.concatenate(waves) * 20_000).astype(np.int16))


CASES: dict[str, Callable[[], Iterator[Line]]] = {
    case.__name__: case for case in (spelling, speech, captions, pictures, super_resolution, colours, voices)
}


def cases() -> Iterator[Line]:
    """One line a figure."""
    for name in os.environ.get("CASES", ",".join(CASES)).split(","):
        for line in CASES[name]():
            yield {"case": name, **line}
