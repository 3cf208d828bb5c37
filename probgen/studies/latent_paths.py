r"""Walks through a latent space and what the decoder makes of them: traversals, interpolations, reconstructions.

The shortest path between two codes, as the decoder's mean f sees it, is a geodesic of the metric that f pulls back from the columns (Arvanitidis, Hansen
and Hauberg, 2018; Shao, Kumar and Fletcher, 2018). Its points have the least discrete energy

.. math:: E(z_1, \dots, z_{T-1}) = \sum_{t=0}^{T-1} \lVert f(z_{t+1}) - f(z_t) \rVert^2, \qquad z_0, z_T \text{ fixed},

and all lengths are those of the path :math:`f(z(t))` among the columns as networks read them: numbers in standard deviations, levels by their
probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError
from probgen.queries import Fit
from probgen.queries.decoded import Decoded, Decoder
from probgen.queries.latent_posterior import row_nats
from probgen.whole import is_whole

__all__ = [
    "Interpolation",
    "LatentDimensions",
    "LatentPictures",
    "Reconstruction",
    "Traversal",
    "interpolate",
    "latent_dimensions",
    "latent_pictures",
    "reconstruct",
    "shortest_path",
    "spherical_path",
    "straight_path",
    "traverse",
]

QUANTILES = (0.02, 0.15, 0.3, 0.5, 0.7, 0.85, 0.98)
SOME = 0.1  # nats that a dimension in use says of a row
SEGMENTS, FINER = 32, 8  # of a path that is made shorter, and parts of each that lengths are measured on
ROUNDS = 60  # of L-BFGS
MOST = 2000  # rows that an aggregate posterior is read from


# ------------------------------------------------------------------------------------------------------- dimensions
@dataclass(frozen=True, eq=False)
class LatentDimensions:
    """How much each latent dimension says of a row: a map of posterior collapse.

    Of codes out of a codebook the slots are what counts here as a dimension, and the nats of a row are minus the logarithm of the share of rows with the same
    code there, whose mean is the codes' entropy.

    Attributes:
        names: of the K dimensions.
        nats: ``(K,)`` divergence of the posterior from the prior, mean over rows; NaN where codes are points.
        used: ``(K,)`` share of the rows of which the dimension says more than a tenth of a nat; NaN likewise.
        spread: ``(K,)`` standard deviation of the codes over rows.
        rows: ``(N, K)`` nats row by row; None where codes are points.
    """

    names: list[str]
    nats: np.ndarray
    used: np.ndarray
    spread: np.ndarray
    rows: np.ndarray | None

    @property
    def order(self) -> np.ndarray:
        """Places of the dimensions by falling nats; by falling spread where codes are points."""
        return np.argsort(-(self.spread if np.isnan(self.nats).all() else self.nats), kind="stable")


def latent_dimensions(fit: Fit, table: Table, *, seed: int = 0) -> LatentDimensions:
    """Nats and use of every latent dimension, from at most 2000 rows drawn by the seed.

    Raises:
        CapabilityError: the model has no continuous latents of a row by itself.
    """
    some = table.take(some_rows(len(table), MOST, seed))
    return dimensions_of(fit, Decoder(fit), some, fit.embed(some), seed)


def dimensions_of(fit: Fit, decoder: Decoder, table: Table, codes: np.ndarray, seed: int) -> LatentDimensions:
    """Of codes that are there already."""
    groups = decoder.groups
    in_slots = any(len(group) > 1 for group in groups)
    rows = np.column_stack([rarity(codes[:, g]) for g in groups]) if in_slots else row_nats(fit, table, seed=seed)
    none = np.full(len(groups), np.nan)
    nats, used = (none, none) if rows is None else (rows.mean(0), (rows > SOME).mean(0))
    spread = np.array([np.sqrt(codes[:, group].var(0).sum()) for group in groups])
    return LatentDimensions(decoder.names, nats, used, spread, rows)


def rarity(vectors: np.ndarray) -> np.ndarray:
    """``(N,)``: minus the logarithm of the share of rows with the same vector."""
    _, which, counts = np.unique(vectors, axis=0, return_inverse=True, return_counts=True)
    return -np.log(counts[which.reshape(-1)] / len(vectors))


def some_rows(count: int, most: int, seed: int) -> np.ndarray:
    """Places of at most so many rows, in order."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


