"""Material for tests: small CT series as files, and an Analysis without an analysis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import UID, EnhancedCTImageStorage, ExplicitVRLittleEndian

from analysis.anatomy.regions import REGIONS
from analysis.measures.findings import Finding
from analysis.measures.table import MEASURES
from analysis.pipeline.pipeline import Analysis, Parameters
from analysis.registration.registration import RegistrationQuality
from analysis.volume import Grid, Volume
from analysis.vq.classes import VQClass
from dicom_node.dicom.ct_writer import Scan, write_ct_series
from dicom_node.dicom.headers import read_header
from dicom_node.dicom.pixels import grid_of
from dicom_node.model import Header, Pair, Series, Slice
from dicom_node.pairing.stacks import assemble
from dicom_node.results.context import Case, read_case

SHAPE = (52, 40, 48)
SPACING = (2.5, 4.0, 3.75)
ORIGIN = (-90.0, -70.0, -210.5)


def thorax(
    level: int = -800, shape: tuple[int, int, int] = SHAPE, spacing: tuple[float, float, float] = SPACING
) -> Volume:
    """Two boxes of lung in soft tissue in air, with a value of its own at every voxel."""
    hu = np.full(shape, -1000, dtype=np.int16)
    _, j, i = shape
    hu[:, j // 8 : -j // 8, i // 8 : -i // 8] = 40
    for lung in lung_boxes(shape):
        hu[lung] = level
    hu += np.arange(hu.size, dtype=np.int64).reshape(shape).astype(np.int16) % 37
    return Volume(hu, Grid.axial(shape, spacing, ORIGIN))


def lung_boxes(shape: tuple[int, int, int]) -> list[tuple[slice, slice, slice]]:
    """Where the right lung (low x) and the left lung are."""
    k, j, i = shape
    height, depth = slice(k // 6, -k // 6), slice(j // 4, -j // 4)
    return [(height, depth, slice(i // 6, i // 2 - 2)), (height, depth, slice(i // 2 + 2, -i // 6))]


def headers_of(paths: Iterable[Path]) -> list[Header]:
    return [read_header(p) for p in paths]


def by_uid(paths: Iterable[Path]) -> dict[str, Path]:
    return {read_header(p).sop_instance_uid: p for p in paths}


def one_series(paths: Sequence[Path]) -> Series:
    """The only stack among some files."""
    assembled = assemble(headers_of(paths))
    assert assembled.refused == ()
    (series,) = assembled.series
    return series


def case_of(folder: Path, expiratory: Volume, inspiratory: Volume, **attributes: object) -> Case:
    """Both volumes written as two series of one study, read back as a Case."""
    e = write_ct_series(expiratory, folder / "e", Scan("Thorax Exp 2.5", "s", 2, attributes=attributes))
    i = write_ct_series(inspiratory, folder / "i", Scan("Thorax Insp 2.5", "s", 1, attributes=attributes))
    return case_from(e, i)


def case_from(expiratory: Sequence[Path], inspiratory: Sequence[Path]) -> Case:
    pair = Pair(one_series(inspiratory), one_series(expiratory), True, "named")
    created = datetime(2026, 2, 3, 4, 5, 6, 700000, tzinfo=UTC)
    return read_case(pair, by_uid([*expiratory, *inspiratory]), created, "revision 1")


def analysis_of(expiratory: Series, *, missing: Sequence[VQClass] = (), work: int = 1) -> Analysis:
    """Classes and lungs where `lung_boxes` are, a different measure for every name and region."""
    grid = grid_of(expiratory)
    lungs = np.zeros(grid.shape, dtype=np.uint8)
    classes = np.zeros(grid.shape, dtype=np.uint8)
    for value, box in enumerate(lung_boxes(grid.shape), 1):
        lungs[box] = value
        part = classes[box]
        part[1:-1, 1:-1, 1:-1] = VQClass.NORMAL
        part[2:6, 2:8, 2:6] = VQClass.DEAD_SPACE
        part[-6:-2, 2:8, 2:6] = VQClass.SHUNT
        part[-6:-2, -8:-2, -6:-2] = VQClass.MATCHED_DEFECT
    for c in missing:
        classes[classes == c] = VQClass.NORMAL
    measures = {r: {m: 10.0 * a + b / 7 for b, m in enumerate(MEASURES)} for a, r in enumerate(REGIONS)}
    measures["left_upper"]["median_vq"] = float("nan")
    coarse = grid.coarsen((work, work, work))
    ramp = np.linspace(0.01, 1.0, int(np.prod(coarse.shape)), dtype=np.float32).reshape(coarse.shape)
    k, j, i = (slice(work // 2, n * work, work) for n in coarse.shape)
    inside = classes[k, j, i] > 0
    maps = {
        name: np.where(inside, ramp * factor - shift, np.nan).astype(np.float32)
        for name, factor, shift in (("V", 0.6, 0), ("Q", 0.05, 0), ("m", 0.1, 0.05), ("V/Q", 2.0, 0))
    }
    maps |= {"jacobian": ramp + 0.5, "ct_exp": np.full(coarse.shape, -700, dtype=np.float32)}
    maps |= {"ct_insp": maps["ct_exp"] - 100 * ramp}
    findings = (
        Finding(
            "volume ratio", "pass", 0.7312, "1", "warn > 0.85, fail >= 0.95", "Expiration is deep enough."
        ),
        Finding("kernel", "warn", None, "1", "warn on sharp kernels", "The kernel B70f is sharp."),
    )
    displacement = np.zeros((*coarse.shape, 3), dtype=np.float32)
    registration = RegistrationQuality(0.004, 0.0, 0.04, 0.9, 0.12)
    return Analysis(
        Parameters(),
        "0.1.0",
        grid,
        classes,
        lungs,
        coarse,
        maps,
        displacement,
        measures,
        {r: {"shunt": (1.0, 1.5, 2.0, 2.5, 3.0, 3.5)} for r in REGIONS},
        findings,
        registration,
    )


def slices(n: int, gap: float = 2.5, *, start: float = -210.5, **changes: object) -> tuple[Slice, ...]:
    """Slices of one plain axial stack, for tests without files."""
    first = Slice(
        "1.2.3.0", 1, (-250.0, -250.0, start), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (0.9, 0.9), 512, 512, gap,
        ("1", "B30f", "ORIGINAL\\PRIMARY\\AXIAL", "", ""),
    )  # fmt: skip
    first = replace(first, **changes)  # type: ignore[arg-type]
    x, y, _ = first.position
    return tuple(
        replace(first, sop_instance_uid=f"1.2.3.{k}", position=(x, y, round(start + gap * k, 6)))
        for k in range(n)
    )


def headers(
    found: Iterable[Slice], series_uid: str = "1.2.3", *, text: str = "", prefix: str = "", **fields: object
) -> list[Header]:
    """A header for every slice, as read from single-frame instances."""
    out = []
    for s in found:
        uid = f"{prefix or series_uid}.{s.sop_instance_uid}"
        header = Header(
            "1.2.840.10008.5.1.4.1.1.2", uid, series_uid, "1.2", "CT", (replace(s, sop_instance_uid=uid),),
            texts=(text,), kernel=s.acquisition[1],
        )  # fmt: skip
        out.append(replace(header, **fields))  # type: ignore[arg-type]
    return out


def enhanced(folder: Path, sop_class: str = EnhancedCTImageStorage, description: str = "Exp") -> Path:
    """A volume as one Enhanced CT: orientation and measures shared, positions per frame."""
    volume = thorax()
    paths = write_ct_series(volume, folder / "single", Scan(description, "s"))
    single = [dcmread(p) for p in paths]
    ds = dcmread(paths[0])
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = UID(sop_class)
    ds.NumberOfFrames = len(single)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope",
                    "RescaleIntercept", "SliceThickness"):  # fmt: skip
        del ds[keyword]
    ds.SharedFunctionalGroupsSequence = [shared_groups(single[0])]
    ds.PerFrameFunctionalGroupsSequence = [frame_groups(s) for s in single]
    ds.PixelData = b"".join(s.PixelData for s in single)
    path = folder / "enhanced.dcm"
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(path, enforce_file_format=True)
    for p in paths:
        p.unlink()
    return path


def shared_groups(ds: Dataset) -> Dataset:
    return item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=ds.ImageOrientationPatient)],
        PixelMeasuresSequence=[item(PixelSpacing=ds.PixelSpacing, SliceThickness=ds.SliceThickness)],
        PixelValueTransformationSequence=[item(RescaleSlope="1", RescaleIntercept="0", RescaleType="HU")],
        CTImageFrameTypeSequence=[item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])],
        CTReconstructionSequence=[item(ConvolutionKernel="B30f")],
    )


def frame_groups(ds: Dataset) -> Dataset:
    return item(
        PlanePositionSequence=[item(ImagePositionPatient=ds.ImagePositionPatient)],
        FrameContentSequence=[item(FrameAcquisitionNumber=1)],
    )


def item(**attributes: object) -> Dataset:
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds
