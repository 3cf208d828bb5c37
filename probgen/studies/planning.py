"""What fills a table and where its parameters come from, decided before any work; what does not go together is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from probgen.errors import CapabilityError
from probgen.inference.fit import find_method, methods_of
from probgen.program import find
from probgen.whole import is_whole

__all__ = ["POSTERIOR", "UNCERTAINTIES", "Plan", "able_to", "planned"]

UNCERTAINTIES = {
    "bootstrap": "refits with random row weights (Bayesian bootstrap)",
    "posterior": "draws from the posterior (chained equations, data augmentation, or Hamiltonian chains)",
    "laplace": "a normal distribution at the posterior's mode",
    "ensemble": "refits from other starts on rows with random weights, for models with networks",
    "none": "one estimate: improper, intervals will be too short",
}
"""Where the m parameters come from."""

POSTERIOR = ("chained", "gibbs", "chees")  # methods that draw from the posterior, in order of preference
DRAWING = (*POSTERIOR, "nuts", "smc", "pathfinder", "advi")  # all of them, the approximate ones too
OF_CHAINS = ("products", "scales", "matching", "sweeps")  # options that say nothing of a column that stands alone

REASON = (
    "Chosen: chained equations. Every column is regressed on all others and their products under a prior that keeps the few"
    " that matter, so that analyses with interactions, curves and ratios find what they look for."
)
REASON_WITH_MASK = "Chosen: one normal distribution; richer ones leave the mask nothing to explain."
REASON_ALONE = (
    "Chosen: the column's own distribution, smoothed. There is no other column that could tell of its cells."
)
REASON_ALONE_IN_PART = (
    "Chosen: one distribution of the family that fits the column's kind. There is no other column that could tell of its"
    " cells, and cells known by halves need a tail that reaches beyond the known ones."
)


@dataclass(frozen=True, eq=False)
class Plan:
    """What fills a table.

    Attributes:
        model: a name or a Model.
        uncertainty: where the m parameters come from.
        options: of the model and of the method.
        reason: for the model, where it was chosen for the user.
    """

    model: Any
    uncertainty: str
    options: dict[str, Any]
    reason: str = ""


def planned(
    model: Any,
    m: int,
    uncertainty: str | None,
    options: Mapping[str, Any],
    columns: int,
    *,
    augmented: bool = False,
    masked: bool = False,
) -> Plan:
    """The model, its options, and where parameters come from.

    Args:
        model: as asked for; "auto" is decided here.
        m: number of imputations.
        uncertainty: as asked for; the first that the model can have where None.
        options: of the model and of the method.
        columns: how many the model sees.
        augmented: whether some cells are known by halves, or rows stand in groups.
        masked: whether there is a model of the mask.

    Raises:
        CapabilityError: options that contradict each other, or the number of columns.
    """
    model, reason, options = chosen(model, dict(options), columns, augmented, masked)
    able = able_to(model)
    if columns == 1 and "chained" in able:
        raise CapabilityError(
            "Chained equations regress every column on the others, and there is only one column; use model='auto', which"
            " draws it from its own distribution."
        )
    if masked:
        return Plan(model, bootstrap_only(uncertainty), options, reason)
    found = usual(able) if uncertainty is None else uncertainty
    return Plan(model, found, agreed(able, m, found, options), reason)


def able_to(model: Any) -> tuple[str, ...]:
    """The methods that a model can be fitted by."""
    return methods_of(find(model) if isinstance(model, str) else model)


def chosen(
    model: Any, options: dict[str, Any], columns: int, augmented: bool, masked: bool
) -> tuple[Any, str, dict[str, Any]]:
    """The model that fills, why it was chosen, and its options."""
    if not (isinstance(model, str) and model == "auto"):
        return model, "", options
    if masked:
        return "gaussian_mixture", REASON_WITH_MASK, {"components": 1, **options}
    if columns > 1:
        return "chained_equations", REASON, options
    rest = {name: value for name, value in options.items() if name not in OF_CHAINS}
    if augmented:
        return "gaussian_mixture", REASON_ALONE_IN_PART, {"components": 1, **rest}
    return "gaussian_copula", REASON_ALONE, rest


def usual(methods: Sequence[str]) -> str:
    """Where parameters come from unless told."""
    if "bootstrap" in methods:
        return "bootstrap"
    return "posterior" if set(POSTERIOR) & set(methods) else "ensemble"


def bootstrap_only(uncertainty: str | None) -> str:
    if uncertainty not in (None, "bootstrap"):
        raise CapabilityError(f"With a mechanism, uncertainty must be 'bootstrap', got {uncertainty!r}.")
    return "bootstrap"


# ------------------------------------------------------------------------------------------------- what contradicts
def agreed(able: Sequence[str], m: int, uncertainty: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options without those that only repeat what m and ``uncertainty`` say; contradictions are refused."""
    check_able(able, uncertainty)
    check_method(able, uncertainty, options.get("method"))
    if options.get("method") in (None, "auto", uncertainty):
        options = {name: value for name, value in options.items() if name != "method"}
    if "draws" not in options:
        return options
    if uncertainty == "bootstrap" or ("chained" in able and uncertainty in ("posterior", "none")):
        check_draws(options["draws"], m, uncertainty)
        return {name: value for name, value in options.items() if name != "draws"}
    check_enough(able, m, uncertainty, options)
    return options


