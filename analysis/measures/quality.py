"""What the headers say, both phases' volume and mass, the registration -> findings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..anatomy.outline import Outline
from ..registration.registration import RegistrationQuality
from ..volume import Float, Labels
from .findings import Finding, verdict_of
from .kernels import kernels_in_words


@dataclass(frozen=True)
class Acquisition:
    """Hold what a series' headers say of how one phase was made.

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


def lungs_found(labels: Labels) -> Finding:
    """Judge whether both lungs were found; `registration.register` refuses a lung that only one phase has."""
    missing = [name for lung, name in ((1, "right"), (2, "left")) if not (labels == lung).any()]
    words = "both lungs were found"
    if missing:
        words = f"no {missing[0]} lung was found in either phase: lung removed, or outside the field of view"
    return Finding(
        "lungs found", verdict_of(False, bool(missing)), 2.0 - len(missing), "1", "warn < 2", words
    )


def volume_ratio(exp_ml: float, insp_ml: float) -> Finding:
    """Judge expiratory over inspiratory lung volume (COPD: 0.73 ± 0.14)."""
    ratio = exp_ml / insp_ml
    verdict = verdict_of(ratio >= 0.95, ratio > 0.85)
    meaning = {"pass": "", "warn": ": a shallow breath", "fail": ": too shallow, one phase twice, or swapped"}
    words = f"expiratory lungs have {ratio:.0%} of the inspiratory volume{meaning[verdict]}"
    return Finding("volume ratio", verdict, ratio, "1", "warn > 0.85, fail >= 0.95", words)


def mass_ratio(insp_g: float, exp_g: float) -> Finding:
    """Judge inspiratory over expiratory lung mass."""
    ratio = insp_g / exp_g
    verdict = verdict_of(not 0.7 <= ratio <= 1.4, not 0.85 <= ratio <= 1.20)
    words = f"lung mass on inspiration is {ratio:.2f} of that on expiration"
    if verdict != "pass":
        words += ": density calibration, segmentation or patient differ"
    return Finding("mass ratio", verdict, ratio, "1", "warn outside 0.85-1.20, fail outside 0.7-1.4", words)


def outline_findings(phase: str, outline: Outline) -> tuple[Finding, ...]:
    """Judge whether the outline of one phase's lungs is right: no gas with walls, loose pieces, pits below."""
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
            verdict_of(False, ml > limit),
            ml,
            "ml",
            f"warn > {limit:.0f} mL",
            f"the outline of the lungs on {phase} holds {ml:.0f} mL of {words}"
            if ml > limit
            else f"{name} of the outline measures {ml:.0f} mL on {phase}",
        )
        for name, ml, limit, words in rows
    )


def acquisition_findings(inspiration: Acquisition, expiration: Acquisition) -> tuple[Finding, ...]:
    """Check what the headers say: slice thickness, kernels, contrast agent."""
    findings = []
    for phase, a in (("inspiration", inspiration), ("expiration", expiration)):
        words = f"slices of {a.slice_mm:.2f} mm on {phase}"
        verdict = verdict_of(a.slice_mm > 5, a.slice_mm > 2.5)
        findings.append(
            Finding(f"slice thickness, {phase}", verdict, a.slice_mm, "mm", "warn > 2.5, fail > 5 mm", words)
        )
        said = a.contrast.strip().lower() not in ("", "no", "none", "without")
        words = "the header names a contrast agent" if said else "the header names no contrast agent"
        findings.append(
            Finding(
                f"contrast agent, {phase}",
                verdict_of(said, False),
                None,
                "1",
                "none allowed",
                f"{words} on {phase}",
            )
        )
    warn, words = kernels_in_words((inspiration.kernel, expiration.kernel))
    findings.append(
        Finding("kernel", verdict_of(False, warn), None, "1", "warn where sharp or different", words)
    )
    return tuple(findings)


def perfusion_agreement(m: Float, deposited: Float) -> Finding:
    """Judge whether mass change by the Jacobian and by depositing mass, both (n,), agree."""
    name, limit = "perfusion cross-check", "warn < 0.9"
    if m.size < 2 or not (np.ptp(m) and np.ptp(deposited)):
        return Finding(name, "warn", None, "1", limit, "there is no mass change to check")
    r = float(np.corrcoef(m, deposited)[0, 1])
    words = f"mass change by the Jacobian and by depositing every voxel's mass correlate by {r:.3f}"
    return Finding(name, verdict_of(False, not r >= 0.9), r, "1", limit, words)


def registration_findings(quality: RegistrationQuality) -> tuple[Finding, ...]:
    """Check the displacement field."""
    closure, fold = quality.closure, 100 * quality.folding
    alike, residual = quality.similarity, quality.feature_residual
    blank = not np.isfinite(residual)
    return (
        Finding(
            "registration closure",
            verdict_of(abs(closure) > 0.03, False),
            100 * closure,
            "%",
            "fail beyond 3 %",
            f"the field carries the expiratory lungs to {1 + closure:.1%} of the inspiratory volume",
        ),
        Finding(
            "registration folding",
            verdict_of(fold >= 0.1, False),
            fold,
            "%",
            "fail >= 0.1 %",
            f"the field folds in {fold:.3f} % of the lungs",
        ),
        Finding(
            "inverse consistency",
            verdict_of(False, quality.inverse_consistency > 1.0),
            quality.inverse_consistency,
            "mm",
            "warn > 1 mm",
            f"there and back again misses by {quality.inverse_consistency:.2f} mm on average",
        ),
        Finding(
            "registration similarity",
            verdict_of(alike < 0.4, alike < 0.5),
            alike,
            "1",
            "warn < 0.5, fail < 0.4",
            _similarity_words(alike),
        ),
        Finding(
            "feature residual",
            verdict_of(blank or residual > 0.5, residual > 0.4),
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
