"""One step of mean-field variational inference on a conjugate regression: beside a loop by hand, and beside Pyro's SVI.

Rows 100, columns 5, one draw a step, the same evidence lower bound and Adam. "start" is what the first step waits for.
"""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import torch

from benchmarks import paired
from probgen.inference.fit import Whole
from probgen.inference.methods.advi import ROUND, AutomaticVariational
from probgen.inference.methods.base import Task
from probgen.inference.runtime import setting
from probgen.program import program

N, D = 100, 5
REPEATS = 9


def cases():
    """The plain graph, and the graph through a compiler."""
    torch.set_num_threads(1)
    with setting(torch.float64, torch.device("cpu")):
        torch.manual_seed(0)
        x = torch.randn(N, D)
        data = {"x": x, "y": x @ torch.randn(D) + torch.randn(N)}
        loop, peer = by_hand(data), by_pyro(data)
        for mode in ("graph", "inductor"):
            method = prepared(data, mode)
            yield told(f"{mode} beside a loop by hand", method, paired(method.step, loop, repeats=REPEATS))
            yield told(f"{mode} beside Pyro's SVI", method, paired(method.step, peer, repeats=REPEATS))


def told(case: str, method: AutomaticVariational, times: dict[str, float]) -> dict[str, Any]:
    """Microseconds a step."""
    steps = {key: value / ROUND * 1e6 if key in ("ours", "theirs") else value for key, value in times.items()}
    return {"case": case, **steps, "start_seconds": method.seconds["compile"]}


def regression(data):
    """Standard normal coefficients, unit noise."""
    weights = pyro.sample("weights", dist.Normal(torch.zeros(D), 1.0).to_event(1))
    with pyro.plate("rows", N):
        pyro.sample("y", dist.Normal(data["x"] @ weights, 1.0), obs=data["y"])


def prepared(data: Any, mode: str) -> AutomaticVariational:
    """The library's method, started; it keeps its first learning rate."""
    options = {**AutomaticVariational.defaults, "draws": 1, "compile": mode}
    method = AutomaticVariational(Task(program(regression), Whole(data), None, 0, 1000, 0.0, options))  # type: ignore[arg-type]
    method.init()
    return method


def by_hand(data: Any):
    """As many steps of PyTorch without anything around."""
    location, log_scale = torch.zeros(D, requires_grad=True), torch.full((D,), -2.0, requires_grad=True)
    optimiser = torch.optim.Adam([location, log_scale], lr=0.01, fused=True)
    x, y, constant = data["x"], data["y"], 0.5 * math.log(2 * math.pi)

    def step():
        noise = torch.randn(D)
        weights = location + log_scale.exp() * noise
        log_q = -(0.5 * noise.square() + log_scale + constant).sum()
        log_p = -(0.5 * weights.square() + constant).sum() - (0.5 * (y - x @ weights).square() + constant).sum()
        optimiser.zero_grad()
        (log_q - log_p).backward()
        optimiser.step()

    return lambda: [step() for _ in range(ROUND)]


def by_pyro(data: Any):
    """As many steps of ``pyro.infer.SVI`` with AutoNormal and Trace_ELBO, checks off."""
    from pyro.infer import SVI, Trace_ELBO
    from pyro.infer.autoguide import AutoNormal
    from pyro.optim import Adam

    svi = SVI(regression, AutoNormal(regression), Adam({"lr": 0.01}), Trace_ELBO())
    return lambda: [svi.step(data) for _ in range(ROUND)]
