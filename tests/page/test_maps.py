"""The maps of a result in a real browser: the side of the patient, what a click reads, what is said without them."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page import Served
from PIL import Image
from tabs import opened

from analysis.pipeline.saved import REST
from analysis.volume import Grid
from dicom_node.results.record import NAME as RECORD

pytestmark = pytest.mark.slow

#: Voxels along each axis (4 mm), and HU of the patient's right and left half.
SIDE, RIGHT, LEFT = 40, 100.0, -1000.0


@pytest.fixture(scope="module")
def halves(page: Served) -> Served:
    """A result whose CT is bright in the patient's right half; V is 1 there and 0.25 in the left one."""
    grid = Grid.axial((SIDE,) * 3, (4.0,) * 3)
    right = np.zeros((SIDE,) * 3, bool)
    right[:, :, : SIDE // 2] = True  # i grows to the patient's left
    arrays = {
        "maps ct_exp": np.where(right, RIGHT, LEFT).astype(np.float32),
        "maps V": np.where(right, 1.0, 0.25).astype(np.float32),
        "maps Q": np.where(right, 0.5, 0.25).astype(np.float32),
        "maps V/Q": np.where(right, 2.0, 1.0).astype(np.float32),
        "classes": np.where(right, 2, 1).astype(np.uint8),
    }
    place = {"shape": grid.shape, "affine": grid.affine.tolist()}
    rest = json.dumps({"analysis": {"grid": place, "expiratory": place}})
    path = page.site.config.layout.results_of(1) / RECORD
    np.savez_compressed(path, **{REST: np.array(rest)}, **arrays)  # type: ignore[arg-type]
    return page


def shown(tab: Any, chosen: str) -> Any:
    """The canvas once a map is drawn."""
    canvas = tab.locator(f"canvas[data-ready={chosen}]")
    canvas.wait_for()
    tab.wait_for_timeout(1500)  # the next frame
    return canvas


def brightness(canvas: Any) -> np.ndarray[Any, Any]:
    picture = Image.open(io.BytesIO(canvas.screenshot())).convert("L")
    return np.asarray(picture, np.float32)


def test_the_right_of_the_patient_is_at_the_left_of_the_screen_in_axial_and_coronal_planes(
    chromium: Any, halves: Served, tmp_path: Path
) -> None:
    tab, wrong = opened(chromium, halves, "vera", viewport={"width": 1280, "height": 900})
    tab.goto(f"{halves.base}/results/1")
    shown(tab, "classes")
    tab.get_by_text("CT only").click()
    canvas = shown(tab, "none")
    canvas.screenshot(path=Path(os.environ.get("PAGE_PICTURES", tmp_path)) / "halves.png")
    found = brightness(canvas)
    height, width = found.shape
    tile = width // 3  # axial, coronal, sagittal beside each other
    for number in range(2):
        middle = found[height // 2 - 40 : height // 2 + 40, number * tile : (number + 1) * tile]
        at = tile // 4
        assert middle[:, at - 10 : at + 10].mean() > 180, number
        assert middle[:, -at - 10 : -at + 10].mean() < 60, number
    assert wrong == []


def test_a_click_reads_the_values_there_and_the_keys_move_on(chromium: Any, halves: Served) -> None:
    tab, wrong = opened(chromium, halves, "vera", viewport={"width": 1280, "height": 900})
    tab.goto(f"{halves.base}/results/1")
    canvas = shown(tab, "classes")
    tab.locator("label.pick", has_text="V").first.click()
    canvas = shown(tab, "V")
    box = canvas.bounding_box()
    reading = tab.locator("#reading")
    for share, hu, v in ((1 / 12, "100 HU", "V 1.000 ml/ml"), (3 / 12, "-1000 HU", "V 0.250 ml/ml")):
        tab.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
        tab.wait_for_timeout(500)
        assert hu in reading.inner_text()
        assert v in reading.inner_text()
    assert wrong == []


def test_maps_that_are_not_there_are_said_and_the_page_shows_the_rest(chromium: Any, halves: Served) -> None:
    path = halves.site.config.layout.results_of(1) / RECORD
    path.rename(path.with_suffix(".gone"))
    tab, _ = opened(chromium, halves, "vera")
    tab.goto(f"{halves.base}/results/1")
    tab.get_by_text("The maps of this result cannot be loaded.").wait_for()
    tab.get_by_role("heading", name="Regions").wait_for()
