"""docs/architecture.md says what the code says: its paths exist, its rooms and states are all there are."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest

from dicom_node.delivery import queue as deliveries
from dicom_node.delivery import storage_commitment as confirmation
from dicom_node.intake.mpps import StepState
from dicom_node.intake.storage_commitment import CommitmentState
from dicom_node.jobs import queue as jobs
from dicom_node.notify.queue import NotificationState
from dicom_node.settings.destinations import CStoreDestination
from dicom_node.studies.queue import StudyState

ROOT = Path(__file__).parents[1]
PACKAGES = "analysis", "dicom_node"
FOLDERS = *PACKAGES, "tests", "docs", "deploy", "benchmarks"
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
#: Pages that say what is so now; the changelog says what was.
NOW = [page for page in PAGES if page.name != "CHANGELOG.md"]

STATES = {
    "Studies": StudyState,
    "Jobs": jobs.JobState,
    "Deliveries": deliveries.DeliveryState,
    "Commitments": CommitmentState,
    "Notifications": NotificationState,
    "Procedure steps": StepState,
}


def paths(text: str) -> list[str]:
    """Return what stands in backticks and is a path of this tree, or the name of a module."""
    quoted = re.findall(r"`([\w./-]+)`", text)
    return [q for q in quoted if q.endswith(".py") or ("/" in q and q.split("/")[0] in FOLDERS)]


def tables(heading: str) -> list[list[list[str]]]:
    """Return the tables below a heading: rows of cells, backticks taken off, the header row first."""
    section = re.split(r"^#+ ", TEXT.split(f"# {heading}\n")[1], maxsplit=1, flags=re.M)[0]
    lines = [re.findall(r"^\|.*\|$", block, flags=re.M) for block in section.split("\n\n")]
    cells = [
        [[c.strip().strip("`") for c in row[1:-1].split("|")] for row in block] for block in lines if block
    ]
    return [[row for row in table if set(row[0]) != {"-"} or len(row[0]) < 3] for table in cells]


def moves(heading: str) -> list[dict[str, str]]:
    """Return the rows of the table of moves below a heading, by column."""
    header, *rows = tables(heading)[-1]
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_the_architecture_names_the_files_of_the_journeys() -> None:
    assert len({path for path in paths(TEXT) if path.endswith(".py")}) > 40


@pytest.mark.parametrize("page", NOW, ids=lambda page: page.name)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    named = paths(page.read_text(encoding="utf-8"))
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    files = [link for link in links if "://" not in link]
    assert [link for link in files if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_has_its_row(package: str) -> None:
    rows = {row[0].rstrip("/") for row in tables(f"The floors of `{package}`")[0][1:]}
    beside = {
        path for path in (ROOT / package).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert rows == {path.relative_to(ROOT).as_posix() for path in beside if not path.name.startswith("__")}


@pytest.mark.parametrize("heading", STATES)
def test_every_state_has_its_row_and_a_move_to_it(heading: str) -> None:
    known = set(get_args(STATES[heading]))
    assert {row[0] for row in tables(heading)[0][1:]} == known
    rows = moves(heading)
    assert {row["to"] for row in rows} == known
    assert {state for row in rows for state in row["from"].split(", ")} <= {*known, "-"}
    assert [row["move"] for row in rows] == sorted({row["move"] for row in rows})


def test_the_moves_of_jobs_are_those_of_the_code() -> None:
    rows = [(row["name"], row["move"], row["from"], row["to"]) for row in moves("Jobs")]
    assert rows == [
        ("", "a", "-", "READY"),
        *((name, m.letter, ", ".join(m.sources), m.target) for name, m in jobs.MOVES.items()),
    ]


def test_the_moves_of_deliveries_are_those_of_the_code() -> None:
    rows = [(row["name"], row["move"], row["from"], row["to"]) for row in moves("Deliveries")]
    sent = {name: move for name, *move in rows if move[1] == "SENT"}
    assert [row for row in rows if row[2] != "SENT"] == [
        ("", "a", "-", "QUEUED"),
        *((name, *move) for name, move in deliveries.MOVES.items()),
    ]
    pacs, row = (
        CStoreDestination("pacs", ae_title="PACS", host="127.0.0.1"),
        SimpleNamespace(created=0.0, attempts=0),
    )
    for answer in get_args(confirmation.Answer):
        target = confirmation._move(row, answer, "", pacs, 1.0).get("state", "SENT")
        assert sent.pop(answer)[2] == target
    assert sent == {}
