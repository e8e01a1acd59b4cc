"""MPPS from real associations (pynetdicom; dcmtk has no such SCU): what is taken, refused, and what it hastens."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from node_values import quick_run, send, write_scan
from pydicom import Dataset, dcmread
from pynetdicom import AE, evt
from pynetdicom.dsutils import encode
from running_node import done, running, until

from dicom_node.dicom.uids import PERFORMED_PROCEDURE_STEP as MPPS
from dicom_node.intake import mpps as performed
from dicom_node.network.storage_scp import Receiver
from dicom_node.settings.config import Config, ReceiveSettings
from dicom_node.store.database import Database
from dicom_node.studies import queue as studies

STEP = "1.2.5"
QUIET = 3600.0


@pytest.fixture
def port(database: Database) -> Iterator[int]:
    handlers = {
        evt.EVT_N_CREATE: partial(performed.on_create, database),
        evt.EVT_N_SET: partial(performed.on_set, database),
    }
    receiver = Receiver(ReceiveSettings(port=0), lambda one: "stored", lambda: 1e6, handlers)
    yield receiver.start()
    receiver.stop()


@pytest.fixture
def assoc(port: int) -> Iterator[Any]:
    assoc = associated(port)
    yield assoc
    assoc.release()


def associated(port: int) -> Any:
    ae = AE("CT1")
    ae.add_requested_context(MPPS)
    assoc = ae.associate("127.0.0.1", port)
    assert assoc.is_established
    return assoc


def begun(study: str = "1.2.3", state: str = "IN PROGRESS") -> Dataset:
    ds, scheduled = Dataset(), Dataset()
    scheduled.StudyInstanceUID = study
    ds.ScheduledStepAttributesSequence = [scheduled] if study else []
    ds.PerformedProcedureStepStatus, ds.PatientName, ds.Modality = state, "Doe^Jane", "CT"
    ds.PerformedSeriesSequence = []
    return ds


def ended(images: Sequence[str], state: str = "COMPLETED") -> Dataset:
    ds, series = Dataset(), Dataset()
    series.SeriesInstanceUID = "1.2.3.1"
    series.ReferencedImageSequence = []
    for uid in images:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", uid
        series.ReferencedImageSequence.append(item)
    ds.PerformedProcedureStepStatus, ds.PerformedSeriesSequence = state, [series]
    return ds


def create(assoc: Any, ds: Dataset | None, uid: str = STEP) -> Dataset:
    status: Dataset
    status, _ = assoc.send_n_create(ds, MPPS, uid)
    return status


def change(assoc: Any, ds: Dataset, uid: str = STEP) -> Dataset:
    status: Dataset
    status, _ = assoc.send_n_set(ds, MPPS, uid)
    return status


def test_a_step_begins_goes_on_ends_and_changes_no_more(assoc: Any) -> None:
    assert create(assoc, begun()).Status == 0x0000
    duplicate = create(assoc, begun())
    assert (duplicate.Status, duplicate.ErrorComment) == (0x0111, "There is a procedure step of this UID")
    assert change(assoc, ended(["1.2.3.4"], "IN PROGRESS")).Status == 0x0000
    assert change(assoc, ended(["1.2.3.4", "1.2.3.5"])).Status == 0x0000
    over = change(assoc, ended(["1.2.3.4"]))
    assert (over.Status, over.ErrorID) == (0x0110, 0xA710)
    assert over.ErrorComment == "Performed Procedure Step Object may no longer be updated"


#: Elements whose value is none of the kind that the standard says.
ODD = {
    "steps that are a text": (0x00400270, "LO", "x"),
    "series that are a text": (0x00400340, "LO", "x"),
    "series that are numbers": (0x00400340, "DS", "1.5\\2.5"),
    "series that are bytes": (0x00400340, "OB", b"\x00\x01"),
}


@pytest.mark.parametrize("odd", ODD)
def test_a_malformed_data_set_is_an_invalid_argument_and_no_internal_error(
    assoc: Any, odd: str, caplog: pytest.LogCaptureFixture
) -> None:
    ds = begun()
    ds.add_new(*ODD[odd])
    assert create(assoc, ds).Status == 0x0115
    assert create(assoc, begun()).Status == 0x0000
    if "series" in odd:
        assert change(assoc, ds).Status == 0x0115
    assert change(assoc, ended(["1.2.3.4"])).Status == 0x0000
    assert "failed" not in caplog.text


@given(
    implicit=st.booleans(),
    changes=st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.integers(0, 40),
)
def test_whatever_bytes_come_none_is_an_internal_error(
    implicit: bool, changes: list[tuple[int, int]], cut: int
) -> None:
    ds = ended(["1.2.3.4", "1.2.3.5"], "IN PROGRESS")
    ds.ScheduledStepAttributesSequence = begun().ScheduledStepAttributesSequence
    data = bytearray(encode(ds, implicit, True) or b"")
    for at, value in changes:
        data[at % len(data)] = value
    del data[len(data) - cut :]
    database = Database("sqlite://", prepare=True)
    for serve, names in (
        (performed.on_create, ("AffectedSOPInstanceUID", "AttributeList")),
        (performed.on_set, ("RequestedSOPInstanceUID", "ModificationList")),
    ):
        event = SimpleNamespace(
            request=SimpleNamespace(**dict(zip(names, (STEP, BytesIO(bytes(data))), strict=True))),
            context=SimpleNamespace(transfer_syntax="1.2.840.10008.1.2" + ("" if implicit else ".1")),
            assoc=SimpleNamespace(requestor=SimpleNamespace(ae_title="CT1")),
        )
        status, _ = serve(database, event)
        assert status.Status != 0x0110, status.get("ErrorComment")
    database.close()


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_what_cannot_be_a_step_is_refused_with_its_status(assoc: Any) -> None:
    assert create(assoc, begun(state="COMPLETED")).Status == 0x0106
    assert create(assoc, begun(study="")).Status == 0x0120
    assert create(assoc, begun(study="../..")).Status == 0x0120
    assert create(assoc, None).Status == 0x0115
    assert change(assoc, ended([]), "1.2.99").Status == 0x0112
    assert create(assoc, begun()).Status == 0x0000
    assert change(assoc, ended([], "PAUSED")).Status == 0x0106
    assert change(assoc, ended(["1..2"])).Status == 0x0115
    assert change(assoc, ended(["1.2.3.4"])).Status == 0x0000


def quiet_yet(database: Database, received_at: float) -> None:
    with database.writing() as connection:
        studies.touch(database, connection, "1.2.3", received_at, QUIET)


def test_a_study_is_due_when_its_scanner_is_done_and_every_listed_image_is_here(
    assoc: Any, archive: Any, database: Database
) -> None:
    now = time.time()

    def store(uid: str) -> None:
        archive.store(
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            sop_instance_uid=uid,
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            calling_ae="CT1",
            dataset=b"",
        )

    def hastened() -> bool:
        return studies.hasten(database, now, QUIET) == ["1.2.3"]

    quiet_yet(database, now)
    assert not hastened()
    create(assoc, begun())
    store("1.2.3.4")
    assert not hastened()
    change(assoc, ended(["1.2.3.4", "1.2.3.5"]))
    assert not hastened()
    create(assoc, begun(), "1.2.6")
    store("1.2.3.5")
    assert not hastened()  # another step is IN PROGRESS
    change(assoc, ended([], "DISCONTINUED"), "1.2.6")
    assert hastened()
    assert not hastened()  # once
    quiet_yet(database, now + 1)  # another image came
    assert hastened()


def test_steps_nobody_spoke_of_for_long_are_forgotten(assoc: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert create(assoc, begun()).Status == 0x0000
    monkeypatch.setattr(performed, "FORGET_SECONDS", -1.0)
    assert create(assoc, begun(), "1.2.7").Status == 0x0000
    monkeypatch.undo()
    assert create(assoc, begun()).Status == 0x0000


def test_the_node_pairs_at_once_what_its_scanner_completed_and_shows_what_is_missing(tmp_path: Path) -> None:
    insp = write_scan(tmp_path, "Thorax Insp", 1)
    exp = write_scan(tmp_path, "Thorax Exp", 2)
    study = dcmread(insp[0]).StudyInstanceUID
    settings = Config(
        storage=tmp_path / "storage",
        tick_seconds=0.05,
        receive=ReceiveSettings(port=0, quiet_seconds=QUIET, min_free_mb=1),
    )
    with running(settings, quick_run) as node:
        assoc = associated(node.port)
        assert create(assoc, begun(study)).Status == 0x0000
        send(node.port, [*insp, *exp[:-1]])
        listed = [dcmread(p, stop_before_pixels=True).SOPInstanceUID for p in [*insp, *exp]]
        assert change(assoc, ended(listed)).Status == 0x0000
        found = until(node, lambda f: f.studies and f.instances.to_be_read == 0)
        (row,) = found.studies
        assert (row.state, row.listed, row.missing) == ("RECEIVING", 48, 1)
        send(node.port, exp[-1:])
        found = until(node, done())
        assert (found.studies[0].state, found.studies[0].missing) == ("PAIRED", 0)
        assoc.release()


def test_a_step_in_progress_holds_nothing_up(tmp_path: Path) -> None:
    settings = Config(
        storage=tmp_path / "storage",
        tick_seconds=0.05,
        receive=ReceiveSettings(port=0, quiet_seconds=0.4, min_free_mb=1),
    )
    scans = [*write_scan(tmp_path, "Thorax Insp", 1), *write_scan(tmp_path, "Thorax Exp", 2)]
    with running(settings, quick_run) as node:
        assoc = associated(node.port)
        create(assoc, begun(dcmread(scans[0]).StudyInstanceUID))
        send(node.port, scans)
        until(node, done())
        assoc.release()
