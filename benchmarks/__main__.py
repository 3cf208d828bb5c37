"""``python -m benchmarks NAME...`` prints one JSON line a case; ``all`` runs every benchmark."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks import names


def lines(name: str) -> Iterator[dict[str, Any]]:
    """The cases of one benchmark, each with the benchmark's name in front."""
    for case in importlib.import_module(f"benchmarks.{name}").cases():
        yield {"benchmark": name, **rounded(case)}


def rounded(case: dict[str, Any]) -> dict[str, Any]:
    """Numbers at the precision they deserve."""
    return {key: float(f"{value:.5g}") if isinstance(value, float) else value for key, value in case.items()}


def surroundings() -> dict[str, Any]:
    """What a reader has to know about the machine."""
    import torch

    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {**versions, "machine": platform.machine(), "threads": torch.get_num_threads()}


def main() -> int:
    """Run what was asked for."""
    known = names()
    listed = ", ".join(known) or "none yet"
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=f"There are: {listed}.")
    parser.add_argument("names", nargs="+", metavar="NAME", choices=[*known, "all"])
    asked = parser.parse_args().names
    import torch

    torch.set_num_threads(1)
    print(json.dumps({"surroundings": surroundings()}), file=sys.stderr)
    for name in known if "all" in asked else asked:
        for line in lines(name):
            print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
