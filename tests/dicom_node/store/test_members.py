from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest
import sqlalchemy as sa
from node_values import CT, EXPLICIT, make_pair
from queued import queue, rows

from analysis.parameters import Parameters
from dicom_node.delivery import queue as deliver
from dicom_node.errors import Rejected, Unavailable
from dicom_node.jobs import attempts
from dicom_node.jobs import queue as jobs
from dicom_node.settings.destinations import CStoreDestination
from dicom_node.settings.layout import Layout
from dicom_node.store import storage_lock
from dicom_node.store.archive import Archive
from dicom_node.store.database import Database
from dicom_node.store.identity import join
from dicom_node.store.members import LEASE_SECONDS, NOW, Member
from dicom_node.store.storage_lock import StorageLock
from dicom_node.store.tables import member

PACS = CStoreDestination("pacs", ae_title="PACS", host="127.0.0.1", port=1)


class Clock:
    """A clock that moves when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def silent(database: Database, who: Member, seconds: float) -> None:
    """Let a node have said nothing for some time, by the database's clock."""
    with database.writing() as connection:
        long_ago = NOW[connection.dialect.name] - seconds
        connection.execute(sa.update(member).where(member.c.name == who.name).values(seen_at=long_ago))


def names(database: Database) -> set[str]:
    with database.reading() as connection:
        return set(connection.scalars(sa.select(member.c.name)))


def two(database: Database, clock: Clock) -> tuple[Member, Member]:
    """Two nodes, the first of which has spoken for as long as the lease."""
    one, other = Member(database, clock=clock), Member(database, clock=clock)
    one.join(alone=True)
    other.join(alone=False)
    for _ in range(7):
        clock.now += LEASE_SECONDS / 6
        one.beat()
    return one, other


def running(database: Database, owner: str) -> jobs.Job:
    with database.writing() as connection:
        jobs.create(database, connection, make_pair(), Parameters(), "1.0", 100.0)
    found = attempts.start_next(database, 100.0, owner)
    assert found is not None
    return found


def test_a_node_that_says_nothing_is_forgotten_and_its_jobs_are_taken_over(database: Database) -> None:
    one, other = two(database, clock := Clock())
    job = running(database, other.name)
    silent(database, other, LEASE_SECONDS - 2)
    clock.now += 1
    one.beat()
    assert attempts.reconcile(database, set(), 3, 200.0, one.name) == 0
    silent(database, other, LEASE_SECONDS + 1)
    clock.now += 1
    one.beat()
    assert names(database) == {one.name}
    assert attempts.reconcile(database, set(), 3, 200.0, one.name) == 1
    again = attempts.start_next(database, 300.0, one.name)
    assert again is not None
    assert again.attempt == job.attempt + 1
    assert attempts.given_up(database, {(job.id, job.attempt)}) == {(job.id, job.attempt)}
    assert not attempts.is_wanted(database, job.id, job.attempt)


def test_after_an_outage_of_the_database_nobody_is_forgotten_before_all_could_speak(
    database: Database,
) -> None:
    one, other = two(database, clock := Clock())
    clock.now += 10 * LEASE_SECONDS  # the database was away, and both nodes were silent
    silent(database, other, 10 * LEASE_SECONDS)
    for _ in range(5):
        one.beat()
        assert other.name in names(database)
        clock.now += LEASE_SECONDS / 6
    for _ in range(3):
        clock.now += LEASE_SECONDS / 6
        one.beat()
    assert names(database) == {one.name}


def test_a_node_that_was_forgotten_by_mistake_comes_back(database: Database) -> None:
    one, other = two(database, clock := Clock())
    silent(database, other, LEASE_SECONDS + 1)
    one.beat()
    assert names(database) == {one.name}
    other.beat()
    assert names(database) == {one.name, other.name}
    clock.now += 1
    other.leave()
    assert names(database) == {one.name}


def test_a_node_that_is_alone_on_its_storage_forgets_all_others_at_once(database: Database) -> None:
    old, new = Member(database), Member(database)
    old.join(alone=True)
    running(database, old.name)
    new.join(alone=True)
    assert attempts.reconcile(database, set(), 3, 200.0, new.name) == 1


def test_an_orderly_stop_puts_back_the_jobs_of_its_own_node_only(database: Database) -> None:
    one, other = two(database, Clock())
    running(database, other.name)
    assert attempts.interrupt(database, 200.0, one.name) == 0
    assert attempts.interrupt(database, 200.0, other.name) == 1