# ------------------------------------------------------------------------------------------------------- traversals
@dataclass(frozen=True, eq=False)
class Traversal:
    """One latent dimension moved at a time, the others left where they are.

    Attributes:
        start: ``(L,)``.
        row: of the table, whose code that is; None for the prior's centre.
        dimensions: places of the K dimensions that are moved among all, most used first.
        names: theirs.
        nats: theirs.
        quantiles: ``(T,)`` of the codes of rows; NaN where dimensions are slots, which take their T most frequent codes in turn.
        values: ``(K, T)`` to which each dimension is set; of slots, the ranks of the codes from 1.
        decoded: what is expected at all of them, ``K * T`` entries, the quantiles running faster.
    """

    start: np.ndarray
    row: int | None
    dimensions: np.ndarray
    names: list[str]
    nats: np.ndarray
    quantiles: np.ndarray
    values: np.ndarray
    decoded: Decoded

    def along(self, number: int) -> Decoded:
        """What is expected along the number-th of the dimensions."""
        steps = len(self.quantiles)
        return self.decoded.take(np.arange(number * steps, (number + 1) * steps))


def traverse(
    fit: Fit,
    table: Table,
    row: int | None = None,
    *,
    most: int = 8,
    quantiles: Sequence[float] = QUANTILES,
    seed: int = 0,
) -> Traversal:
    """Move each latent dimension over quantiles of the aggregate posterior, that is, of the rows' codes.

    Args:
        fit: a model with continuous latents.
        table: rows whose codes say how far to go, at most 2000 drawn by the seed.
        row: of the table, whose code the walk starts from; the centre of the prior where None.
        most: dimensions, the most used first.
        quantiles: to which each is set.
        seed: of the rows, and of nats without a closed form.
    """
    levels = np.asarray(quantiles, float)
    if most < 1 or levels.ndim != 1 or not levels.size or not ((levels >= 0) & (levels <= 1)).all():
        raise CapabilityError(
            f"traverse needs at least one dimension and quantiles from 0 to 1, got {most!r} and {quantiles!r}."
        )
    some = table.take(some_rows(len(table), MOST, seed))
    codes, decoder = fit.embed(some), Decoder(fit)
    start = centre_of(decoder, codes) if row is None else fit.embed(table.take([checked_row(table, row)]))[0]
    known = dimensions_of(fit, decoder, some, codes, seed)
    return traversal_of(decoder, codes, known, start, row, most, quantiles)


def traversal_of(
    decoder: Decoder,
    codes: np.ndarray,
    known: LatentDimensions,
    start: np.ndarray,
    row: int | None,
    most: int,
    quantiles: Sequence[float] = QUANTILES,
) -> Traversal:
    """From codes that are there already."""
    chosen, count = known.order[:most], len(quantiles)
    groups = [decoder.groups[at] for at in chosen]
    in_slots = any(len(group) > 1 for group in groups)
    z = np.tile(start, (len(chosen), count, 1))
    for line, group in enumerate(groups):
        z[line][:, group] = (
            frequent(codes[:, group], count) if in_slots else np.quantile(codes[:, group], quantiles, axis=0)
        )
    values = (
        np.tile(np.arange(1.0, count + 1), (len(chosen), 1))
        if in_slots
        else z[range(len(chosen)), :, np.ravel(groups)]
    )
    told = np.full(count, np.nan) if in_slots else np.asarray(quantiles, float)
    names = [known.names[at] for at in chosen]
    return Traversal(start, row, chosen, names, known.nats[chosen], told, values, decoder(z.reshape(-1, len(start))))


