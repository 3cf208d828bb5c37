"""Tell how far a study is: a bar, a callback, or silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Progress", "reporting"]

Progress = bool | Callable[[str, float], None]
Tell = Callable[[str], None]

BAR = "{desc:<36.36} |{bar:24}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]"


@contextmanager
def reporting(progress: Progress, steps: int) -> Iterator[Tell]:
    """A function to call with the name of each step as it begins.

    Args:
        progress: True for a bar on the error stream, False for silence, or a function of the step's name and the
            share of the steps done so far.
        steps: how many there will be.
    """
    if callable(progress):
        yield counting(progress, steps)
        progress("done", 1.0)
    elif progress:
        from tqdm import tqdm

        with tqdm(total=steps, bar_format=BAR) as bar:
            yield counting(lambda name, share: show(bar, name, share * steps), steps)
            show(bar, "done", steps)
    else:
        yield lambda _: None


def counting(tell: Callable[[str, float], None], steps: int) -> Tell:
    """Calls with a name become calls with a name and the share of steps that ended before it."""
    begun = 0

    def step(name: str) -> None:
        nonlocal begun
        tell(name, min(begun / max(steps, 1), 1.0))
        begun += 1

    return step


def show(bar: object, name: str, done: float) -> None:
    """Move a tqdm bar to where we are."""
    bar.set_description_str(name, refresh=False)  # type: ignore[attr-defined]
    bar.n = round(done)  # type: ignore[attr-defined]
    bar.refresh()  # type: ignore[attr-defined]
