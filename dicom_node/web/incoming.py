"""Files that came by HTTP -> stored instances, by the same durable way as C-STORE; and what became of each."""

from __future__ import annotations

import logging
import shutil
import struct
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread

from ..dicom.archives import Unpacked, kind_of, unpack
from ..dicom.decoding_limits import check_inflated
from ..errors import NodeError, Rejected, Unavailable
from ..intake.receivers import keep
from ..network.dimse_n import hostile, valid_uid
from ..network.storage_scp import STORAGE_CLASSES, Received
from .multipart import Limits, Part
from .problems import TooLarge
from .site import Site

LOG = logging.getLogger(__name__)

#: Value representations with a length of 32 bits (PS3.5 7.1.2).
LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV"})
#: Longest File Meta Information (bytes).
LONGEST_META = 1 << 16
#: Failure Reason (0008,1197) (PS3.18 I.2; PS3.4 B.2.3): what was sent cannot be understood, is of another class or
#: study than said, or cannot be stored now.
CANNOT_UNDERSTAND, NO_MATCH, NO_ROOM, NOT_SUPPORTED = 0xC000, 0xA900, 0xA700, 0x0122
#: Warning Reason (0008,1196): another data set is kept under that UID.
KEPT_OTHER = 0xB000


@dataclass(frozen=True)
class Fate:
    """What became of one instance.

    Parameters
    ----------
    name : str
        What the sender calls the file; shown to the sender only.
    sop_class_uid, sop_instance_uid : str
        "" where they cannot be read.
    outcome : str
        "stored", "same", "other" (in quarantine) or "refused".
    code : int
        Failure or warning reason; 0 for none.
    reason : str
        Why it was refused, in one sentence.
    """

    name: str
    sop_class_uid: str
    sop_instance_uid: str
    outcome: str
    code: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Sender:
    """Who sent: the name of the user or program as far as an AE title can hold it, and the address."""

    title: str
    address: str


