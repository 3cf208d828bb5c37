"""The pictures of the latent browser in docs/latent_variables.md: penguins, and digits of 8 by 8 black or white pixels.

Needs scikit-learn, selenium, Chromium and its driver: ``python docs/figures/latent_browser.py``, about a minute.
"""

import shutil
import tempfile
import time
from io import BytesIO
from pathlib import Path

from PIL import Image
from selenium import webdriver
from sklearn.datasets import load_digits

import probgen as pg

HERE = Path(__file__).parent
WALK = (
    "const road = document.getElementById('road'); road.value = arguments[0]; road.dispatchEvent(new Event('input'))"
)
HOVER = (
    "const box = document.getElementById('plane'), r = box.getBoundingClientRect(), [x, y] = probgen.place(arguments[0]);"
    " box.dispatchEvent(new PointerEvent('pointermove', {clientX: r.x + r.width / 2 + x, clientY: r.y + r.height / 2 + y}))"
)


def penguins(folder: Path) -> Path:
    table = pg.load_dataset("penguins").drop(["year"])
    fit = pg.fit("vae", table, latent=2, hidden=(64,), max_steps=600, seed=0, progress=False)
    return pg.latent_browser(fit, table, folder / "penguins.html", colour="species", title="Palmer penguins")


def digits(folder: Path) -> Path:
    found = load_digits()
    columns = tuple(pg.Column(f"pixel_{at}", "binary", levels=(0, 1)) for at in range(64))
    pixels = pg.Table.from_codes((found.images > 7).reshape(-1, 64).astype(float), pg.Schema(columns))
    fit = pg.fit("vae", pixels, latent=2, hidden=(256, 128), max_steps=2500, seed=0, progress=False)
    labelled = pg.Table(pixels.to_pandas().assign(digit=found.target.astype(str)), schema=labelled_schema(columns))
    page = folder / "digits.html"
    return pg.latent_browser(fit, labelled, page, colour="digit", shape=(8, 8), title="Handwritten digits")


def labelled_schema(columns: tuple) -> pg.Schema:
    return pg.Schema((*columns, pg.Column("digit", "categorical", levels=tuple(map(str, range(10))))))


def photograph(page: Path, name: str, size: tuple[int, int], walk: int, hover: int | None = None) -> None:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars"):
        options.add_argument(f"--{argument}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    frame = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", frame)
    driver.get(page.as_uri())
    driver.execute_script(WALK, walk)
    if hover is not None:
        driver.execute_script(HOVER, hover)
    time.sleep(1)
    picture = Image.open(BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(HERE / name, optimize=True)
    driver.quit()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        page = penguins(Path(made))
        photograph(page, "latent_browser_penguins.png", (1280, 800), 300, hover=40)
        photograph(page, "latent_browser_phone.png", (400, 800), 0)
        photograph(digits(Path(made)), "latent_browser_digits.png", (1280, 800), 625)
