from __future__ import annotations

import queue
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from node_values import CT, EXPLICIT, image
from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom.dsutils import encode

from dicom_node.dicom.uids import VERIFICATION
from dicom_node.errors import Unavailable
from dicom_node.network.storage_scp import STATUSES, STORAGE_CLASSES, Received, Receiver
from dicom_node.settings.config import ReceiveSettings
from dicom_node.settings.peers import Peer

SYNTAXES = {
    "JPEG Lossless": "1.2.840.10008.1.2.4.70",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "HTJ2K": "1.2.840.10008.1.2.4.201",
    "RLE": "1.2.840.10008.1.2.5",
    "deflated": "1.2.840.10008.1.2.1.99",
    "big endian": "1.2.840.10008.1.2.2",
    "implicit": "1.2.840.10008.1.2",
    "explicit": EXPLICIT,
}


@contextmanager
def listening(
    store: Callable[[Received], Any], free_mb: float = 1e6, **settings: Any
) -> Iterator[Callable[..., Any]]:
    """A receiver on a free port; yields a function that associates with it."""
    receiver = Receiver(ReceiveSettings(port=0, **settings), store, lambda: free_mb)
    port = receiver.start()

    def associate(
        calling: str = "CT1", called: str = "VQNODE", syntax: str = EXPLICIT, sop_class: str = CT
    ) -> Any:
        ae = AE(calling)
        ae.add_requested_context(VERIFICATION)
        ae.add_requested_context(sop_class, syntax)
        return ae.associate("127.0.0.1", port, ae_title=called)

    try:
        yield associate
    finally:
        receiver.stop()


def sent(assoc: Any, ds: Dataset) -> Dataset:
    assert assoc.is_established
    status: Dataset = assoc.send_c_store(ds)
    assoc.release()
    return status


def test_echo_is_answered() -> None:
    with listening(lambda received: "stored") as associate:
        assoc = associate()
        assert assoc.send_c_echo().Status == 0x0000
        assoc.release()


def test_bytes_arrive_as_they_were_sent_with_the_uids_of_the_command() -> None:
    got: list[tuple[Received, bytes]] = []

    def store(received: Received) -> str:
        got.append((received, bytes(received.dataset)))
        return "stored"

    with listening(store) as associate:
        assert sent(associate(), image()).Status == 0x0000
    ((received, dataset),) = got
    assert dataset == encode(image(), False, True)
    assert (received.sop_class_uid, received.sop_instance_uid) == (CT, "1.2.3.4")
    assert (received.transfer_syntax_uid, received.calling_ae) == (EXPLICIT, "CT1")


def store_request(dataset: bytes, piece: int) -> list[bytes]:
    """The P-DATA-TF PDUs (PS3.8 9.3.5) of a C-STORE-RQ, the data set in pieces."""
    command = Dataset()
    command.AffectedSOPClassUID, command.AffectedSOPInstanceUID = CT, "1.2.3.4"
    command.CommandField, command.MessageID, command.Priority, command.CommandDataSetType = 1, 1, 0, 1
    encoded = encode(command, True, True)
    assert encoded is not None
    values = [(3, encoded)] + [(0, dataset[at : at + piece]) for at in range(0, len(dataset), piece)]
    values[-1] = (2, values[-1][1])
    items = [struct.pack(">LBB", len(value) + 2, 3, control) + value for control, value in values]
    return [struct.pack(">BxL", 4, len(item)) + item for item in items]


def test_a_data_set_in_many_pdus_is_stored_whole_or_not_at_all() -> None:
    got = queue.Queue[bytes]()

    def store(received: Received) -> str:
        got.put(bytes(received.dataset))
        return "stored"

    dataset = encode(image(), False, True) or b""
    pdus = store_request(dataset, 3)
    assert len(pdus) > 10
    abort = bytes.fromhex("07000000000400000000")
    with listening(store) as associate:
        cut = associate()
        cut.dul.socket.socket.sendall(b"".join(pdus[:-2]) + abort)
        whole = associate()
        whole.dul.socket.socket.sendall(b"".join(pdus))
        assert got.get(timeout=10) == dataset
        assert sent(associate(), image()).Status == 0x0000
        assert got.get(timeout=10) == dataset
        whole.abort()
    assert got.empty()


def test_every_transfer_syntax_is_accepted() -> None:
    with listening(lambda received: "stored") as associate:
        for syntax in SYNTAXES.values():
            assoc = associate(syntax=syntax)
            accepted = [cx.transfer_syntax[0] for cx in assoc.accepted_contexts if cx.abstract_syntax == CT]
            assert accepted == [syntax]
            assoc.release()


