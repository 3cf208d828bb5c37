"""Tables in, tensors out."""

from probgen.data.amputation import ampute_patterns
from probgen.data.datasets import describe, load, names
from probgen.data.masks import (
    mask_above_mean,
    mask_mar_logistic,
    mask_mcar,
    mask_mnar_logistic,
    mask_mnar_quantiles,
    mask_mnar_self_masked,
)
from probgen.data.missing import Flux, MissingPatterns, ampute, flux, missing_patterns
from probgen.data.parts import Pictures, Sounds, Texts
from probgen.data.reading import read_table
from probgen.data.schema import KINDS, Column, Image, Schema
from probgen.data.streams import ParquetFolder
from probgen.data.table import Table

__all__ = [
    "KINDS",
    "Column",
    "Flux",
    "Image",
    "MissingPatterns",
    "ParquetFolder",
    "Pictures",
    "Schema",
    "Sounds",
    "Table",
    "Texts",
    "ampute",
    "ampute_patterns",
    "describe",
    "flux",
    "load",
    "mask_above_mean",
    "mask_mar_logistic",
    "mask_mcar",
    "mask_mnar_logistic",
    "mask_mnar_quantiles",
    "mask_mnar_self_masked",
    "missing_patterns",
    "names",
    "read_table",
]
