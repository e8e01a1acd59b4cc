"""How good and how fast the registration is, beside a peer, in one run: `python benchmarks/registration.py OUT`.

Needs the real data of `$VQ_SHARED` (or ../shared). Writes registration.md, registration.json and growth.png into OUT.
The peer is installed into OUT/peers on the first run. ``--twins 2`` makes fewer twins, ``--no-peer`` leaves it out.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import ndimage

from analysis.anatomy.lungs import segment
from analysis.pipeline.pipeline import Parameters, Phase, analyse, analyse_phases
from analysis.registration.registration import jacobian, register
from analysis.truth.twins import Twin, make_twin
from analysis.truth.validation import Comparison, Distances, compare, landmark_errors, landmark_misses
from analysis.volume import Grid, Labels, Volume
from analysis.vq.classes import VQClass
from dicom_node.research.validate import read_image, read_motion, read_points

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("VQ_SHARED", HERE.parent.parent / "shared"))
CTS = {"Siemens": "normal001-siemens-jpegll.zip", "Philips": "popi-00-philips.zip"}
OUTLIER = 20
SIZES = (100, 200, 300, 400)
Row = dict[str, Any]


def main() -> None:
    """Everything, one table after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--twins", type=int, default=6, help="motions a CT is given, the largest first")
    parser.add_argument("--no-peer", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    python = None if given.no_peer else peer_python(given.out / "peers")
    results: dict[str, list[Row]] = {
        "real pair": real_pair(python), "identical images": identical(), "compiling": compiling()
    }  # fmt: skip
    results["twins"], pair = twins(given.twins, python)
    results["size"] = growth(pair, given.out)
    (given.out / "registration.json").write_text(json.dumps(results, indent=1) + "\n")
    text = "\n".join(line for name, rows in results.items() for line in table(name, rows))
    (given.out / "registration.md").write_text(text)
    print(text)


def peer_python(folder: Path) -> Path:
    """The interpreter of the peers' own environment, made where it is missing."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", HERE / "peers.txt"], check=True)
    return python


def real_pair(python: Path | None) -> list[Row]:
    """One right lung at two inflations, its masks given, 50 landmarks."""
    folder = SHARED / "real-pair"
    fixed, affine = read_image(folder / "3DCT_lung_baseline.mha")
    moving, _ = read_image(folder / "3DCT_lung_followup.mha")
    masks = [
        (np.asarray(read_image(folder / f"3DCT_lung_{name}_mask.mha")[0].array) > 0).astype(np.uint8)
        for name in ("baseline", "followup")
    ]
    here, there = (
        np.delete(read_points(folder / f"CT_3D_lung_{name}_point_set_corrected.txt", affine), OUTLIER, axis=0)
        for name in ("fixed", "moving")
    )
    register(fixed, masks[0], moving, masks[1])
    start = time.perf_counter()
    found = register(fixed, masks[0], moving, masks[1])
    seconds = time.perf_counter() - start
    own = landmark_misses(found.displacement, fixed.grid, here, there)
    row = {"method": "this", "seconds": seconds, **landmark_row(own, there, moving.grid)}
    rows = [{**row, **asdict(found.quality)}]
    for spacing in (2.0, 1.4) if python else ():
        u, grid, seconds = convexadam(python, (fixed, moving), (masks[0], masks[1]), spacing)
        misses = landmark_misses(u, grid, here, there)
        shared = float(np.sqrt((misses * own).sum(axis=1).mean()))
        row = {"method": f"ConvexAdam, {spacing} mm", "seconds": seconds}
        rows.append({**row, **landmark_row(misses, there, moving.grid), "rms shared with this": shared})
    return rows


def landmark_row(misses: np.ndarray, there: np.ndarray, grid: Grid) -> Row:
    """Errors as they are, and with each carried landmark moved onto the grid of the landmarks it is compared with."""
    error = Distances.of(np.linalg.norm(misses, axis=1))
    parts = landmark_parts(there, grid)
    on_grid = grid.points(np.rint(grid.indices(there + misses) * parts) / parts)
    snapped = Distances.of(np.linalg.norm(on_grid - there, axis=1))
    rms = float(np.sqrt((misses**2).sum(axis=1).mean()))
    return {**distances(error), "rms": rms, "snapped mean": snapped.mean, "snapped median": snapped.median}


def landmark_parts(points: np.ndarray, grid: Grid) -> np.ndarray:
    """Into how many parts voxels are cut along k, j, i by the coarsest grid on which all landmarks lie."""
    index = grid.indices(points)
    return np.array([
        next(part for part in (1, 2, 4, 8, 16, 1000) if np.abs(a * part - np.rint(a * part)).max() < 0.02)
        for a in index.T
    ])  # fmt: skip


def identical() -> list[Row]:
    """The same image twice: the largest displacement, mm."""
    volume, _ = read_image(SHARED / "real-pair" / "3DCT_lung_baseline.mha")
    lungs = segment(volume).labels
    found = register(volume, lungs, volume, lungs)
    return [{"largest displacement mm": float(np.abs(found.displacement[lungs > 0]).max())}]


def compiling() -> list[Row]:
    """A small registration in a new process without and with compiled kernels on the disk, s."""
    with tempfile.TemporaryDirectory() as folder:
        script = (
            "import time; from benchmarks.registration import warm_up; t = time.perf_counter(); warm_up()"
        )
        seconds = [
            float(
                subprocess.run(
                    [sys.executable, "-c", f"{script}; print(time.perf_counter() - t)"],
                    check=True, capture_output=True, text=True, cwd=HERE.parent,
                    env={**os.environ, "NUMBA_CACHE_DIR": folder},
                ).stdout
            )
            for _ in range(2)
        ]  # fmt: skip
    return [{"cold s": seconds[0], "warm s": seconds[1]}]


def twins(count: int, python: Path | None) -> tuple[list[Row], tuple[Volume, Volume]]:
    """Each real CT breathing as each patient; the pair that the sizes are measured with."""
    rows: list[Row] = []
    pair = None
    for maker, name in CTS.items():
        volume, _ = read_image(SHARED / "real-ct" / name)
        labels = segment(volume).labels
        for n, case in enumerate(("04", "05", "01", "06", "02", "03")[:count]):
            motion = read_motion(SHARED / "real-motion" / f"copd{case}.npz")
            twin = make_twin(volume, labels, "inspiration", motion)
            row, phases, truth = twin_row(twin)
            rows.append({"twin": f"{maker} x copd{case}", **row})
            print(rows[-1], flush=True)
            if python and n == 0:
                rows.append(
                    {
                        "twin": f"{maker} x copd{case}, ConvexAdam 2 mm",
                        **peer_row(python, phases, truth, twin),
                    }
                )
                print(rows[-1], flush=True)
            pair = pair or (twin.inspiratory, twin.expiratory)
    numbers = [r for r in rows if "ConvexAdam" not in r["twin"]]
    worst = {k: max(abs(r[k]) for r in numbers) for k in ("mean", "p95", "landmarks", "closure %", "folding")}
    least = {k: min(r[k] for r in numbers) for k in ("low V", "low Q", "low V of best", "low Q of best")}
    assert pair is not None
    return [*rows, {"twin": "worst", **worst, **least}], pair


def twin_row(twin: Twin) -> tuple[Row, tuple[Phase, Phase], Any]:
    """One twin analysed and compared."""
    parameters = Parameters(accept_failed_checks=True)
    start = time.perf_counter()
    phases = Phase.of(twin.inspiratory, parameters), Phase.of(twin.expiratory, parameters)
    lungs_ready = time.perf_counter()
    marks: dict[str, float] = {}

    def progress(stage: str, share: float) -> None:
        marks.setdefault(stage, time.perf_counter())

    analysis = analyse_phases(*phases, parameters, progress)
    end = time.perf_counter()
    truth = twin.truth_on(analysis.grid)
    found = compare(analysis, phases, truth, (twin.exp_landmarks, twin.insp_landmarks))
    motion = float(np.linalg.norm(twin.insp_landmarks - twin.exp_landmarks, axis=1).mean())
    return (
        {
            "motion mm": motion,
            "seconds": marks["maps"] - lungs_ready,
            "analyse s": end - start,
            **distances(found.error),
            "landmarks": found.landmarks.mean,
            "closure %": 100 * analysis.registration.closure,
            "folding": analysis.registration.folding,
            "inverse mm": analysis.registration.inverse_consistency,
            **classes_row(found),
        },
        phases,
        truth,
    )


def classes_row(found: Comparison) -> Row:
    """Dice, what share of the true field's Dice that is, and the total abnormal."""
    return {
        "low V": found.found.low_v,
        "low V of best": found.found.low_v / found.best.low_v,
        "low Q": found.found.low_q,
        "low Q of best": found.found.low_q / found.best.low_q,
        "abnormal %": found.found.total_abnormal,
        "true field %": found.best.total_abnormal,
        "truth %": 100 - found.truth[VQClass.NORMAL],
    }


def peer_row(python: Path, phases: tuple[Phase, Phase], truth: Any, twin: Twin) -> Row:
    """ConvexAdam on the same volumes and masks."""
    insp, exp = phases
    u, grid, seconds = convexadam(python, (exp.work, insp.work), (exp.lungs, insp.lungs), 2.0)
    here = exp.work.grid
    at = grid.indices(here.centres().reshape(-1, 3).astype(np.float64)).T
    parts = [ndimage.map_coordinates(u[..., c], at, order=1, mode="nearest") for c in range(3)]
    dense = np.stack(parts, axis=-1).reshape(*here.shape, 3)
    inside = truth.lungs > 0
    error = Distances.of(np.linalg.norm(dense - truth.displacement, axis=-1)[inside])
    marks = landmark_errors(dense, here, twin.exp_landmarks, twin.insp_landmarks)
    along = jacobian((dense @ here.directions).astype(np.float32), here.spacing)
    return {
        "seconds": seconds, **distances(error), "landmarks": float(marks.mean()),
        "folding": float((along[exp.lungs > 0] <= 0).mean()),
    }  # fmt: skip


def convexadam(
    python: Path, volumes: tuple[Volume, Volume], lungs: tuple[Labels, Labels], spacing: float
) -> tuple[np.ndarray, Grid, float]:
    """Displacement (k, j, i, 3) mm LPS on an isotropic grid around the fixed lungs; the lungs' centres meet."""
    centres = [
        v.grid.points(np.argwhere(m > 0)[::97]).mean(axis=0) for v, m in zip(volumes, lungs, strict=True)
    ]
    reach = [
        np.abs(v.grid.points(np.argwhere(m > 0)[::97]) - c).max(axis=0)
        for v, m, c in zip(volumes, lungs, centres, strict=True)
    ]
    half = np.max(reach, axis=0)[::-1] + 10
    shape = tuple(int(n) for n in np.ceil(2 * half / spacing / 12).astype(int) * 12)
    arrays, grids = {}, []
    for name, volume, mask, centre in zip(("fixed", "moving"), volumes, lungs, centres, strict=True):
        low = centre - np.array(shape)[::-1] * spacing / 2
        grid = Grid.axial(shape, (spacing,) * 3, tuple(low))
        at = volume.grid.indices(grid.centres().reshape(-1, 3).astype(np.float64)).T.reshape(3, *shape)
        arrays[name] = ndimage.map_coordinates(volume.array.astype(np.float32), at, order=1, cval=-1000)
        arrays[f"{name}_mask"] = ndimage.map_coordinates((mask > 0).astype(np.float32), at, order=1) > 0.5
        grids.append(grid)
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(given, **arrays)
        subprocess.run(
            [python, HERE / "convexadam_peer.py", given, made], check=True, stdout=subprocess.DEVNULL
        )
        answer = np.load(made)
        u = answer["u"][..., ::-1] * spacing + (centres[1] - centres[0])
        return u.astype(np.float32), grids[0], float(answer["seconds"])


def growth(pair: tuple[Volume, Volume], out: Path) -> list[Row]:
    """The whole analysis of one pair resampled to 512 x 512 x n, each in a process of its own; and a figure."""
    rows = []
    for slices in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            for name, volume in zip(("insp", "exp"), pair, strict=True):
                small = resampled(volume, slices)
                np.savez(Path(folder) / name, hu=small.array, affine=small.grid.affine)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                rows.append({"slices": slices, **pool.apply(measured, (folder,))})
        print(rows[-1], flush=True)
    figure = Figure(figsize=(7, 3.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    voxels = [512 * 512 * r["slices"] * 2 / 1e6 for r in rows]
    for axis, key, label in ((left, "analyse s", "analysis, s"), (right, "peak GiB", "peak memory, GiB")):
        axis.plot(voxels, [r[key] for r in rows], "o-")
        axis.set(xlabel="voxels of both phases, millions", ylabel=label, ylim=(0, None))
    figure.savefig(out / "growth.png")
    return rows


def resampled(volume: Volume, slices: int) -> Volume:
    """The same body in 512 x 512 x ``slices`` voxels."""
    old = volume.grid
    factors = np.array([slices, 512, 512]) / np.array(old.shape)
    hu = ndimage.zoom(volume.array, factors, order=1, grid_mode=True, mode="nearest")
    affine = old.affine.copy()
    affine[:3, :3] = affine[:3, :3] / factors
    affine[:3, 3] = old.points(np.array([0.5 / factors - 0.5]))[0]
    return Volume(hu, Grid(hu.shape, affine))


def measured(folder: str) -> Row:
    """Seconds and peak memory of `analyse`, warm (a small run first loads the compiled kernels)."""
    volumes = []
    for name in ("insp", "exp"):
        with np.load(Path(folder) / f"{name}.npz") as data:
            volumes.append(Volume(data["hu"], Grid(data["hu"].shape, data["affine"])))
    parameters = Parameters(accept_failed_checks=True)
    warm_up()
    marks: dict[str, float] = {}
    start = time.perf_counter()
    analyse(*volumes, parameters, lambda stage, share: marks.setdefault(stage, time.perf_counter()) and None)
    end = time.perf_counter()
    status = Path("/proc/self/status").read_text()  # not ru_maxrss, which a child takes over from its parent
    peak = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 2**20
    return {"seconds": marks["maps"] - marks["registration"], "analyse s": end - start, "peak GiB": peak}


def warm_up() -> None:
    """Load or compile every kernel of the registration on a small ball."""
    grid = Grid.axial((40, 40, 40), (2.0, 2.0, 2.0))
    rng = np.random.default_rng(0)
    hu = (-800 + 60 * rng.standard_normal(grid.shape)).astype(np.int16)
    ball = (np.linalg.norm(np.indices(grid.shape).transpose(1, 2, 3, 0) - 20, axis=-1) < 15).astype(np.uint8)
    register(Volume(hu, grid), ball, Volume(hu, grid), ball)


def distances(d: Distances) -> Row:
    """As columns."""
    return {"mean": d.mean, "median": d.median, "p95": d.p95}


def table(name: str, rows: list[Row]) -> list[str]:
    """A Markdown table."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [f"## {name}", "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = [row.get(c, "") for c in columns]
        lines.append("| " + " | ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in cells) + " |")
    return [*lines, ""]


if __name__ == "__main__":
    sys.exit(main())
