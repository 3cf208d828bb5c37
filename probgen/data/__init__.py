"""Tables in, tensors out."""

from probgen.data.datasets import describe, load, names
from probgen.data.missing import ampute
from probgen.data.reading import read_table
from probgen.data.schema import KINDS, Column, Schema
from probgen.data.streams import ParquetFolder
from probgen.data.table import Table

__all__ = [
    "KINDS",
    "Column",
    "ParquetFolder",
    "Schema",
    "Table",
    "ampute",
    "describe",
    "load",
    "names",
    "read_table",
]
