"""A pair and its files -> Case: the attributes every object copies, the date it carries and its UIDs."""

from __future__ import annotations

import hashlib
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from highdicom.base import SOPClass
from pydicom import Dataset, dcmread
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

from analysis.figures.trend import Visit
from analysis.measures.findings import Finding
from analysis.parameters import PictureStyle
from analysis.pipeline.pipeline import Analysis
from analysis.volume import Grid

from ..dicom.attributes import clean, is_uid, named
from ..dicom.malformed import MALFORMED
from ..dicom.part10 import MANUFACTURER
from ..errors import Rejected
from ..model import Pair, Series, Slice
from .kinds import series_number

MODEL_NAME = "VQ CT"
#: Device Serial Number: the software exists in one make only.
DEVICE_SERIAL = "1"
RESEARCH = "research use only"

#: Groups copied from a series' first instance: patient, study, series, equipment, geometry; not private, not pixels.
_GROUPS = (0x0008, 0x0010, 0x0018, 0x0020, 0x0028, 0x0040, 0x5200)
#: Attributes that objects need (Type 2): empty where the scanner left them out.
_TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
#: Attributes copied from every further instance: what results refer to it by, and where it lies.
_OF_EVERY_SLICE = frozenset(
    Tag(keyword)
    for keyword in (
        "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
        "PositionReferenceIndicator", "Modality", "Rows", "Columns", "PatientPosition", "NumberOfFrames",
        "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    )
)  # fmt: skip
_IDENTIFYING = "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"


@dataclass(frozen=True, eq=False)
class Case:
    """Hold what the objects of one result are made from, besides the Analysis.

    Parameters
    ----------
    pair : Pair
        It says which stack is which phase.
    expiratory, inspiratory : tuple of Dataset
        Attributes of the instances, without pixels and private tags, in slice order.
    created : datetime
        When the job was created: it comes from the database, so that a retry makes the same bytes.
    fingerprint : str
        What distinguishes this result from an earlier one of the same pair (revision, parameters).
    trend : tuple of Visit
        The patient's earlier results and this one, as known when the job was created; empty where there is none.
    problems : tuple of str
        Attributes of the CT that no result can copy, each with the reason.
    style : PictureStyle
        How pictures show V and Q.
    """

    pair: Pair
    expiratory: tuple[Dataset, ...]
    inspiratory: tuple[Dataset, ...]
    created: datetime
    fingerprint: str
    trend: tuple[Visit, ...] = ()
    problems: tuple[str, ...] = ()
    style: PictureStyle = field(default_factory=PictureStyle)

    def ordered(self, pair: Pair) -> Case:
        """Return the case with the phases of ``pair``: the analysis may have exchanged those that were read."""
        if pair.expiratory.slices == self.pair.expiratory.slices:
            return replace(self, pair=pair)
        return replace(self, pair=pair, expiratory=self.inspiratory, inspiratory=self.expiratory)

    def findings(self) -> tuple[Finding, ...]:
        """Return what a reader of the results must know of the CT's headers."""
        if not self.problems:
            return ()
        limit = "warn on attributes that cannot be copied"
        sentence = f"Not copied from the CT: {'; '.join(self.problems)}."
        return (Finding("headers", "warn", None, "1", limit, sentence),)

    @cached_property
    def _sources(self) -> str:
        """Return the SOP Instance UIDs of all images, joined once because every picture's UID is made from them."""
        return "\n".join(str(ds.SOPInstanceUID) for ds in (*self.expiratory, *self.inspiratory))

    def uid(self, analysis: Analysis, role: str) -> UID:
        """Return a UID that is the same for the same sources, software, parameters and role.

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
            repr(self.style),
        ]
        return uid_of("\n".join([*map(str, parts), role]))

    @property
    def local(self) -> datetime:
        """Return `created` in local time, because scanners write local dates."""
        return self.created.astimezone().replace(tzinfo=None) if self.created.tzinfo else self.created

    @property
    def patient(self) -> str:
        """Return a digest that all studies of a patient share; "" where Patient ID is empty.

        The birth date is part of it, so that the same ID from another issuer is not taken for the same person. It has
        no key, and must not be written anywhere without one (`store.keys`).
        """
        source = self.expiratory[0]
        who = [
            str(source.get(k) or "").strip() for k in ("PatientID", "IssuerOfPatientID", "PatientBirthDate")
        ]
        return hashlib.sha256("\n".join(who).encode()).hexdigest() if who[0] else ""

    @property
    def who(self) -> str:
        """Return patient and date in one line, as written into pictures of destinations that want that."""
        source = self.expiratory[0]
        parts = (
            printed_name(source.PatientName),
            str(source.PatientID or ""),
            printed_date(self.acquired[:8]),
        )
        return "   ".join(part for part in parts if part)

    @property
    def acquired(self) -> str:
        """Return when expiration was acquired, "YYYYMMDD…" as far as known; else the study's date."""
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
        """Begin an instance with patient, study, series and equipment, for kinds that highdicom cannot build.

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
        """Return the arguments that highdicom needs for any object: UIDs, numbers, equipment, time."""
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
        """Replace the times and random UIDs that a library set, so that a retry makes the same bytes."""
        ds.InstanceCreationDate = self.local.strftime("%Y%m%d")
        ds.InstanceCreationTime = self.local.strftime("%H%M%S.%f")
        equipment = ds.get("ContributingEquipmentSequence") or []
        for item in equipment[-1:]:
            item.ContributionDateTime = self.local.strftime("%Y%m%d%H%M%S.%f")
        dimensions = uid_of(f"dimensions {ds.SOPInstanceUID}")
        for sequence in ("DimensionOrganizationSequence", "DimensionIndexSequence"):
            for item in ds.get(sequence) or []:
                item.DimensionOrganizationUID = dimensions


def printed_name(name: Any) -> str:
    """Return a person's name to read; of a name in several scripts the first, for fonts lack ideographs."""
    family, given = (str(part) for part in (name.family_name, name.given_name)) if name else ("", "")
    return ", ".join(part for part in (family, given) if part)


def printed_date(value: object) -> str:
    """Return a date (DA) to read; other text as it is."""
    digits = str(value or "")
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}" if len(digits) == 8 else digits


