"""The study with known answers: a made cohort through the whole pipeline: `python benchmarks/reproduce.py OUT`.

46 thorax phantoms with defects of their own are written as DICOM, analysed as `dicom-node run` does, two at a time,
and reported as `dicom-node cohort` does. DLCO is made from the *true* total abnormal of the whole lung, so that r² of
the truth is 0.67. Errors of the fractions are those in the voxels that the result classified.
Killed and started again, it goes on with the cases that are missing. Writes OUT/reproduction.md and OUT/report. What a
case costs (CPU seconds, memory, disk) and how the report's time grows with the number of cases is measured, and what
10,000 cases would cost is reckoned from it.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from analysis.cohort.statistics import Correlation, correlate
from analysis.truth.phantom import Defect, thorax_phantom
from analysis.truth.validation import phantom_truth_on, true_percent
from analysis.vq.classes import VQClass
from dicom_node.commands.demonstration import write_phantom
from dicom_node.research.cohort import read_cohort
from dicom_node.research.cohort_report import FRACTIONS, correlations, write_report
from dicom_node.research.many import run_many
from dicom_node.research.run import Recipe, run
from dicom_node.research.workers import Workers
from dicom_node.results.kinds import DEFAULT_OBJECTS
from dicom_node.results.measures_file import read_measured
from dicom_node.results.record import NAME as RECORD
from dicom_node.results.record import read_record

R2 = 0.67
MANY = 10_000
SIZES = (200, 800, 3200)  # of the cohorts whose report is timed: all with as many panels as a report holds
GROUPS = ("pulmonary embolism",) * 9 + ("chronic lung disease",) * 27 + ("intervention",) * 5
#: Most defects a case of the group gets.
SEVERITY = {"pulmonary embolism": 5, "chronic lung disease": 8, "intervention": 14, "": 6}


def main() -> None:
    """Make, analyse, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--cases", type=int, default=46)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    results = given.out / "results"
    results.mkdir(parents=True, exist_ok=True)
    todo = [n for n in range(given.cases) if not (results / name(n)).exists()]
    print(f"{given.cases - len(todo)} of {given.cases} cases are done already", flush=True)
    begin = time.perf_counter()
    with Workers(given.workers) as workers:
        for done, (n, made) in enumerate(run_many(todo, partial(make_case, results), workers), 1):
            if isinstance(made, BaseException):
                raise made
            seconds = time.perf_counter() - begin
            left = seconds / done * (len(todo) - done)
            print(f"{name(n)}: {done}/{len(todo)}, {seconds:.0f} s, {left:.0f} s left", flush=True)
    table = write_dlco(given.out, given.cases)
    cohort = read_cohort(results, table)
    write_report(cohort, given.out / "report")
    text = "\n".join([*summary(given.out, correlations(cohort)), "", *costs(given.out), ""])
    (given.out / "reproduction.md").write_text(text)
    print(text)


def name(n: int) -> str:
    """Of a case's folder."""
    return f"case{n + 1:03d}"


def group_of(n: int) -> str:
    """Group of a case; as in the study, some have none."""
    return GROUPS[n] if n < len(GROUPS) else ""


def make_case(results: Path, n: int) -> None:
    """One case: phantom, DICOM, analysis, results; its folder appears whole, with truth.json, or not at all."""
    warnings.simplefilter("ignore")
    begin, cpu = time.perf_counter(), time.process_time()
    work = results.parent / "work" / name(n)
    shutil.rmtree(work, ignore_errors=True)
    truth = thorax_phantom(defects(n, SEVERITY[group_of(n)]), seed=n)
    write_phantom(truth, work / "images", lambda stage, share: None)
    made, made_cpu = time.perf_counter() - begin, time.process_time() - cpu
    sources = work / "images" / "insp", work / "images" / "exp"
    run(sources, work / "out", Recipe(objects=(*DEFAULT_OBJECTS, "maps")), lambda stage, share: None)
    seconds, cpu_seconds = time.perf_counter() - begin - made, time.process_time() - cpu - made_cpu
    analysis = read_record(work / "out" / RECORD).analysis
    classified = true_percent(analysis, phantom_truth_on(truth, analysis.grid))
    known = {
        "fractions": with_total({c: 100 * share for c, share in truth.fractions().items()}),
        "fractions where classified": with_total(classified),
        "seconds to make": made,
        "seconds": seconds,
        "CPU seconds": cpu_seconds,
        "result MB": sum(path.stat().st_size for path in (work / "out").rglob("*") if path.is_file()) / 1e6,
        "peak MB": peak_mb(),
        "finished": time.time(),
    }
    (work / "out" / "truth.json").write_text(json.dumps(known))
    (work / "out").rename(results / name(n))
    shutil.rmtree(work)


def with_total(percent: dict[VQClass, float]) -> dict[str, float]:
    """The fractions by their names, and the total abnormal."""
    named = {c.name.lower(): value for c, value in percent.items()}
    return {**named, "total_abnormal": 100 - percent[VQClass.NORMAL]}


def defects(n: int, most: int) -> tuple[Defect, ...]:
    """One to `most` ellipsoids of random place, size and kind."""
    rng = np.random.default_rng(1000 + n)
    kinds = ((True, False), (False, True), (True, True))
    out = []
    for _ in range(int(rng.integers(1, most + 1))):
        centre = rng.choice([-1, 1]) * rng.uniform(55, 90), rng.uniform(-30, 45), rng.uniform(-165, -35)
        size = rng.uniform(14, 40)
        radii = tuple(float(size * rng.uniform(0.8, 1.3)) for _ in range(3))
        kind = kinds[rng.integers(3)]
        out.append(Defect((float(centre[0]), float(centre[1]), float(centre[2])), radii, *kind))  # type: ignore[arg-type]
    return tuple(out)


