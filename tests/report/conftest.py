"""A browser without a window, where there is one."""

import shutil

import pytest


@pytest.fixture(scope="session")
def browser():
    """Chromium driven by selenium; its network and its console are written down."""
    driven = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (extra: test)")
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, place in programs.items() if place is None]
    if missing:
        pytest.skip(f"no {' and no '.join(missing)} here; Debian's packages are chromium and chromium-driver")
    options = driven.ChromeOptions()
    options.binary_location = programs["chromium"]
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1280,1000"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = driven.ChromeService(programs["chromedriver"])
    driver = driven.Chrome(options=options, service=service)
    yield driver
    driver.quit()
