"""Results to destinations that are no C-STORE SCP: Orthanc's DICOMweb by STOW-RS, a folder."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from peers import DICOMWEB, Orthanc, free_port, orthanc
from queued import queue, rows, states

from dicom_node.delivery import queue as deliver
from dicom_node.delivery import stow_rs
from dicom_node.settings.destinations import Destination, FolderDestination, StowRsDestination
from dicom_node.store.database import Database

USER = "node:secret"


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("orthanc"), user=USER, **DICOMWEB) as running:
        yield running


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'node.db'}", prepare=True)
    yield database
    database.close()


@pytest.fixture
def web(pacs: Orthanc, tmp_path: Path) -> StowRsDestination:
    secret = tmp_path / "authorization"
    secret.write_text(f"Basic {base64.b64encode(USER.encode()).decode()}\n")
    url = f"http://127.0.0.1:{pacs.http}/dicom-web/"
    return StowRsDestination("web", url=url, authorization_file=secret, timeout=10)


def deliver_at(database: Database, storage: Path, destination: Destination, now: float) -> None:
    deliver.deliver(database, storage, destination, "VQNODE", lambda: now)


def test_stow_rs_brings_results_to_orthanc_and_twice_is_as_once(
    pacs: Orthanc, web: StowRsDestination, database: Database, tmp_path: Path
) -> None:
    paths = queue(database, tmp_path, "web", "again")
    assert stow_rs.probe(web, "VQNODE") == ""
    deliver_at(database, tmp_path, web, 1.0)
    deliver_at(database, tmp_path, replace(web, name="again"), 1.0)
    assert [(r.state, r.status) for r in rows(database)] == [("SENT", 200)] * 6, rows(database)[0].reason
    assert set(pacs.instances()) == {p.stem for p in paths}


def test_stow_rs_waits_for_credentials_and_for_a_server_that_is_away(
    web: StowRsDestination, database: Database, tmp_path: Path
) -> None:
    queue(database, tmp_path, "web")
    away = replace(web, url=f"http://127.0.0.1:{free_port()}")
    deliver_at(database, tmp_path, away, 1.0)
    assert states(database) == {"QUEUED"}
    assert rows(database)[0].reason == f"web ({away.url}) cannot be reached"
    deliver_at(database, tmp_path, replace(web, authorization_file=None), 1000.0)
    assert {(r.state, r.status, r.reason) for r in rows(database)} == {
        ("QUEUED", 401, "HTTP 401 Unauthorized")
    }
    deliver_at(database, tmp_path, web, 2000.0)
    assert states(database) == {"SENT"}


def test_what_orthanc_cannot_take_stops_no_other(
    web: StowRsDestination, database: Database, tmp_path: Path
) -> None:
    queue(database, tmp_path, "web")[0].write_bytes(bytes(128) + b"DICM, and nothing more")
    deliver_at(database, tmp_path, web, 1.0)
    first, *others = rows(database)
    assert first.state in ("QUEUED", "DEAD")
    assert "HTTP" in first.reason or "refused" in first.reason
    assert {r.state for r in others} == {"SENT"}


def test_an_http_answer_cut_off_is_unknown_and_sent_again(
    web: StowRsDestination, database: Database, tmp_path: Path
) -> None:
    queue(database, tmp_path, "web", count=1)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def cut() -> None:
            peer, _ = server.accept()
            peer.recv(65536)
            peer.close()

        thread = threading.Thread(target=cut)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        deliver_at(database, tmp_path, replace(web, url=url), 1.0)
        thread.join()
    (row,) = rows(database)
    assert (row.state, row.status) == ("QUEUED", None)
    assert "may have arrived or not" in row.reason
    deliver_at(database, tmp_path, web, 1000.0)
    assert states(database) == {"SENT"}


def test_a_folder_gets_whole_files_and_an_absent_one_is_waited_for(
    database: Database, tmp_path: Path
) -> None:
    paths = queue(database, tmp_path, "share")
    share = FolderDestination("share", folder=tmp_path / "share")
    deliver_at(database, tmp_path, share, 1.0)
    assert states(database) == {"QUEUED"}
    assert not (tmp_path / "share").exists()
    (tmp_path / "share").mkdir()
    deliver_at(database, tmp_path, share, 1000.0)
    assert states(database) == {"SENT"}
    written = {p.name: p.read_bytes() for p in (tmp_path / "share").glob("*.dcm")}
    assert written == {p.name: p.read_bytes() for p in paths}
