"""Sums over named dimensions: bucket elimination, batched over rows, chains and continuous paths last.

Every bucket keeps what was joined in it, so that values can be drawn and marginals read backwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from probgen.data.sequences import Steps
from probgen.errors import CapabilityError
from probgen.families.additive_regression import IndicatorFactor
from probgen.families.base import BlockedFactor, Factor, Symbol
from probgen.families.conditional_gaussian import QuadraticFactor
from probgen.families.gaussian_path import PathFactor
from probgen.families.gaussian_regression import PotentialFactor
from probgen.families.markov_chain import ChainFactor
from probgen.families.switching_path import SwitchingPathFactor
from probgen.inference.added_chains import AddedChains
from probgen.inference.chain import best_path, chain_evidence
from probgen.inference.gaussian_network import integrate_out
from probgen.inference.kalman import Motion, Potentials, Smoother, path_evidence
from probgen.inference.log_sum import log_sum_exp
from probgen.inference.sum_product import ProductBucket, as_products, carry_out, check_memory, make_plan
from probgen.inference.switching import Regimes, SwitchingProblem
from probgen.inference.tree_elimination import TreeBucket, sum_tree_out

__all__ = [
    "AddedBucket",
    "Bucket",
    "ChainBucket",
    "PathBucket",
    "ProductBucket",
    "SwitchingBucket",
    "TreeBucket",
    "eliminate",
    "most_probable",
    "numbers_by_row",
]


# -------------------------------------------------------------------------------------------------------- buckets
@dataclass
class Bucket:
    """One summed-out symbol: the factors it stood in, joined. The axes are ``symbols`` then plates."""

    symbol: Symbol
    symbols: tuple[Symbol, ...]
    value: Tensor

    @property
    def summed_out(self) -> tuple[Symbol, ...]:
        return (self.symbol,)

    @cached_property
    def cumulative(self) -> Tensor:
        """``(B, K)``: cumulative probabilities of a symbol that stands alone, NaN where all are zero."""
        return self.value.detach().reshape(self.symbol.size, -1).mT.double().softmax(-1).cumsum(-1)

    def conditional(self, drawn: Mapping[str, Tensor], rows: int) -> Tensor:
        """``(K, N)``: weights of the symbol's values given drawn values of the rest of the clique."""
        value = self.value.expand(*self.value.shape[: len(self.symbols)], rows)
        others: Any = tuple(drawn[symbol.name] for symbol in self.symbols[1:])
        return value[(slice(None), *others, torch.arange(rows, device=value.device))].softmax(0)


class BlockedBucket(Bucket):
    """A symbol that was summed out in blocks; its joined factors are made when they are asked for."""

    def __init__(self, symbol: Symbol, touching: list[Factor]) -> None:
        self.symbol, self.symbols, self.touching = symbol, (symbol,), touching

    @cached_property
    def value(self) -> Tensor:  # type: ignore[override]
        return join(self.touching, self.symbol).value


@dataclass
class ChainBucket:
    """The chains of a program, summed out together: one chain over the product of their states.

    Attributes:
        chains: in the order of the axes of a product state.
        initial, transition: log potentials ``(M,)`` and ``(M, M)`` of product states.
        scores: ``(M, N)`` of every row.
    """

    chains: tuple[ChainFactor, ...]
    initial: Tensor
    transition: Tensor
    scores: Tensor

    @property
    def steps(self) -> Steps:
        return self.chains[0].steps

    @property
    def summed_out(self) -> tuple[Symbol, ...]:
        return tuple(chain.symbols[0] for chain in self.chains)

    @property
    def ordered(self) -> bool:
        """True where states are passed through in their order."""
        return any(chain.ordered for chain in self.chains)

    def best(self) -> dict[str, Tensor]:
        """The most probable path of each chain's symbol."""
        return self.codes(best_path(self.initial, self.transition, self.scores, self.steps)[0])

    def codes(self, path: Tensor) -> dict[str, Tensor]:
        """The value of each chain's symbol on a path of product states."""
        found = {}
        for chain in reversed(self.chains):
            size = len(chain.initial)
            found[chain.symbols[0].name] = path % size // chain.phases
            path = path // size
        return found

    def marginals(self, states: Tensor) -> dict[str, Tensor]:
        """``(N, K)`` probabilities of each chain's symbol from those ``(N, M)`` of product states."""
        shape = [size for c in self.chains for size in (c.symbols[0].size, c.phases)]
        whole = states.reshape(len(states), *shape)
        found = {}
        for at, chain in enumerate(self.chains):
            others = [axis + 1 for axis in range(len(shape)) if axis != 2 * at]
            found[chain.symbols[0].name] = whole.sum(others)
        return found


