"""Greedy search for a graph by adding, deleting and turning round single edges (Heckerman, Geiger and Chickering, 1995).

Only the families that a move changed are scored again. Ties go to the first in the order add, delete, turn round, then
by the places of parent and child. A graph that was visited is not visited again, so that the search ends also where
holes make the gains of moves differ from the differences of scores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator
from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm

from probgen.structure.scores import Score

__all__ = ["Climb", "Move", "climb", "promising"]

LEAST = 1e-6  # gain of a move that counts
TIE = 1e-7  # gains that differ by less are equal
KINDS = ("add", "delete", "reverse")


@dataclass(frozen=True)
class Move:
    """One step of a search, on the edge parent -> child (places), and what it gains."""

    kind: str
    parent: int
    child: int
    gain: float


class Climb:
    """A graph that moves uphill.

    Args:
        score: of families.
        allowed: ``(D, D)``, edges that there may be.
        required: ``(D, D)``, edges that there must be.
        max_parents: the most parents of a column.
        start: ``(D, D)``, edges at the start.
        add: ``(D, D)``, gains of single edges, where they are known.

    Attributes:
        edges: ``(D, D)``, True where the row is a parent of the column.
    """

    def __init__(
        self,
        score: Score,
        allowed: np.ndarray,
        required: np.ndarray,
        max_parents: int,
        start: np.ndarray,
        add: np.ndarray | None = None,
    ) -> None:
        self.score, self.allowed, self.required, self.max_parents = score, allowed, required, max_parents
        self.edges = start | required
        self.below = closure(self.edges)  # [a, b]: is there a path from a to b?
        self.add = np.full(allowed.shape, np.nan) if add is None else add.copy()
        self.add[:, self.edges.any(0)] = np.nan
        self.drop = np.full(allowed.shape, np.nan)
        keys = np.random.default_rng(0).integers(0, 2**63, allowed.shape, dtype=np.uint64)
        self.keys, self.key = keys, np.bitwise_xor.reduce(keys[self.edges], initial=np.uint64(0))

    def parents(self, child: int) -> tuple[int, ...]:
        """Places of a column's parents, in order."""
        return tuple(np.nonzero(self.edges[:, child])[0].tolist())

    # -- what may be done --------------------------------------------------------------------------------------
    def legal(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``(D, D)`` masks of the edges that can be added, deleted, turned round."""
        room = self.edges.sum(0) < self.max_parents
        add = self.allowed & ~self.edges & ~self.below.T & room
        delete = self.edges & ~self.required
        turn = delete & self.allowed.T & room[:, None]
        parents, children = np.nonzero(turn)
        turn[parents, children] = ~(self.edges[parents] & self.below.T[children]).any(1)
        return add, delete, turn

    def values(self) -> np.ndarray:
        """``(3, D, D)``: what every move gains, minus infinity where it is not legal."""
        add, delete, turn = self.legal()
        for parent, child in np.argwhere((add | turn.T) & np.isnan(self.add)).tolist():
            self.add[parent, child] = self.score.gain(child, self.parents(child), parent)
        for parent, child in np.argwhere(delete & np.isnan(self.drop)).tolist():
            fewer = tuple(p for p in self.parents(child) if p != parent)
            self.drop[parent, child] = -self.score.gain(child, fewer, parent)
        return np.stack([
            np.where(add, self.add, -np.inf),
            np.where(delete, self.drop, -np.inf),
            np.where(turn, self.drop + np.where(turn.T, self.add, 0.0).T, -np.inf),
        ])  # fmt: skip

    def best(self, barred: Container[np.uint64]) -> Move | None:
        """The move that gains most and does not lead to one of these graphs."""
        values = self.values()
        while True:
            most = values.max(initial=-np.inf)
            if most == -np.inf:
                return None
            kind, parent, child = np.unravel_index(int(np.argmax(values >= most - TIE)), values.shape)
            key = self.key ^ self.keys[parent, child] ^ (self.keys[child, parent] if kind == 2 else np.uint64(0))
            if key not in barred:
                return Move(KINDS[kind], int(parent), int(child), float(values[kind, parent, child]))
            values[kind, parent, child] = -np.inf

    def gain(self, kind: str, parent: int, child: int) -> float:
        """What one move gains; not finite where a family cannot be scored."""
        above, below = self.parents(parent), tuple(p for p in self.parents(child) if p != parent)
        if kind == "add":
            return self.score.gain(child, below, parent)
        lost = self.score.gain(child, below, parent)
        return -lost if kind == "delete" else self.score.gain(parent, above, child) - lost

    def any_move(self, random: np.random.Generator) -> Move | None:
        """A legal move: a kind drawn among those that are, then an edge; none where it cannot be scored."""
        masks = [np.argwhere(mask) for mask in self.legal()]
        kinds = [kind for kind, places in enumerate(masks) if len(places)]
        if not kinds:
            return None
        kind = int(random.choice(kinds))
        parent, child = masks[kind][random.integers(len(masks[kind]))].tolist()
        gain = self.gain(KINDS[kind], parent, child)
        return Move(KINDS[kind], parent, child, gain) if np.isfinite(gain) else None

    # -- doing it ----------------------------------------------------------------------------------------------
    def apply(self, move: Move) -> None:
        """Change the graph; forget the gains of the families that changed."""
        parent, child = move.parent, move.child
        self.flip(parent, child)
        if move.kind == "reverse":
            self.flip(child, parent)
        if move.kind == "add":
            above = self.below[:, parent] | (np.arange(len(self.below)) == parent)
            self.below |= np.outer(above, self.below[child] | (np.arange(len(self.below)) == child))
        else:
            self.below = closure(self.edges)

    def flip(self, parent: int, child: int) -> None:
        self.edges[parent, child] ^= True
        self.key ^= self.keys[parent, child]
        self.add[:, child] = self.drop[:, child] = np.nan


def closure(edges: np.ndarray) -> np.ndarray:
    """``(D, D)``: is there a path from row to column, in a graph without cycles?"""
    found, left = edges.copy(), edges.sum(1)
    ready = np.nonzero(left == 0)[0].tolist()
    while ready:
        node = ready.pop()
        above = np.nonzero(edges[:, node])[0]
        found[above] |= found[node]
        left[above] -= 1
        ready.extend(above[left[above] == 0].tolist())
    return found


@dataclass(frozen=True)
class Found:
    """Where a climb ended: edges ``(D, D)``, the moves that led there, and what they gained."""

    edges: np.ndarray
    moves: tuple[Move, ...]
    gain: float


def climb(
    state: Climb, patience: int = 0, tabu: int | None = None, max_steps: int = 10**6, bar: tqdm | None = None
) -> Found:
    """Go up until no move gains.

    Args:
        state: where it starts; it is changed.
        patience: moves that do not lead above the best graph so far, before the search gives up.
        tabu: how many of the graphs visited last are not visited again; all where it is None.
        max_steps: the most moves.
        bar: shows the gain.
    """
    visited: deque[np.uint64] = deque([state.key], maxlen=tabu)
    level, moves = 0.0, list[Move]()
    levels = {
        int(state.key): level
    }  # as first reached: where cells are unknown, gains around a circle need not sum to zero
    best = Found(state.edges.copy(), (), 0.0)
    for _ in range(max_steps):
        move = state.best(visited)
        if move is None or (move.gain <= LEAST and len(moves) - len(best.moves) >= patience):
            break
        state.apply(move)
        visited.append(state.key)
        moves.append(move)
        level = levels.setdefault(int(state.key), level + move.gain)
        show(bar, level)
        if level > best.gain + LEAST:
            best = Found(state.edges.copy(), tuple(moves), level)
        elif len(moves) - len(best.moves) >= patience:
            break
    return best


def show(bar: tqdm | None, level: float) -> None:
    if bar is not None:
        bar.update()
        bar.set_postfix({"gain": f"{level:.4f}"}, refresh=False)


def shaken(state: Climb, moves: int, random: np.random.Generator) -> Iterator[Move]:
    """Some random moves, done one after the other."""
    for _ in range(moves):
        move = state.any_move(random)
        if move is not None:
            state.apply(move)
            yield move


def promising(gains: np.ndarray, required: np.ndarray, candidates: int) -> np.ndarray:
    """``(D, D)``: for each column the parents that gain most alone, and those of which it is one (Friedman et al., 1999)."""
    if candidates >= len(gains) - 1:
        return np.isfinite(gains) | required
    least = -np.sort(-gains, axis=0)[candidates - 1]
    found = np.isfinite(gains) & (gains >= least)
    return ((found | found.T) & np.isfinite(gains)) | required
