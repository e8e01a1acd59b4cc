"""How often the stated uncertainty holds the truth: `python benchmarks/firmness.py FOLDER`.

Real CTs of `$VQ_SHARED` (or ../shared) breathe like other patients, with six planted defects; whatever a result says of
both lungs, each lung and each zone is compared with the truth in the same voxels. Prints which share of the errors lies
within 1 and 1.96 stated standard uncertainties, for the twins on which the factors of `analysis/pipeline/firmness.py`
were set and for twins that were held out. About 100 s of processor time a twin; FOLDER keeps what is made, so that a
run that was ended goes on.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from quality import breathing, read

from analysis.anatomy.regions import ZONES_OF, zones
from analysis.parameters import Parameters
from analysis.pipeline.phase import Phase
from analysis.pipeline.pipeline import analyse_phases
from analysis.pipeline.uncertainty import FRACTIONS, percents
from analysis.truth.scanner import Look
from analysis.truth.twins import make_twin
from analysis.truth.validation import LOW_Q, LOW_V, dice, on_working_grid, true_classes_of
from analysis.volume import Volume

PARAMETERS = Parameters(accept_failed_checks=True)
#: CT, whose motion, and what keeps its density (`Look.vessels`).
Spec = tuple[str, str, str]
SET_ON: tuple[Spec, ...] = (
    ("Siemens", "l2r01", "share"),
    ("Siemens", "l2r17", "share"),
    ("Philips", "l2r08", "dense"),
    ("tumour", "l2r03", "share"),
    ("tumour", "l2r14", "dense"),
    ("pneumonia", "l2r06", "dense"),
    ("pneumonia", "l2r11", "dense"),
)
HELD_OUT: tuple[Spec, ...] = (
    ("Philips", "l2r16", "share"),
    ("Siemens", "l2r12", "dense"),
    ("POPI 10 %", "l2r04", "share"),
    ("Siemens", "copd04", "dense"),
)
#: Pixels are averaged to at most this: the working grid does no less (mm).
PIXEL_MM = 1.45
#: Found, true, and stated standard uncertainty of a fraction of a region, percent of the classified lung; and the Dice
#: coefficients "low V" and "low Q".
Rows = dict[str, dict[str, tuple[float, float, float]]]
Twin = tuple[Rows, dict[str, float]]


@lru_cache(maxsize=1)
def inspiration(name: str) -> tuple[Volume, Phase]:
    """Return a real CT with larger pixels, and what is known of it."""
    whole = read(name)
    factor = max(1, int(PIXEL_MM // whole.grid.spacing[1]))
    grid = whole.grid.coarsen((1, factor, factor))
    k, j, i = grid.shape
    part = np.asarray(whole.array)[:, : j * factor, : i * factor].reshape(k, j, factor, i, factor)
    volume = Volume(np.rint(part.mean(axis=(2, 4), dtype=np.float32)).astype(np.int16), grid)
    return volume, Phase.of(volume, PARAMETERS)


def rows_of(spec: Spec) -> Twin:
    """Make a twin and analyse it."""
    name, case, vessels = spec
    volume, insp = inspiration(name)
    motion = breathing(case)
    seed = sum(map(ord, ":".join(spec))) % 97
    twin = make_twin(volume, insp.fine(insp.lungs), "inspiration", motion, None, Look(vessels=vessels), seed)  # type: ignore[arg-type]
    found = analyse_phases(insp, Phase.of(twin.expiratory, PARAMETERS), PARAMETERS)
    true_class = true_classes_of(found, twin.truth_on(found.grid))
    zone = zones(on_working_grid(found.lungs, found), found.grid)
    true = percents(true_class, {region: np.isin(zone, labels) for region, labels in ZONES_OF.items()})
    rows: Rows = {
        region: {one: (row[one], true[region][one], row[f"{one}_sd"]) for one in FRACTIONS}
        for region, row in found.measures.items()
    }
    classes = np.where(true_class > 0, on_working_grid(found.classes, found), 0)
    overlap = {
        name: dice(np.isin(classes, low), np.isin(true_class, low))
        for name, low in (("low V", LOW_V), ("low Q", LOW_Q))
    }
    return rows, overlap


def twins_table(specs: Sequence[Spec], made: Sequence[Twin]) -> list[str]:
    """Return the lines of a table: how well each twin's low V, low Q and fractions were found."""
    lines = ["| twin | vessels | low V | low Q | " + " | ".join(FRACTIONS) + " |"]
    lines.append("|---|---|---|---|" + "---|" * len(FRACTIONS))
    for (name, case, vessels), (rows, overlap) in zip(specs, made, strict=True):
        pairs = " | ".join(f"{rows['lungs'][n][0]:.1f} / {rows['lungs'][n][1]:.1f}" for n in FRACTIONS)
        dices = " | ".join(f"{overlap[n]:.3f}" for n in ("low V", "low Q"))
        lines.append(f"| {name} x {case} | {vessels} | {dices} | {pairs} |")
    return lines


def table(rows: list[Rows]) -> list[str]:
    """Return the lines of a table: shares of errors within 1 and 1.96 standard uncertainties."""
    lines = ["| fraction | of | n | within 1 | within 1.96 | mean error | rms error | mean uncertainty |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    whole = "lungs", "right", "left"
    for one in FRACTIONS:
        for words, wanted in (("lungs", True), ("zones", False)):
            pairs = [row[region][one] for row in rows for region in row if (region in whole) == wanted]
            found, true, sd = np.array(pairs).T
            error = found - true
            z = np.abs(error) / np.maximum(sd, 1e-9)
            lines.append(
                f"| {one} | {words} | {len(pairs)} | {100 * (z < 1).mean():.0f} % | {100 * (z < 1.96).mean():.0f} % "
                f"| {error.mean():+.1f} | {np.sqrt((error**2).mean()):.1f} | {sd.mean():.1f} |"
            )
    return lines


def main() -> None:
    """Make what is missing in FOLDER, and print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for words, specs in (("set on", SET_ON), ("held out", HELD_OUT)):
        made = []
        for spec in specs:
            file = folder / f"{' '.join(spec)}.json"
            if not file.exists():
                part = file.with_suffix(".part")
                part.write_text(json.dumps(rows_of(spec)))
                os.replace(part, file)
            made.append(json.loads(file.read_text()))
        print(f"\n## Twins {words}: {len(made)}\n", *table([rows for rows, _ in made]), sep="\n")
        print("\nFound / true, percent:\n", *twins_table(specs, made), sep="\n", flush=True)


if __name__ == "__main__":
    main()
