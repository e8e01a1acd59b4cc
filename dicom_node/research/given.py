"""What a user brings to a pair besides the images: masks of lungs and lobes, a displacement field, as files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from analysis.volume.image_files import read_displacement, read_mask

from ..dicom.lobe_masks import read_lobes
from ..pairing.analyse import Own
from ..pairing.lobes_program import LobeSource, draw_lobes


@dataclass(frozen=True)
class Given:
    """Name the files that a user brings; None for what is to be computed.

    Parameters
    ----------
    lungs_insp, lungs_exp : Path, optional
        Masks of the lungs (`analysis.pipeline.masks.with_own_lungs`).
    field : Path, optional
        Displacement field from expiration to inspiration (`analysis.volume.DisplacementField`).
    lobes : Path, optional
        Mask of the five lobes on either CT.
    lobes_command : tuple of str
        A program that draws the lobes (`pairing.lobes_program`); () for none.
    """

    lungs_insp: Path | None = None
    lungs_exp: Path | None = None
    field: Path | None = None
    lobes: Path | None = None
    lobes_command: tuple[str, ...] = ()

    def read(self) -> Own:
        """Read the lungs and the field.

        Raises
        ------
        analysis.errors.Rejected
            Where a file cannot be used; the sentence names it.
        """
        insp, exp = (read_mask(path) if path else None for path in (self.lungs_insp, self.lungs_exp))
        return Own((insp, exp), read_displacement(self.field) if self.field else None)

    def lobe_source(self) -> LobeSource | None:
        """Return what makes the mask of lobes from a CT, or None where there is none.

        Raises
        ------
        Rejected
            Where the mask cannot be read.
        """
        if self.lobes:
            mask = read_lobes(self.lobes)
            return lambda ct: mask
        return partial(draw_lobes, self.lobes_command) if self.lobes_command else None
