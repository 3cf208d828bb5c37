"""How far each model with a density is from known ones: three in the plane and a normal one of ten columns.

``kl`` is the mean over fresh rows of the true log density minus the model's, in nats, with its standard error; where a model's number is a lower
bound or estimated by importance, its divergence is at most ``kl``. ``honest`` says that the model's log density is nowhere above the truth on average by more than
three errors: the divergence from the truth is never negative. ``bound`` is what we expect a model to stay below.
"""

import os
import time
from typing import Any

from probgen.data.toys import toy
from probgen.studies.models import default_models
from probgen.studies.toy_study import toy_study

PLANE = ("two_moons", "eight_normals", "two_spirals")
WIDE = "correlated_normal"
ROWS, TEST_ROWS = 10_000, 4000

NETWORK = {"batch_size": 256, "learning_rate": 3e-3}
FLOW = {"max_steps": 2000, **NETWORK}
EQUATION = {"max_steps": 3000, "conditioning": 0.0, **NETWORK}  # no row is asked for in parts
LATENT = {"hidden": (64, 64), "max_steps": 3000, "beta_steps": 1000, **NETWORK}

OPTIONS: dict[str, dict[str, Any]] = {  # in the plane
    "gaussian_mixture": {"components": 24},
    "student_mixture": {"components": 24},
    "mixture_of_factor_analysers": {"components": 24, "factors": 1},
    "gaussian_copula": {"components": 24},
    "latent_class": {"components": 40},
    "factor_analysis": {"latent": 1},
    "probabilistic_pca": {"latent": 1},
    "vae": {"latent": 2, "latent_prior": "mixture", **LATENT},
    "hierarchical_vae": {"latent": (2, 2), **LATENT},
    "vq_vae": {"max_steps": 2000, **NETWORK},
    "coupling_flow": FLOW,
    "autoregressive_flow": FLOW,
    "spline_flow": FLOW,
    "continuous_flow": EQUATION,
    "score_sde": EQUATION,
    "diffusion": EQUATION,
    "made": {"order": "column", **FLOW},
    "masked_transformer": {"max_steps": 1000, **NETWORK},
    "energy": {"max_steps": 2500, **NETWORK},
}
WIDE_OPTIONS: dict[str, dict[str, Any]] = {
    "gaussian_mixture": {"components": 1},
    "student_mixture": {"components": 1},
    "mixture_of_factor_analysers": {"components": 1, "factors": 5},
    "gaussian_copula": {"components": 1},
    "latent_class": {"components": 20},
    "factor_analysis": {"latent": 5},
    "probabilistic_pca": {"latent": 5},
    "vae": {"latent": 10, "latent_prior": "normal"},
    "hierarchical_vae": {"latent": (10, 4)},
}
LEFT_OUT = (
    "boltzmann_machine",
    "deep_belief",
    "conditional_vae",
)  # hidden units for levels, and a label that is not here

BOUNDS: dict[str, tuple[float | None, ...]] = {  # of the densities in their order; None where none is stated
    "gaussian_mixture": (0.02, 0.05, 0.15, 0.03),
    "student_mixture": (0.02, 0.05, 0.15, 0.04),
    "mixture_of_factor_analysers": (0.02, None, None, 0.03),
    "latent_class": (0.02, 0.06, 0.25, 3.0),
    "gaussian_copula": (0.03, None, None, 0.08),
    "kernel_density": (0.03, 0.06, 0.15, 1.3),
    "hidden_chow_liu_tree": (0.03, None, None, None),
    "chow_liu_mixture": (0.25, None, None, 2.0),
    "factor_analysis": (0.95, None, None, 0.03),
    "probabilistic_pca": (0.95, None, None, 0.1),
    "bayesian_network": (0.95, None, None, 0.01),
    "spline_flow": (0.02, 0.1, 0.15, 0.1),
    "coupling_flow": (0.06, None, None, 0.1),
    "autoregressive_flow": (0.07, None, None, 0.12),
    "continuous_flow": (0.05, None, None, 0.04),
    "score_sde": (0.04, None, None, 0.06),
    "diffusion": (0.06, None, None, 0.2),
    "made": (0.06, None, None, 0.12),
    "masked_transformer": (0.06, None, None, 0.12),
    "energy": (0.06, None, None, 0.4),
    "vae": (0.03, None, None, 0.1),
    "hierarchical_vae": (0.25, None, None, 0.5),
    "vq_vae": (1.1, None, None, None),
}


def cases():
    """Every model of the registry that takes real columns, on four densities; ``TOYS`` and ``MODELS`` choose."""
    for name in os.environ.get("TOYS", ",".join((*PLANE, WIDE))).split(","):
        known = [model for model in (*default_models(toy(name, 50)), "energy") if model not in LEFT_OUT]
        for model in os.environ.get("MODELS", ",".join(known)).split(","):
            yield case(name, model)


def case(name, model):
    """One fit, with the model's own options where there are any."""
    chosen = {**OPTIONS.get(model, {}), **(WIDE_OPTIONS.get(model, {}) if name == WIDE else {})}
    before = time.process_time()
    found = toy_study({model: chosen}, [name], rows=ROWS, test_rows=TEST_ROWS, progress=False)
    if not found.scores:
        return {"toy": name, "model": model, "failed": found.failures[name, model]}
    score = found.scores[0]
    bound = BOUNDS.get(model, ())
    limit = bound[(*PLANE, WIDE).index(name)] if bound else None
    return {
        **score,
        "honest": score["kl"] > -3 * score["error"],
        "bound": limit,
        "seconds": time.process_time() - before,
    }
