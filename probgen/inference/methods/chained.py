"""Chained equations: parameters and unknown cells in turn, column by column, in chains that know nothing of each other.

In every chain each column's parameters are drawn given the rows whose cell is known, then its unknown cells given the
parameters, until what the chains draw has settled. The parameters and the cells of the last sweep are the chain's draw.
Columns without holes have no part in this; their parameters, for rows to come, are drawn at the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.batches import first_rows
from probgen.errors import CapabilityError, FitError
from probgen.families.pairwise import POOL, Pairwise
from probgen.families.shrinkage import Theta
from probgen.inference.agreement import Agreement, later
from probgen.inference.conditionals import Completion, chains_at_once, donors_among, started, streams_of
from probgen.inference.methods.base import Method, Step
from probgen.inference.posterior import Posterior
from probgen.whole import check_whole, is_whole

__all__ = ["Chained"]

FEWEST, ENOUGH, MOST = 12, 48, 192  # sweeps: doubled while chains are apart, beyond what is enough while they drift
HELPERS = ("anchor", "information")  # of proposals, in what is kept of a regression between sweeps
EARLY, EARLY_ROWS, ROWS_A_SLOPE = 6, 5000, 40  # sweeps in which so many rows at random are enough for the parameters
CLOSE, EXACT = 1e-2, 1e-3  # shares of a number's variance that others leave over, where chains hardly move it
LAST = 10  # draws of the parameters of columns without holes
SHOWN = 100  # rows whose density is the objective


class Chained(Method):
    """One draw of all parameters and all unknown cells from each of several chains; several processes divide them.

    Options:
        draws: how many chains.
        sweeps: over the columns, of each; "auto" is 12, doubled while chains are apart, beyond 48 only while
            they drift, 192 at most.
    """

    defaults = {"draws": 20, "sweeps": "auto"}
    max_steps = 10**9
    iterates = "sweep"
    independent = True
    divides = "chains"
    in_step = False

    def init(self) -> None:
        draws, sweeps = self.task.options["draws"], self.task.options["sweeps"]
        check_whole("draws", draws)
        if sweeps != "auto" and not is_whole(sweeps, 1):
            raise CapabilityError(f"sweeps must be 'auto' or a whole number of at least 1, got {sweeps!r}.")
        self.columns: Pairwise = self.task.program.columns  # type: ignore[assignment]
        own = self.task.chains.share(draws)
        if not own:
            raise CapabilityError("There are more processes than draws; start fewer, or ask for more draws.")
        self.rows, self.weights = first_rows(self.task.batches.pieces(), len(self.task.batches))
        if self.weights is not None:
            self.weights = self.weights * (len(self.weights) / self.weights.sum())
        size = chains_at_once(self.columns, len(self.rows))
        self.groups = [Group(list(own)[at : at + size]) for at in range(0, len(own), size)]
        self.sweeps = FEWEST if sweeps == "auto" else sweeps  # to which all groups go before chains are compared
        self.early = min(EARLY, self.sweeps // 2)  # sweeps that only lead to where the posterior is
        self.current: Group | None = None
        self.agreement: Agreement | None = None

    def step(self) -> Step:
        group = next(one for one in self.groups if one.swept < self.sweeps)
        with torch.no_grad():
            self.sweep(group)
            reached = all(one.swept == self.sweeps for one in self.groups)
            done = reached and not self.goes_on()
            density = self.density(group)
            if done:
                for one in self.groups:
                    self.finish(one)
        return Step({"objective": density}, done, done and self.settled())

    def goes_on(self) -> bool:
        """Whether chains are still apart, and may take twice as many sweeps; all processes find the same."""
        self.agreement = Agreement(later(self.traces(), 1))
        longer = self.task.options["sweeps"] == "auto" and self.agreement.apart and self.sweeps < MOST
        longer = longer and (self.sweeps < ENOUGH or self.agreement.may_drift)
        self.sweeps *= 1 + longer
        return longer

    def settled(self) -> bool:
        """Whether all chains have been compared, and nothing speaks against them."""
        return self.agreement is not None and self.agreement.settled

    # -- sweeps ------------------------------------------------------------------------------------------------
    def sweep(self, group: Group) -> None:
        """All columns with holes: parameters, then cells."""
        completion = self.completion(group)
        for at in completion.visited:
            self.redraw(group, at, group.swept)
            streams = streams_of(self.task.seed, group.chains, "cells", group.swept, at)
            completion.redraw(at, group.theta[at], streams)
        group.trace.append(self.moments(completion))
        group.swept += 1

    def completion(self, group: Group) -> Completion:
        """The completed rows of a group, which takes the place of another one's."""
        if self.current is not group:
            if self.current is not None:
                self.current.completion = None
            self.current = group
        if group.completion is None:
            if group.x is None:
                donors, streams = donors_among(self.rows), streams_of(self.task.seed, group.chains, "start")
                group.x = started(self.columns, self.rows, donors, self.task.seed, streams)
            group.completion = Completion(self.columns, self.rows, group.x, weights=self.weights)
        return group.completion

    def redraw(self, group: Group, at: int, sweep: int) -> None:
        """One column's parameters, given the rows in which it is known."""
        completion, response = self.completion(group), self.columns.responses[at]
        rows, before = self.seen(completion.known[at], at, sweep), group.theta.get(at)
        design = self.columns.design(completion.features_of(rows), at)
        weights = None if self.weights is None else self.weights[rows]
        streams = streams_of(self.task.seed, group.chains, "parameters", sweep, at)
        theta, first = before or response.start(len(group.chains)), before is None or sweep == self.early
        group.theta[at] = response.redraw(theta, design, self.rows[rows, at], weights, streams, first)

    def seen(self, rows: Tensor, at: int, sweep: int) -> Tensor:
        """From which of the rows parameters are drawn: in early sweeps from some; in their order."""
        response = self.columns.responses[at]
        enough = max(EARLY_ROWS, ROWS_A_SLOPE * (1 + response.mains + response.products))
        if sweep >= self.early or len(rows) <= enough:
            return rows
        chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(at), device="cpu")[:enough]
        return rows[chosen.sort().values.to(rows.device)]

    @torch.no_grad()
    def finish(self, group: Group) -> None:
        """Parameters of the columns without holes, given the completed rows."""
        for at in set(range(len(self.columns.schema))) - set(self.completion(group).visited):
            for number in range(LAST):
                self.redraw(group, at, self.sweeps + number)

    def density(self, group: Group) -> float:
        """Mean log density of known cells of some rows, summed over the columns with holes."""
        completion, total = self.completion(group), 0.0
        for at in completion.visited:
            rows = completion.known[at][:SHOWN]
            design = self.columns.design(completion.features_of(rows), at)
            found = self.columns.responses[at].log_density(group.theta[at], design, self.rows[rows, at])
            total += float(found.mean()) if found.numel() else 0.0
        return total

    def moments(self, completion: Completion) -> Tensor:
        """``(2, C, R)``: means and standard deviations of the cells drawn in C columns, as they are read."""
        found = []
        for at in completion.visited:
            cells = completion.features[:, completion.unknown[at], int(self.columns.places[at][0])]
            found.append(torch.stack([cells.mean(1), cells.std(1, correction=0)]))
        return torch.stack(found, 1) if found else torch.zeros(2, 0, len(completion.x))

    # -- what is left ------------------------------------------------------------------------------------------
    def result(self) -> Posterior:
        done = [group for group in self.groups if group.swept]
        if not done:
            raise FitError("Interrupted before a sweep had ended; there is nothing to return.")
        for group in done:
            if len(group.theta) < len(self.columns.schema):  # interrupted
                self.finish(group)
        together = self.task.chains.concatenate
        sites = {}
        for at, name in enumerate(self.columns.schema.names):
            for key in filter(lambda key: not key.endswith(HELPERS), done[0].theta[at]):
                sites[f"{name}.{key}"] = together(torch.cat([group.theta[at][key] for group in done]))[None]
        x = torch.cat([group.x for group in done if group.x is not None])
        pool = together(x[:, self.spread(POOL)])
        numbers = torch.arange(POOL)
        self.columns.pool = pool[numbers % len(pool), numbers]
        return Posterior({}, sites, False, cells=together(x[:, self.rows.isnan()]))

    def spread(self, many: int) -> Tensor:
        """Rows at even distances, along the sum of their weights."""
        weights = torch.ones(len(self.rows)) if self.weights is None else self.weights
        upto = weights.cumsum(0)
        return torch.searchsorted(upto, torch.linspace(0.5, many - 0.5, many) / many * upto[-1]).clamp_max(
            len(upto) - 1
        )

    def traces(self) -> np.ndarray:
        """``(chains, sweeps, 2, C)``, of all processes."""
        drawn = torch.cat([torch.stack(group.trace[: self.sweeps]) for group in self.groups], -1).permute(3, 0, 1, 2)
        found: np.ndarray = self.task.chains.concatenate(drawn).double().cpu().numpy()
        return found

    def diagnostics(self) -> dict[str, Any]:
        """How far chains agree, by the means and spreads of what they drew."""
        if not all(group.swept == self.sweeps for group in self.groups):
            return {}
        found = Agreement(later(self.traces(), 1))
        told = {key: value for key, value in (("rhat", found.rhat), ("drift", found.drift)) if not np.isnan(value)}
        return {**told, "sweeps": self.sweeps, "traces": self.named_traces(), "unsettled": self.unsettled(found)}

    def unsettled(self, found: Agreement) -> str:
        """What a reader should not overlook; empty where all is well."""
        tied = self.tied()
        if tied or found.settled:
            return tied
        return (
            f"chains have not settled after {self.sweeps} sweeps (R-hat {found.rhat:.2f}): columns follow from each other"
            " almost exactly, or are hardly ever known together. Drop one of them, or ask for more sweeps."
        )

    def tied(self) -> str:
        """Which columns follow from each other so closely that chains can hardly move them where several are unknown."""
        left = {at: self.left_over(at) for at in self.visited}
        close, unknown = [at for at, share in left.items() if share < CLOSE], self.rows.isnan()
        exact = [at for at in close if left[at] < EXACT]
        rows = int((unknown[:, exact].any(1) & (unknown[:, close].sum(1) > 1)).sum())
        if not rows:
            return ""
        names = ", ".join(repr(self.columns.schema.names[at]) for at in close)
        return (
            f"{names} follow from each other almost exactly, and in {rows} rows several of them are unknown: draws of these rows"
            " may lie far from the data. Say how one is computed, pg.Design(derived=...), or leave one out."
        )

    def left_over(self, at: int) -> float:
        """The share of a number's variance that the others do not explain; 1 of what is no number."""
        own = [group.theta[at] for group in self.groups]
        found = [theta[key].mean() for theta in own for key in theta if key.endswith("variance")]
        return float(torch.stack(found).mean()) if found else 1.0

    @property
    def visited(self) -> list[int]:
        """Columns with holes."""
        return torch.nonzero(self.rows.isnan().any(0))[:, 0].tolist()

    def named_traces(self) -> dict[str, list[list[float]]]:
        """What is drawn in a column -> its mean and standard deviation, as it is read, ``(sweeps, chains)``."""
        drawn = self.traces()
        names = [self.columns.schema.names[at] for at in self.completion(self.groups[-1]).visited]
        return {
            f"{moment} of {name}": drawn[:, :, row, column].T.tolist()
            for column, name in enumerate(names)
            for row, moment in enumerate(("mean", "sd"))
        }

    # -- checkpoints -------------------------------------------------------------------------------------------
    def pack(self) -> dict[str, Tensor]:
        state = {"sweeps": torch.tensor(self.sweeps)}
        for number, group in enumerate(self.groups):
            state |= {f"{number}|{key}": value for key, value in group.pack().items()}
        return state

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        self.sweeps = int(tensors["sweeps"])
        for number, group in enumerate(self.groups):
            own = {key.partition("|")[2]: v for key, v in tensors.items() if key.partition("|")[0] == str(number)}
            group.unpack(own)


class Group:
    """Chains that stand side by side.

    Args:
        chains: their numbers.
    """

    def __init__(self, chains: list[int]) -> None:
        self.chains, self.swept = chains, 0
        self.x: Tensor | None = None  # (R, N, D), without holes
        self.completion: Completion | None = None  # of the same cells, while it is this group's turn
        self.theta: dict[int, Theta] = {}
        self.trace: list[Tensor] = []

    def pack(self) -> dict[str, Tensor]:
        """As named tensors."""
        state = {"swept": torch.tensor(self.swept)}
        state |= {f"theta|{at}|{key}": value for at, theta in self.theta.items() for key, value in theta.items()}
        state |= {"trace": torch.stack(self.trace)} if self.trace else {}
        return state | ({} if self.x is None else {"x": self.x})

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        """Go on from there."""
        self.swept, self.x, self.completion = int(tensors["swept"]), tensors.get("x"), None
        self.trace = list(tensors["trace"]) if "trace" in tensors else []
        self.theta = {}
        for path, value in tensors.items():
            what, _, place = path.partition("|")
            number, _, key = place.partition("|")
            if what == "theta":
                self.theta.setdefault(int(number), {})[key] = value
