"""`dicom-node demo`: a phantom pair with a known truth makes the whole journey over real associations."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.events import Event
from pynetdicom.presentation import build_context

from analysis.measures.table import MEASURES
from analysis.truth.phantom import Truth, thorax_phantom
from analysis.truth.validation import phantom_truth_on, true_percent
from analysis.vq.classes import VQClass

from ..dicom.ct_writer import Scan, write_ct_series
from ..errors import Rejected, Unavailable
from ..network.association import associate
from ..node.node import Node
from ..node.status import Delivery, status
from ..results.record import NAME as RECORD
from ..results.record import read_record
from ..settings.config import Config, JobSettings, ReceiveSettings
from ..settings.destinations import CStoreDestination
from ..settings.web import WebSettings
from ..store.database import Database
from ..web import users
from ..web.process import Page

MINUTES = 15

#: Name of the page's user.
USER = "demo"

Progress = Callable[[str, float], None]
Opened = Callable[[str, str, str], None]


@dataclass(frozen=True)
class Demo:
    """Hold the outcome of the demo.

    Attributes
    ----------
    truth, measured : mapping of class to percent
        Fractions of the phantom in the voxels that the node classified, and those in the Structured Report that the
        stand-in PACS received.
    files : tuple of Path
        What the PACS received, except colour captures, and the picture.
    """

    truth: Mapping[VQClass, float]
    measured: Mapping[VQClass, float]
    files: tuple[Path, ...]


class StandInPacs:
    """Receive objects as a storage SCP and write them into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.received: list[Path] = []
        folder.mkdir(parents=True, exist_ok=True)
        ae = AE("DEMOPACS")
        ae.supported_contexts = AllStoragePresentationContexts
        server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        assert server is not None  # it is one where it does not block
        self._server = server
        self.port = int(self._server.server_address[1])

    def _store(self, event: Event) -> int:
        ds = event.dataset
        ds.file_meta = event.file_meta
        alone = {"SEG": "seg.dcm", "SR": "sr.dcm", "KO": "key_objects.dcm", "DOC": "report.dcm"}
        name = alone.get(ds.Modality, f"{ds.SeriesNumber}-{int(ds.InstanceNumber):04d}.dcm")
        path = self.folder / name
        ds.save_as(path, enforce_file_format=True)
        self.received.append(path)
        return 0x0000

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()


def demo(
    out: Path,
    progress: Progress,
    web: WebSettings | None = None,
    opened: Opened = lambda *_: None,
    shown: Callable[[Demo], None] = lambda made: None,
) -> Demo:
    """Make a phantom pair, send it to a node on loopback, and wait for the results on a stand-in PACS.

    Parameters
    ----------
    out : Path
        New or empty folder; everything the demo makes stays in it.
    progress : callable
        Called with the name of a stage and the share of it done.
    web : WebSettings, optional
        Page of the node, which is there before the first image is sent.
    opened : callable
        Called with the page's address, and the name and password of a user made for it.
    shown : callable
        Called with the outcome while the node and its page still run.

    Raises
    ------
    Rejected
        Where ``out`` is not empty, or the node refuses the pair.
    Unavailable
        Where the results do not arrive.
    """
    if out.exists() and any(out.iterdir()):
        raise Rejected(f"{out} is not empty: name another folder with --out")
    progress("phantom", 0.0)
    pacs = StandInPacs(out / "pacs")
    try:
        with _node(out / "node", pacs.port, web) as node, _page(node.config, opened):
            truth = thorax_phantom()
            images = write_phantom(truth, out / "images", progress)
            send(images, node.port, lambda share: progress("sending", share))
            _wait(node.database, pacs, progress)
            made = _outcome(out, truth, pacs)
            shown(made)
    finally:
        pacs.stop()
    return made


@contextmanager
def _page(config: Config, opened: Opened) -> Iterator[None]:
    """Serve the page, where there is one, to a user made for it; on any free port where its own is taken."""
    if config.web is None:
        yield
        return
    password = secrets.token_urlsafe(9)
    database = Database(config.database_url)
    users.add(database, USER, "admin", password, time.time())
    database.close()
    page = Page(config)
    try:
        page.start()
    except Unavailable:
        page = Page(replace(config, web=replace(config.web, port=0)))
        page.start()
    try:
        opened(page.address, USER, password)
        yield
    finally:
        page.stop()


