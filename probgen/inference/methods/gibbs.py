"""Gibbs sampling (data augmentation; Tanner and Wong, 1987) for programs whose parameters all belong to families.

In turn: what is unknown in every row (cells and discrete sites) is drawn given the parameters, exactly, by the
sum-product; then every family's parameters are drawn from their posterior given the completed rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.batches import Batch
from probgen.errors import CapabilityError, FitError
from probgen.families.base import Factor, Parameters
from probgen.inference.completion import draw_codes, gather
from probgen.inference.diagnostics import effective_sample_size, split_rhat
from probgen.inference.evidence import log_evidence
from probgen.inference.methods.base import Method, Step
from probgen.inference.methods.em import ExpectationMaximisation, Statistics, added, expected_statistics, named
from probgen.inference.posterior import Posterior, Theta
from probgen.inference.runtime import seeded
from probgen.inference.tracing import Given, labels, observe
from probgen.whole import check_whole

__all__ = ["Gibbs"]

CLIMB = 30  # iterations of EM before a chain starts


class Gibbs(Method):
    """Several chains in turn, each started after some iterations of EM; several processes divide them.

    Options:
        chains, draws, warmup: how many.
        thin: sweeps for each draw that is kept.
        start: as for EM.
    """

    defaults = {"chains": 4, "draws": 500, "warmup": 200, "thin": 1, "start": None}
    max_steps = 10**9
    iterates = "sweep"
    divides = "chains"
    in_step = False

    def init(self) -> None:
        for name in ("chains", "draws", "thin"):
            number = self.task.options[name]
            check_whole(name, number)
        self.own = self.task.chains.share(self.task.options["chains"])
        if not self.own:
            raise CapabilityError(
                f"{self.task.options['chains']} chains cannot be divided among {self.task.chains.size} processes; ask for"
                " at least one chain a process, or start fewer processes."
            )
        self.count = self.own.start * self.length  # sweeps of all chains, of which those before are other processes'
        self.kept: dict[int, list[Theta]] = {chain: [] for chain in self.own}
        self.theta: Theta = {}
        self.begin(self.own.start)

    @property
    def length(self) -> int:
        """Sweeps of one chain."""
        return self.task.options["warmup"] + self.task.options["draws"] * self.task.options["thin"]

    def begin(self, chain: int) -> None:
        """A chain's first parameters: the same climb, then a draw of its own."""
        with seeded(self.task.seed, "gibbs start", chain):
            em = ExpectationMaximisation(self.task)
            em.init()
            for _ in range(CLIMB):
                if em.step().done:
                    break
        self.families, self.theta = em.families, em.theta

    def step(self) -> Step:
        options = self.task.options
        chain, sweep = divmod(self.count, self.length)
        if sweep == 0 and chain > self.own.start:
            self.begin(chain)
        with seeded(self.task.seed, "gibbs", self.count):
            objective = self.sweep()
        if sweep >= options["warmup"] and (sweep - options["warmup"] + 1) % options["thin"] == 0:
            self.kept[chain].append({n: {k: v.clone() for k, v in t.items()} for n, t in self.theta.items()})
        self.count += 1
        done = self.count == self.own.stop * self.length
        return Step({"objective": objective}, done, done)

    def sweep(self) -> float:
        """Draw the unknown given the parameters, then the parameters. Returns the log evidence before, nats a row."""
        total, rows, statistics = 0.0, 0.0, None
        for piece in self.task.batches.pieces():
            value, found = self.completed(piece)
            total, rows = total + value, rows + len(piece)
            statistics = found if statistics is None else added(statistics, found)
        with torch.no_grad():
            drawn = {name: family.posterior_draw((statistics or {})[name]) for name, family in self.families.items()}
        self.theta = self.task.program.canonical(drawn)
        return total / max(rows, 1.0)

    def completed(self, batch: Batch) -> tuple[float, Statistics]:
        """Log evidence of a piece, and the statistics of one completion of it."""
        program = self.task.program
        with torch.no_grad():
            evidence = log_evidence(program, batch, theta=self.theta, settle=True)
            codes = draw_codes(evidence.buckets, len(batch), {})
            tracer = observe(program, batch, Given(self.theta, sites=codes), sum_out=False)
            x = gather(tracer, batch)
        whole = Batch(x, batch.schema, total=batch.total, weights=batch.weights, steps=batch._steps)
        hidden = tuple(
            Factor((symbol,), labels(codes[symbol.name].to(x), symbol.size))
            for symbol in evidence.symbols
            if symbol.name not in batch.schema.names
        )
        _, statistics = expected_statistics(program, self.families, self.theta, whole, hidden, settle=True)
        return float(evidence.total(batch.weights)), statistics

    # -- what is left ------------------------------------------------------------------------------------------
    def result(self) -> Posterior:
        chains = [chain for chain in self.kept.values() if chain]
        shortest = int(self.task.chains.concatenate(torch.tensor([min(map(len, chains), default=0)])).min())
        if not shortest:
            raise FitError("Interrupted before any draw was kept; there is nothing to return.")
        parameters: dict[str, Parameters] = {
            name: {
                key: self.task.chains.concatenate(
                    torch.stack([torch.stack([draw[name][key] for draw in chain[:shortest]]) for chain in chains])
                )
                for key in theta
            }
            for name, theta in chains[0][0].items()
        }
        self.traces = np.concatenate(
            [v.reshape(*v.shape[:2], -1).double().cpu().numpy() for t in parameters.values() for v in t.values()], -1
        )
        return Posterior(parameters, {}, False)

    def diagnostics(self) -> dict[str, Any]:
        moving = self.traces[..., np.isfinite(self.traces).all((0, 1)) & (self.traces.std((0, 1)) > 0)]
        if moving.shape[-1] == 0 or moving.shape[1] < 4:
            return {}
        return {"rhat": float(np.max(split_rhat(moving))), "ess": float(np.min(effective_sample_size(moving)))}

    def pack(self) -> dict[str, Tensor]:
        kept = {
            f"kept|{chain}": {n: {k: torch.stack([d[n][k] for d in draws]) for k in t} for n, t in draws[0].items()}
            for chain, draws in self.kept.items()
            if draws
        }
        return named({"theta": self.theta} | kept) | {"count": torch.tensor(self.count)}

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        self.count = int(tensors["count"])
        self.theta, self.kept = {}, {chain: [] for chain in self.own}
        for path, value in tensors.items():
            what, _, place = path.partition("|")
            group, _, key = place.rpartition("|")
            if what == "theta":
                self.theta.setdefault(group, {})[key] = value
            elif what == "kept":
                number, _, name = group.partition("|")
                chain = self.kept[int(number)]
                chain += [{} for _ in range(len(value) - len(chain))]
                for draw, one in zip(chain, value, strict=True):
                    draw.setdefault(name, {})[key] = one
