"""Checks of the pair and of the registration -> findings: pass, warn or fail, and the reason in a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from ..anatomy.morphology import bounding_box
from ..anatomy.outline import Outline
from ..errors import Rejected
from ..registration.registration import RegistrationQuality
from ..volume import Float, Grid, Labels, Mask, Volume
from .kernels import kernels_in_words

Verdict = Literal["pass", "warn", "fail"]
MIDDLE = 0.7  # share of the trachea's largest depth from which a voxel counts as its middle


@dataclass(frozen=True)
class Finding:
    """One check: what was measured, against what, and what it means.

    Parameters
    ----------
    check : str
        Short stable name, e.g. ``"volume ratio"``.
    verdict : {"pass", "warn", "fail"}
    value : float or None
        What was measured; None where the check has no number.
    unit : str
        UCUM unit of `value` (``"1"`` for a ratio, ``"mm"``, ``"%"``, ``"[hnsf'U]"``).
    limit : str
        The limits in words, e.g. ``"warn > 0.85, fail >= 0.97"``.
    sentence : str
        The verdict in one sentence a clinician can act on; no patient data.
    """

    check: str
    verdict: Verdict
    value: float | None
    unit: str
    limit: str
    sentence: str


@dataclass(frozen=True)
class Acquisition:
    """What a series' header says of how one phase was made.

    Parameters
    ----------
    kernel : str
        Convolution Kernel (0018,1210); "" where unknown.
    slice_mm : float
        The larger of slice thickness and spacing, mm.
    contrast : str
        Contrast/Bolus Agent (0018,0010); "" for none.
    up : (3,) float or None
        Unit vector away from the floor, LPS, as the patient lay; None where it is not known.
    """

    kernel: str
    slice_mm: float
    contrast: str
    up: tuple[float, float, float] | None = None


class QualityRejected(Rejected):
    """At least one quality check failed; the message holds the sentences of all that did.

    Parameters
    ----------
    findings : tuple of Finding
    """

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        self.findings = findings
        super().__init__("; ".join(f.sentence for f in findings if f.verdict == "fail"))

    def __reduce__(self) -> tuple[type[QualityRejected], tuple[tuple[Finding, ...]]]:
        return type(self), (self.findings,)


def failed(findings: tuple[Finding, ...]) -> bool:
    """True where any check failed."""
    return any(f.verdict == "fail" for f in findings)


def _verdict(fail: bool, warn: bool) -> Verdict:
    return "fail" if fail else "warn" if warn else "pass"


def lungs_found(labels: Labels) -> Finding:
    """Whether both lungs were found; `registration.register` refuses a lung that only one phase has."""
    missing = [name for lung, name in ((1, "right"), (2, "left")) if not (labels == lung).any()]
    words = "both lungs were found"
    if missing:
        words = f"no {missing[0]} lung was found in either phase: lung removed, or outside the field of view"
    return Finding("lungs found", _verdict(False, bool(missing)), 2.0 - len(missing), "1", "warn < 2", words)


def volume_ratio(exp_ml: float, insp_ml: float) -> Finding:
    """Expiratory over inspiratory lung volume (COPD: 0.73 ± 0.14)."""
    ratio = exp_ml / insp_ml
    verdict = _verdict(ratio >= 0.97, ratio > 0.85)
    words = {
        "pass": f"expiratory lungs have {ratio:.0%} of the inspiratory volume",
        "warn": f"expiratory lungs have {ratio:.0%} of the inspiratory volume: a shallow breath",
        "fail": f"expiratory lungs have {ratio:.0%} of the inspiratory volume: not two phases, or swapped",
    }
    return Finding("volume ratio", verdict, ratio, "1", "warn > 0.85, fail >= 0.97", words[verdict])


def mass_ratio(insp_g: float, exp_g: float) -> Finding:
    """Inspiratory over expiratory lung mass."""
    ratio = insp_g / exp_g
    verdict = _verdict(not 0.7 <= ratio <= 1.4, not 0.85 <= ratio <= 1.20)
    words = f"lung mass on inspiration is {ratio:.2f} of that on expiration"
    if verdict != "pass":
        words += ": density calibration, segmentation or patient differ"
    return Finding("mass ratio", verdict, ratio, "1", "warn outside 0.85-1.20, fail outside 0.7-1.4", words)


def trachea_air(phase: str, hu: float) -> Finding:
    """Density of air as the scanner measures it, from `trachea_hu`; NaN where no trachea was found."""
    name, limit = f"trachea air, {phase}", "warn > 20 HU from -1000"
    if not np.isfinite(hu):
        return Finding(name, "warn", None, "[hnsf'U]", limit, f"no trachea was found on {phase}")
    off = abs(hu + 1000) > 20
    words = f"air in the trachea measures {hu:.0f} HU on {phase}"
    if off:
        words += ": densities may be off by as much"
    return Finding(name, _verdict(False, off), hu, "[hnsf'U]", limit, words)


def field_of_view(phase: str, percent: float) -> Finding:
    """Share of the lung at the edge of the field of view, from `edge_percent`."""
    words = f"{percent:.2f} % of the lung touches the edge of the field of view on {phase}"
    if percent > 0.5:
        words += ": the scan does not cover the lungs"
    return Finding(
        f"field of view, {phase}", _verdict(percent > 0.5, False), percent, "%", "fail > 0.5 %", words
    )


def outline_findings(phase: str, outline: Outline) -> tuple[Finding, ...]:
    """Whether the outline of one phase's lungs looks wrong: gas with walls, loose pieces, a pit in its underside."""
    rows = (
        (
            "walled gas",
            outline.gas_ml,
            3.0,
            "pure gas with tissue around it: bowel, a pneumothorax or a bulla",
        ),
        (
            "loose pieces",
            outline.loose_ml,
            5.0,
            "pieces joined to neither lung: not lung, or cut off by disease",
        ),
        ("diaphragm", outline.pit_ml, 400.0, "bulges below the diaphragm: gas of the bowel taken for lung"),
    )
    return tuple(
        Finding(
            f"{name}, {phase}",
            _verdict(False, ml > limit),
            ml,
            "ml",
            f"warn > {limit:.0f} mL",
            f"the outline of the lungs on {phase} holds {ml:.0f} mL of {words}"
            if ml > limit
            else f"{name} of the outline measures {ml:.0f} mL on {phase}",
        )
        for name, ml, limit, words in rows
    )


