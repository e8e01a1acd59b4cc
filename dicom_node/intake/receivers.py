"""One port -> several processes that receive; they are started, restarted, and ended together with the node."""

from __future__ import annotations

import logging
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Literal

import pydicom.config
from pynetdicom import evt

from ..audit.trail import Trail
from ..delivery import storage_commitment as confirm
from ..errors import Unavailable
from ..network.admission import Load
from ..network.storage_scp import STOP_SECONDS, Received, Receiver, listen
from ..network.visits import Visits
from ..processes import begin
from ..settings.config import Config
from ..store import tally
from ..store.archive import Archive
from ..store.database import Database
from . import mpps as performed
from . import storage_commitment as commit
from .lean import Held, Order
from .lean import accept as lean_accept

LOG = logging.getLogger(__name__)

#: Interval at which alerts are spooled (s).
FLUSH_SECONDS = 1.0
#: First and longest pause before a process that ended, or could not be started, is started again (s).
AGAIN_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0
#: Time of accepting connections after which the next pause is the first one again (s).
STEADY_SECONDS = 60.0
#: Time after its start at which a process that does not accept connections yet is ended (s).
START_SECONDS = 120.0
#: Time without any process that accepts connections after which the node must end and be started again (s).
LOST_SECONDS = 120.0
#: Message that a process sends once it accepts connections.
ACCEPTS = b"accepts"


class Acceptors:
    """The processes that receive for a node.

    The socket listens in the node's process and is shared: any free process accepts, and waiting connections outlive a
    process that dies. The processes write files and rows by themselves.

    Parameters
    ----------
    config : Config
    lock : int
        Descriptor of the storage's lock; the processes hold it too, so that no other node starts while one is alive.
    prepare : callable, optional
        Function of a module that is called first in each process, e.g. to configure its log.
    member : str
        Name of the node, for its drafts.
    identity : str
        Of the node's database, so that no process opens another one in its place.
    """

    def __init__(
        self,
        config: Config,
        lock: int,
        prepare: Callable[[], None] | None = None,
        member: str = "",
        identity: str = "",
    ) -> None:
        self._config, self._lock, self._prepare = config, Held(lock), prepare
        self._names = member, identity
        self._stopping = threading.Event()
        self._keepers: list[threading.Thread] = []
        self._listening: Any = None
        self._accepting: set[int] = set()
        self._last_accepted = time.monotonic()

    @property
    def accepting(self) -> int:
        """Return how many processes accept connections now; normally `receive.acceptors`."""
        return len(self._accepting)

    @property
    def lost(self) -> bool:
        """Return whether no process has accepted connections for `LOST_SECONDS`."""
        if self._accepting:
            self._last_accepted = time.monotonic()
        return time.monotonic() - self._last_accepted > LOST_SECONDS

    def start(self) -> int:
        """Listen, start the processes, and return the port.

        Raises
        ------
        Unavailable
            Where the address or port is taken.
        """
        self._listening = listen(self._config.receive)
        count = self._config.receive.acceptors
        numbers = Load.shared(self._config.receive.maximum_associations, count)
        self._last_accepted = time.monotonic()
        for own in range(count):
            order = Order(
                self._config, self._listening, self._lock, numbers, own, self._prepare, *self._names
            )
            keeper = threading.Thread(target=self._keep, args=(order,), name=f"acceptor-{own}", daemon=True)
            keeper.start()
            self._keepers.append(keeper)
        return int(self._listening.getsockname()[1])

    def stop(self) -> None:
        """Stop listening and end the processes; peers send again what was not acknowledged."""
        self._stopping.set()
        for keeper in self._keepers:
            keeper.join()
        if self._listening is not None:
            self._listening.close()

    def _keep(self, order: Order) -> None:
        """Run one process until the node stops, and start it again whenever it ends or cannot be started."""
        pause = AGAIN_SECONDS
        while not self._stopping.is_set():
            begun = time.monotonic()
            why = self._run(order)
            self._accepting.discard(order.own)
            if self._stopping.is_set():
                return
            Load.clear(order.numbers, self._config.receive.maximum_associations, order.own)
            pause = AGAIN_SECONDS if time.monotonic() - begun > STEADY_SECONDS else pause
            LOG.error("acceptor process %d %s: started again after %g s", order.own, why, pause)
            self._stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _run(self, order: Order) -> str:
        """Run one process until it ends or the node stops, and return how it ended."""
        try:
            process, pipe = _spawn(order)
        except Exception as error:  # noqa: BLE001  e.g. no file handle is left; this thread must go on
            return f"cannot be started ({getattr(error, 'strerror', None) or type(error).__name__})"
        latest, why = time.monotonic() + START_SECONDS, ""
        while process.is_alive() and not self._stopping.is_set() and not why:
            if order.own in self._accepting:
                self._stopping.wait(0.1)
            elif _accepts(pipe):
                self._accepting.add(order.own)
            elif time.monotonic() > latest:
                why = f"did not accept connections after {START_SECONDS:g} s"
        pipe.close()  # tells the process to end
        process.join(2 * STOP_SECONDS if self._stopping.is_set() else 0.0)
        process.kill()
        process.join()
        return why or f"ended ({process.exitcode})"


