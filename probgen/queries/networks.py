"""Bayesian networks that are given, not fitted: from files, from pgmpy, written by hand; and the way back.

A network is a :class:`~probgen.queries.fit.Fit` like any other, a point estimate with ``method="given"`` in the units of
its tables.
"""

from __future__ import annotations

import gzip
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import numpy as np
import torch
from torch import Tensor

from probgen.data.batches import Batch, Standardiser
from probgen.data.native import labelled
from probgen.data.schema import Column, Schema
from probgen.errors import CapabilityError, DataError, ProbgenError
from probgen.families.base import Parameters
from probgen.inference.posterior import Posterior, Theta
from probgen.inference.tracing import Given
from probgen.program import find
from probgen.queries.fit import Fit
from probgen.structure.discrete import DiscreteNetwork, normalised
from probgen.structure.formats import SUFFIXES, find_format, guess_format
from probgen.structure.graph import Graph, check_known

__all__ = ["from_pgmpy", "network", "read_network", "to_pgmpy", "write_network"]

DIGITS = 1e-3  # of a row's sum: how far files, whose numbers are rounded, may be from one
ZIPPED = b"\x1f\x8b"
LEAF = ("weights", "offset", "sd")


# --------------------------------------------------------------------------------------------------------- by hand
def network(schema: Schema | Mapping[str, Any], structure: Any, tables: Mapping[str, Any]) -> Fit:
    """A Bayesian network written by hand.

    Args:
        schema: ``{node: [states]}`` for discrete nodes, ``{node: "real"}`` for continuous ones; or a Schema of such
            columns.
        structure: ``{node: [parents]}``, edges, a Graph, or a networkx DiGraph; nodes that it does not name stand alone.
        tables: for each discrete node its probabilities: an array ``(parents' states..., states)``, or lists in
            dictionaries by the states of the parents in the structure's order, ``{"no": [0.9, 0.1], "yes": [0.2, 0.8]}``;
            or a pandas series or data frame whose rows are labelled with the states of the parents (the first parent's
            outermost) and whose columns with the node's own;
            for each continuous one ``{"weights": {parent: w}, "offset": b, "sd": s}``, the mean being
            b + sum of w times the continuous parent, in dictionaries by the states of its discrete parents if it has any.

    Raises:
        CapabilityError: a cycle, an unknown parent, a continuous parent of a discrete node.
        DataError: a table that is missing, has another shape or unknown states, has numbers that are no probabilities,
            or has rows that do not sum to 1 (within 1e-6; they are rescaled to sum to it exactly).

    Example:
        >>> rain = network(
        ...     {"rain": ["no", "yes"], "wet": ["no", "yes"]},
        ...     {"wet": ["rain"]},
        ...     {"rain": [0.8, 0.2], "wet": {"no": [0.9, 0.1], "yes": [0.2, 0.8]}},
        ... )
        >>> rain.log_prob({"wet": ["yes"], "rain": [None]}).value.round(3)  # log(0.8 * 0.1 + 0.2 * 0.8)
        array([-1.427])
    """
    columns = schema if isinstance(schema, Schema) else Schema(tuple(column_of(n, s) for n, s in schema.items()))
    for column in columns:
        if not column.is_discrete and column.kind != "real":
            raise CapabilityError(
                f"Node {column.name!r} is {column.kind}; a network is written with discrete nodes and real ones. Fit"
                " 'bayesian_network' to data instead."
            )
    program = built(columns, Graph.of(structure, columns.names))
    check_known(tables, columns.names, "tables")
    order: Mapping[str, Sequence[str]] = program.nodes.order
    gaussian = {name: regressions(tables, columns, name, order[name]) for name in continuous_nodes(columns)}
    discrete = [name for name in columns.names if columns[name].is_discrete]
    states = {name: columns[name].levels for name in discrete}
    parents = {name: tuple(order[name]) for name in discrete}
    filled = {n: nested(tables[n], states, [*parents[n], n], n, vector) for n in discrete if n in tables}
    try:
        found = normalised(DiscreteNetwork(states, parents, filled))
    except DataError as error:
        raise DataError(f"{sentence(error)}.") from None
    return given_fit(program, {name: logits_of(found.tables[name]) for name in discrete} | gaussian, {})


def built(columns: Schema, graph: Graph) -> Any:
    """The program, its parameters without priors."""
    made: Any = find("bayesian_network")
    return made(columns, structure=graph, prior=None)


