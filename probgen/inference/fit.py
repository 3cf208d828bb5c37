"""The one loop around every method: seeds, device, progress, restarts, interruption, checkpoints, history."""

from __future__ import annotations

import importlib
import pkgutil
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from probgen.data.batches import Batches, Standardiser
from probgen.errors import CapabilityError, ConvergenceWarning, FitError
from probgen.inference import methods as methods_package
from probgen.inference.checkpoint import Checkpoint, Progress
from probgen.inference.communication import Communicator, OneProcess, communicator
from probgen.inference.methods.base import Method, Task, first_of_the_best
from probgen.inference.posterior import Posterior
from probgen.inference.programs import code_fingerprint, fingerprint, users_data
from probgen.inference.runtime import seed_of, setting, to_device, to_dtype
from probgen.program import Model, UserProgram
from probgen.whole import check_whole

__all__ = ["Outcome", "find_method", "method_names", "methods_of", "run"]

Callback = Callable[[int, dict[str, float], Method], None]

IN_NATS = ("objective", "log_likelihood", "validation")  # numbers of a step that are log densities a row
IN_SINGLE = ("svi", "contrastive", "adversarial", "unnormalised")  # methods that train networks in single precision
FALL = -1e-6  # of the objective in one step, nats a row


@dataclass
class Outcome:
    """What a run leaves behind."""

    program: Model
    posterior: Posterior
    method: str
    history: dict[str, list[float]]
    diagnostics: dict[str, Any]
    seconds: float
    dtype: torch.dtype
    device: torch.device
    options: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)


@cache
def method_names() -> list[str]:
    """Names of the methods: the files of ``probgen.inference.methods``."""
    return [info.name for info in pkgutil.iter_modules(methods_package.__path__) if info.name != "base"]


@cache
def find_method(name: str) -> type[Method]:
    """The method of this name."""
    if name not in method_names():
        raise CapabilityError(f"There is no method {name!r}. Available: auto, {', '.join(method_names())}.")
    module = importlib.import_module(f"probgen.inference.methods.{name}")
    return next(
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__
    )


def methods_of(program: Model | type[Model]) -> tuple[str, ...]:
    """The methods that a model can be fitted by: those it names, and those that work wherever one of these does."""
    named = program.traits.methods
    implied = [name for name in method_names() if name not in named and find_method(name).wherever in named]
    return (*named, *implied)


def choose_method(program: Model, method: str) -> str:
    """``auto`` is the model's first choice; anything else has to be among what the model supports."""
    if method == "auto":
        return program.traits.methods[0]
    kind, able = find_method(method), ", ".join(methods_of(program))
    if kind.normalises and not program.traits.normalised:
        raise CapabilityError(
            f"{program.name!r} states its density up to a factor, so method={method!r} would raise its objective without"
            f" limit; it supports: {able}."
        )
    if method not in methods_of(program):
        raise CapabilityError(f"{program.name!r} cannot be fitted by method={method!r}; it supports: {able}.")
    return method


def check_limits(max_steps: int | None, tolerance: float | None, restarts: int | None) -> None:
    """Refuse limits that are no numbers of the right kind."""
    for name, value in (("max_steps", max_steps), ("restarts", restarts)):
        if value is not None:
            check_whole(name, value)
    if tolerance is not None and (not isinstance(tolerance, Real) or not tolerance >= 0):
        raise CapabilityError(f"tolerance must be a number of nats a row, at least 0, got {tolerance!r}.")


def run(
    program: Model,
    source: Any,
    standardiser: Standardiser | None,
    *,
    method: str = "auto",
    seed: int = 0,
    max_steps: int | None = None,
    tolerance: float | None = None,
    restarts: int | None = None,
    validation_fraction: float = 0.1,
    device: str | None = None,
    dtype: str | None = None,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 60.0,
    callback: Callback | None = None,
    **options: Any,
) -> Outcome:
    """Fit a program to a source of rows (or, with ``standardiser=None``, to a user's own data)."""
    name = choose_method(program, method)
    kind = find_method(name)
    unknown = sorted(set(options) - set(kind.defaults))
    if unknown:
        raise CapabilityError(
            f"Method {name!r} has no option {', '.join(map(repr, unknown))}; it accepts: {', '.join(kind.defaults)},"
            " max_steps, tolerance, restarts, seed, device, dtype, progress, checkpoint, callback."
        )
    networks = any(p.requires_grad for p in program.parameters())
    found_dtype = to_dtype(dtype, torch.float32 if networks and name in IN_SINGLE else torch.float64)
    where = to_device(device)
    check_limits(max_steps, tolerance, restarts)
    program.to(device=where, dtype=found_dtype)
    told = options.get("validation") is not None  # rows to stop by that stand outside the training rows
    fraction = validation_fraction if kind.validates and not told and standardiser is not None else 0.0
    training, validation = divide(source, fraction, seed)
    processes, given = communicator(), {**kind.defaults, **options}
    kept = (
        Checkpoint(Path(checkpoint), purpose(program, name, seed, given, source), processes, kind.in_step)
        if checkpoint
        else None
    )
    loop = Loop(
        kind, program, max_steps or kind.max_steps, kind.tolerance if tolerance is None else tolerance,
        given, progress and processes.leads, kept, checkpoint_seconds, callback, processes, units_offset(program, standardiser, kind),
    )  # fmt: skip
    with setting(found_dtype, where):
        make = lambda rows: as_batches(rows, standardiser, program, found_dtype, where)  # noqa: E731
        began = time.perf_counter()
        rows = make(training)
        program.prepare(rows)
        best = loop.best_of(restarts or kind.restarts, rows, None if validation is None else make(validation), seed)
        program.finish(rows)
    warn_of(best, program, name)
    posterior = best.posterior
    return Outcome(
        program, posterior, name, best.history, best.diagnostics, time.perf_counter() - began, found_dtype, where,
        given, best.memory,
    )  # fmt: skip


