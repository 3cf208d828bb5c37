r"""Stochastic variational inference (Hoffman et al., 2013; Kingma and Welling, 2014).

Network weights are points; continuous local latents have the program's amortised guide; global sites, where there
are any, the user's own guide or a mean-field Gaussian on their unconstrained values. One loss, in nats a row:

.. math:: -\frac1B \sum_n \mathrm{objective}(\log w_n) - \frac1N \bigl(\log p(\theta) - \log q(\theta)\bigr)
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.batches import Batch, Batches
from probgen.errors import ConvergenceWarning, FitError
from probgen.inference.amortised import Weighted
from probgen.inference.averaging import MovingAverage
from probgen.inference.chain_starts import feasible
from probgen.inference.communication import Communicator, OneProcess
from probgen.inference.latent_use import LatentUse, latent_use
from probgen.inference.methods.base import Method, Step, Task
from probgen.inference.network_calls import NetworkCalls
from probgen.inference.objectives import Objective, objective
from probgen.inference.pareto import GOOD_ENOUGH, pareto_shape
from probgen.inference.posterior import Posterior
from probgen.inference.potential import Potential
from probgen.inference.runtime import seed_of, seeded
from probgen.inference.tracing import observe
from probgen.inference.tried_levels import over_levels, tries
from probgen.inference.users_guide import UsersGuide
from probgen.program import Traits
from probgen.whole import check_whole

__all__ = ["VariationalInference"]

OF_OBJECTIVES = ("beta", "beta_steps", "free_bits")
ENOUGH = 200  # steps after which latents should say something


class MeanField(torch.nn.Module):
    """Independent Gaussians on the unconstrained values of a program's global sites."""

    def __init__(self, potential: Potential, start: Tensor) -> None:
        super().__init__()
        self.potential = potential
        self.loc = torch.nn.Parameter(start.clone())
        self.log_scale = torch.nn.Parameter(torch.full_like(start, -3.0))

    def draw(self) -> tuple[Tensor, Tensor]:
        """U and log q(u)."""
        noise = torch.randn_like(self.loc)
        log_q = -0.5 * noise.square() - self.log_scale - 0.5 * math.log(2 * math.pi)
        return self.loc + self.log_scale.exp() * noise, log_q.sum()


