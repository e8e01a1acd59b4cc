"""A radiologist's view: OHIF in a real browser shows what was planted, where it was planted, in its colour.

The whole of ``deploy/viewer/start.sh``: Orthanc, OHIF behind nginx, the node and the demo study. Pictures stay in
``$VIEWER_PICTURES`` where that is set.
"""

from __future__ import annotations

import base64
import colorsys
import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from peers import free_port, program
from PIL import Image
from scipy import ndimage

from analysis.figures.colours import CLASS_NAME, CLASS_RGB
from analysis.measures.digits import firm_text
from analysis.truth.phantom import thorax_phantom
from analysis.vq.classes import VQClass
from dicom_node.results.record import NAME, read_record

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
VIEWER = ROOT / "deploy" / "viewer"
CLASSES = tuple(VQClass)[1:]
PORTS = ("VIEWER_PORT", "PACS_PORT", "PACS_HTTP", "NODE_PORT", "PAGE_PORT")
#: What OHIF 3.13.2 throws where a segmentation turns its stack into a volume while it still draws: nothing is lost.
OF_THE_VIEWER = "The stack viewport has been destroyed and is no longer usable."


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the browser showed: texts, where the viewer put the points, and the folder of pictures."""
    for name in ("npm", "node", "chromium"):
        program(name)
    folder = tmp_path_factory.mktemp("viewer")
    pictures = Path(os.environ.get("VIEWER_PICTURES", folder / "pictures"))
    pictures.mkdir(parents=True, exist_ok=True)
    subprocess.run(["npm", "install", "--silent", "--no-fund", "--no-audit"], cwd=VIEWER, check=True)
    ports = {name: str(free_port()) for name in PORTS}
    command = ["sh", str(VIEWER / "start.sh"), str(folder / "demo")]
    with (folder / "log").open("wb") as log:
        stack = subprocess.Popen(
            command, env=os.environ | ports, stdout=log, stderr=log, start_new_session=True
        )
        try:
            base = f"http://127.0.0.1:{ports['VIEWER_PORT']}"
            study = wait_for_results(base, folder / "log", stack)
            worklist = page_of(f"http://127.0.0.1:{ports['PAGE_PORT']}", folder / "log")
            (folder / "points.json").write_text(json.dumps(planted()))
            arguments = [base, study, str(pictures), str(folder / "points.json")]
            environment = os.environ | {"VIEWER_MODULES": str(VIEWER / "node_modules")}
            script = str(Path(__file__).parent / "drive.js")
            subprocess.run(["node", script, *arguments], env=environment, check=True, timeout=1800)
            record = read_record(folder / "demo" / "node" / "results" / "1" / NAME)
            texts = json.loads((pictures / "found.json").read_text())
            yield {
                **texts,
                "worklist": worklist,
                "pictures": pictures,
                "measures": record.analysis.measures["lungs"],
            }
        finally:
            os.killpg(stack.pid, signal.SIGTERM)
            stack.wait(60)


def page_of(base: str, log: Path) -> str:
    """The worklist of the node's page, for the name and password that the terminal shows."""
    end = time.monotonic() + 120
    while not (told := re.search(rf"Page: {base}\s+\(name (\w+), password (\w+)\)", log.read_text())):
        assert time.monotonic() < end, log.read_text()
        time.sleep(1)
    with httpx.Client(base_url=base, headers={"Origin": base}, follow_redirects=True, timeout=60) as browser:
        return browser.post("/login", data={"name": told[1], "password": told[2]}).text


def test_the_page_of_the_node_is_there_with_the_study_and_its_result(found: dict[str, Any]) -> None:
    assert "Worklist" in found["worklist"]
    assert "PAIRED" in found["worklist"]
    assert "/results/1" in found["worklist"]


def wait_for_results(base: str, log: Path, stack: subprocess.Popen[bytes]) -> str:
    """The study's UID, once the last kind sent (maps) has arrived."""
    end = time.monotonic() + 900
    while time.monotonic() < end:
        assert stack.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{base}/dicom-web/series?limit=100", timeout=10) as answer:
                series = json.load(answer)
        except (OSError, ValueError):
            series = []
        if sum(s["00080060"]["Value"] == ["OT"] for s in series) >= 12:
            time.sleep(3)  # the last maps
            return str(series[0]["0020000D"]["Value"][0])
        time.sleep(2)
    pytest.fail(log.read_text())


