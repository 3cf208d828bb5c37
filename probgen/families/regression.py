r"""Columns that depend on known regressors: linear for continuous columns, logistic for discrete ones.

.. math::
    x_t \mid u_t, k \sim \mathcal N(B_k u_t, \Sigma_k), \qquad
    p(x_t = l \mid u_t, k) \propto \exp(w_{kl}^\top u_t), \qquad
    u_t = (1, \text{inputs}_t, x_{t-1}, \dots, x_{t-p})

What lies before a sequence counts as zero in standardised coordinates, the column's mean.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from probgen.data.batches import Batch, features, n_features
from probgen.data.schema import Column, Schema
from probgen.data.sequences import Steps
from probgen.errors import CapabilityError, DataError
from probgen.families.base import Factor, Natural, Observable, Parameters, Symbol
from probgen.families.categorical import one_hot_codes
from probgen.families.columns import GAUSSIAN_LINKS, Block, make_block
from probgen.families.columnwise import ColumnwiseFamily
from probgen.families.draws import laplace_draw
from probgen.families.linear_gaussian import LinearGaussian

__all__ = ["LogisticRegression", "RegressedColumns"]


class LogisticRegression(ColumnwiseFamily):
    r"""K multinomial logistic regressions of D columns of L levels; a row is (x, u).

    The maximisation step climbs the bound of Böhning (1992), :math:`H \preceq \tfrac12 (I - \tfrac1L 11^\top) \otimes
    \sum_n \gamma_n u_n u_n^\top`, so that EM stays monotone. Weights have independent standard normal priors.
    """

    additive = False

    def __init__(
        self, levels: int, columns: int, table: int = 1, prior: str | None = "default", *, regressors: int
    ) -> None:
        super().__init__(columns, table, prior)
        self.levels, self.regressors = levels, regressors
        self.shape = (table, columns, levels, regressors)
        self.register_buffer("zero", torch.zeros(()))
        self.zero: Tensor

    def prior(self) -> dict[str, dist.Distribution]:
        return {"weights": dist.Normal(self.zero, 1.0).expand(self.shape).to_event(4)}

    def assemble(self, sites: Mapping[str, Tensor]) -> Parameters:
        return {"weights": sites["weights"]}

    def disassemble(self, theta: Parameters) -> dict[str, Tensor]:
        return {"weights": theta["weights"]}

    @property
    def free_parameters(self) -> int:
        """A shift of all levels' weights changes nothing."""
        return self.table * self.columns * (self.levels - 1) * self.regressors

    def describe(self, theta: Parameters) -> Parameters:
        """Weights that sum to zero over the levels, as the prior's mode has them."""
        return {"weights": theta["weights"] - theta["weights"].mean(-2, keepdim=True)}

    def log_prior(self, theta: Parameters) -> Tensor:
        return -0.5 * theta["weights"].square().sum()

    def start(self) -> Parameters:
        return {"weights": self.zero.expand(self.shape).clone()}

    def natural(self, theta: Parameters) -> Natural:
        """The weights, and a zero whose gradient is the regressors' scatter."""
        U = self.regressors
        return {"weights": theta["weights"], "scatter": theta["weights"].new_zeros(self.table, self.columns, U, U)}

    def score(self, natural: Natural, y: Tensor) -> Tensor:
        x, u = y[:, : self.columns], y[:, self.columns :]
        seen = (~x.isnan()).to(u)
        logits = torch.einsum("kdlu,nu->kdnl", natural["weights"], u)
        hot = one_hot_codes(x, self.levels).reshape(len(x), self.columns, self.levels)
        chosen = torch.einsum("kdnl,ndl->kn", logits, hot) - torch.einsum("kdn,nd->kn", logits.logsumexp(-1), seen)
        return chosen + torch.einsum("kduv,nu,nv,nd->kn", natural["scatter"], u, u, seen)

    def update(self, statistics: Natural, current: Parameters) -> Parameters:
        gradient, scatter = statistics["weights"], statistics["scatter"]
        ridge = 1e-8 if self.prior_choice is None else 1.0
        L, U = self.levels, self.regressors
        if self.prior_choice is not None:
            gradient = gradient - current["weights"]
        curvature = 0.5 * (torch.eye(L).to(scatter) - 1.0 / L)
        whole = torch.einsum("lm,kduv->kdlumv", curvature, scatter).reshape(self.table, self.columns, L * U, L * U)
        whole = whole + ridge * torch.eye(L * U).to(whole)
        step = torch.linalg.solve(whole, gradient.flatten(2)[..., None])[..., 0]
        return {"weights": current["weights"] + step.reshape(self.shape)}

    def posterior_draw(self, statistics: Natural) -> Parameters:
        return laplace_draw(self, statistics)

    def distribution(self, theta: Parameters) -> dist.Distribution:
        return dist.Categorical(logits=theta["logits"])

    def given_regressors(self, theta: Parameters, y: Tensor) -> tuple[Parameters, Tensor]:
        """Logits of x, and x."""
        logits = torch.einsum("...dlu,...u->...dl", theta["weights"], y[..., self.columns :])
        return {"logits": logits}, y[..., : self.columns]

    def log_prob(self, theta: Parameters, y: Tensor) -> Tensor:
        return super().log_prob(*self.given_regressors(theta, y))

    def fill(self, theta: Parameters, y: Tensor) -> Tensor:
        return torch.cat([super().fill(*self.given_regressors(theta, y)), y[..., self.columns :]], -1)

    def mean(self, theta: Parameters) -> Tensor:
        return theta["weights"][..., 0].argmax(-1).to(theta["weights"])

    @property
    def outputs(self) -> int:
        raise CapabilityError("A regression cannot be a network's head.")

    def head(self, output: Tensor) -> Parameters:
        raise CapabilityError("A regression cannot be a network's head.")


