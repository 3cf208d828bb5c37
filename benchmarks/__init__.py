"""Benchmarks: our figure beside a peer's, measured alternately in one process.

A benchmark is a file ``benchmarks/<name>.py`` with a generator ``cases()`` of dictionaries;
``python -m benchmarks <name>`` prints each as one line of JSON. Time is CPU time of one thread, so
that other work on the machine does not count.
"""

from __future__ import annotations

import pkgutil
import statistics
import time
from collections.abc import Callable
from typing import Any

__all__ = ["names", "paired", "seconds"]


def names() -> list[str]:
    """The benchmarks there are: the files of this package."""
    return sorted(info.name for info in pkgutil.iter_modules(__path__) if info.name[0] != "_")


def seconds(run: Callable[[], Any]) -> float:
    """CPU time of one run, in seconds."""
    before = time.process_time()
    run()
    return time.process_time() - before


def paired(
    ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int = 5, warm_up: bool = True
) -> dict[str, float]:
    """Time two ways of doing the same, in turn, so that a drift of the machine hits both.

    Args:
        ours: our way.
        theirs: the peer's way.
        repeats: pairs of timed runs.
        warm_up: run each once before, untimed.

    Returns:
        Seconds ``ours`` and ``theirs`` (the least of the repeats), ``ratio`` ours / theirs of
        those, and ``ratio_median``, the median of the pairs' own ratios. Below 1 we are faster.
    """
    if warm_up:
        ours(), theirs()
    pairs = [measure(ours, theirs, swap=bool(i % 2)) for i in range(repeats)]
    best, peer = min(a for a, _ in pairs), min(b for _, b in pairs)
    middle = statistics.median(a / b for a, b in pairs)
    return {"ours": best, "theirs": peer, "ratio": best / peer, "ratio_median": middle}


def measure(ours: Callable[[], Any], theirs: Callable[[], Any], swap: bool) -> tuple[float, float]:
    """One pair of times; the order changes from pair to pair."""
    if swap:
        second = seconds(theirs)
        return seconds(ours), second
    return seconds(ours), seconds(theirs)
