"""Parcels -> one association -> what came of each: the C-STORE and C-ECHO SCU (PS3.4 Annex B, PS3.7 9.1)."""

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
    """Send over one association; what is not named in the answer was not tried.

    A SOP class whose presentation context is refused stops no other.
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
    """One C-STORE; without a response nobody knows whether it arrived."""
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
    """C-ECHO a destination: "" where it answers, else why not."""
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