def uid_of(text: str) -> UID:
    """Return the UID that belongs to a text: "2.25." and a name-based UUID (PS3.5 B.2, RFC 4122 4.3, SHA-256).

    Examples
    --------
    >>> uid_of("a") == uid_of("a"), uid_of("a") == uid_of("b")
    (True, False)
    """
    digest = hashlib.sha256(text.encode()).digest()
    return UID(f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}")


def slice_of(groups: Dataset, grid: Grid) -> int:
    """Return the index of a frame's slice, from the position in its functional groups (PS3.3 C.7.6.16.2.3)."""
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
        Where a file is missing or unreadable, or a UID that results must name is not valid.

    Notes
    -----
    This is called before the analysis, so that problems in headers are known before the first pixel is read.
    """
    expiratory, told = _attributes(pair.expiratory, paths)
    inspiratory, also = _attributes(pair.inspiratory, paths)
    return Case(pair, expiratory, inspiratory, created, fingerprint, problems=tuple(sorted({*told, *also})))


def _attributes(series: Series, paths: Mapping[str, Path]) -> tuple[tuple[Dataset, ...], tuple[str, ...]]:
    """Return each instance's attributes, and what could not be copied of the first (its patient and study)."""
    slices: dict[str, list[Slice]] = defaultdict(list)
    for one in series.slices:
        slices[one.sop_instance_uid].append(one)
    read, problems = [], tuple[str, ...]()
    for n, (uid, own) in enumerate(slices.items()):
        ds, found = _read(uid, paths, whole=n == 0)
        _place(ds, own)
        read.append(ds)
        problems = problems or found
    problems += _one_frame_of_reference(read)
    where = f"series {series.series_instance_uid}"
    return tuple(read), tuple(f"{problem} in {where}" for problem in problems)


