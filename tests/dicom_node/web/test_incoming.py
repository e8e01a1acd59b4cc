"""Images by upload and STOW-RS: kept as by C-STORE before the answer, or refused with a sentence and nothing kept."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from node_values import write_scan
from page import Served, config, served
from pydicom import dcmread
from pydicom.uid import UID

from dicom_node.delivery import stow_rs
from dicom_node.delivery.outcome import Parcel
from dicom_node.dicom import archives
from dicom_node.settings.config import ReceiveSettings
from dicom_node.settings.destinations import StowRsDestination
from dicom_node.settings.web import WebSettings
from dicom_node.store.tables import instance, quarantine

RELATED = 'multipart/related; type="application/dicom"; boundary=edge'


@pytest.fixture(scope="module")
def one_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    web = WebSettings(port=0, upload_mb=1)
    with served(config(tmp_path_factory.mktemp("incoming"), web)) as found:
        yield found


@pytest.fixture
def page(one_page: Served) -> Served:
    """The page with nothing in its archive."""
    with one_page.site.database.writing() as connection:
        for table in (instance, quarantine):
            connection.execute(sa.delete(table))
    for file in one_page.site.config.layout.archive.glob("*/*"):
        file.unlink()
    return one_page


@pytest.fixture
def scan(tmp_path: Path) -> list[Path]:
    return write_scan(tmp_path, "Thorax Insp", 1, slices=4)


def related(files: list[bytes], media_type: str = "application/dicom", end: str = "--edge--\r\n") -> bytes:
    parts = [f"--edge\r\nContent-Type: {media_type}\r\n\r\n".encode() + data + b"\r\n" for data in files]
    return b"".join(parts) + end.encode()


def stow(page: Served, body: bytes, study: str = "", kind: str = RELATED) -> httpx.Response:
    path = "/dicom-web/studies" + (f"/{study}" if study else "")
    return page.program().post(path, content=body, headers={"Content-Type": kind})


def kept(page: Served) -> int:
    with page.site.database.reading() as connection:
        return int(connection.scalar(sa.select(sa.func.count()).select_from(instance)) or 0)


def left_over(page: Served) -> list[Path]:
    return [*page.site.config.layout.workspaces.glob("*"), *page.site.config.layout.incoming.glob("*")]


def upload(page: Served, files: list[tuple[str, bytes]]) -> httpx.Response:
    return page.program().post("/api/v1/upload", files=[("files", file) for file in files])


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_what_is_acknowledged_is_in_the_archive_byte_for_byte(page: Served, scan: list[Path]) -> None:
    answer = stow(page, related([path.read_bytes() for path in scan]))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom+json")
    stored = {item["00081155"]["Value"][0] for item in answer.json()["00081199"]["Value"]}
    assert stored == {str(dcmread(path).SOPInstanceUID) for path in scan}
    for uid, path in page.site.archive.paths(stored).items():
        original = next(p for p in scan if dcmread(p).SOPInstanceUID == uid)
        assert dcmread(path).PixelData == dcmread(original).PixelData
    assert left_over(page) == []


def test_the_same_again_is_a_success_and_keeps_nothing_twice(page: Served, scan: list[Path]) -> None:
    body = related([path.read_bytes() for path in scan])
    assert [stow(page, body).status_code for _ in range(2)] == [200, 200]
    assert kept(page) == len(scan)


def test_each_instance_has_its_own_fate(page: Served, scan: list[Path]) -> None:
    changed = dcmread(scan[0])
    changed.SeriesDescription = "other"
    buffer = io.BytesIO()
    changed.save_as(buffer)
    stow(page, related([scan[0].read_bytes()]))
    answer = stow(page, related([scan[1].read_bytes(), b"no DICOM", buffer.getvalue()]))
    assert answer.status_code == 202
    good, bad = (answer.json()[tag]["Value"] for tag in ("00081199", "00081198"))
    assert [item.get("00081196", {}).get("Value") for item in good] == [None, [0xB000]]
    assert [item["00081197"]["Value"] for item in bad] == [[0xC000]]
    with page.site.database.reading() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(quarantine)) == 1


def test_instances_of_another_study_than_the_address_says_are_refused(page: Served, scan: list[Path]) -> None:
    body = related([scan[0].read_bytes()])
    answer = stow(page, body, study="1.2.3")
    assert (answer.status_code, answer.json()["00081198"]["Value"][0]["00081197"]["Value"]) == (409, [0xA900])
    assert kept(page) == 0
    assert stow(page, body, study=str(dcmread(scan[0]).StudyInstanceUID)).status_code == 200


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (related([b"x"], end=""), RELATED, 422),
        (b"", RELATED, 422),
        (b"no part at all", RELATED, 422),
        (related([]), RELATED, 415),
        (related([b"{}"], "application/dicom+json"), RELATED, 415),
        (related([b"x"]), "multipart/related", 415),
        (related([b"x"]), "application/dicom", 415),
        (related([b"x"]), "multipart/form-data; boundary=edge", 415),
        (related([b"x"]), f"multipart/related; boundary={'e' * 300}", 415),
        (related([b"x" * 1_100_000]), RELATED, 413),
        (related([b"x"]), RELATED, 409),
        (related([b"\0" * 128 + b"DICM"]), RELATED, 409),
        (related([b"\0" * 128 + b"DICM" + b"\x02\x00\x02\x00UI\xff\xff" + b"1" * 100]), RELATED, 409),
        (related([b"\0" * 128 + b"DICM" + b"\x02\x00\x01\x00OB\x00\x00\xff\xff\xff\xff"]), RELATED, 409),
    ],
)
def test_a_bad_request_gets_a_status_and_keeps_nothing(
    page: Served, body: bytes, kind: str, status: int
) -> None:
    answer = stow(page, body, kind=kind)
    assert answer.status_code == status, answer.text
    assert kept(page) == 0
    assert left_over(page) == []


def test_a_class_that_is_no_storage_class_is_refused(page: Served, scan: list[Path]) -> None:
    ds = dcmread(scan[0])
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.9999")
    buffer = io.BytesIO()
    ds.save_as(buffer)
    answer = stow(page, related([buffer.getvalue()]))
    assert (answer.status_code, answer.json()["00081198"]["Value"][0]["00081197"]["Value"]) == (409, [0x0122])


def test_with_too_little_room_nothing_is_taken_and_the_sender_is_told_to_come_again(
    tmp_path: Path, scan: list[Path]
) -> None:
    receive = ReceiveSettings(port=0, min_free_mb=10**9)
    with served(config(tmp_path, receive=receive)) as page:
        answer = stow(page, related([scan[0].read_bytes()]))
        assert (answer.status_code, kept(page)) == (503, 0)
        assert "too little room" in answer.json()["error"]


def test_our_own_stow_client_is_answered_as_by_any_server(page: Served, scan: list[Path]) -> None:
    secret = page.site.config.storage / "authorization"
    secret.write_text(f"Bearer {page.tokens['operator']}")
    target = StowRsDestination("node", url=f"{page.base}/dicom-web", authorization_file=secret)
    parcel = Parcel(1, str(dcmread(scan[0]).SOPInstanceUID), "1.2", scan[0], 0.0, 0, job_id=1, sha256="")
    ((_, outcome),) = stow_rs.send([parcel], target, "VQNODE")
    assert (outcome.verdict, kept(page)) == ("sent", 1)


# ---- uploads


def test_files_and_archives_are_kept_and_what_is_no_image_is_named(page: Served, scan: list[Path]) -> None:
    archive = zipped(
        {f"{n}/a.dcm": path.read_bytes() for n, path in enumerate(scan[1:])} | {"README": b"text"}
    )
    answer = upload(page, [("one.dcm", scan[0].read_bytes()), ("study.zip", archive)])
    told = answer.json()
    assert (answer.status_code, told["stored"], told["refused"]) == (200, 4, 1)
    assert "no DICOM file" in told["reasons"][0]["reason"]
    assert kept(page) == 4
    assert left_over(page) == []
    assert "upload: 4 images stored" in page.audited()


def bomb() -> bytes:
    return zipped({"a.dcm": b"\0" * (8 << 20)})


@pytest.mark.parametrize(
    ("name", "data", "status", "words"),
    [
        ("photo.jpg", b"\xff\xd8\xff picture", 422, "no DICOM file"),
        ("empty.dcm", b"", 422, "no DICOM file"),
        ("cut.zip", zipped({"a": bytes(range(256)) * 4})[:150], 422, "cut short or damaged"),
        ("study.7z", b"7z\xbc\xaf\x27\x1c" + b"x" * 300, 422, "7z archive"),
        ("empty.zip", zipped({}), 422, "nothing was sent"),
        ("large.dcm", b"x" * 1_100_000, 413, "at most"),
    ],
)
def test_an_upload_that_cannot_be_used_gets_a_sentence_and_keeps_nothing(
    page: Served, name: str, data: bytes, status: int, words: str
) -> None:
    answer = upload(page, [(name, data)])
    assert answer.status_code == status, answer.text
    assert words.lower() in answer.json()["error"].lower()
    assert kept(page) == 0
    assert left_over(page) == []


def test_a_bomb_is_refused_before_anything_of_its_request_is_kept(
    tmp_path: Path, scan: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "SMALL", 1 << 20)  # a small bomb is made and refused sooner
    with served(config(tmp_path)) as page:
        answer = upload(page, [("good.dcm", scan[0].read_bytes()), ("bomb.zip", bomb())])
        assert answer.status_code == 422
        assert "becomes too large" in answer.json()["error"]
        assert kept(page) == 0
        assert left_over(page) == []


def test_an_archive_that_unpacks_to_more_than_an_upload_may_hold_is_refused(page: Served) -> None:
    answer = upload(page, [("a.zip", zipped({str(n): bytes(400_000) for n in range(5)}))])
    assert (answer.status_code, kept(page)) == (413, 0)


def test_a_browser_uploads_with_the_token_in_a_header_only(page: Served, scan: list[Path]) -> None:
    browser = page.browser("otto")
    files = {"files": ("a.dcm", scan[0].read_bytes())}
    assert browser.post("/upload", files=files).status_code == 403
    assert browser.post("/upload", {"form_token": browser.token()}, files=files).status_code == 403
    answer = browser.post("/upload", files=files, headers={"X-Form-Token": browser.token()})
    assert (answer.status_code, answer.json()["stored"]) == (200, 1)


def test_a_name_of_a_file_goes_nowhere_on_the_disk(page: Served, scan: list[Path]) -> None:
    answer = upload(page, [("../../../../tmp/evil<script>.dcm", scan[0].read_bytes()), ("..\\x", b"no")])
    assert answer.json()["stored"] == 1
    assert not Path("/tmp/evil<script>.dcm").exists()
    assert left_over(page) == []


def test_many_headers_of_a_part_and_many_parts_do_not_fill_the_memory(page: Served) -> None:
    head = b"".join(b"X-%d: %s\r\n" % (n, b"y" * 100) for n in range(5000))
    answer = stow(page, b"--edge\r\n" + head + b"\r\nx\r\n--edge--\r\n")
    assert answer.status_code in (413, 415, 422)
    assert left_over(page) == []


def cohort_table(page: Served, text: str) -> Any:
    return page.program().post("/api/v1/cohort/dlco", content=text.encode())


def test_a_table_of_dlco_is_kept_whole_or_not_at_all(page: Served) -> None:
    assert cohort_table(page, "case,dlco\n1,60\n1,70\n").status_code == 422
    assert cohort_table(page, "patient,value\n1,60\n").status_code == 422
    assert "column case" in cohort_table(page, "patient,value\n1,60\n").json()["error"]
    assert cohort_table(page, "x" * (2 << 20)).status_code == 413
    assert cohort_table(page, "case,dlco\n=cmd|' /C calc'!A0,60\n").status_code == 422
    assert json.loads(cohort_table(page, "case,dlco\n999,60\n").text)["left_out"] == ["line 2: no result"]
