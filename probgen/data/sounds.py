r"""Sounds as pictures of how loud they are: frame by frame, in bands of the mel scale, in decibels below the loudest (Davis and Mermelstein, 1980).

.. math:: s_{tf} = \max\Bigl(10 \log_{10} \frac{\sum_k m_{fk} |X_{tk}|^2}{\max_{t', f'} \sum_k m_{f'k} |X_{t'k}|^2},\ \text{floor}\Bigr)

with X the short-time Fourier transform and m the triangles of the mel scale. The library ``librosa`` computes it, and finds samples that sound so again (Griffin
and Lim, 1984): the phases are lost, so that they are others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from probgen.data.coding import is_missing
from probgen.data.groups import Sound
from probgen.data.images import pictures_of
from probgen.data.schema import Schema
from probgen.errors import CapabilityError, DataError, SchemaError

__all__ = ["as_recordings", "frames_of", "heard", "loudness"]

ROUNDS = 60  # of the search for phases
NOTHING = 1e-20  # power of a band, where the loudest sample is 1, that rounding alone makes


def librosa() -> Any:
    """The library of sounds."""
    try:
        import librosa as library
    except ImportError as error:
        raise CapabilityError("Sounds need the library 'librosa': pip install 'probgen[audio]'.") from error
    return library


def as_recordings(recordings: Sequence[Any]) -> list[np.ndarray | None]:
    """Samples ``(n,)`` of each recording as floats, nought where it is still, those of whole numbers from -1 to 1; None where unknown.

    Raises:
        DataError: something else than numbers along one axis, no samples, an infinite or unknown one.
    """
    found: list[np.ndarray | None] = []
    for number, one in enumerate(recordings):
        if is_missing(one):
            found.append(None)
            continue
        samples = np.asarray(one)
        if samples.ndim != 1 or not len(samples) or samples.dtype.kind not in "iuf":
            raise DataError(
                f"Recording {number}: expected numbers along one axis, its samples, got shape {samples.shape} of"
                f" {samples.dtype}; take one channel."
            )
        samples = samples.astype(np.float64) if samples.dtype.kind == "f" else of_whole(samples)
        if not np.isfinite(samples).all():
            raise DataError(f"Recording {number}: sample {int(np.argmin(np.isfinite(samples)))} is no finite number.")
        found.append(samples)
    return found


def of_whole(samples: np.ndarray) -> np.ndarray:
    """Whole numbers as floats from -1 to 1; those without a sign are still in the middle, as in files of eight bits."""
    kind = np.iinfo(samples.dtype)
    still = 0.0 if kind.min else (kind.max + 1) / 2
    return (samples - still) / (kind.max - still)


def frames_of(samples: int, step: int) -> int:
    """How many frames a recording of so many samples has."""
    return 1 + samples // step


def loudness(samples: np.ndarray, sound: Sound) -> np.ndarray:
    """``(T, F)``: one recording, silence behind it; one without a sound is silence everywhere.

    Raises:
        DataError: it is longer than T frames.
    """
    frames, bands = sound.shape[:2]
    if (own := frames_of(len(samples), sound.step)) > frames:
        raise DataError(f"it has {own} frames, and sounds of this schema have {frames}")
    found, options = np.full((frames, bands), sound.floor), setting(sound)
    whole = np.pad(samples / (np.abs(samples).max() or 1.0), (0, max(0, options["n_fft"] - len(samples))))
    power = librosa().feature.melspectrogram(y=whole, n_mels=bands, fmax=sound.rate / 2, **options)[:, :own]
    if power.max() > NOTHING:
        told = librosa().power_to_db(power, ref=np.max, amin=NOTHING, top_db=None)
        found[:own] = np.maximum(told.T, sound.floor)
    return found


def setting(sound: Sound) -> dict[str, Any]:
    """Of the transform."""
    size = max(256, 2 ** int(np.ceil(np.log2(sound.window))))
    return {"sr": sound.rate, "n_fft": size, "win_length": sound.window, "hop_length": sound.step}


def heard(values: np.ndarray, schema: Schema, name: str | None, seed: int) -> np.ndarray:
    """Samples of a table's sounds."""
    there = [image for image in schema.images if isinstance(image, Sound) and name in (None, image.name)]
    if len(there) != 1:
        told = ", ".join(repr(image.name) for image in schema.images if isinstance(image, Sound))
        raise SchemaError(
            f"Expected the name of one sound, got {name!r}. Sounds: {told or 'none (Table.from_parts makes them)'}."
        )
    cells = pictures_of(values, schema, there[0].name)[..., 0]
    if np.isnan(cells).any():
        row = int(np.isnan(cells).any((1, 2)).argmax())
        raise DataError(f"Sound {there[0].name!r} has unknown cells in row {row}; fill them first.")
    return waveforms(cells, there[0], seed)


def waveforms(values: np.ndarray, sound: Sound, seed: int = 0) -> np.ndarray:
    """``(N, n)`` samples from -1 to 1 of sounds ``(N, T, F)`` in decibels."""
    options, made = setting(sound), []
    sizes = {key: options[key] for key in ("n_fft", "win_length", "hop_length")}
    for one in values:
        power = librosa().db_to_power(np.clip(one, sound.floor, 0.0).T)
        power[sound.floor >= one.T] = 0.0
        heard = librosa().feature.inverse.mel_to_stft(power, sr=sound.rate, n_fft=sizes["n_fft"], fmax=sound.rate / 2)
        long = np.pad(heard, ((0, 0), (0, max(0, 1 + -(-sizes["n_fft"] // sound.step) - len(one)))))
        samples = librosa().griffinlim(long, n_iter=ROUNDS, random_state=seed, **sizes)[: (len(one) - 1) * sound.step]
        made.append(samples / np.abs(samples).max(initial=1e-12))
    return np.stack(made)
