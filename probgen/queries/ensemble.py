r"""Several fits as one distribution: a mixture of their densities.

.. math:: p(x) = \sum_m w_m \, p_m(x), \qquad \hat w = \arg\max_w \sum_{n \text{ held out}} \log \sum_m w_m \, p_m(x_n)

The weights are learnt from rows that no member was fitted to ("stacking"; Wolpert, 1992; Smyth and Wolpert, 1999). Members
may be of different models; where all of them are exact, so is the mixture: densities, holes, fills.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError
from probgen.estimate import Estimate
from probgen.inference.runtime import seed_of, seeded
from probgen.queries.fit import Fit, same_coding
from probgen.whole import check_whole

__all__ = ["Ensemble", "ensemble", "load_ensemble"]

WEIGHTS, CLASSES = "weights.json", "class_conditional.json"  # what says how the fits of a folder belong together
ITERATIONS = 1000


class Ensemble:
    """A mixture of fits of the same columns.

    Attributes:
        members: the fits.
        weights: ``(M,)``, summing to one.
    """

    def __init__(self, members: Sequence[Fit], weights: Any = None) -> None:
        self.members = checked_members(members)
        self.weights = checked_weights(weights, len(self.members))

    @property
    def schema(self) -> Any:
        """The columns."""
        return self.members[0].schema

    def __repr__(self) -> str:
        parts = ", ".join(f"{w:.3f} {fit.name}" for w, fit in zip(self.weights, self.members, strict=True))
        return f"Ensemble({parts})"

    def read(self, table: Any) -> Table:
        """Anything tabular as a table with these columns."""
        return self.members[0].read(table)

    def log_probs(self, table: Any) -> np.ndarray:
        """``(M, N)``: every member's log density of the known cells."""
        found = [fit.log_prob(table) for fit in self.members]
        return np.stack([np.asarray(one.value) for one in found])

    def log_prob(self, table: Any) -> Estimate:
        """Log density of the known cells of every row, in nats and in the original units of the data."""
        return Estimate(mixed(self.log_probs(table), self.weights), "exact")

    def embed(self, table: Any) -> np.ndarray:
        """``(N, M)``: the probability that each member drew the row.

        Raises:
            DataError: a row that is impossible under every member with weight.
        """
        joint = self.log_probs(table) + log_weights(self.weights)[:, None]
        refuse_impossible(joint)
        shares = np.exp(joint - joint.max(0))
        return (shares / shares.sum(0)).T

    def fill(self, table: Any, draws: int = 20, *, seed: int = 0) -> list[Table]:
        """Completed tables: for every row and draw a member by its probability, then the member's own draw.

        Raises:
            CapabilityError: fewer than one draw.
            DataError: a row whose known cells are impossible under every member with weight.
        """
        check_whole("draws", draws)
        rows = self.read(table)
        shares = torch.as_tensor(self.embed(rows))
        with seeded(seed, "members"):
            chosen = torch.multinomial(shares, draws, replacement=True).numpy().T  # (draws, N)
        values = np.repeat(rows.values[None], draws, 0)
        for number, fit in enumerate(self.members):
            wanted = chosen == number
            places = np.nonzero(wanted.any(0))[0]
            if len(places):
                drawn = np.stack(
                    [one.values for one in fit.fill(rows.take(places), draws, seed=own_seed(seed, number))]
                )
                values[:, places] = np.where(wanted[:, places, None], drawn, values[:, places])
        return [rows.with_values(one) for one in values]

    def save(self, path: str | os.PathLike, *, overwrite: bool = False) -> None:
        """A folder with a file for each member and their weights; ``pg.load`` reads it."""
        folder = folder_of_fits(path, overwrite)
        for number, fit in enumerate(self.members):
            fit.save(folder / f"member_{number:02d}.probgen", overwrite=overwrite)
        (folder / WEIGHTS).write_text(json.dumps(self.weights.tolist()), encoding="utf-8")

    def sample(self, n: int, *, seed: int = 0) -> Table:
        """N new rows, each from a member drawn by its weight.

        Raises:
            CapabilityError: fewer than one row.
        """
        check_whole("n", n)
        with seeded(seed, "members"):
            counts = torch.multinomial(torch.as_tensor(self.weights), n, replacement=True)
        sizes = np.bincount(counts.numpy(), minlength=len(self.members))
        parts = [
            fit.sample(int(k), seed=own_seed(seed, number)).values
            for number, (fit, k) in enumerate(zip(self.members, sizes, strict=True))
            if k
        ]
        order = np.random.default_rng(seed).permutation(n)
        return Table.from_codes(np.concatenate(parts)[order], self.schema)


def own_seed(seed: int, number: int) -> int:
    """Of one member: noise that several had in common would tie rows together."""
    return seed_of(seed, "member", number) % 2**31


