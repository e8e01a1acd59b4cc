"""Parcels -> one association -> the outcome of each: the C-STORE and C-ECHO SCU (PS3.4 Annex B, PS3.7 9.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydicom import dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context

from ..dicom.uids import VERIFICATION
from ..errors import Unavailable
from ..network.association import associate
from ..settings.destinations import CStoreDestination
from .outcome import Outcome, Parcel, judge

UNCOMPRESSED = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))


def send(
    parcels: Sequence[Parcel], destination: CStoreDestination, calling_ae_title: str
) -> Iterator[tuple[Parcel, Outcome]]:
    """Send parcels over one association and yield the outcome of each parcel that was tried.

    Where the presentation context of a SOP class is refused, the other classes are still sent.
    """
    try:
        assoc = associate(destination, calling_ae_title, _contexts(parcels))
    except Unavailable as error:
        yield from ((parcel, Outcome("later", str(error))) for parcel in parcels)
        return
    taken = {str(cx.abstract_syntax) for cx in assoc.accepted_contexts}
    try:
        for parcel in parcels:
            if not assoc.is_established:
                return
            if parcel.sop_class_uid in taken:
                yield parcel, store(assoc, parcel)
            else:
                name = UID(parcel.sop_class_uid).name
                yield parcel, Outcome("never", f"{destination.name} does not accept {name}")
    finally:
        assoc.release()


def store(assoc: Any, parcel: Parcel) -> Outcome:
    """Send one C-STORE; without a response it is unknown whether the object arrived."""
    try:
        response = assoc.send_c_store(dcmread(parcel.path))
    except RuntimeError:
        return Outcome("later", "the association ended")
    except ValueError as error:
        return Outcome("never", f"cannot be sent: {error}")
    if "Status" not in response:
        return Outcome("later", "no response to the C-STORE: it may have arrived or not")
    return judge(int(response.Status))


def echo(destination: CStoreDestination, calling_ae_title: str) -> str:
    """Send a C-ECHO to a destination; return "" where it answers, else why it does not."""
    try:
        assoc = associate(destination, calling_ae_title, [build_context(VERIFICATION)])
    except Unavailable as error:
        return str(error)
    response = assoc.send_c_echo()
    assoc.release()
    return "" if response and response.Status == 0 else f"{destination.name} does not answer a C-ECHO"


def _contexts(parcels: Sequence[Parcel]) -> list[Any]:
    wanted: dict[str, set[str]] = {}
    for parcel in parcels:
        syntax = str(read_file_meta_info(parcel.path).TransferSyntaxUID)
        syntaxes = UNCOMPRESSED if syntax in UNCOMPRESSED else (syntax,)
        wanted.setdefault(parcel.sop_class_uid, set()).update(syntaxes)
    return [build_context(uid, sorted(syntaxes, reverse=True)) for uid, syntaxes in wanted.items()]
