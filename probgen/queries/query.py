"""Questions to a network: what is known of some nodes given others, observed, guessed at, or set by intervention."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from probgen.data.batches import Batch
from probgen.data.schema import Column
from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError
from probgen.families.base import Symbol
from probgen.inference.table_network import TableNetwork
from probgen.inference.tracing import Given, observe
from probgen.structure.graph import check_known

__all__ = ["Answer", "Evidence", "Numbers", "ask", "network_of", "read_evidence"]

MOST_STATES = 4096  # of several targets together, where each state is scored
DRAWS = 4000


@dataclass(frozen=True)
class Numbers:
    """What is known of a continuous or count node.

    Attributes:
        mean, sd: of its distribution.
        q05, median, q95: quantiles.
    """

    mean: float
    sd: float
    q05: float
    median: float
    q95: float

    @classmethod
    def of(cls, draws: np.ndarray) -> Numbers:
        low, middle, high = np.quantile(draws, [0.05, 0.5, 0.95])
        return cls(float(draws.mean()), float(draws.std(ddof=1)), float(low), float(middle), float(high))


@dataclass(frozen=True)
class Answer:
    """Probabilities of nodes given what is known.

    Attributes:
        marginals: node -> ``{state: probability}``.
        numbers: continuous and count nodes.
        joint: ``(*levels of the targets)`` probabilities of all discrete targets together, where they were asked for.
        targets: names of the joint table's axes.
        states: labels along them.
        given: what was known.
        kind: "exact", "importance" or "gibbs".
        standard_errors: Monte-Carlo errors, with the shape of ``marginals``, of approximate answers.
        ess: effective number of draws of an approximate answer.
    """

    marginals: dict[str, dict[Any, float]]
    numbers: dict[str, Numbers] = field(default_factory=dict)
    joint: np.ndarray | None = None
    targets: tuple[str, ...] = ()
    states: tuple[tuple, ...] = ()
    given: dict[str, Any] = field(default_factory=dict)
    kind: str = "exact"
    standard_errors: dict[str, dict[Any, float]] | None = None
    ess: float | None = None
    _evidence: Callable[[], float] | None = field(default=None, repr=False, compare=False)

    @property
    def log_probability(self) -> float:
        """Log probability (density) of what was known, in nats."""
        assert self._evidence is not None
        return self._evidence()

    def __getitem__(self, name: str) -> Any:
        found: dict[str, Any] = {**self.marginals, **self.numbers}
        check_known([name], found, "The question")
        return found[name]

    def most_probable(self) -> dict[str, Any]:
        """Each discrete node's own most probable state; for the most probable states together ask ``fit.most_probable``."""
        return {name: max(states, key=states.__getitem__) for name, states in self.marginals.items()}

    def records(self) -> list[dict[str, Any]]:
        """One dictionary a state of a node, and one a number."""
        rows: list[dict[str, Any]] = []
        for name, states in self.marginals.items():
            errors = (self.standard_errors or {}).get(name, {})
            rows += [
                {"node": name, "state": state, "probability": share}
                | ({"standard_error": errors[state]} if errors else {})
                for state, share in states.items()
            ]
        rows += [{"node": name, **vars(found)} for name, found in self.numbers.items()]
        return rows

    def __str__(self) -> str:
        head = f"given {', '.join(f'{k} = {v}' for k, v in self.given.items())}" if self.given else "nothing given"
        lines = [f"{head} ({self.kind})" if self.kind != "exact" else head]
        wide = max((len(str(name)) for name in [*self.marginals, *self.numbers]), default=0)
        for name, states in self.marginals.items():
            shown = "  ".join(f"{state} {share:.4f}{self._error(name, state)}" for state, share in states.items())
            lines.append(f"{name:{wide}}  {shown}")
        for name, found in self.numbers.items():
            lines.append(
                f"{name:{wide}}  mean {found.mean:.4g}  sd {found.sd:.3g}  90% in [{found.q05:.4g}, {found.q95:.4g}]"
            )
        if self.joint is not None:
            lines += self._joint_lines()
        return "\n".join(lines)

    def _error(self, name: str, state: Any) -> str:
        return "" if self.standard_errors is None else f" ±{self.standard_errors[name][state]:.4f}"

    def _joint_lines(self) -> list[str]:
        assert self.joint is not None
        order = np.argsort(-self.joint, axis=None, kind="stable")[:12]
        lines = ["together: " + ", ".join(self.targets)]
        for place in order:
            at = np.unravel_index(place, self.joint.shape)
            lines.append(
                f"  {self.joint[at]:.4f}  " + ", ".join(str(s[i]) for s, i in zip(self.states, at, strict=True))
            )
        rest = self.joint.size - len(order)
        return [*lines, f"  ... {rest} more"] if rest > 0 else lines


