"""The node: joins the steps of the journey; start, stop, recover."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import Connection

from ..audit.trail import Trail
from ..delivery import queue as deliver
from ..delivery import storage_commitment as confirm
from ..delivery.outcome import Parcel
from ..dicom.headers import read_header
from ..errors import NodeError, Unavailable
from ..intake import storage_commitment as commit
from ..intake.header_reader import Reader
from ..intake.receivers import Acceptors, keep
from ..jobs import queue as jobs
from ..jobs import worker
from ..model import Header, Pair
from ..network.storage_scp import on_store
from ..network.tls import client_context, server_context
from ..pairing import pairing
from ..pairing import stacks as series
from ..processes import Crew
from ..settings.config import Config
from ..settings.destinations import Destination
from ..settings.peers import Pacs
from ..store import retention
from ..store.archive import Archive, index
from ..store.database import Database
from ..store.durable import FILE_MODE, make_folder
from ..studies import query_retrieve as retrieve
from ..studies import queue as studies
from ..studies.between import pair_between
from .schedule import Schedule

LOG = logging.getLogger(__name__)

INDEX_BATCH = 200
#: Between two looks at what may be removed.
RETENTION_SECONDS = 60.0
#: Acceptors outlive a killed node for a moment; the next one waits for them, seconds.
LOCK_SECONDS = 3.0


class Node:
    """A running node.

    Parameters
    ----------
    config : Config
    prepare : callable, optional
        A module's function that every child process calls first, e.g. to configure its log.
    run : callable
        A module's function that works on one order in a process of its own.

    Attributes
    ----------
    port : int
        Where it listens, once started.

    Raises
    ------
    Rejected
        Where the configuration cannot be used.
    Unavailable
        Where the storage, the database or the port is; also where another node uses the storage.
    """

    def __init__(
        self,
        config: Config,
        prepare: Callable[[], None] | None = None,
        run: Callable[[worker.Order], None] = worker.run,
    ) -> None:
        self.config, self._prepare = config, prepare
        self.port = 0
        self._lock = _lock(config)
        self.database = Database(config.database_url)
        self.archive = Archive(config.storage, self.database)
        self.trail = Trail(self.database, config.audit, config.receive.ae_title)
        self._version = version("vq-dicom-node")
        self._reader: Reader[Header] = Reader(read_header, prepare)
        self._crew: Crew[worker.Order] = Crew(run, config.jobs.concurrency)
        if config.receive.tls is not None:
            server_context(config.receive.tls)  # refused here, not in the processes that receive
        for peer in (*config.destinations, config.pacs):
            if peer is not None and peer.tls is not None:
                client_context(peer.tls)
        self._acceptors = Acceptors(config, self._lock, prepare)
        steps = {"index": self.index, "settle": self.settle, "dispatch": self.dispatch}
        steps["commit"] = partial(commit.report, self.database, config.storage, config.receive)
        if config.audit is not None:
            steps["audit"] = self.trail.send
        if config.pacs is not None:
            steps["search"] = partial(self.search, config.pacs)
        queues = {f"deliver to {d.name}": partial(self.deliver, d) for d in config.destinations}
        self._schedule = Schedule({**steps, **queues}, config.tick_seconds)
        keeping = {"retention": self.retain} if config.retention.on else {}
        self._keeping = Schedule(keeping, RETENTION_SECONDS)

    def start(self) -> None:
        """Recover what a crash left, then listen and work."""
        retention.finish(self.database, self.config.storage, time.time())
        drafts, adopted = self.archive.sweep()
        again = jobs.recover(self.database, time.time())
        if drafts or adopted or again:
            LOG.info("recovered: %d drafts removed, %d files adopted, %d jobs again", drafts, adopted, again)
        self.trail.activity(started=True)
        self.port = self._acceptors.start()
        self._reader.start()
        self._schedule.start()
        self._keeping.start()
        LOG.info(
            "%s listens on %s port %d", self.config.receive.ae_title, self.config.receive.host, self.port
        )

    def stop(self) -> None:
        """Stop receiving, end the workers (their jobs begin again at the next start), let steps end."""
        self._acceptors.stop()
        self._crew.stop()
        self._reader.close()
        self._keeping.stop()
        self._schedule.stop()
        self._crew.stop()
        self._reader.close()
        jobs.recover(self.database, time.time())
        self._end_trail()
        self.database.close()
        os.close(self._lock)
        LOG.info("stopped")

    def index(self) -> None:
        """Read the headers of new instances; their studies become due.

        What comes meanwhile is for the next tick: few rows at a time would hold up those who write what comes.
        """
        while self._index_some() == INDEX_BATCH:
            pass

    def _index_some(self) -> int:
        if not (new := self.archive.unindexed(INDEX_BATCH)):
            return 0
        read = self._reader.read_all([stored.path for stored in new])
        changed: dict[str, float] = {}
        came: dict[tuple[str, str], Counter[str]] = {}
        with self.database.writing() as connection:
            renamed = index(
                self.database, connection, {s.sop_instance_uid: r for s, r in zip(new, read, strict=True)}
            )
            for stored, found in zip(new, read, strict=True):
                if isinstance(found, str):
                    LOG.warning("instance %s: %s", stored.sop_instance_uid, found)
                    continue
                side = stored.calling_ae, found.study_instance_uid
                came.setdefault(side, Counter())[found.sop_class_uid] += 1
                if not found.ignored:
                    last = changed.get(found.study_instance_uid, 0.0)
                    changed[found.study_instance_uid] = max(last, stored.received_at)
            for (calling_ae, study_uid), counts in came.items():
                self.trail.transferred(connection, "import", calling_ae, study_uid, counts)
            for study_uid, at in changed.items():
                studies.touch(self.database, connection, study_uid, at, self.config.receive.quiet_seconds)
        self._tell_renamed(renamed, {stored.sop_instance_uid: stored.calling_ae for stored in new})
        return len(new)

    def _tell_renamed(self, renamed: list[str], senders: dict[str, str]) -> None:
        """One line a sender, not one an instance."""
        for sender, count in Counter(senders[uid] for uid in renamed).items():
            first = next(uid for uid in renamed if senders[uid] == sender)
            LOG.warning(
                "%d instances of %s came under another SOP Instance UID (0000,1000) than their data sets have"
                " (0008,0018), the first as %s: the data set's is used", count, sender, first,
            )  # fmt: skip

    def settle(self) -> None:
        """Decide on every study that has been quiet, or whose scanner is done with it: a job, or why none."""
        for uid in studies.hasten(self.database, time.time(), self.config.receive.quiet_seconds):
            LOG.info("study %s: every image its scanner lists is here", uid)
        for seen in studies.due(
            self.database, time.time(), self.config.receive.quiet_seconds, self.config.wait_hours * 3600
        ):
            self._decided(seen, self._decide(seen.study_uid))

    def search(self, pacs: Pacs) -> None:
        """Ask the PACS for the rest of studies that wait for their other phase."""
        title = self.config.receive.ae_title
        store = partial(on_store, partial(keep, self.archive, self.trail))
        for study_uid in studies.to_search(self.database, time.time(), pacs.search_seconds):
            try:
                uids = retrieve.missing(pacs, title, study_uid, studies.stored(self.database, study_uid))
                if uids:
                    retrieve.fetch(pacs, title, study_uid, uids, store)
                found = f"{pacs.name}: {len(uids)} series retrieved" if uids else f"{pacs.name} has no more"
            except Unavailable as error:
                found = str(error)
            LOG.info("study %s: %s", study_uid, found)
            studies.searched(self.database, study_uid, time.time() + pacs.search_seconds, found)

    def dispatch(self) -> None:
        """Look after the workers, and start jobs where there is room."""
        given_up = jobs.cancelled(self.database, [order.job_id for order in self._crew.orders])
        for order in self._crew.orders:
            if order.job_id in given_up:
                self._crew.end(order)
        for ended in self._crew.ended():
            order, now = ended.order, time.time()
            jobs.crashed(
                self.database, order.job_id, order.attempt, self.config.jobs.max_crashes, ended.how, now
            )
        while self._crew.free > 0 and (job := jobs.start_next(self.database, time.time())):
            LOG.info("job %d: study %s, attempt %d", job.id, job.study_uid, job.attempt)
            self._crew.start(self._order(job))

    def deliver(self, destination: Destination) -> None:
        """Send what is due at one destination; where it offers that, ask it to commit to what was sent."""
        title = self.config.receive.ae_title
        told = partial(self._sent, destination)
        deliver.deliver(self.database, self.config.storage, destination, title, on_sent=told)
        if destination.storage_commitment:
            confirm.ask(self.database, destination, title)

    def _sent(self, destination: Destination, connection: Connection, parcel: Parcel) -> None:
        """An object is SENT: the audit trail tells of it, in the same transaction."""
        study_uid = jobs.study_of(connection, parcel.sop_instance_uid)
        peer = destination.ae_title or destination.name
        self.trail.transferred(connection, "export", peer, study_uid, {parcel.sop_class_uid: 1})

    def _end_trail(self) -> None:
        """The node stops: what the repository does not take now, it gets after the next start."""
        try:
            self.trail.tell(quiet=0.0)
            self.trail.activity(started=False)
            self.trail.send()
        except Unavailable as error:
            LOG.warning("audit: %s", error)

    def retain(self) -> None:
        """Remove studies that have ended, as the configuration says."""
        config = self.config
        free = partial(_free, config.storage)
        retention.retain(
            self.database, config.storage, config.retention, config.destinations, time.time(), free
        )

    def _decide(self, study_uid: str) -> Pair | pairing.NoPair:
        rules = self.config.pairing
        try:
            found = series.assemble(self.archive.headers(study_uid), rules)
            assigned = studies.assigned(self.database)
            decision = pairing.pair(series.with_assigned(found, assigned), rules)
            if isinstance(decision, Pair) or not decision.waiting:
                return decision
            lately = time.time() - self.config.wait_hours * 3600
            others = studies.companions(self.database, study_uid, lately)
            joined = studies.joined(self.database, study_uid)
            return pair_between(study_uid, self.archive.headers, others, joined, rules, assigned) or decision
        except (NodeError, MemoryError):
            raise
        except Exception as error:  # the boundary of one study: a bug it meets must not stop the others
            LOG.exception("study %s", study_uid)
            return pairing.NoPair(f"internal error: {type(error).__name__}", False)

    def _decided(self, seen: studies.Due, decision: Pair | pairing.NoPair) -> None:
        now, wait = time.time(), self.config.wait_hours * 3600
        with self.database.writing() as connection:
            if isinstance(decision, pairing.NoPair):
                state: studies.StudyState = "WAITING" if decision.waiting else "REFUSED"
                settled = studies.settle(connection, seen, state, decision.reason, now, wait)
                LOG.info("study %s %s: %s", seen.study_uid, state, decision.reason)
            elif settled := studies.settle(connection, seen, "PAIRED", decision.reason, now, wait):
                for one in (decision.inspiratory, decision.expiratory):
                    if one.study_instance_uid != seen.study_uid:
                        studies.paired_too(connection, one.study_instance_uid, decision.reason, now)
                parameters = self.config.analysis
                jobs.create(self.database, connection, decision, parameters, self._version, now)
        if isinstance(decision, pairing.NoPair) and decision.people:
            self.trail.alert("two patients", "", "", f"study {seen.study_uid}: {decision.reason}")
        if not settled:
            LOG.info("study %s: more images came", seen.study_uid)

    def _order(self, job: jobs.Job) -> worker.Order:
        return worker.Order(
            database_url=self.config.database_url,
            storage=self.config.storage,
            job_id=job.id,
            attempt=job.attempt,
            destinations=tuple((d.name, d.objects) for d in self.config.destinations),
            nice=self.config.jobs.nice,
            lobes_command=self.config.jobs.lobes_command,
            prepare=self._prepare,
        )


def _free(folder: Path) -> float:
    """Bytes left on a disk."""
    return float(shutil.disk_usage(folder).free)


def _lock(config: Config) -> int:
    """Hold the storage for this process; the system lets go when it and its acceptors end, however they end."""
    path = make_folder(config.storage) / "node.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if time.monotonic() > end:
                os.close(descriptor)
                raise Unavailable(f"another node uses the storage {config.storage}") from error
            time.sleep(0.05)
        else:
            return descriptor
