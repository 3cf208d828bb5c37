"""A fit's decoder as data that a page can compute with: operations and weights, or, where it has others, values on a grid."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.schema import Schema
from probgen.queries.decoded import Decoder, Described
from probgen.report.operations import Constants, NotElementaryError, record

if TYPE_CHECKING:
    from probgen.queries.fit import Fit

__all__ = ["ExportedDecoder", "encoded", "export", "principal"]

HALF_FROM = 400_000  # numbers, from which on they are written in half precision
GRID_NUMBERS = 600_000
FINEST, COARSEST = 41, 9  # points of a grid along one direction
LABELLED = 12  # most levels of a label that a reader may choose


@dataclass(frozen=True)
class ExportedDecoder:
    """What a page needs.

    Attributes:
        outputs: first number and how many of them, for every column of the schema.
        label: the column that is read beside the latents, if any.
        told: for the page's script.
        reason: why a grid stands in; empty where the decoder itself is there.
    """

    outputs: list[tuple[int, int]]
    label: str | None
    told: dict[str, Any]
    reason: str = ""


def export(fit: Fit, codes: np.ndarray) -> ExportedDecoder:
    """The decoder itself if its operations are known, else a grid over the plane of the codes ``(N, L)``."""
    decoder = Decoder(fit)
    labels = [name for name in decoder.labels() if len(fit.schema[name].levels) <= LABELLED]
    label = labels[0] if len(labels) == 1 else None
    try:
        return recorded(decoder, label)
    except NotElementaryError as error:
        return gridded(decoder, codes, str(error))


def recorded(decoder: Decoder, label: str | None) -> ExportedDecoder:
    """Operations from latent values to all columns, once for every level of a label."""
    fit, constants, made = decoder.fit, Constants(), []
    start = torch.zeros(1, len(decoder.centre), dtype=fit.dtype, device=fit.device)
    given = [None] if label is None else [{label: code} for code in range(len(fit.schema[label].levels))]
    with torch.no_grad(), fit.setting():
        places = layout(decoder.columns(start), fit.schema)
        for known in given:
            made.append(record(lambda z, known=known: flat(decoder.columns(z, known), fit.schema), start, constants))  # type: ignore[misc]
    told = {"graphs": made, "constants": written(constants)}
    return ExportedDecoder(places, label, told)


def flat(found: list[Described], schema: Schema) -> Tensor:
    """``(N, outputs)``: all numbers of a row side by side."""
    return torch.cat([shown(part, schema).flatten(1) for part in found], 1)


def shown(part: Described, schema: Schema) -> Tensor:
    """``(N, columns)`` or ``(N, columns, levels)``: of two levels the probability of the second, of others all probabilities."""
    several = part.levels is not None and schema[part.places[0]].kind != "binary"
    return part.levels if several else part.centres  # type: ignore[return-value]


def layout(found: list[Described], schema: Schema) -> list[tuple[int, int]]:
    """Where the numbers of each column begin, and how many there are."""
    places, first = [(0, 0)] * len(schema), 0
    for part in found:
        size = shown(part, schema)[0, 0].numel()
        for place in part.places:
            places[place] = (first, size)
            first += size
    return places


def written(constants: Constants) -> dict[str, Any]:
    """Shapes, and all numbers one after the other."""
    half = constants.size > HALF_FROM
    values = [tensor.detach().double().cpu().numpy().ravel() for tensor in constants.tensors]
    numbers = np.concatenate(values) if values else np.zeros(0)
    shapes = [list(tensor.shape) for tensor in constants.tensors]
    return {"shapes": shapes, "half": half, "numbers": encoded(numbers, "<f2" if half else "<f4")}


def encoded(numbers: np.ndarray, dtype: str = "<f4") -> str:
    """Numbers of one type as text."""
    most = np.finfo(dtype).max
    return base64.b64encode(np.clip(numbers, -most, most).astype(dtype).tobytes()).decode("ascii")


def principal(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions ``(L, L)`` of falling variance, a row each, and the variances; the largest entry of each is positive."""
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(codes.T, bias=True)))
    directions = vectors.T[::-1]
    largest = directions[np.arange(len(directions)), np.abs(directions).argmax(1)]
    return directions * np.where(largest < 0, -1.0, 1.0)[:, None], values[::-1].clip(0)


def gridded(decoder: Decoder, codes: np.ndarray, reason: str) -> ExportedDecoder:
    """What columns are expected at the crossings of a grid over the codes' plane of largest variance."""
    fit, mean, directions = decoder.fit, codes.mean(0), principal(codes)[0][:2]
    seen = (codes - mean) @ directions.T
    low, high = seen.min(0), seen.max(0)
    low, high = low - 0.1 * (high - low) - 1e-3, high + 0.1 * (high - low) + 1e-3
    with torch.no_grad(), fit.setting():
        first = decoder.columns(torch.as_tensor(mean[None]))
        steps = int(np.clip(np.sqrt(GRID_NUMBERS / flat(first, fit.schema).shape[1]), COARSEST, FINEST))
        across, up = (np.linspace(low[at], high[at], steps) for at in (0, 1))
        plane = np.stack(np.meshgrid(across, up), -1).reshape(-1, 2)  # the first direction runs fastest
        found = decoder.columns(torch.as_tensor(mean + plane @ directions))
        values = flat(found, fit.schema).double().cpu().numpy()
    told = {"steps": steps, "low": low.tolist(), "high": high.tolist(), "mean": mean.tolist()}
    told |= {"directions": directions.tolist(), "numbers": encoded(values, "<f2"), "outputs": values.shape[1]}
    return ExportedDecoder(layout(first, fit.schema), None, {"grid": told}, reason)
