"""The node, which joins all rooms: it starts, recovers, works and stops."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import Connection

from ..audit.trail import Trail
from ..delivery import queue as deliver
from ..delivery.kinds import SENDERS
from ..delivery.outcome import Parcel
from ..dicom.headers import read_header
from ..errors import Unavailable
from ..intake import storage_commitment as commit
from ..intake.header_reader import Reader
from ..intake.indexing import index_new
from ..intake.receivers import LOST_SECONDS, Acceptors, keep
from ..jobs import attempts
from ..jobs import queue as jobs
from ..jobs.executors.kinds import ENGINES
from ..jobs.old_records import strip
from ..jobs.order import Order, order_of, run
from ..metrics.answers import Answers
from ..metrics.server import MetricsServer
from ..model import Header
from ..network.storage_scp import on_store
from ..network.tls import client_context, server_context
from ..notify import conditions
from ..notify import queue as notices
from ..settings.config import Config
from ..settings.destinations import Destination
from ..store import retention
from ..store.archive import Archive
from ..store.database import Database, is_shared
from ..store.heartbeat import Pulse, beat
from ..store.identity import join
from ..store.members import Member
from ..store.patients import protect
from ..store.storage_lock import StorageLock
from ..store.unread import CRASHES, HANGS, UNREACHABLE, read_again
from ..studies.decide import search, settle
from ..troubles import Troubles
from .check import open_to_all, tell_expiring
from .schedule import Schedule
from .service_manager import notify

LOG = logging.getLogger(__name__)

VERSION = version("vq-dicom-node")

#: Interval at which studies that may be removed, and images that could not be read, are looked for (s).
RETENTION_SECONDS = 60.0
#: Interval at which some images whose reader ended are read again, and how many; a bad one stops reading for a minute.
BLAMED_SECONDS, BLAMED_AGAIN = 3600.0, 3
#: Interval at which certificates that expire soon are told (s).
DAY_SECONDS = 86400.0
#: Most images whose reader ended that are read again at each start, since they may not have been the cause.
READ_AGAIN = 100


class Node:
    """A running node.

    Parameters
    ----------
    config : Config
    prepare : callable, optional
        Function of a module that every child process calls first, e.g. to configure its log.
    run : callable
        Function of a module that works on one order in a process of its own.

    Attributes
    ----------
    port : int
        Port on which the node listens once it is started.
    identity : str
        Of its database, which its processes open and no other.

    Raises
    ------
    Rejected
        Where the configuration cannot be used.
    Unavailable
        Where the storage, the database or the port is unavailable, or another node uses the storage.
    """

    def __init__(
        self,
        config: Config,
        prepare: Callable[[], None] | None = None,
        run: Callable[[Order], None] = run,
    ) -> None:
        self.config, self._prepare = config, prepare
        self.port = 0
        self._started, self._ticked = time.time(), time.time()
        self._lock = StorageLock(config.layout, is_shared(config.database_url))
        self.database = Database(config.database_url, prepare=True)
        self.identity = join(config.layout, self.database)
        self._member = Member(self.database)
        self._member.join(self._lock.alone)
        key = protect(config.layout, self.database)
        if self.database.is_shared:
            self._lock.share(self.identity)  # what only the first node does is done
        self.archive = Archive(config.storage, self.database, member=self._member.name)
        self.trail = Trail(self.database, config.audit, config.receive.ae_title)
        self._reader: Reader[Header] = Reader(read_header, prepare)
        self._executor = ENGINES[config.jobs.engine](config.jobs, run)
        if config.receive.tls is not None:
            server_context(config.receive.tls)  # raises here rather than in the processes that receive
        for certificates in config.client_certificates:
            client_context(certificates)
        names = self._member.name, self.identity
        self._acceptors = Acceptors(config, self._lock.descriptor, prepare, *names)
        quiet = config.receive.quiet_seconds
        # on a database of several nodes, only one at a time does each of these
        turns: dict[str, Callable[[], object]] = {
            "index": partial(
                index_new, self.archive, self._reader, self.trail, quiet, key, config.peer_names
            ),
            "settle": partial(settle, self.archive, config, self.trail, VERSION),
            "commit": partial(commit.report, self.database, config.storage, config.receive),
        }
        steps: dict[str, Callable[[], None]] = {
            "dispatch": self.dispatch,
            "heartbeat": self._beat,
            "member": self._member.beat,
        }
        if config.audit is not None:
            steps["audit"] = self._audit
        if config.pacs is not None:
            store = partial(on_store, partial(keep, self.archive, self.trail))
            turns["search"] = partial(search, self.archive, config.pacs, config.receive.ae_title, store)
        queues = {f"deliver to {d.name}": partial(self.deliver, d) for d in config.destinations}
        for c in config.notify:
            turns[f"notify {c.name}"] = partial(
                notices.notify, self.database, c, config.receive.ae_title, Troubles(c.name, LOG)
            )
        steps |= {name: partial(self._member.in_turn, name, turn) for name, turn in turns.items()}
        self._troubles = {d.name: Troubles(d.name, LOG) for d in config.destinations}
        self._schedule = Schedule({**steps, **queues}, config.tick_seconds)
        self.answers = Answers(config, self.database, self.pulse)
        self._metrics = None if config.metrics is None else MetricsServer(config.metrics, self.answers)
        again = partial(read_again, self.database, (UNREACHABLE,), READ_AGAIN)
        keeping: dict[str, Callable[[], object]] = {"read again": again}
        older = partial(strip, config.layout, self.database)
        keeping["older results"] = partial(self._member.in_turn, "older results", older)
        if config.retention.on:
            keeping["retention"] = partial(self._member.in_turn, "retention", self.retain)
        if config.notify:
            keeping["conditions"] = lambda: conditions.look(config, self.database, time.time())
        self._keeping = Schedule(keeping, RETENTION_SECONDS)
        blamed = partial(read_again, self.database, (CRASHES, HANGS), BLAMED_AGAIN)
        self._hourly = Schedule({"read blamed images": blamed}, BLAMED_SECONDS)
        self._daily = Schedule({"certificates": partial(tell_expiring, config)}, DAY_SECONDS)

    def start(self) -> None:
        """Recover what a crash left, then listen and work."""
        LOG.info("vq-dicom-node %s starts with the storage %s", VERSION, self.config.storage)
        for destination in self.config.destinations:
            LOG.info("results go to %s (%s, %s)", destination.name, destination.kind, destination.place)
        for channel in self.config.notify:
            LOG.info("people are told by %s (%s, %s)", channel.name, channel.kind, channel.place)
        self._member.in_turn("recovery", self._recover)
        self.trail.activity(started=True)
        self.port = self._acceptors.start()
        self._reader.start()
        self._schedule.start()
        self._keeping.start()
        if self._metrics is not None:
            self._metrics.start()
            LOG.info("metrics on %s port %d", self._metrics.host, self._metrics.port)
        self._hourly.start()
        self._daily.start()
        for warning in open_to_all(self.config):
            LOG.warning("%s", warning)
        notify("READY=1")
        LOG.info(
            "%s listens on %s port %d", self.config.receive.ae_title, self.config.receive.host, self.port
        )

    def _recover(self) -> None:
        """Tidy up after nodes that ended; the steps of the nodes that run do the rest."""
        retention.finish(self.database, self.config.storage, time.time(), self.trail.deleted)
        drafts, adopted = self.archive.sweep()
        crashes, owner = self.config.jobs.max_crashes, self._member.name
        again = attempts.reconcile(self.database, set(), crashes, time.time(), owner)
        self._clear_workspaces()
        if drafts or adopted or again:
            LOG.info("recovered: %d drafts removed, %d files adopted, %d jobs again", drafts, adopted, again)
        if blamed := read_again(self.database, (CRASHES, HANGS), READ_AGAIN):
            LOG.info("%d images whose reader ended are read again", blamed)

    def _clear_workspaces(self) -> None:
        """Remove the temporary files of attempts that are over."""
        layout = self.config.layout
        found = list(
            layout.workspaces.glob("*")
        )  # listed first: the folder of an attempt is younger than its row
        wanted = {layout.workspace(*attempt) for attempt in attempts.running(self.database)}
        for folder in found:
            if folder not in wanted:
                shutil.rmtree(folder, ignore_errors=True)

    def check(self) -> None:
        """Check that the node can go on; whoever started it must call this regularly.

        Raises
        ------
        Unavailable
            Where nothing can be received any more, and the node must be stopped and started again.
        """
        if self._acceptors.lost:
            raise Unavailable(
                f"no process has accepted connections for {LOST_SECONDS:g} s, and none can be started"
            )

    def stop(self) -> None:
        """Stop receiving, end the workers (their jobs begin again at the next start), and wait for running steps."""
        notify("STOPPING=1")
        if self._metrics is not None:
            self._metrics.stop()
        self._acceptors.stop()
        self._reader.close()  # a step may wait for it
        self._keeping.stop()
        self._hourly.stop()
        self._daily.stop()
        self._schedule.stop()
        self._executor.stop()  # after the last tick, which would start their jobs again
        self._reader.close()
        attempts.interrupt(self.database, time.time(), self._member.name)
        self._end_trail()
        self._member.leave()
        self.database.close()
        self._lock.close()
        LOG.info("stopped")

    def pulse(self) -> Pulse:
        """Return what this node says of itself."""
        accepting, acceptors = self._acceptors.accepting, self.config.receive.acceptors
        return Pulse(VERSION, self._started, self.port, accepting, acceptors, self._ticked)

    def _beat(self) -> None:
        """Say that the ticks run, to others and to the service manager, which restarts a node whose ticks stopped."""
        self._ticked = time.time()
        notify("WATCHDOG=1")
        beat(self.config.layout, self.pulse())

    def dispatch(self) -> None:
        """Record the workers that have ended, and start jobs where there is room."""
        working = {(order.job_id, order.attempt): order for order in self._executor.orders}
        for attempt in attempts.given_up(self.database, working.keys()):
            self._executor.end(working[attempt])
        for ended in self._executor.ended():
            attempt = ended.order.job_id, ended.order.attempt
            if ended.blames:
                attempts.crashed(
                    self.database, *attempt, self.config.jobs.max_crashes, ended.how, time.time()
                )
            else:
                attempts.postponed(self.database, *attempt, ended.how, time.time())
            self._executor.forget(ended.order)
            shutil.rmtree(self.config.layout.workspace(*attempt), ignore_errors=True)
        alive = {order.job_id for order in self._executor.orders}
        owner = self._member.name
        attempts.reconcile(self.database, alive, self.config.jobs.max_crashes, time.time(), owner)
        while self._executor.free > 0 and (job := attempts.start_next(self.database, time.time(), owner)):
            LOG.info("job %d: study %s, attempt %d", job.id, job.study_uid, job.attempt)
            try:
                order = order_of(self.config, job.id, job.attempt, self._prepare, self.identity)
                self._executor.start(order)
            except Unavailable as error:
                attempts.postponed(self.database, job.id, job.attempt, str(error), time.time())
                raise

    def deliver(self, destination: Destination) -> None:
        """Send the objects due at one destination, and request storage commitment where it offers that."""
        title = self.config.receive.ae_title
        told = partial(self._sent, destination)
        deliver.deliver(
            *(self.database, self.config.storage, destination, title),
            on_sent=told,
            on_damaged=self._remake,
            troubles=self._troubles[destination.name],
            owner=self._member.name,
        )
        if destination.confirms and (confirm := SENDERS[type(destination)].confirm) is not None:
            ask = partial(confirm, self.database, destination, title)
            self._member.in_turn(f"confirm {destination.name}", ask)

    def _audit(self) -> None:
        """Send audit messages: the alerts of this node, and in turn with other nodes what is in the database."""
        self.trail.flush()
        self._member.in_turn("audit", self.trail.send)

    def _remake(self, parcel: Parcel) -> None:
        """Let the job of a damaged file make it again, if the storage is available at all."""
        if self.config.layout.identity.exists():
            jobs.remake(self.database, parcel.job_id, time.time())

    def _sent(self, destination: Destination, connection: Connection, parcel: Parcel) -> None:
        """Report a SENT object to the audit trail in the same transaction."""
        study_uid = jobs.study_of(connection, parcel.sop_instance_uid)
        self.trail.transferred(connection, "export", destination.peer, study_uid, {parcel.sop_class_uid: 1})

    def _end_trail(self) -> None:
        """Report that the node stops; messages not accepted by the repository now are sent after the next start."""
        try:
            self.trail.tell(quiet=0.0)
            self.trail.activity(started=False)
            self._member.in_turn("audit", self.trail.send)
        except Unavailable as error:
            LOG.warning("audit: %s", error)

    def retain(self) -> None:
        """Remove studies that have ended, as the configuration says."""
        config = self.config
        free = partial(_free, config.storage)
        retention.retain(
            *(self.database, config.storage, config.retention, config.destinations, time.time()),
            free,
            self.trail.deleted,
        )


def _free(folder: Path) -> float:
    """Return the free space on a disk (bytes)."""
    return float(shutil.disk_usage(folder).free)