@dataclass
class PathBucket:
    """A continuous latent that was integrated out along the sequences, with what all rows say of it together."""

    path: PathFactor
    potentials: Potentials

    @property
    def summed_out(self) -> tuple[Symbol, ...]:
        return ()

    @cached_property
    def states(self) -> Smoother:
        """Means, covariances and draws of the latent given the rows."""
        return Smoother(Motion(self.path.initial, self.path.transition), self.potentials, self.path.steps)

    def means(self) -> dict[str, Tensor]:
        """Posterior means given all rows."""
        return {self.path.latent.name: self.states.means()}

    def filtered(self) -> Tensor:
        """``(N, L)``: means given the rows up to each."""
        return self.states.filtered_means()

    def draw(self) -> dict[str, Tensor]:
        """A joint draw given all rows."""
        return {self.path.latent.name: self.states.draw()}


@dataclass
class SwitchingBucket:
    """A continuous latent whose motion depends on the chain of another site, both taken out together."""

    path: SwitchingPathFactor
    chain: ChainFactor
    states: Regimes

    @property
    def summed_out(self) -> tuple[Symbol, ...]:
        return (self.path.regime,)

    def means(self) -> dict[str, Tensor]:
        """Probabilities of the regimes and posterior means of the states given all rows."""
        return {self.path.regime.name: self.states.probabilities(), self.path.latent.name: self.states.state_means()}

    def filtered(self) -> Tensor:
        """``(N, K + L)``: probabilities and means given the rows up to each, by a merging filter."""
        return torch.cat(self.states.filtered(), 1)

    def draw(self) -> dict[str, Tensor]:
        """A joint draw given all rows."""
        codes, states = self.states.draw()
        return {self.path.regime.name: codes, self.path.latent.name: states}

    @property
    def ordered(self) -> bool:
        """True where regimes are passed through in their order."""
        return self.chain.ordered

    def best(self) -> dict[str, Tensor]:
        """The most probable regimes."""
        return {self.path.regime.name: self.states.best()}

    def log_weights(self, draws: int) -> Tensor | None:
        """``(draws, S)``: log importance weights, where the evidence is a lower bound; None where it is exact."""
        return None if self.states.approximate is None else self.states.log_weights(draws)

    def hold(self) -> dict[str, Tensor]:
        """Where the approximation ended, for the next one to go on from."""
        kept = self.states.approximate
        return {} if kept is None else {self.path.regime.name: kept.regimes}


@dataclass
class AddedBucket:
    """Chains of too many joint states to be summed out together, each approximated given the others."""

    chains: tuple[ChainFactor, ...]
    states: AddedChains

    @property
    def summed_out(self) -> tuple[Symbol, ...]:
        return tuple(chain.symbols[0] for chain in self.chains)

    @property
    def ordered(self) -> bool:
        """True where states are passed through in their order."""
        return any(chain.ordered for chain in self.chains)

    def named(self, codes: list[Tensor]) -> dict[str, Tensor]:
        return {symbol.name: code for symbol, code in zip(self.summed_out, codes, strict=True)}

    def draw(self) -> dict[str, Tensor]:
        """A joint draw given all rows."""
        return self.named(self.states.draw())

    def best(self) -> dict[str, Tensor]:
        """The most probable path of each chain under the approximation."""
        return self.named(self.states.best())

    def log_weights(self, draws: int) -> Tensor:
        """``(draws, S)``: log importance weights."""
        return self.states.log_weights(self.states.draws(draws))

    def hold(self) -> dict[str, Tensor]:
        """Where the approximation ended, for the next one to go on from."""
        return self.states.hold()


