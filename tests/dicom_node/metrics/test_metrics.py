"""What a scrape and a probe get: counters that survive, gauges of now, and nobody's name."""

from __future__ import annotations

import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from node_values import make_pair, send, write_scan
from prometheus_client.parser import text_string_to_metric_families
from running_node import config, done, running, until

from analysis.parameters import Parameters
from dicom_node.delivery import queue as deliver
from dicom_node.jobs import attempts
from dicom_node.jobs import queue as jobs
from dicom_node.metrics.answers import Answers
from dicom_node.metrics.collector import exposition
from dicom_node.metrics.readings import METRICS, Scrape
from dicom_node.metrics.server import MOST, MetricsServer
from dicom_node.settings.config import Config, MetricsSettings, ReceiveSettings
from dicom_node.settings.destinations import FolderDestination
from dicom_node.settings.notify import WebhookChannel
from dicom_node.settings.peers import Peer
from dicom_node.store import tally
from dicom_node.store.archive import Archive
from dicom_node.store.database import Database
from dicom_node.store.heartbeat import STILL_SECONDS, Pulse, beat, read_pulse, runs
from dicom_node.store.tables import delivery, job, metadata, result, study

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"


def pulse(at: float | None = None) -> Pulse:
    return Pulse("1.0", 0.0, 104, 2, 2, time.time() if at is None else at)


def settings(tmp_path: Path, **changes: object) -> Config:
    share = FolderDestination("share", folder=tmp_path)
    values = {"storage": tmp_path, "destinations": (share,), **changes}
    return Config(**values)  # type: ignore[arg-type]


