"""What a person reads of a fit: parameters and a summary."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from probgen.data.batches import Batch
from probgen.inference.evidence import observe

__all__ = ["described", "families", "in_double", "summary"]


def families(fit: Any) -> dict[str, Any]:
    """The program's families by name."""
    with torch.no_grad(), fit.setting():
        batch = Batch(torch.full((2, len(fit.schema)), torch.nan), fit.schema)
        return observe(fit.program, batch, sum_out=False).families


def in_double(fit: Any) -> Any:
    """The program with the same weights in double precision."""
    made = type(fit.program)(fit.program.schema, **fit.program.options).double()
    made.load_state_dict(fit.program.state_dict())
    return made.to(fit.device)


def described(fit: Any, draw: int) -> dict[str, dict[str, np.ndarray]]:
    """Readable parameters of each family for one draw."""
    theta, owners = fit.posterior.theta(draw), families(fit)
    return {
        name: {key: value.double().cpu().numpy() for key, value in owners[name].describe(values).items()}
        for name, values in theta.items()
    }


def summary(fit: Any) -> str:
    """Model, method, objective, convergence."""
    chains, draws = fit.posterior.shape
    kind = "point estimate" if fit.posterior.point else f"{chains} chains of {draws} draws"
    objective = fit.history.get("objective", [float("nan")])[-1]
    lines = [
        f"{fit.name} fitted by {fit.method} ({kind}) in {fit.seconds:.1f} s",
        f"objective {objective:.4f} nats a row after {fit.diagnostics['steps']} steps,"
        f" {'converged' if fit.diagnostics['converged'] else 'not converged'}",
    ]
    hidden = {"steps", "converged", "restarts", "interrupted"}
    lines += [f"{key}: {value}" for key, value in fit.diagnostics.items() if key not in hidden and value is not None]
    return "\n".join(lines)
