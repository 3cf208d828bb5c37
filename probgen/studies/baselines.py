"""Discriminative baselines of scikit-learn: what goes into them, their settings, and probabilities out of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from probgen.data.schema import Schema
from probgen.data.table import Table
from probgen.errors import CapabilityError

__all__ = ["BASELINES", "IMPUTERS", "Baseline", "Inputs", "check_scikit_learn"]

IMPUTERS = ("none", "mean", "iterative")
"""What is done about holes in features: left to the method; means and most frequent levels; a chain of ridge regressions."""

NEAREST = 20  # columns that each of the chain's regressions reads
LEAST_SPREAD = 1e-9


def check_scikit_learn() -> None:
    """Refuse where the library is not installed.

    Raises:
        CapabilityError: the message names the extra.
    """
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise CapabilityError(
            "Discriminative baselines are those of scikit-learn, which is not installed: pip install 'probgen[sklearn]', or baselines=()."
        ) from error


@dataclass(frozen=True, eq=False)
class Inputs:
    """Features as the baselines read them, by what is done about holes.

    Numbers are standardised, positive ones by their logarithm (the coordinates that the generative models have); levels are indicators. Means, spreads and regressions are
    those of the rows that are learnt from, anew in every fold; labels take no part.

    Attributes:
        table: all rows, with holes.
        target: the column that is no feature.
        extra: places of rows without a label, which say something of features.
        seed: of the chain of regressions.
    """

    table: Table
    target: str
    extra: np.ndarray
    seed: int
    made: dict[tuple[str, bytes], tuple[np.ndarray, list[bool]]] = field(default_factory=dict)

    def matrix(self, imputer: str, learn: np.ndarray) -> tuple[np.ndarray, list[bool]]:
        """``(N, F)`` given the rows learnt from, and which of the F are codes of levels."""
        key = imputer, learn.tobytes()
        if key not in self.made:
            learnt = np.sort(np.r_[learn, self.extra])
            self.made[key] = self.coded() if imputer == "none" else (self.filled(imputer, learnt), [])
        return self.made[key]

    def coded(self) -> tuple[np.ndarray, list[bool]]:
        """Features with their holes, levels as codes."""
        features = self.table.drop([self.target])
        return features.values, [column.is_discrete for column in features.schema]

    def filled(self, imputer: str, learnt: np.ndarray) -> np.ndarray:
        """Features without holes, levels as indicators."""
        from sklearn.experimental import enable_iterative_imputer  # noqa: F401
        from sklearn.impute import IterativeImputer

        features = self.table.drop([self.target])
        values = measures(features.values, features.schema)
        if imputer == "mean":
            values = simply_filled(values, features.schema, learnt)
        x = standardised(indicators(values, features.schema), learnt)
        if not np.isnan(x).any():
            return x
        chain = IterativeImputer(
            random_state=self.seed % 2**31, n_nearest_features=min(NEAREST, x.shape[1]), keep_empty_features=True
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ten rounds are its default, and enough
            return standardised(chain.fit(x[learnt]).transform(x), learnt)


def measures(values: np.ndarray, schema: Schema) -> np.ndarray:
    """Positive columns by their logarithm."""
    found = values.copy()
    for at, column in enumerate(schema):
        if column.kind == "positive":
            found[:, at] = np.log(found[:, at])
    return found


def simply_filled(values: np.ndarray, schema: Schema, learnt: np.ndarray) -> np.ndarray:
    """The mean, or the most frequent level, of the rows learnt from."""
    found = values.copy()
    for at, column in enumerate(schema):
        known = values[learnt, at][~np.isnan(values[learnt, at])]
        if not len(known):
            centre = 0.0
        else:
            centre = float(np.bincount(known.astype(int)).argmax()) if column.is_discrete else float(known.mean())
        found[np.isnan(found[:, at]), at] = centre
    return found


def indicators(values: np.ndarray, schema: Schema) -> np.ndarray:
    """One column a level, one for two levels; unknown where the cell is."""
    blocks = []
    for at, column in enumerate(schema):
        codes = values[:, at]
        if not column.is_discrete or column.cardinality == 2:
            blocks.append(codes[:, None])
        else:
            hot = (codes[:, None] == np.arange(column.cardinality)).astype(float)
            blocks.append(np.where(np.isnan(codes)[:, None], np.nan, hot))
    return np.hstack(blocks)


def standardised(x: np.ndarray, learnt: np.ndarray) -> np.ndarray:
    """Columns that vary in the rows learnt from, with mean nought and spread one there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of columns without a known cell
        centre, spread = np.nanmean(x[learnt], 0), np.nanstd(x[learnt], 0)
    kept = np.nan_to_num(spread) > LEAST_SPREAD
    return (x[:, kept] - centre[kept]) / spread[kept]


