"""One port -> several processes that receive: started, restarted, and ended with the node, however it ends."""

from __future__ import annotations

import logging
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pipe, get_context, reduction
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
from ..processes import begin
from ..settings.config import Config
from ..store.archive import Archive
from ..store.database import Database
from . import mpps as performed
from . import storage_commitment as commit

LOG = logging.getLogger(__name__)

#: Alerts are spooled so often, seconds.
FLUSH_SECONDS = 1.0
#: A process that ended, or could not be started, is started again after so long: first and longest pause, seconds.
AGAIN_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0
#: The first pause is the next one again where a process has accepted connections for so long, seconds.
STEADY_SECONDS = 60.0
#: A process that does not accept connections so long after its start is ended, seconds.
START_SECONDS = 120.0
#: Where no process has accepted connections for so long, none will: the node is to end, and be started again, seconds.
LOST_SECONDS = 120.0
#: What a process says once it accepts connections.
ACCEPTS = b"accepts"


class Held:
    """A file descriptor that a spawned process holds too: a lock on it lasts until the last of them has ended."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __reduce__(self) -> Any:
        return _hold, (reduction.DupFd(self.descriptor),)


def _hold(duplicate: Any) -> Held:
    return Held(duplicate.detach())


@dataclass(frozen=True)
class _Order:
    """What an acceptor process is given."""

    config: Config
    listening: Any
    lock: Held
    numbers: Any
    own: int
    prepare: Callable[[], None] | None


class Acceptors:
    """The processes that receive for a node.

    The socket listens in the node's process and is shared: whichever process is free accepts, and connections that
    wait outlive a process that dies. They write files and rows by themselves.

    Parameters
    ----------
    config : Config
    lock : int
        Descriptor of the storage's lock; the processes hold it too, so that no other node begins while one is left.
    prepare : callable, optional
        A module's function called first in each process, e.g. to configure its log.
    """

    def __init__(self, config: Config, lock: int, prepare: Callable[[], None] | None = None) -> None:
        self._config, self._lock, self._prepare = config, Held(lock), prepare
        self._stopping = threading.Event()
        self._keepers: list[threading.Thread] = []
        self._listening: Any = None
        self._accepting: set[int] = set()
        self._last_accepted = time.monotonic()

    @property
    def accepting(self) -> int:
        """How many processes accept connections now; `receive.acceptors` where all is well."""
        return len(self._accepting)

    @property
    def lost(self) -> bool:
        """Whether no process accepts connections, and none has for `LOST_SECONDS`."""
        if self._accepting:
            self._last_accepted = time.monotonic()
        return time.monotonic() - self._last_accepted > LOST_SECONDS

    def start(self) -> int:
        """Listen and start the processes; returns the port.

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
            order = _Order(self._config, self._listening, self._lock, numbers, own, self._prepare)
            keeper = threading.Thread(target=self._keep, args=(order,), name=f"acceptor-{own}", daemon=True)
            keeper.start()
            self._keepers.append(keeper)
        return int(self._listening.getsockname()[1])

    def stop(self) -> None:
        """Stop listening and end the processes; what was not acknowledged will be sent again."""
        self._stopping.set()
        for keeper in self._keepers:
            keeper.join()
        if self._listening is not None:
            self._listening.close()

    def _keep(self, order: _Order) -> None:
        """Run one process, again whenever it ends or cannot be started, until the node stops."""
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

    def _run(self, order: _Order) -> str:
        """Run one process until it ends, or the node stops; how it ended."""
        try:
            process, pipe = _spawn(order)
        except Exception as error:  # noqa: BLE001  no file handle or memory is left, say: this thread must go on
            return f"cannot be started ({getattr(error, 'strerror', None) or type(error).__name__})"
        latest, why = time.monotonic() + START_SECONDS, ""
        while process.is_alive() and not self._stopping.is_set() and not why:
            if order.own in self._accepting:
                self._stopping.wait(0.1)
            elif _accepts(pipe):
                self._accepting.add(order.own)
            elif time.monotonic() > latest:
                why = f"did not accept connections after {START_SECONDS:g} s"
        pipe.close()  # which tells it to end
        process.join(2 * STOP_SECONDS if self._stopping.is_set() else 0.0)
        process.kill()
        process.join()
        return why or f"ended ({process.exitcode})"


def _accepts(pipe: Connection) -> bool:
    """Whether a process says that it accepts connections; waits a moment for that."""
    try:
        return pipe.poll(0.1) and pipe.recv_bytes() == ACCEPTS
    except (OSError, EOFError):  # it has ended
        return False


def _spawn(order: _Order) -> tuple[BaseProcess, Connection]:
    mine, theirs = Pipe()
    try:
        process = get_context("spawn").Process(
            target=_accept, args=(order, theirs), name="acceptor", daemon=True
        )
        process.start()
    except BaseException:
        mine.close()
        raise
    finally:
        theirs.close()
    return process, mine


def _accept(order: _Order, pipe: Connection) -> None:
    """In a process of its own: receive until the node says to end, or ends."""
    begin(order.prepare)
    try:
        _receive(order, pipe)
    except Unavailable as error:
        LOG.error("nothing can be received: %s", error)
        sys.exit(1)


def _receive(order: _Order, pipe: Connection) -> None:
    """Receive until the node closes its end of the pipe.

    Raises
    ------
    Unavailable
        Where the storage or the database is, or connections are accepted no longer.
    """
    # half the time that an A-ASSOCIATE-RQ of 128 contexts takes; UIDs that matter are checked by `valid_uid`
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    config = order.config
    database = Database(config.database_url)
    archive = Archive(config.storage, database)
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
        if not receiver.accepts:  # its thread has met a bug: another process is better than none
            raise Unavailable("the thread that accepts connections has ended")
    receiver.stop()
    _flush(trail)
    database.close()


def _flush(trail: Trail) -> None:
    try:
        trail.flush()
    except Unavailable as error:  # the alerts are kept until it is back
        LOG.warning("audit: %s", error)


def keep(archive: Archive, trail: Trail, received: Received) -> Literal["stored", "same", "other"]:
    """Make an instance durable that came over the network."""
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