def column_of(name: str, states: Any) -> Column:
    """A node as a column."""
    states = states.tolist() if hasattr(states, "tolist") else states
    if states == "real":
        return Column(name, "real")
    if isinstance(states, str) or not isinstance(states, Sequence):
        raise CapabilityError(f"Node {name!r} needs a list of its states, or 'real'; got {states!r}.")
    return Column(name, "binary" if len(states) == 2 else "categorical", levels=tuple(states))


def continuous_nodes(schema: Schema) -> list[str]:
    return [column.name for column in schema if not column.is_discrete]


def nested(value: Any, states: Mapping[str, Sequence], left: Sequence[str], node: str, leaf: Callable) -> np.ndarray:
    """Dictionaries (series, data frames) by states, and arrays in their order, as one array.

    Args:
        value: what is left of them.
        states: of every node.
        left: the nodes whose states they are by; the last one is ``node`` itself where its states are a dimension.
        node: for messages.
        leaf: makes an array of what stands where no node is left.
    """
    if not left:
        return leaf(value, node)
    name = left[0]
    value = labelled(value, states[name])
    if isinstance(value, Mapping):
        for state in value:
            if state not in states[name]:
                listed = ", ".join(map(str, states[name]))
                raise DataError(f"The table of {node!r} names the state {state!r} of {name!r}, which has: {listed}.")
        missing = [state for state in states[name] if state not in value]
        if missing:
            raise DataError(f"The table of {node!r} says nothing for {name}={missing[0]}; give all of its states.")
        value = [value[state] for state in states[name]]
    parts = list(value) if np.iterable(value) and not isinstance(value, str) else [value]
    if len(parts) != len(states[name]):
        raise DataError(
            f"The table of {node!r} has {len(parts)} entries where {name!r} has {len(states[name])} states:"
            f" {', '.join(map(str, states[name]))}."
        )
    return np.stack([nested(part, states, left[1:], node, leaf) for part in parts])


def vector(value: Any, node: str) -> np.ndarray:
    """One probability."""
    try:
        return np.array(float(value))
    except (TypeError, ValueError):
        raise DataError(
            f"The table of {node!r} has {value!r} where a probability is expected: dimensions are those of its parents,"
            " then its own."
        ) from None


def logits_of(table: np.ndarray) -> Parameters:
    """Parameters of a table of probabilities; zeros stay impossible."""
    with np.errstate(divide="ignore"):
        return {"logits": torch.from_numpy(np.log(table.reshape(-1, table.shape[-1])))}


def regressions(tables: Mapping[str, Any], schema: Schema, node: str, parents: Sequence[str]) -> Parameters:
    """Parameters of a continuous node: one regression for each configuration of its discrete parents."""
    if node not in tables:
        raise DataError(f"Node {node!r} has no table; give {{'weights': ..., 'offset': ..., 'sd': ...}}.")
    discrete = [parent for parent in parents if schema[parent].is_discrete]
    continuous = parents[len(discrete) :]
    states = {parent: schema[parent].levels for parent in discrete}
    found = nested(tables[node], states, discrete, node, lambda value, name: regression(value, name, continuous))
    theta = torch.from_numpy(found.reshape(-1, len(continuous) + 2))
    return {"weight": theta[:, None, :-1].contiguous(), "variance": theta[:, -1:].square()}


def regression(value: Any, node: str, parents: Sequence[str]) -> np.ndarray:
    """``(weights..., offset, sd)`` of one regression."""
    if not isinstance(value, Mapping) or not set(value) <= set(LEAF) or "sd" not in value:
        raise DataError(
            f"Node {node!r} is continuous; its table is {{'weights': ..., 'offset': ..., 'sd': ...}}, got {value!r}."
        )
    weights = value.get("weights", {})
    if not isinstance(weights, Mapping):
        weights = dict(zip(parents, np.atleast_1d(weights), strict=True)) if np.size(weights) == len(parents) else {}
    if set(weights) != set(parents):
        raise DataError(
            f"Node {node!r} needs a weight for each of its continuous parents ({', '.join(parents) or 'it has none'}), got"
            f" {value.get('weights', {})!r}."
        )
    found = np.array([*(weights[parent] for parent in parents), value.get("offset", 0.0), value["sd"]], dtype=float)
    if not np.isfinite(found).all() or found[-1] <= 0:
        raise DataError(f"Node {node!r} needs finite numbers, and a standard deviation above 0; got {value!r}.")
    return found


