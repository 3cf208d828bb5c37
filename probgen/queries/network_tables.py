"""A fit as a network of tables, where it is one."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch

from probgen.data.batches import Batch
from probgen.families.base import Symbol
from probgen.inference.table_network import TableNetwork
from probgen.inference.tracing import Given, observe

__all__ = ["network_of"]

_NETWORKS: WeakKeyDictionary[Any, TableNetwork | None] = WeakKeyDictionary()


def network_of(fit: Any) -> TableNetwork | None:
    """The fit as a network of tables, found once; None where it is something else, or has several posterior draws."""
    if fit not in _NETWORKS:
        _NETWORKS[fit] = tables_of(fit) if len(fit.posterior) == 1 and fit.traits.density == "exact" else None
    return _NETWORKS[fit]


def tables_of(fit: Any) -> TableNetwork | None:
    """From one run of the program with nothing known: every site a symbol with one factor over it and its parents."""
    with torch.no_grad(), fit.setting():
        batch = Batch(torch.full((1, len(fit.schema)), torch.nan), fit.schema)
        tracer = observe(fit.program, batch, Given(fit.posterior.theta()))
    sites = list(tracer.sites.values())
    if not sites or len(tracer.factors) != len(sites) or not all(isinstance(s.value, Symbol) for s in sites):
        return None
    if any(
        not f.symbols or f.symbols[-1] != s.value or f.value.dim() > len(f.symbols)
        for f, s in zip(tracer.factors, sites, strict=True)
    ):
        return None
    number = {site.value: at for at, site in enumerate(sites)}
    return TableNetwork(
        [site.name for site in sites],
        [site.value.size for site in sites],
        [tuple(number[symbol] for symbol in factor.symbols[:-1]) for factor in tracer.factors],
        [factor.value.double().exp().cpu().numpy() for factor in tracer.factors],
    )