@dataclass(frozen=True)
class Baseline:
    """One method of scikit-learn.

    Attributes:
        imputer: one of IMPUTERS.
        build: (whether the target has levels, which features are codes, a seed, a setting) -> estimator.
        settings: among which cross-validation chooses.
    """

    imputer: str
    build: Callable[..., Any]
    settings: Sequence[dict[str, Any]] = ({},)

    def probabilities(
        self,
        inputs: Inputs,
        label: np.ndarray,
        levels: int,
        learn: np.ndarray,
        ask: np.ndarray,
        setting: dict,
        seed: int,
    ) -> np.ndarray:
        """``(rows asked, L)``: learnt from some rows, told of others.

        The shares of the classes count as one row more, so that nothing is impossible (forests say so of what they have not seen).
        """
        x, codes = inputs.matrix(self.imputer, learn)
        counts = np.bincount(label[learn].astype(int), minlength=levels) + 1.0
        shares, found = counts / counts.sum(), np.zeros((len(ask), levels))
        seen = np.unique(label[learn]).astype(int)
        if len(seen) < 2:
            return np.tile(shares, (len(ask), 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # steps that ran out: more of them were no better
            fitted = self.build(True, codes, seed % 2**31, **setting).fit(x[learn], label[learn].astype(int))
            found[:, seen] = fitted.predict_proba(x[ask])
        weight = 1.0 / (len(learn) + 1)
        return (1 - weight) * found + weight * shares

    def numbers(
        self, inputs: Inputs, y: np.ndarray, learn: np.ndarray, ask: np.ndarray, setting: dict, seed: int
    ) -> np.ndarray:
        """``(rows asked,)`` predictions."""
        x, codes = inputs.matrix(self.imputer, learn)
        centre, scale = y[learn].mean(), y[learn].std()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted = self.build(False, codes, seed % 2**31, **setting).fit(x[learn], (y[learn] - centre) / scale)
            return fitted.predict(x[ask]) * scale + centre


def linear(levels: bool, _codes: list[bool], _seed: int, strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge

    return LogisticRegression(C=strength, max_iter=500) if levels else Ridge(alpha=1 / strength)


def forest(levels: bool, _codes: list[bool], seed: int, leaf: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    made = RandomForestClassifier if levels else RandomForestRegressor
    return made(200, min_samples_leaf=leaf, random_state=seed)


def machine(levels: bool, _codes: list[bool], _seed: int, strength: float) -> Any:
    """Distances from the margin become probabilities by Platt's (1999) sigmoid, on rows that were left out."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.svm import SVC, SVR

    return CalibratedClassifierCV(SVC(C=strength), cv=2, ensemble=False) if levels else SVR(C=strength)


def boosting(levels: bool, codes: list[bool], seed: int, **own: Any) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    made = HistGradientBoostingClassifier if levels else HistGradientBoostingRegressor
    return made(categorical_features=codes if any(codes) else None, early_stopping=False, random_state=seed, **own)


def network(levels: bool, _codes: list[bool], seed: int, decay: float) -> Any:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    made = MLPClassifier if levels else MLPRegressor
    return made(hidden_layer_sizes=(32,), alpha=decay, solver="lbfgs", max_iter=200, random_state=seed)


STRENGTHS = tuple({"strength": value} for value in (0.003, 0.03, 0.3, 3.0))
TREES: tuple[dict[str, Any], ...] = (
    {"max_iter": 25, "max_leaf_nodes": 4, "min_samples_leaf": 5},
    {"max_iter": 75, "max_leaf_nodes": 4, "min_samples_leaf": 5},
    {"max_iter": 50, "max_leaf_nodes": 15, "min_samples_leaf": 10},
    {},  # scikit-learn's own: 100 trees of 31 leaves
)

BASELINES = {
    "logistic_regression": Baseline("iterative", linear, STRENGTHS),
    "random_forest": Baseline("iterative", forest, ({"leaf": 1}, {"leaf": 5})),
    "support_vector_machine": Baseline("iterative", machine, ({"strength": 0.3}, {"strength": 3.0})),
    "gradient_boosting": Baseline("none", boosting, TREES),
    "gradient_boosting_mean": Baseline("mean", boosting, TREES),
    "gradient_boosting_imputed": Baseline("iterative", boosting, TREES),
    "neural_network": Baseline("iterative", network, ({"decay": 0.3}, {"decay": 3.0}, {"decay": 30.0})),
}
"""Histogram gradient boosting stands three times: with its own branches for holes, behind means, and behind a chain of regressions."""
