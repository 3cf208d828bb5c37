"""One kind of data given another: sounds to words, spellings to phonemes, pictures to captions and back, small pictures to large ones, grey ones to colours.

``CASES=spelling,speech,captions`` chooses; ``STEPS`` is the length of training, ``SPEAKERS`` those that are held out, one after another.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import probgen as pg
from benchmarks._modalities import Voices, captioned, distance, nearest, pronunciations

Line = dict[str, Any]


def steps(usual: int) -> int:
    return int(os.environ.get("STEPS", usual))


def fitted(model: str, table: pg.Table, **options: Any) -> tuple[pg.Fit, float]:
    """A fit, and its CPU seconds."""
    before = time.process_time()
    fit = pg.fit(model, table, progress=False, **{"validation_fraction": 0.0, "seed": 0, **options})
    if folder := os.environ.get("KEPT"):
        fit.save(
            f"{folder}/{model}_{'_'.join(str(value) for value in options.values() if isinstance(value, str))}.probgen"
        )
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
        "conditional_transformer", table, inputs="spelling", width=128, layers=3, batch_size=256, learning_rate=2e-3, max_steps=steps(3000),
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
        table = voices.utterances(others, int(os.environ.get("ROWS", 8000)), 0, change=True)
        fit, seconds = fitted(
            "conditional_transformer", table, inputs="speech", width=96, layers=2, dropout=0.2, masking=0.2, batch_size=64,
            learning_rate=2e-3, max_steps=steps(2000),
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
    for split, rows in (("train", int(os.environ.get("ROWS", 20_000))), ("test", 1000)):
        pictures, texts = captioned(split, rows, 0)
        told[split] = pg.Table.from_parts(
            {"picture": pg.Pictures(pictures, levels=16), "caption": pg.Texts(texts, tokens="words")}
        )
    fit, seconds = fitted(
        "conditional_transformer", told["train"], inputs="picture", width=64, layers=2, dropout=0.1, batch_size=64, learning_rate=2e-3,
        max_steps=steps(3000),
    )  # fmt: skip
    found = fit.most_probable(told["test"].hide("caption")).texts("caption")
    right = told["test"].texts("caption")
    yield {
        "captions": float(np.mean([one == other for one, other in zip(found, right, strict=True)])),
        "words": float(np.mean([a == b for one, other in zip(found, right, strict=True) for a, b in zip(one.split(), other.split())])),
        "seconds": seconds,
    }  # fmt: skip


CASES: dict[str, Callable[[], Iterator[Line]]] = {case.__name__: case for case in (spelling, speech, captions)}


def cases() -> Iterator[Line]:
    """One line a figure."""
    for name in os.environ.get("CASES", ",".join(CASES)).split(","):
        for line in CASES[name]():
            yield {"case": name, **line}
