"""Two results of one patient -> what changed between their dates: every measure, V and Q in place, classes.

The earlier expiratory CT is registered to the later one by the same engine as inspiration to expiration, and carries
its maps along; what is compared lies on the later result's working grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..anatomy.sides import Lung
from ..errors import Rejected
from ..figures.views import on_working_grid
from ..measures.findings import Finding, Verdict
from ..measures.quality import registration_findings
from ..measures.table import MEASURES
from ..pipeline.pipeline import Analysis
from ..registration import kernels
from ..registration.registration import RegistrationQuality, register
from ..volume import Float, Grid, Labels, Mask, Volume
from ..vq.classes import VQClass, normalised

#: Maps of a `Change`: V and Q as they are, and each over its normaliser, as classes are made of (gravity's part stays).
CHANGED = ("V", "Q", "V_n", "Q_n")
#: Breathing differs from day to day; if it differs by more than this, V and density change without disease.
VOLUME_LIMITS = (0.85, 1.15)


@dataclass(frozen=True, eq=False)
class Change:
    """Hold what changed from an earlier to a later result.

    Attributes
    ----------
    grid : Grid
        The later result's working grid.
    ct : (k, j, i) float32
        The later expiratory CT on it, HU.
    maps : mapping of str to (k, j, i) float32
        Later minus earlier, for each of `CHANGED`; NaN where either has no value.
    earlier, later : (k, j, i) uint8
        Values of `VQClass` where both are classified, 0 elsewhere.
    displacement : (k, j, i, 3) float32
        u(x), mm, LPS: later point x lies at x + u(x) in the earlier expiratory CT.
    measures : mapping of region to mapping of measure to (float, float)
        Earlier and later value.
    findings : tuple of Finding
        How far the two can be compared.
    registration : RegistrationQuality
    """

    grid: Grid
    ct: Float
    maps: Mapping[str, Float]
    earlier: Labels
    later: Labels
    displacement: Float
    measures: Mapping[str, Mapping[str, tuple[float, float]]]
    findings: tuple[Finding, ...]
    registration: RegistrationQuality

    @property
    def transitions(self) -> NDArray[np.float64]:
        """Return the (4, 4) volumes (mL) whose class [a - 1, b - 1] was a earlier and is b later."""
        n = len(VQClass)
        counts = np.bincount(self.earlier.ravel().astype(np.intp) * n + self.later.ravel(), minlength=n * n)
        return np.asarray(counts.reshape(n, n)[1:, 1:] * self.grid.voxel_ml, dtype=np.float64)


def compare(
    earlier: Analysis, later: Analysis, progress: Callable[[float], None] = lambda share: None
) -> Change:
    """Compute what changed between two results.

    Parameters
    ----------
    earlier, later : Analysis
        Of one patient, made with the same parameters.
    progress : callable
        Called with the share of the registration done, 0…1.

    Raises
    ------
    Rejected
        Where the parameters differ, or a lung was found in one result only.
    """
    _comparable(earlier, later)
    lungs = [on_working_grid(a.lungs, a) for a in (earlier, later)]
    for lung in (Lung.RIGHT, Lung.LEFT):
        found = [bool((labels == lung).any()) for labels in lungs]
        if found[0] != found[1]:
            which = "earlier" if found[0] else "later"
            raise Rejected(f"the {lung.name.lower()} lung was found only in the {which} result")
    moving, fixed = (Volume(a.maps["ct_exp"], a.grid) for a in (earlier, later))
    registration = register(fixed, lungs[1], moving, lungs[0], progress)
    points = (later.grid.centres() + registration.displacement).reshape(-1, 3)
    there = earlier.grid.indices(points.astype(np.float64))
    carried, known = _carried(earlier, there.astype(np.float32), later.grid.shape)
    masks = known, np.isfinite(later.maps["V"])
    both = masks[0] & masks[1]
    now = {**{name: later.maps[name] for name in ("V", "Q")}, **_normalised(later)}
    classes = (
        _nearest(on_working_grid(earlier.classes, earlier), there).reshape(both.shape),
        on_working_grid(later.classes, later),
    )
    both &= (classes[0] > 0) & (classes[1] > 0)
    return Change(
        grid=later.grid,
        ct=later.maps["ct_exp"],
        maps={n: np.where(both, now[n] - carried[n], np.nan).astype(np.float32) for n in CHANGED},
        earlier=np.where(both, classes[0], 0).astype(np.uint8),
        later=np.where(both, classes[1], 0).astype(np.uint8),
        displacement=registration.displacement,
        measures={
            region: {
                name: (values.get(name, np.nan), later.measures[region].get(name, np.nan))
                for name in MEASURES
            }
            for region, values in earlier.measures.items()
            if region in later.measures
        },
        findings=(*_breathing(earlier, later), *registration_findings(registration.quality)),
        registration=registration.quality,
    )


def _comparable(earlier: Analysis, later: Analysis) -> None:
    ours, theirs = (asdict(replace(a.parameters, accept_failed_checks=False)) for a in (earlier, later))
    differ = [f"{name} {ours[name]} and {theirs[name]}" for name in ours if ours[name] != theirs[name]]
    if differ:
        raise Rejected(f"the results were made with other parameters: {', '.join(differ)}")


def _normalised(analysis: Analysis) -> dict[str, Float]:
    mask = np.isfinite(analysis.maps["V"])
    v_n, q_n = normalised(analysis.maps, mask, analysis.parameters)
    return {"V_n": v_n, "Q_n": q_n}


def _carried(analysis: Analysis, index: Float, shape: tuple[int, int, int]) -> tuple[dict[str, Float], Mask]:
    """Return maps at other points, from voxels with a value only, and where there are enough of those."""
    mask = np.isfinite(analysis.maps["V"])
    weight: Float = kernels.sample(mask.astype(np.float32), index).reshape(shape)
    out = {}
    for name, values in {**{n: analysis.maps[n] for n in ("V", "Q")}, **_normalised(analysis)}.items():
        filled = np.where(mask, values, 0).astype(np.float32)
        out[name] = kernels.sample(filled, index).reshape(shape) / np.maximum(weight, 0.5)
    return out, weight > 0.5


def _nearest(labels: Labels, index: NDArray[np.float64]) -> Labels:
    last = np.array(labels.shape) - 1
    k, j, i = np.clip(np.rint(index).astype(np.intp), 0, last).T
    return labels[k, j, i]


def _breathing(earlier: Analysis, later: Analysis) -> tuple[Finding, ...]:
    """Check whether the lungs were filled alike on both dates."""
    findings = []
    low, high = VOLUME_LIMITS
    for name, phase in (("volume_exp", "expiration"), ("volume_insp", "inspiration")):
        ratio = later.measures["lungs"][name] / earlier.measures["lungs"][name]
        verdict: Verdict = "pass" if low <= ratio <= high else "warn"
        words = f"the lungs' volume on {phase} is {ratio:.2f} of the earlier one"
        if verdict == "warn":
            words += ": V and densities differ by breathing alone"
        findings.append(Finding(f"volume, {phase}", verdict, ratio, "1", f"warn outside {low}-{high}", words))
    return tuple(findings)
