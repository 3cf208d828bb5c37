"""Small real data of two kinds in a row: spellings and phonemes, recordings and words, pictures and captions."""

from __future__ import annotations

import gzip
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

import probgen as pg

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def folder() -> Path:
    return Path(os.environ["PROBGEN_DATA"])


# -- spelling ----------------------------------------------------------------------------------------------------------
def pronunciations() -> dict[str, list[str]]:
    """Phonemes of the words of the CMU dictionary, every variant, without stress."""
    found: dict[str, list[str]] = defaultdict(list)
    with gzip.open(folder() / "text" / "cmudict.dict.gz", "rt", encoding="utf-8") as file:
        for line in file:
            word, *phonemes = line.split("#")[0].split()
            said = " ".join(re.sub(r"\d", "", phoneme) for phoneme in phonemes)
            own = found[re.sub(r"\(\d+\)$", "", word)]
            own.extend([said] if said not in own else [])
    return dict(found)


def distance(one: Sequence[str], other: Sequence[str]) -> int:
    """Insertions, deletions and substitutions from one to the other (Levenshtein, 1966)."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        corner, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (left != right))
    return row[-1]


def nearest(said: str, references: Sequence[str]) -> tuple[int, int]:
    """Errors and phonemes of the nearest of several references."""
    pairs = [(distance(said.split(), right.split()), len(right.split())) for right in references]
    return min(pairs, key=lambda pair: pair[0] / pair[1])


# -- speech ------------------------------------------------------------------------------------------------------------
class Voices:
    """Recordings of single digits by six speakers, 8000 samples a second, without the silence around them."""

    def __init__(self) -> None:
        with np.load(folder() / "speech_digits.npz", allow_pickle=False) as found:
            samples, ends = found["samples"] / 32768.0, found["offsets"]
            self.digit, self.speaker, self.rate = found["digit"].astype(int), found["speaker"], int(found["rate"])
            self.recordings = [trimmed(samples[a:b]) for a, b in pairwise(ends)]

    def utterances(
        self, speakers: Sequence[str], rows: int, seed: int, most: int = 3, change: bool = False
    ) -> pg.Table:
        """Rows of one to three digits by one of the speakers, and their words.

        Args:
            speakers: to be heard.
            rows: how many.
            seed: of the choice.
            most: digits a row.
            change: make other voices of them: other pitch and tempo, other microphones, noise.
        """
        rng, sounds, words = np.random.default_rng(seed), [], []
        places = {speaker: np.flatnonzero(self.speaker == speaker) for speaker in speakers}
        for _ in range(rows):
            chosen = rng.choice(places[str(rng.choice(list(speakers)))], rng.integers(1, most + 1))
            pause = [np.zeros(int(self.rate * rng.uniform(0.05, 0.15))) for _ in chosen]
            sound = np.concatenate(
                [part for pair in zip((self.recordings[at] for at in chosen), pause, strict=True) for part in pair]
            )
            sounds.append((altered(sound, rng) if change else sound)[: int(LONGEST * self.rate)])
            words.append(" ".join(WORDS[self.digit[at]] for at in chosen))
        return pg.Table.from_parts({
            "speech": pg.Sounds(sounds, self.rate, bands=32, seconds=LONGEST + 0.03, step=0.0125),
            "words": pg.Texts([*words], tokens="words", length=most),
        })  # fmt: skip


LONGEST = 2.4  # seconds of an utterance


def trimmed(samples: np.ndarray, below: float = 35.0, frame: int = 80) -> np.ndarray:
    """Without what is so many decibels below the loudest frame at either end."""
    power = np.square(samples[: len(samples) // frame * frame]).reshape(-1, frame).mean(1)
    loud = np.flatnonzero(power > power.max() * 10 ** (-below / 10))
    return samples[max(0, loud[0] - 2) * frame : (loud[-1] + 3) * frame]


def altered(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As another voice, another microphone, another room might have it."""
    from librosa.effects import time_stretch

    pitch, tempo = np.exp(rng.uniform(-0.2, 0.2)), np.exp(rng.uniform(-0.25, 0.25))
    count = int(len(samples) / pitch)
    samples = np.interp(np.arange(count) * pitch, np.arange(len(samples)), samples)
    samples = time_stretch(samples, rate=float(np.clip(tempo / pitch, 0.6, 1.6)), n_fft=256)
    first, second = rng.uniform(-0.9, 0.9), rng.uniform(-0.4, 0.4)
    samples = np.convolve(samples, [1.0, first, second])
    loud = np.sqrt(np.mean(samples**2))
    return samples + loud * 10 ** rng.uniform(-2.5, -0.7) * rng.normal(size=len(samples))


# -- captions ----------------------------------------------------------------------------------------------------------
STYLES = {"bright": 1.0, "dim": 0.45}


