"""A user's own program as a density: which sites it has, and its log joint density at values of the continuous ones.

Discrete latent sites are enumerated and summed out by Pyro's contraction. What cannot be walked by gradients is refused
with the site's name, and the first run is Pyro's own, checks on, so that an error points at the user's line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from types import CodeType
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from probgen._pyro import Messenger, Trace, enumerated, is_bookkeeping, is_subsampled, log_joint, traced
from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.families.base import Parameters
from probgen.inference.bijections import bijection
from probgen.inference.tracing import Given

__all__ = ["UsersDensity", "code_fingerprint", "fingerprint", "users_data"]

RADIUS = 2.0  # of the cube of unconstrained values in which chains start


class Feasible(Messenger):
    """Latent continuous sites get values of their support, from a cube of unconstrained ones.

    Nothing is asked of their distributions, so that improper ones are no obstacle.
    """

    def __init__(self, radius: float = RADIUS) -> None:
        super().__init__()
        self.radius = radius
        self.has_families = False

    def _pyro_parameters(self, message: dict) -> None:
        self.has_families = True

    def _pyro_sample(self, message: dict) -> None:
        if message["is_observed"] or message["done"] or is_bookkeeping(message) or is_discrete(message["fn"]):
            return
        transform, shape = bijection(message["fn"].support), message["fn"].shape()
        free = torch.empty(transform.inverse_shape(shape)).uniform_(-self.radius, self.radius)
        message["value"], message["done"] = transform(free), True


def is_discrete(distribution: Any) -> bool:
    return bool(distribution.support.is_discrete)


def users_data(data: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """What a user's own program gets: tensors in the precision and place of the fit, all else as it is.

    A table or data frame becomes a dictionary of its columns (levels as their numbers), arrays and series of numbers become
    tensors, in dictionaries and lists too.
    """
    if is_frame(data):
        data = Table(data)
    if isinstance(data, Table):
        data = {name: data.values[:, at] for at, name in enumerate(data.names)}
    whole = dict(data) if isinstance(data, Mapping) else data
    return tree_map(lambda leaf: as_tensor(leaf, dtype, device), whole)


def is_frame(data: Any) -> bool:
    """True for data frames of pandas and polars."""
    return hasattr(data, "columns") and hasattr(data, "dtypes") and not isinstance(data, Table)


def as_tensor(leaf: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """An array, a series or a tensor, floats in the dtype; anything else as it is."""
    if hasattr(leaf, "to_numpy"):
        leaf = leaf.to_numpy()
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biuf":
        leaf = torch.from_numpy(leaf.copy())
    if not isinstance(leaf, Tensor):
        return leaf
    return leaf.to(device, dtype if leaf.is_floating_point() else None)


def fingerprint(data: Any) -> str:
    """A hash of the tensors, numbers and strings in a user's data."""
    digest = hashlib.sha256()
    for leaf in tree_leaves(users_data(data, torch.float64, torch.device("cpu"))):
        if isinstance(leaf, Tensor):
            digest.update(repr((leaf.dtype, tuple(leaf.shape))).encode())
            digest.update(leaf.detach().contiguous().numpy().tobytes())
        elif isinstance(leaf, int | float | str):
            digest.update(repr(leaf).encode())
    return digest.hexdigest()[:16]


def code_fingerprint(function: Any) -> str:
    """A hash of what a function does: its code, with the functions inside it, its defaults and plain values it closes over."""
    digest = hashlib.sha256()
    while isinstance(function, partial):
        digest.update(repr((function.args, sorted(function.keywords.items()))).encode())
        function = function.func
    if not hasattr(function, "__code__") and not hasattr(function, "__func__"):  # an object that is called
        function = getattr(type(function), "forward" if isinstance(function, torch.nn.Module) else "__call__")
    function = getattr(function, "__func__", function)
    codes = [getattr(function, "__code__", None)]
    for code in codes:
        if code is not None:
            digest.update(code.co_code + repr(code.co_names).encode())
            plain = [value for value in code.co_consts if not isinstance(value, CodeType)]
            digest.update(repr(plain).encode())
            codes += [value for value in code.co_consts if isinstance(value, CodeType)]
    held = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    held += [*(getattr(function, "__defaults__", None) or ())]
    digest.update(repr([value for value in held if isinstance(value, bool | int | float | str)]).encode())
    return digest.hexdigest()[:16]


