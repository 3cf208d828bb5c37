"""Runs of the samplers on users' programs, as the tests of posteriors do them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

import probgen as pg

__all__ = ["METHODS", "assert_agrees", "sampled"]

METHODS: dict[str, dict[str, Any]] = {
    "chees": {"chains": 32, "warmup": 500, "draws": 800},
    "nuts": {"chains": 4, "warmup": 1000, "draws": 1000, "target_acceptance": 0.9},
}


def sampled(
    model: Callable, data: Mapping[str, Any], method: str, **options: Any
) -> tuple[dict[str, np.ndarray], Any]:
    """Draws ``(chains, draws, ...)`` of all sites, deterministic ones included, and the fit."""
    fit = pg.fit(pg.program(model), data, method=method, seed=1, progress=False, **{**METHODS[method], **options})
    return {name: value.numpy() for name, value in fit.posterior.sites.items()}, fit


def assert_agrees(table: pd.DataFrame, fit: Any) -> None:
    """The rule for agreement with a reference; a failure shows the whole table."""
    assert table.z.abs().max() < 4, table.to_string()
    assert table.sd_ratio.between(0.9, 1.1).all(), table.to_string()
    assert table.rhat.max() < 1.01, table.to_string()
    assert table.ess.min() > 400, table.to_string()
    assert fit.diagnostics["divergences"] == 0, f"{fit.diagnostics['divergences']} transitions diverged"
