"""Processes that work through tasks, and are stopped where one takes longer than it may.

A process that ends takes its task's result with it; it is replaced, and the task told as stopped or failed. Nothing of a user's
script is run in them, so that it needs no guard.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from types import ModuleType
from typing import Any, Protocol

__all__ = ["Ended", "Overdue", "Workers"]

LOOK = 0.2  # seconds between looks at the clock
GOING = 5.0  # seconds in which a process that waits has to end


class Runs(Protocol):
    """What is sent to every process once."""

    def run(self, task: Any, seconds: float) -> Any:
        """The result of one task that is stopped after so many seconds."""


class Overdue:
    """In place of a result: the task was stopped after so many seconds, which were all it might take."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Ended:
    """In place of a result: the process ended by itself, with this exit code; before it could begin where not ``started``."""

    def __init__(self, code: int | None, seconds: float, started: bool) -> None:
        self.code, self.seconds, self.started = code, seconds, started


class Worker:
    """One process and the task that it is at."""

    def __init__(self, runs: Runs) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        context = start_method()
        self.process = context.Process(target=work, args=(runs, theirs), daemon=True)
        with nothing_of_main(), one_thread_each():
            self.process.start()
        theirs.close()
        self.task: Any = None
        self.ready, self.began, self.limit = False, 0.0, float("inf")

    def give(self, task: Any, seconds: float) -> None:
        """A task; its time runs from here, or from when the process is ready."""
        self.task, self.began, self.limit = task, time.monotonic(), seconds
        self.connection.send((task, seconds))

    def spent(self) -> float:
        return time.monotonic() - self.began if self.ready else 0.0

    def end(self, at_once: bool = True) -> None:
        """Whatever it is doing; one that waits goes by itself when nobody is there to ask it."""
        self.connection.close()
        if not at_once:
            self.process.join(GOING)
        self.process.kill()
        self.process.join()


class Workers:
    """So many processes, started when there is something for them to do.

    Args:
        runs: what runs tasks.
        count: of processes.
    """

    def __init__(self, runs: Runs, count: int) -> None:
        self.runs, self.count = runs, count
        self.all: list[Worker] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: Any) -> None:
        for worker in self.all:
            worker.end(at_once=worker.task is not None)
        self.all = []

    def work(self, tasks: Sequence[Any], limit: Callable[[int], float]) -> Generator[tuple[Any, Any]]:
        """Tasks with their results, as they come.

        Args:
            tasks: what is to be done, begun in this order.
            limit: seconds that a task may take when so many, itself among them, have not begun.
        """
        waiting = list(tasks)
        while waiting or any(worker.task is not None for worker in self.all):
            while waiting and (worker := self.free()) is not None:
                seconds = limit(len(waiting))
                task = waiting.pop(0)
                if seconds <= 0:
                    yield task, Overdue(0.0)
                    continue
                worker.give(task, seconds)
            for worker in list(self.all):
                if worker.task is not None and worker.spent() > worker.limit:
                    yield worker.task, Overdue(worker.spent())
                    self.drop(worker)
            yield from self.heard()

    def free(self) -> Worker | None:
        """A process without a task."""
        for worker in self.all:
            if worker.task is None:
                return worker
        if len(self.all) == self.count:
            return None
        self.all.append(Worker(self.runs))
        return self.all[-1]

    def drop(self, worker: Worker) -> None:
        worker.end()
        self.all.remove(worker)

    def heard(self) -> Iterator[tuple[Any, Any]]:
        """Results that have come within a moment."""
        at = {worker.connection: worker for worker in self.all}
        for connection in wait(list(at), LOOK) if at else []:
            worker = at[connection]  # type: ignore[index]
            try:
                said = worker.connection.recv()
            except (EOFError, ConnectionResetError):
                worker.process.join()
                if worker.task is not None:
                    yield worker.task, Ended(worker.process.exitcode, worker.spent(), worker.ready)
                self.drop(worker)
                continue
            if not worker.ready:  # time spent on starting is nobody's
                worker.ready, worker.began = True, time.monotonic()
                continue
            task, worker.task = worker.task, None
            yield task, said


# ------------------------------------------------------------------------------------------------- in the other process
def work(runs: Runs, connection: Connection) -> None:
    """Tasks one after the other, until the other end is closed."""
    import torch
    from tqdm.auto import tqdm

    tqdm.set_lock(threading.RLock())  # one between processes would be left behind by those that are stopped
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asked decides
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    connection.send("ready")
    while True:
        try:
            task, seconds = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        connection.send(runs.run(task, seconds))


def end_with_parent() -> None:
    """No work goes on for a process that is no more."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def start_method() -> Any:
    """Copies of one server that has imported everything and done nothing, where the system can; else new processes."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["probgen.studies.compare_task"])
    return context


@contextmanager
def nothing_of_main() -> Iterator[None]:
    """The script that asks is not run again in the process that is started."""
    before = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = before


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Libraries of linear algebra count their threads when they are loaded."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
