"""One run of a program: its sites, families and the factors that they make.

A messenger runs the program once. Summed-out sites get a :class:`Symbol` as their value, and the families turn symbols
into factors over named dimensions.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from probgen._pyro import Messenger, in_plates, is_bookkeeping
from probgen.data.batches import Batch
from probgen.data.holes import known
from probgen.errors import CapabilityError, SchemaError
from probgen.families.base import Cells, Factor, Family, Latent, Natural, Parameters, Symbol, Table
from probgen.families.gaussian_path import GaussianPath

__all__ = ["Given", "Intervention", "Site", "Starting", "Tracer", "leaves_of", "observe"]


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


class Starting(Messenger):
    """Answer ``family.draw(name)`` with the parameters that the family starts at, the natural ones as leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.theta: dict[str, Parameters] = {}
        self.natural: dict[str, Natural] = {}

    def _pyro_parameters(self, message: dict) -> None:
        family, name = message["args"]
        self.theta[name] = family.start()
        self.natural[name] = leaves_of(family, self.theta[name])
        message["value"], message["done"] = Table(family, self.natural[name]), True


def leaves_of(family: Family, theta: Parameters) -> Natural:
    """Natural parameters whose gradient is wanted."""
    return {key: value.detach().requires_grad_() for key, value in family.natural(theta).items()}


class Intervention(Messenger):
    """Sites that are set, not observed: their own distribution does not count (Pearl, 2009)."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        super().__init__()
        self.names = frozenset(names)

    def _pyro_sample(self, message: dict) -> None:
        if message["name"] in self.names:
            message["infer"]["_set"] = True


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
        settle: look sites whose values are all known up, in place of a sum over an indicator of what is known.

    Sites marked with ``INTEGRATE_OUT`` have no numbers either way, unless they are given: the families below fill and
    score with them integrated out.

    Raises:
        SchemaError: a column (or hidden node) is named as a parameter is, or two families have one name.
    """

    def __init__(self, sum_out: bool = True, rows_are_local: bool = True, settle: bool = False) -> None:
        super().__init__()
        self.sum_out, self.rows_are_local, self.settle = sum_out, rows_are_local, settle
        self.sites: dict[str, Site] = {}
        self.global_sites: dict[str, Site] = {}
        self.families: dict[str, Family] = {}
        self.tables: dict[str, Table] = {}
        self.factors: list[Factor] = []
        self._drawing = 0

    @property
    def scale(self) -> float:
        """How many rows of the whole table one row of the batch stands for (the plate's N / B)."""
        return next((site.scale for site in self.sites.values()), 1.0)

    def global_sites_outside_families(self) -> list[str]:
        """Names of parameters that no family owns."""
        return [name for name, site in self.global_sites.items() if not site.family]

    def _pyro_parameters(self, message: dict) -> None:
        self._drawing += 1
        family, name = message["args"]
        if self.families.setdefault(name, family) is not family:
            raise one_name(name)

    def _pyro_post_parameters(self, message: dict) -> None:
        self._drawing -= 1
        self.tables[message["args"][1]] = message["value"]

    def _pyro_sample(self, message: dict) -> None:
        if message["is_observed"]:
            message["infer"]["_data"] = message["infer"].get("_data", message["value"])
        if is_integrated_out(message) and not message["done"] and (self.sum_out or not along_time(message)):
            message["value"], message["done"], message["is_observed"] = Latent(message["name"]), True, True
        if is_summed_out(message) and hasattr(message["fn"], "continuous"):
            self.continuous_site(message)
        if message["done"] and not self.sum_out and is_summed_out(message):
            message["value"] = drawn_after_all(message["fn"], message["value"])
        if message["done"] or not is_summed_out(message):
            return
        known = message["value"] if message["is_observed"] else None
        if not self.sum_out:  # a column that is known, or a draw from its own distribution
            codes = None if known is None else KnownCodes.of(known, message["fn"].levels).codes
            message["value"], message["is_observed"], message["done"] = codes, codes is not None, codes is not None
            return
        if not hasattr(message["fn"], "levels"):
            raise CapabilityError(
                f"Site {message['name']!r} is to be summed out, but {type(message['fn']).__name__} is not a family of"
                " probgen; use probgen.families.Categorical for it."
            )
        symbol = message["fn"].symbol(message["name"])
        if known is not None:
            column = KnownCodes.of(known, symbol.size)
            if self.settle and column.codes is not None:
                symbol = replace(symbol, codes=column.codes)
            elif not column.nothing:
                self.factors.append(Factor((symbol,), column.indicators))
        message["value"], message["done"], message["is_observed"] = symbol, True, True

    def continuous_site(self, message: dict) -> None:
        """A name for what is to be integrated out; or numbers, drawn where they are neither known nor given."""
        if self.sum_out:
            message["value"] = message["fn"].cells(message["name"], message["value"])
        else:
            message["value"] = message["fn"].fill(message["value"])
        message["done"], message["is_observed"] = True, True

    def _pyro_post_sample(self, message: dict) -> None:
        if is_bookkeeping(message):
            return
        name, value = message["name"], message["value"]
        observed = message["is_observed"] and not isinstance(value, Symbol | Latent | Cells)
        site = Site(
            name, message["fn"], value, observed, message["scale"], self._drawing > 0, message["infer"].get("_data")
        )
        local = self.rows_are_local and in_plates(message)
        of_rows = local or isinstance(value, Symbol | Latent | Cells) or observed
        if name in (self.global_sites if of_rows else self.sites):
            raise one_name(name)
        if of_rows:
            self.sites[name] = site
            counts = not message["infer"].get("_set")
            if self.sum_out and counts and (not isinstance(value, Latent) or along_time(message)):
                self.factors += factors_of(message["fn"], value)
        else:
            self.global_sites[name] = site