def frequent(vectors: np.ndarray, count: int) -> np.ndarray:
    """``(count, C)``: the most frequent vectors, the rarest of them again where there are fewer."""
    different, counts = np.unique(vectors, axis=0, return_counts=True)
    ranked = np.argsort(-counts, kind="stable")
    return different[ranked[np.minimum(np.arange(count), len(ranked) - 1)]]


def centre_of(decoder: Decoder, codes: np.ndarray) -> np.ndarray:
    """The prior's mean; the codes' own where it has none."""
    return np.where(np.isnan(decoder.centre), codes.mean(0), decoder.centre)


def checked_row(table: Table, row: int) -> int:
    """A row that there is."""
    if not is_whole(row) or row >= len(table):
        raise DataError(f"There is no row {row}; the table has rows 0 to {len(table) - 1}.")
    return row


# --------------------------------------------------------------------------------------------------- interpolations
@dataclass(frozen=True, eq=False)
class Interpolation:
    """Three ways from one row to another.

    Attributes:
        rows: where they begin and end.
        codes: "straight", "spherical" and "shortest", each ``(T, L)``.
        lengths: of each, among the columns as networks read them. The shortest is never longer than the straight one; it is the shortest that was found,
            a local minimum.
        decoded: what is expected on each, T entries, the rows' own codes first and last.
    """

    rows: tuple[int, int]
    codes: dict[str, np.ndarray]
    lengths: dict[str, float]
    decoded: dict[str, Decoded]


def interpolate(fit: Fit, table: Table, one: int, other: int, *, steps: int = 9) -> Interpolation:
    """From a row's code to another's: straight, spherical, and by the shortest way that the decoder knows.

    Points are equally far apart in the latent space, or in angle, or, of the shortest path, in length among the columns.

    Args:
        fit: a model with continuous latents.
        table: rows.
        one, other: places of two of them.
        steps: T, points on each path, both ends with them.

    Raises:
        CapabilityError: no such latents, or fewer than three steps.
        DataError: no such row.
    """
    ends = fit.embed(table.take([checked_row(table, one), checked_row(table, other)]))
    decoder = Decoder(fit)
    return interpolation_of(decoder, ends, centre_of(decoder, ends), (one, other), steps)


def interpolation_of(
    decoder: Decoder, ends: np.ndarray, centre: np.ndarray, rows: tuple[int, int], steps: int
) -> Interpolation:
    """Between two codes."""
    if steps < 3:
        raise CapabilityError(f"A path needs at least three steps, got {steps}.")
    a, b = ends
    straight, spherical = straight_path(a, b, SEGMENTS + 1), spherical_path(a, b, SEGMENTS + 1, centre)
    short = shortest_of(decoder.read, [straight, spherical])
    paths = {"straight": straight, "spherical": spherical, "shortest": short}
    lengths = {name: length_of(decoder.read, path) for name, path in paths.items()}
    codes = {
        "straight": straight_path(a, b, steps),
        "spherical": spherical_path(a, b, steps, centre),
        "shortest": evenly(decoder.read, short, steps),
    }
    return Interpolation(rows, codes, lengths, {name: decoder(path) for name, path in codes.items()})


def straight_path(one: np.ndarray, other: np.ndarray, points: int) -> np.ndarray:
    """``(T, L)``."""
    t = np.linspace(0, 1, points)[:, None]
    return (1 - t) * one + t * other


def spherical_path(one: np.ndarray, other: np.ndarray, points: int, centre: np.ndarray | None = None) -> np.ndarray:
    """``(T, L)``: directions seen from a centre turn evenly along a great circle (Shoemake, 1985), distances from it grow evenly.

    High-dimensional normals lie near a sphere, of which a straight path would cut through the empty inside (White, 2016). Ends in the same or in opposite
    directions, or at the centre, have a straight path.
    """
    middle = np.zeros_like(one) if centre is None else centre
    a, b = one - middle, other - middle
    long_a, long_b = np.linalg.norm(a), np.linalg.norm(b)
    cosine = a @ b / max(float(long_a * long_b), 1e-300)
    angle = np.arccos(np.clip(cosine, -1, 1))
    if min(long_a, long_b) < 1e-12 or min(angle, np.pi - angle) < 1e-6:
        return straight_path(one, other, points)
    t = np.linspace(0, 1, points)[:, None]
    turned = (np.sin((1 - t) * angle) * a / long_a + np.sin(t * angle) * b / long_b) / np.sin(angle)
    return middle + ((1 - t) * long_a + t * long_b) * turned


