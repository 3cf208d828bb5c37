r"""The library as scikit-learn knows estimators: :class:`Imputer`, a transformer over :func:`probgen.impute`.

Holes are filled by draws from :math:`p(x_{mis} \mid x_{obs}, \theta_i)` with the i-th of m parameters
:math:`\theta_i \sim p(\theta \mid \text{training rows})`, which the transformer keeps for rows that come later.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

try:  # first, so that its lack is told at once
    from sklearn import get_config
    from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
    from sklearn.utils import Tags, check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError("probgen.sklearn needs scikit-learn 1.6 or later; pip install scikit-learn.") from error

from probgen.data.apart import table_with
from probgen.data.filling import Cells, as_numbers, held
from probgen.data.schema import Schema
from probgen.data.table import Table
from probgen.errors import CapabilityError, DataWarning, SchemaError
from probgen.program import Model
from probgen.studies.design import Design
from probgen.studies.knowledge import named_by
from probgen.studies.multiple_imputation import Imputations, impute
from probgen.whole import is_whole

__all__ = ["Imputer"]


class Imputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    r"""Fills holes with any model of the library, as a transformer of scikit-learn.

    ``fit`` is :func:`probgen.impute`: m sets of parameters that differ as the training rows leave open. ``transform`` fills the
    holes of any rows, whatever their pattern, and returns **one** of the m completed tables: a draw, which has the spread and the
    relations that the data have. ``transform_all`` returns the m of them.

    ``draw="mean"`` returns the mean of the m draws for numbers and dates, and the most frequent one for all else. This is
    the better guess of a single cell (its mean squared error is (1 + 1/m)/2 of a draw's), and no imputation: filled columns vary
    too little, correlations come out wrong, and nothing says how little is known. It may serve prediction, never a variance.

    The outcome ``y`` is not used. A pipeline that predicts has no ``y`` for new rows, and training rows filled with its
    help would look more telling than those are. Where estimates are wanted in place of predictions, the outcome has to be a
    column of the table that is filled, else relations with it are weakened: use :func:`probgen.impute` and :func:`probgen.pool`.

    Pandas, polars and Arrow tables come back as such, with their names, categories, nullable types and index; arrays as arrays.
    ``set_output`` holds for all of it. Known cells are never changed. Columns whose kind is not number are categories (text,
    booleans, categoricals) or dates; kinds are inferred from the training rows, or told by ``schema``.

    * A column with one known value is filled with that value.
    * A column without a known value is left out, with a warning, as by ``SimpleImputer``; ``keep_empty_features``.
    * Under ``options={"design": ...}`` derived columns that are new come after the others; auxiliary ones do not come out.
    * A value in new rows that its column's kind cannot hold (a label that was never seen) stays, tells nothing of the rest of its
      row, and is warned of. Infinite numbers are refused.

    Args:
        model: a name from :func:`probgen.available`, a model's class, or "auto".
        m: number of imputations. Five serve prediction; pooled estimates want twenty or more.
        draw: which of the m completed tables ``transform`` returns, from 0, or "mean".
        uncertainty: where the m parameters come from, as in :func:`probgen.impute`.
        options: of the model and of the method, such as ``{"components": 3}``.
        schema: kinds of the columns (by place, in arrays); inferred where None.
        add_indicator: whether to add columns that say which cells were unknown, one for each column that had holes in ``fit``.
        keep_empty_features: whether columns without a known value stay, filled with 0 (their holes stay where 0 is no value of
            theirs).
        random_state: a whole number is the ``seed`` of :func:`probgen.impute`; None, or a ``RandomState``, gives another one to each fit.

    Attributes:
        imputations_: the :class:`probgen.Imputations` of the training rows (without empty and constant columns); None where
            no column is left.
        n_features_in_: number of columns in ``fit``.
        feature_names_in_: their names, where all are texts.

    Example:
        >>> a, noise = np.random.default_rng(0).normal(size=(2, 60))
        >>> X = np.column_stack([a, np.where(np.arange(60) < 20, np.nan, a + 0.1 * noise)])
        >>> filled = Imputer(random_state=0).fit_transform(X)
        >>> bool(np.isnan(filled).any()), bool(np.abs(filled[:20, 1] - a[:20]).max() < 0.5)
        (False, True)

    References: Rubin (1987); on filling for prediction, Josse, Chen, Prost, Varoquaux and Scornet (2024).
    """

    def __init__(
        self,
        model: str | type[Model] = "auto",
        *,
        m: int = 5,
        draw: int | str = 0,
        uncertainty: str | None = None,
        options: Mapping[str, Any] | None = None,
        schema: Schema | None = None,
        add_indicator: bool = False,
        keep_empty_features: bool = False,
        random_state: Any = None,
    ) -> None:
        self.model = model
        self.m = m
        self.draw = draw
        self.uncertainty = uncertainty
        self.options = options
        self.schema = schema
        self.add_indicator = add_indicator
        self.keep_empty_features = keep_empty_features
        self.random_state = random_state

    # -- the transformer ---------------------------------------------------------------------------------------
    def fit(self, X: Any, y: Any = None) -> Imputer:
        """Learn from rows with holes.

        Args:
            X: ``(N, D)`` data frame or array; NaN, None and NA are unknown.
            y: not used.

        Raises:
            DataError: an infinite number, a column that looks like an identifier, ...
            CapabilityError: an unknown model or option, or a model that cannot be fitted in this way.
        """
        self._check_parameters()
        cells = Cells(self._validated(X, reset=True))
        seen = [cells.values(place) for place in range(cells.width)]
        spoken = self._spoken_of(cells)
        self._constants = {at: values[0] for at, values in enumerate(seen) if len(values) == 1 and at not in spoken}
        self._empty = {at: 0 if cells.holds_numbers(at) else None for at, values in enumerate(seen) if not values}
        self._holed = np.flatnonzero(cells.unknown.any(0)) if self.add_indicator else np.array([], int)
        self._modelled = [at for at, values in enumerate(seen) if len(values) > 1 or (values and at in spoken)]
        self._tell_of_empty(cells)
        self.imputations_ = self._imputed(cells) if self._modelled else None
        told = self._training.names if self.imputations_ else ()
        returned = self.imputations_[0].names if self.imputations_ else ()
        self._helpers = {at for at, name in zip(self._modelled, told) if name not in returned}
        self._derived = [name for name in returned if name not in told]
        return self

    def transform(self, X: Any) -> Any:
        """The rows with their holes filled: draw number ``draw``, or the mean of all m (no imputation).

        The training rows themselves get the imputations that ``fit`` drew for them. Others are drawn in the same m worlds, by
        their place in the table: equal tables get equal draws, rows of one table independent ones.

        Args:
            X: ``(N, D)`` rows with the columns of ``fit``.

        Raises:
            DataError: an infinite number, ...
        """
        self._check_parameters()
        cells, tables = self._completed(X)
        return self._written(cells, average(tables) if self.draw == "mean" else tables[int(self.draw)])

    def transform_all(self, X: Any) -> list[Any]:
        """The m completed tables, each as ``transform`` would return it."""
        cells, tables = self._completed(X)
        return [self._written(cells, table) for table in tables]

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns that ``transform`` returns."""
        names = super().get_feature_names_out(input_features)
        return np.array([*names[self._kept()], *self._derived, *indicators(names[self._holed])], dtype=object)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # -- reading -----------------------------------------------------------------------------------------------
    def _check_parameters(self) -> None:
        if not is_whole(self.m, 1):
            raise CapabilityError(
                f"m, the number of imputations, must be a whole number of at least 1, got {self.m!r}."
            )
        if self.draw != "mean" and (not is_whole(self.draw) or self.draw >= self.m):
            raise CapabilityError(
                f"draw must be a number from 0 to m - 1 = {self.m - 1}, or 'mean', got {self.draw!r}."
            )
        if self.options is not None and not isinstance(self.options, Mapping):
            raise CapabilityError(f"options must be a dictionary such as {{'components': 3}}, got {self.options!r}.")

    def _validated(self, X: Any, reset: bool) -> Any:
        """A data frame as it is, anything else as an array: of floats where its cells are numbers."""
        if hasattr(X, "columns") or hasattr(X, "column_names"):
            X = X if reset else self._with_weights(X)
            validate_data(self, X, reset=reset, skip_check_array=True)
            return X
        return as_numbers(validate_data(self, X, reset=reset, dtype=None, ensure_all_finite="allow-nan"))

    def _with_weights(self, X: Any) -> Any:
        """The rows with the design's column of weights, which only the fit needs, unknown where they come without it."""
        name = getattr((self.options or {}).get("design"), "weights", None)
        have = list(getattr(X, "column_names", X.columns))
        wanted = list(getattr(self, "feature_names_in_", have))
        return X if name is None or name in have or name not in wanted else with_unknown(X, name, wanted)

    def _tell_of_empty(self, cells: Cells) -> None:
        if self._empty:
            names = ", ".join(repr(cells.labels[at]) for at in self._empty)
            done = "filled with 0 where they hold numbers" if self.keep_empty_features else "left out"
            warnings.warn(f"Columns without a known value are {done}: {names}.", DataWarning, stacklevel=3)

    @property
    def _design(self) -> Design | None:
        found = (self.options or {}).get("design")
        return found if isinstance(found, Design) else None

    def _spoken_of(self, cells: Cells) -> set[int]:
        """Places of the columns that the design names: they stay, though they may never vary."""
        names = cells.names if self.schema is None or cells.named else self.schema.names
        spoken = set() if self._design is None else set(named_by(self._design))
        return {at for at, name in enumerate(names) if name in spoken}

    def _imputed(self, cells: Cells) -> Imputations:
        names = cells.names if self.schema is None or cells.named else self.schema.names
        if len(names) != cells.width:
            raise SchemaError(
                f"The schema has {len(names)} columns, X has {cells.width}; name each column of the array."
            )
        chosen = [names[at] for at in self._modelled]
        rows = cells.columns(self._modelled, chosen)
        schema, design = None if self.schema is None else self.schema.select(chosen), self._design
        labels = () if design is None else (*design.exclude, *([design.groups] if design.groups is not None else []))
        table = Table(rows, schema=schema) if design is None else table_with(rows, labels, design.apart, schema)
        self._training = table
        options = {**(self.options or {}), "progress": False}
        seed = seed_from(self.random_state)
        return impute(table, self.model, m=int(self.m), uncertainty=self.uncertainty, seed=seed, **options)

    def _completed(self, X: Any) -> tuple[Cells, Sequence[Any]]:
        """The rows, and their modelled columns completed m times."""
        check_is_fitted(self, "imputations_")
        cells = Cells(self._validated(X, reset=False))
        if self.imputations_ is None:
            return cells, [None] * self.m
        schema = self._training.schema
        rows, told = held(cells.columns(self._modelled, schema.names), schema)
        if told:
            warnings.warn(
                f"Values that their columns cannot hold stay, and tell nothing of their rows: {'; '.join(told)}.",
                DataWarning,
                stacklevel=3,
            )
        table = Table(rows, schema=schema)
        if np.array_equal(table.values, self._training.values, equal_nan=True):
            same = self.imputations_[0].names == table.names
            return cells, [table.with_values(one.values) if same else one for one in self.imputations_]
        return cells, self.imputations_.transform(table)

    # -- writing -----------------------------------------------------------------------------------------------
    def _kept(self) -> list[int]:
        """Places of the columns that come out."""
        left_out = self._helpers | set(() if self.keep_empty_features else self._empty)
        return [at for at in range(self.n_features_in_) if at not in left_out]

    def _written(self, cells: Cells, table: Any) -> Any:
        """The rows as the kind of table that is wanted."""
        filled = {} if table is None else dict(zip(table.names, cells.series(table), strict=True))
        names = self._training.names if filled else ()
        drawn = {at: filled[name] for at, name in zip(self._modelled, names) if name in filled}
        values = {**self._constants, **self._empty, **drawn}
        marks = indicators([cells.labels[at] for at in self._holed])
        added = {name: filled[name].array for name in self._derived}
        added |= dict(zip(marks, cells.unknown[:, self._holed].T, strict=True))
        own = [*(cells.labels[at] for at in self._kept()), *self._derived, *marks]
        labels = self.get_feature_names_out() if all(isinstance(label, str) for label in cells.labels) else own
        wanted = getattr(self, "_sklearn_output_config", {}).get("transform", get_config()["transform_output"])
        return cells.filled({at: values[at] for at in self._kept()}, added, wanted, labels)


def with_unknown(X: Any, name: str, order: Sequence[str]) -> Any:
    """A data frame with one more column of numbers, none of which is known, in its place among the others."""
    unknown = np.full(len(X), np.nan)
    if hasattr(X, "assign"):
        made = X.assign(**{name: unknown})
    else:
        made = X.with_columns(**{name: unknown}) if hasattr(X, "with_columns") else X.append_column(name, [unknown])
    have = set(getattr(made, "column_names", made.columns))
    names = [one for one in order if one in have]
    return made[names] if hasattr(made, "assign") else made.select(names)


def indicators(names: Sequence[Any]) -> list[str]:
    """Names of the columns that say what was unknown, as scikit-learn gives them."""
    return [f"missingindicator_{name}" for name in names]


def seed_from(random_state: Any) -> int:
    """A whole number as it is; else one drawn from the random state."""
    state = check_random_state(random_state)
    return int(random_state) if isinstance(random_state, int | np.integer) else int(state.randint(2**31 - 1))


def average(tables: Sequence[Any]) -> Any:
    """The mean of completed tables: of numbers and dates; the most frequent of labels (the first of several)."""
    first = tables[0]
    if first is None:
        return None
    drawn = np.stack([table.values for table in tables])  # [m, N, D]
    centre = drawn.mean(0)
    for place, column in enumerate(first.schema):
        if column.is_discrete:
            counts = [(drawn[:, :, place] == code).sum(0) for code in range(column.cardinality)]
            centre[:, place] = np.argmax(counts, 0)
    return first.with_values(centre)