# ----------------------------------------------------------------------------------------------------- elimination
def eliminate(factors: list[Factor], held: Mapping[str, Tensor] | None = None) -> tuple[Tensor, list[Any]]:
    """Sum all symbols out, smallest clique first, chains last. Returns the log sum and the buckets in the order of elimination.

    What cannot be summed is approximated from below, beginning at ``held`` where an approximation has been kept.
    """
    switching = next((factor for factor in factors if isinstance(factor, SwitchingPathFactor)), None)
    if switching is not None:
        return along_regimes(switching, factors, (held or {}).get(switching.regime.name))
    added = next((factor for factor in factors if isinstance(factor, IndicatorFactor)), None)
    if added is not None:
        return along_added(added, factors, held or {})
    quadratic = [factor for factor in factors if isinstance(factor, QuadraticFactor)]
    if quadratic:
        made, integrated = integrate_out(quadratic)
        rows, buckets = eliminate([*(f for f in factors if not isinstance(f, QuadraticFactor)), *made], held)
        return rows, [integrated, *buckets]
    factors, trees = sum_tree_out(factors)
    paths = [factor for factor in factors if isinstance(factor, PathFactor)]
    if paths:
        return along_paths(paths, [factor for factor in factors if not isinstance(factor, PathFactor)])
    chains = tuple(factor for factor in factors if isinstance(factor, ChainFactor))
    pool: list[Factor] = [factor for factor in factors if not isinstance(factor, ChainFactor)]
    kept = {chain.symbols[0] for chain in chains}
    if not kept and is_network(pool):
        rows, buckets = along_network(pool)
    else:
        rows, buckets = one_by_one(pool, chains, kept)
    return rows, [*trees, *buckets]


def one_by_one(pool: list[Factor], chains: tuple[ChainFactor, ...], kept: set[Symbol]) -> tuple[Tensor, list[Any]]:
    """Sums of logarithms, for few symbols, for chains, and where probabilities leave the range of their numbers."""
    buckets: list[Bucket | ChainBucket] = []
    while any(symbol not in kept for factor in pool for symbol in factor.symbols):
        symbol = cheapest(pool, kept)
        touching = [factor for factor in pool if symbol in factor.symbols]
        pool = [factor for factor in pool if symbol not in factor.symbols]
        total = in_blocks(touching)
        if total is not None:
            buckets.append(BlockedBucket(symbol, touching))
            pool.append(Factor((), total))
            continue
        joined = join(touching, first=symbol)
        buckets.append(Bucket(symbol, joined.symbols, joined.value))
        pool.append(Factor(joined.symbols[1:], log_sum_exp(joined.value)))
    if chains:
        return along_chains(chains, pool, buckets)
    total = pool[0].value
    for factor in pool[1:]:
        total = total + factor.value
    return total, buckets


def is_network(pool: list[Factor]) -> bool:
    """True where several symbols stand in plain factors."""
    return len({symbol for factor in pool for symbol in factor.symbols}) > 1 and all(f.is_plain for f in pool)


class Network:
    """Plain factors, their symbols by number, and the order in which symbols are summed out.

    Args:
        pool: factors; those without symbols are put aside.
        kept: symbols that are not summed out.
    """

    def __init__(self, pool: list[Factor], kept: Iterable[Symbol] = ()) -> None:
        self.factors = [factor for factor in pool if factor.symbols]
        self.plain = [factor.value for factor in pool if not factor.symbols]
        self.symbols = list(dict.fromkeys(symbol for factor in self.factors for symbol in factor.symbols))
        self.number = {symbol: at for at, symbol in enumerate(self.symbols)}
        varying = [f.value for f in self.factors if f.value.dim() > len(f.symbols)]
        self.rows = max((value.shape[-1] for value in varying), default=1)
        scopes = tuple(
            (tuple(self.number[s] for s in f.symbols), f.value.dim() > len(f.symbols)) for f in self.factors
        )
        sizes = tuple(symbol.size for symbol in self.symbols)
        left = frozenset(self.number[symbol] for symbol in kept if symbol in self.number)
        self.plan = make_plan(scopes, sizes, 1 << (self.rows - 1).bit_length(), left)

    def check_memory(self) -> None:
        """Refuse what cannot be held; see :func:`probgen.inference.sum_product.check_memory`."""
        check_memory(self.plan.numbers(self.rows) * self.factors[0].value.element_size(), self.plan, self.symbols)


def numbers_by_row(factors: list[Factor]) -> int:
    """How many numbers are held for each row while the symbols of plain factors are summed out."""
    pool = [factor for factor in factors if factor.is_plain]
    return Network(pool).plan.by_row if is_network(pool) else 0


def along_network(pool: list[Factor]) -> tuple[Tensor, list[Any]]:
    """Products of probabilities, scaled row by row; logarithms where even so they leave the range of their numbers."""
    network = Network(pool)
    network.check_memory()
    products, tops = as_products(network.factors, network.number)
    left, scales, joined = carry_out(network.plan, products)
    if out_of_range([part.value for part in left], scales):
        return one_by_one(pool, (), set())
    total = added([*tops, *scales, *(part.value.log() for part in left), *network.plain])
    buckets = [
        ProductBucket(tuple(network.symbols[n] for n in step.clique), step.clique, parts)
        for step, parts in zip(network.plan.steps, joined, strict=True)
    ]
    return total, buckets


