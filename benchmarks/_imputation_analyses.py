"""Regressions and proportions in numpy, quick enough for some thousand tables; expressions are of column names and numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

INTERCEPT = "(Intercept)"


@dataclass(frozen=True)
class Linear:
    """Least squares of an expression on others; robust variances are White's (1980), times N / (N - K)."""

    outcome: str
    terms: tuple[tuple[str, str], ...]
    robust: bool = False

    def __call__(self, frame: pd.DataFrame) -> dict[str, Any]:
        names, x, y = design(frame, self.outcome, self.terms)
        inverse = np.linalg.inv(x.T @ x)
        slopes = inverse @ x.T @ y
        df = len(y) - x.shape[1]
        gap = y - x @ slopes
        half = (x * gap[:, None]) @ inverse
        spread = half.T @ half * len(y) / df if self.robust else inverse * (gap @ gap) / df
        return {"estimate": pd.Series(slopes, names), "covariance": spread, "df": df}


@dataclass(frozen=True)
class Logistic:
    """Logistic regression by Newton's method; separation raises."""

    outcome: str
    terms: tuple[tuple[str, str], ...]

    def __call__(self, frame: pd.DataFrame) -> dict[str, Any]:
        names, x, y = design(frame, self.outcome, self.terms)
        slopes = np.zeros(x.shape[1])
        for _ in range(50):
            chance = 1 / (1 + np.exp(-(x @ slopes)))
            information = (x * (chance * (1 - chance))[:, None]).T @ x
            step = np.linalg.solve(information, x.T @ (y - chance))
            slopes = slopes + step
            if np.abs(step).max() < 1e-8:
                covariance = np.linalg.inv(information)
                return {"estimate": pd.Series(slopes, names), "covariance": covariance, "df": len(y) - x.shape[1]}
        raise ArithmeticError("the logistic regression did not converge: its outcome is separated")


@dataclass(frozen=True)
class Shares:
    """Means of expressions."""

    terms: tuple[tuple[str, str], ...]

    def __call__(self, frame: pd.DataFrame) -> dict[str, Any]:
        values = np.column_stack([evaluated(expression, frame) for _, expression in self.terms])
        covariance = np.atleast_2d(np.cov(values.T)) / len(values)
        names = [name for name, _ in self.terms]
        return {"estimate": pd.Series(values.mean(0), names), "covariance": covariance, "df": len(values) - 1}


@dataclass(frozen=True)
class Together:
    """Several analyses as one; each name is put in front of its terms. Only variances are told."""

    parts: tuple[tuple[str, Any], ...]

    def __call__(self, frame: pd.DataFrame) -> dict[str, Any]:
        found = {name: part(frame) for name, part in self.parts}
        estimate = pd.concat([result["estimate"].add_prefix(f"{name} ") for name, result in found.items()])
        variance = np.concatenate([np.diag(result["covariance"]) for result in found.values()])
        return {
            "estimate": estimate,
            "variance": pd.Series(variance, estimate.index),
            "df": min(result["df"] for result in found.values()),
        }


def design(
    frame: pd.DataFrame, outcome: str, terms: tuple[tuple[str, str], ...]
) -> tuple[list[str], np.ndarray, np.ndarray]:
    columns = [np.ones(len(frame)), *(evaluated(expression, frame) for _, expression in terms)]
    return [INTERCEPT, *(name for name, _ in terms)], np.column_stack(columns), evaluated(outcome, frame)


def evaluated(expression: str, frame: pd.DataFrame) -> np.ndarray:
    """An expression of this file's neighbours, never of a user's."""
    columns: Mapping[str, Any] = {name: frame[name] for name in frame.columns}
    return np.asarray(eval(expression, {"np": np, "__builtins__": {}}, columns), dtype=float)
