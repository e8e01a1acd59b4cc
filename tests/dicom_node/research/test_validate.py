"""Files a user brings to `dicom-node validate`: images, landmarks, motions; and the report made of them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from analysis.truth.phantom import ThoraxShape, thorax_phantom
from dicom_node.commands.app import app
from dicom_node.errors import Rejected
from dicom_node.research.validate import (
    read_image,
    read_motion,
    read_points,
    validate_landmarks,
    write_report,
)

Written = Callable[[str], Path]
AFFINE = np.array([[0, 0, 0.5, 10], [0, 0.5, 0, 20], [2.5, 0, 0, -300], [0, 0, 0, 1.0]])


@pytest.fixture
def written(tmp_path: Path) -> Written:
    def write(text: str) -> Path:
        path = tmp_path / "points.txt"
        path.write_text(text)
        return path

    return write


def test_dir_lab_landmarks_count_voxels_from_one(written: Written) -> None:
    points = read_points(written("1 1 1\n3\t5 11\n"), AFFINE)
    np.testing.assert_allclose(points, [[10, 20, -300], [11, 22, -275]])


def test_elastix_points_are_millimetres_and_indices_count_from_zero(written: Written) -> None:
    np.testing.assert_allclose(read_points(written("point\n1\n1.5 2 -3\n"), AFFINE), [[1.5, 2, -3]])
    np.testing.assert_allclose(read_points(written("index\n1\n2 4 10\n"), AFFINE), [[11, 22, -275]])


@pytest.mark.parametrize(("text", "sentence"), [("1 2 3\n4 5\n", "line 2"), ("", "no landmark")])
def test_a_landmark_file_that_cannot_be_read_is_named(written: Written, text: str, sentence: str) -> None:
    with pytest.raises(Rejected, match=rf"points.txt.*{sentence}"):
        read_points(written(text), AFFINE)


@pytest.mark.parametrize("z", [1.0, -1.0])
def test_an_image_keeps_its_place_whichever_way_its_slices_run(tmp_path: Path, z: float) -> None:
    array = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-10, -20, 30))
    image.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, z))
    sitk.WriteImage(image, str(tmp_path / "ct.mha"))
    volume, affine = read_image(tmp_path / "ct.mha")
    for index in ((0, 0, 0), (5, 4, 3), (2, 1, 2)):
        point = image.TransformIndexToPhysicalPoint(index)
        k, j, i = np.rint(volume.grid.indices(np.array([point]))[0]).astype(int)
        assert volume.array[k, j, i] == array[index[::-1]]
        np.testing.assert_allclose(affine @ [*index[::-1], 1], [*point, 1])


def test_what_is_no_image_and_no_motion_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.mha").write_text("not an image")
    with pytest.raises(Rejected, match=r"no DICOM image in .*x\.mha"):
        read_image(tmp_path / "x.mha")
    sitk.WriteImage(sitk.Image(9, 9, 9, sitk.sitkInt16), str(tmp_path / "cut.mha"))
    (tmp_path / "cut.mha").write_bytes((tmp_path / "cut.mha").read_bytes()[:-100])
    with pytest.raises(Rejected, match=r"cut\.mha cannot be read"):
        read_image(tmp_path / "cut.mha")
    (tmp_path / "x.npz").write_text("not a case")
    with pytest.raises(Rejected, match=r"x\.npz is not a breathing motion"):
        read_motion(tmp_path / "x.npz")
    np.savez_compressed(tmp_path / "x.npz", mask_shape=np.arange(3))
    whole = (tmp_path / "x.npz").read_bytes()
    for end in range(0, len(whole), 5):
        (tmp_path / "x.npz").write_bytes(whole[:end])
        with pytest.raises(Rejected, match=r"x\.npz is not a breathing motion"):
            read_motion(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("--phase", "sideways", "inspiration or expiration"), ("--vessels", "most", "dense or share")],
)
def test_a_phase_or_vessels_that_are_none_are_wrong_usage(
    option: str, value: str, said: str, tmp_path: Path
) -> None:
    answer = CliRunner().invoke(app, ["validate", "twin", "a", str(tmp_path), option, value])
    assert answer.exit_code == 2
    assert said in answer.output


@pytest.mark.slow
def test_a_twin_needs_nothing_but_a_ct(tmp_path: Path) -> None:
    truth = thorax_phantom((), ThoraxShape(in_plane_mm=2.5, slice_mm=4))
    image = sitk.GetImageFromArray(truth.expiratory.array)
    image.SetSpacing(truth.expiratory.grid.spacing[::-1])
    image.SetOrigin(truth.expiratory.grid.affine[:3, 3].tolist())
    sitk.WriteImage(image, str(tmp_path / "ct.nii.gz"))
    answer = CliRunner().invoke(
        app, ["validate", "twin", str(tmp_path / "ct.nii.gz"), str(tmp_path / "out"), "--phase", "expiration"]
    )
    assert answer.exit_code == 0, answer.output
    numbers = json.loads((tmp_path / "out" / "validation.json").read_text())
    assert numbers["title"] == "twin: ct.nii.gz as expiration, breathing a made motion, vessels: dense"
    assert numbers["errors_mm"]["landmarks"]["n"] > 200
    assert numbers["errors_mm"]["landmarks"]["mean"] < 2.0


@pytest.mark.slow
def test_the_landmarks_of_the_real_pair_are_met(shared: Path, tmp_path: Path) -> None:
    pair = shared / "real-pair"
    report = validate_landmarks(
        pair / "3DCT_lung_followup.mha",
        pair / "3DCT_lung_baseline.mha",
        pair / "CT_3D_lung_moving_point_set_corrected.txt",
        pair / "CT_3D_lung_fixed_point_set_corrected.txt",
        lambda stage, share: None,
    )
    files = write_report(report, tmp_path / "out")
    assert report.errors["landmarks before registration"].mean == pytest.approx(35.27, abs=0.01)
    assert report.errors["landmarks"].median < 1.1  # 1.0 is their rounding, docs/validation.md
    assert {f.name for f in files} == {"report.md", "validation.json", "overview.png"}
    numbers = json.loads(files[1].read_text())
    assert numbers["errors_mm"]["landmarks"]["n"] == 51
