"""The gallery of toy densities and every model with a density, drawn anew: ``KEPT=folder python docs/figures/toys.py``.

A fit that the folder already has is not made again, so that an interrupted gallery goes on; ``MODELS`` and ``TOYS`` choose. Options are those of ``python -m benchmarks toys``.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

import probgen as pg
from benchmarks.toys import LEFT_OUT, OPTIONS, ROWS
from probgen import plots
from probgen.data.toys import toy
from probgen.studies.models import default_models
from probgen.studies.toy_study import ToyStudy, toy_study

HERE = Path(__file__).parent
POINTS = 64
TOYS = os.environ.get("TOYS", ",".join(pg.toy_names()[:8])).split(",")
EVERY = [name for name in (*default_models(toy("banana", 50)), "energy") if name not in LEFT_OUT]


def one(model: str, name: str, kept: Path) -> dict:
    """Score, density on a grid and rows of one fit, from the folder where it has them."""
    path = kept / f"{model} {name}.npz"
    if not path.exists():
        found = toy_study({model: OPTIONS.get(model, {})}, [name], rows=ROWS, points=POINTS, progress=False)
        score = found.scores[0] if found.scores else {"failed": found.failures[name, model]}
        plane, drawn = found.planes.get((name, model), np.zeros(0)), found.drawn.get((name, model), np.zeros(0))
        np.savez(path, score=json.dumps(score, default=float), plane=plane, drawn=drawn)
    with np.load(path) as data:
        return {"score": json.loads(str(data["score"])), "plane": data["plane"], "drawn": data["drawn"]}


def main() -> None:
    """Fit what is missing, and draw."""
    kept = Path(os.environ.get("KEPT", "toys_kept"))
    kept.mkdir(exist_ok=True)
    models = os.environ.get("MODELS", ",".join(EVERY)).split(",")
    truth = toy_study({"gaussian_mixture": {"components": 1}}, TOYS, rows=ROWS, points=POINTS, progress=False)
    planes = {key: plane for key, plane in truth.planes.items() if not key[1]}
    study = ToyStudy(TOYS, models, [], truth.rows, planes=planes)
    for model in models:
        for name in TOYS:
            found = one(model, name, kept)
            if "failed" in found["score"]:
                study.failures[name, model] = found["score"]["failed"]
                continue
            study.scores.append(found["score"])
            study.planes[name, model], study.drawn[name, model] = found["plane"], found["drawn"]
    plots.toy_gallery(study).savefig(HERE / "toys.png", dpi=70)


main()
