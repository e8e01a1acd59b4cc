"""A person at the page, in a real browser: every action by clicks, every screen with axe-core, nothing from elsewhere.

Needs chromium, npm, and playwright (`pip install playwright`); pictures stay in ``$PAGE_PICTURES`` where that is set.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from node_values import write_scan
from page import PASSWORD, Served
from page_rows import STUDY
from peers import program
from tabs import opened

from dicom_node.store.tables import instance, job

pytestmark = pytest.mark.slow

AXE = "axe-core@4.14.1"
RULES = "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'best-practice']})"
SCREENS = {
    "worklist": "/studies", "study": f"/studies/{STUDY}", "result": "/results/1", "deliveries": "/deliveries",
    "cohort": "/cohort", "system": "/system", "upload": "/upload", "confirm": "/confirm/cancel?job=2&next=/studies",
    "missing": "/results/99",
}  # fmt: skip


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    program("npm")
    folder = tmp_path_factory.mktemp("axe")
    subprocess.run(["npm", "pack", "--silent", AXE], cwd=folder, check=True, capture_output=True)
    with tarfile.open(next(folder.glob("*.tgz"))) as packed:
        packed.extractall(folder, filter="data")
    return (folder / "package" / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (390, 844)], ids=["desk", "phone"])
def test_every_screen_can_be_read_by_everybody_and_fits(
    chromium: Any, page: Served, axe: str, size: tuple[int, int], scheme: str, tmp_path: Path
) -> None:
    width, height = size
    tab, wrong = opened(
        chromium, page, "anna", viewport={"width": width, "height": height}, color_scheme=scheme
    )
    pictures = Path(os.environ.get("PAGE_PICTURES", tmp_path))
    found = {}
    for name, path in SCREENS.items():
        tab.goto(page.base + path)
        tab.screenshot(path=pictures / f"{name}-{width}-{scheme}.png", full_page=width < 500)
        tab.evaluate(axe)
        violations = tab.evaluate(f"{RULES}.then(r => r.violations.map(v => v.id + ' ' + v.nodes[0].html))")
        if violations:
            found[name] = violations
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, name
    assert found == {}
    assert wrong == []


def clicked(tab: Any, label: str, path: str) -> str:
    """What the page says after a button, and the question that follows it."""
    tab.goto(path)
    tab.get_by_role("link", name=label, exact=True).first.click()
    tab.get_by_role("button", name="Yes").click()
    return str(tab.get_by_role("status").inner_text())


def test_a_person_decides_by_clicks_and_is_asked_before(chromium: Any, page: Served) -> None:
    tab, wrong = opened(chromium, page, "otto")
    base = page.base
    assert "is due now" in clicked(tab, "Decide now", f"{base}/studies")
    assert "expiration" in clicked(tab, "Expiration", f"{base}/studies/{STUDY}")
    assert "job 2 is cancelled" in clicked(tab, "Cancel", f"{base}/studies?state=job:RUNNING").lower()
    assert "queued again" in clicked(tab, "Try again", f"{base}/studies?state=job:FAILED")
    assert "Share answers" in clicked(tab, "Test", f"{base}/deliveries")
    assert "queued again" in clicked(tab, "Send all again", f"{base}/deliveries")
    assert "marked as reviewed" in clicked(tab, "Mark as reviewed", f"{base}/results/1")
    tab.goto(f"{base}/results/1")
    tab.get_by_label("% of predicted").fill("62")
    tab.get_by_role("button", name="Enter").click()
    tab.get_by_role("button", name="Yes").click()
    assert "is entered" in tab.get_by_role("status").inner_text()
    with page.site.database.reading() as connection:
        assert connection.scalar(sa.select(job.c.state).where(job.c.id == 2)) == "CANCELLED"
    tab.get_by_role("button", name="Log out").click()
    tab.get_by_role("heading", name="Log in").wait_for()
    assert wrong == []


def test_everything_is_reached_and_done_by_keyboard_alone(chromium: Any, page: Served) -> None:
    tab, wrong = opened(chromium, page)
    tab.goto(f"{page.base}/studies")
    tab.keyboard.type("anna")  # the name has the focus at once
    tab.keyboard.press("Tab")
    tab.keyboard.type(PASSWORD)
    tab.keyboard.press("Enter")
    tab.get_by_role("heading", name="Worklist").wait_for()
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "To the content"
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "main"
    reached = [_next(tab) for _ in range(60)]
    assert "search" in reached
    assert any(text.startswith("Decide now") for text in reached)
    tab.goto(f"{page.base}/confirm/force?study={STUDY}&next=/studies")
    tab.get_by_role("button", name="Yes").focus()
    tab.keyboard.press("Enter")
    tab.get_by_role("status").wait_for()
    assert "is due now" in tab.get_by_role("status").inner_text()
    assert wrong == []


def _next(tab: Any) -> str:
    """What has the focus after Tab, which must be seen."""
    tab.keyboard.press("Tab")
    seen = "getComputedStyle(document.activeElement).outlineStyle"
    assert tab.evaluate(f"document.activeElement === document.body || {seen} !== 'none'")
    return str(tab.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))


def test_a_person_uploads_files_and_is_told_what_became_of_them(
    chromium: Any, page: Served, tmp_path: Path
) -> None:
    tab, wrong = opened(chromium, page, "otto")
    paths = write_scan(tmp_path, "Thorax Exp", 2, study="uploaded", slices=3)
    (tmp_path / "letter.txt").write_text("no image")
    tab.goto(f"{page.base}/upload")
    tab.set_input_files("input[name=files]", [*paths, tmp_path / "letter.txt"])
    tab.get_by_text("3 images are stored.").wait_for()
    assert "no DICOM file" in tab.locator("#upload-state").inner_text()
    with page.site.database.reading() as connection:
        found = sa.select(sa.func.count()).where(instance.c.calling_ae == "web:otto")
        assert connection.scalar(found) == 3
    assert wrong == []


def test_the_progress_of_a_job_moves_without_a_new_page(chromium: Any, page: Served) -> None:
    with page.site.database.writing() as connection:
        connection.execute(
            sa.update(job).where(job.c.id == 3).values(state="RUNNING", stage="lungs", fraction=0.1)
        )
    tab, wrong = opened(chromium, page, "vera")
    tab.get_by_text("lungs 10 %").wait_for()
    with page.site.database.writing() as connection:
        connection.execute(sa.update(job).where(job.c.id == 3).values(stage="registration", fraction=0.6))
    tab.get_by_text("registration 60 %").wait_for()
    assert wrong == []
