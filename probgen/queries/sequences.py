"""What is asked of sequences: filtered states, the most probable path, forecasts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from probgen.data.batches import Batch
from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.inference.chain import filtered
from probgen.inference.elimination import ChainBucket
from probgen.inference.evidence import log_evidence
from probgen.inference.posterior import Theta
from probgen.queries.marginals import Marginals, marginals
from probgen.whole import check_whole

__all__ = ["filter_states", "forecast", "viterbi"]

ROWS = 2**17


def filter_states(fit: Any, table: Table) -> np.ndarray:
    """``(N, K)``: probabilities (means of continuous ones) of each step's state given the steps up to it.

    Averaged over posterior draws.
    """
    pieces = []
    with torch.no_grad(), fit.setting():
        for batch in fit.batches(table, ROWS).pieces():
            found = [filtered_states(fit, batch, theta) for theta in fit.posterior.spread(50)]
            pieces.append(torch.stack(found).mean(0))
    return torch.cat(pieces).double().cpu().numpy()


def viterbi(fit: Any, table: Table) -> np.ndarray:
    """``(N,)`` codes of the most probable path of states; ``(N, M)`` for a program of M chains."""
    pieces = []
    with torch.no_grad(), fit.setting():
        for batch in fit.batches(table, ROWS).pieces():
            chain = log_evidence(fit.program, batch, theta=fit.posterior.theta()).in_time
            if chain is None:
                raise CapabilityError(f"{fit.name!r} has no chain of states; use fit.embed for its latent variable.")
            pieces.append(torch.stack(list(chain.best().values()), 1))
    codes = torch.cat(pieces).cpu().numpy()
    return codes[:, 0] if codes.shape[1] == 1 else codes


def forecast(fit: Any, table: Table, steps: int, draws: int, seed: int) -> Marginals:
    """Marginals of ``steps`` unknown rows after each sequence; ``row`` counts the rows of the longer table."""
    check_whole("steps", steps)
    if table.lengths is None:
        raise CapabilityError("A forecast needs sequences; make the table with Table(data, sequence=..., time=...).")
    if fit.program.inputs:
        raise CapabilityError(
            f"{fit.name!r} needs its inputs in the steps ahead too: append rows with them known and the rest unknown to"
            " the table, and give that to fit.marginals."
        )
    longer = table.extended(steps)
    found = marginals(fit, longer, draws, seed)
    ends = np.cumsum(table.lengths + steps)
    sequence = np.searchsorted(ends, found.row, side="right")
    return found.select(found.row >= ends[sequence] - steps)


def filtered_states(fit: Any, batch: Batch, theta: Theta) -> Tensor:
    """``(N, K)`` for one draw of the parameters."""
    paths = log_evidence(fit.program, batch, theta=theta).paths
    if paths:
        return torch.cat([bucket.filtered() for bucket in paths], 1)
    return filtered_codes(chain_of(fit, batch, theta))


def chain_of(fit: Any, batch: Batch, theta: Theta) -> ChainBucket:
    """The chain of a batch's rows, ready to be filtered."""
    evidence = log_evidence(fit.program, batch, theta=theta)
    chain = evidence.chain
    if chain is None and evidence.in_time is not None:
        raise CapabilityError(f"{fit.name!r} has too many joint states to be filtered; use fit.embed, which smooths.")
    if chain is None:
        raise CapabilityError(f"{fit.name!r} has no chain of states; use fit.embed for its latent variable.")
    return chain


def filtered_codes(chain: ChainBucket) -> Tensor:
    """``(N, sum of K)``: filtered probabilities of each chain's values, side by side."""
    states = filtered(chain.initial, chain.transition, chain.scores, chain.steps)
    return torch.cat(list(chain.marginals(states).values()), 1)
