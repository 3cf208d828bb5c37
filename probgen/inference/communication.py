"""Several processes that fit one model together, over ``torch.distributed``; one process is the null case.

The processes are started by ``torchrun`` (PyTorch's launcher), which tells each its number in environment variables.
Tensors on the CPU travel by gloo, those on GPUs by NCCL where every process of a machine has a GPU of its own.
"""

from __future__ import annotations

import atexit
import datetime
import multiprocessing
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Communicator", "OneProcess", "ProcessGroup", "communicator", "first_to_fail", "told_failure"]

PATIENCE = datetime.timedelta(days=1)  # that a process waits for the others: chains end at different times
TELLING = datetime.timedelta(seconds=5)  # that a process waits for another one to print the error of both
Nested = TypeVar("Nested")  # a number, a tensor, or dictionaries and lists of them


class Communicator(ABC):
    """What processes that compute together say to each other.

    Attributes:
        rank: this process's number, from 0.
        size: the number of processes.

    All processes have to call the same methods in the same order, with tensors of the same shapes.
    """

    rank: int
    size: int

    @property
    def leads(self) -> bool:
        """True in the one process that prints and writes files."""
        return self.rank == 0

    @abstractmethod
    def all_reduce(self, value: Nested) -> Nested:
        """The sum over processes of numbers, tensors, and dictionaries and lists of them, the same in every process."""

    @abstractmethod
    def broadcast(self, value: Nested) -> Nested:
        """What the process of rank 0 has, in every process."""

    @abstractmethod
    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all processes by rank; their first dimensions may differ."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait until all processes are here."""

    def concatenate(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes one after the other along their first dimension, in the order of ranks."""
        return torch.cat(self.all_gather(tensor))

    def mean(self, vector: Tensor, weight: float = 1.0) -> Tensor:
        """Weighted mean over processes: what adaptation pooled over all chains needs, one call an iteration.

        Args:
            vector: means over this process's chains, of variances, of the gradient of the trajectory's length, of
                acceptance: whatever is averaged over chains, in one vector.
            weight: how many chains that is.

        Every process has to take the same iterations: a method that calls this leaves :attr:`Method.in_step` true.
        """
        total: dict[str, Any] = self.all_reduce({"sum": vector * weight, "weight": float(weight)})
        return total["sum"] / total["weight"]

    def share(self, count: int) -> range:
        """Which of ``count`` things fall to this process; the first processes have one more where it does not divide."""
        each, left = divmod(count, self.size)
        first = self.rank * each + min(self.rank, left)
        return range(first, first + each + (self.rank < left))


class OneProcess(Communicator):
    """The null case: nothing to say to anyone.

    Example:
        >>> alone = OneProcess()
        >>> alone.all_reduce({"count": 3.0}), alone.share(4)
        ({'count': 3.0}, range(0, 4))
    """

    rank, size = 0, 1

    def all_reduce(self, value: Nested) -> Nested:
        return value

    def broadcast(self, value: Nested) -> Nested:
        return value

    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        return [tensor]

    def barrier(self) -> None:
        pass


class ProcessGroup(Communicator):
    """The default group of ``torch.distributed``."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.by_gpu = "nccl" in str(dist.get_backend_config())

    def all_reduce(self, value: Nested) -> Nested:
        return self.together(value, dist.all_reduce)

    def broadcast(self, value: Nested) -> Nested:
        return self.together(value, lambda flat: dist.broadcast(flat, 0))

    def together(self, value: Nested, act: Any) -> Nested:
        """Apply a collective operation to all leaves at once, one message for each dtype."""
        found = [as_tensor(leaf) for leaf in leaves(value)]
        done: dict[int, Tensor] = {}
        for dtype in dict.fromkeys(leaf.dtype for leaf in found):
            places = [at for at, leaf in enumerate(found) if leaf.dtype == dtype]
            flat = torch.cat([self.on_the_way(found[at]).reshape(-1) for at in places])
            act(flat)
            parts = flat.split([found[at].numel() for at in places])
            done |= {at: part.reshape(found[at].shape).to(found[at].device) for at, part in zip(places, parts)}
        return rebuilt(value, iter([done[at] for at in range(len(found))]))

    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        lengths = [torch.zeros(1, dtype=torch.long) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(tensor)]))
        rows = [int(length) for length in lengths]
        padded = self.on_the_way(tensor.new_zeros(max(rows), *tensor.shape[1:]))
        padded[: len(tensor)] = tensor.detach()
        found = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(found, padded)
        return [part[:count].to(tensor.device) for part, count in zip(found, rows)]

    def barrier(self) -> None:
        dist.all_reduce(torch.zeros(1))

    def on_the_way(self, tensor: Tensor) -> Tensor:
        """A tensor without its history, where the group can read it."""
        return tensor.detach() if self.by_gpu else tensor.detach().cpu()


def as_tensor(leaf: Any) -> Tensor:
    """Numbers travel in double precision."""
    return leaf if isinstance(leaf, Tensor) else torch.tensor(float(leaf), dtype=torch.float64)


def leaves(value: Any) -> Iterator[Any]:
    """Numbers and tensors in dictionaries and lists, in order."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        yield value
        return
    for part in value:
        yield from leaves(part)


def rebuilt(value: Any, new: Iterator[Tensor]) -> Any:
    """The same dictionaries and lists with other leaves."""
    if isinstance(value, dict):
        return {key: rebuilt(part, new) for key, part in value.items()}
    if isinstance(value, list):
        return [rebuilt(part, new) for part in value]
    return next(new) if isinstance(value, Tensor) else type(value)(next(new))


# -------------------------------------------------------------------------------------------------- starting
def communicator() -> Communicator:
    """The processes that ``torchrun`` started, or that the user's script has already joined; else this one alone."""
    if dist.is_available() and dist.is_initialized():
        return ProcessGroup() if dist.get_world_size() > 1 else OneProcess()
    if not launched():
        return OneProcess()
    join()
    return ProcessGroup()


def launched() -> bool:
    """True in a process that ``torchrun`` started beside others; its own helpers compute alone."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ
    return several and dist.is_available() and multiprocessing.parent_process() is None


def join() -> None:
    """Meet the other processes."""
    store, rank, size = meeting_place()
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", size)), torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)) % gpus)
    backend = "cpu:gloo,cuda:nccl" if gpus >= here else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    atexit.register(dist.destroy_process_group)


@cache
def meeting_place() -> tuple[Any, int, int]:
    """The launcher's store of keys and values, this process's rank, and the number of processes."""
    return next(dist.rendezvous("env://"))


# ---------------------------------------------------------------------------------------------------- failing
def first_to_fail() -> bool:
    """True in the process that is to tell the error; the others wait until it is told, so that it is told once.

    A process that ends with an error makes ``torchrun`` end the others, so none waits for ever.
    """
    if not launched():
        return True
    try:
        store = meeting_place()[0]
        if store.add("probgen/failed", 1) == 1:
            return True
        store.wait(["probgen/told"], TELLING)
    except RuntimeError:  # the store is gone, and with it the process that kept it and has failed
        pass
    return False


def told_failure() -> None:
    """Let the processes end that wait for the error to be told."""
    if launched():
        meeting_place()[0].set("probgen/told", "1")