def peak_mb() -> float:
    """Most memory this process has held, MB."""
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) / 1024


def known_of(out: Path, n: int) -> dict[str, Any]:
    """truth.json of a case."""
    return dict(json.loads((out / "results" / name(n) / "truth.json").read_text()))


def write_dlco(out: Path, cases: int) -> Path:
    """DLCO of every case from its true total abnormal, and noise that leaves r² = `R2`."""
    total = np.array([known_of(out, n)["fractions"]["total_abnormal"] for n in range(cases)])
    noise = np.random.default_rng(7).normal(size=cases)
    noise -= np.polyval(np.polyfit(total, noise, 1), total)
    z = -np.sqrt(R2) * (total - total.mean()) / total.std() + np.sqrt(1 - R2) * noise / noise.std()
    path = out / "dlco.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "dlco", "group"])
        writer.writerows([name(n), f"{70 + 15 * z[n]:.2f}", group_of(n)] for n in range(cases))
    return path


def summary(out: Path, found: dict[str, Correlation | str]) -> list[str]:
    """Found beside true."""
    folders = sorted((out / "results").iterdir())
    known = [known_of(out, n) for n in range(len(folders))]
    rows = list(csv.DictReader((out / "dlco.csv").open()))
    dlco = [float(row["dlco"]) for row in rows]
    lines = ["| against DLCO | r² of the truth | r² found (95 % CI) | r found |", "|---|---|---|---|"]
    for measure in FRACTIONS:
        truth = correlate([k["fractions"][measure] for k in known], dlco)
        one = found[measure]
        assert isinstance(one, Correlation)
        inside = one.r2.low <= truth.r2.value <= one.r2.high
        lines.append(
            f"| {measure.replace('_', ' ')} | {truth.r2.value:.3f} | {one.r2.value:.3f} ({one.r2.low:.3f} to "
            f"{one.r2.high:.3f}): truth {'inside' if inside else '**outside**'} | {one.r.value:+.3f} |"
        )
    measured = [read_measured(folder).lungs for folder in folders]
    lines += ["", "| class | mean error, points | SD | largest |", "|---|---|---|---|"]
    for measure in FRACTIONS:
        true = [k["fractions where classified"][measure] for k in known]
        error = np.array([m[measure] for m in measured]) - true
        lines.append(
            f"| {measure.replace('_', ' ')} | {error.mean():+.2f} | {error.std(ddof=1):.2f} | {abs(error).max():.2f} |"
        )
    return lines


def costs(out: Path) -> list[str]:
    """What a case costs, whether later ones cost more, how the report grows, and 10,000 cases reckoned from that."""
    folders = sorted((out / "results").iterdir())
    known = sorted((known_of(out, n) for n in range(len(folders))), key=lambda k: k["finished"])
    each = {
        key: np.array([k[key] for k in known]) for key in ("seconds", "CPU seconds", "peak MB", "result MB")
    }
    slopes = {key: float(np.polyfit(np.arange(len(known)), values, 1)[0]) for key, values in each.items()}
    cpu, disk = float(np.median(each["CPU seconds"])), float(each["result MB"].mean())
    times = [report_seconds(out, size) for size in SIZES]
    slope, start = np.polyfit(SIZES, times, 1)
    hours = MANY * cpu / 3600
    return [
        f"A case: {np.median(each['seconds']):.0f} s from DICOM to results, {cpu:.0f} CPU s, {disk:.0f} MB of results; "
        f"{np.median([k['seconds to make'] for k in known]):.0f} s to make it. Peak memory of a worker "
        f"{each['peak MB'].max():.0f} MB. From case to case: {slopes['CPU seconds']:+.2f} CPU s, "
        f"{slopes['peak MB']:+.1f} MB of memory.",
        "",
        "The report of "
        + ", ".join(f"{n} cases: {t:.0f} s" for n, t in zip(SIZES, times, strict=True))
        + f" ({start:.0f} s and {1000 * slope:.1f} ms a case).",
        "",
        f"{MANY:,} cases: {hours:.0f} CPU h, {hours / 64 / 24:.1f} days on 64 cores; "
        f"{MANY * disk / 1e6:.1f} TB of results; the report {(start + slope * MANY) / 60:.0f} min.",
    ]


def report_seconds(out: Path, size: int) -> float:
    """Seconds to read and report a cohort of ``size``: the cases, each under several names."""
    rows = list(csv.DictReader((out / "dlco.csv").open()))
    with tempfile.TemporaryDirectory(prefix="cohort-") as folder:
        results = Path(folder) / "results"
        results.mkdir()
        table = Path(folder) / "dlco.csv"
        with table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["case", "dlco", "group"])
            for n in range(size):
                row = rows[n % len(rows)]
                (results / str(n)).symlink_to((out / "results" / row["case"]).resolve())
                writer.writerow([n, row["dlco"], row["group"]])
        begin = time.perf_counter()
        write_report(read_cohort(results, table), Path(folder) / "report")
        return time.perf_counter() - begin


if __name__ == "__main__":
    main()