class Refused(Rejected):
    """An instance is refused, with a failure reason."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def limits_of(site: Site) -> Limits:
    """Return what one request may hold: what `[web]` allows in all, and `[receive]` for one data set."""
    receive = site.config.receive

    def free() -> float:
        return shutil.disk_usage(site.config.storage).free - receive.min_free_mb * 1e6

    return Limits(site.settings.upload_mb * 1e6, min(site.settings.upload_mb, receive.memory_mb) * 1e6, free)


def new_folder(site: Site) -> Path:
    """Return the name of a folder for files that are coming; what a crash leaves of it goes at the next start."""
    return site.config.layout.workspaces / f"web-{uuid.uuid4().hex}"


def store_all(site: Site, parts: Sequence[Part], sender: Sender, study_uid: str = "") -> list[Fate]:
    """Store the instances of a request; each is durable once this returns.

    Parameters
    ----------
    study_uid : str
        The only study that instances may belong to; "" for any.

    Raises
    ------
    Unavailable
        Where disk or database cannot be reached and nothing was stored.
    """
    fates = [
        _store(site, part.path, part.name or f"part {n}", sender, study_uid)
        for n, part in enumerate(parts, 1)
    ]
    if fates and all(fate.code == NO_ROOM for fate in fates):
        raise Unavailable(fates[0].reason)
    return fates


def unpacked(site: Site, parts: Sequence[Part]) -> list[Part]:
    """Return the parts of an upload with every zip archive replaced by the files in it, before anything is stored.

    Raises
    ------
    Rejected
        Where an archive is damaged, encrypted or a bomb.
    TooLarge
        Where it holds more than an upload may.
    Unavailable
        Where the disk is full.
    """
    so_far, limits = Unpacked(), limits_of(site)
    found: list[Part] = []
    try:
        for part in parts:
            if not kind_of(part.path):
                found.append(part)
                continue
            folder = part.path.with_suffix(".unpacked")
            for number, path in enumerate(unpack(part.path, folder, so_far, name="the archive"), 1):
                if so_far.size > limits.body:
                    raise TooLarge(f"an upload may hold {limits.body / 1e6:.0f} MB at most, unpacked")
                if limits.free() <= 0:
                    raise Unavailable("there is too little room on the disk: send again later")
                found.append(Part(path, name=f"file {number} of the archive", size=path.stat().st_size))
    except OSError as error:
        raise Unavailable(f"nothing can be unpacked now: {error.strerror}") from error
    return found


def _store(site: Site, path: Path, name: str, sender: Sender, study_uid: str) -> Fate:
    uids = ("", "")
    try:
        with path.open("rb") as file:
            meta = file_meta_of(file)
            uids = valid_uid(meta.get(0x0002, "")), valid_uid(meta.get(0x0003, ""))
            syntax = valid_uid(meta.get(0x0010, ""))
            if uids[0] not in STORAGE_CLASSES:
                raise Refused(NOT_SUPPORTED, "its SOP Class is not one that is stored")
            dataset = file.read()
        if study_uid and _study_of(path) != study_uid:
            raise Refused(NO_MATCH, "it belongs to another study than the address says")
        if not dataset:
            raise Refused(CANNOT_UNDERSTAND, "it has no data set")
        received = Received(uids[0], uids[1], syntax, sender.title, sender.address, memoryview(dataset))
        outcome = keep(site.archive, site.trail, received)
    except Refused as error:
        return Fate(name, *uids, "refused", error.code, str(error))
    except Unavailable as error:
        return Fate(name, *uids, "refused", NO_ROOM, str(error))
    except OSError as error:
        return Fate(name, *uids, "refused", NO_ROOM, f"the disk fails: {error.strerror}")
    except NodeError as error:
        return Fate(name, *uids, "refused", CANNOT_UNDERSTAND, str(error))
    if outcome == "other":
        return Fate(
            name, *uids, "other", KEPT_OTHER, "another data set is kept under its UID; this one is aside"
        )
    return Fate(name, *uids, outcome)


def file_meta_of(file: BinaryIO) -> dict[int, str]:
    """Return the texts of the File Meta Information (PS3.10 7.1) by element number; the data set follows in `file`.

    Raises
    ------
    Rejected
        Where the file is no DICOM file.
    """
    if file.read(132)[128:] != b"DICM":
        raise Rejected("it is no DICOM file (PS3.10)")
    values: dict[int, str] = {}
    while len(head := file.read(8)) == 8:
        group, number, vr, size = struct.unpack("<HH2sH", head)
        if group != 0x0002:
            file.seek(-8, 1)
            return values
        if vr in LONG:
            size = int.from_bytes(file.read(4), "little")
        if size > LONGEST_META or file.tell() > 2 * LONGEST_META:
            break
        values[number] = file.read(size).rstrip(b"\x00 ").decode("ascii", "replace")
    raise Rejected("its File Meta Information is malformed or nothing follows it")


def _study_of(path: Path) -> str:
    """Return the Study Instance UID of a file."""
    with hostile():
        check_inflated(path)
        ds = dcmread(path, stop_before_pixels=True, specific_tags=["StudyInstanceUID"])
        return str(ds.get("StudyInstanceUID", ""))


def instances_response(fates: Sequence[Fate]) -> dict[str, object]:
    """Return the Store Instances Response Module (PS3.18 I.2) in DICOM's JSON model (PS3.18 F)."""
    module: dict[str, object] = {}
    good = [fate for fate in fates if fate.outcome != "refused"]
    bad = [fate for fate in fates if fate.outcome == "refused"]
    for tag, some in (("00081199", good), ("00081198", bad)):
        if some:
            module[tag] = {"vr": "SQ", "Value": [dict(_item(fate)) for fate in some]}
    return module


def _item(fate: Fate) -> Iterator[tuple[str, dict[str, object]]]:
    for tag, uid in (("00081150", fate.sop_class_uid), ("00081155", fate.sop_instance_uid)):
        if uid:
            yield tag, {"vr": "UI", "Value": [uid]}
    if fate.code:
        yield "00081197" if fate.outcome == "refused" else "00081196", {"vr": "US", "Value": [fate.code]}


def status_of_response(fates: Sequence[Fate]) -> int:
    """Return the HTTP status of a store transaction (PS3.18 10.5.3.1): all, some or none stored as sent."""
    if all(fate.outcome in ("stored", "same") for fate in fates):
        return 200
    return 409 if all(fate.outcome == "refused" for fate in fates) else 202