def _read(uid: str, paths: Mapping[str, Path], whole: bool) -> tuple[Dataset, tuple[str, ...]]:
    if uid not in paths:
        raise Rejected(f"SOP instance {uid} is not in the archive")
    try:
        ds = dcmread(paths[uid], stop_before_pixels=True, force=True)
    except (*MALFORMED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # an error of the disk; those that pydicom raises for bytes that are not DICOM have no number
        raise Rejected(f"SOP instance {uid} cannot be read: {type(error).__name__}") from error
    wanted = (lambda tag: tag.group in _GROUPS) if whole else (lambda tag: tag in _OF_EVERY_SLICE)
    out, problems = clean(ds, wanted, _TYPE_2 if whole else ())
    for keyword in _IDENTIFYING:
        if not is_uid(str(out.get(keyword) or "")):
            raise Rejected(f"SOP instance {uid}: its {named(keyword)} is not a UID")
    # Philips writes it negative where the table moves the other way; the positions suffice.
    out.pop(Tag("SpacingBetweenSlices"), None)
    if whole and str(out.PatientSex) not in ("M", "F", "O", ""):
        out.PatientSex = ""
    return out, problems


def _one_frame_of_reference(images: Sequence[Dataset]) -> tuple[str, ...]:
    """Give the slices of a stack one Frame of Reference UID: the first that is present, else one of our own."""
    given = list(dict.fromkeys(uid for ds in images if (uid := str(ds.get("FrameOfReferenceUID") or ""))))
    uid = given[0] if given else uid_of(f"frame of reference of {images[0].SeriesInstanceUID}")
    for ds in images:
        ds.FrameOfReferenceUID = uid
    return (f"{named('FrameOfReferenceUID')} differs between slices",) if len(given) > 1 else ()


def _place(ds: Dataset, slices: Sequence[Slice]) -> None:
    """Where the slices lie, as the node reads it: a decimal string of 20 characters is none that may be copied.

    Of a multi-frame instance the frames of a stack share all but their position (PS3.3 C.7.6.16.2).
    """
    first = slices[0]
    ds.Rows, ds.Columns = first.rows, first.columns
    measures = {"PixelSpacing": first.spacing, "SliceThickness": first.thickness}
    orientation = {"ImageOrientationPatient": first.orientation}
    frames = ds.get("PerFrameFunctionalGroupsSequence")
    if not frames:
        _set(ds, {**measures, **orientation, "ImagePositionPatient": first.position})
        return
    if not ds.get("SharedFunctionalGroupsSequence"):
        ds.SharedFunctionalGroupsSequence = [Dataset()]
    shared = ds.SharedFunctionalGroupsSequence[0]
    shared.pop(Tag("PlanePositionSequence"), None)
    for name, values in (("PixelMeasuresSequence", measures), ("PlaneOrientationSequence", orientation)):
        _set_macro(shared, name, values)
        for frame in frames:
            frame.pop(Tag(name), None)
    for one in slices:
        _set_macro(frames[one.frame - 1], "PlanePositionSequence", {"ImagePositionPatient": one.position})


def _set_macro(groups: Dataset, name: str, values: Mapping[str, float | Sequence[float] | None]) -> None:
    item = Dataset()
    _set(item, values)
    setattr(groups, name, [item])


def _set(ds: Dataset, values: Mapping[str, float | Sequence[float] | None]) -> None:
    for keyword, value in values.items():
        if value is not None:
            numbers = [value] if isinstance(value, float) else list(value)
            written = [format_number_as_ds(float(number)) for number in numbers]
            setattr(ds, keyword, written[0] if isinstance(value, float) else written)
