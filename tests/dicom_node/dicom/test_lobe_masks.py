"""Lobe masks as a user brings them: NIfTI, a Segmentation with codes, or a program that draws them."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentDescription
from made import case_of, thorax
from pydicom.sr.coding import Code

from dicom_node.dicom.lobe_masks import read_lobes
from dicom_node.dicom.pixels import grid_of
from dicom_node.errors import Rejected
from dicom_node.pairing.lobes_program import draw_lobes
from dicom_node.results import codes

STAND_IN = """
import sys
import SimpleITK as sitk
ct = sitk.ReadImage(sys.argv[1])
labels = sitk.Cast(ct < -500, sitk.sitkUInt8) * 4
sitk.WriteImage(labels, sys.argv[2])
"""


def test_a_nifti_lies_where_it_says_and_keeps_its_labels(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.5, 0.75, 2.0))
    image.SetOrigin((10.0, 20.0, -30.0))
    sitk.WriteImage(image, str(tmp_path / "lobes.nii.gz"))
    found = read_lobes(tmp_path / "lobes.nii.gz")
    where = found.grid.indices(np.array([[10 + 3 * 0.5, 20 + 1 * 0.75, -30 + 2.0]]))[0]
    k, j, i = np.rint(where).astype(int)
    assert found.array[k, j, i] == array[1, 1, 3]


def test_coded_segments_are_read_by_position_and_others_left_out(tmp_path: Path) -> None:
    case = case_of(tmp_path, thorax(-700), thorax(-850))
    grid = grid_of(case.pair.expiratory)
    kinds = (codes.LUNG, codes.UPPER_LOBE, Code("266005", "SCT", "Structure of lower lobe of right lung"))
    pixels = np.zeros((*grid.shape, 3), np.uint8)
    pixels[2, 3, 4, 1] = pixels[5, 6, 7, 2] = pixels[1, 1, 1, 0] = 1
    segments = [
        SegmentDescription(
            n, str(n), codes.ANATOMICAL_STRUCTURE, kind, "AUTOMATIC",
            AlgorithmIdentificationSequence("test", codes.ALGORITHM_FAMILY, "1"),
        )
        for n, kind in enumerate(kinds, 1)
    ]  # fmt: skip
    seg = Segmentation(
        list(case.expiratory), pixels, "BINARY", segments, "1.2.3", 1, "1.2.4", 1, "test", "test", "1", "1"
    )
    seg.save_as(tmp_path / "seg.dcm")
    found = read_lobes(tmp_path / "seg.dcm")
    points = grid.points(np.array([[2.0, 3, 4], [5, 6, 7], [1, 1, 1]]))
    index = np.rint(found.grid.indices(points)).astype(int)
    values = [int(found.array[tuple(n)]) if (n >= 0).all() else 0 for n in index]
    assert values[0] != values[1]
    assert min(values[:2]) > 0
    assert values[2] == 0
    assert np.count_nonzero(found.array) == 2


def test_a_program_of_the_user_draws_them(tmp_path: Path) -> None:
    (tmp_path / "draw.py").write_text(STAND_IN)
    ct = thorax()
    found = draw_lobes([sys.executable, str(tmp_path / "draw.py"), "{ct}", "{lobes}"], ct)
    np.testing.assert_allclose(found.grid.affine, ct.grid.affine, atol=1e-4)
    np.testing.assert_array_equal(found.array, 4 * (ct.array < -500))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("no-such-program", "{ct}"), "cannot be started"),
        ((sys.executable, "-c", "raise SystemExit(3)"), "ended with exit code 3"),
    ],
)
def test_a_program_that_fails_is_named(command: Sequence[str], words: str) -> None:
    with pytest.raises(Rejected, match=words):
        draw_lobes(command, thorax())


def test_a_file_that_is_no_mask_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_text("no image")
    for name, words in (("a.nii", "cannot be read"), ("b.nii", "is not there")):
        with pytest.raises(Rejected, match=words):
            read_lobes(tmp_path / name)
