"""A mask of lobes, or a program that draws one -> labels as analysis.Volume (`analysis.pipeline.lobes` names them)."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from highdicom.seg import segread
from pydicom.misc import is_dicom

from analysis.volume import Volume

from ..errors import Rejected
from ..results.codes import LOBES
from .image_files import image_volume, volume_of
from .malformed import MALFORMED

#: Makes a mask of lobes from the CT series named as inspiration.
LobeSource = Callable[[Volume], Volume]


def read_lobes(path: Path) -> Volume:
    """The lobe mask of a file: a DICOM Segmentation with coded lobes, or labels in any format SimpleITK reads.

    Raises
    ------
    Rejected
        Where the file cannot be read, or a Segmentation holds no segment coded as a lobe.
    """
    if not path.is_file():
        raise Rejected(f"{path} is not there")
    try:
        if is_dicom(path):
            return _from_segmentation(path)
        return image_volume(sitk.ReadImage(str(path)))[0]
    except (*MALFORMED, RuntimeError) as error:
        raise Rejected(f"{path} cannot be read as a lobe mask ({type(error).__name__})") from error


def _from_segmentation(path: Path) -> Volume:
    seg = segread(path)
    numbers = [
        n
        for n in seg.segment_numbers
        if seg.get_segment_description(n).segmented_property_type.value in LOBES
    ]
    if not numbers:
        raise Rejected(f"{path} holds no segment coded as a lobe of the lung")
    volume = seg.get_volume(segment_numbers=numbers, combine_segments=True)
    return volume_of(np.asarray(volume.array), np.asarray(volume.affine, dtype=np.float64))


def draw_lobes(command: Sequence[str], ct: Volume) -> Volume:
    """Let a program the user has installed draw the lobes.

    Parameters
    ----------
    command : sequence of str
        ``{ct}`` stands for the CT it reads, ``{lobes}`` for the labels it writes, both NIfTI, e.g. ``lungmask {ct}
        {lobes} --modelname LTRCLobes``.
    ct : Volume

    Raises
    ------
    Rejected
        Where the program is not there, fails, or writes nothing.
    """
    with tempfile.TemporaryDirectory(prefix="dicom-node-") as folder:
        ct_file, made = (Path(folder) / f"{name}.nii.gz" for name in ("ct", "lobes"))
        image = sitk.GetImageFromArray(np.asarray(ct.array))
        image.SetSpacing(ct.grid.spacing[::-1])
        image.SetOrigin(ct.grid.affine[:3, 3].tolist())
        image.SetDirection(ct.grid.directions[:, ::-1].ravel().tolist())
        sitk.WriteImage(image, str(ct_file))
        words = [word.replace("{ct}", str(ct_file)).replace("{lobes}", str(made)) for word in command]
        try:
            done = subprocess.run(words, capture_output=True, check=False)
        except OSError as error:
            raise Rejected(f"the lobes' program {words[0]} cannot be started: {error.strerror}") from error
        if done.returncode or not made.is_file():
            raise Rejected(f"the lobes' program {words[0]} ended with {done.returncode} and drew no lobes")
        return read_lobes(made)