def _outcome(out: Path, truth: Truth, pacs: StandInPacs) -> Demo:
    picture = next((out / "node" / "results").glob("*/overview.png"))
    analysis = read_record(picture.with_name(RECORD)).analysis
    return Demo(
        truth=true_percent(analysis, phantom_truth_on(truth, analysis.grid)),
        measured=fractions(dcmread(out / "pacs" / "sr.dcm")),
        files=(*(p for p in sorted(pacs.received) if not p.name.startswith("9")), picture),
    )


def write_phantom(truth: Truth, folder: Path, progress: Progress) -> list[Path]:
    """Write both phases as CT series; the paths are shuffled, because a network may deliver in any order."""
    progress("phantom", 0.5)
    insp = write_ct_series(truth.inspiratory, folder / "insp", Scan("Thorax Insp 2.0 B30f", "demo", 2))
    progress("phantom", 0.75)
    exp = write_ct_series(truth.expiratory, folder / "exp", Scan("Thorax Exp 2.0 B30f", "demo", 3))
    mixed = [*insp, *exp]
    random.Random(1).shuffle(mixed)
    return mixed


@contextmanager
def _node(storage: Path, pacs_port: int, web: WebSettings | None) -> Iterator[Node]:
    node = Node(
        Config(
            storage=storage,
            tick_seconds=0.5,
            receive=ReceiveSettings(port=0, quiet_seconds=3.0),
            jobs=JobSettings(nice=0),
            web=web,
            destinations=(
                CStoreDestination("stand-in PACS", ae_title="DEMOPACS", host="127.0.0.1", port=pacs_port),
            ),
        )
    )
    try:
        node.start()
        yield node
    finally:
        node.stop()


def send(paths: list[Path], port: int, progress: Callable[[float], None]) -> None:
    """Send files to a node on loopback by C-STORE, in one association.

    Raises
    ------
    Unavailable
        Where the node does not accept an image.
    """
    node = CStoreDestination("the node", ae_title="VQNODE", host="127.0.0.1", port=port, timeout=120.0)
    contexts = [build_context(CTImageStorage, dcmread(paths[0]).file_meta.TransferSyntaxUID)]
    assoc = associate(node, "DEMOSCANNER", contexts)
    try:
        for n, path in enumerate(paths, 1):
            answer = assoc.send_c_store(path)
            if answer.get("Status") != 0x0000:
                raise Unavailable(f"the node answered {answer.get('Status', 'nothing')} to a C-STORE")
            progress(n / len(paths))
    finally:
        assoc.release()


def _wait(database: Database, pacs: StandInPacs, progress: Progress) -> None:
    """Wait until the report has arrived, and show what the job is doing."""
    ticker = threading.Event()
    for _ in range(MINUTES * 60 * 2):
        found = status(database)
        for study in found.studies:
            if study.state == "REFUSED":
                raise Rejected(study.reason)
        for job in found.jobs:
            if job.state in ("REFUSED", "FAILED"):
                raise Rejected(f"job {job.id}: {job.reason}")
            if job.state == "DONE":
                progress("delivering", _share(found.deliveries))
            else:
                progress(job.stage or "waiting for a worker", job.fraction)
        if {p.name for p in pacs.received} >= {"seg.dcm", "sr.dcm", "key_objects.dcm", "report.dcm"}:
            return
        ticker.wait(0.5)
    raise Unavailable(f"no result within {MINUTES} minutes")


def _share(deliveries: Sequence[Delivery]) -> float:
    """Return the share of the objects that have been sent."""
    sent = sum(one.objects for one in deliveries if one.state == "SENT")
    return sent / max(1, sum(one.objects for one in deliveries))


def fractions(report: Dataset) -> dict[VQClass, float]:
    """Return the percent of every class in both lungs, from a TID 1500 report of this software.

    Parameters
    ----------
    report : Dataset
        The Structured Report; its first measurement group is that of both lungs.
    """
    wanted = {MEASURES[c.name.lower()].meaning: c for c in VQClass if c}
    found: dict[VQClass, float] = {}
    stack = list(report.ContentSequence)[::-1]
    while stack:
        item = stack.pop()
        if item.ValueType == "NUM":
            meaning = str(item.ConceptNameCodeSequence[0].CodeMeaning)
            if meaning in wanted and wanted[meaning] not in found:
                found[wanted[meaning]] = float(item.MeasuredValueSequence[0].NumericValue)
        stack.extend(list(item.get("ContentSequence", []))[::-1])
    return found
