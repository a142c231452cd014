"""What several test files need: a small noisy vessel, the folder of real label maps, and a browser."""

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from near_monai.geometry.coordinates import Grid

DATA = Path(os.environ.get("NEAR_MONAI_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def vessel_grid() -> Grid:
    return Grid((64, 52, 40), (0.5, 0.55, 0.7))


@pytest.fixture(scope="session")
def noisy_vessel(vessel_grid: Grid) -> NDArray[np.bool_]:
    """A bent vessel of 3 mm diameter with a rough wall and one speck 9 mm away from it."""
    i, j, k = np.meshgrid(*vessel_grid.axes_mm(), indexing="ij")
    distance = np.hypot(j - 12 - 3 * np.sin(i / 8), k - 14 - 0.1 * i) - 1.5
    rough = distance + np.random.default_rng(0).normal(0, 0.25, distance.shape) < 0
    rough[:6] = rough[-6:] = False
    rough[30:32, 40:42, 35:37] = True
    return np.asarray(rough)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What the package says, whatever the configuration of a bundle made of its logger."""
    logger = logging.getLogger("near_monai")
    before = logger.propagate
    logger.propagate = True
    caplog.set_level(logging.INFO, "near_monai")
    yield caplog
    logger.propagate = before


@pytest.fixture(scope="session")
def data() -> Path:
    """Real label maps; tests that need them are skipped where they are absent."""
    if not DATA.is_dir():
        pytest.skip(f"no real data at {DATA} (set NEAR_MONAI_DATA)")
    return DATA


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Headless Chromium without a network; tests that need it are skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """An empty page; whatever goes wrong in its scripts fails the test."""
    wrong: list[str] = []
    page = chromium.new_page(viewport={"width": 1280, "height": 1000}, offline=True)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    page.close()
    assert not wrong
