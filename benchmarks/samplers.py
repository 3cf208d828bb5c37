"""Samplers of users' programs beside NumPyro's and Pyro's NUTS: least bulk effective sample size a CPU second.

Six posteriors, each written once in Pyro (ours, and Pyro's NUTS) and once as users of NumPyro write it, on the same data
in double precision. "after" counts the draws after warm-up against their own CPU time; "all" is 1 000 effective draws
over the CPU time of getting them from nothing: tracing, compiling, warm-up, and sampling at the rate of "after". Ours are 32
chains, on the plain graph ("chees") and lowered by a compiler ("inductor"). CPU time is that of all threads and of processes that were started, compilers for instance.
"""

from __future__ import annotations

import math
import os
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from scipy.stats import gmean

import probgen as pg
from benchmarks import _numpyro_programs as peers

EFFECTIVE = 1000  # draws of "all"


# ------------------------------------------------------------------------------------------------------ the programs
def eight_schools(data):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(data["y"])):
        white = pyro.sample("white", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(mu + tau * white, data["sigma"]), obs=data["y"])


def logistic(data):
    intercept = pyro.sample("intercept", dist.Normal(0.0, 2.5))
    slopes = pyro.sample("slopes", dist.Normal(0.0, 2.5).expand([data["x"].shape[1]]).to_event(1))
    with pyro.plate("rows", len(data["y"])):
        pyro.sample("y", dist.Bernoulli(logits=intercept + data["x"] @ slopes), obs=data["y"])


def ordered_means():
    """The lowest mean Normal(-3, 1.5), the gaps above it log-normal."""
    base = dist.Normal(torch.tensor([-3.0, 1.0, 1.0]), torch.tensor([1.5, 0.7, 0.7])).to_event(1)
    return dist.TransformedDistribution(base, [dist.transforms.OrderedTransform()])


def mixture(data):
    weights = pyro.sample("weights", dist.Dirichlet(2.0 * torch.ones(3)))
    means = pyro.sample("means", ordered_means())
    sds = pyro.sample("sds", dist.LogNormal(0.0, 0.5).expand([3]).to_event(1))
    with pyro.plate("rows", len(data["y"])):
        pyro.sample("y", dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(means, sds)), obs=data["y"])


def hidden_markov(data):
    rows = pyro.sample("rows", dist.Dirichlet(torch.ones(3, 3) + torch.eye(3)).to_event(1))
    means = pyro.sample("means", ordered_means())
    sd = pyro.sample("sd", dist.LogNormal(0.0, 0.5))
    emission = dist.Normal(means, sd).log_prob(data["y"][:, None])
    pyro.factor("y", chain_density(rows.log(), emission))


