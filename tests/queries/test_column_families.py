"""Saved fits say by which family each column was fitted, and are not read by another."""

import io
import json
import zipfile

import numpy as np
import pytest

import probgen as pg
from probgen.data import Column, Schema, Table
from probgen.families.node_columns import NodeColumns
from probgen.queries.column_families import families_of
from probgen.queries.persistence import from_bytes, to_bytes

SCHEMA = Schema((Column("c", "count", bounds=(0, 5)), Column("x", "real"), Column("y", "real")))
SHORT = {"vae": {"latent": 1, "hidden": (4,), "max_steps": 2}, "kernel_density": {"bandwidth": 0.5}}


def fitted(name, schema=SCHEMA):
    values = np.random.default_rng(0).integers(0, 6, (30, 3)).astype(float)
    return pg.fit(name, Table.from_codes(values, schema), progress=False, **SHORT.get(name, {}))


def edited(content: bytes, change) -> bytes:
    """The file with its description changed."""
    new = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(new, "w") as made:
        config = json.loads(old.read("config.json"))
        change(config)
        made.writestr("config.json", json.dumps(config))
        made.writestr("tensors.safetensors", old.read("tensors.safetensors"))
    return new.getvalue()


def of_the_past(config):
    del config["families"]


@pytest.fixture(scope="module")
def network() -> bytes:
    return to_bytes(fitted("vae"))


def test_the_file_says_each_columns_family(network):
    with zipfile.ZipFile(io.BytesIO(network)) as archive:
        told = json.loads(archive.read("config.json"))["families"]
    assert told == {"columns": {"c": "discretised_logistic6", "x": "real", "y": "real"}}
    assert families_of(from_bytes(network).program) == told


def test_another_family_is_not_taken_for_it(network):
    content = edited(network, lambda config: config["families"]["columns"].update(c="count"))
    with pytest.raises(
        pg.DataError, match=r"column 'c' was fitted by the family 'count'.*'discretised_logistic6'; fit it again"
    ):
        from_bytes(content)


@pytest.mark.parametrize("name", ["vae", "kernel_density"])
def test_old_files_in_which_nobody_can_tell_are_refused(name, network):
    content = network if name == "vae" else to_bytes(fitted(name))
    assert from_bytes(content).name == name
    with pytest.raises(pg.DataError, match=r"does not say by which family column 'c'.*\(0, 5\).*fit it again"):
        from_bytes(edited(content, of_the_past))


def test_old_files_are_read_where_parameters_or_columns_tell():
    mixture = to_bytes(fitted("gaussian_mixture"))
    assert from_bytes(edited(mixture, of_the_past)).name == "gaussian_mixture"
    plain = to_bytes(fitted("kernel_density", SCHEMA.with_kind("c", "count")))
    assert from_bytes(edited(plain, of_the_past)).name == "kernel_density"


def test_columns_of_nodes_have_their_families_too():
    told = {"c": "discretised_logistic6_0", "x": "real_1", "y": "real_2"}
    assert families_of(NodeColumns(SCHEMA, 2)) == {"": told}
