"""The latent browser: its page computes what the fit decodes, follows pointer and keys, and asks nobody else."""

import json
import time

import numpy as np
import pytest
import torch
from torch import nn

import probgen as pg
from probgen.errors import CapabilityError, DataError, SchemaError
from probgen.report.exported_decoder import written
from probgen.report.operations import OPERATIONS, Constants, NotElementaryError, record
from probgen.report.pictures import pictures_of

QUICK = {"max_steps": 40, "seed": 0, "progress": False}


@pytest.fixture(scope="module")
def mixed():
    """One column of every kind, holes, and names and levels that HTML would read."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=150)
    table = pg.Table(
        {
            "height": 170 + 9 * x,
            "mass": np.exp(4 + 0.3 * x),
            "share": 1 / (1 + np.exp(-x - rng.normal(size=150))),
            "visits": rng.poisson(np.exp(1 + 0.5 * x)),
            "spent": np.where(rng.random(150) < 0.4, 0.0, np.exp(x)),
            "since": np.datetime64("2020-01-01") + (400 * rng.random(150)).astype("timedelta64[D]"),
            "kind": np.array(["</script><b>", "b & c", "d"], dtype=object)[np.digitize(x, [-0.5, 0.5])],
            "grade": np.array(["low", "middle", "high"], dtype=object)[np.digitize(-x, [-0.5, 0.5])],
            "smoker": np.array(["no", "yes"], dtype=object)[(x + rng.normal(size=150) > 0).astype(int)],
        }
    )
    schema = table.schema.with_kind("share", "bounded", bounds=(0, 1)).with_kind(
        "grade", "ordinal", ["low", "middle", "high"]
    )
    for name, kind in (("mass", "positive"), ("spent", "semicontinuous"), ("visits", "count")):
        schema = schema.with_kind(name, kind)
    values = table.values.copy()
    values[rng.random(values.shape) < 0.05] = np.nan
    return pg.Table(pg.Table.from_codes(values, table.schema).to_pandas(), schema=schema)


@pytest.fixture(scope="module")
def fits(mixed):
    """By name, made when they are asked for."""
    options = {
        "vae": {"latent": 2, "hidden": (16,)},
        "conditional_vae": {"latent": 3, "hidden": (16,), "label": "kind"},
        "hierarchical_vae": {"latent": (2, 2), "hidden": (16,)},
        "autoencoder": {"latent": 2, "hidden": (16,)},
        "probabilistic_pca": {"latent": 2},
        "factor_analysis": {"latent": 2},
    }
    made = {}

    def fit(name):
        if name not in made:
            made[name] = pg.fit(name, mixed, **options[name], **QUICK)
        return made[name]

    return fit


@pytest.fixture
def opened(browser, tmp_path):
    """Write a page and open it; at the end nothing was complained of, and nothing fetched."""

    def open_page(fit, table, **options):
        path = pg.latent_browser(fit, table, tmp_path / "latent.html", **options)
        browser.get_log("performance")
        browser.get(path.as_uri())
        settle(browser)
        return browser

    yield open_page
    if not browser.current_url.startswith("file:"):
        return
    assert browser.get_log("browser") == []
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    addresses = [m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"]
    assert addresses
    assert all(address.startswith(("file:", "data:image/png")) for address in addresses), addresses


def settle(browser):
    """Until what was asked for is drawn."""
    for _ in range(200):
        if browser.execute_script("return window.probgen.drawn() && !window.probgen.state().playing"):
            return
        time.sleep(0.02)
    raise AssertionError("the page is still drawing")


def state(browser):
    settle(browser)
    return browser.execute_script("return window.probgen.state()")


def decoded(browser, z, level=0):
    return browser.execute_script(
        "return window.probgen.decode(arguments[0], arguments[1])", list(map(float, z)), level
    )


def by_codes(found, schema):
    """As ``decode`` gives them: the probability of the second of two levels, and the most probable one of several."""
    as_code = {"binary": lambda shares: shares[1], "categorical": np.argmax, "ordinal": np.argmax}
    return [float(as_code.get(column.kind, float)(value)) for value, column in zip(found, schema, strict=True)]


# ------------------------------------------------------------------------------------------------- numbers
@pytest.mark.parametrize("name", ["vae", "hierarchical_vae", "autoencoder", "probabilistic_pca", "factor_analysis"])
def test_the_page_decodes_as_the_fit_does(opened, fits, mixed, name):
    fit = fits(name)
    page = opened(fit, mixed)
    codes = np.random.default_rng(1).normal(size=(12, fit.embed(mixed).shape[1]))
    found = np.array([by_codes(decoded(page, z), fit.schema) for z in codes])
    truth = fit.decode(codes).values
    np.testing.assert_allclose(found / fit.standardiser.scale, truth / fit.standardiser.scale, rtol=1e-4, atol=1e-4)


def test_levels_have_the_probabilities_of_the_decoders_outputs(opened, fits, mixed):
    """Read off the network by hand: the softmax of a categorical column's outputs, the sigmoid of a binary one's."""
    fit = fits("vae")
    page = opened(fit, mixed)
    z = np.array([0.7, -1.2])
    blocks = [block.name for block in fit.program.columns.blocks]
    sizes = [block.family.outputs for block in fit.program.columns.blocks]
    with torch.no_grad():
        outputs = dict(zip(blocks, fit.program.decoder(torch.tensor(z, dtype=fit.dtype)).split(sizes), strict=True))
    found = decoded(page, z)
    kind, smoker = (found[fit.schema.index(name)] for name in ("kind", "smoker"))
    np.testing.assert_allclose(kind, outputs["categorical3"].softmax(-1), atol=1e-4)
    np.testing.assert_allclose(smoker[1], outputs["binary"].sigmoid(), atol=1e-4)
    assert np.isclose(sum(found[fit.schema.index("grade")]), 1)


def test_a_label_is_given_to_the_decoder(opened, fits, mixed):
    fit = fits("conditional_vae")
    page = opened(fit, mixed)
    z, others = np.array([0.3, -0.4, 1.0]), [name for name in fit.schema.names if name != "kind"]
    expected = []
    for level in range(3):
        with torch.no_grad(), fit.setting():
            y, at = torch.tensor([level]), torch.tensor(z[None]).to(fit.dtype)
            expected.append(fit.program.described(at, y).mean[0].double().numpy())
    places = [fit.schema.index(name) for name in others]
    scale, shift = fit.standardiser.scale[places], fit.standardiser.shift[places]
    found = np.array([by_codes(decoded(page, z, level), fit.schema) for level in range(3)])[:, places]
    numbers = [not fit.schema[place].is_discrete for place in places]
    truth = np.array(expected) * scale + shift
    np.testing.assert_allclose((found / scale)[:, numbers], (truth / scale)[:, numbers], rtol=1e-4, atol=1e-4)
    page.find_elements("css selector", "#label span")[2].click()
    assert state(page)["level"] == 2
    assert np.ptp(found[:, 0]) > 0


def layered():
    """Most of what decoders of pictures are made of."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(3, 32), nn.GELU(), nn.LayerNorm(32), nn.Unflatten(1, (8, 2, 2)), nn.ConvTranspose2d(8, 6, 4, 2, 1, bias=False),
        nn.BatchNorm2d(6), nn.SiLU(), nn.Upsample(scale_factor=2), nn.Conv2d(6, 8, 3, padding=1, groups=2), nn.GroupNorm(2, 8), nn.ELU(),
        nn.PixelShuffle(2), nn.ZeroPad2d((1, 0, 0, 2)), nn.Conv2d(2, 3, 3, stride=2, dilation=2), nn.LeakyReLU(0.1), nn.Flatten(),
    ).eval()  # fmt: skip


