r"""Automatic differentiation variational inference (Kucukelbir et al., 2017) on the density that samplers walk on.

A guide q over the unconstrained vector u of all parameters, discrete sites summed out, maximises

.. math:: \mathbb E_q \log \frac{p(x, u)}{q(u)} \quad\text{or}\quad
    \mathbb E_q \log \frac1S \sum_s \frac{p(x, u_s)}{q(u_s)}

by gradients along the draws' paths alone, which vanish where the guide is exact (Roeder, Wu and Duvenaud, 2017; Tucker
et al., 2019). Gradient and optimiser's step (Adam; Kingma and Ba, 2015) are one graph. The learning rate falls whenever
the iterates have arrived; their averages are kept (Dhaka et al., 2020). Pareto's k-hat of the importance weights says
whether the guide is near enough to the posterior (Yao et al., 2018).
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import vjp
from torch.fx.experimental.proxy_tensor import make_fx

from probgen.errors import CapabilityError, ConvergenceWarning, FitError
from probgen.inference.ascent import Ascent
from probgen.inference.chain_starts import begun
from probgen.inference.compiled import UNTRACEABLE, lowered, tidy
from probgen.inference.guides import make_guide
from probgen.inference.hoisting import hoisted
from probgen.inference.iterates import Iterates
from probgen.inference.methods.base import Method, Step
from probgen.inference.pareto import GOOD_ENOUGH, pareto_shape
from probgen.inference.posterior import Posterior
from probgen.inference.runtime import seed_of
from probgen.whole import check_whole

__all__ = ["AutomaticVariational"]

ROUND, EVERY = 100, 5  # optimiser's steps between looks, and between iterates that are kept
CLIMB = 100  # steps of the ascent to where the guide starts
NARROW = (1.0, 0.1, 0.01)  # of the density's width along coordinates: where the guide's width starts
FORGET, FORGET_SQUARES = 0.1, 0.001  # of Adam's moments
TINY = 1e-12  # of a gradient
FALL, FEWEST_RATES, MOST_RATES = 0.25, 2, 3  # of the learning rate
OBJECTIVES = ("elbo", "iwae")


class AutomaticVariational(Method):
    """A normal guide, or a flow, over all parameters. A step is a round of 100 steps of the optimiser.

    Options:
        guide: "mean_field", "full_rank", "low_rank" or "flow" (layers that bend a normal, for curved posteriors).
        rank: columns of the low-rank guide's factor.
        objective: "elbo", or "iwae" (Burda et al., 2016), with which the draws stand for the posterior by their weights.
        draws: of the guide in one step.
        learning_rate: the first one, in standard deviations of the guide.
        guide_draws: draws kept as the posterior; their log weights are ``statistics["log_weight"]``.
        compile: "auto", "graph", "inductor" or "eager"; see :class:`~probgen.inference.compiled.Compiled`.
        start: as for EM; "prior" starts at draws from the prior.
    """

    defaults = {
        "guide": "mean_field", "rank": 5, "objective": "elbo", "draws": 8, "learning_rate": 0.05, "guide_draws": 1000,
        "compile": "auto", "start": None,
    }  # fmt: skip
    max_steps = 300
    tolerance = 0.03  # change of averages from one learning rate to the next, in standard deviations of the guide
    wherever = "nuts"
    iterates = "round"

    def init(self) -> None:
        task, options = self.task, self.task.options
        check_options(options)
        start = begun(task, "advi", options["draws"], "eager" if options["compile"] == "eager" else "graph")
        self.potential, self.density = start.potential, start.density
        self.guide = make_guide(options["guide"], self.potential.size, options["rank"])
        self.generator = torch.Generator(start.points.device).manual_seed(seed_of(task.seed, "advi"))
        self.begin(start.points)
        self.make_step()

    def begin(self, points: Tensor) -> None:
        """The guide around the point, and as wide, as gives the highest objective."""
        ascent = Ascent(self.density, points)
        ascent.run(CLIMB, enough=1.0)
        width = ascent.variance().sqrt() if ascent.moves else torch.ones_like(points[0])
        noise = self.fresh_noise(1)[0]
        starts = [self.guide.start(point, width * narrow) for narrow in NARROW for point in ascent.points]
        scores = [self.gradient(self.density, start, noise)[0] for start in starts]
        best = torch.stack(scores).nan_to_num(-torch.inf).argmax()
        if not bool(scores[int(best)].isfinite()):
            raise FitError(
                f"{self.potential.program.name!r}: the density is zero at some of every start's draws; look at the priors,"
                " or use method='chees'."
            )
        self.parameters = starts[int(best)]
        self.sizes = self.guide.units(self.parameters)
        self.rate, self.rates_tried, self.optimiser_steps, self.skipped = self.task.options["learning_rate"], 1, 0, 0
        self.previous = torch.full_like(self.parameters, torch.inf)
        self.seconds = {"compile": self.density.seconds, "optimiser": 0.0}
        self.forget()

    def forget(self) -> None:
        """Of the optimiser; a learning rate starts anew."""
        self.state: tuple[Tensor, ...] = (
            self.parameters,
            torch.zeros_like(self.parameters),
            torch.zeros_like(self.parameters),
        )
        self.age, self.settled, self.iterated = 0, False, Iterates()

    def fresh_noise(self, steps: int) -> Tensor:
        """Standard normal ``(steps, S, noise)``."""
        shape = (steps, self.task.options["draws"], self.guide.noise)
        return torch.randn(shape, generator=self.generator, dtype=self.dtype, device=self.generator.device)

    @property
    def dtype(self) -> torch.dtype:
        return torch.get_default_dtype()

    # -- one step of the optimiser -----------------------------------------------------------------------------
    def gradient(self, density: Callable, parameters: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The objective at these draws, and its gradient by the guide's parameters along the draws' paths."""
        draws, back = vjp(lambda value: self.guide.draw(value, noise), parameters)  # type: ignore[misc]
        log_q, slope_q = self.guide.log_density(parameters, noise)
        value, slope = density(draws)
        log_weights = value - log_q
        if self.task.options["objective"] == "elbo":
            objective, shares = log_weights.mean(), torch.full_like(log_weights, 1 / len(log_weights))
        else:
            objective = log_weights.logsumexp(0) - math.log(len(log_weights))
            shares = log_weights.softmax(0).square()
        return objective, back(shares[:, None] * (slope - slope_q))[0]

    def make_step(self) -> None:
        """The graph of gradient and step; the program itself where it does not trace."""
        began = time.process_time()
        self.read: list[Tensor] = []
        self.advance: Callable = self.moved
        if self.density.main is not None:
            try:
                self.trace()
            except UNTRACEABLE:
                self.advance = self.moved
        self.seconds["compile"] += time.process_time() - began

    def trace(self) -> None:
        """The graph of a step, and what it reads that stays the same."""
        state = [part.clone() for part in (*self.state, self.sizes)]
        example = [
            *state,
            self.sizes.new_tensor(0.01),
            torch.ones(self.task.options["draws"], self.guide.noise).to(self.sizes),
        ]
        inputs = self.density.inputs[0]
        graph = tidy(make_fx(lambda *given: self.moved(*given))(*example, *inputs))
        once, main = hoisted(graph, len(example))
        self.read = list(once(*inputs))
        lower = self.task.options["compile"] == "inductor"
        self.advance = lowered(main, example[0], (*example[1:], *self.read)) if lower else main

    def moved(
        self, parameters: Tensor, first: Tensor, second: Tensor, sizes: Tensor, rate: Tensor, noise: Tensor, *read: Any
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Adam, in units of the parameters: parameters and moments after the step, and the objective before it."""
        objective, gradient = self.gradient(lambda points: self.among(points, read), parameters, noise)
        first = first.lerp(gradient, FORGET)
        second = second.lerp(gradient * gradient, FORGET_SQUARES)
        parameters = parameters.addcdiv(sizes * rate * first, second.sqrt() + TINY)
        return parameters, first, second, objective

    def among(self, points: Tensor, read: Any) -> tuple[Tensor, Tensor]:
        """The density's graph, slice by slice; the program where it does not trace."""
        if self.density.main is None:
            return self.density(points)
        found = [self.density.main(points[part], *read) for part in self.density.slices()]
        value, slope = found[0] if len(found) == 1 else map(torch.cat, zip(*found, strict=True))
        return value, slope

    def rates(self) -> list[Tensor]:
        """Of the next steps: the learning rate with the bias of Adam's moments taken out."""
        age = torch.arange(self.age + 1, self.age + ROUND + 1).to(self.sizes)
        bias = (1 - (1 - FORGET_SQUARES) ** age).sqrt() / (1 - (1 - FORGET) ** age)
        return list((self.rate * bias).unbind())

    # -- rounds ------------------------------------------------------------------------------------------------
    def step(self) -> Step:
        began, before, kept = time.process_time(), self.state, len(self.iterated.kept)
        noise = list(zip(self.rates(), self.fresh_noise(ROUND).unbind(), strict=True))
        objectives = self.walk(noise, self.advance)
        if not self.all_finite(objectives):
            self.state = before
            del self.iterated.kept[kept:]
            objectives = self.walk(noise, self.careful)
        self.age, self.optimiser_steps = self.age + ROUND, self.optimiser_steps + ROUND
        usable = objectives[objectives.isfinite()]
        self.skipped += len(objectives) - len(usable)
        if not len(usable):
            raise FitError("Every draw of the guide has density zero; lower learning_rate, or use method='chees'.")
        objective = float(usable.mean()) / len(self.task.batches)
        self.iterated.objectives.append(objective)
        rate = self.rate
        self.settled = self.look()
        self.seconds["optimiser"] += time.process_time() - began
        return Step({"objective": objective, "learning_rate": rate}, self.settled, self.settled)

    @torch.no_grad()
    def walk(self, noise: list[tuple[Tensor, Tensor]], advance: Callable) -> Tensor:
        """Steps of the optimiser at these rates and noise; the objectives before them, or no more where one failed."""
        objectives = []
        state, sizes, read = self.state, self.sizes, self.read
        for number, (rate, drawn) in enumerate(noise):
            try:
                *state, objective = advance(*state, sizes, rate, drawn, *read)
            except torch.linalg.LinAlgError:
                objective = rate * torch.nan
            objectives.append(objective)
            if number % EVERY == 0:
                self.iterated.kept.append(state[0])
        self.state = tuple(state)
        return torch.stack(objectives)

    def all_finite(self, objectives: Tensor) -> bool:
        """Nothing went wrong on the way."""
        return bool(objectives.isfinite().all()) and all(bool(part.isfinite().all()) for part in self.state)

    def careful(self, *given: Tensor) -> tuple[Tensor, ...]:
        """A step that stays where it is if a draw has no density."""
        *state, objective = self.advance(*given)
        if all(bool(part.isfinite().all()) for part in (*state, objective)):
            return (*state, objective)
        return (*given[:3], objective * torch.nan)

    def look(self) -> bool:
        """At the iterates: where they have arrived, go on from their average with a lower rate, or stop."""
        mean = self.iterated.mean()
        units = self.guide.units(mean)
        enough = self.task.tolerance * FALL ** (self.rates_tried - 1)  # a lower rate moves less without having arrived
        if not (self.iterated.arrived(units, enough) or self.iterated.level()):
            return False
        change = float(((mean - self.previous) / units).abs().max())
        self.parameters = self.previous = mean
        if (self.rates_tried >= FEWEST_RATES and change < self.task.tolerance) or self.rates_tried >= MOST_RATES:
            return True
        self.rate, self.rates_tried, self.sizes = self.rate * FALL, self.rates_tried + 1, units
        self.forget()
        return False

    # -- what is left ------------------------------------------------------------------------------------------
    def result(self) -> Posterior:
        if self.iterated.kept:
            self.parameters = self.iterated.mean()
        draws, log_p, log_q = self.draws_kept()
        self.log_weights = (log_p - log_q).double().cpu().numpy()
        self.khat = float(pareto_shape(self.log_weights))
        self.advise()
        statistics = {"lp": log_p[None], "log_weight": (log_p - log_q)[None]}
        return self.potential.posterior(draws[None], statistics)

    @torch.no_grad()
    def draws_kept(self) -> tuple[Tensor, Tensor, Tensor]:
        """Draws ``(n, P)`` of the guide, and the log densities there by the program and by the guide."""
        wanted = self.task.options["guide_draws"]
        noise = self.fresh_noise(-(-wanted // self.task.options["draws"]))
        found = []
        for part in noise:
            draws = self.guide.draw(self.parameters, part)
            found.append((draws, self.density(draws)[0], self.guide.log_density(self.parameters, part)[0]))
        draws, log_p, log_q = (torch.cat(part)[:wanted] for part in zip(*found, strict=True))
        return draws, log_p, log_q

    def advise(self) -> None:
        """Say so where the draws are not to be trusted."""
        name = self.potential.program.name
        if not self.settled:
            warnings.warn(
                f"{name}: the guide still moved after {self.optimiser_steps} steps; raise max_steps or tolerance, or look at"
                " fit.history.",
                ConvergenceWarning,
                stacklevel=2,
            )
        if self.khat <= GOOD_ENOUGH:
            return
        richer = {
            "mean_field": "guide='full_rank' or ",
            "full_rank": "guide='flow' or ",
            "low_rank": "guide='flow' or ",
        }
        other = richer.get(self.guide.name, "")
        warnings.warn(
            f"{name}: Pareto's k-hat of the {self.guide.name} guide is {self.khat:.2f}, above"
            f" {GOOD_ENOUGH}: the guide is too far from the posterior for its draws, and above all their standard deviations, to"
            f" be trusted. Use {other}method='chees'.",
            ConvergenceWarning,
            stacklevel=2,
        )

    def diagnostics(self) -> dict[str, Any]:
        inside = bool(np.isfinite(self.log_weights).all())  # the bound is infinite where the guide leaves the support
        spread = self.log_weights.std() / math.sqrt(len(self.log_weights)) if inside else math.nan
        return {
            "khat": self.khat,
            "elbo": float(self.log_weights.mean()),
            "elbo_error": float(spread),
            "optimiser_steps": self.optimiser_steps,
            "skipped_steps": self.skipped,
            "learning_rates": self.rates_tried,
            "compiled": self.density.mode,
            "seconds": dict(self.seconds),
        }

    def pack(self) -> dict[str, Tensor]:
        packed = {name: getattr(self, name) for name in ("parameters", "sizes", "previous")}
        packed["state"] = torch.stack(self.state)
        if self.iterated.kept:
            packed["kept"] = torch.stack(self.iterated.kept)
            packed["objectives"] = torch.tensor(self.iterated.objectives, dtype=torch.float64)
        counts = torch.tensor([self.age, self.rates_tried, self.optimiser_steps, self.skipped])
        numbers = torch.tensor([self.rate, *self.seconds.values()], dtype=torch.float64)
        return packed | {"counts": counts, "numbers": numbers, "generator": self.generator.get_state()}

    def unpack(self, tensors: dict[str, Tensor]) -> None:
        for name in ("parameters", "sizes", "previous"):
            setattr(self, name, tensors[name])
        self.state = tuple(tensors["state"].unbind())
        self.age, self.rates_tried, self.optimiser_steps, self.skipped = (int(v) for v in tensors["counts"])
        self.rate, *seconds = tensors["numbers"].tolist()
        self.seconds = dict(zip(self.seconds, seconds, strict=True))
        self.generator.set_state(tensors["generator"])
        if "kept" in tensors:
            self.iterated = Iterates(list(tensors["kept"]), tensors["objectives"].tolist())


def check_options(options: dict[str, Any]) -> None:
    """Refuse what cannot be."""
    for name, least in (("draws", 1), ("guide_draws", 100), ("rank", 1)):
        number = options[name]
        check_whole(name, number, least)
    if options["objective"] not in OBJECTIVES:
        raise CapabilityError(f"objective must be one of {', '.join(OBJECTIVES)}, got {options['objective']!r}.")
    if options["objective"] == "iwae" and options["draws"] < 2:
        raise CapabilityError("objective='iwae' needs draws of at least 2; with one draw it is the elbo.")
    rate = options["learning_rate"]
    if not isinstance(rate, int | float) or not 0 < rate <= 1:
        raise CapabilityError(f"learning_rate must lie above 0 and at most at 1, got {rate!r}.")
