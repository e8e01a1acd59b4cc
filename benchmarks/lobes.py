"""How well lobes are found: `lobes.py OUT`, phantoms of known fissures; `lobes.py OUT CT ...`, CTs as files, too.

Prints tables of Markdown: of every fissure the share that is seen and the same by chance; in phantoms the mean distance
(mm) to the truth where there is a sheet and where there is none; of CTs the volumes of the lobes. OUT gets a picture
of every one, four sagittal and four coronal slices, to be looked at.

`lobes.py OUT --pairs` compares both phases instead: the lobes of each CT of a pair are found apart, and those of
inspiration are carried to expiration by our registration. It needs the real data of `$VQ_SHARED` (or ../shared): real
pairs, and twins of the real CTs, whose true motion is known. OUT keeps what is made: a run that was ended goes on.
"""

import argparse
import json
import time
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from quality import breathing, read
from scipy.spatial import cKDTree

from analysis.lobes.lobes import FoundLobes, find
from analysis.parameters import Parameters
from analysis.pipeline.lobes import Lobes
from analysis.pipeline.phase import Phase
from analysis.registration.registration import register
from analysis.truth.breathing import PhaseName
from analysis.truth.fissures import MEET, FissureShape, distances, fissure_phantom, on_grid
from analysis.truth.twins import Twin, make_twin
from analysis.truth.validation import dice
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
#: Real pairs: inspiration and expiration.
PAIRS = {
    "right-lung pair": ("right lung, larger", "right lung, smaller"),
    "POPI 10 % and 60 %, thinned": ("POPI 10 %", "POPI 60 %"),
    "POPI 0 % and 60 %, thinned": ("Philips", "POPI 60 %"),
    "POPI 0 % and 10 %, thinned": ("Philips", "POPI 10 %"),
}
PHANTOM = "phantom of 80 %"
#: Twins: a real CT or the phantom, the phase it stands for, and whose motion makes the other.
TWINS: tuple[tuple[str, PhaseName, str], ...] = (
    (PHANTOM, "inspiration", "copd04"),
    (PHANTOM, "expiration", "copd04"),
    ("Siemens", "inspiration", "copd04"),
    ("tumour", "inspiration", "copd04"),
    ("pneumonia", "inspiration", "copd04"),
    ("Philips", "inspiration", "copd04"),
    ("Siemens", "inspiration", "l2r08"),
)
PARAMETERS = Parameters()
Found = tuple[Phase, FoundLobes]
Row = dict[str, list[float]]


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("cts", type=Path, nargs="*")
    parser.add_argument("--pairs", action="store_true", help="compare both phases of pairs instead")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.pairs:
        pairs_table(given.out)
    else:
        phantoms_table(given.out)
        cts_table(given.out, given.cts)


def phantoms_table(out: Path) -> None:
    """Print how far from the truth the fissures of phantoms are found."""
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


def cts_table(out: Path, cts: list[Path]) -> None:
    """Print how much of the fissures is seen on CTs, and the lobes' volumes."""
    print(
        "\n| CT | seen: right oblique, right horizontal, left oblique | volume of RUL, RML, RLL, LUL, LLL (%) | s |"
    )
    print("|---|---|---|---|")
    for path in cts:
        phase = Phase.of(read_ct(path), PARAMETERS)
        found, seconds = timed(phase.ct, phase.lungs, phase.work.grid)
        shares = 100 * np.bincount(found.labels.ravel(), minlength=6)[1:] / max((phase.lungs > 0).sum(), 1)
        seen = ", ".join(f"{one.seen:.2f}" for one in found.fissures.values())
        print(f"| {path.name} | {seen} | {', '.join(f'{s:.1f}' for s in shares)} | {seconds:.0f} |")
        draw(out / f"{path.name}.png", np.asarray(phase.work.array), found.labels, phase.work.grid)


def pairs_table(out: Path) -> None:
    """Print how well the lobes of two phases, found apart, agree where the registration carries one to the other."""
    heads = "firm on inspiration", "firm on expiration", "mm apart", "mm apart by the field alone"
    print(f"Fissures: {', '.join(MEET)}. Lobes: RUL, RML, RLL, LUL, LLL.\n")
    print(f"| pair | {' | '.join(heads)} | Dice of the lobes |")
    print("|---|---|---|---|---|---|")
    makers = {name: partial(real_pair, *both) for name, both in PAIRS.items()}
    makers |= {f"{ct} as {phase} x {case}": partial(twin_pair, ct, phase, case) for ct, phase, case in TWINS}
    for name, make in makers.items():
        file = out / f"{name.replace(' ', '-').replace('%', '').replace(',', '')}.json"
        if not file.exists():
            row = compared(*make(), file.with_suffix(".png"))
            file.write_text(json.dumps(row))
        row = json.loads(file.read_text())
        digits = {"mm apart": 1, "mm apart by the field alone": 1}
        cells = [", ".join(f"{n:.{digits.get(key, 2)}f}" for n in row[key]) for key in (*heads, "Dice")]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def real_pair(insp: str, exp: str) -> tuple[Found, Found, Twin | None]:
    """Return the lobes of both phases of a real pair, whose motion nobody knows."""
    return found_on(read(insp)), found_on(read(exp)), None


