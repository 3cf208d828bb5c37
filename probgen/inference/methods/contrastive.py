r"""Contrastive training of energies by their free energy and Markov chains (Hinton, 2002; Tieleman, 2008).

A program offers ``layers``, each an energy with a free energy and a Gibbs kernel; they are trained from the columns
upwards, every one on draws of the hidden units below it. A step climbs the estimated gradient of the log likelihood,

.. math:: \Delta\theta = \epsilon_t \Bigl(-\partial_\theta \overline{F(x)}_\text{data}
    + \partial_\theta \overline{F(x')}_\text{chains}\Bigr), \qquad \epsilon_t \to 0 \text{ linearly},

in the parameters of the centred energy, whose features and hidden units are taken about their means over the data
(Montavon and Müller, 2012; Melchior, Fischer and Wiskott, 2016). The weights returned are the mean over the last steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from probgen.data.batches import Batch
from probgen.errors import CapabilityError, FitError
from probgen.families.harmonium import Harmonium
from probgen.inference.annealing import enumerated, log_normaliser
from probgen.inference.gibbs_chains import make_chains, settle
from probgen.inference.methods.base import Method, Step, Task
from probgen.inference.objectives.contrastive import gap
from probgen.inference.posterior import Posterior
from probgen.inference.runtime import seed_of, seeded

__all__ = ["ContrastiveDivergence"]

EXACT = 15  # hidden units up to which the objective is the log likelihood itself
LOOK = 20  # steps between two looks at the objective and the hidden units' means
WATCHED = 512  # rows whose objective is recorded
SAMPLED = 4096  # rows that the mixture at the beginning of paths is fitted to
PRECISE = 7.0  # largest log precision of a standardised continuous unit, against collapse onto repeated values


class ContrastiveDivergence(Method):
    """Gradient steps with momentum on minibatches, layer by layer; ``max_steps`` are shared evenly by the layers.

    The history's objective is that of at most 512 training rows, in nats a row, renewed every twenty steps or more
    rarely: with at most 15 hidden units the log likelihood of their known cells, else the log pseudo-likelihood
    (``diagnostics`` says which); for upper layers the bound that the layers below leave.

    Options:
        chains: "tempered" (parallel tempering), "persistent" or "data" (contrastive divergence). The last two cost a tenth
            of the sweeps, but where the rows form clusters that few flips do not join, their chains stay where they
            are, and the energy comes to have mass where no data are.
        chain_count: how many chains; as many as the batch has rows where it is None. Chains from data are always that many.
        gibbs_steps: sweeps between two steps.
        temperatures: of tempered chains.
        batch_size, learning_rate, momentum: of the steps; the rate falls linearly to zero.
        weight_decay: of the weights W.
        sparsity: share of rows in which a hidden unit should be on; None leaves it free.
        sparsity_cost: how strongly.
        centring: take features and hidden units about their means.
        averaging: share of each layer's steps, the last ones, whose mean is returned.
        hole_steps: Gibbs sweeps that draw a row's unknown cells before it is learnt from.
    """

    defaults = {
        "chains": "tempered",
        "chain_count": None,
        "gibbs_steps": 1,
        "temperatures": 10,
        "batch_size": 100,
        "learning_rate": 0.1,
        "momentum": 0.5,
        "weight_decay": 0.0,
        "sparsity": None,
        "sparsity_cost": 0.1,
        "centring": True,
        "averaging": 0.1,
        "hole_steps": 5,
    }
    max_steps = 5000
    tolerance = 0.0
    normalises = False
    iterates = "update"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.layers: list[Harmonium] = list(task.program.layers)  # type: ignore[arg-type]
        self.span = -(-task.max_steps // len(self.layers))  # steps a layer
        self.count, self.stage, self.last = 0, -1, 0.0
        if not 0.0 <= task.options["averaging"] <= 1.0:
            raise CapabilityError(f"averaging must lie between 0 and 1, got {task.options['averaging']}.")

    def init(self) -> None:
        self.task.batches.batch_size = SAMPLED
        self.sampled = next(self.task.batches.epoch(seed_of(self.task.seed, "paths") % 2**62))
        self.task.batches.batch_size = WATCHED
        self.watched = next(self.task.batches.epoch(seed_of(self.task.seed, "watched") % 2**62))
        self.task.batches.batch_size = self.task.options["batch_size"]
        self.stream = self.minibatches(0)
        self.begin(0)

    def minibatches(self, epoch: int) -> Iterator[Batch]:
        while True:
            yield from self.task.batches.epoch(seed_of(self.task.seed, "epoch", epoch) % 2**62)
            epoch += 1

    def begin(self, stage: int) -> None:
        """Start one layer on what the layers below make of the data."""
        self.settle_average()
        task, options, self.stage = self.task, self.task.options, stage
        self.layer = self.layers[stage]
        with torch.no_grad(), seeded(task.seed, "contrastive start", stage):
            mean, square = self.moments()
            self.layer.start(mean, square)
            if stage == 0:  # continuous units are standardised now
                mean, square = self.moments()
            self.layer.start_paths(*self.lifted(self.sampled), self.sampled.weights)
            count = options["chain_count"] or options["batch_size"]
            self.chains = make_chains(
                options["chains"], self.layer, count, options["gibbs_steps"], options["temperatures"]
            )
        self.centre = mean if options["centring"] else torch.zeros_like(mean)
        self.activity = torch.full_like(self.layer.hidden_bias.detach(), 0.5)
        rate, momentum = options["learning_rate"], options["momentum"]
        self.optimiser = torch.optim.SGD(self.layer.parameters(), lr=rate, momentum=momentum)
        self.average = [torch.zeros_like(p) for p in self.layer.parameters()]
        self.averaged = 0

    def moments(self) -> tuple[Tensor, Tensor]:
        """Means over the known cells of the layer's features and of their squares."""
        sums: list[Tensor] = []
        for batch in self.task.batches.pieces():
            features, known = self.lifted(batch)
            weight = known.to(features) if batch.weights is None else known * batch.weights[:, None]
            found = torch.stack([weight.sum(0), (weight * features).sum(0), (weight * features.square()).sum(0)])
            sums.append(found.double())
        total = torch.stack(sums).sum(0)
        return tuple((total[1:] / total[0].clamp_min(1e-300)).to(self.layer.base))  # type: ignore[return-value]

    def lifted(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The layer's features of a piece of the table, and which of them are known."""
        features, seen, _ = self.layers[0].units.read(batch.x)
        if self.stage == 0:
            return features, self.layers[0].units.spread(seen)
        hidden, _ = self.climb(features, seen)
        return hidden, torch.ones_like(hidden, dtype=torch.bool)

    # -- one step ----------------------------------------------------------------------------------------------
    def climb(self, features: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """The layer's features, unknown cells drawn, and the lower layers' part of the bound, ``(B,)``."""
        options, bound = self.task.options, features.new_zeros(len(features))
        holes = (~seen).any(1)
        if holes.any():
            features = features.clone()
            features[holes] = settle(self.layers[0], features[holes], seen[holes], 0, options["hole_steps"])
        for layer in self.layers[: self.stage]:
            features, part = layer.lift(features, seen)
            bound, seen = bound + part, torch.ones_like(features, dtype=torch.bool)
        return features, bound

    def step(self) -> Step:
        if self.count // self.span > self.stage:
            self.begin(self.stage + 1)
        batch = next(self.stream)
        with seeded(self.task.seed, "contrastive", self.count):
            with torch.no_grad():
                if self.count % self.look_every() == 0:
                    self.last = self.look()
                features, seen, _ = self.layers[0].units.read(batch.x)
                data, _ = self.climb(features, seen)
                model = self.chains.advance(data)
            self.ascend(data, model, batch.weights)
        self.count += 1
        return Step({"objective": self.last})

    def look_every(self) -> int:
        """Steps between two values of the objective, which shall not cost more than the steps themselves."""
        hidden = self.layer.hidden
        return max(LOOK, 2 ** (hidden - 8)) if hidden <= EXACT else LOOK

    def look(self) -> float:
        """The objective of the watched rows: log likelihood of the known cells, or its pseudo-likelihood."""
        self.check()
        batch, layer = self.watched, self.layer
        features, seen, log_jacobian = self.layers[0].units.read(batch.x)
        data, bound = self.climb(features, seen)
        if self.stage:
            features, seen = data, torch.ones_like(data, dtype=torch.bool)
        if layer.hidden <= EXACT:
            value = enumerated(layer, features, seen) - log_normaliser(layer).value
        else:
            unit = torch.multinomial(seen.to(data), 1)[:, 0]
            value = layer.pseudo_log_likelihood(data, unit, seen.sum(1))
        return float(row_mean(value + bound + log_jacobian, batch.weights))

    def ascend(self, data: Tensor, model: Tensor, weights: Tensor | None) -> None:
        """One step in the centred parameters, whose change is then that of the energy's own."""
        layer, options = self.layer, self.task.options
        self.optimiser.zero_grad(set_to_none=True)
        gap(layer, data, model, weights).backward()
        with torch.no_grad():
            if self.count % LOOK == 0:
                self.activity.lerp_(row_mean_of(layer.field(data).sigmoid(), weights), 0.2)
            self.shape_gradient(layer, self.activity)
            before = layer.weight.clone()
            share = (self.count - self.stage * self.span) / self.span
            self.optimiser.param_groups[0]["lr"] = options["learning_rate"] * (1.0 - share)
            self.optimiser.step()
            moved = layer.weight - before
            if options["centring"]:
                layer.bias.sub_(moved @ self.activity)
            layer.hidden_bias.sub_(self.centre @ moved)
            layer.log_precision.clamp_(-PRECISE, PRECISE)
            if share >= 1.0 - options["averaging"]:
                self.keep()

    def shape_gradient(self, layer: Harmonium, active: Tensor) -> None:
        """The gradient in centred parameters, with weight decay and the pull towards sparse hidden units."""
        options, weight, bias, hidden = self.task.options, layer.weight.grad, layer.bias.grad, layer.hidden_bias.grad
        assert weight is not None
        assert bias is not None
        assert hidden is not None
        weight -= torch.outer(self.centre, hidden)
        if options["centring"]:
            weight -= torch.outer(bias, active)
        weight += options["weight_decay"] * layer.weight
        if options["sparsity"] is not None:
            hidden += options["sparsity_cost"] * (active - options["sparsity"])

    def check(self) -> None:
        if not all(p.isfinite().all() for p in self.layer.parameters()):
            raise FitError("The weights are no longer finite; lower learning_rate.")

    # -- the end -----------------------------------------------------------------------------------------------
    def keep(self) -> None:
        """Add the present weights to their running mean."""
        self.averaged += 1
        for mean, parameter in zip(self.average, self.layer.parameters(), strict=True):
            mean.lerp_(parameter.detach(), 1.0 / self.averaged)

    def settle_average(self) -> None:
        """Put the mean in the place of the last weights."""
        if self.stage >= 0 and self.averaged:
            with torch.no_grad():
                for mean, parameter in zip(self.average, self.layer.parameters(), strict=True):
                    parameter.copy_(mean)

    def result(self) -> Posterior:
        self.check()
        self.settle_average()
        return Posterior()

    def diagnostics(self) -> dict[str, Any]:
        exact = all(layer.hidden <= EXACT for layer in self.layers)
        return {"objective": "log likelihood" if exact else "log pseudo-likelihood"}

    def pack(self) -> dict[str, Tensor]:
        packed = {f"program|{k}": v for k, v in self.task.program.state_dict().items()}
        for number, state in self.optimiser.state_dict()["state"].items():
            packed |= {f"momentum|{number}": state["momentum_buffer"]}
        packed |= {f"average|{number}": value for number, value in enumerate(self.average)}
        return packed | {
            "count": torch.tensor([self.count, self.stage, self.averaged]),
            "last": torch.tensor(self.last, dtype=torch.float64),
            "centre": self.centre,
            "activity": self.activity,
            **{f"chains|{name}": value for name, value in self.chains.pack().items()},
        }

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        self.count, stage, averaged = (int(v) for v in tensors["count"])
        if stage:
            self.begin(stage)
        self.averaged, self.last = averaged, float(tensors["last"])
        self.task.program.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("program|")})
        state = self.optimiser.state_dict()
        for number in range(len(self.average)):
            self.average[number] = tensors[f"average|{number}"]
            if f"momentum|{number}" in tensors:
                state["state"][number] = {"momentum_buffer": tensors[f"momentum|{number}"]}
        self.optimiser.load_state_dict(state)
        self.chains.unpack({k[7:]: v for k, v in tensors.items() if k.startswith("chains|")})
        self.centre, self.activity = tensors["centre"], tensors["activity"]
        self.stream = self.minibatches(0)
        for _ in range(self.count):
            next(self.stream)


def row_mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over rows by their weights."""
    return row_mean_of(values[:, None], weights)[0]


def row_mean_of(values: Tensor, weights: Tensor | None) -> Tensor:
    """Mean of ``(B, ...)`` over rows by their weights."""
    return values.mean(0) if weights is None else weights @ values / weights.sum()
