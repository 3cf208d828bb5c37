"""The file: what model it needs, what the table looks like, blocks of rows, and checks of all of it.

=========  =====================================================================
bytes      content
=========  =====================================================================
4          ``pgz`` and the version of the format
8          hash of the model
varied     header: JSON, with its length in front
varied     what is not coded by the model, with its length in front
varied     how many columns of texts there are, and each with its length in front
varied     for every block its length, a checksum of its cells, and its bits
8          hash of all bytes before
=========  =====================================================================
"""

from __future__ import annotations

import bz2
import hashlib
import json
import lzma
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from probgen.errors import DataError

__all__ = ["Block", "File", "checksum", "largest", "packed", "smallest", "unpacked"]

MAGIC = b"pgz\x01"
DIGEST, CHECK = 8, 4
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]


@dataclass(frozen=True)
class Block:
    """Some rows: a checksum of their cells, and their bits."""

    check: bytes
    bits: bytes


@dataclass(frozen=True)
class File:
    """The parts of a file."""

    model: bytes
    header: dict[str, Any]
    rest: bytes
    blocks: Sequence[Block]
    texts: Sequence[bytes] = ()


def packed(file: File) -> bytes:
    """All bytes of it."""
    header = smallest(json.dumps(file.header, separators=(",", ":")).encode())
    parts = [MAGIC, file.model, sized(header), sized(smallest(file.rest)), length(len(file.texts))]
    parts += [sized(part) for part in file.texts]
    parts += [part for block in file.blocks for part in (length(len(block.bits)), block.check, block.bits)]
    content = b"".join(parts)
    return content + digest(content)


def unpacked(path: Path) -> File:
    """The parts of the file.

    Raises:
        DataError: there is none, it is of another kind, or a byte of it was lost or changed.
    """
    if not path.is_file():
        raise DataError(f"There is no file {path}; check the path.")
    content = path.read_bytes()
    if content[:3] != MAGIC[:3] or len(content) < len(MAGIC):
        raise DataError(f"{path} is no table that probgen compressed; give a file made by fit.compress.")
    if content[:4] != MAGIC:
        raise DataError(f"{path} has format {content[3]}, this version reads {MAGIC[3]}; update probgen.")
    if digest(content[:-DIGEST]) != content[-DIGEST:]:
        raise DataError(
            f"{path} is damaged: it was cut off or bytes of it changed. Get it again from where it was made."
        )
    at = len(MAGIC) + DIGEST
    header, at = taken(content, at)
    rest, at = taken(content, at)
    count, at = length_at(content, at)
    texts = []
    for _ in range(count):
        part, at = taken(content, at)
        texts.append(part)
    blocks, end = [], len(content) - DIGEST
    while at < end:
        size, at = length_at(content, at)
        blocks.append(Block(content[at : at + CHECK], content[at + CHECK : at + CHECK + size]))
        at += CHECK + size
    return File(content[len(MAGIC) : len(MAGIC) + DIGEST], json.loads(largest(header)), largest(rest), blocks, texts)


def digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST).digest()


def checksum(numbers: np.ndarray, known: np.ndarray) -> bytes:
    """Of the cells of a block, by which its decoder knows that they are those that were encoded."""
    return zlib.crc32(np.packbits(known).tobytes(), zlib.crc32(numbers.tobytes())).to_bytes(CHECK, "little")


# --------------------------------------------------------------------------------------------------------- numbers
def length(size: int) -> bytes:
    r"""Seven bits a byte, the lowest first.

    Example:
        >>> length(300), length_at(length(300), 0)
        (b'\xac\x02', (300, 2))
    """
    found = bytearray()
    while size >= 128:
        found.append(size & 127 | 128)
        size >>= 7
    return bytes([*found, size])


def length_at(content: bytes, at: int) -> tuple[int, int]:
    size = shift = 0
    while content[at] & 128:
        size |= (content[at] & 127) << shift
        at, shift = at + 1, shift + 7
    return size | content[at] << shift, at + 1


def sized(part: bytes) -> bytes:
    return length(len(part)) + part


def taken(content: bytes, at: int) -> tuple[bytes, int]:
    size, at = length_at(content, at)
    return content[at : at + size], at + size


def smallest(content: bytes) -> bytes:
    """By the best of the compressors that Python has; as it is where none helps."""
    if not content:
        return b""
    found = [
        b"=" + content,
        b"z" + zlib.compress(content, 9),
        b"b" + bz2.compress(content, 9),
        b"l" + lzma.compress(content, lzma.FORMAT_RAW, filters=FILTERS),
    ]
    return min(found, key=len)


def largest(content: bytes) -> bytes:
    """What :func:`smallest` was given."""
    if not content:
        return b""
    kind, body = content[:1], content[1:]
    if kind == b"=":
        return body
    if kind == b"l":
        return lzma.decompress(body, lzma.FORMAT_RAW, filters=FILTERS)
    return bz2.decompress(body) if kind == b"b" else zlib.decompress(body)