def most_probable(factors: list[Factor], targets: set[Symbol] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """The most probable values of all sites together (Dawid, 1992), or of some, the others summed out.

    Returns:
        Their log probability, ``(N,)``, and the codes of each symbol, ``(N,)``.
    """
    if any(not factor.is_plain for factor in factors):
        raise CapabilityError("The most probable values are found for networks of discrete nodes only.")
    symbols = {symbol for factor in factors for symbol in factor.symbols}
    wanted = {symbol for symbol in symbols if not symbol.inner} if targets is None else targets
    pool = list(factors) if symbols <= wanted else summed_to(factors, wanted)
    if not any(factor.symbols for factor in pool):
        return added([factor.value for factor in pool]), {}
    network = Network(pool)
    left, choices = reduced(network, lambda value: value.max(0))
    total = added([factor.value for factor in left])
    codes: dict[str, Tensor] = {}
    rows = torch.arange(network.rows, device=total.device)
    for clique, place in reversed(choices):
        others: tuple[Any, ...] = tuple(codes[symbol.name] for symbol in clique[1:])
        varies = place.dim() > len(others)
        codes[clique[0].name] = place[(*others, rows) if varies else others].expand(network.rows)
    return total, codes


def summed_to(pool: list[Factor], targets: set[Symbol]) -> list[Factor]:
    """Factors over the targets alone, everything else summed out."""
    left, _ = reduced(Network(pool, targets), lambda value: (log_sum_exp(value), value.new_zeros(0)))
    return left


def reduced(
    network: Network, by: Callable[[Tensor], tuple[Tensor, Tensor]]
) -> tuple[list[Factor], list[tuple[tuple[Symbol, ...], Tensor]]]:
    """The steps of a network's plan in logarithms.

    Args:
        network: what is reduced.
        by: takes a clique's first axis away, and says what is to be remembered of it.

    Returns:
        The factors that are left, and for each step the clique and what is remembered.
    """
    network.check_memory()
    live: list[Factor | None] = list(network.factors)
    remembered: list[tuple[tuple[Symbol, ...], Tensor]] = []
    for step in network.plan.steps:
        joined = join([found for n in step.touching if (found := live[n]) is not None], network.symbols[step.symbol])
        for n in step.touching:
            live[n] = None
        message, kept = by(joined.value)
        live.append(Factor(joined.symbols[1:], message))
        remembered.append((joined.symbols, kept))
    return [*(Factor((), value) for value in network.plain), *(f for f in live if f is not None)], remembered


def added(terms: list[Tensor]) -> Tensor:
    """The sum of some tensors."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def out_of_range(left: list[Tensor], scales: list[Tensor]) -> bool:
    """True where a row ended at zero, or a message shrank so far that others may have been lost beside it."""
    if get_proxy_mode() is not None:  # a graph is being traced: it cannot branch on values
        return False
    with torch.no_grad():
        lost = any(bool((value <= 0).any()) for value in left)
        least = 0.8 * math.log(torch.finfo(left[0].dtype).tiny)
        return lost or any(bool((scale < least).any()) for scale in scales)


def in_blocks(touching: list[Factor]) -> Tensor | None:
    """The log sum over a symbol by its one blocked factor, where all others are mere weights of its values."""
    blocked = [factor for factor in touching if isinstance(factor, BlockedFactor)]
    rest = [factor.value for factor in touching if not isinstance(factor, BlockedFactor)]
    same = [value.dim() == 1 or (value.dim() == 2 and value.stride(1) == 0) for value in rest]  # for all rows
    if len(blocked) != 1 or not rest or not all(same) or any(value.requires_grad for value in rest):
        return None
    return blocked[0].log_sum(torch.stack([value.reshape(len(value), -1)[:, 0] for value in rest]).sum(0))


def along_chains(
    chains: tuple[ChainFactor, ...], pool: list[Factor], buckets: list[Bucket | ChainBucket]
) -> tuple[Tensor, list[Bucket | ChainBucket]]:
    """Sum the chains' states out: log evidence of each sequence."""
    initial, transition, steps = chains[0].initial, chains[0].transition, chains[0].steps
    for chain in chains[1:]:
        initial = (initial[:, None] + chain.initial).flatten()
        size = len(initial)
        transition = (transition[:, None, :, None] + chain.transition[None, :, None, :]).reshape(size, size)
    symbols = tuple(chain.symbols[0] for chain in chains)
    touching = [factor for factor in pool if factor.symbols]
    rest = [factor.value for factor in pool if not factor.symbols]
    shape = [size for chain in chains for size in (chain.symbols[0].size, chain.phases)]
    scores = initial.new_zeros(len(initial), steps.rows)
    if touching:
        joined = join(touching, symbols[0])
        whole = align(joined, symbols, 1)
        for at in range(len(chains)):
            whole = whole.unsqueeze(2 * at + 1)
        scores = whole.expand(*shape, steps.rows).reshape(len(initial), steps.rows)
    rows = chain_evidence(initial, transition, scores, steps)
    for value in rest:
        rows = rows + steps.total(value)
    return rows, [*buckets, ChainBucket(chains, initial, transition, scores)]


def along_paths(paths: list[PathFactor], pool: list[Factor]) -> tuple[Tensor, list[Any]]:
    """Integrate the paths' states out: log evidence of each sequence."""
    if any(factor.symbols for factor in pool):
        raise CapabilityError("A state-space model with discrete sites beside its states has no exact evidence.")
    steps, buckets = paths[0].steps, []
    rows = sum(steps.total(f.value) for f in pool if not isinstance(f, PotentialFactor)) + paths[0].value
    for path in paths:
        own = [f for f in pool if isinstance(f, PotentialFactor) and f.latent == path.latent]
        potentials = together(own, path)
        rows = rows + path_evidence(path, potentials)
        buckets.append(PathBucket(path, potentials))
    return rows, buckets


def along_regimes(path: SwitchingPathFactor, factors: list[Factor], held: Tensor | None) -> tuple[Tensor, list[Any]]:
    """Sum regimes and integrate the states that follow them out: log evidence (or its bound) of each sequence."""
    chain = next(f for f in factors if isinstance(f, ChainFactor) and f.symbols == path.symbols)
    rest = [f for f in factors if f is not path and f is not chain]
    own = [f for f in rest if isinstance(f, PotentialFactor) and f.latent == path.latent]
    plain = [f for f in rest if not isinstance(f, PotentialFactor)]
    if any(set(f.symbols) - set(path.symbols) for f in plain) or any(f.symbols for f in own):
        raise CapabilityError("States that switch have no discrete sites beside their regimes.")
    scores = chain.initial.new_zeros(path.regime.size, path.steps.rows)
    for f in plain:
        scores = scores + f.value if f.symbols else scores
    problem = SwitchingProblem.of(path, chain.initial, chain.transition, scores, together(own, path))
    states = Regimes(problem, held)
    rows = states.rows
    for f in plain:
        rows = rows if f.symbols else rows + path.steps.total(f.value)
    return rows, [SwitchingBucket(path, chain, states)]


def along_added(added: IndicatorFactor, factors: list[Factor], held: Mapping[str, Tensor]) -> tuple[Tensor, list[Any]]:
    """Approximate chains that only rows of data join: a lower bound of the log evidence of each sequence."""
    chains = [f for symbol in added.symbols for f in factors if isinstance(f, ChainFactor) and f.symbols == (symbol,)]
    rest = [f for f in factors if f is not added and not isinstance(f, ChainFactor)]
    if len(chains) != len(added.symbols) or any(len(f.symbols) > 1 for f in rest):
        raise CapabilityError("Contributions that add up need a chain each, and nothing else that joins them.")
    steps, extra = chains[0].steps, []
    for chain in chains:
        scores = chain.initial.new_zeros(len(chain.initial), chain.steps.rows)
        extra.append(sum((f.value for f in rest if f.symbols == chain.symbols), scores))
    states = AddedChains(chains, added, extra, held)
    rows = sum((steps.total(f.value) for f in rest if not f.symbols), states.rows)
    return rows, [AddedBucket(tuple(chains), states)]


def together(factors: list[PotentialFactor], path: PathFactor | SwitchingPathFactor) -> Potentials:
    """What all factors say of a path's states."""
    L, zero = path.states, path.initial.offset.new_zeros(path.steps.rows)
    found = Potentials(zero, zero[:, None].expand(-1, L), zero.new_zeros(1, L, L))
    for f in factors:
        found = Potentials(found.constant + f.value, found.linear + f.linear, found.square + f.square)
    return found


def cheapest(factors: list[Factor], kept: set[Symbol]) -> Symbol:
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

    return min((symbol for symbol in cliques if symbol not in kept), key=states)


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
