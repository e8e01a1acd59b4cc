"""What `dicom-node run` makes of the files it is given, before any pixel is read."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
from made import analysis_of, thorax
from spoilt import spoil

from analysis.parameters import PictureStyle
from analysis.pipeline.pipeline import Analysis
from dicom_node.commands.analyse import _recipe
from dicom_node.dicom.ct_writer import Scan, write_ct_series
from dicom_node.errors import Rejected
from dicom_node.model import Pair
from dicom_node.research import run as module
from dicom_node.research.pile import gather
from dicom_node.research.run import Recipe, run
from dicom_node.results.context import Case


class Paired(Exception):
    """The analysis was reached; carries the pair."""


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    volume = thorax(-700, (24, 16, 16), (5.0, 6.0, 6.0))
    for number, (name, words) in enumerate((("insp", "Thorax Insp"), ("exp", "Thorax Exp")), 1):
        write_ct_series(volume, folder / name, Scan(words, "s", number))
    return folder


@pytest.fixture(autouse=True)
def no_analysis(monkeypatch: pytest.MonkeyPatch) -> None:
    def reached(pair: object, *_: object) -> None:
        raise Paired(pair)

    monkeypatch.setattr(module, "analyse_pair", reached)


def refusal(*sources: Path) -> str:
    with pytest.raises(Rejected) as caught:
        run(sources, sources[0].parent / "out", Recipe(), lambda stage, share: None)
    return str(caught.value)


def reached(*sources: Path) -> None:
    with pytest.raises(Paired):
        run(sources, sources[0].parent / "out", Recipe(), lambda stage, share: None)


def test_two_patients_are_refused_before_the_analysis(plain: Path) -> None:
    spoil((plain / "exp").iterdir(), {("PatientID", "LO"): b"OTHER"})
    for sources in ((plain / "insp", plain / "exp"), (plain,)):
        assert "are of two patients: Patient ID (0010,0020) differs" in refusal(*sources)


def test_spaces_around_an_id_do_not_count(plain: Path) -> None:
    spoil((plain / "exp").iterdir(), {("PatientID", "LO"): b" VQ-PHANTOM  "})
    reached(plain / "insp", plain / "exp")


def test_a_series_given_twice_is_refused_before_the_analysis(plain: Path) -> None:
    for path in (plain / "insp").iterdir():
        spoil([path], {("SeriesDescription", "LO"): b"Thorax"})
    assert "is given twice: inspiration and expiration are the same images" in refusal(
        plain / "insp", plain / "insp"
    )


def test_a_turned_patient_is_refused(plain: Path) -> None:
    spoil((plain / "exp").iterdir(), {("PatientPosition", "CS"): b"HFP"})
    assert "the positions of the patient differ" in refusal(plain)


def test_each_breath_hold_its_own_study_is_a_pair(plain: Path) -> None:
    spoil((plain / "exp").iterdir(), {("StudyInstanceUID", "UI"): b"1.2.3.4"})
    reached(plain)


def test_a_refusal_says_how_many_files_for_which_reason(plain: Path) -> None:
    shutil.rmtree(plain / "exp")
    files = sorted((plain / "insp").iterdir())
    spoil(files[:3], {("SOPInstanceUID", "UI"): b"1.2.x"})
    for n in range(4):
        (plain / f"note{n}.txt").write_text("no DICOM " * 50)
    said = refusal(plain)
    assert (
        "(4 files: is not a DICOM file; 3 files: cannot be read: its SOP Instance UID (0008,0018) is not a UID)"
        in said
    )


def test_one_uid_for_all_slices_is_told(plain: Path) -> None:
    spoil((plain / "insp").iterdir(), {("SOPInstanceUID", "UI"): b"1.2.3"})
    said = refusal(plain / "insp", plain / "exp")
    assert "23 files: has the SOP Instance UID (0008,0018) of another file and other content" in said


def test_no_image_at_all_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello " * 100)
    assert refusal(tmp_path).endswith("(1 file: is not a DICOM file)")


def test_archives_of_one_name_in_two_folders_are_both_read(plain: Path) -> None:
    for name in ("insp", "exp"):
        folder = plain.parent / "zips" / name
        folder.mkdir(parents=True)
        with zipfile.ZipFile(folder / "images.zip", "w") as archive:
            for n, path in enumerate(sorted((plain / name).iterdir())):
                archive.write(path, f"IM{n:04d}")
    reached(plain.parent / "zips")
    assert len(gather(plain.parent / "zips", plain.parent / "work").headers) == 48


def test_a_broken_archive_beside_a_pair_does_not_hide_it_and_is_told_otherwise(plain: Path) -> None:
    (plain / "old.zip").write_bytes(b"PK\3\4" + bytes(500))
    reached(plain)
    shutil.rmtree(plain / "exp")
    assert "1 file: the archive old.zip is cut short or damaged: copy it again" in refusal(plain)


def zipped(plain: Path, name: str, *, more: dict[str, bytes] | None = None) -> Path:
    """A phase as an archive in place of its folder."""
    target = plain / f"{name}.zip"
    with zipfile.ZipFile(target, "w") as archive:
        for n, path in enumerate(sorted((plain / name).iterdir())):
            archive.write(path, f"IM{n:04d}")
        for inside, content in (more or {}).items():
            archive.writestr(inside, content)
    shutil.rmtree(plain / name)
    return target


def test_a_series_of_a_damaged_archive_is_never_a_part_of_it(plain: Path) -> None:
    data = bytearray(zipped(plain, "exp").read_bytes())
    last = data.rfind(b"DICM")  # the last slice's; a stack without it would look whole
    data[last + 600 : last + 610] = b"\xff" * 10
    (plain / "exp.zip").write_bytes(data)
    said = refusal(plain)
    assert "only inspiration" in said
    assert "1 file: the archive exp.zip, file 24 of 24 is damaged: copy the archive again" in said


def test_another_kind_of_archive_in_an_archive_is_named(plain: Path) -> None:
    zipped(plain, "exp", more={"old.7z": b"7z\xbc\xaf\x27\x1c" + bytes(300)})
    shutil.rmtree(plain / "insp")
    assert "(1 file: is a 7z archive in exp.zip: unpack it)" in refusal(plain)


def test_a_series_over_two_archives_is_one(plain: Path) -> None:
    files = sorted((plain / "exp").iterdir())
    (plain / "more").mkdir()
    for path in files[::2]:
        path.rename(plain / "more" / path.name)
    for name in ("exp", "more"):
        zipped(plain, name)
    reached(plain)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [("a.zip", b"Rar!\x1a\x07\x01\x00", "RAR"), ("b.zip", b"\x1f\x8b\x08\x00", "gzip")],
)
def test_another_kind_of_archive_named_zip_is_told(plain: Path, name: str, content: bytes, kind: str) -> None:
    (plain / name).write_bytes(content + bytes(300))
    assert refusal(plain / name) == f"the archive {name} is a {kind} archive: unpack it and name the folder"


def test_what_is_named_zip_and_is_none_is_told(plain: Path) -> None:
    (plain / "page.zip").write_text("<html>the link has expired</html>" * 20)
    assert "page.zip is no archive that can be read: copy it again" in refusal(plain / "page.zip")
    shutil.rmtree(plain / "exp")
    assert "1 file: page.zip is no archive that can be read: copy it again" in refusal(plain)


def test_pictures_are_in_the_style_of_the_configuration(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (plain / "node.toml").write_text('storage = "s"\n[pictures]\nscale = "percentile"\nslab_mm = 20.0\n')
    recipe = _recipe(plain / "node.toml", "none", None)
    assert recipe.style == PictureStyle(scale="percentile", slab_mm=20.0)
    seen: list[PictureStyle] = []

    def analysed(pair: Pair, *_: object) -> tuple[Analysis, Pair]:
        return analysis_of(pair.expiratory), pair

    def built(analysis: Analysis, case: Case, *_: object) -> tuple[()]:
        seen.append(case.style)
        return ()

    def written(record: object, objects: object, out: Path, style: PictureStyle) -> tuple[()]:
        seen.append(style)
        return ()

    monkeypatch.setattr(module, "analyse_pair", analysed)
    monkeypatch.setattr(module, "build_objects", built)
    monkeypatch.setattr(module, "write", written)
    run((plain / "insp", plain / "exp"), plain / "out", recipe, lambda stage, share: None)
    assert seen == [recipe.style, recipe.style]