def check_able(able: Sequence[str], uncertainty: str) -> None:
    """Refuse a source of parameters that the model does not have."""
    lacks = {
        "bootstrap": "bootstrap" not in able,
        "laplace": "laplace" not in able,
        "posterior": not set(POSTERIOR) & set(able),
    }
    if lacks.get(uncertainty):
        what = "has no posterior to draw from" if uncertainty == "posterior" else f"has no method {uncertainty!r}"
        raise CapabilityError(f"This model {what} ({', '.join(able)}); use uncertainty={usual(able)!r}.")
    if uncertainty == "ensemble" and "chained" in able:
        raise CapabilityError(
            "uncertainty='ensemble' refits to rows with random weights, and the method 'chained' draws the parameters of each"
            " refit from their posterior: their uncertainty would count twice. Use uncertainty='posterior'."
        )


def check_method(able: Sequence[str], uncertainty: str, method: Any) -> None:
    """Refuse a method that says something else than ``uncertainty`` of where parameters come from."""
    if method in (None, "auto", uncertainty):
        return
    if uncertainty in ("bootstrap", "laplace"):
        raise CapabilityError(f"uncertainty={uncertainty!r} has a method of its own; leave out method={method!r}.")
    if uncertainty == "posterior" and method not in DRAWING:
        draws = ", ".join(name for name in DRAWING if name in able)
        raise CapabilityError(
            f"uncertainty='posterior' needs draws of the parameters, and method={method!r} gives one estimate; leave it out,"
            f" or name one of {draws}."
        )
    if uncertainty == "ensemble" and method in (*DRAWING, "bootstrap", "laplace"):
        raise CapabilityError(
            f"uncertainty='ensemble' refits to rows with random weights, and method={method!r} draws parameters besides: their"
            " uncertainty would count twice. Leave out method, or use uncertainty='posterior'."
        )


def check_draws(draws: Any, m: int, uncertainty: str) -> None:
    """Draws of the parameters, where there is one for each imputation."""
    if uncertainty == "none" and draws != 1:
        raise CapabilityError(f"uncertainty='none' has one estimate of the parameters; leave out draws={draws!r}.")
    if uncertainty != "none" and draws != m:
        raise CapabilityError(
            f"There is one draw of the parameters for each imputation, m={m}; leave out draws={draws!r}, or say m={draws!r}."
        )


def check_enough(able: Sequence[str], m: int, uncertainty: str, options: Mapping[str, Any]) -> None:
    """Every imputation has parameters of its own."""
    if uncertainty not in ("posterior", "laplace"):
        return
    name = next(one for one in POSTERIOR if one in able) if uncertainty == "posterior" else uncertainty
    chains = options.get("chains", find_method(options.get("method", name)).defaults.get("chains", 1))
    draws = options["draws"]
    if is_whole(draws) and is_whole(chains) and draws * chains < m:
        raise CapabilityError(
            f"draws={draws} of {chains} chain{'s' if chains > 1 else ''} are fewer than m={m}: tables would share their"
            f" parameters. Ask for at least {-(-m // chains)} draws, or leave them out."
        )
