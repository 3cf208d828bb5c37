"""Networks that take noise away: a U-net finds the pixels where they are, and learns pictures of which cells are unknown."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import silu

import probgen as pg
from probgen.data import Schema
from probgen.families.dequantised_cells import DequantisedCells
from probgen.families.noised_cells import NoisedCells
from probgen.families.timed_networks import TimedUNet, timed_network


def mixed(rows=40, shape=(5, 3, 2)):
    """Grey levels of two channels, some unknown, a label and a number."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 8, (rows, *shape)).astype(float)
    x[rng.random(x.shape) < 0.1] = np.nan
    others = {"label": rng.choice(["a", "b", "c"], rows), "height": rng.normal(size=rows)}
    return pg.Table.from_images(x, levels=8, others=others)


@pytest.mark.parametrize("cells_of", [NoisedCells, DequantisedCells])
def test_what_is_said_of_a_pixel_comes_from_that_pixel(cells_of):
    """Weights that hand a channel on without looking around."""
    schema = mixed().schema
    schema = schema.select(["label", *schema.names[:30], "height"])
    cells = cells_of(schema)
    net = timed_network(schema, cells, (4,), network="unet")
    first, last = net.net.first, net.net.last
    each = len(cells.owner[cells.owner == 1]) + 2  # numbers and two masks of a pixel
    for parameter in (first.weight, first.bias):
        torch.nn.init.zeros_(parameter)
    first.weight.data[0, each, 1, 1] = 1.0  # the number of the second channel's pixel
    first.weight.data[1, 1, 1, 1] = 1.0  # the mask of the first one's that are modelled
    said = len(cells.said[cells.said == 1])
    last.weight.data[said, 0, 1, 1] = 1.0  # the first thing that is said of the second channel's pixel
    last.weight.data[0, 1, 1, 1] = 1.0
    read = torch.randn(2, 7, len(cells.owner) + 2 * len(schema))
    out = net(read, torch.zeros(2, 7))
    assert out.shape == (2, 7, len(cells.said))
    number = torch.stack([read[..., torch.nonzero(cells.owner == at)[0, 0]] for at in range(1, 31)], -1)
    told = torch.stack([out[..., torch.nonzero(cells.said == at)[0, 0]] for at in range(1, 31)], -1)
    masks = read[..., len(cells.owner) + 1 : len(cells.owner) + 31]
    torch.testing.assert_close(told[..., 1::2], silu(number[..., 1::2]))
    torch.testing.assert_close(told[..., ::2], silu(masks[..., ::2]))


def test_pixels_and_other_columns_tell_of_each_other():
    schema = mixed().schema
    cells = NoisedCells(schema)
    torch.manual_seed(0)
    net = timed_network(schema, cells, (4, 8), network="unet")
    for parameter in net.parameters():
        parameter.data = torch.randn_like(parameter) / parameter.shape[-1] ** 0.5 / 3
    read, pixel = torch.randn(1, 1, len(cells.owner) + 2 * len(schema)), cells.said < 30
    label, first = (torch.nonzero(cells.owner == at)[0, 0] for at in (schema.index("label"), 0))

    def moved(place):
        return (net(read + torch.eye(read.shape[-1])[place], torch.zeros(1, 1)) - net(read, torch.zeros(1, 1)))[0, 0]

    assert (moved(label)[pixel].abs() > 0).all()
    assert (moved(first)[~pixel].abs() > 0).all()
    assert (net(read, torch.ones(1, 1)) != net(read, torch.zeros(1, 1))).all()


def stripes(rows=400):
    """Pictures of 6 x 6 binary pixels in vertical stripes, one pixel in twenty wrong: 36 pixels that are 6 bits and some noise."""
    rng = np.random.default_rng(0)
    bars = np.broadcast_to(rng.integers(2, size=(rows, 1, 6)), (rows, 6, 6))
    return pg.Table.from_images((bars ^ (rng.random((rows, 6, 6)) < 0.05)).astype(bool))


def test_a_u_net_learns_pictures_with_holes_and_completes_them():
    table = stripes()
    values = np.array(table.values)
    values[:200][np.random.default_rng(1).random((200, 36)) < 0.1] = np.nan
    fit = pg.fit(
        "diffusion", table.with_values(values), network="unet", hidden=(16, 16), max_steps=100, learning_rate=5e-3,
        draw_steps=10, seed=0, progress=False,
    )  # fmt: skip
    alone = -36 * np.log(2)
    assert fit.log_prob(table.take(range(200, 400)), draws=20).mean().value > alone + 6
    test = table.take(range(200, 260))
    hidden = test.hide(*test.names[18:])
    drawn = np.stack([one.values for one in fit.fill(hidden, 2)])
    assert (drawn[:, :, :18] == test.values[:, :18]).all()
    assert (drawn[:, :, 18:] == test.values[:, 18:]).mean() > 0.65  # 0.5 by chance


@pytest.mark.parametrize("model", ["score_sde", "continuous_flow"])
def test_other_processes_take_a_u_net(model):
    x = np.random.default_rng(0).normal(size=(60, 4, 5)).cumsum(1)
    table = pg.Table.from_images(x)
    fit = pg.fit(model, table, network="unet", hidden=(8, 8), draw_steps=3, max_steps=10, progress=False)
    assert isinstance(fit.program.network, TimedUNet)
    assert np.isfinite(fit.log_prob(table.take(range(3))).value).all()
    assert np.isfinite(fit.sample(2).values).all()


def test_a_u_net_needs_pictures_of_one_size():
    with pytest.raises(pg.CapabilityError, match="network='unet' is for pictures, and these columns are none"):
        pg.fit("diffusion", np.zeros((9, 2)) + np.arange(9)[:, None], network="unet", progress=False)
    schema = mixed(shape=(2, 2)).schema
    other = pg.Table.from_images(np.random.default_rng(0).random((5, 3, 2)) > 0.5, name="other").schema
    both = Schema((*schema.columns, *other.columns), images=(*schema.images, *other.images))
    with pytest.raises(pg.CapabilityError, match=r"pictures of one size, got 'image' 2 x 2, 'other' 3 x 2"):
        timed_network(both, NoisedCells(both), (4,), network="unet")
    with pytest.raises(pg.CapabilityError, match="network must be one of 'mlp', 'unet', got 'cnn'"):
        timed_network(schema, NoisedCells(schema), (4,), network="cnn")
