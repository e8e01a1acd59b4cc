from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import killer
import numpy as np
import pytest
import sqlalchemy as sa
from node_values import dying_run, endless_run, make_pair, send, write_scan
from pydicom import Dataset, dcmread
from pynetdicom import AE, evt
from running_node import config, done, running, until

from analysis.volume import Grid, Volume
from dicom_node.dicom.ct_writer import Scan, write_ct_series
from dicom_node.errors import Rejected, Unavailable
from dicom_node.intake.header_reader import Reader
from dicom_node.model import PairingRules
from dicom_node.node.node import Node
from dicom_node.node.status import Status, status
from dicom_node.pairing.analyse import in_order
from dicom_node.settings.config import AuditSettings, JobSettings
from dicom_node.settings.destinations import CStoreDestination
from dicom_node.store.tables import instance
from dicom_node.store.unread import CRASHES
from dicom_node.studies import queue as studies


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


def scan(tmp_path: Path, words: str, number: int, study: str, **attributes: object) -> list[Path]:
    when = datetime(2026, 1, 1, 9, number)
    array = np.arange(24 * 64, dtype=np.int16).reshape(24, 8, 8) - 1000
    volume = Volume(array, Grid.axial((24, 8, 8), (5.0, 2.0, 2.0)))
    made = Scan(words, study, number, acquired=when, attributes=attributes)
    return write_ct_series(volume, tmp_path / f"{study} {words}", made)


def test_two_patients_in_one_study_are_refused_and_the_audit_trail_is_told(tmp_path: Path) -> None:
    settings = config(tmp_path, audit=AuditSettings(file=tmp_path / "audit.log"))
    with running(settings) as node:
        insp = scan(tmp_path, "Insp", 1, "s", PatientID="PAT1", PatientName="Doe^Jane")
        exp = scan(tmp_path, "Exp", 2, "s", PatientID="PAT2", PatientName="Roe^Jane")
        send(node.port, [*insp, *exp])  # at once: on a busy machine the study would be quiet in between
        found = until(node, decided)
        assert found.studies[0].state == "REFUSED"
        assert "are of two patients: Patient ID (0010,0020) differs" in found.studies[0].reason
        assert found.jobs == ()
    told = (tmp_path / "audit.log").read_text()
    assert "Series of two patients" in told
    assert "Doe" not in told
    assert "PAT1" not in told


def test_each_breath_hold_its_own_study_becomes_one_job_of_both(tmp_path: Path) -> None:
    frame = {"FrameOfReferenceUID": "1.2.3.4.5"}
    with running(config(tmp_path)) as node:
        send(node.port, scan(tmp_path, "Insp", 1, "one", **frame))
        until(node, decided)
        send(node.port, scan(tmp_path, "Exp", 2, "two", **frame))
        found = until(node, done())
        assert [s.state for s in found.studies] == ["PAIRED", "PAIRED"]


def test_an_operator_may_join_two_studies_of_one_patient(tmp_path: Path) -> None:
    settings = config(tmp_path, pairing=PairingRules(between_studies_minutes=0.0))
    insp, exp = scan(tmp_path, "Insp", 1, "one"), scan(tmp_path, "Exp", 2, "two")
    stranger = scan(tmp_path, "Insp", 3, "three", PatientID="other")
    uid = {
        name: str(dcmread(files[0]).StudyInstanceUID)
        for name, files in (("i", insp), ("e", exp), ("s", stranger))
    }
    with running(settings) as node:
        send(node.port, [*insp, *exp, *stranger])
        until(node, lambda found: [s.state for s in found.studies] == ["WAITING"] * 3)
        studies.join(node.database, uid["e"], uid["s"], time.time())
        until(node, lambda found: any("two patients" in s.reason for s in found.studies))
        studies.join(node.database, uid["e"], uid["i"], time.time())
        until(node, done())
        with pytest.raises(Rejected, match="cannot be joined with itself"):
            studies.join(node.database, uid["e"], uid["e"], time.time())


def test_a_command_that_names_another_instance_is_told_once_and_the_data_set_counts(
    tmp_path: Path, insp: list[Path], exp: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    with running(config(tmp_path)) as node:
        for n, path in enumerate([*insp, *exp]):
            ds, buffer = dcmread(path), BytesIO()
            bare = Dataset()
            bare.update({e.tag: e for e in ds if e.tag.group != 2})
            bare.save_as(buffer, implicit_vr=False, little_endian=True)
            node.archive.store(
                sop_class_uid=ds.SOPClassUID, sop_instance_uid=f"2.25.999{n}1",
                transfer_syntax_uid="1.2.840.10008.1.2.1", calling_ae="PROXY", dataset=buffer.getvalue(),
            )  # fmt: skip
        until(node, done())
        uid = str(dcmread(insp[0]).SOPInstanceUID)
        assert list(node.archive.paths([uid, "2.25.99901"])) == [uid]
    told = [r.getMessage() for r in caplog.records if "came under another SOP Instance UID" in r.getMessage()]
    # a line for each batch of headers that were read: how many batches there are, the machine's speed decides
    assert sum(int(line.split()[0]) for line in told) == len(insp) + len(exp)
    assert len(told) < (len(insp) + len(exp)) / 2
    assert all("of PROXY" in line for line in told)


def test_an_image_whose_reader_was_killed_is_read_again_at_the_next_start(
    tmp_path: Path, insp: list[Path]
) -> None:
    settings = config(tmp_path)
    with running(settings) as node:
        send(node.port, insp)
        until(node, decided)
        with node.database.writing() as connection:  # as after the out-of-memory killer took its reader
            blamed = sa.update(instance).where(instance.c.sop_instance_uid == insp[0].stem)
            connection.execute(blamed.values(header=None, problem=CRASHES))
        assert status(node.database).instances.unreadable == 1
    with running(settings) as node:
        until(node, lambda found: found.instances.unreadable == found.instances.to_be_read == 0)
