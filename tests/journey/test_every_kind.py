"""Every kind of object comes back from a real PACS as it was made: by C-STORE and STOW-RS, then WADO-RS."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from made import analysis_of, case_of, thorax
from peers import DICOMWEB, Orthanc, orthanc
from pydicom import dcmread

from dicom_node.delivery.kinds import SENDERS
from dicom_node.delivery.outcome import Parcel
from dicom_node.results.kinds import OBJECT_KINDS, build_objects
from dicom_node.settings.destinations import CStoreDestination, Destination, StowRsDestination


@pytest.fixture(scope="module")
def parcels(tmp_path_factory: pytest.TempPathFactory) -> list[Parcel]:
    """Every object of every kind, of a small case with a name in two scripts."""
    folder = tmp_path_factory.mktemp("objects")
    expiratory, name = thorax(-700), "Müller^Jürgen=山田^太郎"
    case = case_of(folder, expiratory, thorax(-850), PatientName=name)
    analysis = analysis_of(case.pair.expiratory, work=2)
    made = []
    for n, (kind, ds) in enumerate(build_objects(analysis, case, lambda: expiratory, OBJECT_KINDS)):
        path = folder / f"{n:04d}-{kind}.dcm"
        ds.save_as(path, enforce_file_format=True)
        made.append(Parcel(n, str(ds.SOPInstanceUID), str(ds.SOPClassUID), path, 0.0, 0))
    assert {p.path.stem[5:] for p in made} == set(OBJECT_KINDS)
    return made


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[Orthanc]:
    with orthanc(tmp_path / "orthanc", **DICOMWEB) as running:
        yield running


def wado_rs(pacs: Orthanc, sent: Path) -> bytes:
    """The one part of a Retrieve Instance response (PS3.18 10.4), in the syntax it is stored in."""
    ds = dcmread(sent, stop_before_pixels=True)
    place = f"studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    request = urllib.request.Request(
        f"http://127.0.0.1:{pacs.http}/dicom-web/{place}", headers={"Accept": accept}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        body = bytes(answer.read())
    boundary = body[: body.index(b"\r\n")]
    part = body[body.index(b"\r\n\r\n") + 4 :]
    return part[: part.rindex(b"\r\n" + boundary)]


def data_set(file: bytes) -> bytes:
    """What stands behind the File Meta Information, which a PACS writes anew (PS3.10 7.1)."""
    with BytesIO(file) as stream:
        meta = dcmread(stream, stop_before_pixels=True).file_meta
    return file[144 + meta.FileMetaInformationGroupLength :]


@pytest.mark.parametrize("kind", ["C-STORE", "STOW-RS"])
def test_what_a_pacs_gives_back_is_what_was_sent_byte_for_byte(
    pacs: Orthanc, parcels: list[Parcel], kind: str
) -> None:
    url = f"http://127.0.0.1:{pacs.http}/dicom-web"
    destinations: dict[str, Destination] = {
        "C-STORE": CStoreDestination("pacs", ae_title="ORTHANC", host="127.0.0.1", port=pacs.port),
        "STOW-RS": StowRsDestination("pacs", url=url),
    }
    destination = destinations[kind]
    outcomes = list(SENDERS[type(destination)].send(parcels, destination, "VQNODE"))
    assert [outcome.verdict for _, outcome in outcomes] == ["sent"] * len(parcels)
    for parcel in parcels:
        sent, got = parcel.path.read_bytes(), wado_rs(pacs, parcel.path)
        assert data_set(got) == data_set(sent), parcel.path.stem
        assert (
            dcmread(BytesIO(got)).file_meta.TransferSyntaxUID
            == dcmread(parcel.path).file_meta.TransferSyntaxUID
        )