def shortest_of(read: Callable[[Tensor], Tensor], starts: Sequence[np.ndarray]) -> np.ndarray:
    """The shortest of paths and of what they become; the first of them where none is shorter."""
    found = [*starts, *(shortest_path(read, path) for path in starts)]
    return found[int(np.argmin([length_of(read, path) for path in found]))]


def shortest_path(read: Callable[[Tensor], Tensor], path: np.ndarray) -> np.ndarray:
    """``(T, L)``: points moved, between ends that stay, to where the energy is least, by L-BFGS.

    Args:
        read: the decoder's mean, ``(T, L)`` to ``(T, F)``, with gradients.
        path: ``(T, L)``, where to begin.
    """
    whole = torch.as_tensor(path, dtype=torch.float64)
    inner = whole[1:-1].clone().requires_grad_()
    search = torch.optim.LBFGS(
        [inner], max_iter=ROUNDS, max_eval=3 * ROUNDS, line_search_fn="strong_wolfe", tolerance_grad=1e-9
    )

    def energy() -> Tensor:
        search.zero_grad()
        value = (len(whole) - 1) * read(torch.cat([whole[:1], inner, whole[-1:]])).diff(dim=0).square().sum()
        inner.grad = torch.autograd.grad(value, inner)[0].contiguous()
        return value

    search.step(energy)
    found = torch.cat([whole[:1], inner.detach(), whole[-1:]]).numpy()
    return found if np.isfinite(found).all() else path


def length_of(read: Callable[[Tensor], Tensor], path: np.ndarray) -> float:
    """Of the decoded path, every straight piece of the latent one in several parts."""
    return float(pieces_of(read, finer(path)).sum())


def finer(path: np.ndarray) -> np.ndarray:
    """More points on the same straight pieces."""
    where, known = np.linspace(0, len(path) - 1, (len(path) - 1) * FINER + 1), np.arange(len(path))
    return np.column_stack([np.interp(where, known, column) for column in path.T])


def pieces_of(read: Callable[[Tensor], Tensor], path: np.ndarray) -> np.ndarray:
    """Distances between what is decoded at neighbouring points."""
    with torch.no_grad():
        return read(torch.as_tensor(path)).diff(dim=0).double().square().sum(1).sqrt().cpu().numpy()


def evenly(read: Callable[[Tensor], Tensor], path: np.ndarray, points: int) -> np.ndarray:
    """Points on a path that are equally far apart as decoded."""
    fine = finer(path)
    done = np.concatenate([[0.0], pieces_of(read, fine).cumsum()])
    if done[-1] < 1e-12:
        return straight_path(path[0], path[-1], points)
    where = np.linspace(0, done[-1], points)
    found = np.column_stack([np.interp(where, done, column) for column in fine.T])
    found[0], found[-1] = path[0], path[-1]
    return found