def test_an_attempt_begins_once_though_it_is_handed_out_twice(database: Database) -> None:
    job = running(database, "node")
    assert attempts.begun(database, job.id, job.attempt, "host:1")
    assert not attempts.begun(database, job.id, job.attempt, "host:2")
    assert not attempts.begun(database, job.id, job.attempt + 1, "host:2")
    attempts.interrupt(database, 200.0, "node")
    again = attempts.start_next(database, 300.0, "node")
    assert again is not None
    assert attempts.begun(database, again.id, again.attempt, "host:2")


def test_no_two_nodes_send_the_same_object_until_one_of_them_is_gone(
    database: Database, tmp_path: Path
) -> None:
    one, other = two(database, Clock())
    queue(database, tmp_path, "pacs")
    mine = deliver.due(database, tmp_path, PACS, 10.0, one.name)
    assert len(mine) == 3
    assert deliver.due(database, tmp_path, PACS, 10.0, other.name) == []
    # a step that was cut short by an outage takes its own again
    assert deliver.due(database, tmp_path, PACS, 10.0, one.name) == mine
    one.leave()
    assert deliver.due(database, tmp_path, PACS, 10.0, other.name) == mine
    assert {row.owner for row in rows(database)} == {other.name}


def store(archive: Archive, uid: str) -> str:
    head = {"sop_class_uid": CT, "sop_instance_uid": uid, "transfer_syntax_uid": EXPLICIT}
    return archive.store(**head, calling_ae="CT1", dataset=b"\x08\x00\x05\x00CS\x00\x00")


def test_a_start_removes_the_drafts_of_nodes_that_are_gone_and_leaves_those_of_others(
    database: Database, tmp_path: Path
) -> None:
    one, other = two(database, Clock())
    writing, starting = (Archive(tmp_path, database, member=who.name) for who in (other, one))
    for archive in (writing, starting):
        (archive.incoming / "draft").write_bytes(b"half")
    assert starting.sweep() == (0, 0)
    assert (writing.incoming / "draft").exists()
    other.leave()
    assert starting.sweep() == (1, 0)
    assert not (writing.incoming / "draft").exists()


def test_a_file_that_another_node_wrote_meanwhile_is_not_removed_as_one_that_lost_a_race(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two(database, Clock())
    receiving, starting = (Archive(tmp_path, database, member=who.name) for who in (other, one))
    read = Archive._row_of

    def between(self: Archive, path: Path) -> dict[str, str | float]:
        assert store(receiving, "1.2.3") == "same"  # named and acknowledged since the folder was listed
        return read(self, path)

    assert store(receiving, "1.2.3") == "stored"
    (path,) = receiving.paths(["1.2.3"]).values()
    monkeypatch.setattr(Archive, "_row_of", between)
    assert starting._adopt(path) is False
    assert path.exists()


def test_a_step_of_one_node_at_a_time_is_left_out_by_the_others(database: Database) -> None:
    if not database.is_shared:
        pytest.skip("a node on SQLite is alone: run by tests/postgres.sh")
    one, other = two(database, Clock())
    done: list[str] = []

    def step() -> None:
        done.append("one")
        other.in_turn("settle", lambda: done.append("other, in the middle"))
        other.in_turn("index", lambda: done.append("another step"))

    one.in_turn("settle", step)
    other.in_turn("settle", lambda: done.append("other, afterwards"))
    assert done == ["one", "another step", "other, afterwards"]
    with pytest.raises(Unavailable):
        one.in_turn("settle", _away)
    other.in_turn("settle", lambda: done.append("after an error"))
    assert done[-1] == "after an error"


def _away() -> None:
    raise Unavailable("the disk")


def test_nodes_of_one_database_share_a_storage_and_nodes_of_two_do_not(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "storage")
    first = StorageLock(layout, shared=True)
    assert first.alone
    first.share("a database")
    second = StorageLock(layout, shared=True)
    assert not second.alone
    second.share("a database")
    stranger = StorageLock(layout, shared=True)
    with pytest.raises(Rejected, match="have another database"):
        stranger.share("another database")
    for lock in (first, second, stranger):
        lock.close()
    assert StorageLock(layout, shared=True).alone


def test_a_node_on_sqlite_is_alone_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_lock, "LOCK_SECONDS", 0.1)
    layout = Layout(tmp_path / "storage")
    first = StorageLock(layout, shared=False)
    with pytest.raises(Unavailable, match="a node on SQLite is alone on it; several nodes need PostgreSQL"):
        StorageLock(layout, shared=False)
    first.close()


@pytest.mark.parametrize("shared", [True, False])
def test_a_storage_that_knows_no_locks_is_named_and_not_called_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(Unavailable, match=r"storage .* cannot be locked: No locks available"):
        StorageLock(Layout(tmp_path / "storage"), shared)


def test_the_identity_of_a_database_stays(database: Database, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "storage")
    assert join(layout, database) == join(layout, database) != ""
