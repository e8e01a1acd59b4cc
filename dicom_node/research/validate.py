"""`dicom-node validate`: a phantom, a twin of a real CT, or landmarks on a real pair -> how good the results are."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.anatomy.lungs import segment
from analysis.figures.colours import CLASS_NAME
from analysis.figures.overview import overview
from analysis.limits_of_use import RESEARCH_USE
from analysis.parameters import Parameters
from analysis.pipeline.pipeline import Analysis, Phase, analyse_phases
from analysis.truth.breathing import PhaseName, Truth
from analysis.truth.made_motion import made_motion
from analysis.truth.motion import Motion, Pairs, fit_motion
from analysis.truth.phantom import thorax_phantom
from analysis.truth.scanner import Look, Vessels
from analysis.truth.twins import make_twin
from analysis.truth.validation import (
    Comparison,
    Distances,
    compare,
    landmark_errors,
    phantom_truth_on,
    truth_figure,
)
from analysis.volume import Volume
from analysis.vq.classes import VQClass

from ..dicom.image_files import image_volume
from ..dicom.pixels import load_volume
from ..errors import Rejected
from ..pairing.analyse import Progress
from ..pairing.stacks import assemble
from ..strict_json import write_json
from .pile import gather

SCHEMA = "vq-dicom-node validation 1"
Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Report:
    """Hold what a validation found; `write_report` writes it as files.

    Attributes
    ----------
    title : str
    analysis : Analysis
    seconds : float
        Duration of the whole analysis, from volumes to measures (s).
    errors : mapping of str to Distances
        What was measured -> its errors (mm).
    comparison : Comparison or None
        None where the true classes are not known.
    pictures : mapping of file name to Figure
    """

    title: str
    analysis: Analysis
    seconds: float
    errors: Mapping[str, Distances]
    comparison: Comparison | None
    pictures: Mapping[str, Figure]


def validate_phantom(progress: Progress) -> Report:
    """Validate on the thorax phantom."""
    progress("phantom", 0.0)
    phantom = thorax_phantom()
    analysis, phases, seconds = _analyse(phantom.inspiratory, phantom.expiratory, progress)
    truth = phantom_truth_on(phantom, analysis.grid)
    return _compared("thorax phantom", analysis, phases, seconds, truth, None)


def validate_twin(
    ct: Path, motion: Path | None, phase: PhaseName, progress: Progress, vessels: Vessels = "dense"
) -> Report:
    """Validate on a twin: a real CT, and its other phase made by a breathing motion and six defects.

    Parameters
    ----------
    ct : Path
        DICOM (folder, zip archive) or any image SimpleITK reads, in HU.
    motion : Path or None
        ``.npz`` of a case: masks, keypoints and landmarks of two phases (see `read_motion`). None for the motion that
        `made_motion` makes.
    phase : {"inspiration", "expiration"}
        The phase that the CT stands for.
    progress : callable
    vessels : {"dense", "share"}
        What keeps its density (`scanner.Look.vessels`).

    Raises
    ------
    Rejected
        Where a file cannot be used; the message names it.
    """
    progress("reading", 0.0)
    volume, _ = read_image(ct)
    fitted = made_motion() if motion is None else read_motion(motion)
    progress("twin", 0.0)
    twin = make_twin(volume, segment(volume).labels, phase, fitted, look=Look(vessels=vessels))
    analysis, phases, seconds = _analyse(twin.inspiratory, twin.expiratory, progress)
    truth = twin.truth_on(analysis.grid)
    marks = twin.exp_landmarks, twin.insp_landmarks
    breathing = "a made motion" if motion is None else motion.stem
    title = f"twin: {ct.name} as {phase}, breathing {breathing}, vessels: {vessels}"
    return _compared(title, analysis, phases, seconds, truth, marks)


def validate_landmarks(
    insp: Path, exp: Path, insp_points: Path, exp_points: Path, progress: Progress
) -> Report:
    """Validate on a real pair with pairs of landmarks.

    Parameters
    ----------
    insp, exp : Path
        DICOM (folder, zip archive) or any image SimpleITK reads, in HU.
    insp_points, exp_points : Path
        See `read_points`.

    Raises
    ------
    Rejected
        Where a file cannot be used, or the two lists differ in length.
    """
    progress("reading", 0.0)
    (moving, to_insp), (fixed, to_exp) = read_image(insp), read_image(exp)
    there, here = read_points(insp_points, to_insp), read_points(exp_points, to_exp)
    if len(there) != len(here):
        raise Rejected(f"{insp_points} holds {len(there)} landmarks, {exp_points} {len(here)}")
    analysis, _, seconds = _analyse(moving, fixed, progress)
    errors = {
        "landmarks before registration": Distances.of(np.linalg.norm(there - here, axis=1)),
        "landmarks": Distances.of(landmark_errors(analysis.displacement, analysis.grid, here, there)),
    }
    title = f"{len(here)} landmarks: {exp.name} to {insp.name}"
    return Report(title, analysis, seconds, errors, None, {"overview.png": overview(analysis)})


def _analyse(insp: Volume, exp: Volume, progress: Progress) -> tuple[Analysis, tuple[Phase, Phase], float]:
    parameters = Parameters(accept_failed_checks=True)
    start = time.perf_counter()
    progress("lungs", 0.0)
    phases = Phase.of(insp, parameters), Phase.of(exp, parameters)
    analysis = analyse_phases(*phases, parameters, progress)
    return analysis, phases, time.perf_counter() - start


def _compared(
    title: str,
    analysis: Analysis,
    phases: tuple[Phase, Phase],
    seconds: float,
    truth: Truth,
    landmarks: tuple[Points, Points] | None,
) -> Report:
    found = compare(analysis, phases, truth, landmarks)
    errors = {"displacement, all lung": found.error}
    if landmarks is not None:
        errors["landmarks"] = found.landmarks
    pictures = {"overview.png": overview(analysis), "truth.png": truth_figure(analysis, truth)}
    return Report(title, analysis, seconds, errors, found, pictures)


def read_image(source: Path) -> tuple[Volume, Points]:
    """Read a CT volume from DICOM (folder, zip archive, file) or from any file SimpleITK reads.

    Returns
    -------
    volume : Volume
    affine : (4, 4) float64
        (k, j, i) of the file to LPS mm; its slices may run the other way than the volume's.

    Raises
    ------
    Rejected
        Where there is no image, or more than one CT stack.
    """
    reader = sitk.ImageFileReader.GetImageIOFromFileName(str(source)) if source.is_file() else ""
    if reader and reader != "GDCMImageIO":
        try:
            return image_volume(sitk.ReadImage(str(source)))
        except RuntimeError as error:
            raise Rejected(f"{source} cannot be read as an image") from error
    with tempfile.TemporaryDirectory(prefix="dicom-node-") as folder:
        pile = gather(source, Path(folder))
        found = assemble(pile.headers)
        if len(found.series) != 1:
            reasons = "; ".join(r.reason for r in found.refused)
            raise Rejected(
                f"{source} holds {len(found.series)} CT stacks, one is needed"
                + (f": {reasons}" if reasons else "")
            )
        volume = load_volume(found.series[0], pile.paths)
    return volume, np.array(volume.grid.affine)


def read_points(path: Path, affine: Points) -> Points:
    """Read landmarks (n, 3), LPS mm, from a text file.

    Either DIR-Lab's format (rows of x, y, z: voxels of the image, counted from 1) or elastix' (first line ``point``
    for mm or ``index`` for voxels counted from 0, second line their number).

    Parameters
    ----------
    path : Path
    affine : (4, 4) float64
        (k, j, i) of the image to LPS mm.

    Raises
    ------
    Rejected
        Where a line cannot be read; the message names it.
    """
    lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    kind = lines[0][0] if lines and lines[0][0] in ("point", "index") else "DIR-Lab"
    skip = 0 if kind == "DIR-Lab" else 2
    rows = []
    for n, line in enumerate(lines[skip:], skip + 1):
        try:
            x, y, z = (float(v) for v in line)
        except ValueError as error:
            raise Rejected(f"{path}, line {n}: three numbers are expected, not {' '.join(line)!r}") from error
        rows.append((x, y, z))
    if not rows:
        raise Rejected(f"{path} holds no landmark")
    points = np.array(rows)
    if kind == "point":
        return points
    index = points[:, ::-1] - (1 if kind == "DIR-Lab" else 0)
    placed: Points = index @ affine[:3, :3].T + affine[:3, 3]
    return placed


def read_motion(path: Path) -> Motion:
    """Fit the motion of a patient to the masks, keypoints and landmarks of two phases.

    Parameters
    ----------
    path : Path
        ``.npz`` with ``spacing``, ``mask_shape``, bits of ``exp_mask`` and ``insp_mask``, ``exp_landmarks``,
        ``insp_landmarks``, ``exp_keypoints``, ``insp_keypoints`` (mm) and ``insp_offset``.

    Raises
    ------
    Rejected
        Where the file is not such a case.
    """
    return fit_motion(read_pairs(path))


def read_pairs(path: Path) -> Pairs:
    """Read the points and masks of a file that `read_motion` reads."""
    try:
        with np.load(path) as case:
            shape = tuple(case["mask_shape"])
            masks = [
                np.unpackbits(case[key])[: np.prod(shape)].reshape(shape).astype(bool)
                for key in ("exp_mask", "insp_mask")
            ]
            return Pairs.of(
                (case["exp_keypoints"], case["insp_keypoints"]),
                (case["exp_landmarks"], case["insp_landmarks"]),
                (masks[0], masks[1]),
                tuple(case["spacing"].tolist()),
                case["insp_offset"],
            )
    except Exception as error:  # the boundary: numpy's reader of damaged bytes alone raises a dozen kinds
        raise Rejected(f"{path} is not a breathing motion: {error}") from error


def write_report(report: Report, out: Path) -> tuple[Path, ...]:
    """Write report.md, validation.json and the pictures.

    Parameters
    ----------
    report : Report
    out : Path
        Folder; made where it does not exist.
    """
    out.mkdir(parents=True, exist_ok=True)
    files = [out / "report.md", out / "validation.json"]
    files[0].write_text("\n".join(_lines(report)) + "\n")
    write_json(files[1], SCHEMA, _numbers(report))
    for name, figure in report.pictures.items():
        files.append(out / name)
        figure.savefig(files[-1])
    return tuple(files)


def _lines(report: Report) -> list[str]:
    q = report.analysis.registration
    lines = [f"# {report.title}", "", RESEARCH_USE, "", f"vq-dicom-node {report.analysis.version}", ""]
    lines += ["| error, mm | n | mean | median | 95th percentile | largest |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {name} | {d.n} | {d.mean:.2f} | {d.median:.2f} | {d.p95:.2f} | {d.largest:.2f} |"
        for name, d in report.errors.items()
    ]
    lines += ["", "| registration, judged by itself | |", "|---|---|"]
    lines += [f"| {name.replace('_', ' ')} | {value:.4g} |" for name, value in asdict(q).items()]
    if report.comparison is not None:
        lines += ["", *_class_lines(report.comparison)]
    lines += ["", f"Analysis in {report.seconds:.0f} s.", ""]
    lines += [f"- {f.verdict}: {f.sentence}" for f in report.analysis.findings if f.verdict != "pass"]
    return lines + [""] + [f"![{name}]({name})" for name in report.pictures]


def _class_lines(found: Comparison) -> list[str]:
    def row(name: str, percent: Mapping[VQClass, float], rest: str) -> str:
        return f"| {name} | " + " | ".join(f"{percent[c]:.1f}" for c in VQClass if c) + f" | {rest} |"

    names = " | ".join(f"{CLASS_NAME[c]} %" for c in VQClass if c)
    return [
        f"| classes | {names} | total abnormal % | Dice of low V | Dice of low Q |",
        "|---|---|---|---|---|---|---|---|",
        row("truth in the whole lung", found.whole, f"{100 - found.whole[VQClass.NORMAL]:.1f} | | "),
        row(
            "truth where the result has a class", found.truth, f"{100 - found.truth[VQClass.NORMAL]:.1f} | | "
        ),
        *(
            row(name, a.percent, f"{a.total_abnormal:.1f} | {a.low_v:.3f} | {a.low_q:.3f}")
            for name, a in (("result", found.found), ("with the true field", found.best))
        ),
    ]


def _numbers(report: Report) -> dict[str, object]:
    out: dict[str, object] = {
        "title": report.title,
        "software": f"vq-dicom-node {report.analysis.version}",
        "limits": RESEARCH_USE,
        "seconds": report.seconds,
        "errors_mm": {name: asdict(d) for name, d in report.errors.items()},
        "registration": asdict(report.analysis.registration),
        "parameters": asdict(report.analysis.parameters),
    }
    if (found := report.comparison) is not None:
        named = {c: c.name.lower() for c in VQClass if c}
        out["truth_percent"] = {n: found.truth[c] for c, n in named.items()}
        out["truth_percent_whole_lung"] = {n: found.whole[c] for c, n in named.items()}
        for name, a in (("found", found.found), ("true_field", found.best)):
            out[name] = {
                "dice_low_v": a.low_v,
                "dice_low_q": a.low_q,
                "percent": {n: a.percent[c] for c, n in named.items()},
            }
    return out
