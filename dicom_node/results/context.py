"""A pair and its files -> Case: the attributes every object copies, the date it carries and its UIDs."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from highdicom.base import SOPClass
from pydicom import Dataset, dcmread
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian

from analysis.figures.trend import Visit
from analysis.pipeline.pipeline import Analysis
from analysis.volume import Grid

from ..dicom.malformed import MALFORMED
from ..errors import Rejected
from ..model import Pair, Series
from .kinds import series_number

MANUFACTURER = "vq-dicom-node"
MODEL_NAME = "VQ CT"
#: Serial number of the device: the software has one make only.
DEVICE_SERIAL = "1"
RESEARCH = "research use only"

#: Groups kept of a source instance: patient, study, series, equipment, geometry; not private, not pixels.
_GROUPS = (0x0008, 0x0010, 0x0018, 0x0020, 0x0028, 0x0040, 0x5200)
#: Attributes objects need even where a scanner left them out (Type 2): empty then.
_TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Case:
    """What the objects of one result are made from, besides the Analysis.

    Parameters
    ----------
    pair : Pair
        Which stack is which, as decided.
    expiratory, inspiratory : tuple of Dataset
        Attributes of the instances, without pixels and private tags, in slice order.
    created : datetime
        When the job was created: it comes from the database, so that a retry makes the same bytes.
    fingerprint : str
        What distinguishes this result from an earlier one of the same pair (revision, parameters).
    trend : tuple of Visit
        The patient's earlier results and this one, as known when the job was created; empty where there is none.
    """

    pair: Pair
    expiratory: tuple[Dataset, ...]
    inspiratory: tuple[Dataset, ...]
    created: datetime
    fingerprint: str
    trend: tuple[Visit, ...] = ()

    @cached_property
    def _sources(self) -> str:
        """The SOP Instance UIDs of all images: read once, every picture's own UID is made of them."""
        return "\n".join(str(ds.SOPInstanceUID) for ds in (*self.expiratory, *self.inspiratory))

    def uid(self, analysis: Analysis, role: str) -> UID:
        """A UID that is the same for the same sources, software, parameters and role.

        Parameters
        ----------
        analysis : Analysis
            Its version and parameters count.
        role : str
            What the UID is for, e.g. ``"seg instance"``.
        """
        parts = [
            self._sources,
            self.created.isoformat(),
            analysis.version,
            repr(sorted(asdict(analysis.parameters).items())),
            self.fingerprint,
        ]
        return uid_of("\n".join([*map(str, parts), role]))

    @property
    def local(self) -> datetime:
        """`created` in the node's local time, as the dates scanners write."""
        return self.created.astimezone().replace(tzinfo=None) if self.created.tzinfo else self.created

    @property
    def patient(self) -> str:
        """The same for all studies of a patient, and neither name nor ID; "" where Patient ID is empty.

        The birth date counts: an ID that another issuer gave to somebody else is not taken for the same.
        """
        source = self.expiratory[0]
        who = [
            str(source.get(k) or "").strip() for k in ("PatientID", "IssuerOfPatientID", "PatientBirthDate")
        ]
        return hashlib.sha256("\n".join(who).encode()).hexdigest() if who[0] else ""

    @property
    def acquired(self) -> str:
        """When expiration was acquired, "YYYYMMDD…" as far as known; else the study's date."""
        return self.pair.expiratory.acquired or str(self.expiratory[0].StudyDate or "")

    def begin(
        self,
        analysis: Analysis,
        kind: str,
        sop_class_uid: str,
        modality: str,
        number: int = 1,
        transfer_syntax_uid: str = ExplicitVRLittleEndian,
    ) -> SOPClass:
        """An instance with patient, study, series and equipment, for kinds highdicom has no builder for.

        Parameters
        ----------
        analysis : Analysis
        kind : str
            A series of `kinds.KINDS`.
        sop_class_uid, modality : str
        number : int
            Instance Number; with `kind`, what the SOP Instance UID is made of.
        transfer_syntax_uid : str
        """
        source = self.expiratory[0]
        own = {
            "sop_instance_uid": self.uid(analysis, f"{kind} instance {number}"),
            "instance_number": number,
        }
        ds = SOPClass(
            study_instance_uid=source.StudyInstanceUID,
            sop_class_uid=sop_class_uid,
            modality=modality,
            transfer_syntax_uid=transfer_syntax_uid,
            specific_character_set=source.get("SpecificCharacterSet"),
            **self.series_of(analysis, kind) | own,
        )
        ds.copy_patient_and_study_information(source)
        return ds

    def series_of(self, analysis: Analysis, kind: str) -> dict[str, Any]:
        """What highdicom wants of every object in a series of its own: UIDs, numbers, equipment, time."""
        return {
            "series_instance_uid": self.uid(analysis, f"{kind} series"),
            "series_number": series_number(kind),
            "sop_instance_uid": self.uid(analysis, f"{kind} instance"),
            "instance_number": 1,
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": MODEL_NAME,
            "software_versions": analysis.version,
            "device_serial_number": DEVICE_SERIAL,
            "content_date": self.local.date(),
            "content_time": self.local.time(),
        }

    def stamp(self, ds: Dataset) -> None:
        """Replace the times and UIDs a library made up on the spot, so that a retry makes the same bytes."""
        ds.InstanceCreationDate = self.local.strftime("%Y%m%d")
        ds.InstanceCreationTime = self.local.strftime("%H%M%S.%f")
        equipment = ds.get("ContributingEquipmentSequence") or []
        for item in equipment[-1:]:
            item.ContributionDateTime = self.local.strftime("%Y%m%d%H%M%S.%f")
        dimensions = uid_of(f"dimensions {ds.SOPInstanceUID}")
        for sequence in ("DimensionOrganizationSequence", "DimensionIndexSequence"):
            for item in ds.get(sequence) or []:
                item.DimensionOrganizationUID = dimensions


