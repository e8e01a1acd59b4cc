"""What the results are worth where the truth is known: `python benchmarks/validation.py OUT`.

Four parts, each alone with ``--part``:

convergence    the exact-Jacobian phantom at voxels of 1.5 to 5 mm, with the true field
twins          two real CTs x six patients' breathing: V, Q and classes of every zone beside the truth
repeatability  one twin under noise, kernel, slice thickness and inspiration level
peers          the same input through others' code: the Jacobian by ITK, densities by ITK, PRM by the pipeline of
               Genentech (``--prm FOLDER``, a checkout of Genentech/topological_PRM_for_lungHRCT)

Needs the real data of `$VQ_SHARED` (or ../shared), but for the first part. Killed and started again, it goes on with
the cases that are missing. Writes OUT/validation.md, OUT/cases and two figures.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from peer_values import density_rows, jacobian_rows, prm_rows
from scipy import ndimage, stats

from analysis.anatomy.lungs import segment
from analysis.anatomy.regions import ZONES_OF, zones
from analysis.figures.views import on_working_grid
from analysis.pipeline.pipeline import Analysis, Parameters, Phase, analyse_phases
from analysis.pipeline.uncertainty import FRACTIONS, percents
from analysis.truth.breathing import PhaseName
from analysis.truth.convergence import Errors, convergence, order
from analysis.truth.fields import Field
from analysis.truth.motion import Motion
from analysis.truth.scanner import Look
from analysis.truth.twins import Twin, make_twin
from analysis.truth.validation import BlandAltman, agreement, classes_of_true_field, compare
from analysis.volume import Grid, Labels, Volume
from analysis.vq.classes import VQClass
from dicom_node.research.validate import read_image, read_motion

SHARED = Path(os.environ.get("VQ_SHARED", Path(__file__).parent.parent.parent / "shared"))
CTS = {"Siemens": "normal001-siemens-jpegll.zip", "Philips": "popi-00-philips.zip"}
MOTIONS = ("01", "02", "03", "04", "05", "06")
SIZES = (1.5, 2.0, 2.5, 3.0, 4.0, 5.0)
ZONES = tuple(region for region, zones in ZONES_OF.items() if len(zones) == 1)
CLASSES = tuple(c.name.lower() for c in VQClass if c > VQClass.NORMAL)
PARAMETERS = Parameters(accept_failed_checks=True)
Row = dict[str, Any]


def main() -> None:
    """Every part, one table after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--part", choices=PARTS, action="append", help="only these")
    parser.add_argument("--prm", type=Path, help="checkout of the PRM peer")
    given = parser.parse_args()
    (given.out / "cases").mkdir(parents=True, exist_ok=True)
    for name in given.part or PARTS:
        (given.out / f"{name}.md").write_text("\n".join(PARTS[name](given)) + "\n")
    done = [given.out / f"{name}.md" for name in PARTS]
    text = "\n".join(path.read_text() for path in done if path.exists())
    (given.out / "validation.md").write_text(text)
    print(text)


def once(out: Path, name: str, make: Callable[[], Row]) -> Row:
    """The row of a case, made where it is not there already."""
    path = out / "cases" / f"{name}.json"
    if not path.exists():
        row = make()
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(row))
        draft.rename(path)
        print(f"{name} done", flush=True)
    return dict(json.loads(path.read_text()))


# --- convergence ------------------------------------------------------------------------------------------------