@dataclass(frozen=True)
class Evidence:
    """What is known, in codes.

    Attributes:
        codes: node -> code or number (in the table's own units).
        soft: discrete node -> ``(L,)`` likelihoods of its states.
        forced: nodes set by intervention.
    """

    codes: dict[str, float]
    soft: dict[str, np.ndarray]
    forced: frozenset[str]


def ask(
    fit: Any,
    targets: str | Iterable[str] | None,
    given: Mapping[str, Any] | None,
    *,
    do: Mapping[str, Any] | None = None,
    soft: Mapping[str, Any] | None = None,
    joint: bool = False,
    method: str = "exact",
    draws: int = DRAWS,
    seed: int = 0,
) -> Answer:
    """See :meth:`probgen.queries.fit.Fit.query`."""
    from probgen.queries import approximate

    if method not in ("exact", "importance", "gibbs"):
        raise CapabilityError(f"method must be 'exact', 'importance' or 'gibbs', got {method!r}.")
    evidence = read_evidence(fit, given or {}, do or {}, soft or {})
    names = read_targets(fit, targets, evidence)
    shown = {**(given or {}), **{f"do({name})": value for name, value in (do or {}).items()}}
    if method != "exact":
        return approximate.ask(fit, names, evidence, shown, method, draws, seed)
    network = network_of(fit)
    if network is not None:
        return ask_tables(fit, network, names, evidence, shown, joint)
    return ask_density(fit, names, evidence, shown, joint, draws, seed)


# --------------------------------------------------------------------------------------------------- what is asked
def read_targets(fit: Any, targets: str | Iterable[str] | None, evidence: Evidence) -> tuple[str, ...]:
    """Names of nodes, all that are unknown where none are given."""
    nodes = fit.program.node_names
    if targets is None:
        return tuple(name for name in nodes if name not in evidence.codes)
    names = (targets,) if isinstance(targets, str) and targets in nodes else targets
    names = (names,) if isinstance(names, str) else tuple(names)
    check_known(names, nodes, "The question")
    known = [name for name in names if name in evidence.codes]
    if known:
        raise CapabilityError(f"Node {known[0]!r} is asked for and known; take it out of one of the two.")
    if len(set(names)) < len(names):
        raise CapabilityError(f"A target is named twice in {list(names)}.")
    return names


def read_evidence(fit: Any, given: Mapping, do: Mapping, soft: Mapping) -> Evidence:
    """Labels as codes, likelihoods as arrays."""
    nodes = fit.program.node_names
    for mapping, what in ((given, "given"), (do, "do"), (soft, "soft")):
        if not isinstance(mapping, Mapping):
            raise CapabilityError(f"{what} must be a dictionary of nodes and values, got {mapping!r}.")
        check_known(mapping, nodes, what)
    both = set(given) & set(do) | set(given) & set(soft) | set(do) & set(soft)
    if both:
        raise CapabilityError(f"Node {min(both)!r} is named twice among given, do and soft; name it once.")
    codes = {name: code_of(fit.program.node(name), value) for name, value in [*given.items(), *do.items()]}
    likelihoods = {name: likelihood_of(fit.program.node(name), value) for name, value in soft.items()}
    return Evidence(codes, likelihoods, frozenset(do))