@dataclass(frozen=True, eq=False)
class Regressors:
    """What the columns of a batch are regressed on: a constant, inputs, and the columns' own past."""

    inputs: Tensor  # (N, F)
    steps: Steps
    schema: Schema  # of the regressed columns
    lags: int

    def read(self, x: Tensor) -> Tensor:
        """``(N, U)`` given the regressed columns; NaN where a needed past cell is unknown."""
        parts = [self.inputs.new_ones(len(x), 1), self.inputs]
        past = features(x, self.schema) if self.lags else None
        for lag in range(1, self.lags + 1):
            assert past is not None
            known = torch.where(x.isnan().any(1, keepdim=True), torch.nan, past)
            moved = known.roll(lag, 0)
            parts.append(torch.where((self.steps.time >= lag)[:, None], moved, 0.0))
        return torch.cat(parts, 1)


class RegressedColumns(nn.Module):
    """Columns of a schema with regressors: called with a batch and an index.

    Args:
        schema: all columns.
        inputs: names of the columns that are conditioned on.
        lags: p, how many earlier steps of the columns themselves are regressors.
        table: K.
        prior: "default" or None.
    """

    def __init__(
        self, schema: Schema, inputs: tuple[str, ...], lags: int, table: int, prior: str | None = "default"
    ) -> None:
        super().__init__()
        self.inputs, self.lags = schema.select(inputs) if inputs else None, lags
        self.schema = schema.drop(inputs) if inputs else schema
        width = len(self.schema)
        self.regressors = 1 + (n_features(self.inputs) if self.inputs else 0) + lags * n_features(self.schema)
        groups: dict[tuple, list[int]] = defaultdict(list)
        for at, column in enumerate(self.schema):
            groups[regression_key(column)].append(at)
        self.blocks = nn.ModuleList(
            self.block(key, [self.schema[i] for i in index], index, width, table, prior)
            for key, index in groups.items()
        )

    def block(
        self, key: tuple, columns: list[Column], index: list[int], width: int, table: int, prior: str | None
    ) -> Block:
        U = self.regressors
        if key[0] == "gaussian":
            linear = partial(LinearGaussian, regressors=U)
            return make_block(key, columns, index, width, table, lambda d, k, p: linear(d + U, k, p), prior)
        family = LogisticRegression(key[1], len(index), table, prior, regressors=U)
        return Block(f"{key[0]}{key[1]}", index, width, family)

    def draw(self, name: str) -> Callable[..., Regressed]:
        """Make all parameters global sample sites; the result is called with a batch and an index."""
        blocks = cast("list[Block]", list(self.blocks))
        tables = [(block, block.family.draw(f"{name}.{block.name}")) for block in blocks]

        def at(batch: Batch, *index: Tensor | Symbol) -> Regressed:
            kept = batch.__dict__.setdefault("_regressors", {})
            if self not in kept:
                kept[self] = self.regressors_of(batch)
            return Regressed(kept[self], [(block, table(*index)) for block, table in tables])

        return at

    def regressors_of(self, batch: Batch) -> Regressors:
        """Inputs as numbers, ready to be put beside the columns."""
        if self.inputs is None:
            found = batch.x.new_zeros(len(batch), 0)
        else:
            raw = batch.x[:, [batch.schema.index(name) for name in self.inputs.names]]
            found = features(raw, self.inputs)
        return Regressors(found, batch.steps, self.schema, self.lags)


