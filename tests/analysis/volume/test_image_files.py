"""Files of CTs, masks and fields are read in HU, mm and LPS, whatever their format; what is not clear is refused."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from analysis import DisplacementField, Grid, Rejected, Volume
from analysis.volume.image_files import is_image_file, read_displacement, read_mask

#: RAS affine of an oblique image whose slices run to the feet, as scanners write them.
TURN = np.array([[-0.8, 0.6, 0.0], [-0.6, -0.8, 0.0], [0.0, 0.0, -1.0]])


def hu() -> NDArray[np.int16]:
    values = np.full((6, 8, 10), -1000, dtype=np.int16)
    values[1:5, 2:7, 2:9] = np.arange(4 * 5 * 7).reshape(4, 5, 7)
    return values


def write(
    path: Path, array: NDArray[np.int16] | NDArray[np.float32], directions: NDArray[np.float64]
) -> Path:
    image = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-100.0, 20.0, -300.0))
    image.SetDirection(directions.ravel().tolist())
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.nii", "ct.mha", "ct.mhd", "ct.nrrd"])
@pytest.mark.parametrize("directions", [np.eye(3), TURN], ids=["axial", "oblique"])
def test_every_format_gives_each_voxel_its_place_and_value(
    tmp_path: Path, name: str, directions: NDArray[np.float64]
) -> None:
    path = write(tmp_path / name, hu(), directions)
    assert is_image_file(path)
    volume = Volume.from_nifti(path)
    for i, j, k in ((3, 2, 1), (8, 6, 4), (5, 3, 2)):
        point = directions @ (np.array([i, j, k]) * (0.7, 0.8, 2.5)) + (-100.0, 20.0, -300.0)
        index = volume.grid.indices(point[None])[0]
        assert np.allclose(index, np.rint(index), atol=1e-3)
        assert volume.array[tuple(np.rint(index).astype(int))] == hu()[k, j, i]


def test_nibabel_and_we_agree_on_where_a_voxel_lies(tmp_path: Path) -> None:
    affine = np.diag([-0.7, -0.8, 2.5, 1.0])
    affine[:3, 3] = 90.0, 80.0, -250.0
    nib.save(nib.Nifti1Image(hu().T, affine), tmp_path / "ct.nii")  # type: ignore[no-untyped-call]
    volume = Volume.from_nifti(tmp_path / "ct.nii")
    ras = affine @ [3, 2, 1, 1]
    k, j, i = np.rint(volume.grid.indices(np.array([[-ras[0], -ras[1], ras[2]]])))[0].astype(int)
    assert volume.array[k, j, i] == hu()[1, 2, 3]


def test_values_that_are_no_hu_are_refused_with_what_they_are(tmp_path: Path) -> None:
    write(tmp_path / "raw.mha", (hu() + 1024).astype(np.int16), np.eye(3))
    with pytest.raises(
        Rejected, match=r"raw.mha is not in HU: its values run from 24 .* air is near -1000 HU"
    ):
        Volume.from_nifti(tmp_path / "raw.mha")


def test_metres_are_refused(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(hu())
    image.SetSpacing((0.0007, 0.0008, 0.0025))
    sitk.WriteImage(image, str(tmp_path / "ct.nrrd"))
    with pytest.raises(Rejected, match=r"ct.nrrd has voxels of 0.0007 x 0.0008 x 0.0025: expected .* mm"):
        Volume.from_nifti(tmp_path / "ct.nrrd")


def test_a_nifti_file_that_says_nothing_of_its_orientation_is_refused(tmp_path: Path) -> None:
    image = nib.Nifti1Image(hu().T, None)  # type: ignore[no-untyped-call]
    image.set_sform(None, 0)  # type: ignore[no-untyped-call]
    image.set_qform(None, 0)  # type: ignore[no-untyped-call]
    nib.save(image, tmp_path / "ct.nii")
    with pytest.raises(Rejected, match=r"ct.nii says nothing of its orientation"):
        Volume.from_nifti(tmp_path / "ct.nii")


def test_a_series_of_volumes_and_a_colour_image_are_refused(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 4, 5), np.int16)), str(tmp_path / "four.nii"))
    with pytest.raises(
        Rejected, match=r"four.nii: an image of three dimensions is needed, not of 3 with 5 values"
    ):
        Volume.from_nifti(tmp_path / "four.nii")
    write(tmp_path / "colour.mha", np.zeros((2, 3, 4, 3), np.int16), np.eye(3))
    with pytest.raises(Rejected, match=r"colour.mha: .* with 3 values a voxel"):
        Volume.from_nifti(tmp_path / "colour.mha")


def test_values_that_are_not_finite_are_refused() -> None:
    values = hu().astype(np.float32)
    values[0, 0, 0] = np.nan
    with pytest.raises(Rejected, match="not finite"):
        Volume.from_array(values, (2.5, 0.8, 0.7))


def test_a_file_of_text_and_a_folder_are_no_image(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert not is_image_file(tmp_path / "notes.txt")
    assert not is_image_file(tmp_path)
    with pytest.raises(Rejected, match=r"notes.txt cannot be read as an image"):
        Volume.from_nifti(tmp_path / "notes.txt")


def test_a_mask_has_no_values_below_0(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="is no mask: its lowest value is -1000"):
        read_mask(write(tmp_path / "ct.mha", hu(), np.eye(3)))


@pytest.mark.parametrize("directions", [np.eye(3), TURN], ids=["axial", "oblique"])
def test_a_field_keeps_its_vectors_in_lps_at_their_places(
    tmp_path: Path, directions: NDArray[np.float64]
) -> None:
    vectors = np.random.default_rng(0).normal(size=(6, 8, 10, 3)).astype(np.float32)
    field = read_displacement(write(tmp_path / "u.mha", vectors, directions))
    point = directions @ (np.array([5, 3, 2]) * (0.7, 0.8, 2.5)) + (-100.0, 20.0, -300.0)
    k, j, i = np.rint(field.grid.indices(point[None])[0]).astype(int)
    assert np.array_equal(field.vectors[k, j, i], vectors[2, 3, 5])


def test_a_ct_is_no_field(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="no displacement field: it has 3 dimensions and 1 values a voxel"):
        read_displacement(write(tmp_path / "ct.mha", hu(), np.eye(3)))
    with pytest.raises(Rejected, match="three values a voxel"):
        DisplacementField(np.zeros((2, 3, 4), np.float32), Grid.axial((2, 3, 4), (1.0, 1.0, 1.0)))
