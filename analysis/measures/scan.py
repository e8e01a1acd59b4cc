"""One CT volume and its lungs -> Scan: everything the checks of a single phase measure, and their findings."""

from __future__ import annotations

from dataclasses import dataclass

from ..anatomy.lungs import LungSegmentation
from ..anatomy.outline import Outline
from ..volume import Volume
from .density import mediastinal_density, mediastinal_hu, trachea_air, trachea_hu
from .effusion import Behind, behind_lungs
from .extent import (
    edge_percent,
    end_slices_cm2,
    field_of_view,
    lung_at_the_sides,
    lung_on_end_slice,
    sides_cm2,
)
from .findings import Finding
from .metal import Metal, find_metal, metal
from .noise import noise, noise_hu
from .quality import outline_findings
from .steps import Step, largest_step, step


@dataclass(frozen=True)
class Scan:
    """Hold what is measured of one phase to judge it.

    Attributes
    ----------
    trachea_hu, mediastinal_hu, noise_hu : float
        HU; NaN where there is nothing to measure.
    edge_percent : float
        Percent of the lung at the edge of the field of view.
    sides_cm2 : float
        Area of lung at the sides of the field of view, cm².
    end_slices_cm2 : (2,) float
        Area of lung on the first and the last slice, cm².
    step : Step
    metal : Metal
    behind : Behind
        Soft tissue between the lungs and the ribs behind them.
    outline : Outline
        What the outline of the lungs looks like.
    """

    trachea_hu: float
    mediastinal_hu: float
    noise_hu: float
    edge_percent: float
    sides_cm2: float
    end_slices_cm2: tuple[float, float]
    step: Step
    metal: Metal
    behind: Behind
    outline: Outline

    @classmethod
    def of(
        cls, volume: Volume, whole: Volume, found: LungSegmentation, factors: tuple[int, int, int]
    ) -> Scan:
        """Measure one phase.

        Parameters
        ----------
        volume : Volume
            The CT's own voxels.
        whole : Volume
            The same averaged by ``factors``.
        found : LungSegmentation
            On the grid of ``whole``.
        factors : (3,) int
            How many voxels of the CT one voxel of ``whole`` averages, along k, j, i.
        """
        return cls(
            trachea_hu(found.airways, whole),
            mediastinal_hu(found.labels, whole),
            noise_hu(volume),
            edge_percent(found.labels, whole),
            sides_cm2(found.labels, whole),
            end_slices_cm2(found.labels, whole.grid),
            largest_step(volume),
            find_metal(volume, found.labels, factors),
            behind_lungs(found.labels, whole),
            Outline.of(found.labels, whole),
        )

    def findings(self, phase: str) -> tuple[Finding, ...]:
        """Return the checks of this phase; ``phase`` names it in the sentences."""
        return (
            trachea_air(phase, self.trachea_hu),
            field_of_view(phase, self.edge_percent),
            lung_at_the_sides(phase, self.sides_cm2),
            lung_on_end_slice(phase, self.end_slices_cm2),
            mediastinal_density(phase, self.mediastinal_hu),
            step(phase, self.step),
            metal(phase, self.metal),
            noise(phase, self.noise_hu),
            *outline_findings(phase, self.outline),
        )