def planted() -> list[dict[str, Any]]:
    """The innermost point of every class of the phantom's truth."""
    truth = thorax_phantom()
    points = []
    for c in CLASSES:
        depth = ndimage.distance_transform_edt(truth.classes == c, sampling=truth.expiratory.grid.spacing)
        index = np.array([np.unravel_index(depth.argmax(), depth.shape)], dtype=float)
        world = truth.expiratory.grid.points(index)[0].tolist()
        points.append({"name": c.name.lower(), "world": world})
    return points


def shown(found: dict[str, Any], kind: str, point: dict[str, Any]) -> tuple[float, float]:
    """Hue (degrees) and saturation of 5 x 5 pixels of the screenshot around where the viewer puts a point."""
    with Image.open(found["pictures"] / f"{kind}-{point['name']}.png") as image:
        x, y = round(point["x"]), round(point["y"])
        patch = np.asarray(image.convert("RGB"))[y - 2 : y + 3, x - 2 : x + 3]
    hue, saturation, _ = colorsys.rgb_to_hsv(*np.median(patch.reshape(-1, 3), axis=0) / 255)
    return 360 * hue, saturation


def class_of(hue: float) -> VQClass:
    """The class whose colour is nearest in hue."""

    def away(c: VQClass) -> float:
        own = 360 * colorsys.rgb_to_hsv(*(v / 255 for v in CLASS_RGB[c]))[0]
        return abs((hue - own + 180) % 360 - 180)

    return min(CLASS_RGB, key=away)


@pytest.mark.parametrize("kind", ["seg", "capture"])
def test_every_planted_class_has_its_colour_at_its_place(found: dict[str, Any], kind: str) -> None:
    points = found["points" if kind == "seg" else "capture"]
    assert len(points) == 4
    for point in points:
        hue, saturation = shown(found, kind, point)
        if kind == "capture" and point["name"] == "normal":
            assert saturation < 0.12, point  # normal lung keeps the greys of the CT
            continue
        assert saturation > (0.06 if point["name"] == "normal" else 0.12), point
        assert class_of(hue) is VQClass[point["name"].upper()], (point, hue)


def test_the_ventilation_map_lies_over_the_ct_low_where_low_was_planted(found: dict[str, Any]) -> None:
    """OHIF's colours run from violet (0) over blue and green (0.4) to red (1)."""
    assert len(found["map"]) == 4
    for point in found["map"]:
        hue, saturation = shown(found, "map", point)
        low = VQClass[point["name"].upper()] in (VQClass.SHUNT, VQClass.MATCHED_DEFECT)
        assert saturation > 0.12, point
        assert (200 < hue < 320) if low else (60 < hue < 190), (point, hue)


def test_the_segments_are_named(found: dict[str, Any]) -> None:
    panel = found["segments"].split("Segmentations")[-1].splitlines()
    for name in (*CLASS_NAME.values(), "Right lung", "Left lung"):
        assert name in panel


def test_the_report_begins_with_its_conclusion_and_names_its_measurements(found: dict[str, Any]) -> None:
    text, measures = found["sr"], found["measures"]
    for words in (
        "CT lung ventilation/perfusion report",
        "Conclusion:",
        "of the classified lung is abnormal",
        "shunt-like: V below 60 %, Q kept",
        "Lung volume, inspiration (total lung capacity):",
        f"dead space {firm_text(measures, 'dead_space', True)}",
        "Research use",
    ):
        assert words in text, words
    assert text.index("Conclusion:") < text.index("IMAGE is not supported")
    assert text.count("IMAGE is not supported") <= 4


def test_the_pdf_reaches_the_browser(found: dict[str, Any]) -> None:
    assert base64.b64decode(found["pdf"]).startswith(b"%PDF-")


def test_the_viewer_reports_no_error(found: dict[str, Any]) -> None:
    assert [one for one in found["errors"] if not one.startswith(OF_THE_VIEWER)] == []