def chain_density(transition, emission):
    """Steps (T - 1, K, K) multiplied pairwise in log space until one is left; the first state is uniform."""
    steps = transition + emission[1:, None, :]
    while len(steps) > 1:
        left, right, rest = steps[0 : len(steps) // 2 * 2 : 2], steps[1::2], steps[len(steps) // 2 * 2 :]
        steps = torch.cat([(left[:, :, :, None] + right[:, None, :, :]).logsumexp(-2), rest])
    return (emission[0][:, None] + steps[0]).flatten().logsumexp(0) - math.log(len(transition))


def hierarchical(data):
    mean = pyro.sample("mean", dist.Normal(0.0, 5.0))
    spread = pyro.sample("spread", dist.HalfNormal(2.0))
    slope = pyro.sample("slope", dist.Normal(0.0, 5.0))
    noise = pyro.sample("noise", dist.HalfNormal(2.0))
    with pyro.plate("groups", 50):
        white = pyro.sample("white", dist.Normal(0.0, 1.0))
    level = (mean + spread * white)[data["group"]]
    with pyro.plate("rows", len(data["y"])):
        pyro.sample("y", dist.Normal(level + slope * data["x"], noise), obs=data["y"])


def gaussian_process(data):
    length = pyro.sample("length", dist.LogNormal(0.0, 1.0))
    amplitude = pyro.sample("amplitude", dist.LogNormal(0.0, 1.0))
    noise = pyro.sample("noise", dist.LogNormal(-1.0, 1.0))
    gaps = data["x"][:, None] - data["x"]
    kernel = amplitude.square() * (-0.5 * (gaps / length).square()).exp()
    covariance = kernel + (noise.square() + 1e-8) * torch.eye(len(gaps))
    pyro.sample("y", dist.MultivariateNormal(torch.zeros(len(gaps)), covariance), obs=data["y"])


# ----------------------------------------------------------------------------------------------------------- the data
def school_data(_rng):
    return {"y": np.array([28.0, 8, -3, 7, -1, 1, 18, 12]), "sigma": np.array([15.0, 10, 16, 11, 9, 11, 10, 18])}


def logistic_data(rng):
    x, slopes = rng.normal(size=(1000, 20)), 0.7 * rng.normal(size=20)
    return {"x": x, "y": (rng.random(1000) < 1 / (1 + np.exp(-x @ slopes - 0.3))).astype(float)}


def mixture_data(rng):
    z = rng.choice(3, size=1000, p=[0.3, 0.45, 0.25])
    return {"y": np.array([-3.0, 0.0, 2.5])[z] + np.array([0.7, 0.9, 0.6])[z] * rng.normal(size=1000)}


def chain_data(rng):
    rows, z = np.array([[0.9, 0.07, 0.03], [0.05, 0.9, 0.05], [0.04, 0.06, 0.9]]), [0]
    for _ in range(199):
        z.append(rng.choice(3, p=rows[z[-1]]))
    return {"y": np.array([-2.0, 0.0, 3.0])[z] + 0.8 * rng.normal(size=200)}


def group_data(rng):
    group, x = np.repeat(np.arange(50), 10), rng.normal(size=500)
    return {"group": group, "x": x, "y": 1 + 0.8 * rng.normal(size=50)[group] + 0.5 * x + rng.normal(size=500)}


def process_data(rng):
    x = np.sort(10 * rng.random(100))
    return {"x": x, "y": np.sin(x) + 0.5 * np.cos(2.3 * x) + 0.3 * rng.normal(size=100)}


@dataclass(frozen=True)
class Problem:
    """A posterior: the program in both languages, its data, and how long Pyro can be waited for."""

    ours: Callable[[dict[str, Any]], Any]
    theirs: Callable[[dict[str, Any]], Any]
    data: Callable[[np.random.Generator], dict[str, np.ndarray]]
    pyro_draws: int = 150


PROBLEMS = {
    "eight schools": Problem(eight_schools, peers.eight_schools, school_data),
    "logistic regression, 1000 rows, 20 columns": Problem(logistic, peers.logistic, logistic_data),
    "mixture of 3, 1000 rows": Problem(mixture, peers.mixture, mixture_data, 100),
    "hidden Markov model, 3 states, 200 steps": Problem(hidden_markov, peers.hidden_markov, chain_data, 60),
    "hierarchical regression, 50 groups": Problem(hierarchical, peers.hierarchical, group_data, 100),
    "Gaussian process, 100 rows": Problem(gaussian_process, peers.gaussian_process, process_data),
}


# ---------------------------------------------------------------------------------------------------------- measuring
def cpu() -> float:
    """CPU seconds of this process, its threads and the processes it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@dataclass(frozen=True)
class Run:
    """Draws ``(chains, draws, ...)`` by site, CPU seconds until the first of them and CPU seconds of making them."""

    draws: dict[str, np.ndarray]
    before: float
    sampling: float

    def figures(self) -> dict[str, float]:
        import arviz

        flat = np.concatenate([v.reshape(*v.shape[:2], -1) for v in self.draws.values()], -1)
        columns = [np.ascontiguousarray(flat[..., at]) for at in range(flat.shape[-1])]
        ess = min(float(arviz.ess(column)) for column in columns)
        after = ess / self.sampling
        everything = EFFECTIVE / (self.before + EFFECTIVE / after)
        rhat = max(float(arviz.rhat(column)) for column in columns)
        return {"after": after, "all": everything, "before": self.before, "ess": ess, "rhat": rhat}


def ours(problem: Problem, data: dict[str, np.ndarray], **options: Any) -> Run:
    """``pg.fit``: compilation is part of what comes before the draws."""
    tensors = {key: torch.as_tensor(value) for key, value in data.items()}
    began = cpu()
    fit = pg.fit(pg.program(problem.ours), tensors, seed=0, progress=False, **options)
    sampling = fit.diagnostics["seconds"]["sampling"]
    draws = {name: value.numpy() for name, value in fit.posterior.sites.items() if name in latent(problem, tensors)}
    return Run(draws, cpu() - began - sampling, sampling)


def latent(problem: Problem, tensors: dict[str, torch.Tensor]) -> set[str]:
    """Names of the sites that are sampled, so that all engines are judged by the same numbers."""
    trace = pyro.poutine.trace(problem.ours).get_trace(tensors)
    return {name for name in trace.stochastic_nodes if trace.nodes[name]["fn"].has_rsample}


def numpyro_run(problem: Problem, data: dict[str, np.ndarray], chains: int = 2, size: int = 1000) -> Run:
    """``MCMC.run`` from nothing; what it draws after warm-up is timed by itself, compiled beforehand."""
    began = cpu()
    state = peers.numpyro_fit(problem.theirs, data, chains, size)
    whole = cpu() - began
    draw = peers.compiled_draws(problem.theirs, data, state, size)
    began = cpu()
    draws = draw()
    sampling = cpu() - began
    return Run(draws, whole - sampling, sampling)


def pyro_run(problem: Problem, data: dict[str, np.ndarray]) -> Run:
    """One short chain, its first half warm-up."""
    tensors = {key: torch.as_tensor(value) for key, value in data.items()}
    marks: list[float] = []

    def hook(_kernel, _values, stage, _number):
        if stage.lower().startswith("sample"):
            marks.append(cpu())

    began = cpu()
    with pyro.validation_enabled(False), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kernel = pyro.infer.NUTS(problem.ours)
        chain = pyro.infer.MCMC(
            kernel, problem.pyro_draws, problem.pyro_draws, disable_progbar=True, hook_fn=hook, disable_validation=True
        )
        chain.run(tensors)
    draws = {name: value.numpy() for name, value in chain.get_samples(group_by_chain=True).items()}
    sampling = (marks[-1] - marks[0]) * len(marks) / (len(marks) - 1)
    return Run(draws, marks[-1] - began - sampling, sampling)


ENGINES: dict[str, Callable[[Problem, dict[str, np.ndarray]], Run]] = {
    "chees": partial(ours, method="chees", warmup=120, draws=200, target_acceptance=0.8),
    "inductor": partial(ours, method="chees", warmup=200, draws=400, target_acceptance=0.8, compile="inductor"),
    "numpyro": numpyro_run,
    "pyro": pyro_run,
}


def measured(name: str, engine: str) -> dict[str, float]:
    """One engine on one problem."""
    problem = PROBLEMS[name]
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return ENGINES[engine](problem, problem.data(np.random.default_rng(0))).figures()
    finally:
        torch.set_default_dtype(default)


def loaded():
    """Everything imported, on every side, by one small fit each: programs differ in when they import what."""
    small, data = PROBLEMS["eight schools"], school_data(None)
    ours(small, data, method="chees", chains=2, warmup=20, draws=10)
    peers.numpyro_fit(small.theirs, data, 1, 10)


def cases():
    """Every problem by every engine, with how many times the peers' rates ours are; then the geometric means."""
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # so that the compiler's time is seen
    found = []
    with tempfile.TemporaryDirectory() as folder:  # nothing compiled by a run before this one
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        loaded()
        for name in PROBLEMS:
            figures = {engine: measured(name, engine) for engine in ENGINES}
            found.append(figures)
            yield {"case": name, **{f"{e}_{key}": v for e, part in figures.items() for key, v in part.items()}}
    times = {
        f"{own}_times_{peer}_{key}": float(gmean([row[own][key] / row[peer][key] for row in found]))
        for own in ("chees", "inductor")
        for peer in ("numpyro", "pyro")
        for key in ("after", "all")
    }
    yield {"case": "geometric mean", **times}