def folder_of_fits(path: str | os.PathLike, overwrite: bool) -> Path:
    """A folder to save fits in; what an older one says of its fits is gone, so that half of each is never read as a whole."""
    folder = Path(path)
    if folder.exists() and not overwrite:
        raise DataError(f"{folder} exists; give another path, or overwrite=True to replace what is in it.")
    folder.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS, CLASSES):
        (folder / name).unlink(missing_ok=True)
    return folder


def load_ensemble(folder: Path) -> Ensemble:
    """An ensemble from its folder."""
    from probgen.queries.persistence import load

    try:
        weights = json.loads((folder / WEIGHTS).read_text(encoding="utf-8"))
        members = [load(folder / f"member_{number:02d}.probgen") for number in range(len(weights))]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{folder} is no folder of an ensemble ({error}); save it again.") from error
    return Ensemble(members, weights)


def ensemble(fits: Sequence[Fit], table: Any = None, weights: Any = None) -> Ensemble:
    """A mixture of fits.

    Args:
        fits: of the same columns, with densities.
        table: rows that no member was fitted to; the weights maximise their density, each row counting by its own weight.
        weights: given instead; equal where neither is.

    Raises:
        CapabilityError: fits of other columns or without exact densities, or weights that are none.
        DataError: a row that is impossible under every fit, or rows that all weigh nothing.
    """
    made = Ensemble(fits, weights)
    if table is None or weights is not None:
        return made
    rows = made.members[0].read(table)
    return Ensemble(made.members, learnt_weights(made.log_probs(rows), rows.weights))


def learnt_weights(log_probs: np.ndarray, row_weights: np.ndarray | None = None) -> np.ndarray:
    """Maximum likelihood by EM, from ``(M, N)`` log densities; concave, so that the start does not matter.

    Args:
        log_probs: of every row under every member.
        row_weights: ``(N,)``, how often each row counts; once where None.

    Raises:
        DataError: a row that counts and is impossible under every member, or no row that counts.
    """
    counts = np.ones(log_probs.shape[1]) if row_weights is None else row_weights
    if not counts.any():
        raise DataError("All weights are zero; give at least one row a positive weight.")
    refuse_impossible(np.where(counts > 0, log_probs, 0.0))
    log_probs, counts = log_probs[:, counts > 0], counts[counts > 0]
    scores = np.exp(log_probs - log_probs.max(0))
    weights = np.full(len(scores), 1.0 / len(scores))
    for _ in range(ITERATIONS):
        shares = weights[:, None] * scores
        moved = np.average(shares / shares.sum(0), axis=1, weights=counts)
        if np.abs(moved - weights).max() < 1e-8:
            break
        weights = moved
    return weights


def mixed(log_probs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Log of the weighted mean of densities, ``(N,)``."""
    joint = log_probs + log_weights(weights)[:, None]
    top = joint.max(0)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return top + np.log(np.exp(joint - top).sum(0))


def log_weights(weights: np.ndarray) -> np.ndarray:
    """Logs, -inf where a weight is zero."""
    with np.errstate(divide="ignore"):
        return np.log(weights)


def refuse_impossible(log_probs: np.ndarray) -> None:
    """Rows, in columns of ``(M, N)``, that no member could have drawn."""
    bad = np.nonzero(log_probs.max(0) == -np.inf)[0]
    if len(bad):
        raise DataError(
            f"The known cells of row {int(bad[0])} have probability zero under every member ({len(bad)} such rows); check"
            " them, or fit a member with a prior, which leaves no state impossible."
        )


def checked_members(given: Any) -> tuple[Fit, ...]:
    """Fits of the same columns in the same coding, with exact densities."""
    members = tuple(given) if isinstance(given, Iterable) else ()
    if not members or not all(isinstance(fit, Fit) for fit in members):
        raise CapabilityError(f"An ensemble needs at least one fit, in a list; got {given!r}.")
    first = members[0]
    for fit in members:
        if fit.schema.names != first.schema.names or not same_coding(fit.schema, first.schema):
            raise CapabilityError(
                f"{fit.name!r} was fitted to other columns (or other levels of them) than {first.name!r}; fit all members"
                " to tables with one schema."
            )
        if fit.traits.density not in ("exact", "exact_short"):
            raise CapabilityError(f"{fit.name!r} has no exact density ({fit.traits.density}); it cannot be a member.")
    return members


def checked_weights(weights: Any, members: int, name: str = "weights") -> np.ndarray:
    """Probabilities, equal where none are given."""
    if weights is None:
        return np.full(members, 1.0 / members)
    try:
        found = np.asarray(weights, dtype=float)
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.shape != (members,) or not np.isfinite(found).all() or (found < 0).any() or not found.sum() > 0:
        raise CapabilityError(f"{name} must be {members} numbers, none negative, not all zero; got {weights!r}.")
    return found / found.sum()
