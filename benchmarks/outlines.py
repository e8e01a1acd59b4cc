"""Every real CT, its lungs' outline in three planes, and what the checks say: `python benchmarks/outlines.py OUT`.

Needs the real data of `$VQ_SHARED` (or ../shared). With ``--motions copd03 l2r06`` every whole CT becomes a twin of
each breathing too, and the outline of the phase made is compared with the true one. Where a CT has expert contours
(RTSTRUCT), so is its own. Killed and started again, it goes on. Writes OUT/outlines.md and a picture for every row.
"""

from __future__ import annotations

import argparse
import gzip
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.path import Path as Polygon
from pydicom import dcmread
from quality import PARAMETERS, SHARED, breathing, read, table
from scipy import ndimage

from analysis.anatomy.outline import Outline
from analysis.figures.views import EDGES, PLANES, aspect, oriented, view
from analysis.pipeline.phase import Phase
from analysis.truth.twins import make_twin
from analysis.truth.validation import dice
from analysis.volume import Grid, Labels, Mask, Volume

#: Whole lungs: those that become twins.
WHOLE = ("Siemens", "Philips", "tumour", "pneumonia")
PARTS = ("POPI 10 %", "POPI 60 %", "right lung, larger", "right lung, smaller")
#: Crops of a right lung as multi-frame secondary captures, feet last, without spacing, HU + 1000; 1 mm is assumed.
CROPS = {"4D-Lung exhaled": "4dlung118-phase4", "4D-Lung inhaled": "4dlung118-phase8"}
CONTOURS = {"tumour": "real-ct/lung1-001-rtstruct.dcm"}
#: Where planes go through, as shares of each lung's own extent.
AT = (0.25, 0.5, 0.75)
COLOURS = ("#00e5ff", "#ffb000")
Row = dict[str, Any]


def main() -> None:
    """Every CT, then every twin."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--motions", nargs="*", default=[], help="names of breathings, for twins")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows = [once(given.out, name, lambda name=name: real(name)) for name in (*WHOLE, *PARTS, *CROPS)]
    for name in WHOLE:
        for case in given.motions:
            rows.append(once(given.out, f"{name} x {case}", lambda name=name, case=case: twin(name, case)))
    lines = ["## The lungs' outline on real CTs and twins of them\n", *table(iter(rows))]
    lines += [f"![{row['CT']}]({picture(row['CT'])})" for row in rows]
    (given.out / "outlines.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def picture(name: str) -> str:
    """File name of a row's picture."""
    return f"{name.replace(' ', '_').replace('%', 'percent').replace(',', '')}.png"


def once(out: Path, name: str, make: Any) -> Row:
    """The row of a CT, made with its picture where it is not there already."""
    path = (out / picture(name)).with_suffix(".json")
    if not path.exists():
        phase, truth = make()
        drawn(phase, name).savefig(out / picture(name))
        path.write_text(json.dumps({"CT": name, **judged(phase, truth)}))
        print(name, "done", flush=True)
    return dict(json.loads(path.read_text()))


def real(name: str) -> tuple[Phase, Labels | None]:
    """A real CT, and the lungs that an expert drew on its working grid."""
    if name in CROPS:
        with gzip.open(SHARED / "real-pair" / f"{CROPS[name]}.dcm.gz") as file:
            array = dcmread(BytesIO(file.read())).pixel_array[::-1].astype(np.int16) - 1000
        return Phase.of(Volume(array, Grid.axial(array.shape, (1.0, 1.0, 1.0))), PARAMETERS), None
    volume = read(name)
    phase = Phase.of(volume, PARAMETERS)
    if name not in CONTOURS:
        return phase, None
    drawn_lungs = expert(SHARED / CONTOURS[name], volume.grid)
    return phase, coarse(drawn_lungs, phase)


def coarse(labels: Labels, phase: Phase) -> Labels:
    """Labels of the CT's own voxels on the working grid: where at least half of a voxel has them."""
    k, j, i = phase.factors
    box = tuple(slice(b.start * f, b.stop * f) for b, f in zip(phase.box, phase.factors, strict=True))
    n = phase.work.grid.shape
    blocks = labels[box].reshape(n[0], k, n[1], j, n[2], i)
    out = np.zeros(n, dtype=np.uint8)
    for label in (1, 2):
        out[(blocks == label).mean(axis=(1, 3, 5)) >= 0.5] = label
    return out


