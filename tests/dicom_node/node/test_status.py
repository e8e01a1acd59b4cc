"""What `status` says: numbers first, nothing that needs a person is hidden, and a study in full."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from node_values import write_scan

from dicom_node.audit.trail import Trail
from dicom_node.dicom.headers import read_header
from dicom_node.errors import Rejected
from dicom_node.intake.indexing import _record
from dicom_node.model import PairingRules, digest_of
from dicom_node.node.lookup import find_series, find_studies, find_study, handles
from dicom_node.node.status import running, status
from dicom_node.node.study_status import study_status
from dicom_node.settings.config import Config
from dicom_node.settings.layout import Layout
from dicom_node.store.archive import Archive, Stored
from dicom_node.store.database import Database
from dicom_node.store.keys import keyed
from dicom_node.store.patients import protect
from dicom_node.store.tables import instance, job, study, study_key

COMMAND = [sys.executable, "-c", "from dicom_node.commands.app import main; main()"]


def add(database: Database, uid: str, state: str, at: float, reason: str = "") -> None:
    row = {"study_uid": uid, "state": state, "reason": reason, "since": at, "received_at": at, "search": ""}
    with database.writing() as connection:
        connection.execute(sa.insert(study).values(**row))


def add_job(database: Database, uid: str, state: str, number: int) -> None:
    row = {"id": number, "study_uid": uid, "revision": 1, "fingerprint": str(number), "pair": ""}
    times = {"created": 0.0, "since": 0.0, "due_at": 0.0}
    with database.writing() as connection:
        connection.execute(sa.insert(job).values(**row, **times, parameters="", state=state))


def test_a_study_that_waits_is_shown_however_many_came_later(database: Database) -> None:
    add(database, "1.2.1", "WAITING", 1.0)
    add(database, "1.2.2", "REFUSED", 2.0)
    add_job(database, "1.2.1", "FAILED", 1)
    for n in range(60):
        add(database, f"1.3.{n}", "PAIRED", 10.0 + n)
        add_job(database, f"1.3.{n}", "DONE", 10 + n)
    found = status(database, limit=50)
    assert found.counts.studies == {"PAIRED": 60, "REFUSED": 1, "WAITING": 1}
    assert found.counts.jobs == {"DONE": 60, "FAILED": 1}
    assert [one.study_uid for one in found.studies][-2:] == ["1.2.2", "1.2.1"]
    assert len(found.studies) == 52
    assert [one.id for one in found.jobs][-1] == 1
    assert len(found.jobs) == 51


def test_a_study_is_found_by_uid_end_accession_number_and_patient_id(
    database: Database, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "storage")
    key = protect(layout, database)
    add(database, "1.2.826.11112222", "WAITING", 1.0)
    add(database, "1.2.826.33332222", "PAIRED", 2.0)
    keys = [
        {"digest": keyed(key, digest_of(text)), "study_uid": "1.2.826.11112222"} for text in ("ACC 7", "PAT1")
    ]
    keys.append({"digest": keyed(key, digest_of("PAT1")), "study_uid": "1.2.826.33332222"})
    with database.writing() as connection:
        connection.execute(sa.insert(study_key), keys)
    for text in ("1.2.826.11112222", "…11112222", "...12222", "12222", "ACC 7", " ACC 7 "):
        assert find_study(database, layout, text) == "1.2.826.11112222", text
    assert find_studies(database, layout, "PAT1") == ["1.2.826.33332222", "1.2.826.11112222"]
    with pytest.raises(Rejected, match=r"that names 2 studies: 1\.2\.826\.33332222, 1\.2\.826\.11112222"):
        find_study(database, layout, "2222")
    for text in ("222", "%", "____", "PAT2", ""):
        with pytest.raises(Rejected, match="there is no such study"):
            find_study(database, layout, text)


def test_handles_are_as_long_as_they_must_be() -> None:
    uids = ["1.2.11112345678", "1.2.22212345678", "1.2.33300000000"]
    assert list(handles(uids).values()) == ["…112345678", "…212345678", "…300000000"]
    assert handles([]) == {}


@pytest.fixture
def read(database: Database, archive: Archive, tmp_path: Path) -> str:
    """A study of two series that came from CT1 and whose headers are read; its UID."""
    paths = [*write_scan(tmp_path, "Thorax Insp", 2, slices=24), *write_scan(tmp_path, "Lung", 3, slices=24)]
    headers = [read_header(path) for path in paths]
    stored = []
    for path, header in zip(paths, headers, strict=True):
        uids = {"sop_class_uid": header.sop_class_uid, "sop_instance_uid": header.sop_instance_uid}
        syntax = "1.2.840.10008.1.2.1"
        archive.store(**uids, transfer_syntax_uid=syntax, calling_ae="CT1", dataset=path.read_bytes()[500:])
        stored.append(Stored(header.sop_instance_uid, path, time.time(), "CT1", 10))
    _record(archive, Trail(database, None, "VQNODE"), stored, headers, 1.0, ("CT1",))
    return headers[0].study_instance_uid


def test_a_study_in_full_has_series_phases_and_a_timeline(database: Database, read: str) -> None:
    found = study_status(database, read, PairingRules())
    insp = next(one for one in found.series if one.phase == "inspiration")
    assert (insp.instances, insp.assigned) == (24, "")
    assert "Thorax Insp" in insp.evidence
    other = next(one for one in found.series if one is not insp)
    assert other.phase == ""
    assert re.fullmatch(r"48 images from CT1, \d+\.\d MB in \d+\.\d s", found.timeline[0].what)
    assert find_series(database, insp.series_uid[-12:]) == insp.series_uid
    with pytest.raises(Rejected, match="there is no study 9"):
        study_status(database, "9", PairingRules())


def test_keys_of_a_study_are_digests(database: Database, read: str, archive: Archive) -> None:
    header = archive.headers(read, 1)[0]
    with database.reading() as connection:
        found = connection.execute(sa.select(study_key)).all()
    assert {(row.digest, row.study_uid) for row in found} == {
        (digest, read) for digest in (header.person.patient_id, header.accession) if digest
    }


def test_whether_a_node_runs_is_said(tmp_path: Path) -> None:
    found = running(Config(storage=tmp_path), time.time())
    assert (found.runs, found.problem, found.version) == (False, "no node runs", "")
    assert found.size > found.free > 0


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1"}
    return subprocess.run(
        [*COMMAND, *words, "-c", str(folder / "node.toml")],
        capture_output=True, text=True, timeout=60, env=environment, check=False,
    )  # fmt: skip


def test_status_on_the_terminal_says_what_needs_a_person_before_the_newest(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text('storage = "data"\n')
    (tmp_path / "data").mkdir()
    database = Database(f"sqlite:///{tmp_path / 'data' / 'node.db'}", prepare=True)
    add(database, "1.2.840.99990001", "REFUSED", 1.0, "no phase \x1b[31m[bold]")
    for n in range(60):
        add(database, f"1.2.840.8888{n:04}", "PAIRED", 10.0 + n)
    with database.writing() as connection:
        row = {
            "sop_class_uid": "1",
            "transfer_syntax_uid": "1",
            "sha256": "",
            "size": 1,
            "path": "",
            "calling_ae": "X",
        }
        values = {"sop_instance_uid": "1.9", "received_at": 1.0, "problem": "not a DICOM file", **row}
        connection.execute(sa.insert(instance).values(**values))
    database.close()
    done = command(tmp_path, "status")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "Node: NOT WELL: no node runs"
    assert lines[1].startswith("Disk: ")
    assert lines[2:5] == [
        "Instances: 1 stored, 0 to be read, 1 unreadable, 0 quarantined",
        "Studies: 60 PAIRED, 1 REFUSED",
        "Jobs: none",
    ]
    text = done.stdout
    assert text.index("Needs a person (2)") < text.index("…99990001") < text.index("Studies that ended (50)")
    assert r"no phase \x1b[31m[bold]" in text
    assert "unreadable" in text
    again = command(tmp_path, "force", "99990001")
    assert again.stdout == "study 1.2.840.99990001 is due now\n"
    full = command(tmp_path, "status", "99990001")
    assert full.stdout.startswith("Study 1.2.840.99990001: REFUSED since ")
    unkeyed = command(tmp_path, "status", "PATIENT7")
    assert (unkeyed.returncode, "patients.key cannot be read" in unkeyed.stderr) == (3, True)
    Layout(tmp_path / "data").patients_key.write_bytes(b"k" * 32)
    none = command(tmp_path, "status", "PATIENT7")
    assert (none.returncode, "there is no such study" in none.stderr, "PATIENT7" in none.stderr) == (
        1,
        True,
        False,
    )
    health = command(tmp_path, "health")
    assert (health.returncode, health.stderr) == (3, "dicom-node: no node runs with this storage\n")
