"""Two files that are no DICOM (NIfTI, MetaImage, NRRD) -> the record of their analysis."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from analysis.errors import AnalysisError
from analysis.parameters import Parameters
from analysis.pipeline.pipeline import Phase, analyse_phases
from analysis.volume import Volume
from analysis.volume.image_files import read_ct

from ..errors import Rejected
from ..pairing.analyse import Progress, SideBySide
from ..results.context import uid_of
from ..results.record import Record
from .given import Given

PAIRING = "as given by the user; the files hold no headers that say the phases"


def analyse_images(insp: Path, exp: Path, parameters: Parameters, progress: Progress, given: Given) -> Record:
    """Analyse two image files in HU.

    Parameters
    ----------
    insp, exp : Path
    parameters : Parameters
    progress : callable
    given : Given

    Returns
    -------
    Record
        Without a patient and a date. In place of Series Instance UIDs it has UIDs made from the images' content.

    Raises
    ------
    Rejected, analysis.errors.Rejected
        Where a file is no chest CT in HU, or what is given as inspiration has the smaller lungs.
    """
    own, source, told = given.read(), given.lobe_source(), SideBySide(progress)

    def phase(n: int, path: Path) -> tuple[Phase, str, Volume | None]:
        told.read(n, 0.0)
        ct = read_ct(path)
        told.read(n, 1.0)
        try:
            found = Phase.of(ct, parameters, own.lungs[n])
        except AnalysisError as error:
            raise Rejected(f"{path.name}: {error}") from error
        told.found()
        return found, _uid(ct), ct if n == 0 and source is not None else None

    with ThreadPoolExecutor(2) as threads:
        made = tuple(threads.map(phase, (0, 1), (insp, exp)))
    phases, uids = [one for one, _, _ in made], [uid for _, uid, _ in made]
    ct = made[0][2]
    lobes = source(ct) if source is not None and ct is not None else None
    if uids[0] == uids[1]:
        raise Rejected(f"{insp.name} and {exp.name} are the same image")
    if phases[0].lung_ml < phases[1].lung_ml:
        raise Rejected(
            f"{insp.name} is given as inspiration, but its lungs are smaller ({phases[0].lung_ml:.0f} ml) than those"
            f" of {exp.name} ({phases[1].lung_ml:.0f} ml)"
        )
    analysis = analyse_phases(
        phases[0], phases[1], parameters, progress, lobes=lobes, displacement=own.displacement
    )
    return Record(analysis, uids[0], uids[1], "", PAIRING)


def _uid(ct: Volume) -> str:
    """Return a UID of an image's content, which the same image always has."""
    content = np.ascontiguousarray(ct.array).tobytes() + ct.grid.affine.tobytes()
    return str(uid_of(hashlib.sha256(content).hexdigest()))
