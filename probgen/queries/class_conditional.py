r"""A density a class: any model as p(x | y), joined by the classes' shares.

.. math::
    p(y = k) = \pi_k, \qquad p(x \mid y = k) = p_k(x), \qquad
    p(y = k \mid x) = \frac{\pi_k \, p_k(x)}{\sum_l \pi_l \, p_l(x)}

With one Gaussian a class this is quadratic discriminant analysis (Smith, 1947), with a product of columns naive Bayes; with mixtures, mixture discriminant analysis (Hastie and
Tibshirani, 1996). Holes are those of the members: where these integrate them out exactly, so does Bayes' rule. Rows without a label are learnt from by EM over the label (Nigam et al.,
2000). A class may borrow from the rows of the others (as in regularised discriminant analysis; Friedman, 1989).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from probgen.data.schema import Schema
from probgen.data.table import Table
from probgen.errors import CapabilityError, DataError
from probgen.estimate import Estimate
from probgen.inference.runtime import seeded
from probgen.program import find
from probgen.queries.ensemble import (
    CLASSES,
    checked_weights,
    folder_of_fits,
    log_weights,
    mixed,
    own_seed,
    refuse_impossible,
)
from probgen.queries.fit import Fit, same_coding
from probgen.whole import check_whole

__all__ = ["ClassConditional", "check_density", "load_class_conditional"]


class ClassConditional:
    """One fit a class of the columns beside the target, and how frequent the classes are.

    Attributes:
        schema: all columns.
        target: the column of the classes.
        members: the fits, in the order of the target's levels.
        shares: ``(L,)``, p(y).
        history: of EM over unknown labels, the log density of all rows after each round.
    """

    def __init__(
        self, schema: Schema, target: str, members: Sequence[Fit], shares: Any, history: Sequence[float] = ()
    ) -> None:
        self.schema, self.target, self.history = schema, target, list(history)
        self.members = checked_members(schema, target, members)
        self.shares = checked_weights(shares, len(self.members), "shares")

    @property
    def levels(self) -> tuple:
        """The classes."""
        return self.schema[self.target].levels

    def __repr__(self) -> str:
        parts = ", ".join(f"{w:.3f} {level}" for w, level in zip(self.shares, self.levels, strict=True))
        return f"ClassConditional({self.members[0].name!r}, {self.target!r}: {parts})"

    def read(self, table: Any) -> Table:
        """Anything tabular as a table with these columns."""
        known = isinstance(table, Table) and table.schema.names == self.schema.names
        return table if known and same_coding(table.schema, self.schema) else Table(table, schema=self.schema)

    # -- the verbs ---------------------------------------------------------------------------------------------
    def log_prob(self, table: Any, **how: Any) -> Estimate:
        r"""Log density of the known cells of every row: :math:`\pi_y p_y(x)`, summed over the classes where y is unknown.

        Args:
            table: rows.
            **how: of the members' :meth:`Fit.log_prob` (``draws``, ``seed``, ...).
        """
        rows = self.read(table)
        label, features = rows.values[:, rows.schema.index(self.target)], rows.drop([self.target])
        joint, errors = np.full((len(self.members), len(rows)), -np.inf), np.zeros((len(self.members), len(rows)))
        shapes, shared, kinds = np.full(joint.shape, -np.inf), 0.0, []
        for code, (member, weight) in enumerate(zip(self.members, log_weights(self.shares), strict=True)):
            places = np.flatnonzero(np.isnan(label) | (label == code))
            if len(places):
                found = member.log_prob(features.take(places), **how)
                joint[code, places] = weight + np.asarray(found.value)
                if found.standard_error is not None:
                    errors[code, places] = np.asarray(found.standard_error)
                if found.k_hat is not None:
                    shapes[code, places] = np.asarray(found.k_hat)
                shared = max(shared, found.shared_error)
                kinds.append(found.kind)
        kind = next((kind for kind in kinds if kind != "exact"), "exact")
        value, shape = mixed(joint, np.ones(len(joint))), None if np.isneginf(shapes).all() else shapes.max(0)
        if not errors.any():
            return Estimate(value, kind, k_hat=shape)
        spread = np.sqrt(((np.exp(joint - np.where(np.isfinite(value), value, 0.0)) * errors) ** 2).sum(0))
        return Estimate(value, kind, spread, shared_error=shared, k_hat=shape)

    def class_probabilities(self, table: Any, **how: Any) -> np.ndarray:
        """``(N, L)``: p(y | the known cells beside it), by Bayes' rule; the target's own cells are not looked at.

        Raises:
            DataError: a row that is impossible under every class.
        """
        features = self.read(table).drop([self.target])
        joint = np.stack([np.asarray(member.log_prob(features, **how)) for member in self.members])
        joint += log_weights(self.shares)[:, None]
        refuse_impossible(joint)
        found = np.exp(joint - joint.max(0))
        return (found / found.sum(0)).T

    embed = class_probabilities

    def fill(self, table: Any, draws: int = 20, *, seed: int = 0) -> list[Table]:
        """Completed tables: a class by its probability where it is unknown, then the rest by the class's own draw.

        Raises:
            CapabilityError: fewer than one draw.
        """
        check_whole("draws", draws)
        rows = self.read(table)
        place = rows.schema.index(self.target)
        label = np.repeat(rows.values[None, :, place], draws, 0)  # [draws, N]
        unknown = np.flatnonzero(np.isnan(rows.values[:, place]))
        if len(unknown):
            shares = torch.as_tensor(self.class_probabilities(rows.take(unknown)))
            with seeded(seed, "classes"):
                label[:, unknown] = torch.multinomial(shares, draws, replacement=True).numpy().T
        values = np.repeat(rows.values[None], draws, 0)
        values[:, :, place] = label
        beside = np.arange(rows.n_columns) != place
        for code, member in enumerate(self.members):
            wanted = label == code
            places = np.flatnonzero(wanted.any(0))
            if len(places):
                asked = rows.take(places).drop([self.target])
                drawn = np.stack([one.values for one in member.fill(asked, draws, seed=own_seed(seed, code))])
                own = np.ix_(np.arange(draws), places, np.flatnonzero(beside))
                values[own] = np.where(wanted[:, places, None], drawn, values[own])
        return [rows.with_values(one) for one in values]

    def sample(self, n: int, *, seed: int = 0) -> Table:
        """N new rows: a class by its share, then the rest.

        Raises:
            CapabilityError: fewer than one row.
        """
        check_whole("n", n)
        with seeded(seed, "classes"):
            label = torch.multinomial(torch.as_tensor(self.shares), n, replacement=True).numpy()
        place = self.schema.index(self.target)
        values = np.empty((n, len(self.schema)))
        values[:, place] = label
        beside = np.arange(len(self.schema)) != place
        for code, member in enumerate(self.members):
            own = np.flatnonzero(label == code)
            if len(own):
                values[np.ix_(own, beside)] = member.sample(len(own), seed=own_seed(seed, code)).values
        return Table.from_codes(values, self.schema)

    def save(self, path: str | os.PathLike, *, overwrite: bool = False) -> None:
        """A folder with a file for each class and their shares; ``pg.load`` reads it.

        Raises:
            DataError: the folder exists.
        """
        folder = folder_of_fits(path, overwrite)
        for number, member in enumerate(self.members):
            member.save(folder / f"class_{number:02d}.probgen", overwrite=overwrite)
        told = {"target": self.target, "shares": self.shares.tolist(), "schema": json.loads(self.schema.to_json())}
        (folder / CLASSES).write_text(json.dumps({**told, "history": self.history}), encoding="utf-8")


def load_class_conditional(folder: Path) -> ClassConditional:
    """One from its folder."""
    from probgen.queries.persistence import load

    try:
        told = json.loads((folder / CLASSES).read_text(encoding="utf-8"))
        schema = Schema.from_json(json.dumps(told["schema"]))
        members = [load(folder / f"class_{number:02d}.probgen") for number in range(len(told["shares"]))]
        return ClassConditional(schema, told["target"], members, told["shares"], told["history"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{folder} is no folder of class-conditional fits ({error}); save it again.") from error


def check_density(model: Any) -> None:
    """Refuse what only draws."""
    made = find(model) if isinstance(model, str) else model
    if made.traits.density == "none":
        raise CapabilityError(
            f"{model!r} has no density, which Bayes' rule needs; name a model that has one (probgen models)."
        )


def checked_members(schema: Schema, target: str, members: Sequence[Fit]) -> tuple[Fit, ...]:
    """One fit with a density for each level, of the columns beside the target."""
    levels, rest = schema[target].levels, schema.drop([target])
    if len(members) != len(levels):
        raise CapabilityError(f"{target!r} has {len(levels)} levels, there are {len(members)} fits; give one a level.")
    for one in members:
        if one.schema.names != rest.names or not same_coding(one.schema, rest):
            raise CapabilityError(f"{one.name!r} was fitted to other columns than those beside {target!r}.")
        check_density(one.name)
    return tuple(members)
