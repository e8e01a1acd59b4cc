"""Retention: what has ended and arrived goes, by age and by space; nothing else does, and nothing comes back."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from node_values import endless_run, make_pair, quick_run, send, write_scan
from running_node import config, done, running, until

from analysis.parameters import Parameters
from dicom_node.delivery import queue as deliver
from dicom_node.errors import Rejected
from dicom_node.jobs import queue as jobs
from dicom_node.node.node import Node
from dicom_node.node.status import Status, status
from dicom_node.settings.config import Config, RetentionSettings
from dicom_node.settings.destinations import CStoreDestination, Destination, FolderDestination
from dicom_node.store import retention
from dicom_node.store.archive import Archive
from dicom_node.store.database import Database
from dicom_node.store.retention import DAY, GB, Candidate, due
from dicom_node.store.tables import delivery, instance, job, metadata, removal, result, study

AT_ONCE = RetentionSettings(days=1e-9)


def test_the_oldest_go_first_and_no_more_than_needed() -> None:
    five = [Candidate(f"1.{n}", n * DAY, int(2 * GB)) for n in (3, 1, 2, 5, 4)]

    def chosen(settings: RetentionSettings, free: float = 0.0, stored: float = 10.0) -> list[str]:
        return [c.study_uid for c, _ in due(five, settings, 6 * DAY, free * GB, stored * GB)]

    assert chosen(RetentionSettings()) == []
    assert chosen(RetentionSettings(days=3.5)) == ["1.1", "1.2"]
    assert chosen(RetentionSettings(max_archive_gb=7)) == ["1.1", "1.2"]
    assert chosen(RetentionSettings(min_free_gb=5), free=2) == ["1.1", "1.2"]
    assert chosen(RetentionSettings(min_free_gb=5), free=5) == []
    assert chosen(RetentionSettings(days=4.5, min_free_gb=50)) == ["1.1", "1.2", "1.3", "1.4", "1.5"]


def test_settings_that_could_never_work_are_refused() -> None:
    with pytest.raises(Rejected, match=r"must be more than receive\.min_free_mb"):
        Config(retention=RetentionSettings(min_free_gb=1))
    with pytest.raises(Rejected, match="must not be negative"):
        RetentionSettings(days=-1)


@pytest.fixture(autouse=True)
def emptied() -> Iterator[None]:
    """The database that $VQ_DATABASE names is empty again after each test."""
    yield
    if url := os.environ.get("VQ_DATABASE"):
        database = Database(url, prepare=True)
        metadata.drop_all(database.engine)
        database.close()


def kept(tmp_path: Path, **changes: Any) -> Config:
    return config(tmp_path, retention=AT_ONCE, database=os.environ.get("VQ_DATABASE", ""), **changes)


def share(tmp_path: Path) -> Destination:
    (tmp_path / "share").mkdir(exist_ok=True)
    return FolderDestination("share", folder=tmp_path / "share", objects=("sr",))


def files(tmp_path: Path, below: str) -> list[Path]:
    return [path for path in (tmp_path / "storage" / below).rglob("*") if path.is_file()]


def sent(found: Status) -> bool:
    return [d.state for d in found.deliveries] == ["SENT"]


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    return [*write_scan(tmp_path, "Thorax Insp", 1), *write_scan(tmp_path, "Thorax Exp", 2)]


def test_a_study_goes_once_its_result_arrived_and_sent_again_makes_no_second_result(
    tmp_path: Path, pair: list[Path]
) -> None:
    with running(kept(tmp_path, destinations=(share(tmp_path),))) as node:
        for again in (False, True):
            assert set(send(node.port, pair)) == {0x0000}
            # what was delivered and removed has no rows of deliveries any more
            found = until(node, lambda s, again=again: (again or sent(s)) and s.studies[0].state == "PAIRED")  # type: ignore[misc]
            assert found.instances.stored == len(files(tmp_path, "archive")) == 48
            node.retain()
            found = status(node.database)
            assert (found.instances.stored, files(tmp_path, "archive"), files(tmp_path, "results")) == (
                0,
                [],
                [],
            )
            assert found.studies[0].state == "REMOVED"
            assert found.studies[0].reason == "no image for 1e-09 days"
            assert found.deliveries == ()
            assert len(found.jobs) == len(list((tmp_path / "share").glob("*.dcm"))) == 1
            with node.database.reading() as connection:
                assert connection.execute(sa.select(removal)).all() == []


def test_what_waits_runs_or_is_on_its_way_stays(tmp_path: Path, pair: list[Path]) -> None:
    lost = CStoreDestination(
        "lost", ae_title="PACS", host="127.0.0.1", port=1, timeout=1.0, retry_seconds=900.0
    )
    with running(kept(tmp_path, destinations=(lost,)), endless_run) as node:
        send(node.port, pair[24:])
        until(node, lambda s: s.studies and s.studies[0].state == "WAITING")
        node.retain()
        send(node.port, pair[:24])
        node.retain()  # images just came
        until(node, lambda s: s.jobs and s.jobs[0].state == "RUNNING")
        node.retain()
    with running(kept(tmp_path, destinations=(lost,))) as node:
        until(node, done())
        node.retain()
        for state in ("QUEUED", "DEAD"):
            with node.database.writing() as connection:
                connection.execute(sa.update(delivery).values(state=state, due_at=time.time() + 900))
            node.retain()
        assert len(files(tmp_path, "archive")) == 48
        assert status(node.database).instances.stored == 48


def test_where_a_pacs_commits_to_results_only_confirmed_ones_count(tmp_path: Path, pair: list[Path]) -> None:
    folder = share(tmp_path)
    with running(kept(tmp_path, destinations=(folder,))) as node:
        send(node.port, pair)
        until(node, sent)
        committing = [CStoreDestination("share", ae_title="PACS", host="h", storage_commitment=True)]
        arguments = (node.database, tmp_path / "storage", AT_ONCE, committing, time.time(), lambda: 0.0)
        assert retention.retain(*arguments) == 0
        with node.database.writing() as connection:
            connection.execute(sa.update(delivery).values(state="CONFIRMED"))
        assert retention.retain(*arguments) == 1


def test_results_that_went_nowhere_are_kept_though_their_images_go(tmp_path: Path, pair: list[Path]) -> None:
    with running(kept(tmp_path)) as node:
        send(node.port, pair)
        until(node, done())
        node.retain()
        assert files(tmp_path, "archive") == []
        assert len(files(tmp_path, "results")) == 2


@pytest.mark.parametrize("gone", [0, 10, 48])
def test_a_crash_at_any_moment_of_a_removal_brings_nothing_back(
    tmp_path: Path, pair: list[Path], gone: int
) -> None:
    settings = kept(tmp_path, destinations=(share(tmp_path),))
    with running(settings) as node:
        send(node.port, pair)
        uid = until(node, sent).studies[0].study_uid
    database = Database(settings.database_url)
    assert retention._mark(database, settings.layout, uid, retention._ended(settings.destinations), "old")
    database.close()
    for path in files(tmp_path, "archive")[:gone]:
        path.unlink()
    node = Node(settings, run=quick_run)
    node.start()
    try:
        assert status(node.database).instances.stored == 0
        assert files(tmp_path, "archive") == files(tmp_path, "quarantine") == []
        assert set(send(node.port, pair[:3])) == {0x0000}
        assert len(files(tmp_path, "archive")) == 3
    finally:
        node.stop()


def test_an_image_that_comes_during_a_removal_is_kept_and_looked_at(
    tmp_path: Path, archive: Archive, database: Database
) -> None:
    with database.writing() as connection:
        connection.execute(sa.insert(removal).values(path="archive/00/a.dcm", study_uid="1.2", reason="old"))
    for name, path in (("1.2.1", "archive/00/a.dcm"), ("1.2.2", "archive/00/b.dcm")):
        (archive.layout.storage / path).write_bytes(b"")
        row = {"sop_class_uid": "1", "transfer_syntax_uid": "1", "sha256": "", "size": 1, "calling_ae": ""}
        with database.writing() as connection:
            values = {"sop_instance_uid": name, "path": path, "received_at": 0.0, "study_uid": "1.2", **row}
            connection.execute(sa.insert(instance).values(**values))
    retention.finish(database, archive.layout.storage, 0.0)
    with database.reading() as connection:
        assert connection.scalars(sa.select(instance.c.sop_instance_uid)).all() == ["1.2.2"]
    assert [path.name for path in (archive.layout.storage / "archive" / "00").iterdir()] == ["b.dcm"]


def test_the_two_studies_of_one_pair_are_kept_until_both_have_ended_and_go_together(
    database: Database, tmp_path: Path
) -> None:
    pair = make_pair()
    other = replace(pair.inspiratory, study_instance_uid="9.9")
    row = {"sop_class_uid": "1.2", "transfer_syntax_uid": "1.2", "sha256": "", "size": 1, "calling_ae": ""}
    with database.writing() as connection:
        jobs.create(database, connection, replace(pair, inspiratory=other), Parameters(), "1.0", 0.0)
        for uid, study_uid, at in (("1.1", "1.2.3", 9.0), ("1.2", "9.9", 1.0), ("1.3", "8.8", 5.0)):
            values = {"sop_instance_uid": uid, "path": uid, "study_uid": study_uid, "received_at": at}
            connection.execute(sa.insert(instance).values(**row, **values))
            state = {"study_uid": study_uid, "state": "PAIRED", "since": at, "received_at": at}
            connection.execute(sa.insert(study).values(**state))

    def stay(**of_the_job: Any) -> list[str]:
        if of_the_job:
            with database.writing() as connection:
                connection.execute(sa.update(job).values(**of_the_job))
        ended = retention._ended([FolderDestination("share", folder=tmp_path)])
        return [
            one.study_uid for one in sorted(retention._candidates(database, ended), key=lambda c: c.study_uid)
        ]

    assert stay(state="RUNNING") == ["8.8"]
    with database.writing() as connection:
        values = {"sop_instance_uid": "2.1", "sop_class_uid": "1.2", "job_id": 1, "path": "a"}
        connection.execute(sa.insert(result).values(**values))
        deliver.queue(database, connection, ["2.1"], ["share"], 0.0)
    assert stay(state="DONE") == ["8.8"]  # its result is on the way
    with database.writing() as connection:
        connection.execute(sa.update(delivery).values(state="SENT"))
        connection.execute(sa.update(study).where(study.c.study_uid == "1.2.3").values(state="WAITING"))
    assert stay() == ["8.8"]  # one of them waits for more
    with database.writing() as connection:
        connection.execute(sa.update(study).values(state="PAIRED"))
    assert stay() == ["1.2.3", "8.8", "9.9"]
    ended = retention._ended([FolderDestination("share", folder=tmp_path)])
    found = {one.study_uid: one.last for one in retention._candidates(database, ended)}
    assert found == {"1.2.3": 9.0, "9.9": 9.0, "8.8": 5.0}
