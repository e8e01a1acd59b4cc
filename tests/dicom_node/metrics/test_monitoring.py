"""The alarms and the dashboard of deploy/monitoring ask for metrics that there are, and promtool's tests pass."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dicom_node.metrics.readings import METRICS

FOLDER = Path(__file__).parents[3] / "deploy" / "monitoring"
#: What each kind is called when it is scraped.
SCRAPED = {row.shown for row in METRICS if row.kind != "summary"} | {
    f"{row.name}_{part}" for row in METRICS if row.kind == "summary" for part in ("sum", "count")
}
RULES = (FOLDER / "alerts.yml").read_text()


@pytest.mark.parametrize("name", ["alerts.yml", "alerts_test.yml", "dashboard.json"])
def test_only_metrics_that_there_are_are_asked_for(name: str) -> None:
    asked = set(re.findall(r"dicom_node_\w+", (FOLDER / name).read_text()))
    assert asked
    assert asked - SCRAPED == set()


def test_every_alarm_has_a_test() -> None:
    alarms = re.findall(r"alert: (\w+)", RULES)
    tested = re.findall(r"alertname: (\w+)", (FOLDER / "alerts_test.yml").read_text())
    assert sorted(alarms) == sorted(set(tested))


def test_every_panel_has_a_question_and_a_place_of_its_own() -> None:
    panels = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    assert all(target["expr"] for panel in panels for target in panel["targets"])
    assert len({(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels}) == len(panels)


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (apt install prometheus)"
)
@pytest.mark.parametrize(
    "words", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")]
)
def test_promtool_finds_the_rules_right(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["promtool", *words], cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
