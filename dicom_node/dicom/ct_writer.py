"""analysis.Volume -> CT Image Storage instances on disk: the demo's phantom and the volumes of tests."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, FileMetaDataset, dcmwrite
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

from analysis.volume import Volume

from ..errors import Rejected


@dataclass(frozen=True)
class Scan:
    """Hold what the headers of a series say.

    Parameters
    ----------
    description : str
        Series Description, e.g. ``"Thorax Insp 2.0 B30f"``.
    study : str
        Any text: series with the same text are one study, of one patient and in one Frame of Reference.
    series_number : int
        Also Acquisition Number.
    patient_id, patient_name : str
    kernel : str
        Convolution Kernel.
    acquired : datetime
        Start of the acquisition; the study's date.
    attributes : mapping of str to value
        Keyword -> value, set last in every instance.
    """

    description: str
    study: str
    series_number: int = 1
    patient_id: str = "VQ-PHANTOM"
    patient_name: str = "Phantom^Thorax"
    kernel: str = "B30f"
    acquired: datetime = datetime(2026, 1, 1, 9)
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def uid(self, role: str) -> UID:
        """Return the UID for a role; the same role gives the same UID ("2.25." and a name-based UUID, PS3.5 B.2)."""
        return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, role).int}")

    @property
    def series(self) -> str:
        """Return the text that identifies this series among all."""
        return f"{self.study}\n{self.series_number}\n{self.description}"


def write_ct_series(volume: Volume, folder: Path, scan: Scan) -> list[Path]:
    """Write a volume as a series of CT Image Storage instances (PS3.3 A.3), Explicit VR Little Endian.

    Parameters
    ----------
    volume : Volume
        In HU; values are rounded to integers, and those below -1024 become -1024.
    folder : Path
        Created if it does not exist; files are named by SOP Instance UID, which says nothing of their order.
    scan : Scan
        What the headers say. The same scan and shape give the same UIDs.

    Returns
    -------
    list of Path
        In slice order, k ascending.

    Raises
    ------
    Rejected
        Where a spacing does not fit into a decimal string.
    """
    folder.mkdir(parents=True, exist_ok=True)
    common = _common(volume, scan)
    stored = np.clip(np.rint(volume.array), -1024, 32767).astype("<i2")
    paths = []
    for k, pixels in enumerate(stored):
        ds = Dataset()
        ds.update(common)
        _slice(ds, volume, scan, k)
        ds.PixelData = pixels.tobytes()
        for keyword, value in scan.attributes.items():
            setattr(ds, keyword, value)
        path = folder / f"{ds.SOPInstanceUID}.dcm"
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dcmwrite(path, ds, enforce_file_format=True)
        paths.append(path)
    return paths


def _common(volume: Volume, scan: Scan) -> Dataset:
    """Return the attributes that all slices share."""
    _, rows, columns = volume.grid.shape
    step_k, step_j, step_i = volume.grid.spacing
    directions = volume.grid.directions
    date, time = scan.acquired.strftime("%Y%m%d"), scan.acquired.strftime("%H%M%S")
    values: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "SOPClassUID": CTImageStorage,
        "StudyDate": date, "SeriesDate": date, "AcquisitionDate": date, "ContentDate": date,
        "StudyTime": time, "SeriesTime": time, "AcquisitionTime": time, "ContentTime": time,
        "AccessionNumber": "", "Modality": "CT", "Manufacturer": "vq-dicom-node phantom",
        "ReferringPhysicianName": "", "SeriesDescription": scan.description,
        "PatientName": scan.patient_name, "PatientID": scan.patient_id,
        "PatientBirthDate": "", "PatientSex": "O", "BodyPartExamined": "CHEST",
        "SliceThickness": _ds(step_k), "KVP": "120", "ConvolutionKernel": scan.kernel,
        "PatientPosition": "HFS",
        "StudyInstanceUID": scan.uid(f"study {scan.study}"),
        "SeriesInstanceUID": scan.uid(f"series {scan.series}"),
        "StudyID": "1", "SeriesNumber": scan.series_number, "AcquisitionNumber": scan.series_number,
        "ImageOrientationPatient": [_ds(v) for v in (*directions[:, 2], *directions[:, 1])],
        "FrameOfReferenceUID": scan.uid(f"frame of reference {scan.study}"),
        "PositionReferenceIndicator": "",
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "Rows": rows, "Columns": columns,
        "PixelSpacing": [_ds(step_j), _ds(step_i)], "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15,
        "PixelRepresentation": 1, "RescaleIntercept": "0", "RescaleSlope": "1", "RescaleType": "HU",
        "WindowCenter": "-600", "WindowWidth": "1500",
    }  # fmt: skip
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def _slice(ds: Dataset, volume: Volume, scan: Scan, k: int) -> None:
    """Set the attributes of slice k."""
    ds.SOPInstanceUID = scan.uid(f"instance {scan.series} {k}")
    ds.InstanceNumber = k + 1
    position = volume.grid.points(np.array([[k, 0, 0]], dtype=np.float64))[0]
    ds.ImagePositionPatient = [_ds(v) for v in position]
    # A helical scan takes some seconds: every slice has its own time.
    time = scan.acquired + timedelta(milliseconds=30 * k)
    ds.AcquisitionTime = time.strftime("%H%M%S.%f")
    ds.ContentTime = ds.AcquisitionTime


def _ds(value: float) -> str:
    """Return a number as a decimal string of at most 16 characters (PS3.5 6.2)."""
    if not np.isfinite(value):
        raise Rejected(f"{value} is not a decimal string")
    return format_number_as_ds(float(np.round(value, 10)) + 0.0)