def code_of(column: Column, value: Any) -> float:
    """The code of a state, or a number."""
    if column.is_discrete:
        if value in column.levels:
            return float(column.levels.index(value))
        same = [level for level in column.levels if str(level) == str(value)]
        if same:
            return float(column.levels.index(same[0]))
        raise DataError(
            f"Node {column.name!r} has no state {value!r}; its states: {', '.join(map(str, column.levels))}."
        )
    one = Table({column.name: [value]}, schema=_schema([column]))
    return float(one.values[0, 0])


def _schema(columns: Sequence[Column]) -> Any:
    from probgen.data.schema import Schema

    return Schema(tuple(columns))


def likelihood_of(column: Column, value: Any) -> np.ndarray:
    """Soft (virtual) evidence: a likelihood of every state, none negative, not all zero."""
    if not column.is_discrete:
        raise CapabilityError(f"Soft evidence is for discrete nodes; {column.name!r} is {column.kind}.")
    if isinstance(value, Mapping):
        found = np.zeros(len(column.levels))
        for state, weight in value.items():
            found[int(code_of(column, state))] = weight
    else:
        found = np.asarray(value, dtype=float)
    if found.shape != (len(column.levels),) or not np.isfinite(found).all() or (found < 0).any() or not found.any():
        raise DataError(
            f"Soft evidence of {column.name!r} needs {len(column.levels)} likelihoods, none negative, not all zero; got {value!r}."
        )
    return found


# --------------------------------------------------------------------------------------------------------- tables
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


def ask_tables(
    fit: Any, network: TableNetwork, names: tuple[str, ...], evidence: Evidence, shown: dict, joint: bool
) -> Answer:
    """By exact sums."""
    number = network.number
    known = {number[name]: int(code) for name, code in evidence.codes.items()}
    soft = {number[name]: weights for name, weights in evidence.soft.items()}
    forced = frozenset(number[name] for name in evidence.forced)
    asked = tuple(number[name] for name in names)
    if known and network.has_zeros and network.log_probability(known, soft, forced) == -math.inf:
        raise impossible(shown)
    together = network.joint(asked, known, soft, forced) if joint else None
    if together is None:
        found = network.marginals(asked, known, soft, forced)
    else:
        found = {node: together.sum(tuple(a for a in range(len(asked)) if a != at)) for at, node in enumerate(asked)}
    if any(not values.sum() > 0 for values in found.values()):
        raise impossible(shown)
    columns = [fit.program.node(name) for name in names]
    marginals = {
        column.name: dict(zip(column.levels, found[node].tolist(), strict=True))
        for column, node in zip(columns, asked, strict=True)
    }
    return Answer(
        marginals, {}, together, names, tuple(column.levels for column in columns), shown,
        _evidence=lambda: network.log_probability(known, soft, forced),
    )  # fmt: skip


def impossible(shown: Mapping[str, Any]) -> DataError:
    """What is said of evidence that the model rules out."""
    told = ", ".join(f"{name} = {value}" for name, value in shown.items())
    return DataError(
        f"What is given has probability zero under this model ({told}): nothing follows from it. Check these values, or"
        " fit with a prior, which leaves no state impossible."
    )


def out_of_reach(shown: Mapping[str, Any], draws: int) -> DataError:
    """What is said where no draw agrees with the evidence: it need not be impossible."""
    told = ", ".join(f"{name} = {value}" for name, value in shown.items())
    return DataError(
        f"None of {draws} weighted draws agrees with what is given ({told}): it is impossible under this network, or very"
        " improbable. Check these values, raise draws, or ask with method='exact'."
    )


# ----------------------------------------------------------------------------------------------------- information
def entropy(fit: Any, nodes: str | Iterable[str], given: Mapping[str, Any] | None) -> float:
    """-sum p log p of the nodes' joint table."""
    return entropy_of(joint_table(fit, nodes, given))


