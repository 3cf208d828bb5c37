r"""Adversarial training of a generator against a critic (Goodfellow et al., 2014): two players, an optimiser each, one loop.

A program offers ``columns``, which read rows as numbers; ``shown``, which chooses the cells of training rows that its generator is shown, and which rows of the data its own are
compared with; a ``critic`` of rows; and a model one of whose sites has :class:`~probgen.families.relaxed.Generated` rows. It may offer ``kept``, what generated rows are to keep
beside: names with weights and differences. The critic learns from rows of the data and rows that the program completes from what it is
shown of them; the generator learns from the critic's gradient. Nothing here is a density. The generator that is kept is the moving average of its weights (Yazıcı et al., 2019).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from probgen.data.batches import Batch
from probgen.errors import CapabilityError, ConvergenceWarning, FitError
from probgen.families.adversaries import Comparison
from probgen.families.relaxed import Generated
from probgen.inference.averaging import MovingAverage
from probgen.inference.collapse import collapsed, compared, energy_distance
from probgen.inference.methods.base import Method, Step, Task
from probgen.inference.methods.svi import clip
from probgen.inference.objectives.adversarial import AdversarialObjective
from probgen.inference.posterior import Posterior
from probgen.inference.runtime import seed_of, seeded
from probgen.inference.tracing import observe
from probgen.whole import check_whole

__all__ = ["AdversarialTraining"]

WATCHED, COMPARED = 256, 1000  # rows that are looked at on the way, and at the end
LOOK = 50  # steps between two looks
ENOUGH = 200  # steps after which a generator should not have collapsed
FAILURES = 50  # steps whose gradient is not finite


@dataclass
class Shown:
    """Rows of the data, and what the generator is shown of them.

    Attributes:
        rows: ``(B, F)`` numbers that generated rows are compared with, nought where they are not looked at.
        by: which cells are shown, and which are looked at in which rows.
        batch: the rows with nothing known but what is shown.
    """

    rows: Tensor
    by: Comparison
    batch: Batch


class AdversarialTraining(Method):
    """Steps of the critic and of the generator in turn.

    The history has ``critic`` and ``generator``, the losses, what generated rows are to keep (``fidelity``; of cycles ``cycle`` and ``identity``) as mean absolute differences without their weights, and ``objective``: minus the energy distance between 256 training rows and rows generated
    from what is always shown of them, looked at every fifty steps.

    Options:
        objective: "non_saturating", "hinge", "wasserstein" or "relativistic".
        gradient_penalty, r1, r2: weights of the penalties of the critic's slope; None for what the objective usually has.
        critic_steps: of the critic for one of the generator.
        fidelity: weight of the mean absolute difference between hidden cells of the data and generated ones, a Laplace density (Isola et al., 2017); None
            for the program's own.
        batch_size, learning_rate: of the optimisers.
        critic_rate: learning rate of the critic; None for twice that of the generator (Heusel et al., 2017).
        momentum: of the optimisers' first moments.
        clip: largest norm of a gradient.
        average: decay of the moving average of the generator's weights, which is what is kept; 0 for none.
    """

    defaults = {
        "objective": "non_saturating",
        "gradient_penalty": None,
        "r1": None,
        "r2": None,
        "critic_steps": 1,
        "fidelity": None,
        "batch_size": 128,
        "learning_rate": 1e-3,
        "critic_rate": None,
        "momentum": 0.5,
        "clip": 100.0,
        "average": 0.995,
    }
    max_steps = 4000
    tolerance = 0.0
    validates = True
    in_nats = False

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        options, self.program = task.options, task.program
        weights = {name: options[name] for name in ("gradient_penalty", "r1", "r2")}
        self.objective = AdversarialObjective(options["objective"], **weights)
        for name in ("critic_steps", "batch_size"):
            check_whole(name, options[name])
        for name in ("momentum", "average"):
            if not 0 <= options[name] < 1:
                raise CapabilityError(f"{name} must be at least 0 and below 1, got {options[name]!r}.")
        asked = options["fidelity"]
        if asked and hasattr(self.program, "kept"):
            raise CapabilityError(
                f"fidelity={asked!r} compares a generated row with its own in the data, and the rows of {self.program.name!r} are not"
                " paired; leave it out."
            )
        self.fidelity = float(getattr(self.program, "fidelity", 0.0) if asked is None else asked)
        self.count, self.skipped, self.last = 0, 0, -math.inf
        self.found: dict[str, Any] = {}

    def init(self) -> None:
        options = self.task.options
        critic: Any = self.program.critic
        self.critic = critic
        theirs = {id(weight) for weight in critic.parameters()}
        self.weights = {
            "critic": list(critic.parameters()),
            "generator": [weight for weight in self.program.parameters() if id(weight) not in theirs],
        }
        rates = {
            "generator": options["learning_rate"],
            "critic": options["critic_rate"] or 2 * options["learning_rate"],
        }
        self.optimisers = {
            player: torch.optim.Adam(weights, lr=rates[player], betas=(options["momentum"], 0.99), fused=True)
            for player, weights in self.weights.items()
        }
        self.rates, self.average = rates, MovingAverage(self.weights["generator"], options["average"])
        self.epoch, self.place = 0, 0
        self.stream = self.minibatches()

    def minibatches(self) -> Iterator[Batch]:
        """From the place reached in the present epoch on."""
        batches = self.task.batches
        while True:
            batches.batch_size = self.task.options["batch_size"]
            seed = seed_of(self.task.seed, "epoch", self.epoch) % 2**62
            for batch in islice(batches.epoch(seed), self.place, None):
                self.place += 1
                yield batch
            self.epoch, self.place = self.epoch + 1, 0

    # -- rows of the data, and generated ones ------------------------------------------------------------------
    def shown(self, batch: Batch, at_random: bool = True) -> Shown:
        """Rows, of which the generator is shown cells at random, or nothing but what it is shown always."""
        columns: Any = self.program.columns
        chosen: Any = self.program.shown
        rows, known = columns.read(batch)
        by = chosen.compare(known, shares(batch), at_random)
        return Shown(rows[by.beside] * columns.spread(by.seen), by, batch.hiding(~by.known))

    def seen(self, shown: Shown, made: Tensor) -> Tensor:
        """Generated rows, looked at through the holes of the data's."""
        return made * self.program.columns.spread(shown.by.seen)  # type: ignore[operator, union-attr]

    def generated(self, shown: Shown) -> Tensor:
        """``(B, F)`` rows that the program completes."""
        tracer = observe(self.program, shown.batch, sum_out=False)
        found = [site.distribution for site in tracer.sites.values() if isinstance(site.distribution, Generated)]
        if not found:
            raise CapabilityError(f"The program {self.program.name!r} has no site of Generated rows.")
        return found[0].rows

    # -- one step ----------------------------------------------------------------------------------------------
    def step(self) -> Step:
        with seeded(self.task.seed, "adversarial", self.count):
            for _ in range(self.task.options["critic_steps"]):
                shown = self.shown(next(self.stream))
                critic = self.improve_critic(shown)
            generator = self.improve_generator(shown)
        self.count += 1
        if (self.count - 1) % LOOK == 0 or self.count == self.task.max_steps:
            self.last = self.look()
        return Step({"objective": self.last, "critic": critic, **generator})

    def improve_critic(self, shown: Shown) -> float:
        with torch.no_grad():
            made = self.seen(shown, self.generated(shown))
        score = partial(self.critic, known=shown.by.known, seen=shown.by.seen)
        return self.descend("critic", (self.objective.critic(score, shown.rows, made) * shown.by.share).sum())

    def improve_generator(self, shown: Shown) -> dict[str, float]:
        """The critic's weights stand still."""
        made = self.generated(shown)
        score = partial(self.critic, known=shown.by.known, seen=shown.by.seen)
        loss, values = self.objective.generator(score, shown.rows, self.seen(shown, made)), {}
        for name, (weight, difference) in self.kept(shown, made).items():
            loss = loss + weight * difference
            values[name] = float((difference.detach() * shown.by.share).sum())
        values["generator"] = self.descend("generator", (loss * shown.by.share).sum())
        self.average.update()
        return values

    def kept(self, shown: Shown, made: Tensor) -> dict[str, tuple[float, Tensor]]:
        """What generated rows are to keep beside what the critic sees: weights, and differences ``(B,)``."""
        own: Any = getattr(self.program, "kept", None)
        if own is not None:
            return own(made, shown.by)
        return {"fidelity": (self.fidelity, self.distance(shown, made))} if self.fidelity else {}

    def distance(self, shown: Shown, made: Tensor) -> Tensor:
        """``(B,)`` mean absolute difference at the cells that were hidden, which the data know."""
        hidden = self.program.columns.spread(shown.by.seen & ~shown.by.known)  # type: ignore[operator, union-attr]
        return ((made - shown.rows).abs() * hidden).sum(-1) / hidden.sum(-1).clamp_min(1)

    def descend(self, player: str, loss: Tensor) -> float:
        """One step of one player's weights; none where they had nothing to do with the loss, or the gradient is not finite."""
        if not loss.requires_grad:
            return float(loss)
        optimiser, weights = self.optimisers[player], self.weights[player]
        for group in optimiser.param_groups:
            group["lr"] = self.rates[player] * self.rate_factor()
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        if clip(weights, self.task.options["clip"]):
            optimiser.step()
        else:
            self.skipped += 1
            if self.skipped > FAILURES:
                raise FitError(
                    f"The gradient was not finite in more than {FAILURES} steps; lower learning_rate or check the data's scale."
                )
        optimiser.zero_grad(set_to_none=True)
        return float(loss.detach())

    def rate_factor(self) -> float:
        """One in the first half of the steps, then linearly to a twentieth."""
        done = self.count / max(self.task.max_steps, 1)
        return min(1.0, 1.9 * (1 - done) + 0.05)

    # -- looks -------------------------------------------------------------------------------------------------
    def look(self) -> float:
        """Minus the energy distance of the watched rows."""
        real, made = self.beside(self.task.batches, WATCHED, "watched")
        return -float(energy_distance(real, made))

    def beside(self, batches: Any, rows: int, what: str) -> tuple[Tensor, Tensor]:
        """Some rows of the data, and as many generated by the averaged weights from what is always shown."""
        before, batches.batch_size = batches.batch_size, rows
        batch = next(batches.epoch(seed_of(self.task.seed, what) % 2**62))
        batches.batch_size = before
        with torch.no_grad(), seeded(self.task.seed, what, "noise"), self.average.applied():
            shown = self.shown(batch, at_random=False)
            once = first_places(shown.by.beside)
            return shown.rows[once], self.seen(shown, self.generated(shown))[once]

    def result(self) -> Posterior:
        if self.average.decay:
            self.average.write(self.average.mean)
        if not all(weight.isfinite().all() for weight in self.weights["generator"]):
            raise FitError("The generator's weights are no longer finite; lower learning_rate.")
        real, made = self.beside(self.task.validation or self.task.batches, COMPARED, "compared")
        if len(real) > 2:
            with seeded(self.task.seed, "permutations"):
                self.found = compared(real, made, self.program.columns.owner, self.program.schema.names)  # type: ignore[arg-type, union-attr]
            self.tell()
        return Posterior()

    def tell(self) -> None:
        """Aloud, where the generator has collapsed."""
        fault = collapsed(self.found)
        if fault and self.count >= ENOUGH:
            warnings.warn(
                f"{self.program.name}: the generator has collapsed: {fault}. Try objective='relativistic' or 'wasserstein' (critic_steps=5), a"
                " lower learning_rate, more steps, or wider layers (hidden).",
                ConvergenceWarning,
                stacklevel=2,
            )

    def diagnostics(self) -> dict[str, Any]:
        return {"skipped_steps": self.skipped, **self.found}

    # -- the state ---------------------------------------------------------------------------------------------
    def pack(self) -> dict[str, Tensor]:
        packed = {f"program|{k}": v for k, v in self.program.state_dict().items()}
        for player, optimiser in self.optimisers.items():
            for number, state in optimiser.state_dict()["state"].items():
                packed |= {f"{player}|{number}|{key}": torch.as_tensor(value) for key, value in state.items()}
        return (
            packed
            | self.average.pack()
            | {
                "count": torch.tensor([self.count, self.skipped, self.epoch, self.place]),
                "last": torch.tensor(self.last, dtype=torch.float64),
            }
        )

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        self.count, self.skipped, self.epoch, self.place = tensors["count"].tolist()
        self.last = float(tensors["last"])
        self.average.unpack(tensors)
        self.program.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("program|")})
        for player, optimiser in self.optimisers.items():
            state = optimiser.state_dict()
            for path, value in tensors.items():
                if path.startswith(f"{player}|"):
                    _, number, key = path.split("|")
                    state["state"].setdefault(int(number), {})[key] = value
            optimiser.load_state_dict(state)
        self.stream = self.minibatches()


def shares(batch: Batch) -> Tensor:
    """``(B,)`` of each row in a mean over rows by their weights; of time steps by their sequences' weights."""
    weights = torch.ones_like(batch.x[:, 0]) if batch.weights is None else batch.weights
    if len(weights) != len(batch):
        weights = weights[batch.steps.sequence]
    return weights / weights.sum()


def first_places(numbers: Tensor) -> Tensor:
    """Where numbers ``(B,)`` of rows below B are for the first time.

    Example:
        >>> first_places(torch.tensor([1, 1, 3, 1])).tolist()
        [0, 2]
    """
    places = torch.arange(len(numbers), device=numbers.device)
    first = torch.full_like(places, len(places)).scatter_reduce(0, numbers, places, "amin")
    return first[first < len(places)].sort().values
