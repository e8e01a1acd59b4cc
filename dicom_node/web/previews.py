"""A stored instance -> what a page shows of it: a small picture, and whose it is."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import dcmread

from ..dicom.pixels import stored_values, to_hu
from ..network.dimse_n import hostile
from ..printable import printable

#: Longest side of a picture (pixels), and the window of lung (HU).
SIDE, LOW, HIGH = 160, -1350.0, 150.0
#: Most pictures that are kept, about 10 kB each.
KEPT = 500
NAMES = ("PatientName", "PatientID", "AccessionNumber", "StudyDate", "StudyID", "StudyDescription")


@dataclass(frozen=True)
class Names:
    """What an instance says of its patient and study; "" where it says nothing."""

    patient: str = ""
    patient_id: str = ""
    accession: str = ""
    date: str = ""
    study_id: str = ""
    description: str = ""


def names_of(path: Path) -> Names:
    """Read the names of an instance.

    Raises
    ------
    Rejected
        Where the file cannot be read.
    """
    with hostile():
        ds = dcmread(path, stop_before_pixels=True, specific_tags=[*NAMES, "SpecificCharacterSet"])
        return Names(*(printable(str(ds.get(name, "") or ""))[:128] for name in NAMES))


def preview(path: Path) -> bytes:
    """Return a picture of an instance in the window of lung, as PNG.

    Raises
    ------
    Rejected
        Where the pixels cannot be decoded.
    """
    frames = stored_values(path)
    middle = len(frames) // 2
    with hostile():
        hu = to_hu(frames[middle], dcmread(path, stop_before_pixels=True), middle + 1)
    grey = np.clip((hu.astype(np.float32) - LOW) / (HIGH - LOW), 0, 1)
    image = Image.fromarray((grey * 255).astype(np.uint8))
    image.thumbnail((SIDE, SIDE))
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


class Pictures:
    """The pictures that were made last, by the image's UID."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, uid: str) -> bytes | None:
        """Return a picture that is kept."""
        with self._lock:
            return self._kept.get(uid)

    def put(self, uid: str, picture: bytes) -> None:
        """Keep a picture, and forget the oldest where there are too many."""
        with self._lock:
            self._kept[uid] = picture
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
