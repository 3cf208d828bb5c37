"""One training step of a VAE 784-400-20 beside a hand-written torch step of the same arithmetic.

One-sample ELBO, Adam, float32, one thread; choosing the minibatch counts on both sides.
"""

import statistics
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks import measure
from probgen.data import Column, Schema, Table
from probgen.data.batches import Batches, Standardiser
from probgen.inference.methods.base import Task
from probgen.inference.methods.svi import VariationalInference
from probgen.inference.runtime import setting
from probgen.program import find

N, PIXELS, HIDDEN, LATENT = 8192, 784, 400, 20
HALF_LOG_TWO_PI = 0.9189385332


def cases():
    """Minibatches of 128 and 1024 rows."""
    torch.set_num_threads(1)
    x = (np.random.default_rng(0).random((N, PIXELS)) < 0.13).astype(float)
    with setting(torch.float32, torch.device("cpu")):
        for rows, steps in ((128, 20), (1024, 5)):
            ours, theirs = library_step(x, rows), hand_step(x, rows)
            for step in (ours, theirs):
                several(step, 3)()
            pairs = [measure(several(ours, steps), several(theirs, steps), swap=bool(i % 2)) for i in range(11)]
            ratio = statistics.median(a / b for a, b in pairs)
            best = [min(pair[i] for pair in pairs) / steps * 1000 for i in (0, 1)]
            yield {"batch": rows, "ours_ms": best[0], "theirs_ms": best[1], "ratio_median": ratio}


def several(step, times):
    def run():
        for _ in range(times):
            step()

    return run


def library_step(x, rows):
    """The method's own step."""
    schema = Schema(tuple(Column(f"x{i}", "binary", levels=(0, 1)) for i in range(PIXELS)))
    table = Table.from_codes(x, schema)
    vae: Any = find("vae")
    program = vae(schema, latent=LATENT, hidden=(HIDDEN,)).float()
    batches = Batches(table, Standardiser.of(table), dtype=torch.float32, schema=schema)
    options = {**VariationalInference.defaults, "batch_size": rows}
    method = VariationalInference(Task(program, batches, None, 0, 10**6, 0.0, options))
    method.init()
    return method.step


def hand_step(x, rows):
    """What one would write in torch."""
    encoder = nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * LATENT))
    decoder = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, PIXELS))
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-3, fused=True)
    data = torch.tensor(x, dtype=torch.float32)

    def batches():
        while True:
            yield from (data[index] for index in torch.randperm(N).split(rows))

    stream = batches()

    def step():
        x = next(stream)
        loc, log_scale = encoder(x).chunk(2, -1)
        noise = torch.randn_like(loc)
        z = loc + log_scale.exp() * noise
        log_x = -binary_cross_entropy_with_logits(decoder(z), x, reduction="none").sum(-1)
        log_z = (-0.5 * z * z - HALF_LOG_TWO_PI).sum(-1)
        log_q = (-0.5 * noise * noise - HALF_LOG_TWO_PI - log_scale).sum(-1)
        loss = -(log_x + log_z - log_q).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step