def one_name(name: str) -> SchemaError:
    """What is said where values of rows and parameters, or the parameters of two nodes, have the same name."""
    owner = name.rpartition(".")[0]
    return SchemaError(
        f"{name!r} is both the name of a column (or node, or site of a program) and that of parameters of {owner or name!r};"
        " rename the column."
    )


def is_summed_out(message: dict) -> bool:
    return message["infer"].get("enumerate") == "parallel"


def is_integrated_out(message: dict) -> bool:
    return message["infer"].get("integrate") == "exact"


def along_time(message: dict) -> bool:
    """True for a latent that couples rows: it has a factor of its own, where others leave everything to a family."""
    return isinstance(message["fn"], GaussianPath)


def drawn_after_all(distribution: Any, value: Any) -> Any:
    """The site's value, drawn from its own distribution in the rows of which a sum over its values knew nothing."""
    barren = getattr(distribution, "barren", None)
    return value if barren is None else torch.where(barren, distribution.sample().to(value), value)


def factors_of(distribution: Any, value: Any) -> list[Factor]:
    """A site's log density over named dimensions; any Pyro distribution has one without names."""
    if hasattr(distribution, "factors"):
        return distribution.factors(value)
    return [Factor((), distribution.log_prob(value))]


class KnownCodes:
    """What is known of a column of codes, found out once."""

    _found: ClassVar[WeakTensorKeyDictionary] = WeakTensorKeyDictionary()

    def __init__(self, column: Tensor, size: int) -> None:
        seen = known(column)
        self.version, self.size = column._version, size
        self.nothing = seen is not None and not bool(seen.any())
        self.codes = column.long() if seen is None else None  # where all are known
        self._column = weakref.ref(column)  # the column would keep itself alive

    @classmethod
    def of(cls, column: Tensor, size: int) -> KnownCodes:
        """Kept while the column is alive."""
        kept = cls._found.get(column)
        if kept is None or (kept.version, kept.size) != (column._version, size):
            kept = cls._found[column] = cls(column, size)
        return kept

    @cached_property
    def indicators(self) -> Tensor:
        """Log indicators ``(size, N)`` of the values that are possible."""
        column = self._column()
        assert column is not None
        return labels(column, self.size)


def labels(codes: Tensor, size: int) -> Tensor:
    """Log indicator ``(size, N)`` of partly known codes: 0 where possible, -inf where excluded."""
    levels = torch.arange(size, device=codes.device, dtype=codes.dtype)[:, None]
    return torch.where(codes.isnan() | (codes == levels), 0.0, -torch.inf).to(codes)


def observe(program: Any, batch: Any, *givens: Messenger, sum_out: bool = True, settle: bool = False) -> Tracer:
    """Run the program's model once under the given handlers and collect what happened."""
    tracer = Tracer(sum_out, isinstance(batch, Batch), settle)
    with ExitStack() as stack:
        stack.enter_context(tracer)
        for given in givens:
            stack.enter_context(given)
        program.model(batch)
    return tracer
