"""The destination of kind `folder`: whole files, with the permissions and the group that the settings say."""

from __future__ import annotations

import grp
import os
from pathlib import Path

import pytest

from dicom_node.delivery.folder import send
from dicom_node.delivery.outcome import Parcel
from dicom_node.errors import Rejected
from dicom_node.settings.destinations import FolderDestination

GROUP = grp.getgrgid(os.getgid()).gr_name


def parcel(tmp_path: Path) -> Parcel:
    path = tmp_path / "object"
    path.write_bytes(b"content")
    return Parcel(1, "1.2.3", "1.2", path, 0.0, 0)


@pytest.mark.parametrize(("mode", "bits"), [("0600", 0o600), ("640", 0o640), ("0664", 0o664)])
def test_a_file_has_the_mode_and_group_of_the_settings_whatever_the_umask(
    tmp_path: Path, mode: str, bits: int
) -> None:
    (tmp_path / "share").mkdir()
    share = FolderDestination("share", folder=tmp_path / "share", mode=mode, group=GROUP)
    before = os.umask(0o077)
    try:
        ((_, outcome),) = send([parcel(tmp_path)], share, "VQNODE")
    finally:
        os.umask(before)
    found = (tmp_path / "share" / "1.2.3.dcm").stat()
    assert (outcome.verdict, found.st_mode & 0o777, found.st_gid) == ("sent", bits, os.getgid())


def test_a_group_that_is_not_there_is_waited_for_and_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    share = FolderDestination("share", folder=tmp_path / "share", group="no-such-group")
    ((_, outcome),) = send([parcel(tmp_path)], share, "VQNODE")
    assert outcome.verdict == "later"
    assert outcome.reason == "files cannot be given to the group no-such-group: there is no such group"
    assert [path for path in (tmp_path / "share").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("mode", ["", "rw-r--r--", "0o640", "06440", "0689", "0240"])
def test_a_mode_that_is_none_or_keeps_its_owner_out_is_refused(tmp_path: Path, mode: str) -> None:
    with pytest.raises(Rejected, match="three octal digits"):
        FolderDestination("share", folder=tmp_path, mode=mode)
