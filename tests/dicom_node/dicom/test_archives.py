"""Archives are read, or refused in a sentence that names them; none fills the disk, none mixes with another."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import inflate64
import pytest

from dicom_node.dicom import archives
from dicom_node.dicom.archives import kind_of, unpack
from dicom_node.errors import Rejected

CONTENT = {"IM0001": b"a" * 5000 + bytes(range(256)) * 40, "sub/IM0002": b"second", "DICOMDIR": b"index"}
IMAGES = sorted(v for k, v in CONTENT.items() if k != "DICOMDIR")


def zipped(path: Path, method: int = zipfile.ZIP_DEFLATED, content: dict[str, bytes] = CONTENT) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def deflate64(path: Path) -> Path:
    """As Windows writes it: no library here writes the method, so headers are made by hand (APPNOTE 4.3)."""
    body, directory = b"", b""
    for name, data in CONTENT.items():
        deflater = inflate64.Deflater()
        packed = deflater.deflate(data) + deflater.flush()
        common = struct.pack(
            "<HHHHLLLHH", 0, 9, 0, 33, zlib.crc32(data), len(packed), len(data), len(name), 0
        )
        directory += struct.pack("<4sHH", b"PK\1\2", 21, 21) + common
        directory += struct.pack("<HHHLL", 0, 0, 0, 0, len(body)) + name.encode()
        body += struct.pack("<4sH", b"PK\3\4", 21) + common + name.encode() + packed
    end = struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, 3, 3, len(directory), len(body), 0)
    path.write_bytes(body + directory + end)
    return path


def nested(path: Path) -> Path:
    inner = zipped(path.with_name("inner.zip"))
    return zipped(path, content={"insp.zip": inner.read_bytes()})


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_every_method_of_zipfile_is_read(tmp_path: Path, method: int) -> None:
    files = list(unpack(zipped(tmp_path / "a.zip", method), tmp_path / "out"))
    assert sorted(p.read_bytes() for p in files) == IMAGES


@pytest.mark.parametrize("make", [deflate64, nested])
def test_deflate64_and_archives_in_archives_are_read(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    files = list(unpack(make(tmp_path / "a.zip"), tmp_path / "out"))
    assert sorted(p.read_bytes() for p in files) == IMAGES


def test_two_archives_of_one_name_never_mix(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        zipped(tmp_path / name / "a.zip", content={"IM1": name.encode()})
    outer = zipped(
        tmp_path / "z.zip", content={f"{n}/a.zip": (tmp_path / n / "a.zip").read_bytes() for n in "xy"}
    )
    assert [p.read_bytes() for p in unpack(outer, tmp_path / "out")] == [b"x", b"y"]


def test_names_in_an_archive_lead_nowhere(tmp_path: Path) -> None:
    evil = zipped(tmp_path / "a.zip", content={"../../evil": b"1", "/etc/evil": b"2", "Doe^Jane/IM1": b"3"})
    files = list(unpack(evil, tmp_path / "out"))
    assert {p.parent for p in files} == {tmp_path / "out"}
    assert [p.name for p in files] == ["000000", "000001", "000002"]


def cut(path: Path) -> Path:
    data = zipped(path, zipfile.ZIP_STORED).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def damaged(path: Path) -> Path:
    data = bytearray(zipped(path, zipfile.ZIP_STORED).read_bytes())
    data[200:210] = b"\xff" * 10
    path.write_bytes(data)
    return path


def damaged_stream(path: Path) -> Path:
    data = bytearray(zipped(path).read_bytes())
    data[60:80] = b"\xff" * 20
    path.write_bytes(data)
    return path


def encrypted(path: Path) -> Path:
    data = bytearray(zipped(path).read_bytes())
    at = data.find(b"PK\1\2")
    data[6] |= 1
    data[at + 8] |= 1
    path.write_bytes(data)
    return path


def odd_method(path: Path) -> Path:
    data = bytearray(zipped(path).read_bytes())
    at = data.find(b"PK\1\2")
    data[8], data[at + 10] = 98, 98
    path.write_bytes(data)
    return path


def tar(path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        archive.add(zipped(path.with_name("inner")), "inner")
    return path


def deep(path: Path) -> Path:
    data = zipped(path).read_bytes()
    for _ in range(4):
        data = zipped(path, content={"a.zip": data}).read_bytes()
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (cut, "the archive a.zip is cut short or damaged: copy it again"),
        (damaged, "the archive a.zip, file 1 of 2 is damaged: copy the archive again"),
        (damaged_stream, "the archive a.zip, file 1 of 2 is damaged: copy the archive again"),
        (
            encrypted,
            "the archive a.zip, file 1 of 2 is encrypted: unpack it with its password and name the folder",
        ),
        (
            odd_method,
            "the archive a.zip, file 1 of 2 is compressed by method 98, which is not read: zip it again",
        ),
        (tar, "the archive a.zip is a tar archive: unpack it and name the folder"),
        (
            deep,
            "the archive a.zip, an archive in it, an archive in it holds archives within archives,"
            " more than 3 deep: unpack it",
        ),
    ],
)
def test_what_cannot_be_unpacked_is_named(tmp_path: Path, make: Callable[[Path], Path], said: str) -> None:
    with pytest.raises(Rejected) as caught:
        list(unpack(make(tmp_path / "a.zip"), tmp_path / "out"))
    assert str(caught.value) == said


def test_any_changed_byte_is_read_or_named(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "a.zip", content={"IM1": bytes(range(256))}).read_bytes()
    said = []
    for at in range(len(whole)):
        (tmp_path / "a.zip").write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        if not kind_of(tmp_path / "a.zip"):
            continue
        try:
            files = list(unpack(tmp_path / "a.zip", tmp_path / str(at)))
        except Rejected as error:
            said.append(str(error))
        else:
            assert all(p.read_bytes() == bytes(range(256)) for p in files)
    assert said
    assert all("a.zip" in sentence for sentence in said)


@pytest.mark.parametrize(("limit", "value"), [("MOST_BYTES", 4000), ("MOST_FILES", 1)])
def test_limits_hold_for_all_archives_of_a_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(archives, limit, value)
    with pytest.raises(Rejected, match=r"too large|more than 1 files"):
        list(unpack(nested(tmp_path / "a.zip"), tmp_path / "out"))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_is_defused_before_it_fills_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: int
) -> None:
    monkeypatch.setattr(archives, "SMALL", 1 << 20)
    bomb = zipped(tmp_path / "a.zip", method, {"IM1": bytes(200 << 20)})
    with pytest.raises(Rejected, match="becomes too large"):
        list(unpack(bomb, tmp_path / "out"))
    assert sum(p.stat().st_size for p in (tmp_path / "out").iterdir()) < 64 << 20


def test_the_unpacked_files_go_with_a_terminated_run(tmp_path: Path) -> None:
    zipped(tmp_path / "a.zip", content={f"IM{n}": os.urandom(1 << 20) for n in range(150)})
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-c", "from dicom_node.commands.app import main; main()", "run"]
    process = subprocess.Popen(
        [*command, str(tmp_path / "a.zip"), str(tmp_path / "out")],
        env={**os.environ, "TMPDIR": str(temporary)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    end = time.monotonic() + 60
    while not list(temporary.rglob("0000*")) and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    assert list(temporary.glob("dicom-node-*")) == []
