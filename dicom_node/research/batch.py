"""`dicom-node batch`: many cases -> a folder of results each; finished ones are kept, failed ones have their reason.

`batch.csv` in the folder of results is the state of all cases: the table's own columns, state, reason, seconds. What is
finished is told by the folders themselves, which appear whole or not at all; so nothing is lost at a kill -9.
"""

from __future__ import annotations

import csv
import os
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError, Executor
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from analysis.errors import AnalysisError
from analysis.parameters import Parameters

from ..errors import NodeError, Rejected, Unavailable
from ..results.measures_file import read_measured, settings_of
from .cases import BatchCase, read_csv
from .many import run_many
from .run import Recipe, run
from .whole_folder import holds_result, remove_left_drafts
from .workers import Died

State = Literal["done", "failed", "open"]

#: Columns of `batch.csv` besides those that are carried through.
OWN = ("state", "reason", "seconds")
#: The table is written again when this many times the seconds that it took to write have passed since.
SPARSE = 50


@dataclass(frozen=True)
class Ended:
    """Hold how a case ended.

    Attributes
    ----------
    state : {"done", "failed", "open"}
        Open: not tried yet, or ended before it was known.
    reason : str
        Why it failed, one sentence.
    seconds : float
        How long it took; NaN where that is not known.
    """

    state: State
    reason: str = ""
    seconds: float = float("nan")


@dataclass(frozen=True)
class Summary:
    """Count the cases of a batch by how they ended; ``skipped`` are done cases that were there before."""

    done: int
    failed: int
    skipped: int
    table: Path


def batch(
    cases: Iterable[BatchCase],
    results: Path,
    recipe: Recipe,
    executor: Executor,
    part: tuple[int, int] = (1, 1),
    told: Callable[[BatchCase, Ended, int], None] = lambda case, ended, left: None,
) -> Summary:
    """Analyse many cases.

    Parameters
    ----------
    cases : iterable of BatchCase
    results : Path
        Folder for the folders of results and `batch.csv`.
    recipe : Recipe
    executor : concurrent.futures.Executor
        Runs the cases.
    part : (int, int)
        (I, N): every Nth case from the Ith on, counted from 1; its table is ``batch-I-of-N.csv``.
    told : callable
        Called with a case that ended, how, and how many are left.

    Raises
    ------
    Unavailable
        Where the executor is lost, or the folder cannot be written; what is finished is kept.
    """
    number, of = part
    if not 1 <= number <= of:
        raise Rejected(f"part {number}/{of} is none: the first number runs from 1 to the second")
    mine = list(cases)[number - 1 :: of]
    try:
        results.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"{results} cannot be written: {error.strerror}") from error
    remove_left_drafts(results)
    table = Table(results / ("batch.csv" if of == 1 else f"batch-{number}-of-{of}.csv"), mine)
    todo = [case for case in mine if table.ended[case.name].state != "done"]
    skipped, left = len(mine) - len(todo), len(todo)
    work = partial(work_on, results, recipe)
    try:
        for case, made in run_many((replace(c, columns={}) for c in todo), work, executor):
            ended = made if isinstance(made, Ended) else _failed(made)
            left -= 1
            table.put(case.name, ended)
            told(case, ended, left)
    finally:
        table.write()
    states = [table.ended[case.name].state for case in todo]
    return Summary(states.count("done"), states.count("failed"), skipped, table.path)


def made_otherwise(cases: Iterable[BatchCase], results: Path, parameters: Parameters) -> list[str]:
    """Return the names of the finished cases whose results other parameters or another version made: they are kept."""
    ours = settings_of(parameters, version("vq-dicom-node"))
    return [case.name for case in cases if _settings(results / case.name) not in (None, ours)]


def _settings(folder: Path) -> str | None:
    """Return what made a finished result, "" where its measures cannot be read, None where there is no result."""
    try:
        return read_measured(folder).settings if holds_result(folder) else None
    except Rejected:
        return ""


def work_on(results: Path, recipe: Recipe, case: BatchCase) -> Ended:
    """Analyse one case and write its folder; called in the executor's process.

    Returns
    -------
    Ended
        Every error that belongs to the case is in it: it must not cost the process that works on the next one.
    """
    warnings.simplefilter("ignore")
    begin = time.perf_counter()
    try:
        run(case.sources, results / case.name, recipe, lambda stage, share: None, case.given, case.study)
    except (NodeError, AnalysisError) as error:
        return Ended("failed", str(error), time.perf_counter() - begin)
    except MemoryError:
        return Ended("failed", "needs more memory than its process may have", time.perf_counter() - begin)
    except Exception as error:  # noqa: BLE001  a fault of ours stands with its place, and the batch goes on
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        return Ended(
            "failed", f"internal error: {type(error).__name__} at {where}", time.perf_counter() - begin
        )
    return Ended("done", "", time.perf_counter() - begin)


def _failed(error: BaseException) -> Ended:
    """Return the failure of a case whose process died; any other error means that the executor is lost."""
    if isinstance(error, Died):
        return Ended("failed", str(error))
    if isinstance(error, CancelledError) or not isinstance(error, Exception):
        raise Unavailable("the workers were lost: start the batch again, what is finished is kept") from error
    raise Unavailable(f"the workers were lost ({type(error).__name__}): start the batch again") from error


class Table:
    """`batch.csv`: how each case ended, beside the columns that are carried through.

    Parameters
    ----------
    path : Path
    cases : sequence of BatchCase
    """

    def __init__(self, path: Path, cases: list[BatchCase]) -> None:
        self.path, self._cases = path, cases
        earlier = _earlier(path)
        self.ended: dict[str, Ended] = {}
        for case in cases:
            known = earlier.get(case.name, Ended("open"))
            there = holds_result(path.parent / case.name)
            if there:
                self.ended[case.name] = known if known.state == "done" else Ended("done")
            else:
                self.ended[case.name] = known if known.state == "failed" else Ended("open")
        self._due = 0.0
        self.write()

    def put(self, name: str, ended: Ended) -> None:
        """Note how a case ended; the file is written at once where that costs little, else soon."""
        self.ended[name] = ended
        if time.monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        """Write the file, whole or not at all.

        Raises
        ------
        Unavailable
            Where it cannot be written.
        """
        begin = time.monotonic()
        extra = list(dict.fromkeys(name for case in self._cases for name in case.columns if name not in OWN))
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with draft.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["case", *extra, *OWN])
                for case in self._cases:
                    one = self.ended[case.name]
                    seconds = f"{one.seconds:.1f}" if one.seconds == one.seconds else ""
                    values = [case.columns.get(name, "") for name in extra]
                    writer.writerow([case.name, *values, one.state, one.reason, seconds])
            draft.replace(self.path)
        except OSError as error:
            raise Unavailable(f"{self.path} cannot be written: {error.strerror}") from error
        now = time.monotonic()
        self._due = now + SPARSE * (now - begin)


def _earlier(path: Path) -> Mapping[str, Ended]:
    """Return what an earlier batch wrote; nothing where there is none or it cannot be read."""
    if not path.is_file():
        return {}
    try:
        lines = read_csv(path)[1]
    except Rejected:
        return {}
    return {
        cells.get("case", ""): Ended(
            "failed"
            if cells.get("state") == "failed"
            else "done"
            if cells.get("state") == "done"
            else "open",
            cells.get("reason", ""),
            _seconds(cells.get("seconds", "")),
        )
        for _, cells in lines
    }


def _seconds(text: str) -> float:
    """Return a cell as a number; NaN where it is none, as after a spreadsheet has kept the table."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