class VariationalInference(Method):
    """Adam on minibatches with warm-up and cosine decay, gradient clipping, and early stopping on held-out rows.

    Of several processes each has its share of the rows of every minibatch: losses and gradients are added up, and the
    guide's noise is that of the whole minibatch. A user's own data are one batch, which every process has in full.

    Options:
        objective: "elbo", "iwae", "dreg", "wake_sleep" or "any_order"; "auto" is what the model names, mostly "elbo".
        draws: importance draws a row; None for as many as the objective is usually given.
        beta, beta_steps, free_bits: of "elbo": the weight of divergences, the steps over which it rises (None for what the model names, at most
            a quarter of all), nats that are free.
        batch_size, learning_rate: of the optimiser.
        validate_every: steps between looks at the held-out rows.
        patience: looks without improvement before stopping; the best weights are kept.
        guide_draws: posterior draws kept of global sites.
        clip: largest norm of the gradient.
        average: decay of an exponential moving average of the weights, which is then what is kept; 0 for none.
        precision: of products of matrices inside of networks while they learn: "full" or "bfloat16".
        compile: "inductor" for networks through torch's compiler.
    """

    defaults = {
        "objective": "auto",
        "draws": None,
        "beta": 1.0,
        "beta_steps": None,
        "free_bits": 0.0,
        "batch_size": 128,
        "learning_rate": 1e-3,
        "validate_every": 50,
        "patience": 20,
        "guide_draws": 400,
        "clip": 100.0,
        "average": 0.0,
        "precision": "full",
        "compile": "eager",
        "start": None,
    }
    max_steps = 4000
    tolerance = 0.0
    validates = True
    approximates = True

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.of_rows = isinstance(task.batches, Batches)
        self.rows: Communicator = task.rows if self.of_rows else OneProcess()
        self.objective = self.objective_of(task.program.traits)
        self.draws = task.options["draws"] or self.objective.draws
        for name in ("draws", "batch_size"):
            if task.options[name] is not None:
                check_whole(name, task.options[name])
        self.best, self.stale, self.count = -math.inf, 0, 0
        self.best_state: dict[str, Any] | None = None
        self.skipped = 0
        self.khat: float | None = None  # of a user's program
        self.use: LatentUse | None = None

    def objective_of(self, traits: Traits) -> Objective:
        """What was asked for, or what the model names."""
        options = self.task.options
        given = {name: options[name] for name in OF_OBJECTIVES if options[name] != self.defaults[name]}
        named = traits.objective if options["objective"] == "auto" else options["objective"]
        if named == "elbo":
            given.setdefault("beta_steps", min(traits.beta_steps, self.task.max_steps // 4))
        return objective(named, **given)

    def init(self) -> None:
        task, options = self.task, self.task.options
        with seeded(task.seed, "svi start"):
            batch = next(task.batches.pieces())
            potential = Potential(task.program, batch) if self.has_parameters(batch) else None
            self.guide = self.global_guide(potential) if potential and potential.size else None
        self.modules = torch.nn.ModuleList([task.program] + ([self.guide] if self.guide else []))
        self.parameters = [p for p in self.modules.parameters() if p.requires_grad]
        if not self.parameters:
            raise FitError(f"The program {task.program.name!r} has nothing that svi could learn.")
        rate = options["learning_rate"] * (10.0 if self.guide else 1.0)
        fused = all(p.is_floating_point() for p in self.parameters)
        self.optimiser = torch.optim.Adam(self.parameters, lr=rate, fused=fused)
        self.networks = NetworkCalls(task.program, options["precision"], options["compile"])
        self.average = MovingAverage(self.parameters, task.options["average"])
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, self.learning_rate_factor)
        self.weight = sum(piece.weight for piece in task.batches.pieces()) if self.guide and self.of_rows else 1.0
        self.epoch, self.place = 0, 0
        self.stream = self.minibatches()

    def has_parameters(self, batch: Any) -> bool:
        """Whether the program may have global sites, by its first row (sequence): a pass over all of them may be long."""
        if not isinstance(batch, Batch):
            return True
        first = torch.arange(1, device=batch.x.device)
        whole = batch.in_sequences and self.task.program.window is None
        few = batch.sequences(first) if whole else batch.minibatch(first, batch.total)
        with torch.no_grad(), seeded(self.task.seed, "svi sites"):
            return bool(observe(self.task.program, few).global_sites)

    def global_guide(self, potential: Potential) -> MeanField | UsersGuide:
        """The user's own where there is one; else independent Gaussians."""
        if potential.users is not None and potential.users.has_guide:
            return UsersGuide(potential)
        return MeanField(potential, self.start(potential))

    def start(self, potential: Potential) -> Tensor:
        """Where EM starts, for programs made of families; where a chain would otherwise."""
        from probgen.inference.methods.em import ExpectationMaximisation

        if not potential.made_of_families:
            return feasible(potential)
        em = ExpectationMaximisation(self.task)
        em.init()
        return potential.at(em.theta)

    def learning_rate_factor(self, step: int) -> float:
        """Linear warm-up over the first 2 %, then a cosine to 1 %."""
        total = max(self.task.max_steps, 1)
        warm = max(1, total // 50)
        if step < warm:
            return (step + 1) / warm
        return 0.01 + 0.495 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(total - warm, 1))))

    def minibatches(self) -> Iterator[Batch]:
        """From the place reached in the present epoch on."""
        batches = self.task.batches
        batches.batch_size, batches.window = self.task.options["batch_size"], self.task.program.window
        share = () if self.rows.size == 1 else (self.rows.rank, self.rows.size)
        while True:
            seed = seed_of(self.task.seed, "epoch", self.epoch) % 2**62
            for batch in islice(batches.epoch(seed, *share), self.place, None):
                self.place += 1
                yield batch
            self.epoch, self.place = self.epoch + 1, 0

    # -- one step ----------------------------------------------------------------------------------------------
    def loss(self, batch: Batch, step: int | None = None) -> Tensor:
        """Minus the objective in nats a row, networks called as was asked for."""
        with self.networks.changed():
            return self.loss_of(batch, step)

    def loss_of(self, batch: Batch, step: int | None) -> Tensor:
        """Of one process's rows their term of the whole minibatch's."""
        if self.guide is None:
            return -row_mean(self.per_row(batch, step), batch)
        u, log_q = self.guide.draw()
        if not isinstance(batch, Batch):
            return log_q - self.guide.potential.log_posterior(u)
        sites, log_jacobian = self.guide.potential.constrain(u)
        found = self.objective.weigh(self.task.program, batch, self.draws, sites)
        mean = row_mean(self.objective.per_row(found, step), batch)
        if not self.rows.leads:  # the first process, which always has rows, counts what is none of the rows'
            return -mean
        prior = sum(s.distribution.log_prob(s.value).sum() for s in found.evidence.trace.global_sites.values())
        return -mean - (prior + log_jacobian - log_q) / self.weight

    def per_row(self, batch: Batch, step: int | None) -> Tensor:
        """``(B,)`` values of the objective, every level tried of a label that is unknown."""
        if tries(self.task.program, batch):
            return over_levels(self.task.program, batch, lambda rows: self.valued(rows, step))
        return self.valued(batch, step)

    def valued(self, batch: Batch, step: int | None) -> Tensor:
        """``(B,)`` values of the objective."""
        found = self.objective.weigh(self.task.program, batch, self.draws)
        return self.objective.per_row(found, step) + self.rehearsed(found, batch, step)

    def rehearsed(self, found: Weighted, batch: Any, step: int | None) -> Any:
        """Nought, with the gradient of what the guide is to climb while training lasts."""
        extra = None if step is None else self.task.program.rehearse(batch, found.proposal.sites)
        return 0.0 if extra is None else extra - extra.detach()

    def step(self) -> Step:
        self.optimiser.zero_grad(set_to_none=True)
        with seeded(self.task.seed, "svi", self.count):
            batch = next(self.stream)
            empty = isinstance(batch, Batch) and not len(batch)
            loss = torch.zeros(()) if empty else self.loss(batch, self.count)
        if loss.requires_grad:
            loss.backward()
        value = self.added_up(float(loss.detach()))
        if clip(self.parameters, self.task.options["clip"]):
            self.optimiser.step()
            self.average.update()
            self.task.program.after_step(self.rows)
        else:
            self.skipped += 1
            if self.skipped > 50:
                raise FitError(
                    "The gradient was not finite in more than 50 steps; lower learning_rate or check the data's scale."
                )
        self.schedule.step()
        self.count += 1
        values = {"objective": -value}
        done = self.look(values) if self.count % self.task.options["validate_every"] == 0 else False
        return Step(values, done, done)

    def added_up(self, loss: float) -> float:
        """The loss of all processes, their gradients being added up too."""
        if self.rows.size == 1:
            return loss
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        total: dict[str, Any] = self.rows.all_reduce({"loss": loss, "gradients": gradients})
        for parameter, gradient in zip(self.parameters, total["gradients"], strict=True):
            parameter.grad = gradient
        return total["loss"]

    def look(self, values: dict[str, float]) -> bool:
        """Score the held-out rows, keep the best weights, and say whether patience is exhausted."""
        if self.task.validation is None:
            return False
        with torch.no_grad(), at_rest(self.modules), seeded(self.task.seed, "validation"), self.average.applied():
            pieces = [
                (piece.share(self.rows.rank, self.rows.size), len(piece)) for piece in self.task.validation.pieces()
            ]
            scores = [(-float(self.loss(part)) if len(part) else 0.0, rows) for part, rows in pieces]
            value = self.rows.all_reduce(sum(s * n for s, n in scores) / sum(n for _, n in scores))
            values["validation"] = value
            if self.count < getattr(self.objective, "beta_steps", 0):
                return False  # divergences do not yet cost what they cost here
            if self.best < value < math.inf:
                self.best, self.stale = value, 0
                self.best_state = copy.deepcopy(self.modules.state_dict())
            else:
                self.stale += 1
        return self.stale >= self.task.options["patience"]

    # -- the end -----------------------------------------------------------------------------------------------
    def result(self) -> Posterior:
        if self.best_state is not None:
            self.modules.load_state_dict(self.best_state)
        elif self.average.decay:
            self.average.write(self.average.mean)
        if isinstance(self.task.batches, Batches):
            self.look_at_latents()
        if self.guide is None:
            return Posterior()
        potential = self.guide.potential
        with torch.no_grad(), seeded(self.task.seed, "posterior"):
            drawn = [self.guide.draw() for _ in range(self.task.options["guide_draws"])]
            if potential.users is not None:
                self.judge(np.array([float(potential.log_posterior(u) - log_q) for u, log_q in drawn]))
            return stack_draws([[potential.theta(u) for u, _ in drawn]])

    def look_at_latents(self) -> None:
        """How much they say; aloud where that is nothing."""
        with seeded(self.task.seed, "latents"):
            self.use = latent_use(self.task.program, self.task.batches)
        if self.use.collapsed and self.count >= ENOUGH:
            warnings.warn(
                f"{self.task.program.name}: the latents have collapsed: they say {sum(self.use.nats.values()):.3f} nats of a row. Let"
                " the decoder learn to read them before they cost anything (beta_steps=1000), make some nats free (free_bits=0.5),"
                " or give it less to do without them (smaller hidden).",
                ConvergenceWarning,
                stacklevel=2,
            )

    def judge(self, log_weights: np.ndarray) -> None:
        """How well the guide covers the posterior, said aloud where it does not."""
        self.khat = float(pareto_shape(log_weights))
        if self.khat > GOOD_ENOUGH:
            warnings.warn(
                f"{self.task.program.name}: Pareto's k-hat of the guide is {self.khat:.2f}, above {GOOD_ENOUGH}: its draws, and"
                " above all their standard deviations, are not to be trusted. Raise max_steps, write a richer guide, or use"
                " method='chees'.",
                ConvergenceWarning,
                stacklevel=2,
            )

    def diagnostics(self) -> dict[str, Any]:
        shape = {} if self.khat is None else {"khat": self.khat}
        best = None if self.best == -math.inf else self.best
        use = {} if self.use is None else self.use.record()
        return {"skipped_steps": self.skipped, "best_validation": best, **shape, **use}

    def pack(self) -> dict[str, Tensor]:
        packed = {f"module|{k}": v for k, v in self.modules.state_dict().items()}
        for number, state in self.optimiser.state_dict()["state"].items():
            packed |= {f"optimiser|{number}|{key}": torch.as_tensor(value) for key, value in state.items()}
        if self.best_state is not None:
            packed |= {f"best|{k}": v for k, v in self.best_state.items()}
        return (
            packed
            | self.average.pack()
            | {
                "count": torch.tensor([self.count, self.stale, self.skipped, self.epoch, self.place]),
                "best_value": torch.tensor(self.best, dtype=torch.float64),
            }
        )

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        self.count, self.stale, self.skipped, self.epoch, self.place = tensors["count"].tolist()
        self.best = float(tensors["best_value"])
        self.average.unpack(tensors)
        self.modules.load_state_dict({k[7:]: v for k, v in tensors.items() if k.startswith("module|")})
        best = {k[5:]: v for k, v in tensors.items() if k.startswith("best|")}
        self.best_state = best or None
        state = self.optimiser.state_dict()
        for path, value in tensors.items():
            if path.startswith("optimiser|"):
                _, number, key = path.split("|")
                state["state"].setdefault(int(number), {})[key] = value
        self.optimiser.load_state_dict(state)
        self.schedule.last_epoch = self.count - 1
        self.schedule.step()
        self.stream = self.minibatches()


