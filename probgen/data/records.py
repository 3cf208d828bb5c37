"""Records as Parquet files, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

__all__ = ["frame_of_records", "write_parquet"]


def frame_of_records(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a record, a column a key of any of them, in the order in which they turn up."""
    keys = dict.fromkeys(key for record in records for key in record)
    return pd.DataFrame(list(records), columns=list(keys))


def write_parquet(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A file that appears when it is complete."""
    beside = path.with_name(path.name + ".part")
    frame_of_records(records).to_parquet(beside, index=False)
    beside.replace(path)