def mediastinal_density(phase: str, hu: float) -> Finding:
    """Density of the heart and great vessels, from `mediastinal_hu`; contrast makes it exceed 90 HU."""
    name, limit = f"mediastinal density, {phase}", "fail > 90 HU"
    if not np.isfinite(hu):
        return Finding(
            name, "pass", None, "[hnsf'U]", limit, f"no heart to measure between the lungs on {phase}"
        )
    words = f"tissue between the lungs measures {hu:.0f} HU on {phase}"
    if hu > 90:
        words += ": contrast medium was given, V/Q from density is not valid"
    return Finding(name, _verdict(hu > 90, False), hu, "[hnsf'U]", limit, words)


def trachea_hu(airways: Mask, volume: Volume) -> float:
    """Median HU in the middle of the trachea, where its wall does not blur in; NaN where none was found.

    Parameters
    ----------
    airways : (k, j, i) bool
        Air of the trachea and the main bronchi.
    volume : Volume
    """
    box = bounding_box(airways)
    if box is None:
        return float("nan")
    depth = ndimage.distance_transform_edt(np.pad(airways[box], 1), sampling=volume.grid.spacing)[
        1:-1, 1:-1, 1:-1
    ]
    return float(np.median(volume.array[box][depth >= MIDDLE * depth.max()]))


def edge_percent(labels: Labels, volume: Volume) -> float:
    """Percent of lung voxels on the first or last slice or at the edge of what was reconstructed.

    Parameters
    ----------
    labels : (k, j, i) uint8
        Lungs on the volume's grid.
    volume : Volume
        The whole scanned volume, uncropped.
    """
    lung = labels > 0
    outside = np.asarray(volume.array, dtype=np.float32) <= -1100  # padding outside the reconstruction circle
    edge = ndimage.binary_dilation(outside) if outside.any() else np.zeros_like(lung)
    edge[[0, -1]] = True
    edge[:, [0, -1]] = True
    edge[:, :, [0, -1]] = True
    return 100 * float((lung & edge).sum()) / max(int(lung.sum()), 1)


def mediastinal_hu(labels: Labels, volume: Volume) -> float:
    """Median HU of soft tissue (-50…400 HU) between the lungs; NaN where there is less than 50 mL of it."""
    values = np.asarray(volume.array, dtype=np.float32)[between_lungs(labels, volume.grid)]
    soft = values[(values > -50) & (values < 400)]
    return float(np.median(soft)) if soft.size * volume.grid.voxel_ml >= 50 else float("nan")


