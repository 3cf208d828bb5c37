r"""The one scalar: log p(known cells | parameters), with every summed-out discrete site summed out.

A messenger runs the program once. Summed-out sites get a :class:`Symbol` as their value, the families turn symbols
into factors over named dimensions, and bucket elimination sums them out, batched over rows. Because families hand
over un-normalised natural parameters, the gradient of the result is the expected sufficient statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from probgen._pyro import Messenger, in_plates, is_bookkeeping
from probgen.data.batches import Batch
from probgen.errors import CapabilityError
from probgen.families.base import Factor, Family, Latent, Natural, Parameters, Symbol, Table

__all__ = ["Bucket", "Evidence", "Given", "Tracer", "eliminate", "log_evidence", "observe"]


class Given(Messenger):
    """Answer ``family.draw(name)`` with these parameters, and latent sites with these values."""

    def __init__(
        self,
        theta: Mapping[str, Parameters] | None = None,
        natural: Mapping[str, Natural] | None = None,
        sites: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.theta, self.natural, self.sites = theta or {}, natural or {}, sites or {}

    def _pyro_parameters(self, message: dict) -> None:
        family, name = message["args"]
        if name in self.natural:
            message["value"], message["done"] = Table(family, self.natural[name], self.theta.get(name)), True
        elif name in self.theta:
            theta = self.theta[name]
            message["value"], message["done"] = Table(family, family.natural(theta), theta), True

    def _pyro_sample(self, message: dict) -> None:
        if message["name"] in self.sites:
            message["infer"]["_data"] = message["value"] if message["is_observed"] else None
            message["value"], message["done"] = self.sites[message["name"]], True


@dataclass
class Site:
    """One sample statement as the program ran it."""

    name: str
    distribution: Any
    value: Any
    observed: bool
    scale: float
    family: bool = False  # drawn by a family as its parameters
    data: Tensor | None = None  # what the program observed, before anything stood in for it


class Tracer(Messenger):
    """Collect the local sites, their factors, the global sites and the families of one run.

    Args:
        rows_are_local: latent sites inside plates belong to rows; in a user's own program all of them are parameters.
        sum_out: give discrete sites marked with ``SUM_OUT`` a symbol and collect factors; otherwise just run and draw.

    Sites marked with ``INTEGRATE_OUT`` have no numbers either way, unless they are given: the families below fill and
    score with them integrated out.
    """

    def __init__(self, sum_out: bool = True, rows_are_local: bool = True) -> None:
        super().__init__()
        self.sum_out, self.rows_are_local = sum_out, rows_are_local
        self.sites: dict[str, Site] = {}
        self.global_sites: dict[str, Site] = {}
        self.families: dict[str, Family] = {}
        self.tables: dict[str, Table] = {}
        self.factors: list[Factor] = []
        self._drawing = 0

    def global_sites_outside_families(self) -> list[str]:
        """Names of parameters that no family owns."""
        return [name for name, site in self.global_sites.items() if not site.family]

    def _pyro_parameters(self, message: dict) -> None:
        self._drawing += 1
        family, name = message["args"]
        self.families[name] = family

    def _pyro_post_parameters(self, message: dict) -> None:
        self._drawing -= 1
        self.tables[message["args"][1]] = message["value"]

    def _pyro_sample(self, message: dict) -> None:
        if message["is_observed"]:
            message["infer"]["_data"] = message["infer"].get("_data", message["value"])
        if is_integrated_out(message) and not message["done"]:
            message["value"], message["done"], message["is_observed"] = Latent(message["name"]), True, True
        if message["done"] or not is_summed_out(message):
            return
        if not self.sum_out:  # draw it from its own distribution
            message["value"], message["is_observed"] = None, False
            return
        known = message["value"] if message["is_observed"] else None
        if not hasattr(message["fn"], "levels"):
            raise CapabilityError(
                f"Site {message['name']!r} is to be summed out, but {type(message['fn']).__name__} is not a family of"
                " probgen; use probgen.families.Categorical for it."
            )
        symbol = Symbol(message["name"], message["fn"].levels)
        if known is not None:
            self.factors.append(Factor((symbol,), labels(known, symbol.size)))
        message["value"], message["done"], message["is_observed"] = symbol, True, True

    def _pyro_post_sample(self, message: dict) -> None:
        if is_bookkeeping(message):
            return
        name, value = message["name"], message["value"]
        observed = message["is_observed"] and not isinstance(value, Symbol | Latent)
        site = Site(
            name, message["fn"], value, observed, message["scale"], self._drawing > 0, message["infer"].get("_data")
        )
        local = self.rows_are_local and in_plates(message)
        if local or isinstance(value, Symbol | Latent) or observed:
            self.sites[name] = site
            if self.sum_out and not isinstance(value, Latent):
                self.factors.append(factor_of(message["fn"], value))
        else:
            self.global_sites[name] = site


def is_summed_out(message: dict) -> bool:
    return message["infer"].get("enumerate") == "parallel"


def is_integrated_out(message: dict) -> bool:
    return message["infer"].get("integrate") == "exact"


def factor_of(distribution: Any, value: Any) -> Factor:
    """A site's log density over named dimensions; any Pyro distribution has one without names."""
    if hasattr(distribution, "factor"):
        return distribution.factor(value)
    return Factor((), distribution.log_prob(value))


def labels(codes: Tensor, size: int) -> Tensor:
    """Log indicator ``(size, N)`` of partly known codes: 0 where possible, -inf where excluded."""
    levels = torch.arange(size, device=codes.device, dtype=codes.dtype)[:, None]
    return torch.where(codes.isnan() | (codes == levels), 0.0, -torch.inf).to(codes)


