r"""Training of energies that state a density up to a factor: by scores, by contrast with noise, or by their own draws.

A program offers an ``energy`` (:class:`~probgen.families.energy_columns.EnergyColumns`). Losses are those of :mod:`probgen.inference.objectives.unnormalised`; of maximum likelihood the
gradient is

.. math:: \partial_\theta \overline{\log p} = -\partial_\theta \overline{E(x)}_\text{data} + \partial_\theta \overline{E(x')}_\text{draws}.

Unknown cells of training rows are drawn given the known ones by a short walk of the energy as it is, before the row is learnt from.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from probgen.data.batches import Batch
from probgen.errors import CapabilityError, FitError
from probgen.families.denoising import SharedNoise
from probgen.families.energy_columns import EnergyColumns
from probgen.inference.averaging import MovingAverage
from probgen.inference.energy_chains import Negatives, negatives
from probgen.inference.energy_paths import Path, free_path
from probgen.inference.methods.adversarial import shares
from probgen.inference.methods.base import Method, Step, Task
from probgen.inference.methods.svi import clip
from probgen.inference.objectives.unnormalised import LIKELIHOOD, OBJECTIVES, Settings, check_objective
from probgen.inference.posterior import Posterior
from probgen.inference.runtime import seed_of, seeded
from probgen.whole import check_whole

__all__ = ["UnnormalisedTraining"]

WATCHED = 512  # rows by which objectives of draws are told where none are held out
COMPARED = 2048  # draws of the mixture behind that
FAILURES = 50  # steps whose gradient is not finite
WHOLE = ("batch_size", "noise_rows", "slices", "chain_steps", "leapfrogs", "temperatures", "replay", "patience")


class UnnormalisedTraining(Method):
    """Adam on minibatches with warm-up and cosine decay; the weights kept are those that held-out rows liked best.

    The history's objective is minus the loss, a row; of "contrastive_divergence" and "annealed_likelihood", whose loss says nothing, the log
    likelihood with Z by importance from the mixture, renewed at every look.

    Options:
        objective: "noise_contrastive", "contrastive_divergence", "annealed_likelihood", and of continuous columns "score_matching",
            "sliced_score_matching", "denoising_score_matching" and "multiscale_denoising".
        noise_rows: of "noise_contrastive", for one of the data.
        noise_scale, largest_scale: standard deviations of noise in "denoising_score_matching" (the first) and "multiscale_denoising".
        slices: directions of "sliced_score_matching".
        chains: of "contrastive_divergence": "persistent" or "data".
        chain_count: draws a step; as many as the batch has rows where it is None.
        chain_steps, leapfrogs: sweeps between two steps, and steps of a trajectory; one is Langevin's.
        replay, restart_share: size of the buffer of persistent chains, and the share of chains that begin anew each time.
        temperatures: of "annealed_likelihood".
        label_weight: of the log probability of the target, where there is one.
        batch_size, learning_rate, clip, average: of the steps; the last is the decay of the moving average of the weights.
        validate_every, patience: steps between looks at the held-out rows, and looks without improvement before stopping.
        hole_steps: sweeps that draw a row's unknown cells.
    """

    defaults = {
        "objective": "noise_contrastive",
        "noise_rows": 4,
        "noise_scale": 0.05,
        "largest_scale": 1.0,
        "slices": 1,
        "chains": "persistent",
        "chain_count": None,
        "chain_steps": 10,
        "leapfrogs": 1,
        "replay": 4096,
        "restart_share": 0.05,
        "temperatures": 20,
        "label_weight": 1.0,
        "batch_size": 128,
        "learning_rate": 2e-3,
        "clip": 100.0,
        "average": 0.99,
        "validate_every": 50,
        "patience": 20,
        "hole_steps": 5,
    }
    max_steps = 3000
    tolerance = 0.0
    validates = True
    normalises = False
    in_nats = False

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        options = task.options
        for name in WHOLE:
            check_whole(name, options[name])
        for name in ("noise_scale", "largest_scale"):
            if not options[name] > 0:
                raise CapabilityError(f"{name} is a standard deviation above 0, got {options[name]!r}.")
        self.energy: EnergyColumns = task.program.energy  # type: ignore[assignment]
        self.name = options["objective"]
        check_objective(self.name, self.energy)
        self.settings = Settings(*(options[k] for k in ("noise_scale", "largest_scale", "slices", "noise_rows")))
        self.count, self.skipped, self.stale, self.last, self.best = 0, 0, 0, -math.inf, -math.inf
        self.best_state: dict[str, Any] | None = None

    def init(self) -> None:
        options = self.task.options
        self.weights = list(self.energy.parameters())
        self.optimiser = torch.optim.Adam(self.weights, lr=options["learning_rate"], betas=(0.9, 0.99), fused=True)
        self.average = MovingAverage(self.weights, options["average"])
        self.draws: Negatives | None = None
        with torch.no_grad(), seeded(self.task.seed, "chains"):
            if self.name in LIKELIHOOD:
                self.draws = negatives(self.name, self.energy, options)
        self.epoch, self.place = 0, 0
        self.stream = self.minibatches()

    def minibatches(self) -> Iterator[Batch]:
        """From the place reached in the present epoch on."""
        batches = self.task.batches
        while True:
            batches.batch_size = self.task.options["batch_size"]
            for batch in islice(batches.epoch(seed_of(self.task.seed, "epoch", self.epoch) % 2**62), self.place, None):
                self.place += 1
                yield batch
            self.epoch, self.place = self.epoch + 1, 0

    # -- one step ----------------------------------------------------------------------------------------------
    def completed(self, batch: Batch) -> Tensor:
        """Features ``(B, F)`` of rows, unknown cells drawn."""
        features, seen, _ = self.energy.units.read(batch.x)
        holes = (~seen).any(1)
        if holes.any():
            known = self.energy.units.spread(seen)[holes]
            path, steps = Path(self.energy, features[holes], known, 1), self.task.options["hole_steps"]
            features = features.clone()
            features[holes] = path.completed(SharedNoise(), 1, steps, 1)[0]
        return features

    def per_row(self, features: Tensor) -> Tensor:
        """``(B,)`` losses of objectives without draws, the target's included."""
        loss = OBJECTIVES[self.name](self.energy, features, self.settings)
        return loss - self.labelled(features)

    def labelled(self, features: Tensor) -> Any:
        """``(B,)``: weighted log probability of the target's level."""
        weight = self.task.options["label_weight"]
        return weight * self.energy.log_label(features) if self.energy.target and weight else 0.0

    def loss(self, batch: Batch) -> Tensor:
        """Of a minibatch."""
        with torch.no_grad():
            features = self.completed(batch)
        share = shares(batch)
        if self.draws is None:
            return (share * self.per_row(features)).sum()
        with torch.no_grad():
            drawn, weight = self.draws.draw(features)
        own = self.energy.marginal(features) + self.labelled(features)
        return (weight * self.energy.marginal(drawn)).sum() - (share * own).sum()

    def step(self) -> Step:
        options = self.task.options
        with seeded(self.task.seed, "unnormalised", self.count):
            loss = self.loss(next(self.stream))
        for group in self.optimiser.param_groups:
            group["lr"] = options["learning_rate"] * self.rate_factor()
        gradients = torch.autograd.grad(loss, self.weights, allow_unused=True)
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient
        if clip(self.weights, options["clip"]):
            self.optimiser.step()
            self.average.update()
        else:
            self.skip()
        self.optimiser.zero_grad(set_to_none=True)
        self.count += 1
        values, done = {"objective": -float(loss.detach())}, False
        if self.count % options["validate_every"] == 1:
            done = self.look(values)
        if self.draws is not None:
            values["objective"] = self.last
        return Step(values, done, done)

    def skip(self) -> None:
        """A step whose gradient is not finite."""
        self.skipped += 1
        if self.skipped > FAILURES:
            raise FitError(
                f"The gradient was not finite in more than {FAILURES} steps; lower learning_rate or check the data's scale."
            )

    def rate_factor(self) -> float:
        """Linear warm-up over the first 2 %, then a cosine to 1 %."""
        total, warm = max(self.task.max_steps, 1), max(1, self.task.max_steps // 50)
        if self.count < warm:
            return (self.count + 1) / warm
        return 0.01 + 0.495 * (1 + math.cos(math.pi * min(1.0, (self.count - warm) / max(total - warm, 1))))

    # -- looks -------------------------------------------------------------------------------------------------
    def look(self, values: dict[str, float]) -> bool:
        """Score held-out rows by the averaged weights, keep the best, and say whether patience is exhausted."""
        held_out = self.task.validation
        if held_out is None and self.draws is None:
            return False
        with seeded(self.task.seed, "validation"), self.average.applied():
            self.last = self.score(self.watched() if held_out is None else list(held_out.pieces()))
            if held_out is None:
                return False
            values["validation"] = self.last
            self.stale += 1
            if self.best < self.last < math.inf:
                self.best, self.stale = self.last, 0
                self.best_state = copy.deepcopy(self.energy.state_dict())
        return self.stale >= self.task.options["patience"]

    def watched(self) -> list[Batch]:
        """Some training rows."""
        batches, before = self.task.batches, self.task.batches.batch_size
        batches.batch_size = WATCHED
        batch = next(batches.epoch(seed_of(self.task.seed, "watched") % 2**62))
        batches.batch_size = before
        return [batch]

    def score(self, pieces: list[Batch]) -> float:
        """Minus the mean loss; of objectives of draws the log likelihood by importance."""
        total, rows = 0.0, 0
        for batch in pieces:
            with torch.no_grad():
                features = self.completed(batch)
            if self.draws is None:
                value = -self.per_row(features).detach()
            else:
                with torch.no_grad():
                    value = self.energy.log_density(features) - self.log_z()
            total += float((shares(batch) * value).sum()) * len(batch)
            rows += len(batch)
        return total / max(rows, 1)

    def log_z(self) -> Tensor:
        """By importance from the mixture: rough, and the same draws at every look."""
        with seeded(self.task.seed, "importance"):
            place = free_path(self.energy).start(COMPARED, SharedNoise())
        return (place.values[1] - place.values[0]).logsumexp(0) - math.log(COMPARED)

    # -- the end -----------------------------------------------------------------------------------------------
    def result(self) -> Posterior:
        if self.best_state is not None:
            self.energy.load_state_dict(self.best_state)
        elif self.average.decay:
            self.average.write(self.average.mean)
        if not all(weight.isfinite().all() for weight in self.weights):
            raise FitError("The weights are no longer finite; lower learning_rate.")
        return Posterior()

    def diagnostics(self) -> dict[str, Any]:
        best = None if self.best == -math.inf else self.best
        found = {"skipped_steps": self.skipped, "best_validation": best, "objective": self.name}
        if self.draws is not None:
            found["acceptance"] = self.draws.accepted
        return found

    # -- the state ---------------------------------------------------------------------------------------------
    def pack(self) -> dict[str, Tensor]:
        packed = {f"program|{k}": v for k, v in self.task.program.state_dict().items()}
        for number, state in self.optimiser.state_dict()["state"].items():
            packed |= {f"optimiser|{number}|{key}": torch.as_tensor(value) for key, value in state.items()}
        if self.best_state is not None:
            packed |= {f"best|{k}": v for k, v in self.best_state.items()}
        if self.draws is not None:
            packed |= {f"draws|{k}": v for k, v in self.draws.pack().items()}
        return (
            packed
            | self.average.pack()
            | {
                "count": torch.tensor([self.count, self.skipped, self.stale, self.epoch, self.place]),
                "last": torch.tensor([self.last, self.best], dtype=torch.float64),
            }
        )

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        self.count, self.skipped, self.stale, self.epoch, self.place = tensors["count"].tolist()
        self.last, self.best = tensors["last"].tolist()
        self.average.unpack(tensors)
        self.task.program.load_state_dict(part_of(tensors, "program"))
        self.best_state = part_of(tensors, "best") or None
        if self.draws is not None:
            self.draws.unpack(part_of(tensors, "draws"))
        state = self.optimiser.state_dict()
        for path, value in part_of(tensors, "optimiser").items():
            number, key = path.split("|")
            state["state"].setdefault(int(number), {})[key] = value
        self.optimiser.load_state_dict(state)
        self.stream = self.minibatches()


def part_of(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Those whose names begin so, without that."""
    return {key[len(name) + 1 :]: value for key, value in tensors.items() if key.startswith(f"{name}|")}
