"""The eleven reference posteriors by both Hamiltonian samplers: agreement with the reference draws, and CPU seconds.

z is the difference of means by both Monte-Carlo errors, the largest over parameters; the reference draws are posteriordb's. Needs the
folder of data sets (``PROBGEN_DATA``).
"""

import os
import time
from pathlib import Path

import torch

import probgen as pg
from tests.inference.posteriors import NAMES, compare, posterior
from tests.inference.sampling import METHODS

ONLY = tuple(
    filter(None, os.environ.get("PROBGEN_POSTERIORS", "").split(","))
)  # some of them, by the start of their names


def cases():
    """Every posterior with every sampler."""
    torch.set_num_threads(1)
    for name in NAMES:
        if not ONLY or name.startswith(ONLY):
            for method, options in METHODS.items():
                yield case(name, method, options)


def case(name, method, options):
    """One posterior, one sampler."""
    model, data, reference = posterior(name, Path(os.environ.get("PROBGEN_DATA", "../shared/data")))
    began = time.process_time()
    fit = pg.fit(pg.program(model), data, method=method, seed=1, progress=False, **options)
    spent = time.process_time() - began
    table = compare({site: value.numpy() for site, value in fit.posterior.sites.items()}, reference)
    return {
        "case": name, "method": method, "largest_z": float(table.z.abs().max()), "sd_ratio_low": float(table.sd_ratio.min()),
        "sd_ratio_high": float(table.sd_ratio.max()), "rhat": float(table.rhat.max()), "ess": float(table.ess.min()),
        "divergences": fit.diagnostics["divergences"], "cpu_seconds": spent, "leapfrogs": fit.diagnostics["leapfrogs"],
        **{f"{key}_seconds": value for key, value in fit.diagnostics["seconds"].items()},
    }  # fmt: skip
