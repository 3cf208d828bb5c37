"""Rows cell by cell given what was read, by networks with random weights."""

from itertools import product

import numpy as np
import pytest
import torch

from probgen.data.groups import Sound, Tokens
from probgen.data.schema import Column, Schema
from probgen.families.row_chain import RowCells, RowChain
from probgen.families.row_readers import RowReader
from probgen.nn.translation import Decoder

ROWS, WIDTH = 20, 16


@pytest.fixture
def chain():
    """Texts of up to three letters and a label, of which every row has read something else; far from even."""
    text, levels = Tokens("t", 3), ("a", "b", "c", "<end>")
    columns = [Column(name, "categorical", levels=levels) for name in text.names]
    schema = Schema((*columns, Column("n", "binary", levels=(0, 1))), tokens=(text,))
    torch.manual_seed(0)
    cells = RowCells(schema, Decoder(WIDTH, 2, 2, len(schema))).eval()
    with torch.no_grad():
        for weight in cells.net.layers.parameters():
            weight.mul_(15.0 if weight.dim() > 1 else 1.0)
    return RowChain(cells, (torch.randn(ROWS, 3, WIDTH), torch.rand(ROWS, 3) < 0.9))


def every_row():
    """``(T, 4)`` of all texts with both labels."""
    texts = [[*text, *[3] * (3 - len(text))] for size in range(4) for text in product(range(3), repeat=size)]
    return torch.tensor([[*text, label] for text in texts for label in (0, 1)], dtype=torch.float32)


@torch.no_grad()
def test_every_draw_of_a_row_is_said_by_what_that_row_has_read(chain):
    rows = every_row()[:, None].expand(-1, ROWS, -1)
    together = chain.log_prob(rows)
    np.testing.assert_allclose(together.exp().sum(0), 1.0, atol=1e-5)
    for at in range(ROWS):
        alone = RowChain(chain.cells, tuple(part[at : at + 1] for part in chain.heard))
        np.testing.assert_allclose(alone.log_prob(every_row()), together[:, at], atol=1e-4)
    assert together.std(1).max() > 0.1


@pytest.mark.parametrize("beams", [1, 3, 100])
def test_a_search_scores_rows_by_their_log_densities(chain, beams):
    """What it remembers of a beginning is that beginning's own, through beams that change places."""
    found, score = chain.most_probable(torch.full((ROWS, 4), torch.nan), beams)
    with torch.no_grad():
        np.testing.assert_allclose(score, chain.log_prob(found), atol=1e-4)
        best = chain.log_prob(every_row()[:, None].expand(-1, ROWS, -1)).amax(0)
    assert (score <= best + 1e-4).all()
    if beams == 100:
        np.testing.assert_allclose(score, best, atol=1e-4)


def test_a_walk_draws_nothing_behind_an_end(chain):
    drawn = chain.sample((200,)).flatten(0, 1)
    over = (drawn[:, :3] == 3).cummax(1).values
    assert over.any()
    assert (drawn[:, :3][over] == 3).all()


# ------------------------------------------------------------------------------------------------ reading sounds
@pytest.fixture
def listener():
    sound = Sound("s", (8, 5), rate=8000)
    torch.manual_seed(0)
    reader = RowReader(
        Schema(tuple(Column(name, "real") for name in sound.names), images=(sound,)), WIDTH, masking=0.5
    )
    return reader.eval()


def recordings():
    """``(3, 40)``: eight frames of five bands, the last of which are silent."""
    sounds = torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(1))
    for at, end in enumerate((8, 5, 3)):
        sounds[at, end:] = -5.0
    return sounds.flatten(1)


def test_a_recording_is_read_beside_the_mean_of_what_is_heard_of_it(listener):
    grid = recordings().view(3, 1, 8, 5)
    read = listener.parts[0].levelled(grid)
    for at, end in enumerate((8, 5, 3)):
        heard = grid[at, 0, :end].numpy()
        centred = heard - heard.mean(0)
        np.testing.assert_allclose(read[at, 0, :end], centred / np.sqrt((centred**2).mean()), atol=1e-5)
        assert (read[at, 0, end:] == 0).all()
    assert (listener.parts[0].levelled(torch.full((1, 1, 8, 5), -5.0)) == 0).all()  # silence throughout


@torch.no_grad()
def test_bands_and_frames_are_silenced_only_while_a_network_learns(listener):
    said = listener(recordings())[0]
    torch.testing.assert_close(listener(recordings())[0], said, rtol=0, atol=0)
    listener.train()
    assert not torch.allclose(listener(recordings())[0], said)
    hidden = listener.parts[0].masked(torch.ones(500, 1, 8, 5)) == 0
    bands, frames = hidden[:, 0].all(1).sum(1), hidden[:, 0].all(2).sum(1)
    assert (bands.max(), frames.max()) == (3, 4)  # at most a half, of five and of eight
    assert (bands.min(), frames.min()) == (0, 0)