def mutual_information(
    fit: Any, one: str | Iterable[str], other: str | Iterable[str], given: Mapping[str, Any] | None
) -> float:
    """H(one) + H(other) - H(both)."""
    left, right = as_names(one), as_names(other)
    if set(left) & set(right):
        raise CapabilityError(f"Node {min(set(left) & set(right))!r} is on both sides of the mutual information.")
    table = joint_table(fit, (*left, *right), given)
    ours, theirs = tuple(range(len(left))), tuple(range(len(left), table.ndim))
    return max(0.0, entropy_of(table.sum(theirs)) + entropy_of(table.sum(ours)) - entropy_of(table))


def as_names(nodes: str | Iterable[str]) -> tuple[str, ...]:
    """One name is a list of one."""
    return (nodes,) if isinstance(nodes, str) else tuple(nodes)


def joint_table(fit: Any, nodes: str | Iterable[str], given: Mapping[str, Any] | None) -> np.ndarray:
    """Probabilities of discrete nodes together."""
    names = as_names(nodes)
    check_known(names, fit.program.node_names, "The question")
    for name in names:
        if not fit.program.node(name).is_discrete:
            raise CapabilityError(f"Entropies are of discrete nodes; {name!r} is {fit.program.node(name).kind}.")
    found = ask(fit, names, given, joint=True).joint
    assert found is not None
    return found


def entropy_of(table: np.ndarray) -> float:
    """In nats; zero log zero is zero."""
    positive = table[table > 0]
    return float(-(positive * np.log(positive)).sum())


# ------------------------------------------------------------------------------------------------ any exact density
def ask_density(
    fit: Any, names: tuple[str, ...], evidence: Evidence, shown: dict, joint: bool, draws: int, seed: int
) -> Answer:
    """By the log density at every state of discrete targets, and exact draws of the others."""
    if evidence.forced or evidence.soft:
        raise CapabilityError(
            f"{fit.name!r} is no network of tables alone: do and soft are answered approximately, by method='importance'."
        )
    for name in names:
        check_known([name], fit.schema.names, "The question")
    row = row_of(fit, evidence.codes)
    log_evidence = float(np.asarray(fit.log_prob(row).value)[0])
    if not math.isfinite(log_evidence):
        raise impossible(shown)
    discrete = tuple(name for name in names if fit.schema[name].is_discrete)
    together = joint_by_density(fit, row, discrete) if joint else None
    marginals = {}
    for name in discrete:
        values = joint_by_density(fit, row, (name,))
        marginals[name] = dict(zip(fit.schema[name].levels, values.tolist(), strict=True))
    rest = [name for name in names if name not in discrete]
    numbers = {}
    if rest:
        many = row.take(np.zeros(draws, dtype=int))
        filled = fit.fill(many, 1, seed=seed)[0]
        numbers = {name: Numbers.of(filled.values[:, fit.schema.index(name)]) for name in rest}
    states = tuple(fit.schema[name].levels for name in discrete)
    return Answer(marginals, numbers, together, discrete, states, shown, _evidence=lambda: log_evidence)


def row_of(fit: Any, codes: Mapping[str, float]) -> Table:
    """One row with the given cells known."""
    values = np.full((1, len(fit.schema)), np.nan)
    for name, code in codes.items():
        check_known([name], fit.schema.names, "given")
        values[0, fit.schema.index(name)] = code
    return Table.from_codes(values, fit.schema)


def joint_by_density(fit: Any, row: Table, names: tuple[str, ...]) -> np.ndarray:
    """``(*levels)``: probabilities of the states of some discrete columns together (Bayes' rule)."""
    sizes = [len(fit.schema[name].levels) for name in names]
    if math.prod(sizes) > MOST_STATES:
        raise CapabilityError(f"The {len(names)} targets have {math.prod(sizes):.3g} states together; ask for fewer.")
    states = np.array(list(product(*map(range, sizes))), dtype=float)
    values = np.repeat(row.values, len(states), 0)
    values[:, [fit.schema.index(name) for name in names]] = states
    scores = np.asarray(fit.log_prob(row.take(np.zeros(len(states), dtype=int)).with_values(values)).value)
    shares = np.exp(scores - scores.max())
    return (shares / shares.sum()).reshape(sizes)
