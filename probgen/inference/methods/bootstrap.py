r"""The Bayesian bootstrap (Rubin, 1981): parameters that differ as the rows might have.

Each draw is the fit to the same rows with weights

.. math:: (w_1, \dots, w_N) \sim N \, \mathrm{Dirichlet}(1, \dots, 1)

climbed to by EM from where the fit with the rows' own weights ended. No row, and so no rare level, ever disappears.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.errors import CapabilityError, FitError
from probgen.inference.methods.base import Method, Step, first_of_the_best
from probgen.inference.methods.em import ExpectationMaximisation, named
from probgen.inference.posterior import Posterior, Theta
from probgen.inference.runtime import seed_of, seeded
from probgen.whole import check_whole

__all__ = ["Bootstrap"]


class Bootstrap(Method):
    """Draws of the parameters from refits with random row weights; several processes divide them.

    Options:
        draws: how many.
        starts: of EM for the fit with the rows' own weights, of which the best is kept.
        climb: most iterations of EM for one draw; the fit with the rows' own weights may take five times as many.
        start: as for EM.
    """

    defaults = {"draws": 20, "starts": 4, "climb": 100, "start": None}
    max_steps = 10**9
    iterates = "draw"
    wherever = "em"
    independent = True
    divides = "chains"
    in_step = False
    varies = False

    def init(self) -> None:
        for name in ("draws", "starts", "climb"):
            number = self.task.options[name]
            check_whole(name, number)
        if not hasattr(self.task.batches.source, "with_weights"):
            raise CapabilityError("The bootstrap weighs rows of a table in memory; read the file by pg.read_table.")
        self.own = self.task.chains.share(self.task.options["draws"])
        if not self.own:
            raise CapabilityError("There are more processes than draws; start fewer, or ask for more draws.")
        self.count = self.own.start
        self.kept: list[Theta] = []
        best = first_of_the_best(self.climbs(), lambda em: em.previous)
        self.theta, self.objective = best.theta, best.previous

    def climbs(self) -> Iterator[ExpectationMaximisation]:
        """EM with the rows' own weights, from several starts; those that fail are left out."""
        failures = []
        for number in range(self.task.options["starts"]):
            seed = seed_of(self.task.seed, "restart", number) if number else self.task.seed
            em = ExpectationMaximisation(replace(self.task, seed=seed))
            try:
                yield self.climbed(em, 5 * self.task.options["climb"])
            except FitError as error:
                failures.append(error)
            if not em.varies or not isinstance(self.task.options["start"], str | None):
                break
        if len(failures) > number:
            raise failures[0]

    def climbed(self, em: ExpectationMaximisation, most: int) -> ExpectationMaximisation:
        em.init()
        for _ in range(most):
            if em.step().done:
                break
        return em

    def step(self) -> Step:
        source: Any = self.task.batches.source
        with seeded(self.task.seed, "bootstrap", self.count):
            weights = torch.empty(len(source), dtype=torch.float64).exponential_().cpu().numpy()
        if source.weights is not None:
            weights = weights * source.weights
        weights *= (len(source) if source.weights is None else source.weights.sum()) / weights.sum()
        batches = self.task.batches.over(source.with_weights(np.asarray(weights)))
        task = replace(self.task, batches=batches, options={"start": self.theta})
        em = self.climbed(ExpectationMaximisation(task), self.task.options["climb"])
        self.kept.append(em.theta)
        self.count += 1
        done = self.count == self.own.stop
        return Step({"objective": em.previous}, done, done)

    # -- what is left ------------------------------------------------------------------------------------------
    def result(self) -> Posterior:
        if not self.kept:
            raise FitError("Interrupted before any draw was kept; there is nothing to return.")
        parameters = {
            name: {
                key: self.task.chains.concatenate(torch.stack([draw[name][key] for draw in self.kept]))[None]
                for key in theta
            }
            for name, theta in self.kept[0].items()
        }
        return Posterior(parameters, {}, False)

    def diagnostics(self) -> dict[str, Any]:
        return {"fit_objective": float(self.objective)}

    def pack(self) -> dict[str, Tensor]:
        kept = {name: {k: torch.stack([d[name][k] for d in self.kept]) for k in t} for name, t in self.theta.items()}
        state = {"count": torch.tensor(self.count), "objective": torch.tensor(self.objective, dtype=torch.float64)}
        return named({"theta": self.theta, **({"kept": kept} if self.kept else {})}) | state

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        self.count, self.objective = int(tensors["count"]), float(tensors["objective"])
        theta: Theta = {}
        kept: list[Theta] = [{} for _ in range(self.count - self.own.start)]
        for path, value in tensors.items():
            what, _, place = path.partition("|")
            name, _, key = place.rpartition("|")
            if what == "theta":
                theta.setdefault(name, {})[key] = value
            elif what == "kept":
                for draw, one in zip(kept, value, strict=True):
                    draw.setdefault(name, {})[key] = one
        self.theta, self.kept = theta, kept
