"""What networks read of rows."""

import numpy as np
import pytest
import torch

from probgen.data import Column, Schema
from probgen.data.batches import feature_columns, features, n_features, read_column

KINDS = {
    "real": Column("a", "real"),
    "positive": Column("b", "positive"),
    "bounded": Column("c", "bounded", bounds=(0.0, 5.0)),
    "steps": Column("d", "count", bounds=(2.0, 10.0)),
    "other steps": Column("e", "count", bounds=(0.0, 4.0)),
    "count": Column("f", "count"),
    "semicontinuous": Column("g", "semicontinuous"),
    "ordinal": Column("h", "ordinal", levels=("low", "mid", "high")),
    "categorical": Column("i", "categorical", levels=tuple("xyz")),
    "binary": Column("j", "binary", levels=("no", "yes")),
}


@pytest.mark.parametrize(("name", "cell", "numbers"), [
    ("real", 1.5, [1.5]), ("positive", np.e, [1.0]), ("bounded", 0.75, [0.5]), ("steps", 4.0, [-0.5]), ("count", 0.0, [-1.0]),
    ("semicontinuous", 0.0, [0.0, 0.0]), ("semicontinuous", np.e, [1.0, 1.0]), ("ordinal", 2.0, [1.0]),
    ("categorical", 1.0, [0.0, 1.0, 0.0]), ("binary", 1.0, [1.0]),
])  # fmt: skip
def test_a_cell_is_read_in_numbers_of_order_one(name, cell, numbers):
    read = features(torch.tensor([[cell], [torch.nan]]), Schema((KINDS[name],)), masks=True)
    np.testing.assert_allclose(read[0], [*numbers, 0.0], atol=1e-6)
    assert read[1].tolist() == [0.0] * len(numbers) + [1.0]


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_columns_read_together_are_read_as_one_by_one(seed, masks):
    rng = np.random.default_rng(seed)
    kinds = [KINDS[str(name)] for name in rng.choice(sorted(KINDS), 30)]
    schema = Schema(
        tuple(Column(f"x{at}", column.kind, column.levels, column.bounds) for at, column in enumerate(kinds))
    )
    x = torch.tensor(rng.integers(0, 2, (3, 4, 30)) * rng.random((3, 4, 1)), dtype=torch.float32)
    x[torch.tensor(rng.random(x.shape) < 0.2)] = torch.nan
    pieces = [read_column(x[..., at], column) for at, column in enumerate(schema)]
    read = features(x, schema, masks)
    assert torch.equal(read[..., : len(feature_columns(schema))], torch.cat(pieces, -1))
    assert read.shape[-1] == n_features(schema, masks)
    assert feature_columns(schema) == [at for at, piece in enumerate(pieces) for _ in range(piece.shape[-1])]
