from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import killer
import pytest
from node_values import dying_run, endless_run, make_pair, send, write_scan
from pynetdicom import AE, evt
from running_node import config, done, running, until

from dicom_node.errors import Rejected, Unavailable
from dicom_node.intake.header_reader import Reader
from dicom_node.node.node import Node
from dicom_node.node.status import Status, status
from dicom_node.pairing.analyse import in_order
from dicom_node.settings.config import JobSettings
from dicom_node.settings.destinations import CStoreDestination


@pytest.fixture
def insp(tmp_path: Path) -> list[Path]:
    return write_scan(tmp_path, "Thorax Insp", 1)


@pytest.fixture
def exp(tmp_path: Path) -> list[Path]:
    return write_scan(tmp_path, "Thorax Exp", 2)


def decided(found: Status) -> object:
    return found.studies and found.studies[0].state != "RECEIVING"


def test_one_phase_waits_for_the_other_visibly_and_the_pair_becomes_one_job(
    tmp_path: Path, insp: list[Path], exp: list[Path]
) -> None:
    with running(config(tmp_path)) as node:
        assert set(send(node.port, exp)) == {0x0000}
        (study,) = until(node, decided).studies
        assert study.state == "WAITING"
        assert study.reason.startswith("waiting for the other phase: only expiration")
        assert send(node.port, insp[::-1]) == [0x0000] * 24
        found = until(node, done())
        assert (len(found.jobs), found.studies[0].state) == (1, "PAIRED")
        assert set(send(node.port, [*insp, *exp])) == {0x0000}
        time.sleep(1.0)
        assert len(status(node.database).jobs) == 1


def test_a_missing_slice_keeps_the_pair_waiting_until_it_comes(
    tmp_path: Path, insp: list[Path], exp: list[Path]
) -> None:
    with running(config(tmp_path)) as node:
        send(node.port, [*exp, *insp[:10], *insp[11:]])
        (study,) = until(node, decided).studies
        assert study.state == "WAITING"
        assert "refused: " in study.reason
        send(node.port, [insp[10]])
        until(node, done())


def test_slices_that_come_late_make_a_second_revision(
    tmp_path: Path, insp: list[Path], exp: list[Path]
) -> None:
    with running(config(tmp_path)) as node:
        send(node.port, [*exp, *insp[:-1]])
        until(node, done())
        send(node.port, insp[-1:])
        found = until(node, done(2))
        assert sorted(j.revision for j in found.jobs) == [1, 2]


def test_unreadable_and_foreign_objects_are_kept_and_harm_nothing(
    tmp_path: Path, insp: list[Path], exp: list[Path]
) -> None:
    with running(config(tmp_path)) as node:
        for n, junk in enumerate((b"", b"\xff" * 5000, b"\x08\x00\x16\x00UI\xff\xff" + b"x" * 100)):
            node.archive.store(
                sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
                sop_instance_uid=f"1.2.3.{n}",
                transfer_syntax_uid="1.2.840.10008.1.2.1",
                calling_ae="X",
                dataset=junk,
            )
        send(node.port, [*insp, *exp])
        found = until(node, done())
        assert found.instances.stored == 51


def test_a_worker_that_dies_is_replaced_and_at_last_given_up(
    tmp_path: Path, insp: list[Path], exp: list[Path]
) -> None:
    with running(config(tmp_path, jobs=JobSettings(max_crashes=2)), dying_run) as node:
        send(node.port, [*insp, *exp])
        (job,) = until(node, lambda found: found.jobs and found.jobs[0].state == "FAILED").jobs
        assert job.attempt == 2
        assert job.reason == "2 attempts ended without a result; the process of the last ended by signal 9"


def test_a_stopped_node_goes_on_where_it_was(tmp_path: Path, insp: list[Path], exp: list[Path]) -> None:
    settings = config(tmp_path)
    with running(settings, endless_run) as node:
        send(node.port, [*insp, *exp])
        until(node, lambda found: found.jobs and found.jobs[0].stage == "registration")
    with running(settings) as node:
        (job,) = until(node, done()).jobs
        assert (job.attempt, job.revision) == (2, 1)


def test_results_arrive_at_each_destination_though_another_is_dead(
    tmp_path: Path, insp: list[Path], exp: list[Path]
) -> None:
    got: list[str] = []

    def handle(event: Any) -> int:
        got.append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    ae = AE("PACS")
    ae.add_supported_context("1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.1.2.1")
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, handle)])
    assert server is not None
    both = ("seg", "sr")
    alive = CStoreDestination(
        "alive", ae_title="PACS", host="127.0.0.1", port=server.server_address[1], objects=both
    )
    dead = CStoreDestination("dead", ae_title="PACS", host="127.0.0.1", port=1, timeout=2.0, objects=both)
    with running(config(tmp_path, destinations=(dead, alive))) as node:
        send(node.port, [*insp, *exp])

        def sent(found: Status) -> object:
            return {d.destination: d.state for d in found.deliveries if d.attempts} == {
                "alive": "SENT",
                "dead": "QUEUED",
            }

        found = until(node, sent)
        reasons = {d.destination: d.reason for d in found.deliveries}
        assert reasons["dead"] == "dead (PACS at 127.0.0.1:1) cannot be reached"
    server.shutdown()
    assert len(got) == 1


def test_two_nodes_never_share_a_storage(tmp_path: Path) -> None:
    settings = config(tmp_path)
    with running(settings), pytest.raises(Unavailable, match="another node uses the storage"):
        Node(settings)
    with running(settings):
        pass


def test_the_larger_lungs_are_inspiration_and_a_series_that_denies_it_is_refused() -> None:
    undecided = make_pair(decided=False)
    assert in_order(undecided, (5000.0, 2500.0)) == undecided
    swapped = in_order(undecided, (2500.0, 5000.0))
    assert (swapped.inspiratory, swapped.expiratory) == (undecided.expiratory, undecided.inspiratory)
    with pytest.raises(Rejected) as caught:
        in_order(make_pair(), (2500.0, 5000.0))
    assert str(caught.value) == (
        "series 1.2.3.2 says expiration (SeriesDescription), but its lungs are larger (5000 ml)"
        " than those of the other series (2500 ml)"
    )
    half = replace(undecided, expiratory=replace(undecided.expiratory, phase="inspiration"))
    assert in_order(half, (2500.0, 5000.0)).inspiratory == half.expiratory


def test_a_file_that_kills_or_hangs_its_reader_is_blamed_and_no_other() -> None:
    reader = Reader(killer.read, timeout=2.0)
    names = ["a", "kill", "b", "hang", "c", "bug", "d"]
    assert reader.read_all([Path(name) for name in names]) == [
        "a",
        "the file crashes its reader",
        "b",
        "the file hangs its reader",
        "c",
        "the file cannot be read (ZeroDivisionError)",
        "d",
    ]
    reader.close()
    with pytest.raises(Unavailable, match="closed"):
        reader.read_all([Path("a")])
