"""What simulations say of methods of imputation: bias, coverage, width, each with its Monte-Carlo error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from probgen.data.native import from_mapping
from probgen.errors import DataError
from probgen.studies.simulation_run import COMPLETE, Outcome

__all__ = ["ImputationStudy"]

BIASED = 0.4  # of the estimates' standard deviation: what makes intervals miss (Collins, Schafer and Kam, 2001)
COLUMNS = (
    ("method", "<"), ("bias", "9.3g"), ("%", "7.1f"), ("coverage", "9.3f"), ("±", "6.3f"), ("width", "9.3g"), ("RMSE", "9.3g"),
    ("SE/SD", "6.2f"), ("FMI", "6.2f"), ("seconds", "8.2f"), ("failed", "7d"),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ImputationStudy:
    r"""How pooled analyses behave over simulated samples.

    Attributes:
        truth: term -> true value.
        methods: names, "complete data" and "complete cases" first.
        outcomes: one a simulation and method, as they came.
        simulations: how many samples were drawn.
        m, confidence, seed: as asked for.
        records: one a method and term: ``bias`` and its Monte-Carlo error ``bias_error``, ``percent_bias``, ``coverage`` and
            ``coverage_error`` :math:`\sqrt{c(1-c)/S}`, mean ``width`` of the intervals and ``width_error``, ``rmse``, mean
            ``fmi``, mean ``standard_error``, ``empirical_sd`` of the estimates and ``se_ratio`` of the two (1 where standard
            errors say the truth), ``seconds`` of CPU a simulation, ``simulations`` that gave numbers, ``failed`` ones, and
            what this ``says`` in words.
    """

    truth: Mapping[str, float]
    methods: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    simulations: int
    m: int
    confidence: float
    seed: int
    records: list[dict[str, Any]]

    @classmethod
    def of(
        cls,
        outcomes: Sequence[Outcome],
        methods: tuple[str, ...],
        truth: Mapping[str, float],
        simulations: int,
        m: int,
        confidence: float,
        seed: int,
    ) -> ImputationStudy:
        """From the outcomes of all simulations."""
        records = [
            record(method, term, place, [o for o in outcomes if o.method == method], value)
            for place, (term, value) in enumerate(truth.items())
            for method in methods
        ]
        for entry in records:
            entry["says"] = says(entry, coverage_of(records, entry["term"]), confidence)
        return cls(dict(truth), methods, tuple(outcomes), simulations, m, confidence, seed, records)

    @property
    def failures(self) -> dict[str, dict[str, int]]:
        """Method -> why it gave no numbers -> in how many simulations."""
        return self.counted(lambda outcome: [outcome.failure] if outcome.failure else [])

    @property
    def warnings(self) -> dict[str, dict[str, int]]:
        """Method -> category of warning -> in how many simulations."""
        return self.counted(lambda outcome: outcome.warned)

    def counted(self, what: Any) -> dict[str, dict[str, int]]:
        found = {name: Counter(w for o in self.outcomes if o.method == name for w in what(o)) for name in self.methods}
        return {name: dict(counter) for name, counter in found.items() if counter}

    def record(self, method: str, term: str | None = None) -> dict[str, Any]:
        """The numbers of one method and term; the only term where there is one.

        Raises:
            DataError: there is no such method or term.
        """
        if term is None and len(self.truth) == 1:
            term = next(iter(self.truth))
        for entry in self.records:
            if entry["method"] == method and entry["term"] == term:
                return entry
        raise DataError(f"Methods are {list(self.methods)}, terms {list(self.truth)}; got {method!r}, {term!r}.")

    def to_pandas(self) -> Any:
        """The records as a data frame."""
        return from_mapping({key: [entry[key] for entry in self.records] for key in self.records[0]})

    def outcomes_to_pandas(self) -> Any:
        """Every simulation, method and term: estimate, standard error, df, interval, FMI; failures are not in it."""
        rows = [(o, place, term) for o in self.outcomes if not o.failure for place, term in enumerate(self.truth)]
        keys = ("estimate", "standard_error", "df", "lower", "upper", "fmi")
        numbers = {key: [getattr(o, key)[place] for o, place, _ in rows] for key in keys}
        who = {"simulation": [o.simulation for o, *_ in rows], "method": [o.method for o, *_ in rows]}
        return from_mapping({**who, "term": [term for *_, term in rows], **numbers})

    def __str__(self) -> str:
        head = (
            f"{self.simulations} simulations, m = {self.m}, {self.confidence:.0%} intervals, seed {self.seed}; ± is the"
            " Monte-Carlo error of coverage"
        )
        width = max(len(name) for name in (*self.methods, "method"))
        titles = "".join(f"{title:{size(form, width)}}" for title, form in COLUMNS)
        lines = [head]
        for term, value in self.truth.items():
            lines += [f"\n{term} = {value:.6g}", titles.rstrip()]
            lines += [line(entry, width) for entry in self.records if entry["term"] == term]
        return "\n".join([*lines, *self.remarks()])

    def remarks(self) -> list[str]:
        """Failures and warnings in words."""
        found = [
            f"{name}: {count} of {self.simulations} simulations failed: {why}"
            for name, reasons in self.failures.items()
            for why, count in reasons.items()
        ]
        found += [
            f"{name}: {what} in {count} of {self.simulations} simulations"
            for name, categories in self.warnings.items()
            for what, count in categories.items()
        ]
        return ["", *found] if found else []


def record(method: str, term: str, place: int, outcomes: Sequence[Outcome], truth: float) -> dict[str, Any]:
    """All numbers of one method and term."""
    good = [outcome for outcome in outcomes if not outcome.failure]
    columns = ("estimate", "standard_error", "lower", "upper", "fmi")
    estimate, error, lower, upper, fmi = (np.array([getattr(o, key)[place] for o in good]) for key in columns)
    n, gap, covered = len(good), estimate - truth, (lower <= truth) & (truth <= upper)
    spread, coverage, width = deviation(estimate), mean(covered), upper - lower
    return {
        "method": method, "term": term, "truth": truth, "bias": mean(gap), "bias_error": spread / np.sqrt(max(n, 1)),
        "percent_bias": 100 * mean(gap) / abs(truth) if truth else float("nan"), "coverage": coverage,
        "coverage_error": float(np.sqrt(coverage * (1 - coverage) / max(n, 1))), "width": mean(width),
        "width_error": deviation(width) / np.sqrt(max(n, 1)), "rmse": float(np.sqrt(mean(gap**2))), "fmi": mean(fmi),
        "standard_error": mean(error), "empirical_sd": spread, "se_ratio": mean(error) / spread if spread else float("nan"),
        "seconds": mean(np.array([o.seconds for o in good])), "simulations": n, "failed": len(outcomes) - n,
    }  # fmt: skip


def mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def deviation(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def coverage_of(records: Sequence[Mapping[str, Any]], term: str) -> float:
    """Of the complete data: what an analysis can reach at best."""
    return next(float(r["coverage"]) for r in records if r["term"] == term and r["method"] == COMPLETE)


def says(entry: Mapping[str, Any], complete: float, confidence: float) -> str:
    """Bias and undercoverage that chance does not explain, at three Monte-Carlo errors."""
    aim = min(confidence, complete) if np.isfinite(complete) else confidence
    error = np.sqrt(aim * (1 - aim) * 2 / max(entry["simulations"], 1))
    found = []
    if abs(entry["bias"]) > max(3 * entry["bias_error"], BIASED * entry["empirical_sd"]):
        found.append("biased")
    if entry["coverage"] < aim - 3 * error:
        found.append("undercovers")
    return ", ".join(found)


def size(form: str, width: int) -> str:
    return f"<{width}" if form == "<" else f">{form.split('.')[0].rstrip('d')}"


def line(entry: Mapping[str, Any], width: int) -> str:
    keys = (
        "bias",
        "percent_bias",
        "coverage",
        "coverage_error",
        "width",
        "rmse",
        "se_ratio",
        "fmi",
        "seconds",
        "failed",
    )
    numbers = "".join(f"{entry[key]:>{form}}" for key, (_, form) in zip(keys, COLUMNS[1:], strict=True))
    return f"{entry['method']:<{width}}{numbers}  {entry['says']}".rstrip()