# -------------------------------------------------------------------------------------------------- reconstructions
@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Rows beside what the decoder makes of their codes.

    Attributes:
        rows: places of some of them.
        original: their cells, ``(R, D)``, codes of columns with levels.
        decoded: what is expected given their codes.
        errors: column -> error over all rows, as a share of that of saying the same of every row: of numbers the root mean square over the standard
            deviation, of levels the share of wrong ones over that of all but the most frequent. 1 is no better than the column by itself; NaN where it never
            varies.
    """

    rows: np.ndarray
    original: np.ndarray
    decoded: Decoded
    errors: dict[str, float]


def reconstruct(
    fit: Fit, table: Table, rows: Sequence[int] | None = None, *, shown: int = 10, seed: int = 0
) -> Reconstruction:
    """Embed rows and decode their codes.

    Args:
        fit: a model with continuous latents.
        table: rows; at most 2000 drawn by the seed are judged.
        rows: that are shown; some drawn by the seed where None.
        shown: how many of these.
        seed: of the rows.
    """
    some = table.take(some_rows(len(table), MOST, seed))
    chosen = np.asarray(
        some_rows(len(table), shown, seed + 1) if rows is None else [checked_row(table, r) for r in rows]
    )
    decoder = Decoder(fit)
    decoded = decoder(fit.embed(table.take(chosen)))
    original = in_order(fit, table.take(chosen))
    return Reconstruction(chosen, original, decoded, column_errors(in_order(fit, some), decoder(fit.embed(some))))


def in_order(fit: Fit, table: Table) -> np.ndarray:
    """``(N, D)`` cells in the order of the fit's columns."""
    return fit.read(table).values


def column_errors(x: np.ndarray, found: Decoded) -> dict[str, float]:
    """Of every column, over its known cells."""
    errors = {}
    for at, column in enumerate(found.schema):
        known = ~np.isnan(x[:, at])
        true, told = x[known, at], found.centres[known, at]
        if not known.any():
            errors[column.name] = float("nan")
        elif column.is_discrete:
            best = found.levels[column.name][known].argmax(1) if column.name in found.levels else told.round()
            plain = 1 - np.bincount(true.astype(int)).max() / len(true)
            errors[column.name] = float((best != true).mean() / plain) if plain > 0 else float("nan")
        else:
            spread = float(true.std())
            errors[column.name] = float(np.sqrt(((told - true) ** 2).mean()) / spread) if spread > 0 else float("nan")
    return errors


# --------------------------------------------------------------------------------------------------- all of a model
@dataclass(frozen=True, eq=False)
class LatentPictures:
    """Everything that there is to be seen of one model's latent space."""

    dimensions: LatentDimensions
    traversal: Traversal
    interpolation: Interpolation
    reconstruction: Reconstruction
    samples: np.ndarray  # (R, D) rows drawn from the prior


def latent_pictures(fit: Fit, table: Table, *, shown: int = 10, seed: int = 0) -> LatentPictures:
    """Dimensions, a traversal from a row as far out as most, a path between two rows far apart, reconstructions and samples.

    Args:
        fit: a model with continuous latents of a row by itself.
        table: rows.
        shown: rows that are reconstructed, and that are drawn.
        seed: of all choices.
    """
    places = some_rows(len(table), MOST, seed)
    some, decoder = table.take(places), Decoder(fit)
    codes = fit.embed(some)
    known, centre = dimensions_of(fit, decoder, some, codes, seed), centre_of(decoder, codes)
    one, other = far_apart(codes)
    typical = middling(codes)
    walk = interpolation_of(decoder, codes[[one, other]], centre, (int(places[one]), int(places[other])), 9)
    return LatentPictures(
        known, traversal_of(decoder, codes, known, codes[typical], int(places[typical]), 8), walk, reconstruct(fit, table, shown=shown, seed=seed),
        in_order(fit, fit.sample(shown, seed=seed)),
    )  # fmt: skip


def outness(codes: np.ndarray) -> np.ndarray:
    """``(N, L)`` codes from their mean, in standard deviations."""
    return (codes - codes.mean(0)) / np.maximum(codes.std(0), 1e-12)


def middling(codes: np.ndarray) -> int:
    """The row that lies as far out as half of the rows."""
    out = np.linalg.norm(outness(codes), axis=1)
    return int(np.argsort(out)[(len(out) - 1) // 2])


def far_apart(codes: np.ndarray) -> tuple[int, int]:
    """Two rows: one as far out as nine in ten rows, and the one most distant from it among those not further out."""
    z = outness(codes)
    out = np.linalg.norm(z, axis=1)
    one = int(np.argsort(out)[int(0.9 * (len(out) - 1))])
    away = np.where(out <= out[one], np.linalg.norm(z - z[one], axis=1), -1.0)
    return one, int(away.argmax())
