"""Where a fit stands, as a file of tensors from which the same fit goes on after an interruption."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from probgen.errors import FitError
from probgen.inference.communication import Communicator

__all__ = ["Checkpoint", "Progress"]


@dataclass
class Progress:
    """How far one attempt of a fit has come.

    Attributes:
        state: what the method's ``unpack`` goes on from; empty before the first step.
        history: numbers of the steps so far.
        steps: how many.
        done: whether the method has ended, and whether because it converged.
        failure: the error that ended it, or nothing.
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    history: dict[str, list[float]] = field(default_factory=dict)
    steps: int = 0
    done: bool = False
    converged: bool = False
    failure: str = ""

    def tensors(self) -> dict[str, Tensor]:
        """All but the failure."""
        found = {f"state|{key}": value.detach().contiguous().clone() for key, value in self.state.items()}
        found |= {f"history|{key}": torch.tensor(v, dtype=torch.float64) for key, v in self.history.items()}
        return found | {"reached": torch.tensor([self.steps, self.done, self.converged])}

    def put(self, path: str, value: Tensor) -> None:
        """One of :meth:`tensors`, read back."""
        what, _, key = path.partition("|")
        if what == "state":
            self.state[key] = value
        elif what == "history":
            self.history[key] = value.tolist()
        else:
            self.steps, self.done, self.converged = int(value[0]), bool(value[1]), bool(value[2])


@dataclass
class Checkpoint:
    """A file (with several processes one each) that says where all attempts of a fit stand.

    Args:
        path: of the file.
        purpose: what makes a fit the same fit: model, method, seed, options, data.
        processes: those that fit together; beside the file of one process theirs end in ``.1of2``, ``.2of2``.
        in_step: whether all take every step together, so that their files have to agree.
    """

    path: Path
    purpose: dict[str, Any]
    processes: Communicator
    in_step: bool

    @property
    def own(self) -> Path:
        """This process's file."""
        size = self.processes.size
        return self.path if size == 1 else self.path.with_name(f"{self.path.name}.{self.processes.rank + 1}of{size}")

    def save(self, attempts: list[Progress]) -> None:
        """Write to a neighbour first, so that an interruption never leaves half a file."""
        tensors = {f"{n}|{k}": v for n, attempt in enumerate(attempts) for k, v in attempt.tensors().items()}
        about = {
            "purpose": json.dumps(self.purpose, default=float),
            "failures": json.dumps([a.failure for a in attempts]),
        }
        beside = self.own.with_name(self.own.name + ".part")
        save_file(tensors, beside, metadata=about)
        if self.in_step:
            self.processes.barrier()
        beside.replace(self.own)

    def load(self) -> list[Progress]:
        """Where the attempts stood; nothing where there is no file.

        Raises:
            FitError: the file cannot be read, is of another fit, or of another number of processes.
        """
        self.check_processes()
        attempts = self.read() if self.own.exists() else []
        if self.in_step:
            self.check_agreement(attempts)
        return attempts

    def read(self) -> list[Progress]:
        try:
            with safe_open(self.own, "pt") as file:
                about, tensors = file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise FitError(f"The checkpoint {self.own} cannot be read ({error}); delete it to start anew.") from error
        self.check_purpose(json.loads(about.get("purpose", "{}")))
        attempts = [Progress(failure=failure) for failure in json.loads(about["failures"])]
        for path, value in tensors.items():
            number, _, rest = path.partition("|")
            attempts[int(number)].put(rest, value)
        return attempts

    def check_purpose(self, found: dict[str, Any]) -> None:
        wanted = json.loads(json.dumps(self.purpose, default=float))
        for key in wanted | found:
            if wanted.get(key) != found.get(key):
                raise FitError(
                    f"The checkpoint {self.own} is of another fit: its {key} was {found.get(key)!r}, now it is"
                    f" {wanted.get(key)!r}. Delete the file to start anew, or name another."
                )

    def check_processes(self) -> None:
        """Refuse to start anew where another number of processes has left off."""
        size = self.processes.size
        pattern = f"{self.path.name}.*of*"
        others = [self.path] if size > 1 else []
        others += [p for p in self.path.parent.glob(pattern) if p.suffix[1:].replace("of", "").isdigit()]
        for file in others:
            if file.exists() and not (size > 1 and file.suffix.endswith(f"of{size}")):
                raise FitError(
                    f"The checkpoint {file} is of another number of processes than {size}. Start as many as then, delete"
                    " it to start anew, or name another file."
                )

    def check_agreement(self, attempts: list[Progress]) -> None:
        """Refuse files of which one process wrote its last and another did not."""
        reached = torch.tensor([[len(attempts), attempts[-1].steps if attempts else 0]])
        if len(self.processes.concatenate(reached).unique(dim=0)) > 1:
            raise FitError(
                f"The processes' checkpoints beside {self.path} are of different steps, because the fit was stopped while"
                " they were written; delete them to start anew."
            )