def twin_pair(ct: str, phase: PhaseName, case: str) -> tuple[Found, Found, Twin | None]:
    """Return the lobes of both phases of a twin that breathes like another patient."""
    volume, real = real_ct(ct)
    twin = make_twin(volume, real[0].fine(real[0].lungs), phase, breathing(case), ())
    if phase == "inspiration":
        return real, found_on(twin.expiratory), twin
    return found_on(twin.inspiratory), real, twin


@lru_cache(maxsize=1)
def real_ct(ct: str) -> tuple[Volume, Found]:
    """Return a real CT, or the phantom, and its lobes."""
    volume = fissure_phantom(FissureShape(complete=0.8, slice_mm=2)).ct if ct == PHANTOM else read(ct)
    return volume, found_on(volume)


def found_on(volume: Volume) -> Found:
    """Return one phase and its lobes."""
    phase = Phase.of(volume, PARAMETERS)
    return phase, find(phase.ct, phase.lungs, phase.work.grid)


def compared(there: Found, here: Found, twin: Twin | None, picture: Path) -> Row:
    """Carry the lobes of inspiration to expiration, and compare them with those that were found there."""
    (insp, on_insp), (exp, on_exp) = there, here
    field = register(exp.work, exp.lungs, insp.work, insp.lungs, own_voxels=(exp.ct, insp.ct)).displacement
    grid, own = exp.work.grid, on_exp.labels
    carried, true = (
        Lobes("inspiration", on_insp.labels).carried(insp, exp, u, u)[1]
        for u in (field, twin.truth_on(grid).displacement if twin else field)
    )
    draw(picture, np.asarray(exp.work.array), own, grid, carried)
    return {
        "firm on inspiration": [one.firm for one in on_insp.fissures.values()],
        "firm on expiration": [one.firm for one in on_exp.fissures.values()],
        "mm apart": list(apart(own, carried, grid)),
        "mm apart by the field alone": list(apart(true, carried, grid)) if twin else [],
        "Dice": [dice(own == lobe, carried == lobe) for lobe in np.unique(own)[1:]],
    }


def apart(one: Labels, other: Labels, grid: Grid) -> Iterator[float]:
    """Yield the mean distance between the fissures of two sets of lobes, there and back, mm."""
    for pairs in MEET.values():
        a, b = surface(one, grid, pairs), surface(other, grid, pairs)
        if len(a) and len(b):
            yield float(np.mean([cKDTree(x).query(y)[0].mean() for x, y in ((a, b), (b, a))]))


def surface(labels: Labels, grid: Grid, pairs: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Return the centres (n, 3), LPS mm, of the voxels' faces between lobes that meet at a fissure."""
    points = []
    for axis, step in enumerate(np.eye(3)):
        swapped = np.swapaxes(labels, 0, axis)
        low, high = (np.swapaxes(part, 0, axis) for part in (swapped[:-1], swapped[1:]))
        border = np.any([((low == a) & (high == b)) | ((low == b) & (high == a)) for a, b in pairs], axis=0)
        points.append(np.argwhere(border) + step / 2)
    return grid.points(np.concatenate(points))


def timed(ct: Volume, lungs: Labels, grid: Grid) -> tuple[FoundLobes, float]:
    """Return the lobes and the processor time they took, s."""
    start = time.process_time()
    return find(ct, lungs, grid), time.process_time() - start


def draw(path: Path, hu: Float, labels: Labels, grid: Grid, carried: Labels | None = None) -> None:
    """Draw the lobes' outlines on slices of an axial CT; lobes that were carried to it are dashed."""
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
                for found, style in ((labels, "solid"), (carried, "dashed")):
                    inside = None if found is None else np.take(found, n, axis) == lobe
                    if inside is not None and inside.any():
                        place.contour(inside, [0.5], colors=colour, linewidths=0.8, linestyles=style)
            place.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=50)
    plt.close(figure)


if __name__ == "__main__":
    main()