def between_lungs(labels: Labels, grid: Grid) -> Mask:
    """Voxels that have the right lung on one side and the left lung on the other, (k, j, i) bool."""
    axis = int(np.argmax(np.abs(grid.affine[0, :3])))
    right, left = labels == 1, labels == 2

    def passed(mask: Mask, backwards: bool) -> Mask:
        mask = np.flip(mask, axis) if backwards else mask
        mask = np.logical_or.accumulate(mask, axis=axis)
        return np.flip(mask, axis) if backwards else mask

    patient_left_ascends = bool(grid.affine[0, axis] > 0)
    return passed(right, not patient_left_ascends) & passed(left, patient_left_ascends) & (labels == 0)


def acquisition_findings(inspiration: Acquisition, expiration: Acquisition) -> tuple[Finding, ...]:
    """Checks of what the headers say: slice thickness, kernels, contrast agent."""
    findings = []
    for phase, a in (("inspiration", inspiration), ("expiration", expiration)):
        words = f"slices of {a.slice_mm:.2f} mm on {phase}"
        verdict = _verdict(a.slice_mm > 5, a.slice_mm > 2.5)
        findings.append(
            Finding(f"slice thickness, {phase}", verdict, a.slice_mm, "mm", "warn > 2.5, fail > 5 mm", words)
        )
        said = a.contrast.strip().lower() not in ("", "no", "none", "without")
        words = "the header names a contrast agent" if said else "the header names no contrast agent"
        findings.append(
            Finding(
                f"contrast agent, {phase}",
                _verdict(said, False),
                None,
                "1",
                "none allowed",
                f"{words} on {phase}",
            )
        )
    warn, words = kernels_in_words((inspiration.kernel, expiration.kernel))
    findings.append(
        Finding("kernel", _verdict(False, warn), None, "1", "warn where sharp or different", words)
    )
    return tuple(findings)


def perfusion_agreement(m: Float, deposited: Float) -> Finding:
    """Whether the mass change by the Jacobian and by depositing mass, (n,) both, tell the same."""
    name, limit = "perfusion cross-check", "warn < 0.9"
    if m.size < 2 or not (np.ptp(m) and np.ptp(deposited)):
        return Finding(name, "warn", None, "1", limit, "there is no mass change to check")
    r = float(np.corrcoef(m, deposited)[0, 1])
    words = f"mass change by the Jacobian and by depositing every voxel's mass correlate by {r:.3f}"
    return Finding(name, _verdict(False, not r >= 0.9), r, "1", limit, words)


def registration_findings(quality: RegistrationQuality) -> tuple[Finding, ...]:
    """Checks of the displacement field."""
    closure, fold = quality.closure, 100 * quality.folding
    alike, residual = quality.similarity, quality.feature_residual
    blank = not np.isfinite(residual)
    return (
        Finding(
            "registration closure",
            _verdict(abs(closure) > 0.03, False),
            100 * closure,
            "%",
            "fail beyond 3 %",
            f"the field carries the expiratory lungs to {1 + closure:.1%} of the inspiratory volume",
        ),
        Finding(
            "registration folding",
            _verdict(fold >= 0.1, False),
            fold,
            "%",
            "fail >= 0.1 %",
            f"the field folds in {fold:.3f} % of the lungs",
        ),
        Finding(
            "inverse consistency",
            _verdict(False, quality.inverse_consistency > 1.0),
            quality.inverse_consistency,
            "mm",
            "warn > 1 mm",
            f"there and back again misses by {quality.inverse_consistency:.2f} mm on average",
        ),
        Finding(
            "registration similarity",
            _verdict(alike < 0.4, alike < 0.5),
            alike,
            "1",
            "warn < 0.5, fail < 0.4",
            _similarity_words(alike),
        ),
        Finding(
            "feature residual",
            _verdict(blank or residual > 0.5, residual > 0.4),
            None if blank else residual,
            "mm",
            "warn > 0.4, fail > 0.5 mm",
            _residual_words(residual),
        ),
    )


def _similarity_words(alike: float) -> str:
    words = f"the lungs' textures correlate by {alike:.2f} after registration"
    if alike < 0.4:
        return words + ": another patient, or a registration that failed"
    return words + (": much noise, or little in common" if alike < 0.5 else "")


def _residual_words(residual: float) -> str:
    if not np.isfinite(residual):
        return "the lungs show no feature to register by"
    words = f"well-defined features still miss each other by {residual:.2f} mm on average"
    return words + (": another patient, or a registration that failed" if residual > 0.5 else "")
