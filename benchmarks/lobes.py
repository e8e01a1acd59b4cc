"""How well lobes are found: `lobes.py OUT`, phantoms of known fissures; `lobes.py OUT CT ...`, CTs as files, too.

Prints tables of Markdown: of every fissure the share that is seen and the same by chance; in phantoms the mean distance
(mm) to the truth where there is a sheet and where there is none; of CTs the volumes of the lobes. OUT gets a picture
of every one, four sagittal and four coronal slices, to be looked at.
"""

import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from analysis.lobes.lobes import FoundLobes, find
from analysis.parameters import Parameters
from analysis.pipeline.phase import Phase
from analysis.truth.fissures import FissureShape, distances, fissure_phantom, on_grid
from analysis.volume import Float, Grid, Labels, Volume
from analysis.volume.image_files import read_ct

PHANTOMS = {
    "complete 80 %": FissureShape(complete=0.8, slice_mm=2),
    "complete 50 %": FissureShape(complete=0.5, slice_mm=2),
    "none": FissureShape(complete=0.0, slice_mm=2),
    "80 %, steeper by 12°, 10 mm higher, bent by 9 mm": FissureShape(0.8, 9.0, 12.0, 10.0, 2),
    "80 %, flatter by 12°, 12 mm lower": FissureShape(0.8, 6.0, -12.0, -12.0, 2),
    "80 %, noise 60 HU": FissureShape(complete=0.8, slice_mm=2, noise=60.0),
    "80 %, of 0.2 mm": FissureShape(complete=0.8, slice_mm=2, sheet_mm=0.2),
}


def main(out: Path, cts: list[Path]) -> None:
    """Print both tables."""
    out.mkdir(parents=True, exist_ok=True)
    print("| phantom | fissure | seen | by chance | mm where there is a sheet | mm where there is none | s |")
    print("|---|---|---|---|---|---|---|")
    for name, shape in PHANTOMS.items():
        truth = fissure_phantom(shape)
        ct, lungs, grid = on_grid(truth, 2.0)
        found, seconds = timed(ct, lungs, grid)
        for fissure, (sheet, without) in distances(truth, found.labels, grid).items():
            one = found.fissures[fissure]
            cells = f"{one.seen:.2f} | {one.chance:.2f} | {sheet:.2f} | {without:.2f} | {seconds:.0f}"
            print(f"| {name} | {fissure} | {cells} |")
        draw(
            out / f"{name.replace('%', '').replace(' ', '-')}.png",
            np.asarray(ct.coarsen(2.0).array),
            found.labels,
            grid,
        )
    print(
        "\n| CT | seen: right oblique, right horizontal, left oblique | volume of RUL, RML, RLL, LUL, LLL (%) | s |"
    )
    print("|---|---|---|---|")
    for path in cts:
        phase = Phase.of(read_ct(path), Parameters())
        found, seconds = timed(phase.ct, phase.lungs, phase.work.grid)
        shares = 100 * np.bincount(found.labels.ravel(), minlength=6)[1:] / max((phase.lungs > 0).sum(), 1)
        seen = ", ".join(f"{one.seen:.2f}" for one in found.fissures.values())
        print(f"| {path.name} | {seen} | {', '.join(f'{s:.1f}' for s in shares)} | {seconds:.0f} |")
        draw(out / f"{path.name}.png", np.asarray(phase.work.array), found.labels, phase.work.grid)


def timed(ct: Volume, lungs: Labels, grid: Grid) -> tuple[FoundLobes, float]:
    """Return the lobes and the processor time they took, s."""
    start = time.process_time()
    return find(ct, lungs, grid), time.process_time() - start


def draw(path: Path, hu: Float, labels: Labels, grid: Grid) -> None:
    """Draw the lobes' outlines on slices of an axial CT."""
    figure, axes = plt.subplots(2, 4, figsize=(24, 14))
    for row, axis in zip(axes, (2, 1), strict=True):
        shown = np.flatnonzero(labels.any(axis=(0, 3 - axis)))
        for place, share in zip(
            row, (0.15, 0.3, 0.7, 0.85) if axis == 2 else (0.3, 0.45, 0.6, 0.75), strict=True
        ):
            n = shown[int(share * len(shown))]
            size = grid.spacing[0] / grid.spacing[2 if axis == 1 else 1]
            place.imshow(
                np.take(hu, n, axis), cmap="gray", vmin=-1000, vmax=-500, origin="lower", aspect=size
            )
            for lobe, colour in enumerate(("red", "lime", "cyan", "yellow", "magenta"), 1):
                inside = np.take(labels, n, axis) == lobe
                if inside.any():
                    place.contour(inside, [0.5], colors=colour, linewidths=0.8)
            place.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=50)
    plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
