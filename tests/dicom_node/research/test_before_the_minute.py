"""What can refuse a pair without its pixels does so before any is read; what needs lungs, before the registration."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made import thorax
from variants import VARIANTS, Variant, files, named

from analysis.errors import AnalysisError
from analysis.errors import Rejected as AnalysisRejected
from analysis.parameters import Parameters
from dicom_node.dicom.ct_writer import Scan, write_ct_series
from dicom_node.dicom.headers import read_header
from dicom_node.dicom.pixels import load_volume
from dicom_node.errors import NodeError, Rejected
from dicom_node.model import Pair, PairingRules
from dicom_node.pairing import analyse
from dicom_node.pairing.pairing import pair
from dicom_node.pairing.stacks import assemble
from dicom_node.research.run import Recipe, run
from dicom_node.results.context import read_case

CREATED = datetime(2026, 2, 3, tzinfo=UTC)


class Registered(Exception):
    """The registration was reached."""


class Pipeline:
    """Notes what is done, in order; lungs and registration are made up."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, lungs_ml: tuple[float, float] = (5000.0, 2500.0)
    ) -> None:
        self.done: list[str] = []
        self.lungs = list(lungs_ml)
        self.pair: Pair | None = None
        self.told = ""
        read = load_volume

        def load(*given: Any) -> Any:
            self.done.append("pixels")
            return read(*given)

        def find_lungs(*_: Any) -> SimpleNamespace:
            self.done.append("lungs")
            if not (ml := self.lungs.pop(0)):
                raise AnalysisRejected("no lungs found")
            return SimpleNamespace(lung_ml=ml)

        def register(*_: Any) -> None:
            self.done.append("registration")
            raise Registered

        monkeypatch.setattr(analyse, "load_volume", load)
        monkeypatch.setattr(analyse, "Phase", SimpleNamespace(of=find_lungs))
        monkeypatch.setattr(analyse, "analyse_phases", register)


def by_run(*sources: Path) -> None:
    run(sources, sources[0].parent / "out", Recipe(), lambda stage, share: None)


def by_node(folder: Path, parameters: Parameters | None = None) -> tuple[Pair, tuple[str, ...]]:
    """As the node decides on a study, and its worker begins."""
    read = {path: read_header(path) for path in files(folder)}
    found = pair(assemble(read.values()), PairingRules())
    if not isinstance(found, Pair):
        raise Rejected(found.reason)
    paths = {header.sop_instance_uid: path for path, header in read.items()}
    case = read_case(found, paths, CREATED, "revision 1")
    try:
        analyse.analyse_pair(found, paths, parameters or Parameters(), lambda stage, share: None)
    except Registered:
        findings = (*case.findings(), *analyse.header_findings(found))
        return found, tuple(finding.sentence for finding in findings)
    raise AssertionError


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises((NodeError, AnalysisError)) as caught:
        act()
    return str(caught.value)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    for number, (phase, words) in enumerate((("insp", "Thorax Insp"), ("exp", "Thorax Exp")), 1):
        when = datetime(2026, 1, 1, 9, number)
        volume = thorax(-900 + 100 * number, (22, 12, 12), (5.0, 8.0, 8.0))
        made = write_ct_series(volume, folder / "uids", Scan(words, "s", number, acquired=when))
        (folder / phase).mkdir()
        for k, path in enumerate(made):
            path.rename(folder / phase / f"{k:02d}.dcm")
    return folder


@pytest.fixture
def folder(plain: Path, tmp_path: Path) -> Path:
    for phase in ("insp", "exp"):
        shutil.copytree(plain / phase, tmp_path / "in" / phase)
    return tmp_path / "in"


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_what_other_people_send_is_read_or_refused_before_pixels(
    folder: Path, monkeypatch: pytest.MonkeyPatch, variant: Variant
) -> None:
    pipeline = Pipeline(monkeypatch, (5000.0, 2500.0) * 2)  # type: ignore[arg-type]
    variant.change(folder)
    if variant.refused:
        for act in (lambda: by_run(folder), lambda: by_node(folder)):
            said = refusal(act)
            assert re.search(variant.refused, said), said
            assert len(said) < 1200
        assert pipeline.done == []
        return
    found, told = by_node(folder)
    assert (found.inspiratory.acquired[:12], found.expiratory.acquired[:12]) == (
        "202601010901",
        "202601010902",
    )
    assert len(found.inspiratory.slices) == len(found.expiratory.slices) == 22
    assert bool(told) == bool(variant.told), told
    assert re.search(variant.told, " ".join(told)), told
    with pytest.raises(Registered):
        by_run(folder)


def test_the_height_in_the_lungs_needs_a_position_before_pixels(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline(monkeypatch)
    next(v for v in VARIANTS if v.name == "no position on one").change(folder)
    said = refusal(lambda: by_node(folder, Parameters(gravity=True)))
    assert "nothing says how the patient lay" in said
    assert pipeline.done == []


def test_a_contrast_agent_of_unnamed_phases_is_refused_before_pixels(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline(monkeypatch)
    named("Thorax", "Thorax")(folder)
    next(v for v in VARIANTS if v.name == "contrast").change(folder)
    uid = read_header(files(folder, "insp")[0]).series_instance_uid
    assert refusal(lambda: by_node(folder)) == f"the header names a contrast agent on series {uid}"
    assert pipeline.done == []


def test_a_folder_that_cannot_be_written_to_is_refused_before_pixels(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline(monkeypatch)
    (folder.parent / "out").write_text("a file")
    assert refusal(lambda: by_run(folder)).startswith("no results can be written to ")
    assert pipeline.done == []


@pytest.mark.parametrize(
    ("lungs_ml", "said", "done"),
    [
        ((0.0, 2500.0), "no lungs found", ["pixels", "lungs"]),
        ((5000.0, 0.0), "no lungs found", ["pixels", "lungs"] * 2),
        ((2500.0, 5000.0), "but its lungs are larger", ["pixels", "lungs"] * 2),
    ],
)
def test_what_needs_lungs_is_refused_before_the_registration(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    lungs_ml: tuple[float, float],
    said: str,
    done: list[str],
) -> None:
    for act in (lambda: by_run(folder), lambda: by_node(folder)):
        pipeline = Pipeline(monkeypatch, lungs_ml)
        assert said in refusal(act)
        assert pipeline.done == done
        monkeypatch.undo()