def assorted(z):
    """Operations that networks of priors, skips and attention use."""
    a, b = z.split([1, 2], -1)
    wide = torch.cat([z, b.exp() / (1 + a.square()), torch.stack([a, a.sigmoid()], -1).flatten(1)], 1)
    attention = torch.softmax(wide[:, :, None] * wide[:, None, :] / 3, -1) @ wide[..., None]
    some = torch.where(wide > 0.1, wide.clamp(-0.5, 0.5), -wide.abs().sqrt())
    sums = [
        wide.cumsum(-1),
        wide.logsumexp(-1, keepdim=True),
        wide.amax(-1, keepdim=True),
        1 - wide.mean(-1, keepdim=True),
    ]
    rest = [
        torch.maximum(wide, some).log1p(),
        some.softmax(-1),
        some.log_softmax(-1),
        nn.functional.softplus(3 * wide, 2.0),
    ]
    more = [
        wide.T.reshape(1, -1)[:, 1::2],
        torch.erf(3 * wide),
        (wide + torch.zeros_like(wide))[:, torch.tensor([2, 0, -1])],
        (5 * wide).floor() - (5 * wide).ceil() * wide.sign(),
        nn.functional.logsigmoid(wide),
        wide.unflatten(1, (-1, 1)).sum(-1).argmax(-1, True),
    ]
    return torch.cat([attention[..., 0], *sums, *rest, *more], -1)