def units_offset(program: Model, standardiser: Standardiser | None, kind: type[Method]) -> float:
    """From a log density in model coordinates to one in the data's own units, mean nats a row; nothing where a method has none."""
    if standardiser is None or standardiser.offsets is None or not (kind.in_nats and program.in_nats):
        return 0.0
    modelled = [name not in program.inputs for name in program.schema.names]
    return float(standardiser.offsets[modelled].sum())


def purpose(program: Model, method: str, seed: int, options: dict[str, Any], source: Any) -> dict[str, Any]:
    """What a checkpoint has to agree with: all that a fit's steps depend on, but for how many they are."""
    told = {k: v for k, v in {**program.options, **options}.items() if is_plain(v)}
    about = {"model": program.name, "method": method, "seed": seed, **told}
    if isinstance(program, UserProgram):
        code = [code_fingerprint(f) for f in (program.model_function, program.guide_function) if f is not None]
        return {**about, "code": code, "data": fingerprint(source)}
    return {**about, "data": source.fingerprint() if hasattr(source, "fingerprint") else None}


def warn_of(best: Attempt, program: Model, name: str) -> None:
    """Say where a fit did not converge, or its objective fell."""
    if not best.diagnostics["converged"] and name in ("em", "map"):
        warnings.warn(f"{program.name}: {best.advice()}", ConvergenceWarning, stacklevel=4)
    if best.diagnostics.get("unsettled"):
        warnings.warn(f"{program.name}: {best.diagnostics['unsettled']}", ConvergenceWarning, stacklevel=4)
    if best.diagnostics.get("largest_fall", 0.0) < FALL:
        warnings.warn(
            f"{program.name}: the objective fell by {-best.diagnostics['largest_fall']:.2g} nats a row in one step, more"
            " than rounding explains: the likelihood has no maximum here, or values lie too far apart for double"
            " precision. Use prior='default', fewer components, or take outliers and columns that repeat others out.",
            ConvergenceWarning,
            stacklevel=4,
        )


def is_plain(value: Any) -> bool:
    """True for what can be written as it is; arrays, tables and objects are not compared."""
    if isinstance(value, dict):
        return all(map(is_plain, (*value, *value.values())))
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, Real | str)


def divide(source: Any, fraction: float, seed: int) -> tuple[Any, Any]:
    """Rows to train on, and rows to stop by."""
    if not fraction or not hasattr(source, "split") or len(source) < 40:
        return source, None
    return source.split(1 - fraction, fraction, seed=seed_of(seed, "validation") % 2**31)


class Whole:
    """A user's own data as the one batch of a fit."""

    source = None

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return 1

    def pieces(self) -> Any:
        yield self.data

    def epoch(self, seed: int) -> Any:
        """The data, every time."""
        yield self.data


def as_batches(
    rows: Any, standardiser: Standardiser | None, program: Model, dtype: torch.dtype, device: torch.device
) -> Any:
    if standardiser is None:
        return Whole(users_data(rows, dtype, device))
    return Batches(rows, standardiser, dtype=dtype, device=device, schema=program.schema)


@dataclass
class Attempt:
    """One run from one start."""

    posterior: Posterior
    history: dict[str, list[float]]
    diagnostics: dict[str, Any]
    score: float
    memory: dict[str, dict[str, torch.Tensor]]
    varies: bool = True

    def advice(self) -> str:
        rise = self.diagnostics.get("last_rise", float("nan"))
        return (
            f"not converged after {self.diagnostics['steps']} steps (last rise {rise:.2g} nats a row);"
            " raise max_steps or tolerance, or look at fit.history."
        )


