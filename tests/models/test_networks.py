"""Networks by name: shapes, pictures, and rows as sets of their known cells."""

import warnings

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import probgen as pg
from probgen import nn
from probgen.data.batches import features, n_features
from probgen.families import Columns
from probgen.families.latent import decoder
from probgen.families.networks import encoder, reads_masks
from probgen.nn.convolution import sizes_of

NETWORKS = ("mlp", "residual", "convolution", "set", "attention")
QUICK = {"progress": False, "seed": 0}


def digits():
    pytest.importorskip("sklearn")
    grey = pg.load_dataset("digits")
    return pg.Table.from_images(grey.images() > 7.5)


def grey_and_label(rows=40, shape=(5, 7, 2)):
    """Grey levels of two channels, some unknown, a label and a number."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 8, (rows, *shape)).astype(float)
    x[rng.random(x.shape) < 0.1] = np.nan
    others = {"label": rng.choice(["a", "b", "c"], rows), "height": rng.normal(size=rows)}
    return pg.Table.from_images(x, levels=8, others=others)


# -------------------------------------------------------------------------------------------------------------- shapes
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (5, 7), (1, 1), (13, 4)])
def test_pictures_keep_their_size(size):
    small = nn.ConvolutionEncoder(2, *size)
    vectors = small(torch.randn(3, 2, *size))
    assert vectors.shape == (3, small.outputs)
    assert max(sizes_of(*size)[-1]) <= 7
    assert nn.ConvolutionDecoder(4, 3, *size)(torch.randn(3, 4)).shape == (3, 3, *size)
    net = nn.UNet(2, 3, widths=(8, 16, 24), condition=5)
    assert net(torch.randn(3, 2, *size), torch.randn(3, 5)).shape == (3, 3, *size)


def test_a_u_net_reads_its_condition_and_the_whole_picture():
    net = nn.UNet(1, 1, widths=(8, 16, 16), condition=2)
    for parameter in net.parameters():
        parameter.data = torch.randn_like(parameter) / parameter.shape[-1] ** 0.5 / 3
    x, told = torch.randn(1, 1, 9, 9), torch.zeros(1, 2)
    before = net(x, told)
    assert not torch.equal(before, net(x, told + 1))
    x[0, 0, 0, 0] += 5.0
    assert (net(x, told) - before)[0, 0, 8, 8].abs() > 0


@pytest.mark.parametrize("widths", [(4, 2), (4, 16, 2), (4, 16, 16, 8, 2)])
def test_residual_networks_have_a_block_a_layer(widths):
    net = nn.residual(*widths)
    assert net(torch.randn(2, 3, 4)).shape == (2, 3, 2)
    assert sum(type(part).__name__ == "ResidualBlock" for part in net) == len(widths) - 2


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("hidden", [(), (12,), (12, 8)])
def test_every_network_reads_and_writes_every_kind(network, hidden):
    table = grey_and_label()
    columns, masks = Columns(table.schema), reads_masks(network)
    read = encoder(table.schema, *hidden, 6, network=network)
    x = torch.tensor(table.values, dtype=torch.float32)
    z = read(features(x, table.schema, masks))
    assert z.shape == (40, 6)
    assert n_features(table.schema, masks) == features(x, table.schema, masks).shape[1]
    write = decoder(6, *hidden, columns=columns, network=network, schema=table.schema)
    for shape in ((40,), (3, 40), ()):
        assert write(torch.randn(*shape, 6)).shape == (*shape, columns.outputs)
    columns(write(z)).log_prob(x).sum().backward()
    assert all(p.grad.isfinite().all() for p in [*read.parameters(), *write.parameters()])


# ------------------------------------------------------------------------------------------------------------ pictures
def test_a_decoder_that_convolves_writes_each_pixel_in_its_place():
    """Everything but the last convolution's look at one place set to zero, a bright place stays where it is."""
    table = grey_and_label()
    columns = Columns(table.schema)
    write = decoder(6, columns=columns, network="convolution", schema=table.schema)
    picture = torch.arange(columns.outputs - len(write.last.bias), dtype=torch.float32)
    write.nets[0].forward = lambda h: picture.reshape(1, -1, 5, 7).expand(len(h), -1, -1, -1)
    output = write(torch.zeros(1, 6))[0]
    image = table.schema.image()
    for at, name in enumerate(image.names):
        r, c, channel = np.unravel_index(at, image.shape)
        places = columns.output_places[table.schema.index(name)]
        expected = picture.reshape(2, -1, 5, 7)[channel, :, r, c]  # log scale and location of this channel
        assert output[places].tolist() == expected.tolist()


def test_an_encoder_that_convolves_reads_each_pixel_in_its_place():
    table = grey_and_label()
    read = encoder(table.schema, 6, network="convolution")
    x = torch.tensor(table.values, dtype=torch.float32)
    grid = features(x, table.schema, True)[:, read.grids[0]]  # value, unknown, value, unknown
    pixels = torch.tensor(table.images(), dtype=torch.float32).permute(0, 3, 1, 2)
    assert torch.equal(grid[:, 1::2] > 0.5, pixels.isnan())
    assert_close(grid[:, 0::2], (2 * pixels / 7 - 1).nan_to_num())
    assert len(read.rest) == 3 + 1 + 2  # levels of the label, the number, a mask for both


def test_pictures_are_needed():
    table = pg.Table({"a": [0.0, 1.0, 2.5] * 5, "b": [1.0, 0.5, 2.0] * 5})
    with pytest.raises(pg.CapabilityError, match=r"Table\.from_images"):
        pg.fit("vae", table, network="convolution", **QUICK)
    with pytest.raises(pg.CapabilityError, match="network must be one of"):
        pg.fit("vae", table, network="recurrent", **QUICK)