@pytest.mark.parametrize("function", [layered, lambda: assorted], ids=["layers", "operations"])
def test_operations_are_torchs(opened, fits, mixed, function):
    page, made, constants = opened(fits("vae"), mixed), function(), Constants()
    graph = record(made, torch.zeros(1, 3), constants)
    told = json.loads(json.dumps(written(constants)))
    for z in torch.randn(4, 3, generator=torch.Generator().manual_seed(1)).abs():
        with torch.no_grad():
            truth = made(z[None]).flatten().numpy()
        found = page.execute_script("return window.probgen.run(...arguments)", graph, told, z.tolist())
        np.testing.assert_allclose(found, truth, rtol=1e-4, atol=1e-4)


def test_the_page_knows_the_operations_that_are_written_down(opened, fits, mixed):
    page = opened(fits("vae"), mixed)
    assert set(page.execute_script("return window.probgen.operations")) == OPERATIONS


def test_what_a_page_cannot_compute_is_named():
    with pytest.raises(NotElementaryError, match="'atan'"):
        record(torch.atan, torch.zeros(1, 2), Constants())


# -------------------------------------------------------------------------------------------------- hands
def hands(browser):
    from selenium.webdriver.common.action_chains import ActionChains

    return ActionChains(browser, duration=40)


def plane(browser):
    return browser.find_element("id", "plane")


def click_point(browser, row):
    hands(browser).move_to_element_with_offset(plane(browser), *place_of(browser, row)).click().perform()


def place_of(browser, row):
    x, y = browser.execute_script("return window.probgen.place(arguments[0])", row)
    return round(x), round(y)


def far_apart(codes):
    """A row alone at the left, and one alone at the right."""
    gaps = np.linalg.norm(codes[:, None] - codes[None], axis=-1) + np.diag(np.full(len(codes), np.inf))
    alone = np.argsort(-gaps.min(1))[:20]
    return int(alone[codes[alone, 0].argmin()]), int(alone[codes[alone, 0].argmax()])


def test_dragging_the_ring_changes_the_sample(opened, fits, mixed):
    fit = fits("vae")
    page = opened(fit, mixed, colour="kind")
    before, shown = state(page)["z"], page.find_element("id", "sample").text
    x, y = page.execute_script("return window.probgen.handle()")
    way = hands(page).move_to_element_with_offset(plane(page), round(x), round(y)).click_and_hold()
    way.move_by_offset(60, 40).move_by_offset(70, -90).release().perform()
    after = state(page)["z"]
    assert np.linalg.norm(np.subtract(after, before)) > 0.1 * np.ptp(fit.embed(mixed), 0).min()
    assert page.find_element("id", "sample").text != shown
    height = page.find_elements("css selector", "#sample .column output")[0].text
    assert np.isclose(float(height), fit.decode(np.array([after])).values[0, 0], atol=0.1)


