"""Which models a study fits, and how it fits them one by one."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from probgen.data.table import Table
from probgen.errors import CapabilityError, FitError, ProbgenError
from probgen.program import accepted_options, available, find
from probgen.queries import Fit, fit

__all__ = ["GROUPS", "check_options", "default_models", "fit_models", "settings_of"]

Models = Sequence[str] | Mapping[str, Mapping[str, Any]] | None
GROUPS = ("quick", "deep", "all")  # names that stand for models
# first methods of models whose fit takes minutes: thousands of steps of a network
OF_ALL = ("max_steps", "restarts", "callback")  # options of every fit
BY_GRADIENT = ("svi", "contrastive", "adversarial", "unnormalised")


def default_models(table: Table, group: str = "all", samplers: bool = False) -> list[str]:
    """Every registered model with a density that the columns allow; models of sequences where there are any.

    Args:
        table: to be fitted to.
        group: "quick", those fitted by other means than thousands of steps along gradients; "deep", the others; or "all".
        samplers: also those that state no density but a distribution that rows can be drawn from.
    """
    schema = table.schema
    labelled = any(column.kind in ("categorical", "binary") for column in schema)
    return [
        name
        for name, traits in available().items()
        if (traits.density != "none" or (samplers and not (traits.conditionals or traits.unpaired)))
        and group in ("all", "deep" if traits.methods[0] in BY_GRADIENT else "quick")
        and all(column.kind in traits.kinds for column in schema)
        and (not traits.sequences or table.lengths is not None)
        and (labelled or not traits.labelled)
    ]


def settings_of(models: Models, table: Table, samplers: bool = False) -> dict[str, dict[str, Any]]:
    """Options by model, a group's for all that it stands for; the quick ones where none is named.

    Raises:
        CapabilityError: a group without a model for these columns.
    """
    named = "quick" if models is None else models
    given = (
        named if isinstance(named, Mapping) else {key: {} for key in ([named] if isinstance(named, str) else named)}
    )
    found: dict[str, dict[str, Any]] = {}
    for name, own in given.items():
        members = default_models(table, name, samplers) if name in GROUPS else [name]
        if not members:
            raise CapabilityError(
                f"No model of the group {name!r} takes these columns; name models, or one of {', '.join(GROUPS)}."
            )
        for member in members:
            before = found.get(member, {})
            found[member] = {**own, **before} if name in GROUPS else {**before, **own}
    return found


def fit_models(
    table: Table,
    models: Models,
    *,
    target: str | None,
    seed: int,
    progress: bool,
    options: Mapping[str, Any] | None = None,
    samplers: bool = False,
) -> tuple[dict[str, Fit], dict[str, str]]:
    """Fits by model name, and the messages of those that failed.

    Raises:
        FitError: every model failed.
    """
    fits, failures = {}, {}
    for name, own in settings_of(models, table, samplers).items():
        keywords = {**allowed(name, {**(options or {}), "target": target}), **own}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # told by fit.diagnostics
                fits[name] = fit(name, table, seed=seed, progress=progress, **keywords)
        except (ProbgenError, RuntimeError) as error:  # RuntimeError: a matrix that cannot be decomposed
            failures[name] = str(error)
    if not fits:
        raise FitError("Every model failed: " + "; ".join(f"{name}: {message}" for name, message in failures.items()))
    return fits, failures


def check_options(options: Mapping[str, Any], models: Iterable[str]) -> None:
    """Refuse an option of all models that none of them takes: it would be lost without a word.

    Raises:
        CapabilityError: there is one.
    """
    known = {*OF_ALL}.union(*(accepted_options(find(name)) for name in models))
    for name in options:
        if name not in known:
            near = get_close_matches(name, sorted(known), 1)
            raise CapabilityError(
                f"None of the models {', '.join(models)} takes the option {name!r}.{f' Did you mean {near[0]!r}?' if near else ''}"
                f" Options of a fit go with its model: models={{{next(iter(models))!r}: {{{name!r}: ...}}}}."
            )


def allowed(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that this model, or its fit, can take."""
    own = accepted_options(find(name))
    return {k: v for k, v in options.items() if v is not None and (k in own or k in OF_ALL)}
