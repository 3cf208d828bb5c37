"""The figure of odd penguins, drawn anew: ``python docs/figures/anomalies.py``."""

from pathlib import Path

import probgen as pg
from probgen import plots

penguins = pg.load_dataset("penguins")
usual, new = penguins.split(0.85, 0.15, seed=3)
frame = new.to_pandas()
frame.loc[frame.index[3], "species"] = "Gentoo"  # of the body of an Adelie
frame.loc[frame.index[10], "bill_depth_mm"] += 8.0
frame.loc[frame.index[20], "body_mass_g"] *= 0.1  # a zero was lost
odd = pg.Table(frame, schema=penguins.schema)
study = pg.anomaly_study(
    usual, odd, {"latent_class": {"components": 6}}, scores=["cells", "surprise"], calibration=0.5, progress=False
)
plots.anomalies(study, level=0.2, most=9).savefig(Path(__file__).parent / "anomalies.png", dpi=110)