def numbers(config: Config, database: Database, last: Pulse | None = None) -> dict[str, float]:
    """Return every sample of a scrape, by name and labels as they are written."""
    text = exposition(config, database, lambda: last or pulse()).decode()
    return {
        s.name + "".join(f" {k}={v}" for k, v in sorted(s.labels.items())): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_the_page_of_metrics_and_the_collector_say_the_same() -> None:
    rows = re.findall(r"^\| `(dicom_node_\w+)` \| (\w+) \| ([^|]*) \|", PAGE.read_text(), flags=re.M)
    written = [(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows]
    assert written == [(row.shown, row.kind, row.labels) for row in METRICS]


def test_names_follow_the_conventions_of_prometheus() -> None:
    for row in METRICS:
        assert row.help.endswith("."), row.name
        assert not re.search(r"_(ms|mb|kb|minutes|hours|total)(_|$)", row.name), row.name


def test_counters_stay_when_what_they_counted_is_removed(database: Database, tmp_path: Path) -> None:
    with database.writing() as connection:
        number = jobs.create(database, connection, make_pair(), Parameters(), "1", 1.0)
    assert number is not None
    assert attempts.start_next(database, 10.0) is not None
    with database.writing() as connection:
        jobs.move(connection, number, "finish", 70.0)
    before = numbers(settings(tmp_path), database)
    assert before["dicom_node_jobs_ended_total state=DONE"] == 1
    assert before["dicom_node_job_duration_seconds_sum"] == 60
    assert before["dicom_node_job_duration_seconds_count"] == 1
    with database.writing() as connection:
        connection.execute(sa.delete(job))
    after = numbers(settings(tmp_path), database)
    assert after["dicom_node_jobs state=DONE"] == 0
    assert after["dicom_node_jobs_ended_total state=DONE"] == 1


def test_a_number_is_undone_with_the_transaction_of_what_it_counts(database: Database) -> None:
    with suppress(RuntimeError), database.writing() as connection:
        tally.add(connection, "jobs", outcome="DONE")
        raise RuntimeError
    with database.reading() as connection:
        assert tally.read(connection) == {}


def test_strangers_are_counted_together() -> None:
    assert [tally.known(name, {"CT1"}) for name in ("CT1", "CT2", "", "1.2.3")] == [
        "CT1",
        "other",
        "other",
        "other",
    ]


def test_labels_and_values_hold_no_uid(database: Database, archive: Archive, tmp_path: Path) -> None:
    uids = {"1.2.3.4.5"}
    with database.writing() as connection:
        connection.execute(
            sa.insert(study).values(study_uid="1.2.3.4.5", state="WAITING", since=5.0, received_at=5.0)
        )
    text = exposition(settings(tmp_path), database, pulse).decode()
    assert not any(uid in text for uid in uids)
    assert "dicom_node_study_oldest_waiting_timestamp_seconds 5.0" in text


def test_a_database_that_is_away_is_a_number_and_no_error(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'node.db'}", prepare=True)
    database.close()
    (tmp_path / "node.db").write_bytes(b"no database" * 100)
    found = numbers(settings(tmp_path), database)
    assert found["dicom_node_database_up"] == 0
    assert found["dicom_node_disk_free_bytes"] > 0
    assert "dicom_node_jobs state=DONE" not in found


def test_queued_and_dead_objects_are_counted_by_destination(database: Database, tmp_path: Path) -> None:
    row = {
        "study_uid": "1.2",
        "revision": 1,
        "fingerprint": "f",
        "pair": "",
        "parameters": "",
        "created": 0.0,
    }
    with database.writing() as connection:
        connection.execute(sa.insert(job).values(**row, state="DONE", since=0.0, due_at=0.0))
        for uid in ("1.1", "1.2"):
            values = {"sop_instance_uid": uid, "sop_class_uid": "1", "path": uid, "job_id": 1}
            connection.execute(sa.insert(result).values(**values))
        deliver.queue(database, connection, ["1.1", "1.2"], ["share"], 7.0)
        connection.execute(sa.update(delivery).where(delivery.c.id == 2).values(state="DEAD"))
    found = numbers(settings(tmp_path), database)
    assert found["dicom_node_deliveries destination=share state=QUEUED"] == 1
    assert found["dicom_node_deliveries destination=share state=DEAD"] == 1
    assert found["dicom_node_delivery_oldest_queued_timestamp_seconds destination=share"] == 7.0


def test_every_question_of_a_scrape_is_answered_by_an_index(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'node.db'}", prepare=True)
    asked: list[str] = []
    hook = WebhookChannel("chat", url="https://x.example", secret_file=tmp_path / "secret")

    def note(_c: object, _cursor: object, statement: str, parameters: tuple[object, ...], *_: object) -> None:
        if statement.startswith("SELECT"):
            asked.append(statement)

    sa.event.listen(database.engine, "before_cursor_execute", note)
    numbers(settings(tmp_path, notify=(hook,)), database)
    sa.event.remove(database.engine, "before_cursor_execute", note)
    assert len(asked) > 15
    scans = []
    with database.reading() as connection:
        for statement in asked:
            names = statement.count("?")
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", ("",) * names).all()
            scans += [
                row[3]
                for row in plan
                if re.fullmatch(r"SCAN (?!tally|SCALAR|\().*", row[3]) and "INDEX" not in row[3]
            ]
    assert [s for s in scans if "audit_spool" not in s] == []


@pytest.fixture
def served(database: Database, tmp_path: Path) -> Iterator[MetricsServer]:
    server = MetricsServer(MetricsSettings(port=0), Answers(settings(tmp_path), database, pulse))
    server.start()
    yield server
    server.stop()


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_small_server_answers_scrapes_and_probes_and_nothing_else(served: MetricsServer) -> None:
    status, text = get(served.port, "/metrics")
    assert (status, "dicom_node_database_up 1.0" in text) == (200, True)
    assert get(served.port, "/livez") == (200, "ok\n")
    assert get(served.port, "/readyz?verbose") == (200, "ok\n")
    assert get(served.port, "/../node.toml")[0] == 404


def test_silent_connections_keep_no_scrape_out_for_long(served: MetricsServer) -> None:
    silent = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(2 * MOST)]
    end = time.monotonic() + 30
    while True:
        try:
            if get(served.port, "/livez")[0] == 200:
                break
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.3)
    for one in silent:
        one.close()


def test_a_port_that_is_taken_is_said(database: Database, tmp_path: Path, served: MetricsServer) -> None:
    second = MetricsServer(MetricsSettings(port=served.port), Answers(settings(tmp_path), database, pulse))
    from dicom_node.errors import Unavailable

    with pytest.raises(Unavailable, match="for the metrics: Address already in use"):
        second.start()