@dataclass
class Loop:
    """Steps of one method until it is done, with everything around them."""

    kind: type[Method]
    program: Model
    max_steps: int
    tolerance: float
    options: dict[str, Any]
    progress: bool
    checkpoint: Checkpoint | None
    checkpoint_seconds: float
    callback: Callback | None
    processes: Communicator = field(default_factory=OneProcess)
    offset: float = 0.0  # from model coordinates to the data's units, nats a row, of what is told
    attempts: list[Progress] = field(default_factory=list)

    def best_of(self, restarts: int, training: Any, validation: Any, seed: int) -> Attempt:
        """The best of several starts by the objective; failures are counted, and fatal only if all fail."""
        attempts, failures = [], []
        self.attempts = [] if self.checkpoint is None else self.checkpoint.load()
        divided = {self.kind.divides: self.processes}
        for number in range(restarts):
            task = Task(
                self.program, training, validation, seed_of(seed, "restart", number) if number else seed,
                self.max_steps, self.tolerance, dict(self.options), **divided,
            )  # fmt: skip
            if number == len(self.attempts):
                self.attempts.append(Progress())
            reached = self.attempts[number]
            try:
                if reached.failure:
                    raise FitError(reached.failure)
                attempts.append(self.attempt(task, reached, self.label(number, restarts)))
            except FitError as error:
                failures.append(error)
                reached.failure = str(error)
            if not isinstance(self.options.get("start"), str | None) or (
                attempts and (attempts[-1].diagnostics["interrupted"] or not attempts[-1].varies)
            ):
                break
        if not attempts:
            raise failures[0]
        best = first_of_the_best(attempts, lambda attempt: attempt.score)
        best.diagnostics |= {"restarts": [a.score for a in attempts], "failed_restarts": len(failures)}
        return best

    def label(self, number: int, restarts: int) -> str:
        """What the progress bar says."""
        name = f"{self.program.name} · {self.kind.__module__.rsplit('.', 1)[-1]}"
        return f"{name} {number + 1}/{restarts}" if restarts > 1 else name

    def attempt(self, task: Task, reached: Progress, label: str) -> Attempt:
        """One run from one start, or on from where it stood."""
        method = self.kind(task)
        method.init()
        if reached.steps:
            here = torch.empty(0).device
            method.unpack({key: value.to(here) for key, value in reached.state.items()})
        interrupted, saved = False, time.monotonic()
        bar = tqdm(
            total=None if self.max_steps > 10**8 else self.max_steps,
            desc=label,
            disable=not self.progress,
            leave=False,
            initial=reached.steps,
        )
        try:
            while reached.steps < self.max_steps and not reached.done:
                self.advance(method, reached, bar)
                if self.is_due(saved, reached):
                    self.save(method, reached)
                    saved = time.monotonic()
        except KeyboardInterrupt:
            interrupted = True
            warnings.warn("Interrupted: the fit so far is returned.", ConvergenceWarning, stacklevel=4)
        finally:
            bar.close()
        if self.checkpoint is not None:
            self.save(method, reached)
        return self.finish(method, reached, interrupted)

    def advance(self, method: Method, reached: Progress, bar: Any) -> None:
        """One step, and what is told of it."""
        step = method.step()
        record(reached.history, step.values)
        reached.steps, reached.done, reached.converged = reached.steps + 1, step.done, step.converged
        bar.update()
        told = {key: value + self.offset if key in IN_NATS else value for key, value in step.values.items()}
        bar.set_postfix({k: f"{v:.4f}" for k, v in list(told.items())[:1]}, refresh=False)
        if self.callback is not None:
            self.callback(reached.steps - 1, told, method)

    def is_due(self, saved: float, reached: Progress) -> bool:
        """Whether to save; the first process decides for all, on this and on the end, where they go in step."""
        due = self.checkpoint is not None and time.monotonic() - saved > self.checkpoint_seconds
        if self.kind.in_step and self.processes.size > 1:
            told = self.processes.broadcast([due, reached.done, reached.converged])
            due, reached.done, reached.converged = map(bool, told)
        return due and not reached.done

    def save(self, method: Method, reached: Progress) -> None:
        assert self.checkpoint is not None
        reached.state = method.pack()
        self.checkpoint.save(self.attempts)

    def finish(self, method: Method, reached: Progress, interrupted: bool) -> Attempt:
        posterior = method.result()
        history = reached.history if self.kind.in_step else self.gathered(reached.history)
        objective = history.get("objective") or [float("nan")]
        diagnostics = {
            "converged": reached.converged,
            "interrupted": interrupted,
            "steps": len(objective),
            "last_rise": objective[-1] - objective[-2] if len(objective) > 1 else float("nan"),
            **method.diagnostics(),
        }
        score = diagnostics.get("best_validation")
        score = objective[-1] if score is None else score
        return Attempt(posterior, history, diagnostics, score, method.memory(), method.varies)

    def gathered(self, history: dict[str, list[float]]) -> dict[str, list[float]]:
        """The steps of all processes, in the order in which one process takes them."""
        return {
            key: self.processes.concatenate(torch.tensor(values, dtype=torch.float64)).tolist()
            for key, values in history.items()
        }


def record(history: dict[str, list[float]], values: dict[str, float]) -> None:
    for key, value in values.items():
        history.setdefault(key, []).append(value)
