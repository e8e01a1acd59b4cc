"""De-identified exports: no trace of the patient in any byte, and still the pair it was."""

from __future__ import annotations

import shutil
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from dicom_objects import dciodvfy
from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table  # type: ignore[import-untyped]  # it has no types
from made import analysis_of, by_uid, case_from, enhanced, one_series, thorax
from pydicom import Dataset, dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.uid import JPEG2000Lossless

from analysis.pipeline.pipeline import Parameters
from dicom_node.dicom.ct_writer import Scan, write_ct_series
from dicom_node.dicom.deidentification import DATES, KEPT, RETAINED, Profile, Pseudonyms, without_identity
from dicom_node.dicom.pixels import load_volume
from dicom_node.errors import Rejected
from dicom_node.jobs.results import find, images
from dicom_node.model import Pair, PairingRules
from dicom_node.pairing.pairing import pair
from dicom_node.pairing.stacks import assemble
from dicom_node.research.deidentify import _image, deidentify
from dicom_node.research.pile import gather
from dicom_node.results.files import record_of
from dicom_node.results.record import NAME, read_record
from dicom_node.settings.layout import Layout
from dicom_node.store.archive import Archive
from dicom_node.store.database import Database
from dicom_node.store.keys import node_key
from dicom_node.store.tables import job
from dicom_node.strict_json import dump

#: What must not be found again, as it stands in the images.
WHO: dict[str, Any] = {
    "PatientName": "Öztürk^Séverine",
    "PatientID": "PID-4711-XY",
    "OtherPatientIDs": "OTHER-0815",
    "PatientBirthDate": "19520317",
    "PatientAddress": "Hauptstrasse 12",
    "AccessionNumber": "ACC998877",
    "ReferringPhysicianName": "Quacksalber^Hugo",
    "InstitutionName": "Klinikum Nirgendwo",
    "StationName": "CTSTATION9",
    "DeviceSerialNumber": "SN5551234",
    "ProtocolName": "Thorax Severine",
    "ImageComments": "comment on Severine",
    "StudyID": "STUDYID77",
    "RequestAttributesSequence": [Dataset()],
}
WORDS = (
    "Öztürk",
    "Séverine",
    "Severine",
    "PID-4711",
    "OTHER-0815",
    "Hauptstrasse",
    "ACC998877",
    "Quacksalber",
    "Nirgendwo",
)
MORE = ("CTSTATION9", "SN5551234", "STUDYID77", "19520317", "1952-03-17", "PRIVATEWORD", "20260314", "101530")
SECRET = bytes(range(32))


@pytest.fixture
def archived(tmp_path: Path, archive: Archive, database: Database) -> list[Path]:
    """A job that is done, of a patient with a name, and the files as they came."""
    who = dict(WHO)
    who["RequestAttributesSequence"][0].ScheduledProcedureStepDescription = "for Severine"
    series = []
    for number, (word, hu) in enumerate((("Insp", -880), ("Exp", -800)), 1):
        scan = Scan(f"Thorax {word}", "s", number, acquired=datetime(2026, 3, 14, 10, 15, 30), attributes=who)
        series.append(write_ct_series(thorax(hu), tmp_path / word, scan))
    for n, path in enumerate((*series[0], *series[1])):
        ds = dcmread(path)
        ds.private_block(0x0019, "PRIVATEWORD", create=True).add_new(1, "LO", "PRIVATEWORD of Severine")
        if n % 4 == 0:
            ds.compress(JPEG2000Lossless, generate_instance_uid=False)
        ds.save_as(path, enforce_file_format=True)
        archive.store(
            sop_class_uid=ds.SOPClassUID,
            sop_instance_uid=ds.SOPInstanceUID,
            transfer_syntax_uid=ds.file_meta.TransferSyntaxUID,
            calling_ae="CT",
            dataset=_body(path),
        )
    case = case_from(series[1], series[0])
    folder = tmp_path / "storage" / "results" / "1"
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(record_of(analysis_of(case.pair.expiratory), case).dump())
    row = {
        "study_uid": "1.2",
        "revision": 1,
        "fingerprint": "f",
        "created": 0.0,
        "state": "DONE",
        "since": 0.0,
    }
    texts = {"pair": dump(case.pair), "parameters": dump(Parameters())}
    with database.writing() as connection:
        connection.execute(sa.insert(job).values(**row, **texts, due_at=0.0))
    return [*series[0], *series[1]]