@contextmanager
def at_rest(modules: torch.nn.Module) -> Iterator[None]:
    """Networks as they are when they have learnt: nothing is dropped."""
    modules.eval()
    try:
        yield
    finally:
        modules.train()


def clip(parameters: Sequence[Tensor], most: float) -> bool:
    """Scale the gradient down to the largest norm allowed; False where it is not finite."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
    value = float(norm)
    if value > most:
        torch.nn.utils.clip_grads_with_norm_(parameters, most, norm, foreach=True)
    return math.isfinite(value)


def row_mean(values: Tensor, batch: Batch) -> Tensor:
    """Mean over rows by their weights; of one process's rows, their term of the mean over the whole minibatch."""
    weights = batch.weights
    if batch.place is None:
        return values.mean() if weights is None else (values * weights).sum() / weights.sum()
    return (values if weights is None else values * weights).sum() / batch.place.weight


def stack_draws(chains: list[list[tuple[Any, Any]]]) -> Posterior:
    """A posterior from lists of (families' parameters, other sites), one list a chain."""
    first_theta, first_sites = chains[0][0]

    def stacked(pick: Any) -> Tensor:
        return torch.stack([torch.stack([pick(draw).detach() for draw in chain]) for chain in chains])

    parameters = {
        name: {key: stacked(lambda d, n=name, k=key: d[0][n][k]) for key in theta}
        for name, theta in first_theta.items()
    }
    sites = {name: stacked(lambda d, n=name: d[1][n]) for name in first_sites}
    return Posterior(parameters, sites, point=False)
