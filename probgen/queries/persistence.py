"""A fit as one file: a zip of JSON and safetensors. Loading never runs code from the file."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networkx import DiGraph
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes

from probgen.data.batches import Standardiser
from probgen.data.files import check_goal, write_whole
from probgen.data.schema import Schema
from probgen.errors import CapabilityError, DataError
from probgen.inference.posterior import Posterior
from probgen.program import UserProgram, find
from probgen.queries.class_conditional import load_class_conditional
from probgen.queries.column_families import check_families, families_of
from probgen.queries.ensemble import CLASSES, load_ensemble
from probgen.queries.fit import Fit
from probgen.structure.graph import Graph

__all__ = ["from_bytes", "load", "save", "to_bytes"]

FORMAT = 1


def save(fit: Fit, path: Path, overwrite: bool) -> None:
    """Write next to the goal and move, so that nothing is lost or half written."""
    check_goal(path, overwrite)
    write_whole(path, to_bytes(fit), overwrite)


def to_bytes(fit: Fit) -> bytes:
    """The content of the file."""
    if isinstance(fit.program, UserProgram):
        raise CapabilityError(
            "A user's own functions cannot be saved without code; save fit.posterior or fit.to_arviz() instead."
        )
    tensors = {f"program/{key}": value for key, value in fit.program.state_dict().items()}
    for name, theta in fit.posterior.parameters.items():
        tensors |= {f"posterior/{name}/{key}": value for key, value in theta.items()}
    tensors |= {f"sites/{name}": value for name, value in fit.posterior.sites.items()}
    for name, statistics in fit.memory.items():
        tensors |= {f"memory/{name}/{key}": value for key, value in statistics.items()}
    tensors |= {f"history/{key}": torch.tensor(value, dtype=torch.float64) for key, value in fit.history.items()}
    assert fit.standardiser is not None
    for key in ("shift", "scale", "continuous"):
        tensors[f"standardiser/{key}"] = torch.from_numpy(np.ascontiguousarray(getattr(fit.standardiser, key)))
    config = {
        "format": FORMAT, "model": fit.name, "options": fit.program.options, "schema": json.loads(fit.schema.to_json()),
        "method": fit.method, "point": fit.posterior.point, "diagnostics": fit.diagnostics, "provenance": fit.provenance,
        "seconds": fit.seconds, "dtype": str(fit.dtype).removeprefix("torch."), "families": families_of(fit.program),
    }  # fmt: skip
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps(config, indent=1, default=plain))
        archive.writestr(
            "tensors.safetensors",
            tensors_to_bytes({k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}),
        )
    return content.getvalue()


def plain(value: Any) -> Any:
    """Numbers, tuples and graphs of other libraries as JSON knows them."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray | torch.Tensor):
        return value.tolist()
    if isinstance(value, Graph | DiGraph):
        return Graph.of(value).edges  # the parents of a node in their order
    return str(value)


def load(path: str | Path) -> Any:
    """A fit from its file, or an ensemble or the fits of classes from their folder.

    Raises:
        DataError: the file is missing, foreign, damaged, or made by a newer format.
    """
    folder = Path(path)
    if folder.is_dir():
        return load_class_conditional(folder) if (folder / CLASSES).exists() else load_ensemble(folder)
    if not Path(path).exists():
        raise DataError(f"There is no file {path}.")
    return from_bytes(Path(path).read_bytes(), str(path))


def from_bytes(content: bytes, path: str = "This") -> Fit:
    """The fit in the content of a file, which is called by its path in messages."""
    config, tensors = read(content, path)
    try:
        schema = Schema.from_json(json.dumps(config["schema"]))
        program = find(config["model"])(schema, **{k: revive(v) for k, v in config["options"].items()})
        parameters = nested(part(tensors, "posterior"))
        check_families(program, schema, config.get("families"), parameters, path)
        dtype = {"float32": torch.float32, "float64": torch.float64}[config["dtype"]]
        program.to(dtype)
        program.load_state_dict(part(tensors, "program"))
    except (KeyError, TypeError, RuntimeError) as error:
        raise DataError(
            f"{path} does not describe a fit that this version can rebuild ({error}); fit it again."
        ) from error
    program.eval()
    memory = nested(part(tensors, "memory"))
    arrays = {key: value.numpy() for key, value in part(tensors, "standardiser").items()}
    standardiser = Standardiser(arrays["shift"], arrays["scale"], arrays["continuous"])
    history = {key: value.tolist() for key, value in part(tensors, "history").items()}
    return Fit(
        program, schema, standardiser, Posterior(parameters, part(tensors, "sites"), config["point"]), config["method"], history,
        config["diagnostics"], config["provenance"], config["seconds"], dtype, torch.device("cpu"), memory=memory,
    )  # fmt: skip


def read(content: bytes, path: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The two parts of the file, or a message that says what is wrong with it."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            config = json.loads(archive.read("config.json"))
            tensors = tensors_from_bytes(archive.read("tensors.safetensors"))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, SafetensorError) as error:
        raise DataError(
            f"{path} is not a probgen model file, or it is damaged ({error}); fit and save it again."
        ) from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise DataError(
            f"{path} has format {config.get('format')!r}, this version reads {FORMAT}; update probgen or fit it again."
        )
    return config, tensors


def part(tensors: dict[str, torch.Tensor], folder: str) -> dict[str, torch.Tensor]:
    return {key[len(folder) + 1 :]: value for key, value in tensors.items() if key.startswith(f"{folder}/")}


def nested(tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """Keys "name/key" as two levels."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for path, value in tensors.items():
        name, _, key = path.rpartition("/")
        found.setdefault(name, {})[key] = value
    return found


def revive(value: Any) -> Any:
    """JSON turns tuples into lists."""
    return tuple(value) if isinstance(value, list) else value