def given_fit(program: Any, theta: Theta, origin: Mapping[str, Any]) -> Fit:
    """A point estimate that nobody fitted."""
    columns, dtype, D = program.schema, torch.float64, len(program.schema)
    graph: Graph = program.graph
    identity = Standardiser(np.zeros(D), np.ones(D), np.array([column.is_continuous for column in columns]))
    diagnostics = {"converged": True, "steps": 0, "nodes": len(graph), "edges": len(graph.edges)}
    versions = {name: version(name) for name in ("probgen", "torch", "pyro-ppl", "numpy")}
    provenance = {"seed": None, **origin, "versions": {**versions, "python": platform.python_version()}}
    return Fit(
        program.to(dtype).eval(), columns, identity, Posterior.at(theta), "given", {}, diagnostics, provenance, 0.0,
        dtype, torch.device("cpu"),
    )  # fmt: skip


def discrete_fit(found: DiscreteNetwork, tolerance: float, origin: Mapping[str, Any]) -> Fit:
    """The fit that a file, or another library's model, describes."""
    checked = normalised(found, tolerance)
    graph = Graph({name: checked.parents[name] for name in checked.states})
    columns = Schema(tuple(column_of(name, states) for name, states in checked.states.items()))
    program = built(columns, graph)
    fit = given_fit(program, {name: logits_of(table) for name, table in checked.tables.items()}, origin)
    fit.diagnostics["rows_rescaled_by_up_to"] = max(float(np.abs(t.sum(-1) - 1).max()) for t in found.tables.values())
    return fit


def sentence(error: Exception) -> str:
    """A message that begins as a sentence does."""
    text = str(error)
    return text[:1].upper() + text[1:]


# ----------------------------------------------------------------------------------------------------------- files
def read_network(source: str | os.PathLike, format: str | None = None, *, tolerance: float = DIGITS) -> Fit:
    """A discrete Bayesian network from a file, which may be zipped (``.gz``), or from its text.

    Args:
        source: a path, or a text of more than one line.
        format: "bif", "net" (Hugin), "uai", "xbn", "xdsl" (GeNIe) or "xmlbif"; by what stands in it where None. Nodes of
            "uai" have no names; they become var_0, var_1, ... with states 0, 1, ...
        tolerance: how far the sum of a row of probabilities may be from 1. Rows are rescaled; a warning says so where one
            was off by more than 1e-6.

    Raises:
        DataError: no file, an empty or a foreign one, a cycle, rows that are missing or sum to something else.

    Example:
        >>> coin = read_network('''
        ... network unknown { }
        ... variable side { type discrete [ 2 ] { heads, tails }; }
        ... probability ( side ) { table 0.5, 0.5; }
        ... ''')
        >>> coin.schema["side"].levels
        ('heads', 'tails')
    """
    text, called, suffix = opened(source)
    kind = format or guess_format(text, suffix)
    if kind is None:
        raise DataError(
            f"{called} is in no known format of networks ({', '.join(SUFFIXES)}); it begins with {text.strip()[:40]!r}."
            " Name the format with format=."
        )
    try:
        return discrete_fit(find_format(kind).read(text), tolerance, {"source": called, "format": kind})
    except (ProbgenError, ParseError, ValueError, IndexError) as error:
        message = str(error).rstrip(".") or type(error).__name__
        raise DataError(f"{called} cannot be read as {kind}: {message}.") from error


def opened(source: str | os.PathLike) -> tuple[str, str, str]:
    """A text, what to call it in messages, and the ending of its file."""
    if isinstance(source, str) and ("\n" in source.strip() or source.lstrip().startswith("<")):
        return source, "The text", ""
    path = Path(source)
    if not path.is_file():
        raise DataError(
            f"There is no file {path}. A network is read from a path, or from a text of more than one line."
        )
    content = path.read_bytes()
    try:
        content = gzip.decompress(content) if content.startswith(ZIPPED) else content
        text = content.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a text, or is damaged ({error}).") from error
    if not text.strip():
        raise DataError(f"{path} is empty.")
    return text, str(path), Path(path.name.removesuffix(".gz")).suffix.lower()


