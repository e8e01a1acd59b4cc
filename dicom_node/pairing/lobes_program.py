"""A program of the user's -> a mask of the five lobes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from analysis.volume import Volume

from ..dicom.image_files import write_nifti
from ..dicom.lobe_masks import read_lobes
from ..errors import Rejected
from ..processes import run_program

#: Time limit for the program (s): neural networks on two cores take a quarter of that.
LIMIT_SECONDS = 1800.0
#: A callable that makes a mask of lobes from the CT series named as inspiration.
LobeSource = Callable[[Volume], Volume]


def draw_lobes(command: Sequence[str], ct: Volume) -> Volume:
    """Run a program that the user has installed to draw the lobes.

    Parameters
    ----------
    command : sequence of str
        ``{ct}`` stands for the CT it reads, ``{lobes}`` for the labels it writes, both NIfTI, e.g. ``lungmask {ct}
        {lobes} --modelname LTRCLobes``.
    ct : Volume

    Raises
    ------
    Rejected
        Where the program is not found, fails, or writes nothing.
    """
    with tempfile.TemporaryDirectory(prefix="dicom-node-") as folder:
        ct_file, made = (Path(folder) / f"{name}.nii.gz" for name in ("ct", "lobes"))
        write_nifti(ct_file, np.asarray(ct.array), ct.grid, compressed=False)
        words = [word.replace("{ct}", str(ct_file)).replace("{lobes}", str(made)) for word in command]
        code = run_program(words, LIMIT_SECONDS)
        if code or not made.is_file():
            raise Rejected(f"the program {words[0]} ended with exit code {code} and drew no lobes")
        return read_lobes(made)