# -------------------------------------------------------------------------------------------------- elimination
@dataclass
class Bucket:
    """One summed-out symbol: the factors it stood in, joined. The axes are ``symbols`` then plates."""

    symbol: Symbol
    symbols: tuple[Symbol, ...]
    value: Tensor


@dataclass
class Evidence:
    """Log evidence of each row, with what made it."""

    rows: Tensor
    buckets: list[Bucket] = field(default_factory=list)
    trace: Tracer = field(default_factory=Tracer)

    @property
    def scale(self) -> float:
        """How many rows of the whole table one row of the batch stands for (the plate's N / B)."""
        return next((site.scale for site in self.trace.sites.values()), 1.0)

    def total(self, weights: Tensor | None = None) -> Tensor:
        """Weighted sum over rows, scaled to the whole table."""
        rows = self.rows if weights is None else self.rows * weights
        return rows.sum() * self.scale


def eliminate(factors: list[Factor]) -> tuple[Tensor, list[Bucket]]:
    """Sum all symbols out, smallest clique first. Returns the log sum and the buckets in the order of elimination."""
    pool, buckets = list(factors), []
    while any(factor.symbols for factor in pool):
        symbol = cheapest(pool)
        touching = [factor for factor in pool if symbol in factor.symbols]
        pool = [factor for factor in pool if symbol not in factor.symbols]
        joined = join(touching, first=symbol)
        buckets.append(Bucket(symbol, joined.symbols, joined.value))
        pool.append(Factor(joined.symbols[1:], LogSumExp.apply(joined.value)[0]))
    total = pool[0].value
    for factor in pool[1:]:
        total = total + factor.value
    return total, buckets


class LogSumExp(torch.autograd.Function):
    """log sum exp over the first axis, keeping the softmax that its gradient needs: one exponential, not two."""

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        top = x.amax(0)
        top = torch.where(top.isinf(), 0.0, top)  # rows that are impossible stay -inf instead of NaN
        share = (x - top).exp_()
        total = share.sum(0)
        share /= total.clamp_min(torch.finfo(x.dtype).tiny)
        return top + total.log(), share

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(inputs[0], output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> Tensor:  # type: ignore[override]
        return Share.apply(*ctx.saved_tensors, gradient)


class Share(torch.autograd.Function):
    """gradient * softmax(x), with the softmax already known; differentiable again, so that Hessians are right."""

    @staticmethod
    def forward(x: Tensor, share: Tensor, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return share * gradient

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, Tensor]:  # type: ignore[override]
        share, gradient = ctx.saved_tensors
        inner = outer * gradient
        return share * (inner - (inner * share).sum(0)), None, (outer * share).sum(0)


def cheapest(factors: list[Factor]) -> Symbol:
    """The symbol whose clique has the fewest states (the min-weight heuristic)."""
    cliques: dict[Symbol, set[Symbol]] = {}
    for factor in factors:
        for symbol in factor.symbols:
            cliques.setdefault(symbol, set()).update(factor.symbols)

    def states(symbol: Symbol) -> int:
        product = 1
        for member in cliques[symbol]:
            product *= member.size
        return product

    return min(cliques, key=states)


def join(factors: list[Factor], first: Symbol) -> Factor:
    """Add factors over the union of their symbols, smallest first; ``first`` becomes the leading axis."""
    union = {first: None} | {symbol: None for factor in factors for symbol in factor.symbols}
    symbols = tuple(union)
    plates = max(factor.value.dim() - len(factor.symbols) for factor in factors)
    ordered = sorted(factors, key=lambda factor: factor.value.numel())
    total = align(ordered[0], symbols, plates)
    for factor in ordered[1:]:
        total = total + align(factor, symbols, plates)
    return Factor(symbols, total)


def align(factor: Factor, symbols: tuple[Symbol, ...], plates: int) -> Tensor:
    """The factor with one axis for each of ``symbols`` and ``plates`` trailing axes, ready to broadcast."""
    value, own = factor.value, list(factor.symbols)
    if tuple(own) != tuple(s for s in symbols if s in own):
        order = [own.index(s) for s in symbols if s in own]
        value = value.permute(*order, *range(len(own), value.dim()))
    batch = value.shape[len(own) :]
    shape = [s.size if s in own else 1 for s in symbols] + [1] * (plates - len(batch)) + list(batch)
    return value.reshape(shape)


# --------------------------------------------------------------------------------------------------- the scalar
def observe(program: Any, batch: Any, *givens: Messenger, sum_out: bool = True) -> Tracer:
    """Run the program's model once under the given handlers and collect what happened."""
    tracer = Tracer(sum_out, rows_are_local=isinstance(batch, Batch))
    with ExitStack() as stack:
        stack.enter_context(tracer)
        for given in givens:
            stack.enter_context(given)
        program.model(batch)
    return tracer


def log_evidence(
    program: Any,
    batch: Any,
    *,
    theta: Mapping[str, Parameters] | None = None,
    natural: Mapping[str, Natural] | None = None,
    sites: Mapping[str, Tensor] | None = None,
    extra: tuple[Factor, ...] = (),
) -> Evidence:
    """Log p(known cells, given local sites | parameters) of each row, discrete sites summed out.

    Args:
        program: a Model.
        batch: the rows.
        theta: parameters of families by their name in the program.
        natural: natural parameters that stand in for ``theta``'s (leaves whose gradient is wanted).
        sites: values of latent sites, global or local.
        extra: further factors, for instance a known assignment to components.
    """
    tracer = observe(program, batch, Given(theta, natural, sites))
    rows, buckets = eliminate([*tracer.factors, *extra])
    return Evidence(rows, buckets, tracer)
