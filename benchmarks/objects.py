"""Seconds, MB and peak memory of every kind of object for a 512 x 512 x 400 CT: `python benchmarks/objects.py`."""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from made import analysis_of, case_from

from analysis.volume import Grid, Volume
from dicom_node.dicom.ct_writer import Scan, write_ct_series
from dicom_node.dicom.pixels import load_volume
from dicom_node.model import Series
from dicom_node.results.kinds import OBJECT_KINDS, build_objects


def chest(shape: tuple[int, int, int]) -> Volume:
    """An ellipse of soft tissue with two lungs, and noise: compresses as a CT does."""
    k, j, i = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    hu = np.full(shape, -1000, dtype=np.int16)
    hu[:, (j[:, None] / 0.7) ** 2 + (i / 0.9) ** 2 < 1] = 40
    for side in (-0.45, 0.45):
        inside = ((j[:, None] / 0.5) ** 2 + ((i - side) / 0.32) ** 2)[None] + (
            k[:, None, None] / 0.95
        ) ** 6 < 1
        hu[inside] = -780
    rng = np.random.default_rng(1)
    for plane in hu:
        plane += rng.normal(0, 25, plane.shape).astype(np.int16)
    return Volume(hu, Grid.axial(shape, (0.8, 0.7, 0.7), (-180.0, -180.0, -300.0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=400)
    slices = parser.parse_args().slices
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        exp = write_ct_series(chest((slices, 512, 512)), folder / "e", Scan("Exp", "s", 2))
        insp = write_ct_series(chest((slices, 512, 512)), folder / "i", Scan("Insp", "s", 1))
        case = case_from(exp, insp)
        paths = {p.stem: p for p in exp}
        analysis = analysis_of(case.pair.expiratory, work=3)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        seconds: dict[str, float] = defaultdict(float)
        sizes: dict[str, list[int]] = defaultdict(list)
        processor: dict[str, float] = defaultdict(float)
        began = last = time.perf_counter()
        used = time.process_time()
        ready = {}
        for kind, ds in build_objects(
            analysis, case, lambda: read(case.pair.expiratory, paths), OBJECT_KINDS
        ):
            ds.save_as(folder / "x.dcm", enforce_file_format=True)
            now = time.perf_counter()
            seconds[kind] += now - last
            processor[kind] += time.process_time() - used
            used = time.process_time()
            sizes[kind].append((folder / "x.dcm").stat().st_size)
            last, ready[kind] = now, now - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{'kind':12} {'objects':>7} {'MB':>8} {'s':>6} {'CPU s':>6}")
    for kind, own in sizes.items():
        print(f"{kind:12} {len(own):7} {sum(own) / 1e6:8.1f} {seconds[kind]:6.1f} {processor[kind]:6.1f}")
    without = seconds["labelmap"] + seconds["text_sr"]
    print(f"SEG + SR + captures ready after {ready['captures'] - without:.1f} s")
    print(f"peak memory {peak:.2f} GiB ({before:.2f} GiB before the first object)")


def read(series: Series, paths: dict[str, Path]) -> Volume:
    return load_volume(series, paths)


if __name__ == "__main__":
    main()
