from __future__ import annotations

import struct
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage
from pynetdicom.dimse_messages import C_STORE_RQ, C_STORE_RSP, DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.pdu_primitives import P_DATA

from dicom_node.network.c_store_codec import store_request, store_response

ATTRIBUTES = "MessageID", "AffectedSOPClassUID", "AffectedSOPInstanceUID", "Priority"


def a_request(**changes: object) -> C_STORE:
    request = C_STORE()
    request.MessageID, request.Priority = 258, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CTImageStorage, "1.2.34"
    request.DataSet = BytesIO(b"\x08\x00\x05\x00\x00\x00\x00\x00")
    for name, value in changes.items():
        setattr(request, name, value)
    return request


def command(primitive: C_STORE) -> bytes:
    """As pynetdicom writes it."""
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    encoded = encode(message.command_set, True, True)
    assert encoded is not None
    return encoded


def element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0, number, len(value)) + value


def us(number: int, value: int) -> bytes:
    return element(number, struct.pack("<H", value))


# of odd and even length, and the longest
@pytest.mark.parametrize("uid", ["1.2.34", "1.2.3", f"1.2.{'1' * 60}"])
@pytest.mark.parametrize("priority", [0, 1, 2])
def test_a_request_says_what_pynetdicom_says(uid: str, priority: int) -> None:
    request = a_request(AffectedSOPInstanceUID=uid, Priority=priority)
    read = store_request(memoryview(command(request)))
    assert read is not None
    without = read.is_valid_request
    read.DataSet = BytesIO()
    assert (without, read.is_valid_request) == (False, True)
    for name in ATTRIBUTES:
        assert getattr(read, name) == getattr(request, name)


def test_what_is_not_plain_is_left_to_pynetdicom() -> None:
    plain = command(a_request())
    assert store_request(plain) is not None
    moved = a_request(MoveOriginatorApplicationEntityTitle="PACS", MoveOriginatorMessageID=3)
    odd = {
        "of a C-MOVE": command(moved),
        "no data set": plain.replace(us(0x0800, 1), us(0x0800, 0x0101)),
        "not a C-STORE": plain.replace(us(0x0100, 1), us(0x0100, 0x20)),
        "another group": b"\x08" + plain[1:],
        "twice": plain + us(0x0700, 2),
        "cut": plain[:-1],
        "cut in a header": plain[:-12],
        "nothing": b"",
        "long": plain.replace(us(0x0110, 258), element(0x0110, bytes(4))),
        "not ASCII": plain.replace(b"1.2.34", b"\xff.2.34"),
        "a long UID": plain.replace(element(0x1000, b"1.2.34"), element(0x1000, b"1" * 66)),
    }
    for what, changed in odd.items():
        assert changed != plain, what
        assert store_request(changed) is None, what


@given(st.binary(max_size=200), st.integers(0, 250))
def test_any_bytes_are_survived(noise: bytes, at: int) -> None:
    plain = command(a_request())
    for changed in (noise, plain[:at] + noise + plain[at + len(noise) :]):
        read = store_request(changed)
        assert read is None or read.AffectedSOPInstanceUID is not None


def test_a_response_is_read_by_pynetdicom() -> None:
    response = a_request(MessageIDBeingRespondedTo=258, Status=0xB007)
    data = P_DATA()
    pdv = [1, b"\x03" + store_response(response)]
    data.presentation_data_value_list = [pdv]  # type: ignore[list-item]  # it refuses the tuple it declares
    message = DIMSEMessage()
    assert message.decode_msg(data)
    assert isinstance(message, C_STORE_RSP)
    read = message.message_to_primitive()
    assert isinstance(read, C_STORE)
    assert (read.Status, read.MessageIDBeingRespondedTo) == (0xB007, 258)
    assert (read.AffectedSOPClassUID, read.AffectedSOPInstanceUID) == (CTImageStorage, "1.2.34")
