"""Every file a scanner, an anonymiser or an accident may have written is read, or refused in a sentence."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from made import SHAPE, enhanced, headers_of, one_series, thorax
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.errors import BytesLengthException
from pydicom.tag import Tag
from pydicom.uid import EnhancedCTImageStorage, ImplicitVRLittleEndian, LegacyConvertedEnhancedCTImageStorage
from spoilt import spoil

from dicom_node.dicom.attributes import named
from dicom_node.dicom.ct_writer import Scan, write_ct_series
from dicom_node.dicom.headers import read_header
from dicom_node.errors import Rejected
from dicom_node.model import Person


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    """One CT slice."""
    return write_ct_series(
        thorax().crop((slice(0, 1), slice(0, 40), slice(0, 48))), tmp_path, Scan("Insp", "s")
    )[0]


def changed(path: Path, **attributes: object) -> Path:
    ds = dcmread(path)
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    ds.save_as(path)
    return path


def test_a_slice_is_read(ct: Path) -> None:
    header = read_header(ct)
    (s,) = header.slices
    assert (s.rows, s.columns, s.spacing, s.thickness) == (40, 48, (4.0, 3.75), 2.5)
    assert s.position == (-90.0, -70.0, -210.5)
    assert s.acquisition == ("1", "B30f", "ORIGINAL\\PRIMARY\\AXIAL", "", "")
    assert header.texts[0] == "Insp"
    assert header.acquired == "20260101090000.000000"
    assert header.ignored == ""


@pytest.mark.parametrize("name", ["popi-00-philips", "normal001-siemens-jpegll"])
def test_real_series_are_read(shared: Path, tmp_path: Path, name: str) -> None:
    zipfile.ZipFile(shared / "real-ct" / f"{name}.zip").extractall(tmp_path)
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    headers = headers_of(files)
    assert {h.ignored for h in headers} == {""}
    assert {h.modality for h in headers} == {"CT"}
    assert one_series(files).gap == pytest.approx(2.0)


def test_the_malformed_private_tag_is_survived(ct: Path) -> None:
    """Philips writes text where the private dictionary has a double: iterating the data set raises."""
    ds = dcmread(ct)
    ds.private_block(0x01F1, "ELSCINT1", create=True).add_new(0x26, "UN", b"0.15")
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    ds.save_as(ct, implicit_vr=True)
    with pytest.raises(BytesLengthException, match="01F1,1026"):
        list(dcmread(ct))
    assert read_header(ct).slices


@pytest.mark.parametrize(
    ("attributes", "ignored"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR", "CT_SOM5 MPR"]}, "derived image"),
        ({"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"]}, "derived image"),
        ({"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 MIP"]}, "derived image"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL"]}, ""),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]}, ""),
        ({"ImageType": None}, ""),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "not CT"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4", "Modality": "SEG"}, "not CT"),
        ({"Manufacturer": "vq-dicom-node"}, "our own result"),
    ],
)
def test_what_is_no_original_ct_is_ignored(ct: Path, attributes: dict[str, object], ignored: str) -> None:
    header = read_header(changed(ct, **attributes))
    assert header.ignored == ignored
    assert bool(header.slices) == (not ignored)


@pytest.mark.parametrize(
    "keyword", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows"]
)
def test_missing_geometry_is_named(ct: Path, keyword: str) -> None:
    ds = dcmread(ct)
    del ds[keyword]
    ds.save_as(ct)
    expected = {
        "Rows": "1 number above 0",
        "PixelSpacing": "2 numbers above 0",
        "ImageOrientationPatient": "6 numbers: two perpendicular directions",
    }
    said = f"in SOP instance {ds.SOPInstanceUID}, expected {expected.get(keyword, '3 numbers')}"
    assert read_header(ct).ignored == f"no {named(keyword)} {said}"


@pytest.mark.parametrize(
    ("name", "vr", "value", "said"),
    [
        ("SamplesPerPixel", "US", None, "Samples per Pixel (0028,0002) (absent, expected 1)"),
        ("SamplesPerPixel", "US", b"\3\0", "Samples per Pixel (0028,0002) (3, expected 1)"),
        ("BitsAllocated", "US", None, "Bits Allocated (0028,0100) (absent, expected 16 or 32)"),
        ("BitsStored", "US", b"\10\0", "Bits Stored (0028,0101) (8, expected 10 to 32)"),
        ("BitsStored", "US", b"\40\0", "Bits Stored (0028,0101) (32, expected at most 16)"),
        ("RescaleType", "LO", b"OD", "Rescale Type (0028,1054) (OD, expected HU)"),
        ("PixelRepresentation", "US", None, "Pixel Representation (0028,0103) (absent, expected 0 or 1)"),
        ("PhotometricInterpretation", "CS", b"PALETTE COLOR", "Photometric Interpretation (0028,0004) (not readable,"),
        ("RescaleIntercept", "DS", b"0\\0", "Rescale Intercept (0028,1052) (2 values, expected 1)"),
        ("RescaleSlope", "DS", b"0", "Rescale Slope (0028,1053) (0, expected a number)"),
        ("RescaleSlope", "DS", b"one", "Rescale Slope (0028,1053) (not readable, expected a number)"),
    ],
)  # fmt: skip
def test_what_pixels_cannot_be_read_without_is_named_with_the_header(
    ct: Path, name: str, vr: str, value: bytes | None, said: str
) -> None:
    spoil([ct], {(name, vr): value})
    header = read_header(ct)
    assert header.ignored.startswith(f"no usable {said}")
    assert header.ignored.endswith(f"in SOP instance {header.sop_instance_uid}")
    assert header.slices == ()


@pytest.mark.parametrize(
    ("name", "vr", "value"),
    [
        ("PixelSpacing", "DS", b"0\\0"), ("PixelSpacing", "DS", b"-0.7\\0.7"), ("Rows", "US", b"\0\0"),
        ("ImageOrientationPatient", "DS", b"0\\0\\0\\0\\0\\0"), ("ImageOrientationPatient", "DS", b"1\\0\\0\\1\\0\\0"),
    ],
)  # fmt: skip
def test_geometry_that_cannot_be_is_named(ct: Path, name: str, vr: str, value: bytes) -> None:
    spoil([ct], {(name, vr): value})
    assert read_header(ct).ignored.startswith(f"no usable {named(name)} in SOP instance ")


@pytest.mark.parametrize(("unit", "notes"), [(b"HU", 0), (b"hu ", 0), (b"", 0), (b"US", 1)])
def test_a_unit_that_is_unspecified_is_taken_for_hu_and_told(ct: Path, unit: bytes, notes: int) -> None:
    spoil([ct], {("RescaleType", "LO"): unit})
    header = read_header(ct)
    assert len(header.slices) == 1
    assert len(header.notes) == notes


@pytest.mark.parametrize("kept", [0, 12, -2])
def test_pixels_that_are_cut_short_are_known_from_the_header(ct: Path, kept: int) -> None:
    data = ct.read_bytes()
    at = data.rfind(b"\xe0\x7f\x10\x00OW")
    ct.write_bytes(data[:at][:None] if kept == 0 else data[: at + kept] if kept > 0 else data[:kept])
    assert read_header(ct).ignored.startswith("no whole Pixel Data (7FE0,0010) (")


@pytest.mark.parametrize("uid", [b"", b"1.2.x", b"Doe^Jane", b"1." * 33 + b"1"])
def test_a_uid_that_is_none_is_named(ct: Path, uid: bytes) -> None:
    spoil([ct], {("SOPInstanceUID", "UI"): uid})
    with pytest.raises(Rejected, match=r"SOP Instance UID \(0008,0018\)") as caught:
        read_header(ct)
    assert "Doe" not in str(caught.value)


def person(ct: Path, **values: str) -> Person:
    spoil([ct], {(k, dictionary_VR(tag_for_keyword(k) or 0)): v.encode() for k, v in values.items()})
    return read_header(ct).person


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"PatientID": " 0012"}, {"PatientID": "0012 "}, True),
        ({"PatientID": "0012"}, {"PatientID": "12"}, False),
        ({"PatientName": "MÜLLER^Hans^^Dr."}, {"PatientName": "Mueller^HANS"}, True),
        ({"PatientName": "Doe^Jane^^"}, {"PatientName": "doe^jane"}, True),
        ({"PatientName": "Doe^Jane"}, {"PatientName": "Doe^John"}, False),
        ({"PatientName": "DOE JANE "}, {"PatientName": "Doe^Jane"}, True),
        ({"PatientName": "Doe, Jane"}, {"PatientName": "Doe^Jane"}, True),
        ({"PatientID": "UNKNOWN"}, {"PatientID": ""}, True),
        ({"PatientID": "Anonymous "}, {"PatientID": "N/A"}, True),
        ({"PatientID": "1"}, {"PatientID": "0"}, False),
        ({"PatientBirthDate": "19500101"}, {"PatientBirthDate": "1950.01.01"}, True),
        ({"PatientBirthDate": ""}, {"PatientBirthDate": "00/00/0000"}, True),
        ({"PatientBirthDate": "1950"}, {"PatientBirthDate": "19500230"}, True),
        ({"PatientBirthDate": "19500101"}, {"PatientBirthDate": "19500102"}, False),
        ({"IssuerOfPatientID": "A"}, {"IssuerOfPatientID": "B"}, False),
    ],
)
def test_who_the_patient_is_can_be_compared(
    ct: Path, one: dict[str, str], other: dict[str, str], same: bool
) -> None:
    assert (person(ct, **one) == person(ct, **other)) == same


@pytest.mark.parametrize(
    "keyword", ["SliceThickness", "ConvolutionKernel", "AcquisitionNumber", "SeriesDescription"]
)
def test_optional_attributes_may_be_missing(ct: Path, keyword: str) -> None:
    ds = dcmread(ct)
    del ds[keyword]
    ds.save_as(ct)
    assert read_header(ct).slices


def test_multi_valued_surprises_are_survived(ct: Path) -> None:
    header = read_header(changed(ct, ConvolutionKernel=["Br40d", "3"], GantryDetectorTilt=[0, 0]))
    assert header.kernel == "Br40d\\3"
    assert header.gantry_tilt == 0.0


@pytest.mark.parametrize("value", [b"2,50", b"thin", b""])
def test_numbers_that_are_none_are_survived(ct: Path, value: bytes) -> None:
    ds = dcmread(ct)
    tag = Tag("SliceThickness")
    ds[tag] = RawDataElement(tag, "DS", len(value), value, 0, False, True)
    ds.save_as(ct)
    assert read_header(ct).slices[0].thickness is None


def test_a_value_of_the_wrong_length_is_survived(ct: Path) -> None:
    ds = dcmread(ct)
    tag = Tag("NominalPercentageOfRespiratoryPhase")
    ds[tag] = RawDataElement(tag, "FD", 4, b"50.0", 0, False, True)
    ds.save_as(ct)
    assert read_header(ct).phase_percent is None


@pytest.mark.parametrize("charset", ["ISO_IR 999", ["", "ISO 2022 IR 87"], "latin1", None])
def test_odd_character_sets_are_survived(ct: Path, charset: object) -> None:
    raw = dcmread(ct)
    raw.SpecificCharacterSet = "ISO_IR 100"
    raw.SeriesDescription = "Inspiración"
    raw.save_as(ct)
    ds = dcmread(ct)
    ds.SpecificCharacterSet = charset
    dcmwrite(ct, ds)
    assert read_header(ct).texts[0].startswith("Inspiraci")


@pytest.mark.parametrize(
    ("code", "scheme", "phase"),
    [
        ("14910006", "SCT", "14910006"),
        ("F-20020", "SRT", "58322009"),
        ("109024", "DCM", "14910006"),
        ("1", "X", ""),
    ],
)
def test_the_acquisition_context_codes_the_phase(ct: Path, code: str, scheme: str, phase: str) -> None:
    concept = Dataset()
    concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning = code, scheme, "phase"
    item = Dataset()
    item.ValueType, item.ConceptCodeSequence = "CODE", [concept]
    assert read_header(changed(ct, AcquisitionContextSequence=[item])).phase_code == phase


@pytest.mark.parametrize(
    ("agent", "contrast"),
    [
        ("Iomeron 350", "Iomeron 350"),
        ("none", ""),
        ("", ""),
        (None, ""),
        ("ohne KM", ""),
        ("sans injection", ""),
        ("SIN CONTRASTE", ""),
        ("No IV contrast", ""),
        ("bez kontrastu", ""),
        ("W/O", ""),
        ("0 ml", ""),
        ("Non-ionic iodine", "Non-ionic iodine"),
        ("NIOPAM 300", "NIOPAM 300"),
        ("0.5 ml/kg", "0.5 ml/kg"),
        ("Nonionic", "Nonionic"),
        ("Sinogram", "Sinogram"),
        ("N/A", ""),
    ],
)
def test_contrast_is_told_from_its_absence(ct: Path, agent: object, contrast: str) -> None:
    assert read_header(changed(ct, ContrastBolusAgent=agent)).contrast == contrast


@pytest.mark.parametrize("sop_class", [EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage])
def test_every_frame_of_an_enhanced_ct_is_a_slice(tmp_path: Path, sop_class: str) -> None:
    path = enhanced(tmp_path, sop_class)
    header = read_header(path)
    assert len(header.slices) == SHAPE[0]
    assert [s.frame for s in header.slices] == list(range(1, SHAPE[0] + 1))
    assert header.slices[3].position == (-90.0, -70.0, -203.0)
    assert {s.spacing for s in header.slices} == {(4.0, 3.75)}
    series = one_series([path])
    assert series.sop_instance_uids == (header.sop_instance_uid,)
    assert series.gap == 2.5


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x89PNG" * 100, b"\0" * 128 + b"DICM", b"\x08\x00garbage" * 20]
)
def test_what_is_not_dicom_is_rejected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "Doe^Jane.dcm"
    path.write_bytes(content)
    with pytest.raises(Rejected) as caught:
        read_header(path)
    assert "Doe" not in str(caught.value)


def test_a_truncated_file_is_rejected_or_read(ct: Path) -> None:
    whole = ct.read_bytes()
    for size in range(140, 1400, 60):
        ct.write_bytes(whole[:size])
        try:
            said = read_header(ct).sop_instance_uid
        except Rejected as error:
            said = str(error)
        assert ct.stem in said


def test_a_file_without_preamble_is_read(ct: Path) -> None:
    ct.write_bytes(ct.read_bytes()[132:])
    assert read_header(ct).slices


def test_no_header_holds_the_patient(ct: Path) -> None:
    text = repr(read_header(changed(ct, PatientName="Doe^Jane", PatientID="MRN-4711")))
    assert "Doe" not in text
    assert "4711" not in text
