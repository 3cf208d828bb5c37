r"""Tables of conditional probabilities: a discrete variable given discrete parents.

.. math:: p(x = l \mid u_1 = j_1, \dots, u_m = j_m) = \pi_{j_1 \dots j_m l}, \qquad \pi_j \sim \mathrm{Dirichlet}(\alpha_j)

A row of the table is a configuration of the parents, the last one running fastest. The default prior adds one
pseudo-observation to every row, spread as the variable's own frequencies; BDeu (Heckerman, Geiger and Chickering, 1995)
spreads an equivalent sample size evenly over the whole table. Updates take the mode with respect to the logits' own
coordinates, which is the Dirichlet's mean: pseudo-observations count like rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from probgen.errors import CapabilityError
from probgen.families.base import Factor, LookedUp, Natural, Observable, Parameters, Rows, Symbol, Table
from probgen.families.categorical import Categorical
from probgen.families.markov_chain import possible_log

__all__ = ["MOST_ENTRIES", "ConditionalTable", "ProbabilityRows", "Root", "looked_up", "row_number"]

MOST_ENTRIES = 2**27  # of one table


class ProbabilityRows(Categorical):
    """Rows of probabilities of one variable, which keep zeros where they are.

    Args:
        levels: L.
        rows: how many.
        prior: "default", None (maximum likelihood), or how many pseudo-observations: ``{"equivalent_sample_size": s}``
            spreads s over all rows (BDeu), ``{"pseudo_count": c}`` adds c to every entry (c = 1: Laplace, K2).

    Impossible values have log probability -inf, and keep it.
    """

    def __init__(self, levels: int, rows: int, prior: str | dict | None = "default") -> None:
        super().__init__(levels, None, rows, "default" if isinstance(prior, Mapping) else prior)
        self.pseudo_choice = prior
        self.concentration = 1.0 + pseudo_counts(prior, self.concentration)

    def calibrate(self, statistics: Natural) -> None:
        if not isinstance(self.pseudo_choice, Mapping):
            super().calibrate(statistics)

    def log_prior(self, theta: Parameters) -> Tensor:
        pseudo = self.concentration - 1.0
        return (pseudo * theta["logits"].clamp_min(-1e30)).sum()  # impossible values have no pseudo-observations

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        return {"logits": possible_log(sites["probs"])}

    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        counts = self.counts(statistics).clamp_min(0.0)
        total = counts.sum(-1, keepdim=True)
        logits = (counts / total).log()  # -inf where nothing was counted
        return {"logits": logits if bool((total > 0).all()) else torch.where(total > 0, logits, current["logits"])}

    def expected_counts(self, statistics: Natural) -> Tensor | None:
        return statistics["logits"].sum(0)


class ConditionalTable(ProbabilityRows):
    """A variable of L levels, one row of probabilities for each configuration of its parents.

    Args:
        levels: L.
        parents: the parents' numbers of levels.
        prior: as of all rows of probabilities.
        name: of the variable, for messages.
    """

    def __init__(
        self, levels: int, parents: tuple[int, ...] = (), prior: str | dict | None = "default", name: str = "a node"
    ) -> None:
        rows = math.prod(parents)
        if rows * levels > MOST_ENTRIES:
            raise CapabilityError(
                f"The table of {name!r} would have {rows * levels:.3g} entries ({levels} levels given {len(parents)} parents"
                f" with {rows:.3g} configurations). Give it fewer parents, or another kind of node: nodes={{{name!r}: 'noisy_or'}}"
                " or 'tree'."
            )
        super().__init__(levels, rows, prior)
        self.parents = tuple(parents)

    # -- use in a program --------------------------------------------------------------------------------------
    def at(self, table: Table, *index: Any) -> Observable:
        """Given symbols a factor over them; given codes the rows that they name."""
        if table.theta is None or any(isinstance(value, Symbol) for value in index):
            return Conditioned(self, table, index)
        if not index:
            return Root(self, table)
        logits = table.theta["logits"][row_number(index, self.parents)]
        return Rows(self, {"logits": logits}, logits.shape[:-1])


class Conditioned(Observable):
    """A table whose parents are symbols, some of them with known values."""

    def __init__(self, family: ConditionalTable, table: Table, index: tuple[Symbol, ...]) -> None:
        self.family, self.table, self.index = family, table, index
        super().__init__(torch.Size(), torch.Size(), validate_args=False)

    def factor(self, value: Tensor | Symbol) -> Factor:
        assert isinstance(value, Symbol)
        logits = self.table.natural["logits"].reshape(*self.family.parents, self.family.levels)
        return looked_up((*self.index, value), logits)


class Root(Rows):
    """A variable without parents: one row of probabilities, for all rows of data."""

    def __init__(self, family: Any, table: Table, batch_shape: torch.Size = torch.Size()) -> None:  # noqa: B008
        assert table.theta is not None
        self.table = table
        super().__init__(family, {"logits": table.theta["logits"][0].expand(*batch_shape, -1)}, batch_shape)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> Root:
        return Root(self.family, self.table, torch.Size(batch_shape))

    def factor(self, value: Tensor | Symbol) -> Factor:
        if isinstance(value, Symbol):
            return looked_up((value,), self.table.natural["logits"][0])
        return Factor((), self.log_prob(value))


def looked_up(symbols: tuple[Symbol, ...], logits: Tensor) -> Factor:
    """A table over symbols, at the values of those that are known."""
    known = [symbol.codes for symbol in symbols if symbol.codes is not None]
    if not known:
        return Factor(symbols, logits)
    left = tuple(symbol for symbol in symbols if symbol.codes is None)
    places = [at for at, symbol in enumerate(symbols) if symbol.codes is not None]
    rest = [at for at, symbol in enumerate(symbols) if symbol.codes is None]
    sizes = [symbols[at].size for at in places]
    flat = logits.permute(*rest, *places).reshape(*(symbols[at].size for at in rest), -1)
    row = row_number(known, sizes)
    return Factor(left, flat.index_select(-1, row)) if left else LookedUp(flat, row)


def row_number(codes: Any, sizes: Any) -> Tensor:
    """The configuration of several codes, the last one running fastest."""
    number = codes[0].long()
    for code, size in zip(codes[1:], sizes[1:], strict=True):
        number = torch.add(code.long(), number, alpha=size)
    return number


def pseudo_counts(prior: str | dict | None, like: Tensor) -> Tensor:
    """Pseudo-observations of every entry before any data are seen."""
    if not isinstance(prior, Mapping):
        return torch.full_like(like, 1.0 / like.shape[-1])
    if set(prior) not in ({"equivalent_sample_size"}, {"pseudo_count"}):
        raise CapabilityError(
            "A prior of tables is 'default', None, {'equivalent_sample_size': s} or {'pseudo_count': c};"
            f" got {prior!r}."
        )
    (key, amount), *_ = prior.items()
    if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount < math.inf:
        raise CapabilityError(f"{key} must be a number of at least 0, got {amount!r}.")
    return torch.full_like(like, amount / like.numel() if key == "equivalent_sample_size" else float(amount))
