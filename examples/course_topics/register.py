"""What a topic of the course is, and the list of all of them."""

import ast
import inspect
import os
import textwrap
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
        """The function as a student types it, without what is registered."""
        source = textwrap.dedent(inspect.getsource(self.function))
        first = ast.parse(source).body[0].lineno  # of def, behind the decorator
        return "\n".join(source.splitlines()[first - 1 :])


def topic(
    title: str, titulo: str, sentence: str, frase: str, *, models: Sequence[str] = (), source: str = "", **fast: object
) -> Callable:
    """Register a function as a topic; ``fast`` are its arguments in the fast mode."""

    def registered(function: Callable) -> Callable:
        REGISTERED.append(Topic(function, title, titulo, sentence, frase, tuple(models), source, fast))
        return function

    return registered
