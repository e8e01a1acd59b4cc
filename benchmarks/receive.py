"""How fast images are received, beside storescp and Orthanc, in one run: `python benchmarks/receive.py FOLDER`.

Prints images/s, and the receiver's processor time an image, for 1, 4 and 16 parallel senders (dcmtk's storescu,
128 KB PDUs) of 512x512 CT slices with noise.
FOLDER is on the disk to be measured; what is written there is removed. Every figure is of a receiver started afresh,
the median of ``--rounds``; the receivers take turns. Only what was found on the disk afterwards counts as received.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

#: Without it every dcmtk and Orthanc process takes 45 ms an image.
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}
PDU = "131072"
SLICE_BYTES = 512 * 512 * 2
#: Of this node and of Orthanc, with their logs: no images, but as large.
DATABASES = "node.db", "index"
#: A receiver that has just started may still be at that: it is measured once it is idle for so long (s).
IDLE_SECONDS = 2.0


def storescp(folder: Path, port: int) -> list[str]:
    """dcmtk: a process an association, files not synced."""
    return ["storescp", "--fork", "+B", "-pdu", PDU, "-od", str(folder), str(port)]


def orthanc(folder: Path, port: int) -> list[str]:
    """Orthanc as installed: SQLite index, storage not synced."""
    settings = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "DicomPort": port,
        "HttpServerEnabled": False,
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    return [
        shutil.which("Orthanc", path=f"{os.environ['PATH']}:/usr/sbin") or "Orthanc",
        f"{folder}/orthanc.json",
    ]


def node(folder: Path, port: int) -> list[str]:
    """This node, as its operators run it."""
    (folder / "node.toml").write_text(f"[receive]\nport = {port}\nmin_free_mb = 1\nquiet_seconds = 3600\n")
    start = "from dicom_node.commands.app import main; main()"
    return [sys.executable, "-c", start, "serve", "--config", str(folder / "node.toml")]


RECEIVERS: dict[str, Callable[[Path, int], list[str]]] = {
    "storescp": storescp,
    "Orthanc": orthanc,
    "dicom-node": node,
}


def make_slices(folder: Path, count: int) -> None:
    """Write `count` CT slices, each with noise of its own so that nothing can be compressed or deduplicated."""
    folder.mkdir()
    rng = np.random.default_rng()
    study, series = generate_uid(), generate_uid()
    for number in range(count):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = study, series, "CT"
        ds.PatientID, ds.InstanceNumber = "BENCHMARK", number
        ds.Rows = ds.Columns = 512
        ds.BitsAllocated = ds.BitsStored = 16
        ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel = 15, 1, 1
        ds.PhotometricInterpretation = "MONOCHROME2"
        ds.PixelData = rng.integers(-1000, 1000, (512, 512), np.int16).tobytes()
        ds.save_as(folder / f"{number}.dcm", enforce_file_format=True)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_ready(port: int) -> None:
    """Return once a C-ECHO is answered."""
    end = time.monotonic() + 60
    echo = ["echoscu", "127.0.0.1", str(port)]
    while subprocess.run(echo, env=ENVIRONMENT, capture_output=True, check=False).returncode:
        if time.monotonic() > end:
            raise SystemExit("the receiver does not answer")
        time.sleep(0.2)


def send(folders: list[Path], port: int) -> float:
    """Send every folder at once, each over an association of its own; returns the seconds until the last ended."""
    begin = time.perf_counter()
    command = ["storescu", "-pdu", PDU, "127.0.0.1", str(port), "+sd"]
    senders = [subprocess.Popen([*command, str(folder)], env=ENVIRONMENT) for folder in folders]
    if any([sender.wait() for sender in senders]):
        raise SystemExit("a storescu failed")
    return time.perf_counter() - begin


def cpu_seconds(session: int) -> float:
    """Processor time of all processes of a session, and of those of their children that have ended."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            fields = stat.read_text().rpartition(")")[2].split()  # proc(5), from field 3 on
            if int(fields[3]) == session:
                ticks += sum(int(value) for value in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def wait_idle(session: int) -> None:
    """Return once a session's processes use less than a twentieth of a core."""
    end, used = time.monotonic() + 60, -1.0
    while (now := cpu_seconds(session)) - used > IDLE_SECONDS / 20:
        if time.monotonic() > end:
            raise SystemExit("the receiver does not come to rest")
        used = now
        time.sleep(IDLE_SECONDS)


def measure(
    receiver: Callable[[Path, int], list[str]], slices: list[Path], disk: Path
) -> tuple[float, float]:
    """Images/s of one fresh receiver, and its milliseconds of processor time an image."""
    port = free_port()
    folder = Path(tempfile.mkdtemp(dir=disk))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            receiver(folder, port), env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_ready(port)
        os.sync()  # what another left to be written would be written now, by whoever syncs
        wait_idle(process.pid)
        before = cpu_seconds(process.pid)
        seconds = send(slices, port)
        spent = cpu_seconds(process.pid) - before
    finally:
        process.terminate()
        process.wait(60)
    sent = sum(len(list(one.iterdir())) for one in slices)
    files = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(DATABASES))
    kept = sum(p.stat().st_size >= SLICE_BYTES for p in files)
    if kept != sent:
        raise SystemExit(f"{sent} images were sent, {kept} are on the disk")
    return sent / seconds, 1000 * spent / sent


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="on the disk to be measured")
    parser.add_argument("--images", type=int, default=640, help="a measurement, shared by the senders")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(
        "| senders |",
        " | ".join(RECEIVERS),
        "| (images/s, processor time an image)\n|---|" + "---|" * len(RECEIVERS),
    )
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        for senders in (1, 4, 16):
            row = compare(senders, arguments.images // senders, arguments.rounds, Path(name))
            print(f"| {senders} |", " | ".join(row), "|", flush=True)


def compare(senders: int, images: int, rounds: int, disk: Path) -> list[str]:
    """What every receiver does with `images` of each of so many senders; all files are left in `disk`.

    They are removed at the end only: ext4 looks over every inode deleted within a minute before it gives one out.
    """
    slices = [disk / f"{senders}-{n}" for n in range(senders)]
    for folder in slices:
        make_slices(folder, images)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in RECEIVERS}
    for _ in range(rounds):
        for name, command in RECEIVERS.items():
            found[name].append(measure(command, slices, disk))
    return [
        f"{statistics.median(rates):.0f} ({statistics.median(spent):.1f} ms)"
        for rates, spent in (zip(*values, strict=True) for values in found.values())
    ]


if __name__ == "__main__":
    main()