def convergence_part(given: argparse.Namespace) -> Iterator[str]:
    """Table and figure of the errors against the voxel's size."""
    errors = [
        Errors(**once(given.out, f"voxel-{size}", lambda size=size: asdict(convergence([size])[0])))  # type: ignore[misc]
        for size in SIZES
    ]
    figure = Figure(figsize=(7.5, 3.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for name, words in (("v", "V"), ("m", "m")):
        values = [getattr(e, name) for e in errors]
        left.loglog(SIZES, values, "o-", label=f"{words}: order {order(errors, name):.2f}")
    left.loglog(SIZES, [errors[0].v * (s / SIZES[0]) ** 2 for s in SIZES], "k:", label="order 2")
    left.set(ylabel="RMS error, % of the mean")
    left.set_yticks((0.3, 0.5, 1.0, 2.0, 4.0), ("0.3", "0.5", "1", "2", "4"))
    right.plot(SIZES, [e.closure for e in errors], "o-", label="closure, %")
    right.plot(SIZES, [e.fractions for e in errors], "s-", label="largest of a class, points")
    right.set(ylim=(0, None))
    for axes in (left, right):
        axes.set(xlabel="voxel, mm")
        axes.set_xticks(SIZES, [f"{s:g}" for s in SIZES])
        axes.minorticks_off()
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(given.out / "convergence.png")
    yield "## The exact Jacobian against the voxel's size\n"
    yield from table(
        {
            "voxel mm": e.voxel_mm,
            "V %": e.v,
            "m %": e.m,
            "closure %": e.closure,
            "a class, points": e.fractions,
        }
        for e in errors
    )
    yield f"\nOrder: V {order(errors, 'v'):.2f}, m {order(errors, 'm'):.2f}.\n"


# --- twins ------------------------------------------------------------------------------------------------------


def twins_part(given: argparse.Namespace) -> Iterator[str]:
    """Every zone of every twin, found beside true."""
    rows = {}
    for maker, file in CTS.items():
        for case in MOTIONS:
            rows[f"{maker} x copd{case}"] = once(
                given.out,
                f"twin-{maker}-{case}",
                lambda file=file, case=case: compared(*twin(file, case, Look())),  # type: ignore[misc]
            )
    yield "## Twins: V, Q and classes beside the truth\n"
    yield from table(
        {
            "twin": name,
            "mean error mm": row["error mm"],
            "rho V": row["rho_v"],
            "rho Q": row["rho_q"],
            **{f"Dice {c.replace('_', ' ')}": row["dice"][c] for c in ("normal", *CLASSES)},
            **{f"{c.replace('_', ' ')} %": _pair(row, c) for c in (*CLASSES, "total_abnormal")},
        }
        for name, row in rows.items()
    )
    yield "\nFractions: found / true. Over all twins, found - true:\n"
    yield from agreement_table(list(rows.values()))
    yield from uncertainty_table(list(rows.values()))
    agreement_figure(list(rows.values())).savefig(given.out / "agreement.png")
    yield ""


@lru_cache(maxsize=1)
def lungs_of(file: str) -> tuple[Volume, Labels]:
    """A real CT and its lungs."""
    volume, _ = read_image(SHARED / "real-ct" / file)
    return volume, segment(volume).labels


@lru_cache(maxsize=1)
def twin(
    file: str, case: str, look: Look, phase: PhaseName = "inspiration", level: float = 1.0
) -> tuple[Twin, Volume, Volume]:
    """A twin and its two phases; ``level`` is the share of the patient's motion that it takes."""
    motion = shallower(read_motion(SHARED / "real-motion" / f"copd{case}.npz"), level)
    made = make_twin(*lungs_of(file), phase, motion, look=look)
    return made, made.inspiratory, made.expiratory


def shallower(motion: Motion, level: float) -> Motion:
    """The same breathing, ``level`` of its way."""
    fields = {
        n: Field(f.coefficients * np.float32(level), f.origin, f.step) for n, f in motion.fields.items()
    }
    return replace(motion, fields=fields)


def compared(made: Twin, insp: Volume, exp: Volume) -> Row:
    """A pair analysed, and how it compares with the twin's truth."""
    phases = Phase.of(insp, PARAMETERS), Phase.of(exp, PARAMETERS)
    analysis = analyse_phases(*phases, PARAMETERS)
    truth = made.truth_on(analysis.grid)
    marks = made.exp_landmarks, made.insp_landmarks
    beside, found = agreement(analysis, truth), compare(analysis, phases, truth, marks)
    return {
        "error mm": found.error.mean,
        "dice low v": found.found.low_v,
        "dice low q": found.found.low_q,
        "rho_v": beside.rho_v,
        "rho_q": beside.rho_q,
        "dice": {c.name.lower(): value for c, value in beside.dice.items()},
        "regions": beside.regions,
        "mean_v": analysis.measures["lungs"]["mean_v"],
        "mean_q": analysis.measures["lungs"]["mean_q"],
        "uncertainty": uncertainty(analysis, classes_of_true_field(analysis, phases, truth)),
        "comparison": asdict(found),
        "registration": asdict(analysis.registration),
        "failed": [f.sentence for f in analysis.findings if f.verdict == "fail"],
    }


def uncertainty(analysis: Analysis, best: Labels) -> list[tuple[float, float, float]]:
    """Every fraction of every zone: as found, by the true field, and its standard uncertainty; percent."""
    zone = zones(on_working_grid(analysis.lungs, analysis), analysis.grid)
    inside = {region: np.isin(zone, ZONES_OF[region]) for region in ZONES}
    true_field = percents(best, inside)
    return [
        (measures[name], true_field[region][name], measures[f"{name}_sd"])
        for region in ZONES
        for name in FRACTIONS
        for measures in (analysis.measures[region],)
    ]


def uncertainty_table(rows: list[Row]) -> Iterator[str]:
    """How many errors of the registration lie within the uncertainty it states, by how far it was off."""
    yield "\nEvery fraction of every zone, found - by the true field, beside the stated standard uncertainty:\n"
    out = []
    for name, some in (("all", rows), *((f"error {row['error mm']:.2f} mm", [row]) for row in rows)):
        found, true, sd = np.array([one for row in some for one in row["uncertainty"]]).T
        z = np.abs(found - true) / np.maximum(sd, 0.1)
        out.append(
            {"twins": name, "n": len(z), "within 1": 100 * (z <= 1).mean(), "within 2": 100 * (z <= 2).mean(),
             "median uncertainty": float(np.median(sd)), "median error": float(np.median(np.abs(found - true)))}
        )  # fmt: skip
    yield from table(out)


def _pair(row: Row, name: str) -> str:
    found, true = row["regions"]["lungs"][name]
    return f"{found:.1f} / {true:.1f}"


def pairs(
    rows: list[Row], regions: tuple[str, ...], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(found, true) of a value over regions and rows."""
    found, true = np.array(
        [row["regions"][region][name] for row in rows for region in regions], dtype=float
    ).T
    return found, true


#: What is compared: name, words, unit.
VALUES = (
    ("v", "V over its mean", "1"),
    ("q", "Q over its mean", "1"),
    *((c, c.replace("_", " "), "points") for c in (*CLASSES, "total_abnormal")),
)


def agreement_table(rows: list[Row]) -> Iterator[str]:
    """Bias, limits of agreement and Spearman's rho, zone by zone and over both lungs."""
    out = []
    for name, words, unit in VALUES:
        for where, regions in (("zones", ZONES), ("both lungs", ("lungs",))):
            if regions == ("lungs",) and name in "vq":
                continue  # 1 by definition
            found, true = pairs(rows, regions, name)
            limits = BlandAltman.of(found, true)
            rho = float(stats.spearmanr(found, true).statistic) if regions == ZONES else float("nan")
            out.append(
                {
                    "value": f"{words}, {unit}", "of": where, "n": limits.n, "bias": limits.bias,
                    "95 % limits": f"{limits.low:.3g} to {limits.high:.3g}", "Spearman": rho,
                }
            )  # fmt: skip
    yield from table(out)


def agreement_figure(rows: list[Row]) -> Figure:
    """Bland-Altman plots of every zone."""
    figure = Figure(figsize=(11, 6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, words, unit) in zip(figure.subplots(2, 3).flat, VALUES, strict=True):
        found, true = pairs(rows, ZONES, name)
        limits = BlandAltman.of(found, true)
        axes.scatter((found + true) / 2, found - true, s=9, color="#0072B2")
        for y, style in ((limits.bias, "-"), (limits.low, "--"), (limits.high, "--")):
            axes.axhline(y, color="#D55E00", linestyle=style, linewidth=1)
        axes.set(title=words, xlabel=f"mean of found and true, {unit}", ylabel=f"found - true, {unit}")
    return figure


# --- repeatability ----------------------------------------------------------------------------------------------


def repeatability_part(given: argparse.Namespace) -> Iterator[str]:
    """One twin, seen and breathing otherwise."""
    rows = {name: once(given.out, f"repeat-{name}", make) for name, make in variants().items()}
    yield "## Repeatability: one twin (Siemens x copd01) under noise, kernel, slice thickness and inspiration\n"
    yield from table(
        {
            "variant": name.replace("-", " "),
            "mean error mm": row["error mm"],
            "Dice low V": row["dice low v"],
            "Dice low Q": row["dice low q"],
            "mean V": row["mean_v"],
            "mean Q": row["mean_q"],
            **{f"{c.replace('_', ' ')} %": _pair(row, c) for c in (*CLASSES, "total_abnormal")},
        }
        for name, row in rows.items()
    )
    yield "\nFractions: found / true.\n"


def variants() -> dict[str, Callable[[], Row]]:
    """What is done to the twin, by name."""
    file, case = CTS["Siemens"], "01"

    def look(**changes: float) -> Callable[[], Row]:
        return lambda: compared(*twin(file, case, replace(Look(), **changes)))

    def thickness(mm: float) -> Row:
        made, insp, exp = twin(file, case, replace(Look(), slice_mm=1.0))
        return compared(made, thick(insp, mm), thick(exp, mm))

    def inspiration(level: float) -> Row:
        return compared(*twin(file, case, Look(), "expiration", level))

    def another_noise(seed: int) -> Row:
        made, insp, exp = twin(file, case, Look())
        rng = np.random.default_rng(seed)
        return compared(made, noisier(insp, 15.0, rng), noisier(exp, 15.0, rng))

    return {
        "as-it-is": look(),
        **{f"noise-drawn-again-{n}": lambda n=n: another_noise(n) for n in (1, 2, 3)},  # type: ignore[misc]
        "noise-36-HU": look(noise_hu=36.0),
        "kernel-soft": look(blur_mm=1.2),
        "kernel-sharp": look(blur_mm=-0.6),
        **{f"slices-{mm}-mm": lambda mm=mm: thickness(mm) for mm in (1, 2, 3, 5)},  # type: ignore[misc]
        **{f"inspiration-{round(100 * a)}-%": lambda a=a: inspiration(a) for a in (1.0, 0.8, 0.6)},  # type: ignore[misc]
    }


def noisier(volume: Volume, hu: float, rng: np.random.Generator) -> Volume:
    """The volume with more noise, as correlated as a scanner's."""
    noise = ndimage.gaussian_filter(rng.standard_normal(volume.grid.shape, dtype=np.float32), (0.4, 0.8, 0.8))
    made = np.asarray(volume.array, np.float32) + noise * np.float32(hu / noise[::7].std())
    return Volume(np.clip(np.rint(made), -1024, 3071).astype(np.int16), volume.grid)


def thick(volume: Volume, mm: float) -> Volume:
    """The volume as slices ``mm`` thick and apart, each the mean over its thickness; no thinner than it was."""
    step = volume.grid.spacing[0]
    if mm <= step:
        return volume
    n = int(volume.grid.shape[0] * step / mm)
    edges = np.arange(n + 1) * mm / step
    whole = np.floor(edges).astype(int)
    total = np.concatenate(
        [np.zeros((1, *volume.grid.shape[1:])), np.cumsum(volume.array, axis=0, dtype=np.float64)]
    )
    rest = (edges - whole)[:, None, None]
    at = total[whole] + rest * (total[np.minimum(whole + 1, len(total) - 1)] - total[whole])
    hu = np.rint(np.diff(at, axis=0) * step / mm).astype(np.int16)
    affine = volume.grid.affine.copy()
    affine[:3, 0] *= mm / step
    affine[:3, 3] = volume.grid.points(np.array([[mm / step / 2 - 0.5, 0, 0]]))[0]
    return Volume(hu, Grid(hu.shape, affine))


# --- peers ------------------------------------------------------------------------------------------------------


def peers_part(given: argparse.Namespace) -> Iterator[str]:
    """Ours and a peer's on the same input."""
    rows = once(given.out, f"peers{'-prm' if given.prm else ''}", lambda: peers(given.prm))["rows"]
    yield "## Beside others, on the same input\n"
    yield from table(rows)
    yield ""


def peers(prm: Path | None) -> Row:
    """One twin's field, images and lungs through both."""
    _, insp, exp = twin(CTS["Siemens"], "01", Look())
    phases = Phase.of(insp, PARAMETERS), Phase.of(exp, PARAMETERS)
    analysis = analyse_phases(*phases, PARAMETERS)
    rows = [*jacobian_rows(analysis, phases[1]), *density_rows("inspiration", insp, phases[0], analysis)]
    rows += density_rows("expiration", exp, phases[1], analysis)
    if prm:
        rows += prm_rows(prm, analysis, phases[1])
    return {"rows": rows}


# --- tables -----------------------------------------------------------------------------------------------------


def table(rows: Any) -> Iterator[str]:
    """A Markdown table."""
    rows = list(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield "| " + " | ".join(cell(row.get(c, "")) for c in columns) + " |"


def cell(value: Any) -> str:
    """Three digits of a number, nothing of what is none."""
    if not isinstance(value, float):
        return str(value)
    return "" if np.isnan(value) else f"{value:.4g}" if abs(value) >= 100 else f"{value:.3g}"


PARTS = {
    "convergence": convergence_part,
    "twins": twins_part,
    "repeatability": repeatability_part,
    "peers": peers_part,
}

if __name__ == "__main__":
    main()
