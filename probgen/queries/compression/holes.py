"""Which cells of a table are known, coded.

A table with few different patterns of holes is coded by how often each comes. Others go column by column, each given the one
before it in the order of the columns that have holes, by counts of the whole table.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from probgen.queries.compression.coders import Coder

__all__ = ["code_holes", "describe_holes"]

FEW = 64  # patterns


def describe_holes(known: np.ndarray) -> dict[str, Any] | None:
    """What the coder of holes goes by, as JSON has it; None where every cell is known."""
    places = np.nonzero(~known.all(0))[0]
    if not len(places):
        return None
    some = known[:, places]
    patterns, counts = np.unique(some, axis=0, return_counts=True)
    if len(patterns) <= FEW:
        shown = ["".join("01"[int(cell)] for cell in row) for row in patterns]
        return {"places": places.tolist(), "patterns": shown, "counts": counts.tolist()}
    pairs = 2 * np.hstack([np.zeros((len(some), 1), int), some[:, :-1]]) + some
    return {"places": places.tolist(), "pairs": [np.bincount(column, minlength=4).tolist() for column in pairs.T]}


def code_holes(coder: Coder, known: np.ndarray, told: dict[str, Any] | None) -> np.ndarray:
    """The mask of a block, written or read."""
    found = np.ones(known.shape, bool)
    if told is None:
        return found
    places = told["places"]
    if "patterns" in told:
        patterns = np.array([[cell == "1" for cell in row] for row in told["patterns"]])
        weights = 2 ** np.arange(len(places), dtype=object)
        number = {int(key): at for at, key in enumerate(patterns @ weights)}
        symbols = np.array([number.get(int(key), 0) for key in known[:, places] @ weights], np.int64)
        shares = np.broadcast_to(np.array(told["counts"], float), (len(known), len(patterns)))
        found[:, places] = patterns[coder.code(shares, symbols)]
        return found
    before = np.zeros(len(known), np.int64)
    for place, counts in zip(places, told["pairs"]):
        shares = np.array(counts, float).reshape(2, 2) + 0.5
        before = coder.code(shares[before], known[:, place].astype(np.int64))
        found[:, place] = before.astype(bool)
    return found
