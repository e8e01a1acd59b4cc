"""Hostile bytes against a node: ``python benchmarks/fuzz.py --pdus 100000 --files 10000`` (needs dcmtk).

PDUs: what real senders say to ``dicom-node serve`` (storescu of dcmtk; C-ECHO, C-STORE, N-ACTION of pynetdicom) is
recorded once, then said again with PDUs changed, missing, doubled or at the wrong time. Counted is a changed PDU that
the node has read, as far as its answers tell. The acceptor processes must live on, end every connection, keep
their memory, threads and file handles, count no association that is gone, log no bug, and store as before.

Files: valid files in every encoding are changed, then read as the node does: header, then pixels, in a process of its
own (`dicom_node.intake.header_reader.Reader`). No file may crash or hang it, or make it grow. Last, `bombs.BOMBS` are
read there, and sent to the node. The exit code is 1 where any of this fails. ``--seed`` gives the same bytes again.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from bombs import BOMBS, CT_IMAGE, ENHANCED_CT, file_of, slice_of
from mutations import gently, mutated_file, mutated_pdu
from pydicom import Dataset, dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless
from pynetdicom import AE, _config
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance, Verification
from receive import free_port
from serving import ENVIRONMENT, answers, start
from wire import Proxy
from wire import pdus as pdus_of

from dicom_node.dicom.headers import read_header
from dicom_node.dicom.pixels import load_volume
from dicom_node.errors import Rejected
from dicom_node.intake.header_reader import Reader
from dicom_node.model import Series
from dicom_node.store.database import Database, sa
from dicom_node.store.tables import UNINDEXED, instance

CLIENTS = 24
#: Each message of a conversation is said so often, changed otherwise each time.
REPEATS = 3
#: How many associations the node is told to have at most: after the run, all of them must be free.
ASSOCIATIONS = 32
#: A connection whose client has said its last word must be ended by the node in so long, seconds.
HANG_SECONDS = 30.0
#: So long a client waits for an answer before it goes on as if it had come, seconds.
ANSWER_SECONDS = 0.5
#: A process that grew by more than this is taken to leak, MB.
GROWTH_MB = 64.0
#: Processes that receive, the node's first children; the next reads headers.
ACCEPTORS = 2
#: Longer than the node waits for a silent peer, which `run_pdus` sets, seconds.
REST_SECONDS = 5.0
#: So long after the last word of its peer, no thread of an association is left, seconds.
LEFT_SECONDS = 40.0
#: The database's pool of 8 connections, 3 files each, fills with time.
POOL_HANDLES = 24
#: pydicom's encoders, dcmtk's commands: encodings of one slice.
ENCODINGS = {
    "implicit": ["dcmconv", "+ti"],
    "big endian": ["dcmconv", "+tb"],
    "deflated": ["dcmconv", "+td"],
    "JPEG lossless SV1": ["dcmcjpeg", "+e1"],
    "JPEG extended": ["dcmcjpeg", "+ee"],
}


@dataclass
class Tally:
    """What happened to what was sent."""

    pdus: int = 0
    connections: int = 0
    hung: int = 0
    ends: Counter[str] = field(default_factory=Counter)


def conversations(port: int, folder: Path) -> list[list[list[bytes]]]:
    """The requestor's turns, as PDUs, of real associations with the node."""
    proxy = Proxy(port)
    command = [
        "storescu",
        "-aec",
        "VQNODE",
        "--max-send-pdu",
        "4096",
        "127.0.0.1",
        str(proxy.port),
        "+sd",
        str(folder),
    ]
    subprocess.run(command, env=ENVIRONMENT, check=True)
    ae = AE("FUZZ")
    for uid in (Verification, CT_IMAGE, StorageCommitmentPushModel):
        ae.add_requested_context(uid)
    assoc = ae.associate("127.0.0.1", proxy.port, ae_title="VQNODE")
    assoc.send_c_echo()
    for path in sorted(folder.iterdir()):
        assoc.send_c_store(dcmread(path))
        with suppress(ValueError):  # the context was not accepted
            assoc.send_n_action(
                commitment(), 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
        assoc.send_c_echo()
    assoc.release()
    proxy.close()
    return [recording.requests for recording in proxy.recordings]


def commitment() -> Dataset:
    """The Action Information of a request for storage commitment (PS3.4 J.3.2.1.1)."""
    ds, item = Dataset(), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT_IMAGE, "1.2.3.4.5"
    ds.TransactionUID, ds.ReferencedSOPSequence = "1.2.3.4.6", [item]
    return ds


def talk(port: int, turns: list[list[bytes]], seed: int) -> tuple[int, str]:
    """One connection: changed PDUs that the node read, as far as its answers tell, and how it ended."""
    rng, every = random.Random(seed), [pdu for turn in turns for pdu in turn]
    changed, gentle = 0, rng.random() < 0.7
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(HANG_SECONDS)
        try:
            request = turns[0][0]
            if not gentle and rng.random() < 0.3:
                request, changed = mutated_pdu(rng, request, every), 1
            connection.sendall(request)
            if not readable(connection) or connection.recv(65536)[:1] != b"\x02":
                connection.shutdown(socket.SHUT_WR)
                return changed, the_end(connection, bytearray())
            messages = [turn for turn in turns[1:-1] for _ in range(REPEATS)]
            sent = []
            for message in messages:
                pdus = [gently(rng, pdu) if gentle else mutated_pdu(rng, pdu, every) for pdu in message]
                sent.append(sum(new != old for new, old in zip(pdus, message, strict=True)))
                with suppress(OSError):  # reset by the node, which may have answered before
                    connection.sendall(b"".join(pdus))
            answers = bytearray()
            with suppress(OSError):
                connection.sendall(turns[-1][0])
                if not gentle:  # the node must not wait for what will not come
                    connection.shutdown(socket.SHUT_WR)
            end = the_end(connection, answers)
        except OSError:
            return changed, "reset"
    answered = sum(pdu[:1] == b"\x04" for pdu in pdus_of(bytes(answers)))
    return changed + sum(sent[:answered]) + (end == "aborted"), end


def readable(connection: socket.socket) -> bool:
    """Whether an answer comes."""
    return bool(select.select([connection], [], [], ANSWER_SECONDS)[0])


def the_end(connection: socket.socket, answers: bytearray) -> str:
    """How the node ends a connection whose client has said its last word; what it still answered."""
    try:
        while piece := connection.recv(65536):
            answers += piece
    except TimeoutError:
        return "hung"
    except ConnectionError:
        pass
    last = [pdu[:1] for pdu in pdus_of(bytes(answers))][-1:]
    return ENDS.get(last[0], "closed") if last else "closed"


#: By the type of the node's last PDU.
ENDS = {b"\x03": "rejected", b"\x04": "closed", b"\x06": "released", b"\x07": "aborted"}


def fuzz_pdus(port: int, spoken: list[list[list[bytes]]], count: int, seed: int) -> Tally:
    """Talk until `count` changed PDUs were sent."""
    tally = Tally()
    with ThreadPoolExecutor(CLIENTS) as pool:
        while tally.pdus < count:
            seeds = range(seed + tally.connections, seed + tally.connections + 8 * CLIENTS)
            for sent, end in pool.map(lambda n: talk(port, spoken[n % len(spoken)], n), seeds):
                tally.pdus += sent
                tally.connections += 1
                tally.ends[end] += 1
    tally.hung = tally.ends["hung"]
    return tally


@dataclass(frozen=True)
class Process:
    """What one of the node's processes holds."""

    pid: int
    memory_mb: float
    threads: int
    handles: int


def acceptors(node: int) -> list[Process]:
    """The processes of `node` that receive: those of its children that give way to nobody."""
    found = []
    for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        with suppress(OSError):
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            child, nice = int(stat[1]) == node, int(stat[16])
            if child and not nice and b"resource_tracker" not in (folder / "cmdline").read_bytes():
                found.append(holds(int(folder.name)))
    return found[:ACCEPTORS]


def holds(pid: int) -> Process:
    """Of any process."""
    folder = Path(f"/proc/{pid}")
    status = (folder / "status").read_text()
    memory, threads = (re.search(rf"{key}:\s+(\d+)", status) for key in ("VmRSS", "Threads"))
    assert memory is not None
    assert threads is not None
    return Process(pid, int(memory[1]) / 1024, int(threads[1]), len(list((folder / "fd").iterdir())))


def run_pdus(folder: Path, count: int, seed: int, bombs: bool) -> list[str]:
    """Fuzz a node in `folder`; what was wrong."""
    port, images = free_port(), folder / "images"
    images.mkdir()
    for number in range(4):
        ds = slice_of(side=64)
        ds.SOPInstanceUID = f"1.2.3.4.5.{number}"
        (images / f"{number}.dcm").write_bytes(file_of(ds))
    config = folder / "node.toml"
    config.write_text(
        f"[receive]\nport = {port}\nmin_free_mb = 1\nquiet_seconds = 3600\nnetwork_timeout = 3\n"
        f"acceptors = {ACCEPTORS}\n"
        f"maximum_associations = {ASSOCIATIONS}\nassociations_per_peer = {ASSOCIATIONS}\n"
        "associations_per_minute = 1000000000\nmemory_mb = 256\n"
    )
    node = start(config, folder)
    try:
        answers(port)
        spoken = conversations(port, images)
        fuzz_pdus(port, spoken, min(2000, count // 4), seed)  # until everything is loaded that will be
        before, main = at_rest(node.pid), holds(node.pid)
        began = time.monotonic()
        tally = fuzz_pdus(port, spoken, count, seed + (1 << 32))
        minutes = (time.monotonic() - began) / 60
        after = at_rest(node.pid)
        print(f"changed PDUs: {tally.pdus} in {tally.connections} connections, {minutes:.1f} min")
        print("connections ended:", ", ".join(f"{how} {n}" for how, n in tally.ends.most_common()))
        for was, now in zip([*before, main], [*after, holds(node.pid)], strict=False):
            print(
                f"process {'that receives' if was is not main else 'of the node'}: {was.memory_mb:.0f} -> "
                f"{now.memory_mb:.0f} MB, threads {was.threads} -> {now.threads}, "
                f"file handles {was.handles} -> {now.handles}"
            )
        wrong = judged(before, after, tally)
        wrong += afterwards(port, images)
        wrong += send_bombs(port, folder / "dicom-node-data") if bombs else []
    finally:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()
    log = (folder / "node.log").read_text()
    if "Traceback" in log or "started again" in log:
        wrong.append(log[log.index("Traceback" if "Traceback" in log else "started again") - 200 :][:4000])
    return wrong


def at_rest(node: int) -> list[Process]:
    """Its processes, once no association has ended for a while."""
    end, now = time.monotonic() + LEFT_SECONDS, acceptors(node)
    since = time.monotonic()
    while time.monotonic() < min(end, since + REST_SECONDS):
        time.sleep(0.5)
        before, now = now, acceptors(node)
        if [p.threads for p in before] != [p.threads for p in now]:
            since = time.monotonic()
    return now


def judged(before: list[Process], after: list[Process], tally: Tally) -> list[str]:
    """What a leak, a crash or a hang leaves."""
    wrong = [f"{tally.hung} connections were not ended"] if tally.hung else []
    if [p.pid for p in before] != [p.pid for p in after]:
        return [*wrong, "a process that receives ended"]
    for was, now in zip(before, after, strict=True):
        if now.memory_mb - was.memory_mb > GROWTH_MB:
            wrong.append(f"process {was.pid} grew by {now.memory_mb - was.memory_mb:.0f} MB")
        if now.threads > was.threads + 1 or now.handles > was.handles + POOL_HANDLES:
            wrong.append(f"process {was.pid} keeps threads or file handles")
    return wrong


def afterwards(port: int, images: Path) -> list[str]:
    """Whether the node still has room for as many associations as it should, and does its work."""
    ae, wrong = AE("AFTER"), []
    ae.add_requested_context(Verification)
    assocs = [ae.associate("127.0.0.1", port) for _ in range(ASSOCIATIONS)]
    if any(not assoc.is_established for assoc in assocs):
        wrong.append("associations that are gone are counted still")
    for assoc in assocs:
        assoc.release()
    where = ["-aec", "VQNODE", "127.0.0.1", str(port)]
    for command in (["echoscu", *where], ["storescu", *where, "+sd", str(images)]):
        if subprocess.run(command, env=ENVIRONMENT, check=False).returncode:
            wrong.append(f"{command[0]} fails")
    return wrong


def send_bombs(port: int, storage: Path) -> list[str]:
    """Store every bomb in the node, and wait until it has looked at it."""
    _config.STORE_SEND_CHUNKED_DATASET = True
    with tempfile.TemporaryDirectory() as name:
        for number, (what, make) in enumerate(BOMBS.items()):
            path = Path(name) / "bomb.dcm"
            path.write_bytes(make().replace(b"1.2.3.4.5\0", f"1.2.9.{number:03d}\0".encode()))
            meta = read_file_meta_info(path)
            ae = AE("FUZZ")
            ae.add_requested_context(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
            assoc = ae.associate("127.0.0.1", port)
            status = assoc.send_c_store(path)
            assoc.release()
            if status.get("Status") != 0x0000:
                return [f"{what}: not stored"]
    database = Database(f"sqlite:///{storage / 'node.db'}")
    end = time.monotonic() + 600
    waiting = sa.select(sa.func.count()).select_from(instance).where(UNINDEXED)
    while time.monotonic() < end:
        with database.reading() as connection:
            if not connection.scalar(waiting):
                database.close()
                return []
        time.sleep(1.0)
    return ["the node does not get past the bombs"]


def quiet() -> None:
    """Decoders write what they think of each file to stderr."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    warnings.simplefilter("ignore")


def digest(path: Path) -> str:
    """Header and pixels of one file, as the node reads them -> what came of it, and the process's peak MB."""
    began, outcome = time.monotonic(), "read"
    try:
        header = read_header(path)
        if header.slices:
            first = header.slices[0]
            second = replace(first, position=(*first.position[:2], first.position[2] + 1.0))
            stack = (first, second) if len(header.slices) == 1 else header.slices
            series = Series("1.2.3", "1.2", stack, None, "", 1.0, "", "", "")
            load_volume(series, {header.sop_instance_uid: path})
        else:
            outcome = "no slice"
    except Rejected:
        outcome = "refused"
    return f"{outcome}|{peak_mb():.0f}|{time.monotonic() - began:.2f}"


def peak_mb() -> float:
    """The most this process held so far."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def seeds(folder: Path) -> list[bytes]:
    """A slice in every encoding, and an Enhanced CT."""
    plain = folder / "plain.dcm"
    plain.write_bytes(file_of(slice_of(side=64)))
    files = [plain.read_bytes(), file_of(enhanced())]
    for syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        ds = slice_of(side=64)
        ds.compress(syntax, generate_instance_uid=False)
        files.append(file_of(ds))
    for command in ENCODINGS.values():
        ds = slice_of(side=64)
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 0
        ds.file_meta = slice_of().file_meta
        plain.write_bytes(file_of(ds))
        encoded = folder / "encoded.dcm"
        subprocess.run([*command, str(plain), str(encoded)], check=True)
        files.append(encoded.read_bytes())
    return files


def enhanced() -> Dataset:
    """Four frames with functional groups."""
    ds = slice_of(sop_class=ENHANCED_CT)
    ds.NumberOfFrames, ds.PixelData = 4, ds.PixelData * 4
    frames, shared, measures, transform = [], Dataset(), Dataset(), Dataset()
    for keyword in ("PixelSpacing", "SliceThickness"):
        setattr(measures, keyword, ds[keyword].value)
    transform.RescaleSlope, transform.RescaleIntercept = 1, 0
    shared.PixelMeasuresSequence, shared.PixelValueTransformationSequence = [measures], [transform]
    for z in range(4):
        frame, place, plane = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient, plane.ImageOrientationPatient = [0, 0, z], [1, 0, 0, 0, 1, 0]
        frame.PlanePositionSequence, frame.PlaneOrientationSequence = [place], [plane]
        frames.append(frame)
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [shared], frames
    return ds


def run_files(folder: Path, count: int, seed: int) -> list[str]:
    """Read `count` changed files, then the bombs; what was wrong."""
    rng, wrong = random.Random(seed), []
    folder.mkdir()
    valid, reader = seeds(folder), Reader(digest, quiet)
    outcomes: Counter[str] = Counter()
    peaks, slowest, began = [], 0.0, time.monotonic()
    while outcomes.total() < count:
        batch = [folder / f"{n}.dcm" for n in range(min(200, count - outcomes.total()))]
        for path in batch:
            path.write_bytes(mutated_file(rng, rng.choice(valid), rng.choice(valid)))
        for path, value in zip(batch, reader.read_all(batch), strict=True):
            outcome, _, figures = value.partition("|")
            outcomes[outcome] += 1
            if figures:
                peak, seconds = map(float, figures.split("|"))
                peaks.append(peak)
                slowest = max(slowest, seconds)
            else:
                kept = Path(tempfile.gettempdir()) / f"fuzz-{seed}-{outcomes.total()}.dcm"
                shutil.copy(path, kept)
                wrong.append(f"{outcome}: {kept}")
    minutes = (time.monotonic() - began) / 60
    print(f"changed files: {outcomes.total()} in {minutes:.1f} min:", dict(outcomes))
    print(f"slowest {slowest:.1f} s, peak memory {peaks[len(peaks) // 10]:.0f} -> {peaks[-1]:.0f} MB")
    if peaks[-1] - peaks[len(peaks) // 10] > 8 * GROWTH_MB:
        wrong.append("the process that reads files grows")
    reader.close()
    return wrong


def run_bombs(folder: Path) -> list[str]:
    """Read each bomb in a fresh process."""
    wrong, path = [], folder / "bomb.dcm"
    for what, make in BOMBS.items():
        path.write_bytes(make())
        size, reader, began = path.stat().st_size, Reader(digest, quiet), time.monotonic()
        (value,) = reader.read_all([path])
        reader.close()
        outcome, _, figures = value.partition("|")
        peak = figures.split("|")[0]
        print(
            f"bomb of {size / 1e6:.1f} MB, {what}: {outcome} after {time.monotonic() - began:.0f} s, {peak} MB"
        )
        if "crash" in outcome or (peak and float(peak) > 3000):
            wrong.append(f"bomb {what}: {outcome}, {peak} MB")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pdus", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--bombs", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--folder", type=Path, help="where the node keeps its files; on a RAM disk it is quicker"
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # pydicom's, of the UIDs of what is sent
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=options.folder))
    try:
        wrong = run_pdus(folder, options.pdus, options.seed, options.bombs) if options.pdus else []
        wrong += run_files(folder / "files", options.files, options.seed) if options.files else []
        wrong += run_bombs(folder) if options.bombs else []
    finally:
        shutil.rmtree(folder)
    for one in wrong:
        print("WRONG:", one)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
