"""Programs: what a model is, what it can do, and where models are found.

A model is one file in ``probgen/models`` with one class that extends :class:`Model`; the file's name is its name in
the registry. Other packages add theirs through the entry point group ``probgen.models``.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, ClassVar

from torch import nn

from probgen.data.schema import KINDS, Column, Schema
from probgen.errors import CapabilityError

__all__ = ["Model", "Traits", "available", "find", "program"]


@dataclass(frozen=True)
class Traits:
    """What a model can do.

    Attributes:
        density: "exact", "lower_bound" (importance-weighted estimates of it are reported), "bound" (a lower bound that no
            draws bring nearer), "exact_short" (exact for short sequences, as "lower_bound" for others), "annealed" (known up to a normaliser that has to be
            estimated), "annealed_bound" (a bound of such a density), "annealed_walk" (annealed by walks over the columns, whatever their number), "ode" (an equation is solved for it), or "none".
        methods: the ways it can be fitted; the first is its default.
        embedding: "probabilities" of a discrete latent, "mean" of a continuous one, or "none".
        summary: one line for lists.
        kinds: the kinds of columns that it can take.
        network: its discrete columns are nodes that are summed out with one another: rows with the same known cells are
            cheaper together, and rows that repeat are merged.
        conditionals: it states every column given all others, which it keeps in ``columns``, and no joint distribution;
            cells are drawn in passes over the columns.
        diffuses: it turns noise into rows by a ``process``: bounds are averaged over random times, and rows are drawn, with noise of each
            row's own.
        objective: what ``svi`` raises unless told otherwise.
        beta_steps: steps over which ``svi`` lets divergences of latents rise to what they cost, at most a quarter of all: a decoder that has
            not learnt to read latents would have them given up.
        any_order: it says every cell given any others: the density of each set of known cells is exact by itself, and cells given
            others are asked for directly, because densities of different sets agree only as far as has been learnt.
        labelled: it needs a column with levels beside others.
        unpaired: it learns two sides of the columns, each by itself, and how to get from one to the other, but no joint distribution; studies of samplers
            pass it over.
        sequences: it says how the rows of a sequence follow each other; studies of rows that stand alone pass it over.
    """

    density: str = "exact"
    methods: tuple[str, ...] = ("em", "online_em", "map", "svi", "nuts")
    embedding: str = "none"
    summary: str = ""
    kinds: tuple[str, ...] = KINDS
    sequences: bool = False
    network: bool = False
    conditionals: bool = False
    diffuses: bool = False
    objective: str = "elbo"
    beta_steps: int = 0
    any_order: bool = False
    labelled: bool = False
    unpaired: bool = False

    @property
    def normalised(self) -> bool:
        """False where the program states its density up to a factor only: no bound on the evidence may train it."""
        return not self.density.startswith("annealed")


class Model(nn.Module, ABC):
    """One Pyro program over the columns of a schema.

    Subclasses state ``model(batch)``, the joint distribution, and, where a continuous local latent has to be
    inferred, ``guide(batch)``. They contain no training code.
    """

    traits: Traits = Traits()  # an instance may have its own, where they depend on its options
    schema: Schema
    start: ClassVar[str] = "kmeans"  # where iterative methods start unless told otherwise
    tried: str | None = None  # a column of which, where it is unknown, all levels are tried while a guide is learnt
    in_nats: ClassVar[bool] = True  # what is raised in training is a log density
    no_density: ClassVar[str] = ""  # why, where there is none
    inputs: tuple[str, ...] = ()  # columns that are conditioned on: always known, without a density
    window: int | None = (
        None  # steps of a sequence that are learnt from together; longer sequences are cut where chance falls
    )
    cells_as_latents: ClassVar[bool] = False  # latents are what known cells leave open of a row

    def __new__(cls, *args: Any, **kwargs: Any) -> Model:
        made = super().__new__(cls)
        bound = inspect.signature(cls.__init__).bind(made, *args, **kwargs)
        bound.apply_defaults()
        options = {key: value for key, value in list(bound.arguments.items())[1:] if key != "schema"}
        made.__dict__["options"] = options  # what builds it again from a file
        return made

    options: dict[str, Any]

    @property
    def piece_rows(self) -> int:
        """How many rows the verbs may ask about at once; fewer where one row takes much memory."""
        return 2**17

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self.schema = schema
        check_kinds(self, schema)

    @property
    def name(self) -> str:
        """The model's name in the registry: its file's name."""
        return type(self).__module__.rsplit(".", 1)[-1]

    @property
    def node_names(self) -> tuple[str, ...]:
        """What can be asked about: the columns, and hidden nodes that have names."""
        return self.schema.names

    def outline(self) -> list[str]:
        """Lines about the model itself for a summary."""
        return []

    def node(self, name: str) -> Column:
        """A column, or a named hidden node as one."""
        return self.schema[name]

    @classmethod
    def settle_options(cls, source: Any, options: dict[str, Any], seed: int) -> dict[str, Any]:  # noqa: ARG003
        """The options with those filled in that are learnt from the data before the model can be built."""
        return options

    def prepare(self, batches: Any) -> None:
        """Learn what is no parameter (ranks, ...) from the training rows, once before any method starts."""

    @abstractmethod
    def model(self, batch: Any) -> Any:
        """p(theta) p(z | theta) p(x | z, theta)."""

    def guide(self, batch: Any) -> Any:
        """q(z | x) for continuous local latents; nothing where there are none."""

    def rehearse(self, batch: Any, sites: Any) -> Any:
        """What the guide alone is to climb beside the objective, ``(B,)``; ``sites`` are its draws. None where there is nothing."""
        return None

    def after_step(self, rows: Any) -> None:
        """What is learnt by statistics and not by gradients, after a step of the optimiser; ``rows`` adds up over processes."""

    def finish(self, batches: Any) -> None:
        """Learn what only the verbs need from the training rows, once after the last step."""

    def canonical(self, theta: dict) -> dict:
        """Of all parameters under which the data have the same density, those with the highest prior density."""
        return theta

    def counted(self, batch: Any) -> Any:
        """Mask ``(N,)`` of the rows whose density counts, the others being conditioned on; None where all count."""


def check_kinds(model: Model, schema: Schema) -> None:
    """Refuse columns that a model has no density for."""
    traits, inputs = model.traits, model.options.get("inputs") or ()
    for column in schema:
        if column.kind not in traits.kinds and column.name not in inputs:
            raise CapabilityError(
                f"{model.name!r} cannot take column {column.name!r}, which is {column.kind}; it takes: {', '.join(traits.kinds)}."
                " Drop the column, give it another kind (schema.with_kind), or use another model."
            )
        if column.is_discrete and column.cardinality == 1 and not traits.network:
            raise CapabilityError(
                f"Column {column.name!r} has the single level {column.levels[0]!r}, which only networks take; drop it, or"
                " name at least 2 levels."
            )


class UserProgram(Model):
    """A user's own functions as a model."""

    traits = Traits(density="none", methods=("chees", "nuts", "map", "svi"), summary="a user's own Pyro program")

    def __init__(self, model_function: Callable, guide_function: Callable | None = None) -> None:
        super().__init__(Schema(()))
        self.model_function, self.guide_function = model_function, guide_function

    @property
    def name(self) -> str:
        return getattr(self.model_function, "__name__", "program")

    def model(self, batch: Any) -> Any:
        return self.model_function(batch)

    def guide(self, batch: Any) -> Any:
        return None if self.guide_function is None else self.guide_function(batch)