def _accepts(pipe: Connection) -> bool:
    """Wait a moment, and return whether a process says that it accepts connections."""
    try:
        return pipe.poll(0.1) and pipe.recv_bytes() == ACCEPTS
    except (OSError, EOFError):  # it has ended
        return False


def _spawn(order: Order) -> tuple[BaseProcess, Connection]:
    mine, theirs = Pipe()
    try:
        process = get_context("spawn").Process(
            target=lean_accept, args=(order, theirs), name="acceptor", daemon=True
        )
        process.start()
    except BaseException:
        mine.close()
        raise
    finally:
        theirs.close()
    return process, mine


def accept(order: Order, pipe: Connection) -> None:
    """Receive, in a process of its own, until the node ends or tells it to end."""
    begin(order.prepare)
    try:
        _receive(order, pipe)
    except Unavailable as error:
        LOG.error("nothing can be received: %s", error)
        sys.exit(1)


def _receive(order: Order, pipe: Connection) -> None:
    """Receive until the node closes its end of the pipe.

    Raises
    ------
    Unavailable
        Where the storage or the database is unavailable, or connections are no longer accepted.
    """
    # this halves the time of an A-ASSOCIATE-RQ of 128 contexts; `valid_uid` checks the UIDs that matter
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    config = order.config
    database = Database(config.database_url, identity=order.identity)
    archive = Archive(config.storage, database, member=order.member)
    trail = Trail(database, config.audit, config.receive.ae_title)
    receiver = Receiver(
        config.receive,
        partial(keep, archive, trail),
        lambda: shutil.disk_usage(config.storage).free / 1e6,
        {
            evt.EVT_N_EVENT_REPORT: partial(confirm.on_report, database, config.destinations),
            evt.EVT_N_ACTION: partial(commit.on_action, database, config.storage),
            evt.EVT_N_CREATE: partial(performed.on_create, database),
            evt.EVT_N_SET: partial(performed.on_set, database),
        },
        trail.alert,
    )
    receiver.start(order.listening, Load(config.receive.maximum_associations, order.numbers, order.own))
    pipe.send_bytes(ACCEPTS)
    while not pipe.poll(FLUSH_SECONDS):  # until the node closes its end
        _flush(trail)
        _count(database, receiver.visits, config.peer_names)
        if not receiver.accepts:  # its thread ended with a bug; a new process replaces this one
            raise Unavailable("the thread that accepts connections has ended")
    receiver.stop()
    _flush(trail)
    _count(database, receiver.visits, config.peer_names)
    database.close()


def _flush(trail: Trail) -> None:
    try:
        trail.flush()
    except Unavailable as error:  # the alerts are kept until the database can be reached
        LOG.warning("audit: %s", error)


def _count(database: Database, visits: Visits, peers: Collection[str]) -> None:
    """Add the associations that ended, and what was refused, to the numbers of the database."""
    if not (taken := visits.take()):
        return
    amounts: Counter[tuple[str, str]] = Counter()
    for (calling, how), count in taken.items():
        amounts["" if how == "refused" else tally.known(calling, peers), how] += count
    try:
        with database.writing() as connection:
            tally.add_all(connection, "associations", amounts)
    except Unavailable:  # counted until the database can be reached
        visits.give_back(taken)


def keep(archive: Archive, trail: Trail, received: Received) -> Literal["stored", "same", "other"]:
    """Store an instance that came over the network durably."""
    outcome = archive.store(
        sop_class_uid=received.sop_class_uid,
        sop_instance_uid=received.sop_instance_uid,
        transfer_syntax_uid=received.transfer_syntax_uid,
        calling_ae=received.calling_ae,
        dataset=received.dataset,
    )
    if outcome == "other":
        reason = f"other content under the stored SOP Instance UID {received.sop_instance_uid}"
        trail.alert("quarantined", received.calling_ae, received.address, reason)
    return outcome