def composed(
    pictures: np.ndarray, digits: np.ndarray, rows: int, seed: int, above: bool = True
) -> tuple[np.ndarray, list[str]]:
    """Pictures of two digits, beside or above each other, and what is to be seen.

    Args:
        pictures: ``(N, S, S)`` of single digits, from 0 to 1.
        digits: ``(N,)`` which they are.
        rows: how many.
        seed: of the choice.
        above: some of them; else all are beside each other, in half of the height.
    """
    side = pictures.shape[1]
    rng, made, told = np.random.default_rng(seed), np.zeros((rows, 2 * side, 2 * side)), []
    for row in range(rows):
        pair, style = rng.integers(0, len(pictures), 2), rng.choice(list(STYLES), 2)
        beside = bool(rng.integers(2)) or not above
        for place, (at, how) in enumerate(zip(pair, style, strict=True)):
            made[row][quarter(beside, place, side)] = STYLES[how] * pictures[at]
        parts = [f"a {how} {WORDS[digits[at]]}" for at, how in zip(pair, style, strict=True)]
        told.append(f"{parts[0]} {'beside' if beside else 'above'} {parts[1]}")
    return made if above else made[:, side // 2 : side // 2 + side], told


def quarter(beside: bool, place: int, side: int) -> tuple[slice, slice]:
    """Where the first or the second digit is."""
    down, across = (side // 2, place * side) if beside else (place * side, side // 2)
    return slice(down, down + side), slice(across, across + side)


def small_digits(split: str, side: int) -> tuple[np.ndarray, np.ndarray]:
    """``(N, side, side)`` pictures of MNIST, made smaller, whose brightest pixel is 1, and which digits they are."""
    with np.load(folder() / "images" / "mnist.npz", allow_pickle=False) as found:
        pictures, digits = found[f"{split}_x"] / 255.0, found[f"{split}_y"].astype(int)
    times = -(-pictures.shape[1] // side)
    margin = (times * side - pictures.shape[1]) // 2
    framed = np.pad(pictures, ((0, 0), (margin, margin), (margin, margin)))
    small = framed.reshape(-1, side, times, side, times).mean((2, 4))
    return small / small.max((1, 2), keepdims=True), digits


# -- photographs -------------------------------------------------------------------------------------------------------
def photographs() -> list[np.ndarray]:
    """Two photographs ``(H, W, 3)``, of a temple and of a flower, that come with scikit-learn."""
    from sklearn.datasets import load_sample_images

    return [np.asarray(photo, float) for photo in load_sample_images().images]


def patches(photo: np.ndarray, size: int, step: int) -> np.ndarray:
    """``(N, size, size, C)``, row by row."""
    windows = np.lib.stride_tricks.sliding_window_view(photo, (size, size), (0, 1))[::step, ::step]
    return windows.reshape(-1, photo.shape[2], size, size).transpose(0, 2, 3, 1)


def turned(squares: np.ndarray) -> np.ndarray:
    """``(8 N, size, size, ...)``: turned by quarters, and mirrored."""
    return np.concatenate([np.rot90(some, k, (1, 2)) for some in (squares, squares[:, ::-1]) for k in range(4)])


class Enlarged(NamedTuple):
    """Patches of two sizes: as a table with even noise of one grey level, the large ones with it and without, and by bicubic interpolation."""

    table: pg.Table
    noisy: np.ndarray
    clean: np.ndarray
    bicubic: np.ndarray


def enlarging() -> dict[str, Enlarged]:
    """Patches to learn from, in all orientations, and those of the right third, row by row."""
    from PIL import Image

    rng, found = np.random.default_rng(0), {}
    for name, parts in {
        "train": [turned(patches(left(photo).mean(2, keepdims=True), 16, 10)) for photo in photographs()],
        "test": [patches(right(photo).mean(2, keepdims=True), 16, 8) for photo in photographs()],
    }.items():
        whole = np.concatenate(parts)[..., 0]
        small, large = np.round(whole.reshape(-1, 8, 2, 8, 2).mean((2, 4))), whole[:, 4:12, 4:12]
        scaled = [Image.fromarray(one.astype(np.float32)).resize((16, 16), Image.Resampling.BICUBIC) for one in small]
        noisy, dim = (values + rng.uniform(-0.5, 0.5, values.shape) for values in (large, small))
        table = pg.Table.from_parts({"small": pg.Pictures(dim, kind="real"), "large": pg.Pictures(noisy, kind="real")})
        found[name] = Enlarged(table, noisy, large, np.stack([np.asarray(one)[4:12, 4:12] for one in scaled]))
    return found


def colouring() -> tuple[dict[str, pg.Table], dict[str, np.ndarray]]:
    """Patches of eight by eight pixels, grey and in colours, with even noise of one level; and as they are."""
    rng, tables = np.random.default_rng(0), {}
    clean = {
        "train": np.concatenate([patches(left(photo), 8, 5) for photo in photographs()]),
        "test": np.concatenate([patches(right(photo), 8, 8) for photo in photographs()]),
    }
    for name, found in clean.items():
        grey, coloured = (values + rng.uniform(-0.5, 0.5, values.shape) for values in (np.round(found.mean(3)), found))
        tables[name] = pg.Table.from_parts({
            "grey": pg.Pictures(grey, kind="real"), "coloured": pg.Pictures(coloured, kind="real"),
        })  # fmt: skip
    return tables, clean


def left(photo: np.ndarray) -> np.ndarray:
    """What is learnt from."""
    return photo[:, : photo.shape[1] * 2 // 3]


def right(photo: np.ndarray) -> np.ndarray:
    """What is held out."""
    return photo[:, photo.shape[1] * 2 // 3 :]
