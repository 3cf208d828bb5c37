r"""Trees over discrete columns, learned with their tables (Chow and Liu, 1968).

.. math:: p(x \mid k) = \prod_d p_{kd}(x_d \mid x_{\mathrm{pa}_k(d)})

Of all trees, the one of the greatest total mutual information has the greatest likelihood: that is the maximum spanning
tree of pairwise statistics, which ``score`` has as its gradient. Prior: every tree is as probable as any other, and
:math:`a` pseudo-rows whose columns are independent, with the data's frequencies, stand beside the data; equivalent
trees get equal scores (Heckerman, Geiger and Chickering, 1995).

Unknown cells are summed out by messages along the tree. Expected counts of all pairs, on edges or not, are exact then
too, so that expectation maximisation over structures is monotone with holes as well (Friedman, 1997).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import Distribution
from torch import Tensor

from probgen._pyro import effectful
from probgen.data.holes import known
from probgen.errors import CapabilityError
from probgen.families.base import Family, Natural, Parameters, Table, once_per_tensor
from probgen.families.categorical import safe_log
from probgen.families.level_pairs import CompleteRows, Levels, pair_scores
from probgen.families.tree_holes import HoledRows, hole_scores
from probgen.families.trees import Beliefs, UniformTrees, maximum_spanning_trees

__all__ = ["ChowLiuTree"]

NUMBERS = 2**21  # of one temporary, 16 MB
MOST_NUMBERS = 2**28  # of the pairs of all levels and components, 2 GB
ROUNDING = 1e-12  # shares of all rows that are differences of equal numbers


class ChowLiuTree(Family):
    """D discrete columns on a tree; parameters ``parents`` ``(K, D)`` and ``logits`` ``(K, W, C)``.

    ``logits`` holds log probabilities of the W levels of all columns, side by side, given each of the at most C levels of
    the column's parent; the root's, and those given levels that the parent does not have, are the marginal ones.

    Args:
        levels: the numbers of levels of the columns.
        table: K, the number of trees.
        prior: "default" or None (maximum likelihood).
        pseudo_rows: a, by which the default prior counts in each tree.
    """

    pseudo_rows: float

    def __init__(
        self, levels: Sequence[int], table: int = 1, prior: str | None = "default", pseudo_rows: float = 5.0
    ) -> None:
        super().__init__(len(levels), table, prior)
        self.levels = Levels(tuple(levels))
        if not isinstance(pseudo_rows, Real) or not pseudo_rows > 0:
            raise CapabilityError(
                f"pseudo_rows must be a positive number of rows, got {pseudo_rows!r}; prior=None is maximum likelihood."
            )
        if table * self.levels.total**2 > MOST_NUMBERS:
            raise CapabilityError(
                f"{table} trees over columns of {self.levels.total} levels in all need {table * self.levels.total**2:.2g}"
                " numbers; use fewer components, or give columns of many levels a family of their own."
            )
        self.pseudo_rows = float(pseudo_rows)
        self.register_buffer(
            "shares", 1.0 / torch.tensor(self.levels.sizes).to(torch.get_default_dtype())[self.levels.column]
        )
        self.shares: Tensor

    # -- parameters --------------------------------------------------------------------------------------------
    def prior(self) -> dict[str, Distribution]:
        """The trees; the law of their tables depends on them (see :func:`tree_parameters`)."""
        return {"parents": UniformTrees(self.table, self.columns)}

    def weights_prior(self, parents: Tensor) -> Distribution:
        """Gamma variables whose shares, given each level of the parent, are the tables."""
        return dist.Gamma(1.0 + self.pseudo_counts(parents), 1.0).to_event(3)

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        parents, weights, column = sites["parents"].long(), sites["weights"], self.levels.column
        total = weights.new_zeros(self.table, self.columns, self.levels.most)
        total = total.index_add(1, column.to(weights.device), weights)[:, column]
        rooted = (parents < 0)[:, column, None]  # one distribution only
        return {
            "parents": parents,
            "logits": safe_log(torch.where(rooted, (weights / total)[:, :, :1], weights / total)),
        }

    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        return {"parents": theta["parents"], "weights": theta["logits"].exp()}

    def describe(self, theta: Parameters) -> Parameters:
        return {"parents": theta["parents"], "probs": theta["logits"].exp()}

    def draw(self, name: str) -> Table:
        return tree_parameters(self, name)

    @property
    def free_parameters(self) -> int:
        """Of the greatest tables that trees over these columns can have; the trees themselves are not counted."""
        first, *rest = sorted((size - 1 for size in self.levels.sizes), reverse=True)
        return self.table * (first + sum(size * (first + 1) for size in rest))

    def free_parameters_of(self, theta: Parameters) -> int:
        """Of the tables of these trees; the trees themselves are not counted."""
        sizes, parents = torch.tensor(self.levels.sizes, device=theta["parents"].device), theta["parents"]
        above = torch.where(parents < 0, 1, sizes[parents.clamp_min(0)])
        return int(((sizes - 1) * above).sum())

    def log_prior(self, theta: Parameters) -> Tensor:
        return (self.pseudo_counts(theta["parents"]) * self.once(theta["parents"]) * theta["logits"]).sum()

    def pseudo_counts(self, parents: Tensor) -> Tensor:
        """``(G, W, C)`` of the prior: products of shares; those of the root whatever stands above it."""
        above = torch.cat([self.shares, self.shares.new_zeros(1)])[self.levels_above(parents)]
        return self.pseudo_rows * self.shares[:, None] * torch.where(self.rooted(parents), 1.0, above)

    def start(self) -> Parameters:
        parents = torch.zeros(self.table, self.columns, dtype=torch.long, device=self.shares.device)
        parents[:, 0] = -1
        logits = -self.sizes().log()[:, None]
        return {"parents": parents, "logits": logits.expand(self.table, -1, self.levels.most).clone()}

    def calibrate(self, statistics: Natural) -> None:
        """The shares of the levels among the known cells, with one pseudo-cell a column."""
        seen = (self.marginal_counts(statistics) - statistics["unknown"]).sum(0).clamp_min(0.0) + 1.0 / self.sizes()
        total = seen.new_zeros(self.columns).index_add(0, self.levels.column.to(seen.device), seen)
        self.shares = seen / total[self.levels.column]

    def marginal_counts(self, statistics: Natural) -> Tensor:
        """``(K, W)`` expected counts of all levels."""
        pairs = statistics["pairs"].diagonal(0, 1, 2)
        return self.levels.all_levels(torch.cat([statistics["log_normaliser"][:, None], pairs], 1))

    # -- levels and those of the parents -----------------------------------------------------------------------
    def sizes(self) -> Tensor:
        """``(W,)``: how many levels there are beside each."""
        return torch.tensor(self.levels.sizes).to(self.shares)[self.levels.column]

    def rooted(self, parents: Tensor) -> Tensor:
        """``(G, W, 1)`` mask of the levels of columns without a parent."""
        return (parents < 0)[:, self.levels.column, None]

    def once(self, parents: Tensor) -> Tensor:
        """``(G, W, C)``: 0 for the entries of a root's table that repeat others."""
        itself = torch.nn.functional.one_hot(self.levels.code, self.levels.most).to(self.shares)
        return torch.where(self.rooted(parents), itself, 1.0)

    def levels_above(self, parents: Tensor) -> Tensor:
        """``(G, W, C)`` places of the levels of each level's column's parent, W for those there are not.

        A root stands above itself.
        """
        own = torch.arange(self.columns, device=parents.device)
        above = torch.where(parents < 0, own, parents)[:, self.levels.column]
        return self.levels.slot.to(parents.device)[above]

    # -- maximisation ------------------------------------------------------------------------------------------
    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        found = [self.best(at, statistics) for at in self.groups()]
        parents, logits = (torch.cat(pieces) for pieces in zip(*found, strict=True))
        used = statistics["log_normaliser"] + self.pseudo > 0
        return {
            "parents": torch.where(used[:, None], parents, current["parents"]),
            "logits": torch.where(used[:, None, None], logits, current["logits"]),
        }

    @property
    def pseudo(self) -> float:
        """Pseudo-rows a tree."""
        return 0.0 if self.prior_choice is None else self.pseudo_rows

    def groups(self) -> tuple[Tensor, ...]:
        """Trees of which there is room for all pairs of levels at once."""
        return torch.arange(self.table, device=self.shares.device).split(max(1, NUMBERS // self.levels.total**2))

    def best(self, rows: Tensor, statistics: Natural) -> tuple[Tensor, Tensor]:
        """Trees and tables of some rows of the table."""
        joint = self.joint(statistics["log_normaliser"][rows], statistics["pairs"][rows])
        parents = maximum_spanning_trees(self.information(joint))
        return parents, self.tables_of(joint, parents)

    def joint(self, count: Tensor, pairs: Tensor) -> Tensor:
        """``(G, W, W)`` probabilities of all pairs of levels; those of each column alone on the diagonal."""
        square = torch.nn.functional.pad(pairs, (1, 0, 1, 0))
        square[:, 0, 1:] = square[:, 1:, 0] = pairs.diagonal(0, 1, 2)
        square[:, 0, 0] = count
        found = self.levels.all_levels(self.levels.all_levels(square).mT)
        least = max(ROUNDING, torch.finfo(found.dtype).eps) * count[:, None, None]
        found = torch.where(found > least, found, 0.0)  # differences of equal numbers
        same = (self.levels.column[:, None] == self.levels.column).to(found.device)
        product = torch.where(same, torch.diag(self.shares), self.shares[:, None] * self.shares)
        total = (count + self.pseudo).clamp_min(torch.finfo(found.dtype).tiny)
        return (found + self.pseudo * product) / total[:, None, None]

    def information(self, joint: Tensor) -> Tensor:
        """``(G, D, D)`` mutual information of all pairs of columns, in nats."""
        alone, column = joint.diagonal(0, 1, 2), self.levels.column.to(joint.device)
        terms = torch.xlogy(joint, joint) - torch.xlogy(joint, alone[:, :, None]) - torch.xlogy(joint, alone[:, None])
        found = joint.new_zeros(len(joint), self.columns, self.levels.total).index_add(1, column, terms)
        return joint.new_zeros(len(joint), self.columns, self.columns).index_add(2, column, found)

    def tables_of(self, joint: Tensor, parents: Tensor) -> Tensor:
        """``(G, W, C)`` log probabilities of levels given those of the parent, from those of all pairs."""
        alone, at = joint.diagonal(0, 1, 2), self.levels_above(parents)
        both = torch.nn.functional.pad(joint, (0, 1)).gather(2, at)
        above = torch.nn.functional.pad(alone, (0, 1)).gather(1, at.flatten(1)).reshape(at.shape)
        given = (above > 0) & ~self.rooted(parents)
        return safe_log(torch.where(given, both / torch.where(given, above, 1.0), alone[:, :, None]))

    def posterior_draw(self, statistics: Natural) -> Parameters:
        """Tables drawn given the most probable trees."""
        parents = self.update(statistics, self.start())["parents"]
        counts = []
        for rows in self.groups():
            count = statistics["log_normaliser"][rows]
            joint = self.joint(count, statistics["pairs"][rows]) * (count + self.pseudo)[:, None, None]
            both = torch.nn.functional.pad(joint, (0, 1)).gather(2, self.levels_above(parents[rows]))
            counts.append(torch.where(self.rooted(parents[rows]), joint.diagonal(0, 1, 2)[:, :, None], both))
        return self.assemble({"parents": parents, "weights": dist.Gamma(1.0 + torch.cat(counts), 1.0).sample()})

    # -- densities ---------------------------------------------------------------------------------------------
    def natural(self, theta: Parameters) -> Natural:
        """Forms over indicators for complete rows (see :func:`pair_scores`), and the tables for messages."""
        squares = torch.cat([self.form(theta["parents"][at], theta["logits"][at]) for at in self.groups()])
        pairs = squares[:, 1:, 1:].clone()
        pairs.diagonal(0, 1, 2).add_(squares[:, 0, 1:] + squares[:, 1:, 0])
        return {
            "log_normaliser": squares[:, 0, 0],
            "pairs": pairs,
            "unknown": torch.zeros_like(theta["logits"][:, :, 0]),
            "parents": theta["parents"].to(theta["logits"]),
            "logits": theta["logits"],
        }

    def form(self, parents: Tensor, logits: Tensor) -> Tensor:
        """``(G, M + 1, M + 1)``: the log density as a quadratic form over 1 and the indicators."""
        square = logits.new_zeros(*logits.shape[:2], self.levels.total + 1)
        square = square.scatter(2, self.levels_above(parents), self.once(parents) * logits)[:, :, :-1]
        return self.levels.weights(self.levels.weights(square).mT).mT

    def tables(self, logits: Tensor) -> Tensor:
        """``(G, D, C, C)`` probabilities of each column's level given its parent's."""
        return torch.nn.functional.pad(logits.exp(), (0, 0, 0, 1))[:, self.levels.slot]

    @once_per_tensor
    def coded(self, x: Tensor) -> Coded:
        """Made once for the data."""
        seen = known(x)
        whole = torch.ones_like(x[:, 0], dtype=torch.bool) if seen is None else seen.all(1)
        z = self.levels.one_hot(x[whole])[:, self.levels.later]
        return Coded(whole, CompleteRows(z, x.dtype), HoledRows(x[~whole], self.levels))

    def score(self, natural: Natural, x: Tensor) -> Tensor:
        coded, constant, pairs = self.coded(x), natural["log_normaliser"], natural["pairs"]
        complete = pair_scores(constant, pairs, coded.complete)
        if not len(coded.holed):
            return complete
        tables, parents = self.tables(natural["logits"].detach()), natural["parents"].detach().long()
        holed = hole_scores(constant, pairs, natural["unknown"], tables, parents, coded.holed)
        found = complete.new_zeros(self.table, len(x))
        return found.index_copy(1, coded.places[0], complete).index_copy(1, coded.places[1], holed)

    def beliefs(self, theta: Parameters, x: Tensor) -> Iterator[Beliefs]:
        """Each row on its own tree, some rows at once; shapes are ``(n, D, C, 1)``."""
        size = max(1, NUMBERS // (self.columns * self.levels.most**2))
        for at in torch.arange(len(x), device=x.device).split(size):
            evidence = HoledRows(x[at], self.levels).evidence()[0].movedim(-1, 0)[..., None]
            yield Beliefs(self.tables(theta["logits"][at]), theta["parents"][at], evidence)

    def log_prob(self, theta: Parameters, x: Tensor) -> Tensor:
        theta, flat = self.by_row(theta, x)
        found = torch.cat([beliefs.log_evidence for beliefs in self.beliefs(theta, flat)])
        return found.reshape(x.shape[:-1])

    def sample(self, theta: Parameters) -> Tensor:
        return self.fill(theta, theta["logits"].new_full(theta["parents"].shape, torch.nan))

    def fill(self, theta: Parameters, x: Tensor) -> Tensor:
        theta, flat = self.by_row(theta, x)
        last = torch.tensor(self.levels.sizes, device=x.device) - 1
        drawn = torch.cat([torch.minimum(beliefs.draw()[..., 0], last) for beliefs in self.beliefs(theta, flat)])
        return torch.where(x.isnan(), drawn.reshape(x.shape).to(x), x)

    def mean(self, theta: Parameters) -> Tensor:
        """The most probable level of each column alone."""
        nothing = theta["logits"].new_full(theta["parents"].shape, torch.nan)
        theta, flat = self.by_row(theta, nothing)
        found = torch.cat([beliefs.marginals()[..., 0].argmax(-1) for beliefs in self.beliefs(theta, flat)])
        return found.reshape(nothing.shape).to(nothing)

    def edge_information(self, theta: Parameters) -> Tensor:
        """``(K, D)`` mutual information of each column and its parent, in nats; 0 for roots."""
        nothing = HoledRows(theta["logits"].new_full((1, self.columns), torch.nan), self.levels)
        tables, parents = self.tables(theta["logits"]), theta["parents"]
        alone = Beliefs(tables, parents, nothing.evidence()).marginals()[..., 0]
        above = alone.gather(1, parents.clamp_min(0)[:, :, None].expand_as(alone))[:, :, None]
        joint = tables * above
        found = torch.xlogy(joint, tables) - torch.xlogy(joint, alone[..., None])
        return torch.where(parents < 0, 0.0, found.sum((2, 3)).clamp_min(0.0))

    def by_row(self, theta: Parameters, x: Tensor) -> tuple[Parameters, Tensor]:
        """Parameters and rows with one batch dimension each."""
        batch = x.shape[:-1]
        rows = {
            key: value.expand(*batch, *value.shape[-own:]).reshape(-1, *value.shape[-own:])
            for key, value, own in (("parents", theta["parents"], 1), ("logits", theta["logits"], 2))
        }
        return rows, x.reshape(-1, self.columns)

    # -- network head ------------------------------------------------------------------------------------------
    @property
    def outputs(self) -> int:
        raise CapabilityError("A ChowLiuTree cannot be a network's head.")

    def head(self, output: Tensor) -> Parameters:
        raise CapabilityError("A ChowLiuTree cannot be a network's head.")


@dataclass(frozen=True, eq=False)
class Coded:
    """A table's rows, the complete ones apart from those with holes.

    Attributes:
        whole: ``(N,)`` mask of the complete ones.
    """

    whole: Tensor
    complete: CompleteRows
    holed: HoledRows

    @cached_property
    def places(self) -> tuple[Tensor, Tensor]:
        """Where the complete rows and the others stand."""
        return self.whole.nonzero()[:, 0], (~self.whole).nonzero()[:, 0]


@effectful(type="parameters")
def tree_parameters(family: ChowLiuTree, name: str) -> Table:
    """Draw trees, then their tables. An engine may answer this effect with parameters of its own."""
    parents = pyro.sample(f"{name}.parents", family.prior()["parents"])
    weights = pyro.sample(f"{name}.weights", family.weights_prior(parents))
    theta = family.assemble({"parents": parents, "weights": weights})
    pyro.deterministic(f"{name}.probs", theta["logits"].exp())
    return Table(family, family.natural(theta), theta)