def _body(path: Path) -> bytes:
    """The data set of a file, behind its meta information."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[140:144], "little")
    return raw[144 + length :]


def export(database: Database, tmp_path: Path, out: str) -> tuple[Path, ...]:
    url = database.engine.url.render_as_string(hide_password=False)
    layout = Layout(tmp_path / "storage")
    record = read_record(find("1", layout, url))
    return deidentify(
        record, *images(1, layout, url), tmp_path / out, Profile(Pseudonyms(SECRET)), lambda *_: None
    )


def test_no_byte_of_identity_is_left_and_the_pair_is_the_same(
    archived: list[Path], database: Database, tmp_path: Path
) -> None:
    folders = export(database, tmp_path, "out")
    source = [dcmread(path, stop_before_pixels=True) for path in archived]
    uids = {
        str(ds[k].value) for ds in source for k in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    }
    secrets = [w.encode(c) for w in (*WORDS, *MORE) for c in ("utf-8", "latin-1", "utf-16-le")]
    secrets += [uid.encode() for uid in (*uids, str(source[0].FrameOfReferenceUID))]
    assert all(
        any(s in path.read_bytes() for path in archived) for s in (b"PID-4711", b"PRIVATEWORD", b"20260314")
    )
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".dcm", ".png", ".json", ".npz"}
    for path in files:
        content = path.read_bytes() + _pdf_text(path, tmp_path) + _unpacked(path)
        assert not [s for s in secrets if s in content], path

    found = _pair(tmp_path / "out" / "images")
    original = _pair_of(archived)
    for phase in ("inspiratory", "expiratory"):
        ours, theirs = getattr(found[0], phase), getattr(original[0], phase)
        ours, theirs = load_volume(ours, found[1]), load_volume(theirs, original[1])
        assert np.array_equal(ours.array, theirs.array)
        assert np.array_equal(ours.grid.affine, theirs.grid.affine)
    assert [folder.name for folder in folders] == ["inspiration", "expiration", "results"]
    for path in (*folders[0].iterdir(), *folders[1].iterdir(), folders[2] / "seg.dcm", folders[2] / "sr.dcm"):
        ds = dcmread(path, stop_before_pixels=True)
        assert (ds.PatientID, str(ds.PatientBirthDate)) == (Pseudonyms(SECRET).patient(source[0]), "")
    assert ds.StudyInstanceUID == found[0].expiratory.study_instance_uid
    first = dcmread(folders[0] / "0001.dcm")
    assert first.PatientIdentityRemoved == "YES"
    assert [c.CodeValue for c in first.DeidentificationMethodCodeSequence] == ["113100", "113105", "113107"]
    assert (
        dciodvfy(folders[0] / "0001.dcm")
        == dciodvfy(folders[2] / "seg.dcm")
        == dciodvfy(folders[2] / "sr.dcm")
        == ""
    )
    assert read_record(folders[2] / NAME).expiration == found[0].expiratory.series_instance_uid


def _pair(folder: Path) -> tuple[Pair, dict[str, Path]]:
    pile = gather(folder, folder)
    found = pair(assemble(pile.headers, PairingRules()), PairingRules())
    assert isinstance(found, Pair)
    assert found.decided
    return found, pile.paths


def _pair_of(files: list[Path]) -> tuple[Pair, dict[str, Path]]:
    case = case_from(files[len(files) // 2 :], files[: len(files) // 2])
    return case.pair, by_uid(files)


def _pdf_text(path: Path, folder: Path) -> bytes:
    if path.name != "pdf.dcm":
        return b""
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext (poppler-utils) is not installed")
    (folder / "r.pdf").write_bytes(dcmread(path).EncapsulatedDocument)
    return subprocess.run(["pdftotext", str(folder / "r.pdf"), "-"], capture_output=True, check=True).stdout


def _unpacked(path: Path) -> bytes:
    if path.suffix != ".npz":
        return b""
    with np.load(path) as stored:
        return str(stored["rest"]).encode()


def test_no_kept_attribute_is_one_that_the_profile_removes_or_empties() -> None:
    lists = {
        name: getattr(table, name) for name in dir(table) if name.endswith("_TAGS") and name != "ALL_TAGS"
    }
    assert len(table.ALL_TAGS) > 500
    for keyword in KEPT:
        tag = tag_for_keyword(keyword)
        assert tag is not None, keyword
        named = [name for name, tags in lists.items() if (tag >> 16, tag & 0xFFFF) in tags]
        assert named in ([], ["U_TAGS"]), keyword
    assert all(tag_for_keyword(keyword) for keyword in DATES)


def test_pseudonyms_are_the_same_with_one_key_and_others_with_another() -> None:
    ours, theirs = Pseudonyms(SECRET), Pseudonyms(bytes(32))
    ds = Dataset()
    ds.PatientID = "77"
    assert ours.uid("1.2.3") == Pseudonyms(SECRET).uid("1.2.3") != theirs.uid("1.2.3")
    assert ours.patient(ds) != theirs.patient(ds)
    assert ours.uid("1.2.840.10008.5.1.4.1.1.2") == "1.2.840.10008.5.1.4.1.1.2"
    days = {
        (np.datetime64(f"{d[:4]}-{d[4:6]}-{d[6:]}") - np.datetime64(f"{s[:4]}-{s[4:6]}-{s[6:8]}")).astype(int)
        for s in ("20200131", "20240229", "20251231235959.5")
        for d in [ours.date(ds, s)]
    }
    assert len(days) == 1
    assert -3650 <= days.pop() <= -1
    assert ours.date(ds, "sometime") == ""
    with pytest.raises(Rejected, match="at least 16"):
        Pseudonyms(b"short")


def test_an_enhanced_ct_keeps_its_frames_and_nothing_else(tmp_path: Path) -> None:
    path = enhanced(tmp_path)
    ds = dcmread(path)
    ds.InstitutionName, ds.FrameAcquisitionDateTime = "Nirgendwo", "20260314101530"
    frame = ds.PerFrameFunctionalGroupsSequence[0]
    frame.private_block(0x0019, "PRIVATEWORD", create=True).add_new(1, "LO", "Severine")
    frame.FrameContentSequence = [Dataset()]
    frame.FrameContentSequence[0].FrameComments = "of Severine"
    frame.FrameContentSequence[0].FrameReferenceDateTime = "20260314101530.5"
    ds.save_as(path, enforce_file_format=True)
    folder = tmp_path / "out"
    folder.mkdir()
    _image(path, folder / "0001.dcm", Profile(Pseudonyms(SECRET)), "Expiration")
    content = (folder / "0001.dcm").read_bytes()
    assert not [w for w in (b"Nirgendwo", b"PRIVATEWORD", b"Severine", b"20260314") if w in content]
    ours, theirs = one_series([folder / "0001.dcm"]), one_series([path])
    assert ours.phase == theirs.phase == "expiration"
    now, then = (load_volume(s, by_uid([p])) for s, p in ((ours, folder / "0001.dcm"), (theirs, path)))
    assert np.array_equal(now.array, then.array)
    assert np.array_equal(now.grid.affine, then.grid.affine)


def test_what_cannot_be_made_anonymous_is_refused(
    archived: list[Path], database: Database, tmp_path: Path
) -> None:
    ds = dcmread(archived[0])
    ds.BurnedInAnnotation = "YES"
    with pytest.raises(Rejected, match="has annotations burned in"):
        without_identity(ds, Profile(Pseudonyms(SECRET)), "Inspiration")
    with database.writing() as connection:
        connection.execute(sa.text("DELETE FROM instance"))
    with pytest.raises(Rejected, match="is not in the archive"):
        export(database, tmp_path, "gone")


def test_only_what_is_asked_for_is_retained_and_the_file_says_which(tmp_path: Path) -> None:
    scan = Scan("Thorax Insp", "s", 1, acquired=datetime(2026, 3, 14, 10, 15), attributes=dict(WHO))
    path = write_ct_series(thorax(-880), tmp_path / "in", scan)[0]
    ds = dcmread(path)
    ds.PatientSex, ds.PatientSize, ds.PatientWeight, ds.SmokingStatus = "F", "1.64", "58", "NO"
    ds.XRaySourceID = "TUBE 7"
    bare, told, both = (
        without_identity(ds, Profile(Pseudonyms(SECRET), retain), "Inspiration")
        for retain in ((), ("characteristics",), ("characteristics", "device"))
    )
    characteristics = RETAINED["characteristics"].keywords
    assert [k for k in characteristics | RETAINED["device"].keywords if bare.get(k)] == []
    assert (told.PatientSex, told.PatientAge, told.PatientSize, told.SmokingStatus) == (
        "F",
        "073Y",
        1.64,
        "NO",
    )
    assert (told.PatientBirthDate, told.PatientID) == ("", bare.PatientID)
    assert "DeviceSerialNumber" not in told
    assert "XRaySourceID" not in told
    assert (both.StationName, both.DeviceSerialNumber) == ("CTSTATION9", "SN5551234")
    assert both.XRaySourceID == "TUBE 7"
    codes = [[c.CodeValue for c in one.DeidentificationMethodCodeSequence] for one in (bare, told, both)]
    assert [c[3:] for c in codes] == [[], ["113108"], ["113108", "113109"]]
    _image(
        path, tmp_path / "out.dcm", Profile(Pseudonyms(SECRET), ("characteristics", "device")), "Inspiration"
    )
    assert dciodvfy(tmp_path / "out.dcm") == ""
    with pytest.raises(Rejected, match="weather: what can be retained is characteristics, device"):
        Profile(Pseudonyms(SECRET), ("weather",))


@pytest.mark.parametrize(
    ("born", "said", "kept"),
    [
        ("19260314", "", "090Y"),
        ("20260301", "", "000Y"),
        ("", "101Y", "090Y"),
        ("", "18M", None),
        ("", "", None),
    ],
)
def test_an_age_is_kept_in_whole_years_and_the_oldest_are_told_apart_by_nothing(
    born: str, said: str, kept: str | None
) -> None:
    ds = Dataset()
    ds.SOPInstanceUID, ds.SOPClassUID = "1.2.3", "1.2.840.10008.5.1.4.1.1.2"
    ds.StudyDate, ds.PatientBirthDate, ds.PatientAge = "20260314", born, said
    out = without_identity(ds, Profile(Pseudonyms(SECRET), ("characteristics",)), "")
    assert out.get("PatientAge") == kept


def test_the_node_makes_its_key_once_and_for_its_owner_only(tmp_path: Path) -> None:
    key = node_key(Layout(tmp_path / "storage"))
    assert len(key) == 32
    assert node_key(Layout(tmp_path / "storage")) == key
    assert (tmp_path / "storage" / "pseudonyms.key").stat().st_mode & 0o777 == 0o600