# ---------------------------------------------------------------------------------------------------------------- sets
@pytest.mark.parametrize("hidden", [(), (32,)])
@pytest.mark.parametrize("network", ["set", "attention"])
def test_networks_of_cells_start_about_where_a_perceptron_does(network, hidden):
    """The first bound over seeds: its middle, and its worst, for a latent that starts far too wide is decoded far away."""
    table = pg.load_dataset("penguins").drop("species")

    def firsts(network):
        options = {"latent": 2, "hidden": hidden, "network": network, "max_steps": 1, "validation_fraction": 0.0}
        made = (pg.fit("vae", table, progress=False, seed=seed, **options) for seed in range(6))
        return np.array([fit.history["objective"][0] for fit in made])

    own, theirs = firsts(network), firsts("mlp")
    gap = 2.0 if hidden else 6.0  # without layers, either decodes wherever its latents fall
    assert np.median(own) > np.median(theirs) - gap
    assert own.min() > theirs.min() - 2 * gap


@pytest.mark.parametrize("latent", [1, 3])
@pytest.mark.parametrize("network", NETWORKS)
def test_without_layers_of_its_own_an_encoder_still_reads_the_row(network, latent):
    table = grey_and_label().drop("height")
    read = encoder(table.schema, 2 * latent, network=network)
    rows = features(torch.tensor(table.values), table.schema, masks=reads_masks(network)).float()
    said = read(rows)
    assert said.shape == (len(rows), 2 * latent)
    assert len(said.unique(dim=0)) == len(rows)


@pytest.mark.parametrize("network", ["set", "attention"])
def test_what_is_in_an_unknown_cell_does_not_enter(network):
    table = grey_and_label()
    read = encoder(table.schema, 16, 6, network=network)
    x = torch.tensor(table.values, dtype=torch.float32)
    x[:, 3:20] = torch.nan
    told = features(x, table.schema, True)
    other = told.clone()
    other[:, 3:20] = 1e4 * torch.randn(40, 17)
    assert torch.equal(read(told), read(other))
    known = x.clone()
    known[:, 3] = 2.0
    assert not torch.equal(read(told), read(features(known, table.schema, True)))


@pytest.mark.parametrize("kind", [nn.KnownCells, nn.Attention])
def test_the_order_of_columns_does_not_matter(kind):
    net, order = kind(range(7), 16, 16, 4), torch.randperm(7)
    again = kind(range(7), 16, 16, 4)
    again.load_state_dict(net.state_dict())
    again.embedding.column.data = net.embedding.column[order].detach()
    again.embedding.value.data = net.embedding.value[order].detach()
    numbers, known = torch.randn(5, 7), torch.rand(5, 7) < 0.6
    assert_close(again(numbers[:, order], known[:, order]), net(numbers, known))
    assert kind(range(7), 16, 4)(numbers, torch.zeros(5, 7, dtype=torch.bool)).isfinite().all()


def test_columns_of_several_numbers_are_one_cell():
    owners = [0, 1, 1, 1, 2]
    net = nn.KnownCells(owners, 8, 3)
    numbers = torch.randn(4, 5)
    by_hand = net.embedding.column.repeat(4, 1, 1)
    for at, owner in enumerate(owners):
        by_hand[:, owner] += numbers[:, at, None] * net.embedding.value[at]
    assert_close(net.embedding(numbers), by_hand)


# ---------------------------------------------------------------------------------------------------------------- fits
@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_learns_digits_and_answers_with_holes(network):
    table = digits()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pg.ConvergenceWarning)
        fit = pg.fit(
            "vae", table, network=network, latent=6, hidden=(32,), max_steps=100 if network in ("convolution", "attention") else 300,
            learning_rate=3e-3, validation_fraction=0.0, batch_size=64, **QUICK,
        )  # fmt: skip
    steps = fit.history["objective"]
    assert np.mean(steps[-10:]) > steps[0] + 10.0
    asked = table.take(slice(0, 12)).hide(*table.names[32:])
    assert fit.log_prob(asked, draws=20).value.mean() > -22.0
    filled = fit.fill(asked, draws=2)
    assert filled[0].known.all()
    np.testing.assert_array_equal(filled[1].values[:, :32], asked.values[:, :32])
    assert fit.decode(fit.embed(asked)).images().shape == (12, 8, 8, 1)


@pytest.mark.parametrize(
    ("model", "options"), [("conditional_vae", {"label": "label"}), ("hierarchical_vae", {"latent": (3, 2)})]
)
@pytest.mark.parametrize("network", ["convolution", "set"])
def test_other_models_take_networks_and_families_too(model, options, network, tmp_path):
    table = grey_and_label()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pg.ConvergenceWarning)
        fit = pg.fit(
            model, table, network=network, families={"real": "student_t"}, hidden=(8,), max_steps=20, **options, **QUICK
        )  # fmt: skip
    fit.save(tmp_path / "a.probgen")
    again = pg.load(tmp_path / "a.probgen")
    np.testing.assert_array_equal(again.embed(table), fit.embed(table))
    drawn = fit.fill(table, draws=1)[0].images()
    assert drawn.max() <= 7
    assert fit.log_prob(table, draws=5).value.shape == (40,)


def test_made_up_rows_of_a_prior_are_read_by_every_network():
    table = grey_and_label()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pg.ConvergenceWarning)
        fit = pg.fit(
            "vae", table, network="set", latent_prior="vamp", prior_components=3, hidden=(8,), max_steps=20, **QUICK
        )  # fmt: skip
    assert fit.program.prior.rows.shape == (3, n_features(table.schema, True))
    assert np.isfinite(fit.log_prob(table, draws=5).value).all()
