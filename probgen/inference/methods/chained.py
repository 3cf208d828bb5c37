"""Chained equations: parameters and unknown cells in turn, column by column, in chains that know nothing of each other.

In every chain each column's parameters are drawn given the rows whose cell is known, then its unknown cells given the
parameters. After some sweeps the parameters of the last one are the chain's draw. Columns without holes have no part in
this; their parameters, for rows to come, are drawn at the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.batches import first_rows
from probgen.errors import CapabilityError, FitError
from probgen.families.pairwise import Pairwise
from probgen.families.shrinkage import Theta
from probgen.inference.conditionals import Completion, chains_at_once, streams_of
from probgen.inference.diagnostics import split_rhat
from probgen.inference.methods.base import Method, Step
from probgen.inference.posterior import Posterior

__all__ = ["Chained"]

LAST = 5  # sweeps in which columns without holes take part


class Chained(Method):
    """One draw of all parameters from each of several chains; several processes divide them.

    Options:
        draws: how many chains.
        sweeps: over the columns, of each.
    """

    defaults = {"draws": 20, "sweeps": 20}
    max_steps = 10**9
    iterates = "sweep"
    independent = True
    divides = "chains"
    in_step = False

    def init(self) -> None:
        for name in ("draws", "sweeps"):
            number = self.task.options[name]
            if not isinstance(number, int) or number < 1:
                raise CapabilityError(f"{name} must be a whole number of at least 1, got {number!r}.")
        self.columns: Pairwise = self.task.program.columns  # type: ignore[assignment]
        own = self.task.chains.share(self.task.options["draws"])
        if not own:
            raise CapabilityError("There are more processes than draws; start fewer, or ask for more draws.")
        self.rows, self.weights = first_rows(self.task.batches.pieces(), len(self.task.batches))
        size = chains_at_once(self.columns, len(self.rows))
        self.groups = [list(own)[at : at + size] for at in range(0, len(own), size)]
        self.count = 0
        self.kept: list[dict[str, Tensor]] = []
        self.traces: list[Tensor] = []
        self.begin()

    def begin(self) -> None:
        """The next group of chains."""
        chains = self.groups[self.count // self.task.options["sweeps"]]
        self.completion = Completion(self.columns, self.rows, streams_of(self.task.seed, chains, "start"))
        self.theta: dict[int, Theta] = {}
        self.trace: list[Tensor] = []

    def step(self) -> Step:
        group, sweep = divmod(self.count, self.task.options["sweeps"])
        if sweep == 0 and group:
            self.begin()
        chains, visited = self.groups[group], self.completion.visited
        with torch.no_grad():
            density = sum(self.visit(at, chains, sweep) for at in visited)
            if sweep >= self.task.options["sweeps"] - LAST:
                for at in sorted(set(range(len(self.columns.schema))) - set(visited)):
                    self.redraw(at, chains, sweep)
        self.trace.append(self.moments(visited))
        self.count += 1
        if sweep + 1 == self.task.options["sweeps"]:
            self.keep()
        done = self.count == len(self.groups) * self.task.options["sweeps"]
        return Step({"objective": float(density) / len(self.rows)}, done, done)

    def visit(self, at: int, chains: list[int], sweep: int) -> float:
        """One column: parameters, then cells. Returns the mean log density of its known cells, summed over rows."""
        density = self.redraw(at, chains, sweep)
        self.completion.redraw(at, self.theta[at], streams_of(self.task.seed, chains, "cells", sweep, at))
        return density

    def redraw(self, at: int, chains: list[int], sweep: int) -> float:
        """One column's parameters, given the rows in which it is known."""
        rows, response = self.completion.known[at], self.columns.responses[at]
        everywhere = len(rows) == len(self.rows)
        features = self.completion.features if everywhere else self.completion.features[:, rows]
        design, x = self.columns.design(features, at), self.rows[rows, at]
        weights = None if self.weights is None else self.weights[rows]
        streams = streams_of(self.task.seed, chains, "parameters", sweep, at)
        theta = self.theta.get(at) or response.start(len(chains))
        self.theta[at] = response.redraw(theta, design, x, weights, streams, at not in self.theta)
        return float(response.log_density(self.theta[at], design, x).sum(1).mean())

    def moments(self, visited: list[int]) -> Tensor:
        """``(2, C, R)``: means and standard deviations of the cells drawn in C columns, as they are read."""
        found = []
        for at in visited:
            cells = self.completion.features[:, self.completion.unknown[at], int(self.columns.places[at][0])]
            found.append(torch.stack([cells.mean(1), cells.std(1, correction=0)]))
        return torch.stack(found, 1) if found else torch.zeros(2, 0, len(self.completion.x))

    def keep(self) -> None:
        """The parameters of a group that is done."""
        named = {self.columns.schema.names[at]: theta for at, theta in sorted(self.theta.items())}
        self.kept.append({f"{name}.{key}": value for name, theta in named.items() for key, value in theta.items()})
        self.traces.append(torch.stack(self.trace))

    # -- what is left ------------------------------------------------------------------------------------------
    def result(self) -> Posterior:
        if not self.kept:
            raise FitError("Interrupted before any chain was done; there is nothing to return.")
        sites = {
            name: self.task.chains.concatenate(torch.cat([group[name] for group in self.kept]))[None]
            for name in self.kept[0]
        }
        return Posterior({}, sites, False)

    def diagnostics(self) -> dict[str, Any]:
        """How far chains agree, by the means and spreads of what they drew."""
        drawn = torch.cat(self.traces, -1).permute(3, 0, 1, 2) if self.traces else torch.zeros(0, 0, 2, 0)
        drawn = self.task.chains.concatenate(drawn)
        if min(drawn.shape) == 0 or drawn.shape[1] < 8 or drawn.shape[0] < 2:
            return {}  # too little to judge
        later = drawn[:, drawn.shape[1] // 2 :].flatten(2).double().cpu().numpy()
        moving = later[..., later.std((0, 1)) > 0]
        return {
            **({"rhat": float(np.max(split_rhat(moving)))} if moving.shape[-1] else {}),
            "traces": self.named_traces(drawn.double().cpu().numpy()),
        }

    def named_traces(self, drawn: np.ndarray) -> dict[str, list[list[float]]]:
        """What is drawn in a column -> its mean and standard deviation, as it is read, ``(sweeps, chains)``."""
        names = [self.columns.schema.names[at] for at in self.completion.visited]
        return {
            f"{moment} of {name}": drawn[:, :, row, column].T.tolist()
            for column, name in enumerate(names)
            for row, moment in enumerate(("mean", "sd"))
        }

    def pack(self) -> dict[str, Tensor]:
        state = {"count": torch.tensor(self.count), "x": self.completion.x}
        state |= {f"theta|{at}|{key}": v for at, theta in self.theta.items() for key, v in theta.items()}
        state |= {f"kept|{at}|{key}": v for at, group in enumerate(self.kept) for key, v in group.items()}
        state |= {f"traces|{at}": trace for at, trace in enumerate(self.traces)}
        return state | ({"trace": torch.stack(self.trace)} if self.trace else {})

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        self.count = int(tensors["count"])
        sweeps = self.task.options["sweeps"]
        group = max(0, (self.count - 1) // sweeps)
        self.completion = Completion(self.columns, self.rows, streams_of(self.task.seed, self.groups[group], "start"))
        self.completion.x, self.completion.features = tensors["x"], self.columns.features(tensors["x"])
        self.theta, self.kept = {}, [{} for _ in range(self.count // sweeps)]
        self.trace = list(tensors["trace"]) if "trace" in tensors else []
        self.traces = [tensors[f"traces|{at}"] for at in range(len(self.kept))]
        for path, value in tensors.items():
            what, _, place = path.partition("|")
            number, _, key = place.partition("|")
            if what == "theta":
                self.theta.setdefault(int(number), {})[key] = value
            elif what == "kept":
                self.kept[int(number)][key] = value
