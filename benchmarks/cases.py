"""Inputs that others' files and days make, through `dicom-node run`, and `dicom-node serve` with dcmtk's storescu.

    python benchmarks/cases.py CASES OUT [--only NAME] [--no-run] [--no-serve] [--quick]

CASES holds one folder a kind with a ``make.py OUT [variant]`` that writes the input. Each case says what it must get:
a result, with a pattern of why it was paired so, or a refusal, with a pattern of its sentence. Prints a line a case and
way, appends a row a case to OUT/table.md, and ends with 1 where one differs.

An analysis takes a minute and more. With --quick, `run` reads, pairs, decodes and makes every object of a made-up one,
and `serve` is believed once a job has read both series.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dicom_node.node.status import Status, status
from dicom_node.store.database import Database

COMMAND = [sys.executable, "-c", "from dicom_node.commands.app import main; main()"]
QUICK = [
    sys.executable,
    "-c",
    f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1] / 'tests' / 'support')!r})\n"
    "import dicom_node.research.run as run\n"
    "from dataclasses import replace\n"
    "from made import analysis_of\n"
    "from dicom_node.pairing.analyse import check_headers, header_findings\n"
    "def quick(pair, paths, parameters, *more):\n"
    "    check_headers(pair, parameters)\n"
    "    [run.load_volume(series, paths) for series in (pair.inspiratory, pair.expiratory)]\n"
    "    made = analysis_of(pair.expiratory)\n"
    "    return replace(made, findings=(*made.findings, *header_findings(pair))), pair\n"
    "run.analyse_pair = quick\n"
    "from dicom_node.commands.app import main; main()",
]
#: Stages of a job that follow when both series were read and their lungs found.
READ = ("registration", "maps", "measures", "objects")
#: Case scripts may name modules as they were called before they had rooms.
MAKE = (
    "import sys, runpy, analysis.truth.phantom, dicom_node.dicom.ct_writer;"
    "sys.modules['analysis.phantom'] = analysis.truth.phantom;"
    "sys.modules['dicom_node.ct_series'] = dicom_node.dicom.ct_writer;"
    "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)


#: What a result begins with in what is printed here.
RESULT = "^a result"


@dataclass(frozen=True)
class Case:
    """One input and what it must get.

    Parameters
    ----------
    folder, variant : str
        Of the script; its second argument.
    sources : tuple of str
        What `run` is given, below the input; "BASE/exp" is the plain expiration.
    said : str
        Pattern of what `run` says.
    served : str or None
        Pattern of what the node says; "" for the same, None where it cannot be sent.
    """

    folder: str
    variant: str
    sources: tuple[str, ...]
    said: str = RESULT
    served: str | None = ""


PAIR = "insp", "exp"
CASES = (
    Case("01-dates", "", PAIR),
    Case("02-character-set", "", PAIR),
    Case("03-acquisition-number", "", (".",)),
    Case("05-two-patients-one-study", "", PAIR, r"are of two patients: Patient ID \(0010,0020\)"),
    Case("07-prone", "", (".",), RESULT + ".*inspiration: SeriesDescription 'Thorax Insp 4.0"),
    Case("08-in-ex", "", (".",), RESULT + ".*the larger lungs are inspiratory"),
    Case("09-zip-unreadable", "good.zip", ("good.zip", "BASE/exp"), served=None),
    Case("09-zip-unreadable", "nested.zip", ("nested.zip", "BASE/exp"), served=None),
    Case("09-zip-unreadable", "password.zip", ("password.zip", "BASE/exp"), "password.zip.* is encrypted", None),
    Case("09-zip-unreadable", "damaged.zip", ("damaged.zip", "BASE/exp"), "damaged.zip.* is damaged", None),
    Case("09-zip-unreadable", "cut.zip", ("cut.zip", "BASE/exp"), "cut.zip is cut short", None),
    Case("09-zip-unreadable", "deflate64.zip", ("deflate64.zip", "BASE/exp"), served=None),
    Case("11-no-file-meta", "implicit", PAIR),
    Case("11-no-file-meta", "explicit", PAIR),
    Case("11-no-file-meta", "no-syntax", PAIR, served=None),  # storescu itself refuses to read it
    Case("13-stray-instance", "", PAIR, RESULT + ".*Left out: no Image Position"),
    Case("15-command-uid", "", ()),
    Case("16-two-studies", "", (".",)),
    Case("18-unclear", "samples", PAIR, r"Samples per Pixel \(0028,0002\)"),
    Case("18-unclear", "rescale", PAIR, r"Rescale Intercept \(0028,1052\)"),
    Case("18-unclear", "id-space", PAIR),
)  # fmt: skip


def make(cases: Path, case: Case, out: Path, *more: str) -> None:
    script = cases / case.folder / "make.py"
    variant = [] if case.variant.endswith(".zip") or not case.variant else [case.variant]
    command = [sys.executable, "-c", MAKE, str(script), str(out), *variant, *more]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise SystemExit(f"{case.folder}: its script failed: {made.stderr.strip()[-400:]}")


def through_run(case: Case, made: Path, out: Path, command: list[str]) -> str:
    """Return what `run` says; of a result, why it was paired so and what its headers made it find."""
    base = Path("/tmp") / "bugs-base"
    sources = [str(base / s[5:]) if s.startswith("BASE/") else str(made / s) for s in case.sources]
    done = subprocess.run([*command, "run", *sources, str(out)], capture_output=True, text=True, check=False)
    if done.returncode == 0 and (out / "sr.dcm").is_file():
        found = json.loads((out / "measures.json").read_text())
        notes = [f["sentence"] for f in found["quality"] if f["check"] in ("series", "headers")]
        return " ".join([f"a result: {found['pairing']}.", *notes])
    return " ".join(done.stderr.split("dicom-node: ")[-1].split()) or f"exit code {done.returncode}"


class Node:
    """`dicom-node serve` with a storage of its own, which delivers nowhere."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        folder.mkdir(parents=True)
        self.config, self.log = folder / "node.toml", folder / "node.log"
        self.config.write_text(
            f"tick_seconds = 0.2\n[receive]\nport = {self.port}\nquiet_seconds = 3\nmin_free_mb = 1\n"
        )
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*COMMAND, "serve", "-c", str(self.config)], stderr=log)
        self.wait_for_port()

    def wait_for_port(self) -> None:
        end = time.monotonic() + 60
        while subprocess.run(
            ["echoscu", "127.0.0.1", str(self.port)], capture_output=True, check=False
        ).returncode:
            if time.monotonic() > end:
                raise SystemExit(self.log.read_text()[-2000:])
            time.sleep(0.3)

    def send(self, made: Path) -> None:
        command = ["storescu", "-aec", "VQNODE", "+sd", "+r", "127.0.0.1", str(self.port), str(made)]
        subprocess.run(command, capture_output=True, check=True)

    def outcome(self, quick: bool, seconds: float = 420.0) -> str:
        """Return what became of what was sent: a result of a job that is DONE (quick: has read all), or the reason."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.status()
            jobs, studies = found.jobs, found.studies
            if jobs and jobs[0].state in ("REFUSED", "FAILED"):
                return f"{jobs[0].state}: {jobs[0].reason}"
            if jobs and (jobs[0].state == "DONE" or (quick and jobs[0].stage in READ)):
                return f"a result: {next(s.reason for s in studies if s.state == 'PAIRED')}."
            if not jobs and studies and all(s.state in ("WAITING", "REFUSED") for s in studies):
                time.sleep(2)
                return "; ".join(f"{s.state}: {s.reason}" for s in studies)
            time.sleep(1)
        return "nothing happened"

    def status(self) -> Status:
        """Return what `dicom-node status` shows, without a process of its own."""
        database = Database(f"sqlite:///{self.config.parent / 'dicom-node-data' / 'node.db'}")
        try:
            return status(database)
        finally:
            database.close()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


def through_serve(cases: Path, case: Case, made: Path, folder: Path, quick: bool) -> str:
    node = Node(folder)
    try:
        if case.folder == "15-command-uid":
            make(cases, case, made, str(node.port))
        else:
            node.send(made)
        return node.outcome(quick)
    finally:
        node.stop()


def lines(given: argparse.Namespace) -> Iterator[tuple[Case, str, str, str]]:
    """(case, way, expected, what was said)."""
    for case in CASES:
        if given.only and given.only not in f"{case.folder} {case.variant}":
            continue
        folder = given.out / f"{case.folder} {case.variant}".strip().replace(" ", "-")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        made = folder / "in"
        if case.folder != "15-command-uid":
            make(given.cases, case, made)
        if case.sources and not given.no_run:
            yield (
                case,
                "run",
                case.said,
                through_run(case, made, folder / "out", QUICK if given.quick else COMMAND),
            )
        if case.served is not None and not given.no_serve:
            yield (
                case,
                "serve",
                case.served or case.said.split(".*Left out")[0],  # a finding is in the result only
                through_serve(given.cases, case, made, folder / "node", given.quick),
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--no-run", action="store_true")
    parser.add_argument("--no-serve", action="store_true")
    parser.add_argument("--quick", action="store_true")
    wrong, given = 0, parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for case, way, expected, said in lines(given):
        right = bool(re.search(expected, said))
        wrong += not right
        name = f"{case.folder} {case.variant}".strip()
        print(f"{'ok' if right else 'NO'}  {name:32} {way:6} {said[:300]}", flush=True)
        with (given.out / "table.md").open("a") as table:
            shown = re.sub(r"[0-9.]{30,}", "UID", said)
            table.write(f"| {name} | `{way}` | {shown} | {'right' if right else 'WRONG'} |\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