def test_two_points_are_walked_between(opened, fits, mixed):
    from selenium.webdriver.common.keys import Keys

    fit = fits("vae")
    page, codes = opened(fit, mixed), fit.embed(mixed)
    a, b = far_apart(codes)
    click_point(page, a)
    assert state(page)["ends"] == [a, -1]
    np.testing.assert_allclose(state(page)["z"], codes[a], atol=1e-5)
    click_point(page, b)
    assert state(page)["ends"] == [a, b]
    road = page.find_element("id", "road")
    road.send_keys(Keys.HOME)
    np.testing.assert_allclose(state(page)["z"], codes[a], atol=1e-5)
    page.execute_script("arguments[0].value = 250; arguments[0].dispatchEvent(new Event('input'))", road)
    np.testing.assert_allclose(state(page)["z"], 0.75 * codes[a] + 0.25 * codes[b], atol=1e-5)
    page.find_element("xpath", "//span[text()='spherical']").click()
    np.testing.assert_allclose(state(page)["z"], spherical(codes[a], codes[b], 0.25), atol=1e-5)
    steps = page.find_elements("css selector", "#strip thead button")
    assert len(steps) == 9
    steps[8].click()
    np.testing.assert_allclose(state(page)["z"], codes[b], atol=1e-5)


def spherical(a, b, t):
    """By a rotation of the first direction in the plane of both, its length changing evenly."""
    one, other = np.linalg.norm(a), np.linalg.norm(b)
    u = a / one
    v = b / other - (b / other @ u) * u
    v /= np.linalg.norm(v)
    angle = t * np.arccos(u @ b / other)
    return ((1 - t) * one + t * other) * (np.cos(angle) * u + np.sin(angle) * v)


def test_keys_and_play_move_the_ring(opened, fits, mixed):
    from selenium.webdriver.common.keys import Keys

    page = opened(fits("vae"), mixed)
    box, before = plane(page), np.array(state(page)["z"])
    box.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_UP)
    moved = np.array(state(page)["z"]) - before
    assert (moved > 0).all()
    box.send_keys(Keys.ENTER)
    assert state(page)["ends"][1] == -1
    box.send_keys(Keys.SHIFT, Keys.ARROW_LEFT)
    box.send_keys(Keys.ENTER)
    page.execute_script(
        "const p = performance.now; performance.now = () => p.call(performance) - 3000"
    )  # most of it has passed
    page.find_element("id", "play").click()
    for _ in range(100):
        if not page.execute_script("return window.probgen.state().playing"):
            break
        time.sleep(0.05)
    assert state(page)["t"] == 1


def test_other_coordinates_have_sliders(opened, fits, mixed):
    fit = fits("hierarchical_vae")
    page = opened(fit, mixed)
    before = np.array(state(page)["z"])
    slider = page.find_elements("css selector", "#sliders input")[0]
    page.execute_script("arguments[0].value = 0.3; arguments[0].dispatchEvent(new Event('input'))", slider)
    codes = fit.embed(mixed)
    directions = np.linalg.svd(codes - codes.mean(0), full_matrices=False)[2]
    moved = directions @ (np.array(state(page)["z"]) - before)
    np.testing.assert_allclose(moved[[0, 1, 3]], 0, atol=1e-4)
    assert np.isclose(abs(directions[2] @ (np.array(state(page)["z"]) - codes.mean(0))), 0.3, atol=1e-4)


