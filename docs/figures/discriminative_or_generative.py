"""The figures of prediction, from the scores that ``FIGURES=folder python -m benchmarks prediction`` wrote: ``python docs/figures/discriminative_or_generative.py [folder]``.

Given the folder, the scores kept beside this file are replaced.
"""

import json
import sys
from pathlib import Path

from probgen import plots
from probgen.studies.prediction import PredictionStudy

HERE = Path(__file__).parent
KEPT = HERE / "discriminative_or_generative.json"
TITLES = ("breast tumours", "german credit", "census", "white wine")
SHOWN = ("generative, stacked", "discriminative, stacked", "gradient_boosting_imputed")
FIELDS = ("method", "family", "rows", "holes", "repeat", "log_loss", "ece")


def collected(folder):
    """Of every set: records of the fields that are drawn, and bins of confidence."""
    found = {}
    for title in TITLES:
        told = json.loads((Path(folder) / f"{title.replace(' ', '_')}.json").read_text())
        records = [[round(v, 5) if isinstance(v, float) else v for v in map(r.get, FIELDS)] for r in told["records"]]
        bins = {
            key: [[round(b["confidence"], 4), round(b["accuracy"], 4), b["count"]] for b in value]
            for key, value in told["reliability"].items()
            if key.split("|")[0] in SHOWN
        }
        found[title] = {
            "levels": told["levels"],
            "families": told["families"],
            "records": records,
            "reliability": bins,
        }
    return found


if len(sys.argv) > 1:
    KEPT.write_text(json.dumps(collected(sys.argv[1])))
kept = json.loads(KEPT.read_text())
studies, curves = {}, {}
for title, told in kept.items():
    records = [dict(zip(FIELDS, record, strict=True)) for record in told["records"]]
    study = studies[title] = PredictionStudy(title, tuple(told["levels"]), records, told["families"], {}, {})
    curves[title] = {
        share: {
            name: [
                dict(zip(("confidence", "accuracy", "count"), b, strict=True))
                for b in told["reliability"][f"{name}|{share}"]
            ]
            for name in SHOWN
        }
        for share in study.holes
    }
plots.discriminative_or_generative(studies).savefig(HERE / "discriminative_or_generative.png", dpi=110)
plots.reliability_by_holes(curves).savefig(HERE / "discriminative_or_generative_reliability.png", dpi=110)
