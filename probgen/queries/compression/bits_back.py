r"""A block of rows by a model with continuous latents: bits back with a stack of bits (Townsend, Bird and Barber, 2019).

.. math::
    -\log_2 p(x \mid z) - \log_2 p(z) + \log_2 q(z \mid x)

bits are what a row costs: its latent is read off the bits of the rows before it, by the guide, then the row is written given the latent, and the
latent by its prior. The decoder goes back from the last row and writes onto the stack what the encoder had read. Latents are rounded to
intervals that are equally probable under the prior. The first row reads bits that were put there for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import ndtr, ndtri

from probgen.data.schema import Column
from probgen.data.stored import Reading
from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.inference.amortised import propose
from probgen.inference.evidence import log_evidence
from probgen.inference.runtime import seeded
from probgen.inference.tracing import Given, observe
from probgen.queries.compression.chain_rule import ASKED, ChainRule
from probgen.queries.compression.coders import Empty, Recorder, Stack
from probgen.queries.decoded import Decoder
from probgen.queries.embed import blank_rows

__all__ = ["BitsBack"]

HALF = 6  # bits; latents have twice as many
TOGETHER, SHARE = 64, 16  # rows, at most, and of those before them
WORDS = 8  # put on the stack before the first row


class BitsBack:
    """Blocks of rows of a fit with independent normal latents.

    Args:
        fit: the model.
        readings: of the columns.

    Raises:
        CapabilityError: the prior is not standard normal, the guide not one of independent normals, or there are several latent sites.
    """

    def __init__(self, fit: Any, readings: Sequence[Reading | None]) -> None:
        self.fit = fit
        self.columns = GivenLatents(fit, readings)
        with torch.no_grad(), fit.setting():
            sites = observe(fit.program, blank_rows(fit, 1), Given(fit.posterior.theta())).sites
            self.name, prior = self.only_latent(sites)
        loc, scale = prior.loc, prior.scale
        if not (loc == 0).all() or not (scale == 1).all():
            raise CapabilityError(f"{fit.name!r} compresses with a standard normal prior of its latents; fit one.")
        self.columns.latent = self.name

    def only_latent(self, sites: Any) -> tuple[str, Any]:
        """The latent site and its normals."""
        guided = self.guided(np.full((1, len(self.fit.schema)), np.nan))
        if len(guided) == 1:
            ((name, guide),) = guided.items()
            prior = sites[name].distribution
            normals = [getattr(d, "base_dist", None) for d in (prior, guide)]
            if all(isinstance(part, torch.distributions.Normal) for part in normals):
                return name, normals[0]
        raise CapabilityError(
            f"{self.fit.name!r} compresses where its latents are one site of independent normals, under the prior and under the"
            " guide; its own are others."
        )

    def guided(self, values: np.ndarray) -> dict[str, Any]:
        """The guide's distributions at these rows."""
        table = Table.from_codes(values, self.fit.schema)
        batch = next(iter(self.fit.batches(table, len(values)).pieces()))
        with torch.no_grad(), self.fit.setting(), seeded(0, "compress"):
            return propose(self.fit.program, batch, 1).distributions

    # -- blocks --------------------------------------------------------------------------------------------------
    def write(self, numbers: np.ndarray, known: np.ndarray, after: Callable) -> bytes:
        """The bits of a block; ``after`` is written last, and so read first."""
        words = WORDS
        while True:
            try:
                return self.written(Stack(initial(words)), numbers, known, after)
            except Empty:
                words += max(4, words // 4)

    def written(self, stack: Stack, numbers: np.ndarray, known: np.ndarray, after: Callable) -> bytes:
        for part in parts(len(numbers)):
            codes = self.latents(stack, *self.posterior(numbers[part], known[part]), None)
            record = Recorder()
            self.prior(record, codes)
            self.columns.given(record, codes, numbers[part], known[part])
            stack.push(record)
        record = Recorder()
        after(record)
        stack.push(record)
        return stack.finish()

    def read(self, bits: bytes, rows: int, before: Callable) -> tuple[np.ndarray, np.ndarray]:
        """The rows of a block, and their mask, which ``before`` reads."""
        stack = Stack.of(bits)
        known = before(stack)
        numbers = np.zeros(known.shape, np.int64)
        for part in reversed(list(parts(rows))):
            codes = self.prior(stack, np.zeros((part.stop - part.start, self.columns.width), np.int64))
            numbers[part] = self.columns.given(stack, codes, numbers[part], known[part])
            record = Recorder()
            self.latents(record, *self.posterior(numbers[part], known[part]), codes)
            stack.push(record)
        return numbers, known

    # -- latents -------------------------------------------------------------------------------------------------
    def posterior(self, numbers: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``(B, L)`` means and standard deviations by the guide."""
        values = np.full(numbers.shape, np.nan)
        for place, reading in enumerate(self.columns.readings):
            if reading is not None:
                values[:, place] = np.where(known[:, place], reading.values(numbers[:, place]), np.nan)
        normal = self.guided(values)[self.name].base_dist
        shape = (len(values), self.columns.width)
        return tuple(part.expand(shape).double().cpu().numpy() for part in (normal.loc, normal.scale))  # type: ignore[return-value]

    def latents(self, coder: Any, mean: np.ndarray, scale: np.ndarray, codes: np.ndarray | None) -> np.ndarray:
        """``(B, L)`` codes of latents by the guide: which 64th of the prior, then which 64th of that."""
        mean, scale = mean.reshape(-1, 1), scale.reshape(-1, 1)
        truth = np.zeros(len(mean), np.int64) if codes is None else codes.reshape(-1)
        steps = np.arange(2**HALF + 1)
        whole = np.diff(ndtr((ndtri(steps / 2**HALF) - mean) / scale), axis=1)
        first = coder.code(whole, truth >> HALF)
        edges = ndtri(((first[:, None] << HALF) + steps) / 4**HALF)
        second = coder.code(np.diff(ndtr((edges - mean) / scale), axis=1), truth & (2**HALF - 1))
        return (first << HALF | second).reshape(-1, self.columns.width)

    def prior(self, coder: Any, codes: np.ndarray) -> np.ndarray:
        """``(B, L)`` codes, all of which are as probable."""
        return coder.even(4**HALF, codes.reshape(-1)).reshape(codes.shape)


class GivenLatents(ChainRule):
    """Columns that are independent given the latents; what they are asked with is the number of a row and its latents."""

    latent = "z"

    def __init__(self, fit: Any, readings: Sequence[Reading | None]) -> None:
        super().__init__(fit, readings)
        self.decoder = Decoder(fit)
        self.width = len(self.decoder.centre)

    def given(self, coder: Any, codes: np.ndarray, numbers: np.ndarray, known: np.ndarray) -> np.ndarray:
        """The columns of some rows, written or read."""
        self.z = ndtri((codes + 0.5) / 4**HALF)
        self.shares = self.decoder(self.z).levels
        return self.code(coder, numbers, known)

    def context(self, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return rows

    def levels(self, place: int, column: Column, before: np.ndarray) -> np.ndarray:
        return self.shares[column.name][before]

    def listed(self, place: int, values: np.ndarray, before: np.ndarray) -> np.ndarray:
        heights = self.log_density(place, before, np.broadcast_to(values, (len(before), len(values))))
        return np.exp(heights - heights.max(1, keepdims=True))

    def log_density(self, place: int, before: np.ndarray, values: np.ndarray) -> np.ndarray:
        whole = np.full((values.size, len(self.fit.schema)), np.nan)
        whole[:, place] = values.reshape(-1)
        latents = np.repeat(self.z[before], values.shape[1], 0)
        found = []
        for at in range(0, len(whole), ASKED):
            part = slice(at, at + ASKED)
            batch = next(iter(self.fit.batches(self.table(whole[part]), ASKED).pieces()))
            with torch.no_grad(), self.fit.setting():
                z = {self.latent: torch.as_tensor(latents[part]).to(batch.x)}
                rows = log_evidence(self.fit.program, batch, theta=self.fit.posterior.theta(), sites=z).rows
            found.append(rows.double().cpu().numpy())
        return np.concatenate(found).reshape(values.shape)


def parts(rows: int) -> Iterator[slice]:
    """Rows that are coded together: one, and later on a part of those before, off whose bits their latents are read."""
    at = 0
    while at < rows:
        size = min(max(1, at // SHARE), TOGETHER, rows - at)
        yield slice(at, at + size)
        at += size


def initial(words: int) -> np.ndarray:
    """Bits for the first row, the same every time."""
    return np.random.default_rng(0).integers(1, 2**32, words, dtype=np.uint64).astype(np.uint32)
