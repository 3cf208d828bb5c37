r"""Columns of texts that no model knows, byte by byte, by what followed the same bytes in the rows before.

.. math::
    p_k(b \mid c_k) = \frac{n(c_k b) + u(c_k)\, p_{k-1}(b \mid c_{k-1})}{n(c_k) + u(c_k)}

with :math:`n` how often byte b followed the context of the last k bytes, and :math:`u` how many different bytes did (Witten and Bell, 1991), from no bytes of
context up to five. The rows of a piece take their bytes together, by counts of the pieces before, which begin with few rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from probgen.queries.compression.coders import Coder, Reader, Writer
from probgen.queries.compression.container import largest, smallest

__all__ = ["packed_texts", "unpacked_texts"]

ORDERS = 5
SYMBOLS, END, UNKNOWN = 258, 256, 257
SLOTS = 2**14  # of the counts of one order, into which contexts are hashed
PIECE = 256
FACTOR = np.uint64(0x9E3779B97F4A7C15)
Texts = Sequence[str | None]


class Contexts:
    """Counts of what followed contexts of so many bytes."""

    def __init__(self, order: int) -> None:
        self.order = order
        self.counts = np.zeros((SLOTS if order else 1, SYMBOLS), np.uint32)

    def slots(self, last: np.ndarray) -> np.ndarray:
        """``(M,)``: where the counts of contexts stand, of which ``(M, ORDERS)`` are the last symbols, the newest first."""
        found = np.zeros(len(last), np.uint64)
        for at in range(self.order):
            found = (found + last[:, at].astype(np.uint64) + np.uint64(1)) * FACTOR
            found ^= found >> np.uint64(29)
        return (found % np.uint64(len(self.counts))).astype(np.int64)

    def sharpened(self, shares: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Probabilities by these contexts, on top of those by shorter ones."""
        counts = self.counts[self.slots(last)].astype(float)
        different = np.maximum((counts > 0).sum(1, keepdims=True), 1)
        return (counts + different * shares) / (counts.sum(1, keepdims=True) + different)

    def add(self, last: np.ndarray, symbols: np.ndarray) -> None:
        """What followed."""
        np.add.at(self.counts, (self.slots(last), symbols), 1)


def walk(coder: Coder, rows: int, texts: np.ndarray) -> np.ndarray:
    """``(N, T)`` symbols of texts, each up to its end, written or read; what stands behind an end is none."""
    contexts, found = [Contexts(order) for order in range(ORDERS + 1)], np.full((rows, 1), END)
    for part in pieces(rows):
        size, step = part.stop - part.start, 0
        last, open_rows = np.full((size, ORDERS), END), np.arange(size)
        seen: list[tuple[np.ndarray, np.ndarray]] = []
        while len(open_rows):
            shares = np.full((len(open_rows), SYMBOLS), 1.0 / SYMBOLS)
            for context in contexts:
                shares = context.sharpened(shares, last[open_rows])
            at = part.start + open_rows
            truth = texts[at, step] if step < texts.shape[1] else np.zeros(len(at), np.int64)
            symbols = coder.code(shares, truth)
            seen.append((last[open_rows].copy(), symbols))
            if step == found.shape[1]:
                found = np.hstack([found, np.full((rows, 1), END)])
            found[at, step] = symbols
            last[open_rows] = np.hstack([symbols[:, None], last[open_rows, :-1]])
            open_rows, step = open_rows[symbols < END], step + 1
        for before, symbols in seen:
            for context in contexts:
                context.add(before, symbols)
    return found


def pieces(rows: int) -> Iterator[slice]:
    """Few rows at first, when much is learnt from each."""
    at = 0
    while at < rows:
        size = min(max(1, at // 8), PIECE, rows - at)
        yield slice(at, at + size)
        at += size


# ------------------------------------------------------------------------------------------------------------ bytes
def packed_texts(texts: Texts) -> bytes:
    """A column of texts, None where unknown, in the fewest bytes that we know: by contexts, or by others' compressors."""
    writer = Writer()
    walk(writer, len(texts), symbols_of(texts))
    found = [b"c" + writer.finish()]
    if not any(text is not None and ("\0" in text or "\1" in text) for text in texts):
        joined = "\0".join("\1" if text is None else text for text in texts)
        found.append(b"j" + smallest(joined.encode()))
    return min(found, key=len)


def unpacked_texts(content: bytes, rows: int) -> list[str | None]:
    """The texts of :func:`packed_texts`."""
    if content[:1] == b"j":
        joined = largest(content[1:]).decode()
        return [None if text == "\1" else text for text in joined.split("\0")] if rows else []
    symbols = walk(Reader(content[1:]), rows, np.zeros((rows, 1), np.int64))
    ends = (symbols >= END).argmax(1)
    return [
        None if row[end] == UNKNOWN else row[:end].astype(np.uint8).tobytes().decode()
        for row, end in zip(symbols, ends)
    ]


def symbols_of(texts: Texts) -> np.ndarray:
    """``(N, T)`` bytes of texts, and behind them their ends."""
    encoded = [b"" if text is None else text.encode() for text in texts]
    found = np.full((len(texts), max([len(text) for text in encoded], default=0) + 1), END)
    for row, (text, content) in enumerate(zip(texts, encoded)):
        found[row, : len(content)] = np.frombuffer(content, np.uint8)
        if text is None:
            found[row, 0] = UNKNOWN
    return found