def test_a_node_whose_ticks_stand_still_is_not_live(database: Database, tmp_path: Path) -> None:
    late = pulse(time.time() - STILL_SECONDS - 5)
    answer = Answers(settings(tmp_path), database, lambda: late).answer("/livez")
    assert answer is not None
    assert answer.status == 503
    assert re.fullmatch(rb"no tick has run for 6[45] s\n", answer.body)
    none = Answers(settings(tmp_path), database, lambda: None).answer("/livez")
    assert none is not None
    assert (none.status, none.body) == (503, b"no node has run with this storage\n")


@pytest.mark.parametrize("what", ["disk", "acceptors", "database"])
def test_readiness_names_what_is_wrong(what: str, tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'node.db'}", prepare=True)
    low = ReceiveSettings(min_free_mb=10**9 if what == "disk" else 1)
    last = Pulse("1", 0.0, 104, 0 if what == "acceptors" else 2, 2, time.time())
    if what == "database":
        metadata.drop_all(database.engine)
        database.close()
        (tmp_path / "node.db").write_bytes(b"no database" * 100)
    answer = Answers(settings(tmp_path, receive=low), database, lambda: last).answer("/readyz")
    said = {
        "disk": rb"\d+ MB left on the disk: below 1000000000 MB nothing is received\n",
        "acceptors": rb"no process accepts connections on port 104\n",
        "database": rb"the database cannot be reached: file is not a database\n",
    }
    assert answer is not None
    assert answer.status == 503
    assert re.fullmatch(said[what], answer.body), answer.body


def test_a_pulse_is_read_back_and_a_shorter_one_leaves_nothing_of_a_longer(tmp_path: Path) -> None:
    layout = settings(tmp_path).layout
    assert read_pulse(layout) is None
    for last in (Pulse("1.0.0.dev12345", 1.5, 11112, 10, 12, 1e9), Pulse("2", 1.0, 4, 0, 1, 2e9)):
        beat(layout, last)
        assert read_pulse(layout) == last


def test_a_node_counts_what_it_does_and_is_seen_from_outside(tmp_path: Path) -> None:
    paths = [*write_scan(tmp_path, "Thorax Insp", 2), *write_scan(tmp_path, "Thorax Exp", 3)]
    receive = ReceiveSettings(
        port=0, quiet_seconds=0.4, min_free_mb=1, peers=(Peer("CT1"), Peer("", "127.0.0.1"))
    )
    where = config(tmp_path, metrics=MetricsSettings(port=0))
    where = replace(where, receive=receive)
    assert not runs(where.layout)
    with running(where) as node:
        assert node._metrics is not None
        port = node._metrics.port
        until(node, lambda found: node._acceptors.accepting == 2)
        send(node.port, paths)
        until(node, done())
        until(node, lambda found: (last := read_pulse(where.layout)) is not None and last.accepting == 2)
        until(node, lambda found: b"associations_total{" in exposition(where, node.database, node.pulse))
        assert runs(where.layout)
        assert (get(port, "/livez"), get(port, "/readyz")) == ((200, "ok\n"), (200, "ok\n"))
        found = numbers(where, node.database, node.pulse())
    assert not runs(where.layout)
    with pytest.raises(OSError, match="refused"):
        get(port, "/livez")
    assert found["dicom_node_associations_total outcome=released peer=CT1"] == 1
    assert found["dicom_node_instances_received_total outcome=read peer=CT1"] == len(paths)
    assert found["dicom_node_received_bytes_total peer=CT1"] > len(paths) * 128
    assert found["dicom_node_jobs_ended_total state=DONE"] == 1
    assert found["dicom_node_studies_decided_total state=PAIRED"] == 1
    assert found["dicom_node_studies state=PAIRED"] == 1
    assert (found["dicom_node_up"], found["dicom_node_acceptors"]) == (1, 2)
    assert found["dicom_node_start_time_seconds"] > 1e9


def test_a_row_needs_what_its_source_says() -> None:
    scrape = Scrape(Config(storage=Path("/")), pulse(), 0.0)
    for row in METRICS:
        if row.source.value == "node":
            row.read(scrape)  # would fail without a connection