def write_network(
    fit: Fit,
    path: str | os.PathLike,
    format: str | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """The discrete Bayesian network of a fit as a file; numbers have 15 digits, ``.gz`` is zipped.

    Args:
        fit: of ``bayesian_network``, all nodes discrete, a point estimate.
        path: of the new file.
        format: as for :func:`read_network`; by the path's ending where None. "uai" loses the names.
        overwrite: replace a file that is there.

    Raises:
        CapabilityError: a continuous node, another model, or draws in place of a point.
        DataError: the file exists, the format is unknown, or it cannot hold a name.
    """
    path = Path(path)
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    kind = format or next((name for name, endings in SUFFIXES.items() if suffix in endings), None)
    if kind is None:
        raise DataError(
            f"{path} does not end like a file of networks; name the format with format=: {', '.join(SUFFIXES)}."
        )
    writer, found = find_format(kind), tables_of(fit)
    if path.exists() and not overwrite:
        raise DataError(f"{path} exists; give another path, or overwrite=True to replace it.")
    if not path.parent.is_dir():
        raise DataError(f"There is no folder {path.parent}; make it first.")
    try:
        content = writer.write(found).encode()
    except DataError as error:
        raise DataError(f"{path} cannot be written as {kind}: {error}.") from error
    beside = path.with_name(path.name + ".part")
    beside.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    beside.replace(path)


# ----------------------------------------------------------------------------------------------------- of a fit
def check_network(fit: Fit) -> None:
    """The fit is one network."""
    if fit.name != "bayesian_network":
        raise CapabilityError(f"{fit.name!r} is no Bayesian network; fit 'bayesian_network'.")
    if len(fit.posterior) > 1:
        raise CapabilityError(
            f"The fit has {len(fit.posterior)} draws of its tables, a network has one; fit it by method='em'."
        )


def tables_of(fit: Fit) -> DiscreteNetwork:
    """States, parents and tables of a fit, its hidden nodes included.

    Raises:
        CapabilityError: a node that is not discrete.
    """
    check_network(fit)
    nodes: Any = fit.program.nodes
    names = [*fit.schema.names, *(name for name in nodes.names if name not in fit.schema.names)]
    for name in names:
        if not nodes.columns[name].is_discrete:
            raise CapabilityError(
                f"Node {name!r} is {nodes.columns[name].kind}; only a network whose nodes are all discrete has tables."
            )
    states = {name: tuple(nodes.columns[name].levels) for name in names}
    parents = {name: tuple(nodes.order[name]) for name in names}
    with torch.no_grad(), fit.setting(), Given(fit.posterior.theta()):
        drawn = nodes.draw(Batch(torch.full((1, len(fit.schema)), torch.nan), fit.schema))
        tables = {name: probabilities(drawn[name], [len(states[n]) for n in (*parents[name], name)]) for name in names}
    return DiscreteNetwork(states, parents, tables)


def probabilities(node: Callable, sizes: Sequence[int]) -> np.ndarray:
    """``(parents' states..., states)``: the probabilities of a node's states, whatever its family."""
    codes = torch.cartesian_prod(*(torch.arange(size) for size in sizes)).reshape(-1, len(sizes))
    found: Tensor = node(*codes[:, :-1].unbind(1)).log_prob(codes[:, -1].to(torch.get_default_dtype())).exp()
    table = found.double().cpu().numpy().reshape(sizes)
    return table / table.sum(-1, keepdims=True)


# ----------------------------------------------------------------------------------------------------------- pgmpy
def from_pgmpy(model: Any) -> Fit:
    """A network of pgmpy: a ``DiscreteBayesianNetwork`` or a ``LinearGaussianBayesianNetwork`` with all its tables.

    Raises:
        CapabilityError: another kind of model, a node without a table.
        DataError: rows of probabilities that do not sum to 1 (within 1e-3; they are rescaled).
    """
    kinds = {kind.__name__ for kind in type(model).__mro__}
    if not kinds & {"DiscreteBayesianNetwork", "LinearGaussianBayesianNetwork"}:
        raise CapabilityError(
            "from_pgmpy takes a DiscreteBayesianNetwork or a LinearGaussianBayesianNetwork of pgmpy, got a"
            f" {type(model).__name__}."
        )
    tables = {name: model.get_cpds(name) for name in model.nodes}
    missing = [name for name, table in tables.items() if table is None]
    if missing:
        raise CapabilityError(f"Node {missing[0]!r} has no table of probabilities; add one to the model (add_cpds).")
    if "LinearGaussianBayesianNetwork" in kinds:
        return from_regressions(tables)
    states = {name: tuple(table.state_names[name]) for name, table in tables.items()}
    parents = {name: tuple(table.variables[1:]) for name, table in tables.items()}
    arrays = {name: array_of(table, states) for name, table in tables.items()}
    try:
        return discrete_fit(DiscreteNetwork(states, parents, arrays), DIGITS, {"source": "pgmpy"})
    except DataError as error:
        raise DataError(f"{sentence(error)}.") from error


def array_of(table: Any, states: Mapping[str, Sequence]) -> np.ndarray:
    """``(parents' states..., states)`` of a table of pgmpy, each of which has its own order of states."""
    found = np.asarray(table.values, dtype=float)
    for at, name in enumerate(table.variables):
        own = list(table.state_names[name])
        if set(own) != set(states[name]):
            raise DataError(
                f"the table of {table.variable!r} has the states {own} of {name!r}, which has {list(states[name])}"
            )
        found = found.take([own.index(state) for state in states[name]], axis=at)
    return np.moveaxis(found, 0, -1)


def from_regressions(tables: Mapping[str, Any]) -> Fit:
    """The network of linear-Gaussian tables."""
    written = {
        name: {
            "weights": dict(zip(table.evidence, map(float, table.beta[1:]), strict=True)),
            "offset": float(table.beta[0]),
            "sd": float(table.std),
        }
        for name, table in tables.items()
    }
    return network(dict.fromkeys(tables, "real"), {name: table.evidence for name, table in tables.items()}, written)


def to_pgmpy(fit: Fit) -> Any:
    """A fitted or given network as pgmpy's: a ``DiscreteBayesianNetwork``, or a ``LinearGaussianBayesianNetwork``.

    Raises:
        CapabilityError: continuous nodes with discrete parents, or other kinds of nodes; another model.
    """
    check_network(fit)
    program: Any = fit.program
    columns = program.nodes.columns
    if any(column.is_discrete for column in columns.values()):
        return discrete_to_pgmpy(tables_of(fit))
    for name, column in columns.items():
        if column.kind != "real":
            raise CapabilityError(f"Node {name!r} is {column.kind}; pgmpy has networks of discrete or of real nodes.")
    from pgmpy.factors.continuous import LinearGaussianCPD
    from pgmpy.models import LinearGaussianBayesianNetwork

    made = LinearGaussianBayesianNetwork()
    made.add_nodes_from(fit.schema.names)
    made.add_edges_from(program.graph.edges)
    theta, standardiser = fit.posterior.theta(), fit.standardiser
    assert standardiser is not None
    shift = dict(zip(fit.schema.names, standardiser.shift, strict=True))
    scale = dict(zip(fit.schema.names, standardiser.scale, strict=True))
    for name, parents in program.nodes.order.items():
        *weights, offset = theta[name]["weight"][0, 0].double().tolist()
        weights = [weight * scale[name] / scale[parent] for weight, parent in zip(weights, parents, strict=True)]
        offset = shift[name] + scale[name] * offset
        offset -= sum(weight * shift[parent] for weight, parent in zip(weights, parents, strict=True))
        sd = scale[name] * float(theta[name]["variance"][0, 0].sqrt())
        made.add_cpds(LinearGaussianCPD(name, [offset, *weights], sd, list(parents)))
    return made


def discrete_to_pgmpy(found: DiscreteNetwork) -> Any:
    """Tables as pgmpy's."""
    from pgmpy.factors.discrete import TabularCPD
    from pgmpy.models import DiscreteBayesianNetwork

    made = DiscreteBayesianNetwork()
    made.add_nodes_from(found.states)
    made.add_edges_from((parent, name) for name, parents in found.parents.items() for parent in parents)
    for name, table in found.tables.items():
        parents = found.parents[name]
        made.add_cpds(
            TabularCPD(
                name, table.shape[-1], table.reshape(-1, table.shape[-1]).T, evidence=list(parents) or None,
                evidence_card=list(table.shape[:-1]) or None,
                state_names={node: list(found.states[node]) for node in (*parents, name)},
            )
        )  # fmt: skip
    return made