# ----------------------------------------------------------------------------------------------- pictures
@pytest.fixture(scope="module")
def bars():
    """Pictures of 5 by 4 pixels with a bar that lies or stands, and which."""
    rng = np.random.default_rng(0)
    made, lies = np.zeros((200, 5, 4)), rng.random(200) < 0.5
    for picture, lying, at in zip(made, lies, rng.integers(4, size=200), strict=True):
        picture[at if lying else slice(None), slice(None) if lying else at] = 1
    noisy = np.where(rng.random(made.shape) < 0.02, 1 - made, made).astype(int)
    pixels = {f"p{at}": column for at, column in enumerate(noisy.reshape(200, -1).T)}
    return pg.Table({**pixels, "bar": np.where(lies, "lies", "stands").astype(object)})


def test_pictures_are_drawn_as_they_are_decoded(opened, bars):
    fit = pg.fit("vae", bars.drop(["bar"]), latent=3, hidden=(16,), **QUICK)
    page = opened(fit, bars, colour="bar", shape=(5, 4), points=50)
    assert page.find_element("id", "legend").text.split() == ["lies", "stands"]
    z = state(page)["z"]
    shades = page.execute_script(
        "return Array.from(document.querySelector('#sample canvas').getContext('2d').getImageData(0, 0, 4, 5).data)"
    )
    with torch.no_grad():
        truth = fit.program.decoder(torch.tensor(z, dtype=fit.dtype)).sigmoid().numpy()
    np.testing.assert_allclose(np.array(shades).reshape(20, 4)[:, 0], 255 * truth, atol=1)
    near = np.linalg.norm(np.array(codes_shown(page)) - z, axis=1).argmin()
    own = page.execute_script(
        "return Array.from(document.querySelector('.own canvas').getContext('2d').getImageData(0, 0, 4, 5).data)"
    )
    row = int(page.find_element("css selector", ".own figcaption").text.split()[-1])
    assert row == shown_rows(page)[near]
    np.testing.assert_allclose(np.array(own).reshape(20, 4)[:, 0], 255 * bars.values[row, :20], atol=1)


def test_the_plane_is_painted_whatever_else_happens_at_once(opened, bars):
    page = opened(pg.fit("vae", bars.drop(["bar"]), latent=2, hidden=(16,), **QUICK), bars, shape=(5, 4))
    middle = (
        "const copy = document.createElement('canvas').getContext('2d', {willReadFrequently: true});"
        " copy.drawImage(document.querySelector('canvas.ground'), -200, -200); return Array.from(copy.getImageData(0, 0, 1, 1).data)"
    )
    assert page.execute_script(middle)[3] == 0
    page.execute_script(
        "const [ground, road] = ['ground', 'road'].map((name) => document.getElementById(name)); ground.value = 'pictures';"
        " ground.dispatchEvent(new Event('change')); road.value = 300; road.dispatchEvent(new Event('input'))"
    )
    settle(page)
    assert page.execute_script(middle)[3] == 255


def codes_shown(page):
    import base64

    told = json.loads(page.find_element("id", "data").get_attribute("textContent"))
    return np.frombuffer(base64.b64decode(told["codes"]), "<f4").reshape(-1, told["latent"])


def shown_rows(page):
    return json.loads(page.find_element("id", "data").get_attribute("textContent"))["rows"]


def test_a_decoder_with_other_operations_has_a_grid(opened, bars):
    class Turned(nn.Module):
        def forward(self, x):
            return x.atan()

    fit = pg.fit("vae", bars.drop(["bar"]), latent=3, hidden=(16,), **QUICK)
    net = fit.program.decoder
    fit.program.decoder = nn.Sequential(net[0], Turned(), *net[2:])
    page = opened(fit, bars, shape=(5, 4))
    assert "'atan'" in page.find_element("css selector", ".stands-in").text
    grid = json.loads(page.find_element("id", "data").get_attribute("textContent"))["decoder"]["grid"]
    across, up = (np.linspace(low, high, grid["steps"]) for low, high in zip(grid["low"], grid["high"], strict=True))
    z = np.array(grid["mean"]) + np.array([[across[3], up[5]], [across[20], up[7]]]) @ np.array(grid["directions"])
    with torch.no_grad():
        truth = fit.program.decoder(torch.tensor(z, dtype=fit.dtype)).sigmoid().numpy()
    np.testing.assert_allclose([decoded(page, one) for one in z], truth, atol=1e-3)
    middle = decoded(page, z.mean(0))
    np.testing.assert_allclose(middle, fit_probabilities(fit, z.mean(0)), atol=0.05)


