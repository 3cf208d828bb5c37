"""Symbols into bits and back, by one interface, so that one walk over a table both writes and reads it.

The range coder (Martin, 1979) and the stack of asymmetric numeral systems (Duda, 2009) are those of ``constriction``
(Bamler, 2022), which rounds probabilities to 24 bits and leaves none at zero.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from probgen.errors import CapabilityError

__all__ = ["Coder", "Empty", "Meter", "Reader", "Recorder", "Stack", "Writer"]

LEFT = 3  # words that stay on a stack
RAW = 16  # bits that are coded evenly at once


def library() -> object:
    """constriction, or how to get it."""
    try:
        import constriction
    except ImportError as error:
        raise CapabilityError(
            "Compression needs the library constriction: pip install 'probgen[compress]'."
        ) from error
    return constriction


class Coder(ABC):
    """Symbols in their order."""

    @abstractmethod
    def code(self, probabilities: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        """``(M,)`` symbols by ``(M, L)`` probabilities; a reader does not look at ``symbols``, and returns those that were written."""

    @abstractmethod
    def even(self, size: int, symbols: np.ndarray) -> np.ndarray:
        """``(M,)`` whole numbers below ``size``, at most ``2^16``, all as probable."""

    def bits(self, count: int, numbers: np.ndarray) -> np.ndarray:
        """``(M,)`` whole numbers of so many bits."""
        found = np.zeros(len(numbers), np.int64)
        for at in range(0, count, RAW):
            size = min(RAW, count - at)
            found |= self.even(1 << size, numbers >> at & ((1 << size) - 1)) << at
        return found


class Writer(Coder):
    """Into bits."""

    def __init__(self) -> None:
        self.stream = library().stream  # type: ignore[attr-defined]
        self.coder = self.stream.queue.RangeEncoder()
        self.model = self.stream.model.Categorical(perfect=False)

    def code(self, probabilities: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        if len(symbols):
            self.coder.encode(symbols.astype(np.int32), self.model, steady(probabilities))
        return symbols

    def even(self, size: int, symbols: np.ndarray) -> np.ndarray:
        if len(symbols):
            self.coder.encode(symbols.astype(np.int32), self.stream.model.Uniform(size))
        return symbols

    def finish(self) -> bytes:
        """All bits; zeros at the end are left out, which a reader puts back."""
        return self.coder.get_compressed().astype("<u4").tobytes().rstrip(b"\0")


class Reader(Coder):
    """From bits."""

    def __init__(self, bits: bytes) -> None:
        self.stream = library().stream  # type: ignore[attr-defined]
        words = np.frombuffer(bits + b"\0" * (-len(bits) % 4), "<u4").astype(np.uint32)
        self.coder = self.stream.queue.RangeDecoder(words)
        self.model = self.stream.model.Categorical(perfect=False)

    def code(self, probabilities: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        if not len(symbols):
            return symbols
        return self.coder.decode(self.model, steady(probabilities)).astype(np.int64)

    def even(self, size: int, symbols: np.ndarray) -> np.ndarray:
        if not len(symbols):
            return symbols
        return self.coder.decode(self.stream.model.Uniform(size), len(symbols)).astype(np.int64)


class Meter(Coder):
    """Adds up what symbols cost, and writes none."""

    def __init__(self) -> None:
        self.bits_spent = 0.0

    def code(self, probabilities: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        found = np.maximum(steady(probabilities), 2.0**-24)
        self.bits_spent -= float(np.log2(found[np.arange(len(symbols)), symbols]).sum())
        return symbols

    def even(self, size: int, symbols: np.ndarray) -> np.ndarray:
        self.bits_spent += len(symbols) * float(np.log2(size))
        return symbols


class Empty(Exception):
    """A stack has too few bits to read off."""


class Recorder(Coder):
    """Remembers what is to go onto a stack, which is read from the last symbol."""

    def __init__(self) -> None:
        self.calls: list[tuple[np.ndarray | int, np.ndarray]] = []

    def code(self, probabilities: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        self.calls.append((steady(probabilities), symbols))
        return symbols

    def even(self, size: int, symbols: np.ndarray) -> np.ndarray:
        self.calls.append((size, symbols))
        return symbols


class Stack(Coder):
    """Bits that are read from where the last ones were written."""

    def __init__(self, words: np.ndarray) -> None:
        self.stream = library().stream  # type: ignore[attr-defined]
        self.coder = self.stream.stack.AnsCoder(words)
        self.model = self.stream.model.Categorical(perfect=False)

    @classmethod
    def of(cls, bits: bytes) -> Stack:
        """From what :meth:`finish` gave."""
        return cls(np.frombuffer(bits, "<u4").astype(np.uint32))

    def code(self, probabilities: np.ndarray, symbols: np.ndarray) -> np.ndarray:
        if not len(symbols):
            return symbols
        found = self.coder.decode(self.model, steady(probabilities)).astype(np.int64)
        return self.checked(found)

    def even(self, size: int, symbols: np.ndarray) -> np.ndarray:
        if not len(symbols):
            return symbols
        return self.checked(self.coder.decode(self.stream.model.Uniform(size), len(symbols)).astype(np.int64))

    def checked(self, found: np.ndarray) -> np.ndarray:
        """What was read, unless there was nothing left to read it off."""
        if self.coder.num_words() < LEFT:
            raise Empty
        return found

    def push(self, record: Recorder) -> None:
        """All that was recorded, so that it is read in the order in which it was."""
        for how, symbols in reversed(record.calls):
            if not len(symbols):
                continue
            if isinstance(how, int):
                self.coder.encode_reverse(symbols.astype(np.int32), self.stream.model.Uniform(how))
            else:
                self.coder.encode_reverse(symbols.astype(np.int32), self.model, how)

    def finish(self) -> bytes:
        """All bits."""
        return self.coder.get_compressed().astype("<u4").tobytes()


def steady(probabilities: np.ndarray) -> np.ndarray:
    """Rows that sum to one; even ones where they are no numbers, and of one symbol a second that never comes."""
    found = np.nan_to_num(np.asarray(probabilities, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    if found.shape[1] == 1:
        found = np.hstack([found, np.zeros_like(found)])
    total = found.sum(1, keepdims=True)
    found = np.where(total > 0, found / np.where(total > 0, total, 1.0), 1.0 / found.shape[1])
    return np.ascontiguousarray(found)