def program(model_function: Callable, guide_function: Callable | None = None) -> Model:
    """A model from plain Pyro functions of one argument, the data.

    The guide, where there is one, is what ``method="svi"`` learns; other methods have no use for it.

    Example:
        >>> import torch, pyro, pyro.distributions as dist
        >>> def coin(data):
        ...     p = pyro.sample("p", dist.Beta(2.0, 2.0))
        ...     with pyro.plate("tosses", len(data)):
        ...         pyro.sample("x", dist.Bernoulli(p), obs=data)
        >>> program(coin).name
        'coin'
    """
    return UserProgram(model_function, guide_function)


# ------------------------------------------------------------------------------------------------------ registry
@cache
def model_classes() -> dict[str, type[Model]]:
    """All models by name: the package's files, then other packages' entry points."""
    package = importlib.import_module("probgen.models")
    names = sorted(info.name for info in pkgutil.iter_modules(package.__path__) if not info.name.startswith("_"))
    found = {name: class_in(f"probgen.models.{name}") for name in names}
    for point in entry_points(group="probgen.models"):
        found.setdefault(point.name, point.load())
    return found


def class_in(module_name: str) -> type[Model]:
    """The one Model that a module defines."""
    module = importlib.import_module(module_name)
    own = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Model) and value.__module__ == module_name
    ]
    if len(own) != 1:
        raise CapabilityError(f"{module_name} must define exactly one Model, it defines {len(own)}.")
    return own[0]


def available() -> dict[str, Traits]:
    """Registered names with what each model can do."""
    return {name: cls.traits for name, cls in model_classes().items()}


def find(name: str) -> type[Model]:
    """The model's class.

    Raises:
        CapabilityError: no such model; the message lists the names and the nearest one.
    """
    known = model_classes()
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise CapabilityError(f"There is no model {name!r}.{hint} Available: {', '.join(known)}.")
    return known[name]


def accepted_options(cls: type[Model]) -> tuple[str, ...]:
    """The keywords that build a model, without its schema."""
    return tuple(name for name in inspect.signature(cls.__init__).parameters if name not in ("self", "schema"))
