"""The page as a process of a node: it answers, comes again when it dies, ends with the node, and keeps what it said."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import socket
import ssl
import threading
import time
import warnings
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from certificates import authority
from node_values import write_scan
from page import PASSWORD, config, served
from page_rows import filled
from pydicom import dcmread

from dicom_node.errors import Rejected, Unavailable
from dicom_node.settings.web import WebSettings, WebTls
from dicom_node.store.archive import Archive
from dicom_node.store.database import Database
from dicom_node.store.tables import instance, quarantine
from dicom_node.web import users
from dicom_node.web.process import Page


def answers(page: Page, seconds: float = 180.0) -> httpx.Response:
    """The first answer of a page that is starting."""
    end = time.monotonic() + seconds
    while True:
        try:
            return httpx.get(f"{page.address}login", timeout=5)
        except httpx.HTTPError:
            assert time.monotonic() < end
            time.sleep(0.05)


def own_process() -> int:
    (pid,) = [child.pid for child in multiprocessing.active_children() if child.name == "page"]
    assert pid is not None
    return pid


def test_a_page_that_is_killed_comes_again_and_what_it_acknowledged_is_there(tmp_path: Path) -> None:
    settings = config(tmp_path)
    settings.storage.mkdir()
    database = Database(settings.database_url, prepare=True)
    token = users.add_token(database, "gateway", "operator", 0.0)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "multipart/related; boundary=edge"}
    paths = write_scan(tmp_path, "Thorax Insp", 1, slices=3)
    page = Page(settings)
    page.start()
    try:
        assert answers(page).status_code == 200
        body = (
            b"--edge\r\nContent-Type: application/dicom\r\n\r\n" + paths[0].read_bytes() + b"\r\n--edge--\r\n"
        )
        assert (
            httpx.post(f"{page.address}dicom-web/studies", content=body, headers=headers).status_code == 200
        )
        # in the middle of the next one
        host, port = page.address.split("/")[2].split(":")
        with socket.create_connection((host, int(port))) as half:
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            start = (
                f"POST /dicom-web/studies HTTP/1.1\r\nHost: {host}\r\n{lines}Content-Length: 99999\r\n\r\n"
            )
            half.sendall(
                start.encode()
                + b"--edge\r\nContent-Type: application/dicom\r\n\r\n"
                + paths[1].read_bytes()[:500]
            )
            time.sleep(0.3)
            os.kill(own_process(), signal.SIGKILL)
        assert answers(page).status_code == 200
        archive = Archive(settings.storage, database)
        kept = archive.paths([str(dcmread(path).SOPInstanceUID) for path in paths])
        assert set(kept) == {str(dcmread(paths[0]).SOPInstanceUID)}
    finally:
        page.stop()
    assert not [child for child in multiprocessing.active_children() if child.name == "page"]
    with pytest.raises(httpx.ConnectError):
        httpx.get(page.address)


def sent_until_acknowledged(page: Page, kind: str, token: str, files: list[bytes]) -> None:
    """Send files in one request, again and again until it is acknowledged as a whole."""
    headers = {"Authorization": f"Bearer {token}"}
    end = time.monotonic() + 300  # the page that died comes again after pauses of up to 16 s
    while True:
        try:
            if kind == "upload":
                parts = [("files", (f"{n}.dcm", file)) for n, file in enumerate(files)]
                answer = httpx.post(f"{page.address}api/v1/upload", files=parts, headers=headers, timeout=30)
            else:
                body = b"".join(
                    b"--edge\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n" for file in files
                )
                related = {**headers, "Content-Type": "multipart/related; boundary=edge"}
                answer = httpx.post(
                    f"{page.address}dicom-web/studies",
                    content=body + b"--edge--\r\n",
                    headers=related,
                    timeout=30,
                )
            if answer.status_code == 200:
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["upload", "stow"])
def test_kill_9_at_any_moment_loses_nothing_that_was_acknowledged_and_keeps_nothing_twice(
    tmp_path: Path, kind: str
) -> None:
    settings = config(tmp_path)
    settings.storage.mkdir()
    database = Database(settings.database_url, prepare=True)
    token = users.add_token(database, "gateway", "operator", 0.0)
    paths = write_scan(tmp_path, "Thorax Insp", 1, slices=60)
    files = [path.read_bytes() for path in paths]
    page, chance, killed = Page(settings), random.Random(7), threading.Event()

    def kill() -> None:
        try:
            for _ in range(5):
                answers(page)
                time.sleep(chance.uniform(0.0, 0.6))
                os.kill(own_process(), signal.SIGKILL)
        finally:
            killed.set()

    page.start()
    try:
        killer = threading.Thread(target=kill)
        killer.start()
        rounds = 0
        while not killed.is_set() or rounds == 0:  # the same again, as a gateway does that heard no answer
            for at in range(0, len(files), 6):
                sent_until_acknowledged(page, kind, token, files[at : at + 6])
            rounds += 1
        killer.join()
    finally:
        page.stop()
    archive = Archive(settings.storage, database)
    archive.sweep()
    kept = archive.paths([str(dcmread(path).SOPInstanceUID) for path in paths])
    assert len(kept) == len(paths)
    for path in paths:
        ds = dcmread(path)
        assert dcmread(kept[str(ds.SOPInstanceUID)]).PixelData == ds.PixelData
    on_disk = [file for file in settings.layout.archive.rglob("*") if file.is_file()]
    assert len(on_disk) == len(paths)
    with database.reading() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(instance)) == len(paths)
        assert connection.scalar(sa.select(sa.func.count()).select_from(quarantine)) == 0


def test_a_taken_port_and_a_wrong_certificate_are_said_at_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        page = Page(config(tmp_path, WebSettings(port=taken.getsockname()[1])))
        with pytest.raises(Unavailable, match="cannot listen"):
            page.start()
    none = tmp_path / "none"
    with pytest.raises(Rejected, match="certificate of the page"):
        Page(config(tmp_path, WebSettings(tls=WebTls(none, none))))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_by_tls_the_cookie_is_for_this_host_and_older_versions_are_refused(tmp_path: Path) -> None:
    own = authority(tmp_path, "hospital")
    tls = WebTls(own.certificate, own.key)
    with served(config(tmp_path, WebSettings(port=0, tls=tls))) as page:
        trust = ssl.create_default_context(cafile=own.authorities)
        data = {"name": "vera", "password": PASSWORD}
        answer = httpx.post(
            f"{page.base}/login", data=data, headers={"Origin": page.base}, verify=trust, timeout=60
        )
        assert answer.headers["set-cookie"].startswith("__Host-vq=")
        assert "Secure" in answer.headers["set-cookie"]
        assert "max-age" in answer.headers["strict-transport-security"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            trust.minimum_version = ssl.TLSVersion.TLSv1
            trust.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(httpx.ConnectError):
            httpx.get(page.base, verify=trust)


def test_the_page_stays_up_while_the_database_is_locked_and_says_so_when_it_is_gone(tmp_path: Path) -> None:
    with served(config(tmp_path)) as page:
        browser = page.browser("vera")
        other = Database(page.site.config.database_url)
        with other.writing():
            assert browser.get("/studies", timeout=5).status_code == 200
        file = page.site.config.layout.database
        page.site.database.engine.dispose()
        aside = file.rename(file.with_suffix(".aside"))
        file.mkdir()
        answer = browser.get("/studies", timeout=40)
        assert (answer.status_code, "database" in answer.text) == (503, True)
        file.rmdir()
        aside.rename(file)
        assert browser.get("/studies").status_code == 200


def test_the_page_stays_up_while_the_disk_of_the_database_is_full_and_says_so(tmp_path: Path) -> None:
    with served(config(tmp_path)) as page:
        filled(page)
        browser = page.browser("vera")
        form = {"job": "1", "note": "x" * 2000, "form_token": browser.token()}
        assert browser.post("/actions/review", form).status_code == 200
        with page.site.database.writing() as connection:  # the connection that all writers share
            most = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {most}")
        answers = (browser.post("/actions/review", form, timeout=60) for _ in range(12))
        refused = next(answer for answer in answers if answer.status_code != 200)
        assert (refused.status_code, "database" in refused.text) == (503, True)
        for path in ("/studies", "/results/1", "/system", "/login"):
            assert browser.get(path).status_code == 200, path


def test_answers_without_login_are_mounted_by_one_mapping(tmp_path: Path) -> None:
    class Answer:
        status, content_type, body = 200, "text/plain", b"well"

    with served(config(tmp_path), {"/livez": Answer}) as page:
        answer = httpx.get(f"{page.base}/livez")
        assert (answer.status_code, answer.text) == (200, "well")