def fit_probabilities(fit, z):
    with torch.no_grad():
        return fit.program.decoder(torch.tensor(z, dtype=fit.dtype)).sigmoid().numpy()


def test_a_page_of_mnists_size_is_small(tmp_path):
    rng = np.random.default_rng(0)
    strokes = (
        ((rng.random((2000, 28, 1)) + rng.random((2000, 28, 28))).cumsum(2) % 7 < 1).astype(int).reshape(2000, -1)
    )
    table = pg.Table({f"p{at}": column for at, column in enumerate(strokes.T)})
    fit = pg.fit("vae", table, latent=20, hidden=(400,), max_steps=1, seed=0, progress=False)
    path = pg.latent_browser(fit, table, tmp_path / "digits.html", shape=(28, 28))
    assert path.stat().st_size < 3e6


# ------------------------------------------------------------------------------------------------- errors
def test_what_it_refuses(fits, mixed, bars, tmp_path):
    fit, page = fits("vae"), tmp_path / "page.html"
    for colour, shape, error, words in [
        ("colour", None, SchemaError, "There is no column 'colour'"),
        (None, (3, 3), SchemaError, "a picture of 9 pixels; the table has 6 columns"),
        (None, (7,), SchemaError, r"shape must be \(height, width\)"),
        (None, (1, 7, 2), SchemaError, "1 or 3 channels"),
    ]:
        with pytest.raises(error, match=words):
            pg.latent_browser(fit, mixed, page, colour=colour, shape=shape)
    with pytest.raises(DataError, match="there are 0"):
        pg.latent_browser(fit, mixed.take([]), page)
    with pytest.raises(DataError, match="points=0"):
        pg.latent_browser(fit, mixed, page, points=0)
    with pytest.raises(DataError, match="There is no folder"):
        pg.latent_browser(fit, mixed, tmp_path / "nowhere" / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_models_that_it_refuses(mixed, tmp_path):
    for name, options, words in [
        ("gaussian_mixture", {"components": 2, **QUICK}, "has no continuous latents of single rows"),
        ("vae", {"latent": 1, "hidden": (8,), **QUICK}, "a single latent number a row"),
        ("vae", {"latent": 65, "hidden": (8,), **QUICK}, "at most 64"),
    ]:
        with pytest.raises(CapabilityError, match=words):
            pg.latent_browser(pg.fit(name, mixed, **options), mixed, tmp_path / "page.html")


def test_nothing_is_overwritten_unasked(fits, mixed, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("mine")
    with pytest.raises(DataError, match="exists and is left as it is"):
        pg.latent_browser(fits("vae"), mixed, page)
    assert page.read_text() == "mine"
    assert pg.latent_browser(fits("vae"), mixed, page, title="<mine>", overwrite=True) == page
    assert "<title>&lt;mine&gt;</title>" in page.read_text()


def test_images_of_the_schema_are_found():
    photo = pg.Image("photo", (1, 2))
    columns = (pg.Column("age", "real"), pg.Column("photo[0,0]", "count"), pg.Column("photo[0,1]", "count"))
    schema = pg.Schema(columns, images=(photo,))
    (picture,) = pictures_of(schema, None)
    assert (picture.name, picture.shape, picture.places) == ("photo", (1, 2, 1), (1, 2))
