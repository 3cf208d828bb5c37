"""What a comparison is of: models with their options under titles, refused before any work where an option is nobody's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from probgen.data.table import Table
from probgen.errors import CapabilityError
from probgen.inference.fit import find_method, methods_of
from probgen.program import accepted_options, find
from probgen.studies.models import BY_GRADIENT, GROUPS, Models, default_models

__all__ = ["Entry", "entries_of"]

OF_FITS = ("method", "max_steps", "tolerance", "restarts", "validation_fraction", "device", "dtype")
OURS = ("seed", "progress", "checkpoint", "checkpoint_seconds", "callback", "workers")


@dataclass(frozen=True)
class Entry:
    """One line of the table.

    Attributes:
        title: its name there.
        model: name in the registry.
        options: of :func:`probgen.fit`.
    """

    title: str
    model: str
    options: Mapping[str, Any]

    @property
    def method(self) -> str:
        """By which it is fitted."""
        named = str(self.options.get("method", "auto"))
        return find(self.model).traits.methods[0] if named == "auto" else named

    @property
    def by_gradient(self) -> bool:
        """Whether its fit takes thousands of steps along gradients, so that the number of steps is an effort."""
        return self.method in BY_GRADIENT


def entries_of(models: Models, table: Table, target: str | None, options: Mapping[str, Any]) -> list[Entry]:
    """One entry a model (or title), with the options of all that it accepts.

    Args:
        models: names, groups, or a mapping from these, or from titles, to options; those of a title name their ``model``.
        table: whose columns groups have to suit.
        target: for models that need a labelled column.
        options: for every model that accepts them.

    Raises:
        CapabilityError: no such model, one without a density, or an option that no model it is meant for takes.
    """
    given = named(models)
    found: dict[str, Entry] = {}
    for key, own in given.items():
        check_ours(own)
        for entry in of_group(key, own, table) if key in GROUPS else [single(key, own)]:
            before = found.get(entry.title)
            if before is None or key not in GROUPS:  # what is said of one model outweighs what is said of its group
                merged = {**(before.options if before and before.model == entry.model else {}), **entry.options}
                found[entry.title] = Entry(entry.title, entry.model, merged)
            else:
                found[entry.title] = Entry(before.title, before.model, {**entry.options, **before.options})
    entries = [with_shared(entry, {**options, "target": target}) for entry in found.values()]
    check_ours(options)
    check_taken(options, entries, "of the models compared")
    check_inputs(entries)
    if not entries:
        raise CapabilityError("compare got no model; name models, or one of " + ", ".join(GROUPS) + ".")
    return entries


def named(models: Models) -> dict[str, Mapping[str, Any]]:
    """Everything as a mapping."""
    if isinstance(models, Mapping):
        wrong = [key for key, own in models.items() if not isinstance(own, Mapping)]
        if wrong:
            raise CapabilityError(f"models[{wrong[0]!r}] must be a mapping of options, got {models[wrong[0]]!r}.")
        given = dict(models)
    else:
        several = isinstance(models, Iterable) and not isinstance(models, str)
        keys: Iterable[Any] = models if several else ["all"] if models is None else [models]  # type: ignore[assignment]
        given = {key: {} for key in keys}
    for key in given:
        if not isinstance(key, str):
            raise CapabilityError(f"Models are given by their names, and titles are words; got {key!r}.")
    return given


def of_group(group: str, own: Mapping[str, Any], table: Table) -> list[Entry]:
    """All models that the name stands for, each with those of the options that it takes."""
    names = default_models(table, group)
    if not names:
        raise CapabilityError(
            f"No model of the group {group!r} takes these columns; name models, or one of {', '.join(GROUPS)}."
        )
    entries = [Entry(name, name, {k: v for k, v in own.items() if k in accepted(name, own)}) for name in names]
    check_taken(own, entries, f"of the group {group!r}")
    return entries


def single(title: str, own: Mapping[str, Any]) -> Entry:
    """One model, under its own name or a title."""
    model = own.get("model", title)
    options = {key: value for key, value in own.items() if key != "model"}
    if find(model).traits.density == "none":
        raise CapabilityError(
            f"{model!r} states no density, which compare ranks by; see pg.density_study(..., measures=True) for its draws."
        )
    unknown = [key for key in options if key not in accepted(model, options)]
    if unknown:
        raise CapabilityError(f"{model!r} has no option {unknown[0]!r}.{hint(unknown[0], accepted(model, options))}")
    return Entry(title, model, options)


def accepted(model: str, options: Mapping[str, Any]) -> set[str]:
    """The options of this model, of fits, and of the method that it is fitted by."""
    cls = find(model)
    method = options.get("method", "auto")
    method = cls.traits.methods[0] if method == "auto" or method not in methods_of(cls) else method
    return {*accepted_options(cls), *OF_FITS, *find_method(method).defaults}


def with_shared(entry: Entry, options: Mapping[str, Any]) -> Entry:
    """With those of everybody's options that it takes and has not set itself."""
    takes = accepted(entry.model, {**options, **entry.options})
    shared = {key: value for key, value in options.items() if key in takes and (key != "target" or value is not None)}
    return Entry(entry.title, entry.model, {**shared, **entry.options})


def check_taken(options: Mapping[str, Any], entries: Iterable[Entry], whose: str) -> None:
    """Refuse an option that nobody takes: it is misspelt, or its model is missing."""
    takes = set().union(*(accepted(entry.model, {**options, **entry.options}) for entry in entries))
    for key in options:
        if key not in takes:
            raise CapabilityError(f"None {whose} has an option {key!r}.{hint(key, takes)}")


def check_ours(options: Mapping[str, Any]) -> None:
    for key in options:
        if key in OURS:
            raise CapabilityError(
                f"{key!r} is no option of a model here: compare gives every fit its own. Leave it out."
            )


def check_inputs(entries: Sequence[Entry]) -> None:
    """Refuse densities of different cells: columns that are conditioned on have none."""
    inputs = {entry.title: tuple(entry.options.get("inputs") or ()) for entry in entries}
    if len(set(inputs.values())) > 1:
        raise CapabilityError(
            "Log densities of different columns cannot be compared: inputs are "
            + ", ".join(f"{list(value)} of {title!r}" for title, value in inputs.items())
            + ". Give all models the same inputs."
        )


def hint(key: str, known: Iterable[str]) -> str:
    near = get_close_matches(key, list(known), 1)
    return f" Did you mean {near[0]!r}?" if near else f" There are: {', '.join(sorted(known))}."
