"""What can refuse a pair without its pixels does so before any is read; what needs lungs, before the registration."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier
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
from dicom_node.model import Pair, PairingRules, Series
from dicom_node.pairing import analyse
from dicom_node.pairing.pairing import pair
from dicom_node.pairing.stacks import assemble
from dicom_node.research.run import Recipe, run
from dicom_node.results.context import read_case

MINUTES = "202601010901", "202601010902"
CREATED = datetime(2026, 2, 3, tzinfo=UTC)


class Registered(Exception):
    """The registration was reached."""


class Pipeline:
    """Notes what is done; lungs and registration are made up. Both CTs are read at the same time."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, lungs_ml: tuple[float, float] = (5000.0, 2500.0)
    ) -> None:
        self.done: list[str] = []
        self.both = Barrier(2)
        read, of_minute = load_volume, dict(zip(MINUTES, lungs_ml, strict=True))

        def load(series: Series, *given: Any) -> Any:
            self.done.append("pixels")
            self.both.wait(30)  # broken unless the other one is read meanwhile
            return SimpleNamespace(volume=read(series, *given), ml=of_minute[series.acquired[:12]])

        def find_lungs(read: SimpleNamespace, *_: Any) -> SimpleNamespace:
            self.done.append("lungs")
            if not read.ml:
                raise AnalysisRejected("no lungs found")
            return SimpleNamespace(lung_ml=read.ml)

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
    pipeline = Pipeline(monkeypatch)
    variant.change(folder)
    if variant.refused:
        for act in (lambda: by_run(folder), lambda: by_node(folder)):
            said = refusal(act)
            assert re.search(variant.refused, said), said
            assert len(said) < 1200
        assert pipeline.done == []
        return
    found, told = by_node(folder)
    assert (found.inspiratory.acquired[:12], found.expiratory.acquired[:12]) == MINUTES
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
    ("lungs_ml", "said"),
    [
        ((0.0, 2500.0), "no lungs found"),
        ((5000.0, 0.0), "no lungs found"),
        ((2500.0, 5000.0), "but its lungs are larger"),
    ],
)
def test_what_needs_lungs_is_refused_before_the_registration(
    folder: Path, monkeypatch: pytest.MonkeyPatch, lungs_ml: tuple[float, float], said: str
) -> None:
    for act in (lambda: by_run(folder), lambda: by_node(folder)):
        pipeline = Pipeline(monkeypatch, lungs_ml)
        assert said in refusal(act)
        assert sorted(pipeline.done) == ["lungs", "lungs", "pixels", "pixels"]
        monkeypatch.undo()


def test_the_first_series_is_named_where_neither_shows_lungs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = read_header(files(folder, "insp")[0]).series_instance_uid
    Pipeline(monkeypatch, (0.0, 0.0))
    assert refusal(lambda: by_run(folder)) == f"series {uid}: no lungs found"


def test_progress_of_both_series_never_goes_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, float]] = []
    Pipeline(monkeypatch)
    with pytest.raises(Registered):
        run((folder,), folder.parent / "out", Recipe(), lambda stage, share: told.append((stage, share)))
    stages = [stage for stage, _ in told]
    assert stages == sorted(stages, key=("headers", "reading", "lungs").index)
    shares = [analyse.share_done(stage, share) for stage, share in told if stage != "headers"]
    assert shares == sorted(shares)
    assert told[-1] == ("lungs", 1.0)
    assert sum(stage == "reading" for stage in stages) == 2 * 22 - 1
