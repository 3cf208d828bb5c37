"""Everything the library takes from Pyro beyond its public modelling language, in one place.

The modelling language itself (``pyro.sample``, ``pyro.plate``, ``pyro.factor``, ``pyro.deterministic`` and
``pyro.distributions``) is used directly. Handlers and effect types come from here, so that a change in Pyro's
internals is a change in this file only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opt_einsum import shared_intermediates
from pyro import poutine
from pyro.distributions import Unit
from pyro.infer.traceenum_elbo import _compute_model_factors
from pyro.ops.contract import contract_tensor_tree
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import effectful
from pyro.poutine.subsample_messenger import _Subsample
from pyro.poutine.trace_struct import Trace

__all__ = [
    "Messenger",
    "Trace",
    "effectful",
    "enumerated",
    "in_plates",
    "is_bookkeeping",
    "is_factor",
    "is_subsampled",
    "log_joint",
    "traced",
    "unconditioned",
]


def in_plates(message: dict) -> bool:
    """True where a sample statement stands inside a plate: it belongs to rows, not to the parameters."""
    return bool(message["cond_indep_stack"])


def is_bookkeeping(message: dict) -> bool:
    """True for what Pyro records as a sample statement but is none: a plate's indices, a deterministic value."""
    return isinstance(message["fn"], _Subsample) or bool(message["infer"].get("_deterministic"))


def is_subsampled(message: dict) -> bool:
    """True for the indices of a plate that draws some of its rows by itself."""
    fn = message["fn"]
    return isinstance(fn, _Subsample) and fn.subsample_size is not None and fn.subsample_size < fn.size


def traced(model: Callable, *arguments: Any) -> Trace:
    """The sites of one run."""
    return poutine.trace(model).get_trace(*arguments)


def unconditioned(model: Callable) -> Callable:
    """The model with its observed sites drawn; what they observed is kept in their ``infer["obs"]``."""
    return poutine.uncondition(model)


def is_factor(message: dict) -> bool:
    """True for a term that a program adds to its log density without drawing anything."""
    return isinstance(message["fn"], Unit)


def enumerated(model: Callable, nesting: int) -> Callable:
    """The model with every discrete latent site enumerated, in dimensions to the left of its plates.

    Marks of the sites do not count: one value at a time (``"sequential"``), or some that are drawn (``num_samples``), would
    make the density another one at every run.
    """
    return poutine.enum(poutine.infer_config(model, all_at_once), first_available_dim=-1 - nesting)


def all_at_once(message: dict) -> dict:
    """How a site is enumerated: all of its values in a dimension of their own."""
    if message["is_observed"] or not getattr(message["fn"], "has_enumerate_support", False):
        return {}
    return {"enumerate": "parallel", "num_samples": None, "expand": message["infer"].get("expand", False)}


def log_joint(model: Callable, values: dict[str, Any], nesting: int | None, *arguments: Any) -> Any:
    """Log density of a run at values of its latent sites.

    Discrete sites are summed out where ``nesting``, the depth of the plates, is given. Masks count inside the sums, scales
    of plates outside.
    """
    model = poutine.condition(model, data=values)
    if nesting is None:
        return traced(model, *arguments).log_prob_sum()
    trace = traced(enumerated(model, nesting), *arguments)
    trace.compute_log_prob()
    trace.pack_tensors()
    costs, factors, _, summed, scale = _compute_model_factors(trace, Trace())
    with shared_intermediates() as cache:
        summed_out = contract_tensor_tree(factors, summed, cache=cache) if factors else {}
    plain = sum(term.sum() for terms in costs.values() for term in terms)
    return plain + scale * sum(term.sum() for terms in summed_out.values() for term in terms)