def expert(path: Path, grid: Grid) -> Labels:
    """Both lungs of an RTSTRUCT (Lung-Right, Lung-Left) on an axial CT, by the voxels' centres: 1 right, 2 left."""
    structures = dcmread(path)
    names = {int(r.ROINumber): str(r.ROIName) for r in structures.StructureSetROISequence}
    out = np.zeros(grid.shape, dtype=np.uint8)
    for roi in structures.ROIContourSequence:
        label = {"Lung-Right": 1, "Lung-Left": 2}.get(names[int(roi.ReferencedROINumber)], 0)
        for contour in roi.ContourSequence if label else ():
            points = grid.indices(np.array(contour.ContourData, dtype=np.float64).reshape(-1, 3))
            k, rows_columns = round(float(points[0, 0])), points[:, 1:]
            low = np.maximum(np.floor(rows_columns.min(axis=0)).astype(int), 0)
            high = np.minimum(np.ceil(rows_columns.max(axis=0)).astype(int) + 1, grid.shape[1:])
            centres = np.moveaxis(np.indices(high - low), 0, -1).reshape(-1, 2) + low
            inside = Polygon(rows_columns).contains_points(centres).reshape(high - low)
            out[k, low[0] : high[0], low[1] : high[1]][inside] = label
    return out


def twin(name: str, case: str) -> tuple[Phase, Labels]:
    """The expiration made from a real CT by a breathing, and its true lungs on the working grid."""
    volume = read(name)
    phase = Phase.of(volume, PARAMETERS)
    made = make_twin(volume, phase.fine(phase.lungs), "inspiration", breathing(case))
    exp = Phase.of(made.expiratory, PARAMETERS)
    return exp, made.truth_on(exp.work.grid).lungs


def judged(phase: Phase, truth: Labels | None) -> Row:
    """Volumes, the outline's numbers, what is said, and how the outline agrees with the true one."""
    outline: Outline = phase.scan.outline
    ml = [float((phase.lungs == n).sum()) * phase.work.grid.voxel_ml for n in (1, 2)]
    row: Row = {
        "right ml": ml[0],
        "left ml": ml[1],
        "walled gas ml": outline.gas_ml,
        "loose ml": outline.loose_ml,
        "pit ml": outline.pit_ml,
    }
    for n, side in ((1, "right"), (2, "left")):
        row[f"Dice {side}"], row[f"HD95 {side} mm"] = "", ""
        if truth is not None:
            row[f"Dice {side}"] = f"{dice(phase.lungs == n, truth == n):.4f}"
            row[f"HD95 {side} mm"] = f"{hd95(phase.lungs == n, truth == n, phase.work.grid):.2f}"
    found = [f for f in phase.scan.findings("it") if f.verdict != "pass"]
    return {**row, "said": "; ".join(f"{f.verdict}: {f.sentence}" for f in found)}


def hd95(a: Mask, b: Mask, grid: Grid) -> float:
    """The 95th percentile of both surfaces' distances, mm."""
    out = []
    for one, other in ((a, b), (b, a)):
        far = [ndimage.distance_transform_edt(m, sampling=grid.spacing) for m in (~other, other)]
        surface = one & ~ndimage.binary_erosion(one)
        out.append((far[0] + far[1])[surface])
    return float(np.percentile(np.concatenate(out), 95))


def drawn(phase: Phase, name: str) -> Figure:
    """Three planes at three places through the lungs, with the outline of both."""
    figure = Figure(figsize=(13, 12), dpi=70, facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    grid = phase.work.grid
    lung = phase.lungs > 0
    for row, plane in enumerate(PLANES):
        _, _, through = view(grid, plane)
        seen = np.flatnonzero(lung.any(axis=tuple(a for a in range(3) if a != through)))
        for column, share in enumerate(AT):
            axes = figure.add_subplot(3, 3, 3 * row + column + 1)
            at = int(seen[round(share * (len(seen) - 1))])
            hu, labels = (
                oriented(np.take(a, at, axis=through), grid, plane)
                for a in (np.asarray(phase.work.array), phase.lungs)
            )
            shape = dict(aspect=aspect(grid, plane), interpolation="nearest")
            axes.imshow(hu, cmap="gray", vmin=-1050, vmax=250, **shape)
            for n, colour in enumerate(COLOURS, 1):
                if (labels == n).any():
                    axes.contour(labels == n, levels=[0.5], colors=[colour], linewidths=0.9)
            left, right, up, down = EDGES[plane]
            axes.set_title(f"{plane} {at}   {left}|{right} {up}/{down}", color="white", fontsize=9)
            axes.set_axis_off()
    figure.suptitle(name, color="white")
    return figure


if __name__ == "__main__":
    main()
