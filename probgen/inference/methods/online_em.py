r"""Online EM (Cappé and Moulines, 2009): statistics that move on with every minibatch.

.. math:: s \leftarrow (1 - \gamma_t)\, s + \gamma_t \frac{N}{B} \sum_{n \in \text{batch}} \mathbb E[T \mid x_n],
    \qquad \theta \leftarrow \arg\max_\theta \langle s, \eta(\theta) \rangle + \log p(\theta)

Steps :math:`\gamma_t` fall along a straight line, from ``learning_rate`` to a hundredth of it. Works for every program that EM fits and
whose families have statistics that can be added.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.batches import Batches, total_weight
from probgen.data.table import Table
from probgen.errors import CapabilityError, FitError
from probgen.inference.evidence import log_evidence
from probgen.inference.methods.base import Method, Step, Task
from probgen.inference.methods.em import (
    ExpectationMaximisation,
    Statistics,
    collapse_message,
    expected_statistics,
    maximise,
    unbounded,
)
from probgen.inference.posterior import Posterior, Theta
from probgen.inference.runtime import seed_of
from probgen.whole import check_whole

__all__ = ["OnlineExpectationMaximisation"]

LAST = 0.01  # of the first step, at the end
KEPT = ("theta", "statistics", "best_theta", "best_statistics")


class OnlineExpectationMaximisation(Method):
    """Expectation on minibatches, maximisation after each; stops by rows held out and keeps the best parameters.

    Options:
        start: as for "em".
        batch_size: rows a minibatch.
        learning_rate: the first step, at most 1.
        validation: a table to stop by, in place of a share of the rows.
        patience: passes over the rows without improvement before stopping.
    """

    defaults = {"start": None, "batch_size": 256, "learning_rate": 0.3, "validation": None, "patience": 10}
    max_steps = 100
    tolerance = 0.0
    validates = True
    iterates = "pass"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        check_options(task.options)
        self.statistics: Statistics = {}
        self.count, self.stale, self.best = 0, 0, -math.inf
        self.best_theta: Theta = {}
        self.best_statistics: Statistics = {}

    def init(self) -> None:
        task = self.task
        em = ExpectationMaximisation(task)
        em.init()
        bare = [name for name, family in em.families.items() if not family.additive]
        if bare:
            raise CapabilityError(
                f"method 'online_em' needs statistics that can be added over minibatches; those of {', '.join(bare)} change"
                " their meaning with the parameters. Use method='em'."
            )
        self.families, self.theta = em.families, em.theta
        self.rows = getattr(task.batches.source, "n_rows", len(task.batches))
        self.validation = task.validation
        if isinstance(task.options["validation"], Table):
            rows = task.batches
            self.validation = Batches(
                task.options["validation"], rows.standardiser, dtype=rows.dtype, device=rows.device, schema=rows.schema
            )
        task.batches.batch_size = task.options["batch_size"]

    @property
    def rate(self) -> float:
        """The size of the next step; the first one replaces what the start knew."""
        per_pass = math.ceil(len(self.task.batches) / self.task.options["batch_size"])
        left = 1.0 - self.count / max(1, self.task.max_steps * per_pass)
        return self.task.options["learning_rate"] * (LAST + (1.0 - LAST) * left)

    def step(self) -> Step:
        """One pass over the rows."""
        total, seen = 0.0, 0.0
        passes = self.count // math.ceil(len(self.task.batches) / self.task.options["batch_size"])
        for batch in self.task.batches.epoch(seed_of(self.task.seed, "epoch", passes) % 2**62):
            value, found = expected_statistics(self.task.program, self.families, self.theta, batch)
            total, seen = total + value, seen + batch.total
            self.move(found, self.rows / batch.total)
        objective = total / seen
        if not np.isfinite(objective) or unbounded(self.theta):
            raise FitError(collapse_message(self.families))
        values = {"objective": objective}
        done = self.look(values)
        return Step(values, done, done)

    def move(self, found: Statistics, share: float) -> None:
        """Statistics go a step towards those of a minibatch, made to stand for all rows; parameters follow."""
        rate = self.rate if self.count else 1.0
        for name, group in found.items():
            kept = self.statistics.setdefault(name, {key: torch.zeros_like(value) for key, value in group.items()})
            for key, value in group.items():
                kept[key].lerp_(value * share if share != 1.0 else value, rate)
        self.theta = self.task.program.canonical(maximise(self.families, self.statistics, self.theta))
        self.count += 1

    def look(self, values: dict[str, float]) -> bool:
        """Score the rows held out, keep the best parameters, and say whether patience is exhausted."""
        if self.validation is None:
            return False
        with torch.no_grad():
            scores = [log_evidence(self.task.program, batch, theta=self.theta) for batch in self.validation.pieces()]
        total = sum(float(e.total(b.weights)) for e, b in zip(scores, self.validation.pieces(), strict=True))
        values["validation"] = total / total_weight(self.validation.source)
        self.stale += 1
        if values["validation"] > self.best:
            self.best, self.stale, self.best_theta = values["validation"], 0, self.theta
            self.best_statistics = {
                n: {k: v.clone() for k, v in group.items()} for n, group in self.statistics.items()
            }
        return self.stale >= self.task.options["patience"]

    # -- the end -----------------------------------------------------------------------------------------------
    def result(self) -> Posterior:
        return Posterior.at(self.best_theta or self.theta)

    def diagnostics(self) -> dict[str, Any]:
        return {"best_validation": None if self.best == -math.inf else self.best}

    def memory(self) -> Statistics:
        return self.best_statistics or self.statistics

    def pack(self) -> dict[str, Tensor]:
        packed = {
            f"{what}|{name}|{key}": value
            for what in KEPT
            for name, group in getattr(self, what).items()
            for key, value in group.items()
        }
        state = torch.tensor([self.count, self.stale, self.best], dtype=torch.float64)
        return packed | {"state": state}

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        found: dict[str, dict] = {what: {} for what in KEPT}
        for path, value in tensors.items():
            if path != "state":
                what, name, key = path.split("|")
                found[what].setdefault(name, {})[key] = value
        for what in KEPT:
            setattr(self, what, found[what])
        count, stale, self.best = tensors["state"].tolist()
        self.count, self.stale = int(count), int(stale)


def check_options(options: dict[str, Any]) -> None:
    """Refuse what cannot be."""
    check_whole("batch_size", options["batch_size"])
    if not 0 < options["learning_rate"] <= 1:
        raise CapabilityError(f"learning_rate must lie above 0 and at most at 1, got {options['learning_rate']!r}.")
    if options["validation"] is not None and not isinstance(options["validation"], Table):
        raise CapabilityError(f"validation must be a Table, got {type(options['validation']).__name__}.")
