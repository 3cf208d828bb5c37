"""What a question to a network is answered with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from probgen.errors import CapabilityError, DataError
from probgen.structure.graph import check_known

__all__ = ["Answer", "Evidence", "Numbers", "check_states", "impossible", "number_or_day", "out_of_reach"]

MOST_STATES = 4096  # of several targets together, where each state is scored


@dataclass(frozen=True)
class Numbers:
    """What is known of a continuous or count node.

    Attributes:
        mean, sd: of its distribution.
        q05, median, q95: quantiles.
        kind: of its column; of a "datetime" one all numbers are in days, those but the sd since 1970.
    """

    mean: float
    sd: float
    q05: float
    median: float
    q95: float
    kind: str = "real"

    @classmethod
    def of(cls, draws: np.ndarray, kind: str = "real") -> Numbers:
        low, middle, high = np.quantile(draws, [0.05, 0.5, 0.95])
        return cls(float(draws.mean()), float(draws.std(ddof=1)), float(low), float(middle), float(high), kind)

    def __str__(self) -> str:
        mean, low, high = (number_or_day(value, self.kind) for value in (self.mean, self.q05, self.q95))
        return f"mean {mean}  sd {self.sd:.3g}{' days' if self.kind == 'datetime' else ''}  90% in [{low}, {high}]"


@dataclass(frozen=True)
class Answer:
    """Probabilities of nodes given what is known.

    Attributes:
        marginals: node -> ``{state: probability}``.
        numbers: continuous and count nodes.
        joint: ``(*levels of the targets)`` probabilities of all discrete targets together, where they were asked for.
        targets: names of the joint table's axes.
        states: labels along them.
        given: what was known.
        kind: "exact", "importance", "gibbs", or that of the densities that states were compared by.
        standard_errors: Monte-Carlo errors, with the shape of ``marginals``, of approximate answers.
        ess: effective number of draws of an approximate answer.
    """

    marginals: dict[str, dict[Any, float]]
    numbers: dict[str, Numbers] = field(default_factory=dict)
    joint: np.ndarray | None = None
    targets: tuple[str, ...] = ()
    states: tuple[tuple, ...] = ()
    given: dict[str, Any] = field(default_factory=dict)
    kind: str = "exact"
    standard_errors: dict[str, dict[Any, float]] | None = None
    ess: float | None = None
    _evidence: Callable[[], float] | None = field(default=None, repr=False, compare=False)

    @property
    def log_probability(self) -> float:
        """Log probability (density) of what was known, in nats."""
        assert self._evidence is not None
        return self._evidence()

    def __getitem__(self, name: str) -> Any:
        found: dict[str, Any] = {**self.marginals, **self.numbers}
        check_known([name], found, "The question")
        return found[name]

    def most_probable(self) -> dict[str, Any]:
        """Each discrete node's own most probable state; for the most probable states together ask ``fit.most_probable``."""
        return {name: max(states, key=states.__getitem__) for name, states in self.marginals.items()}

    def records(self) -> list[dict[str, Any]]:
        """One dictionary a state of a node, and one a number."""
        rows: list[dict[str, Any]] = []
        for name, states in self.marginals.items():
            errors = (self.standard_errors or {}).get(name, {})
            rows += [
                {"node": name, "state": state, "probability": share}
                | ({"standard_error": errors[state]} if errors else {})
                for state, share in states.items()
            ]
        for name, found in self.numbers.items():
            rows.append({"node": name, **{key: value for key, value in vars(found).items() if key != "kind"}})
        return rows

    def __str__(self) -> str:
        head = f"given {', '.join(f'{k} = {v}' for k, v in self.given.items())}" if self.given else "nothing given"
        lines = [f"{head} ({self.kind})" if self.kind != "exact" else head]
        wide = max((len(str(name)) for name in [*self.marginals, *self.numbers]), default=0)
        for name, states in self.marginals.items():
            shown = "  ".join(f"{state} {share:.4f}{self._error(name, state)}" for state, share in states.items())
            lines.append(f"{name:{wide}}  {shown}")
        for name, found in self.numbers.items():
            lines.append(f"{name:{wide}}  {found}")
        if self.joint is not None:
            lines += self._joint_lines()
        return "\n".join(lines)

    def _error(self, name: str, state: Any) -> str:
        return "" if self.standard_errors is None else f" ±{self.standard_errors[name][state]:.4f}"

    def _joint_lines(self) -> list[str]:
        assert self.joint is not None
        order = np.argsort(-self.joint, axis=None, kind="stable")[:12]
        lines = ["together: " + ", ".join(self.targets)]
        for place in order:
            at = np.unravel_index(place, self.joint.shape)
            lines.append(
                f"  {self.joint[at]:.4f}  " + ", ".join(str(s[i]) for s, i in zip(self.states, at, strict=True))
            )
        rest = self.joint.size - len(order)
        return [*lines, f"  ... {rest} more"] if rest > 0 else lines


@dataclass(frozen=True)
class Evidence:
    """What is known, in codes.

    Attributes:
        codes: node -> code or number (in the table's own units).
        soft: discrete node -> ``(L,)`` likelihoods of its states.
        forced: nodes set by intervention.
    """

    codes: dict[str, float]
    soft: dict[str, np.ndarray]
    forced: frozenset[str]


def check_states(sizes: Sequence[int]) -> None:
    """Refuse more states of several nodes together than are counted or scored one by one.

    Raises:
        CapabilityError: says how many there are.
    """
    if math.prod(sizes) > MOST_STATES:
        raise CapabilityError(
            f"The {len(sizes)} targets have {math.prod(sizes):.3g} states together, more than {MOST_STATES}; ask for fewer."
        )


def number_or_day(value: float, kind: str) -> str:
    """Four digits of a number; of days since 1970 the date."""
    return str(np.datetime64(round(value), "D")) if kind == "datetime" else f"{value:.4g}"


def impossible(shown: Mapping[str, Any]) -> DataError:
    """What is said of evidence that the model rules out."""
    told = ", ".join(f"{name} = {value}" for name, value in shown.items())
    return DataError(
        f"What is given has probability zero under this model ({told}): nothing follows from it. Check these values, or"
        " fit with a prior, which leaves no state impossible."
    )


def out_of_reach(shown: Mapping[str, Any], draws: int) -> DataError:
    """What is said where no draw agrees with the evidence: it need not be impossible."""
    told = ", ".join(f"{name} = {value}" for name, value in shown.items())
    return DataError(
        f"None of {draws} weighted draws agrees with what is given ({told}): it is impossible under this network, or very"
        " improbable. Check these values, raise draws, or ask with method='exact'."
    )
