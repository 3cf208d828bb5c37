"""What a topic of the course is, and the list of all of them."""

import ast
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from probgen import plots

FAST = bool(os.environ.get("PROBGEN_FAST"))
REGISTERED: list["Topic"] = []
"""Of all files, in the order in which they were imported."""


@dataclass(frozen=True)
class Topic:
    """One topic.

    Attributes:
        function: its example; returns a figure, and numbers by what they are.
        title, titulo: its name in English and in Spanish.
        sentence, frase: what it is, in both languages.
        models: of the registry, that the example fits.
        source: authors and years.
        fast: arguments with which the example takes a second, and shows nothing worth seeing.
    """

    function: Callable[..., tuple[Figure, dict[str, float]]]
    title: str
    titulo: str
    sentence: str
    frase: str
    models: tuple[str, ...]
    source: str
    fast: dict[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def file(self) -> str:
        """Of the example, without its folder."""
        return Path(inspect.getsourcefile(self.function)).name

    def run(self, fast: bool = FAST) -> tuple[Figure, dict[str, float]]:
        """The figure, and the numbers as numbers."""
        with plots.house():
            figure, numbers = self.function(**(self.fast if fast else {}))
        return figure, {name: float(np.asarray(value)) for name, value in numbers.items()}

    def code(self) -> str:
        """The function as a student types it, without what is registered, behind all of these files that it uses."""
        source = inspect.getsource(self.function)
        first = ast.parse(source).body[0].lineno  # of def, below the decorator
        own = "\n".join(source.splitlines()[first - 1 :])
        used = {node.id for node in ast.walk(ast.parse(own)) if isinstance(node, ast.Name)}
        return "\n\n\n".join(
            [*(definition(self.function, name) for name in sorted(used) if ours(self.function, name)), own]
        )


def ours(function: Callable, name: str) -> bool:
    """Whether a global name is a helper or data of these files."""
    found = function.__globals__.get(name)
    return name.isupper() or getattr(found, "__module__", "").startswith("course_topics")


def definition(function: Callable, name: str) -> str:
    """The lines that define a helper, or data of the function's own file."""
    found = function.__globals__[name]
    if inspect.isfunction(found):
        return inspect.getsource(found).rstrip()
    source = inspect.getsource(inspect.getmodule(function))
    at = next(
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name
    )
    return "\n".join(source.splitlines()[at.lineno - 1 : at.end_lineno])


def topic(
    title: str, titulo: str, sentence: str, frase: str, *, models: Sequence[str] = (), source: str = "", **fast: object
) -> Callable:
    """Register a function as a topic; ``fast`` are its arguments in the fast mode."""

    def registered(function: Callable) -> Callable:
        REGISTERED.append(Topic(function, title, titulo, sentence, frase, tuple(models), source, fast))
        return function

    return registered