class UsersDensity:
    """Log joint density of a program given its data.

    Args:
        program: a UserProgram.
        data: its argument.

    Raises:
        CapabilityError: a discrete site that cannot be enumerated, or a plate that draws its own rows.

    Attributes:
        sites: the continuous latent sites' distributions, in the order of the program.
        shapes: of their values.
        deterministic: names of recorded values that do not depend on discrete sites, with their shapes.
        discrete: names of the sites that are summed out.
    """

    def __init__(self, program: Any, data: Any) -> None:
        self.program = program
        self.has_guide = program.guide_function is not None
        feasible = Feasible()
        with pyro.validation_enabled(True), feasible:
            first = traced(program.model, data)
        self.has_families = feasible.has_families
        self.sites: dict[str, Any] = {}
        self.shapes: dict[str, torch.Size] = {}
        self.deterministic: dict[str, torch.Size] = {}
        self.discrete: list[str] = []
        depth = 0
        for name, message in first.nodes.items():
            if message["type"] == "param":
                raise CapabilityError(
                    f"Parameter {name!r} was made by Pyro's param statement: it is a point, which no posterior is drawn of. Give it a prior with"
                    " pyro.sample."
                )
            if message["type"] == "sample":
                self.read(name, message)
                depth = max([depth, *(-frame.dim for frame in message["cond_indep_stack"] if frame.vectorized)])
        self.nesting = depth if self.discrete else None

    def read(self, name: str, message: dict) -> None:
        """File one site of the first run."""
        if is_subsampled(message):
            raise CapabilityError(
                f"Plate {name!r} draws {message['fn'].subsample_size} of {message['fn'].size} rows at every run, so the"
                " density would be another one each time. Give all rows, or the rows' numbers: plate(..., subsample=index)."
            )
        if message["infer"].get("_deterministic"):
            self.deterministic[name] = message["value"].shape
        elif is_bookkeeping(message) or message["is_observed"]:
            return
        elif is_discrete(message["fn"]):
            if not message["fn"].has_enumerate_support:
                raise CapabilityError(
                    f"Site {name!r} is a latent {type(message['fn']).__name__}, whose values cannot all be tried; sum it"
                    " out by hand, or use a distribution with finitely many values."
                )
            self.discrete.append(name)
        else:
            self.sites[name], self.shapes[name] = message["fn"], message["value"].shape

    def run(self, values: Parameters, data: Any) -> Trace:
        """One run at given values of the continuous sites."""
        model = self.program.model if self.nesting is None else enumerated(self.program.model, self.nesting)
        with Given(sites=values):
            return traced(model, data)

    def log_joint(self, values: Parameters, data: Any) -> Tensor:
        """Of everything, discrete sites summed out."""
        return torch.as_tensor(log_joint(self.program.model, values, self.nesting, data))

    def log_parts(self, values: Parameters, data: Any) -> tuple[Tensor, Tensor]:
        """Log likelihood (observed sites, factors, discrete sites) and log prior of the continuous sites.

        Raises:
            CapabilityError: a continuous site depends on a discrete one that is summed out, so that its prior is no factor.
        """
        trace, joint = self.run(values, data), self.log_joint(values, data)
        trace.compute_log_prob(lambda name, _: name in self.sites)
        for name in self.sites:
            if self.nesting is not None and trace.nodes[name]["log_prob"].dim() > self.nesting:
                raise CapabilityError(
                    f"The prior of site {name!r} depends on a discrete site that is summed out; it cannot be told from the"
                    " likelihood, which this method needs. Use method='chees' or 'nuts'."
                )
        prior = sum((trace.nodes[name]["log_prob_sum"] for name in self.sites), joint.new_zeros(()))
        return joint - prior, prior

    def recorded(self, values: Parameters, data: Any) -> Parameters:
        """Deterministic values; those that depend on enumerated sites have no one value and are left out."""
        if not self.deterministic:
            return {}
        nodes = self.run(values, data).nodes
        found = {name: nodes[name]["value"] for name in self.deterministic}
        return {name: value for name, value in found.items() if value.shape == self.deterministic[name]}

    def prior_draw(self, data: Any) -> Parameters:
        """Values of the continuous sites, drawn from their own distributions.

        Raises:
            CapabilityError: a site is improper.
        """
        try:
            nodes = traced(self.program.model, data).nodes
        except NotImplementedError as error:
            raise CapabilityError(
                "The prior cannot be drawn from: a site of the program is improper. Give it a proper prior."
            ) from error
        return {name: nodes[name]["value"] for name in self.sites}

    def start(self, data: Any, radius: float = RADIUS) -> Parameters:
        """Values of the continuous sites in their supports, spread over a cube of unconstrained values."""
        with Feasible(radius):
            nodes = traced(self.program.model, data).nodes
        return {name: nodes[name]["value"] for name in self.sites}