def regression_key(column: Column) -> tuple:
    """Continuous columns share a linear regression, discrete ones of as many levels a logistic one."""
    if column.kind in GAUSSIAN_LINKS:
        return ("gaussian", 0, 0)
    if column.is_discrete:
        return ("logistic", len(column.levels))
    raise CapabilityError(
        f"Column {column.name!r} is {column.kind}; regressions are for continuous and discrete columns. Give it another"
        " kind (with_kind), or drop it."
    )


class Regressed(Observable):
    """The product of the blocks' regressions."""

    def __init__(self, regressors: Regressors, parts: list[tuple[Block, Any]]) -> None:
        self.regressors, self.parts = regressors, parts
        super().__init__(torch.Size(), torch.Size([len(regressors.schema)]), validate_args=False)

    def beside(self, x: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """For each block its columns with the regressors at their side, and the log Jacobian."""
        kept = self.regressors.__dict__.setdefault("_beside", {})
        if id(x) not in kept or kept[id(x)][0] is not x:
            u = self.regressors.read(x)
            unknown = u.isnan().any(1)
            refuse(unknown & ~x.isnan().all(1), self.regressors)
            pairs = [block.read(x) for block, _ in self.parts]
            u = u.nan_to_num()
            kept.clear()
            kept[id(x)] = (x, [(torch.cat([y, u], 1), jacobian) for y, jacobian in pairs])
        return kept[id(x)][1]

    def factor(self, value: Tensor | Symbol) -> Factor:
        assert isinstance(value, Tensor)
        found = []
        for (_, part), (y, jacobian) in zip(self.parts, self.beside(value), strict=True):
            factor = part.factor(y)
            found.append(Factor(factor.symbols, factor.value if jacobian is None else factor.value + jacobian))
        return Factor(found[0].symbols, torch.stack([factor.value for factor in found]).sum(0))

    def log_prob(self, value: Tensor) -> Tensor:
        return self.factor(value).value

    def fill(self, x: Tensor) -> Tensor:
        """Step after step where the columns' own past is a regressor."""
        if not self.regressors.lags:
            return self.filled(x, self.regressors.read(x), None)
        steps, x = self.regressors.steps, x.clone()
        unknown = x.isnan().any(1)
        for t in range(int(steps.time[unknown].min()) if bool(unknown.any()) else steps.longest, steps.longest):
            rows = torch.nonzero(unknown & (steps.time == t))[:, 0]
            if len(rows):
                x[rows] = self.filled(x[rows], self.regressors.read(x)[rows], rows)
        return x

    def filled(self, x: Tensor, u: Tensor, rows: Tensor | None) -> Tensor:
        """Unknown cells of some rows given their regressors."""
        out = x.clone()
        for block, part in self.parts:
            theta = part.theta if rows is None else {key: value[rows] for key, value in part.theta.items()}
            y, _ = block.read(x)
            drawn = block.write(part.family.fill(theta, torch.cat([y, u], -1))[..., : y.shape[-1]])
            out[..., block.index] = torch.where(x[..., block.index].isnan(), drawn, x[..., block.index])
        return out

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        width, rows = len(self.regressors.schema), len(self.regressors.inputs)
        return self.fill(self.regressors.inputs.new_full((rows, width), torch.nan))

    @property
    def mean(self) -> Tensor:
        """The centre of each column given the inputs, its own past at the column's mean."""
        regressors = self.regressors
        x = regressors.inputs.new_full((len(regressors.inputs), len(regressors.schema)), torch.nan)
        u = regressors.read(x).nan_to_num()
        for block, part in self.parts:
            theta, _ = part.family.given_regressors(part.theta, torch.cat([block.read(x)[0], u], -1))
            centre = theta["loc"] if "loc" in theta else theta["logits"].argmax(-1).to(u)
            x[..., block.index] = block.write(centre)
        return x


def refuse(rows: Tensor, regressors: Regressors) -> None:
    """A known cell whose own past is unknown has no closed density."""
    if bool(rows.any()):
        row = int(torch.nonzero(rows)[0])
        raise DataError(
            f"Time step {int(regressors.steps.time[row])} of sequence {int(regressors.steps.sequence[row])} is known, but a"
            f" cell in the {regressors.lags} steps before it is not; an autoregressive model needs them. Fill the hole"
            " first, cut the sequence there, or use lags=0."
        )
