"""C-STORE commands <-> bytes (PS3.7 9.3.1): a faster codec for the two most frequent messages.

pynetdicom handles all others. It decodes a command set as any data set, which is a fifth of the cost of receiving an
image.
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

from pydicom.uid import UID
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA

#: Message control header of a complete command (PS3.8 E.2).
WHOLE_COMMAND = 3
#: Length that no C-STORE-RSP encoded here reaches (bytes).
LONGEST_RESPONSE = 512
C_STORE_RQ, NO_DATA_SET = b"\x01\x00", b"\x01\x01"
#: Elements of group 0000 that every C-STORE-RQ has, without Move Originator (PS3.7 Table 9.3-1).
GROUP_LENGTH, SOP_CLASS, SOP_INSTANCE = 0x0000, 0x0002, 0x1000
COMMAND, MESSAGE_ID, PRIORITY, DATA_SET = 0x0100, 0x0110, 0x0700, 0x0800
PLAIN = {SOP_CLASS, COMMAND, MESSAGE_ID, PRIORITY, DATA_SET, SOP_INSTANCE}


class Dimse(DIMSEServiceProvider):
    """pynetdicom's DIMSE provider with the faster codec for C-STORE."""

    message: DIMSEMessage | None

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the part of a message that has arrived."""
        values = primitive.presentation_data_value_list
        if self.message is None and values and values[0][1][0] == WHOLE_COMMAND:
            request = store_request(values[0][1][1:])
            if request is not None:
                self.message = _StoreRequest(values[0][0], request)
                if len(values) == 1:
                    return
                primitive._presentation_data_value_list = values[1:]
        super().receive_primitive(primitive)

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send a message; a C-STORE-RSP without Error Comment is encoded here."""
        plain = type(primitive) is C_STORE and primitive.MessageIDBeingRespondedTo is not None
        if not plain or primitive.ErrorComment or 0 < self.maximum_pdu_size < LONGEST_RESPONSE:
            super().send_msg(primitive, context_id)
            return
        data = P_DATA()
        data._presentation_data_value_list = [
            (context_id, bytes([WHOLE_COMMAND]) + store_response(primitive))
        ]
        self.dul.send_pdu(data)


class _StoreRequest(DIMSEMessage):
    """A C-STORE-RQ whose command was read here and whose data set has yet to arrive."""

    def __init__(self, context_id: int, request: C_STORE) -> None:
        # not the parent's __init__, which prepares a command set by the name of the class
        self.context_id, self._request = context_id, request
        self.encoded_command_set, self.data_set = BytesIO(), BytesIO()
        self._data_set_path = self._data_set_file = None

    def message_to_primitive(self) -> Any:
        """Return the request with its data set."""
        self._request.DataSet, self._request._context_id = self.data_set, self.context_id
        return self._request


def store_request(command: bytes | memoryview) -> C_STORE | None:
    """Decode the command set of a C-STORE-RQ as most senders write it (Implicit VR Little Endian).

    Parameters
    ----------
    command : bytes
        The complete command set.

    Returns
    -------
    C_STORE or None
        None for any other message, and for one with missing, extra or odd elements; pynetdicom decodes those.
    """
    elements = _elements(command)
    if elements.keys() != PLAIN or elements[COMMAND] != C_STORE_RQ or elements[DATA_SET] == NO_DATA_SET:
        return None
    if not len(elements[MESSAGE_ID]) == len(elements[PRIORITY]) == 2:
        return None
    request = C_STORE()
    try:
        request.AffectedSOPClassUID = _uid(elements[SOP_CLASS])
        request.AffectedSOPInstanceUID = _uid(elements[SOP_INSTANCE])
        request.MessageID = int.from_bytes(elements[MESSAGE_ID], "little")
        request.Priority = int.from_bytes(elements[PRIORITY], "little")
    except ValueError:
        return None
    return request


def store_response(primitive: C_STORE) -> bytes:
    """Encode the command set of a C-STORE-RSP (PS3.7 Table 9.3-2) in Implicit VR Little Endian."""
    elements = (
        (SOP_CLASS, _padded(primitive.AffectedSOPClassUID)),
        (COMMAND, b"\x01\x80"),
        (0x0120, struct.pack("<H", primitive.MessageIDBeingRespondedTo)),
        (DATA_SET, NO_DATA_SET),
        (0x0900, struct.pack("<H", primitive.Status)),
        (SOP_INSTANCE, _padded(primitive.AffectedSOPInstanceUID)),
    )
    group = b"".join(struct.pack("<HHL", 0, number, len(value)) + value for number, value in elements)
    return struct.pack("<HHLL", 0, GROUP_LENGTH, 4, len(group)) + group


def _elements(command: bytes | memoryview) -> dict[int, bytes]:
    """Return the elements of group 0000 after its length; none where one does not fit or occurs twice."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(command):
        if len(command) - at < 8:
            return {}
        group, number, length = struct.unpack_from("<HHL", command, at)
        value = bytes(command[at + 8 : at + 8 + length])
        if group or len(value) < length or number in found:
            return {}
        found[number] = value
        at += 8 + length
    found.pop(GROUP_LENGTH, None)
    return found


def _uid(value: bytes) -> UID:
    return UID(value.rstrip(b"\x00").decode("ascii"))


def _padded(uid: str | None) -> bytes:
    value = str(uid or "").encode("ascii", "replace")
    return value + b"\x00" * (len(value) % 2)