@pytest.mark.parametrize(
    "sop_class",
    [
        "1.2.840.10008.5.1.4.1.1.2.3", "1.2.840.10008.5.1.4.1.1.2.4", "1.2.840.10008.5.1.4.1.1.2.5",
        "1.3.12.2.1107.5.9.1",
    ],
)  # fmt: skip
def test_for_processing_ct_and_siemens_private_class_are_kept(sop_class: str) -> None:
    got: list[str] = []

    def store(received: Received) -> str:
        got.append(received.sop_class_uid)
        return "stored"

    ds = image()
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = UID(sop_class)
    with listening(store) as associate:
        assert sent(associate(sop_class=sop_class), ds).Status == 0x0000
    assert got == [sop_class]


def test_every_storage_class_of_a_study_is_offered() -> None:
    names = {
        "Enhanced CT": "1.2.840.10008.5.1.4.1.1.2.1",
        "Legacy Converted Enhanced CT": "1.2.840.10008.5.1.4.1.1.2.2",
        "Segmentation": "1.2.840.10008.5.1.4.1.1.66.4",
        "Label Map Segmentation": "1.2.840.10008.5.1.4.1.1.66.7",
        "Parametric Map": "1.2.840.10008.5.1.4.1.1.30",
        "Encapsulated PDF": "1.2.840.10008.5.1.4.1.1.104.1",
        "Comprehensive 3D SR": "1.2.840.10008.5.1.4.1.1.88.34",
        "X-Ray Radiation Dose SR": "1.2.840.10008.5.1.4.1.1.88.67",
        "Secondary Capture": "1.2.840.10008.5.1.4.1.1.7",
        "Key Object Selection": "1.2.840.10008.5.1.4.1.1.88.59",
    }
    assert set(names.values()) <= set(STORAGE_CLASSES)


@pytest.mark.parametrize("answer", ["stored", "same", "other"])
def test_what_became_of_it_is_the_status(answer: str) -> None:
    with listening(lambda received: answer) as associate:
        status = sent(associate(), image())
    code, comment = STATUSES[answer]  # type: ignore[index]
    assert status.Status == code
    assert status.get("ErrorComment", "") == comment


def test_no_room_is_out_of_resources_and_the_association_lives_on() -> None:
    answers = iter([Unavailable("the disk is full"), None])

    def store(received: Received) -> str:
        if error := next(answers):
            raise error
        return "stored"

    with listening(store) as associate:
        assoc = associate()
        assert assoc.send_c_store(image()).Status == 0xA700
        assert assoc.send_c_store(image()).Status == 0x0000
        assoc.release()


def test_a_bug_is_a_failure_never_a_success() -> None:
    def store(received: Received) -> str:
        raise ZeroDivisionError

    with listening(store) as associate:
        assert sent(associate(), image()).Status == 0x0110


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_uid_that_is_none_is_refused_and_not_handed_on() -> None:
    def store(received: Received) -> str:
        pytest.fail("handed on")

    with listening(store) as associate:
        for uid in ("../../etc/passwd", "1.2.x", "1..2", "1", "1.2.3.", "1.2/3"):
            assert sent(associate(), image(uid)).Status == 0x0117, uid


@pytest.mark.parametrize(
    ("peers", "established"),
    [
        ((), True),
        ((Peer("CT1"),), True),
        ((Peer("CT2"),), False),
        ((Peer("CT2"), Peer("CT1", "192.0.2.0/24")), False),
    ],
)
def test_only_allowed_peers_associate(peers: tuple[Peer, ...], established: bool) -> None:
    with listening(lambda received: "stored", peers=peers) as associate:
        assoc = associate()
        assert assoc.is_established is established
        if established:
            assoc.release()
        else:
            assert assoc.is_rejected
            answer = assoc.acceptor.primitive
            assert (answer.result, answer.result_source, answer.diagnostic) == (1, 1, 3)


def test_another_called_title_is_rejected_only_where_required() -> None:
    for required in (False, True):
        with listening(lambda received: "stored", require_called_ae_title=required) as associate:
            assoc = associate(called="OTHER")
            assert assoc.is_established is not required
            assoc.release()


def test_a_nearly_full_disk_rejects_associations_as_transient() -> None:
    with listening(lambda received: "stored", free_mb=100.0) as associate:
        assoc = associate()
        assert assoc.is_rejected
        answer = assoc.acceptor.primitive
        assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)


def test_too_many_associations_are_rejected_as_transient() -> None:
    with listening(lambda received: "stored", maximum_associations=2, associations_per_peer=2) as associate:
        assocs = [associate() for _ in range(3)]
        assert [a.is_established for a in assocs] == [True, True, False]
        assert assocs[2].is_rejected
        for assoc in assocs:
            assoc.release()


def test_a_taken_port_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=f"cannot listen on 127.0.0.1 port {port}"):
            Receiver(ReceiveSettings(port=port), lambda received: "stored", lambda: 1e6).start()