def uid_of(text: str) -> UID:
    """The UID that belongs to a text: "2.25." and a name-based UUID (PS3.5 B.2, RFC 4122 4.3 with SHA-256).

    Examples
    --------
    >>> uid_of("a") == uid_of("a"), uid_of("a") == uid_of("b")
    (True, False)
    """
    digest = hashlib.sha256(text.encode()).digest()
    return UID(f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}")


def slice_of(groups: Dataset, grid: Grid) -> int:
    """Index of the slice a frame lies on, by the position in its functional groups (PS3.3 C.7.6.16.2.3)."""
    position = np.array([groups.PlanePositionSequence[0].ImagePositionPatient], dtype=np.float64)
    return round(float(grid.indices(position)[0][0]))


def read_case(pair: Pair, paths: Mapping[str, Path], created: datetime, fingerprint: str) -> Case:
    """Read the attributes of a pair's instances.

    Parameters
    ----------
    pair : Pair
    paths : mapping of SOP Instance UID to Path
    created : datetime
    fingerprint : str

    Raises
    ------
    Rejected
        Where a file is missing or unreadable.
    """
    expiratory, inspiratory = _attributes(pair.expiratory, paths), _attributes(pair.inspiratory, paths)
    return Case(pair, expiratory, inspiratory, created, fingerprint)


def _attributes(series: Series, paths: Mapping[str, Path]) -> tuple[Dataset, ...]:
    return tuple(_read(uid, paths) for uid in series.sop_instance_uids)


def _read(sop_instance_uid: str, paths: Mapping[str, Path]) -> Dataset:
    if sop_instance_uid not in paths:
        raise Rejected(f"SOP instance {sop_instance_uid} is not in the archive")
    try:
        ds = dcmread(paths[sop_instance_uid], stop_before_pixels=True, force=True)
        return _clean(ds)
    except MALFORMED as error:
        raise Rejected(f"SOP instance {sop_instance_uid} cannot be read: {type(error).__name__}") from error


def _clean(ds: Dataset) -> Dataset:
    """The attributes of `_GROUPS` that can be read; what is malformed or of another group is left out."""
    out = Dataset()
    for tag in list(ds.keys()):
        if Tag(tag).group not in _GROUPS:
            continue
        try:
            out.add(ds[tag])
        except MALFORMED:
            continue
    for keyword in _TYPE_2:
        if keyword not in out:
            setattr(out, keyword, "")
    # Philips writes it negative where the table moves the other way; the positions say it all.
    out.pop(Tag("SpacingBetweenSlices"), None)
    if str(out.PatientSex) not in ("M", "F", "O", ""):
        out.PatientSex = ""
    charset = out.get("SpecificCharacterSet")
    if isinstance(charset, MultiValue) and not charset[0]:
        # an empty first value says the same (PS3.3 C.12.1.1.2), but highdicom does not take it
        out.SpecificCharacterSet = ["ISO 2022 IR 6", *charset[1:]]
    if not out.get("FrameOfReferenceUID"):
        out.FrameOfReferenceUID = uid_of(f"frame of reference of {out.SeriesInstanceUID}")
    return out
