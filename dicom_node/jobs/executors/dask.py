"""``engine = "dask"``: each order as a task of a Dask cluster, which a worker of any machine takes.

Only numbers go to the scheduler: "work on job N, attempt A" (`watch.attempt`). The worker reads its own configuration,
and verdict, progress and results go the way they always go, through the database and the storage, fenced by the
attempt. So whatever becomes of scheduler, worker and messages, no more than one attempt of that one job is lost.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ...errors import NodeError, Rejected, Unavailable
from ...processes import Ended
from ...settings.config import JobSettings
from ...settings.dask import DaskSettings
from ..order import Order
from . import watch
from .executor import Executor

LOG = logging.getLogger(__name__)

#: Time in which a scheduler must answer (s).
ANSWER_SECONDS = 5.0
LOST = "the Dask scheduler was lost"


def make(settings: JobSettings, run: Callable[[Order], None]) -> Executor:
    """Return an engine that gives orders to the cluster of the settings; `run` is not used, its workers have their own.

    Raises
    ------
    Rejected
        Where the settings name no cluster, or the extra `dask` is not installed.
    """
    if settings.dask is None:
        raise Rejected('engine = "dask" needs the table [jobs.dask]')
    try:
        import_module("distributed")
    except ImportError as error:
        raise Rejected('engine = "dask" needs the extra `dask`: vq-dicom-node[dask]') from error
    return DaskExecutor(settings.dask)


@dataclass
class _Given:
    """An order, the future of its task, and whether this node ended it."""

    order: Order
    future: Any
    ended: bool = False


class DaskExecutor:
    """Gives orders to a Dask cluster; a scheduler that went away is connected to again.

    Parameters
    ----------
    settings : DaskSettings
    """

    def __init__(self, settings: DaskSettings) -> None:
        self._settings = settings
        self._client: Any = None
        self._given: list[_Given] = []

    @property
    def free(self) -> int:
        """Return how many threads of the cluster have nothing to do now; several nodes may share it.

        Raises
        ------
        Unavailable
            Where the scheduler does not answer, or not in time; what the cluster works on goes on.
        """
        client = self._connected()
        try:
            threads = client.sync(client.scheduler.ncores, callback_timeout=ANSWER_SECONDS)
            busy = client.sync(client.scheduler.processing, workers=None, callback_timeout=ANSWER_SECONDS)
        except Exception as error:  # a timeout, or whatever a closed connection raises
            # a busy scheduler answers late: the client is kept, and so is what the workers are at. It knows itself when
            # its connection is lost, and `_connected` makes another one then.
            raise Unavailable(f"the Dask scheduler does not answer: {type(error).__name__}") from error
        keys = {key for found in busy.values() for key in found} | {g.future.key for g in self._given}
        return max(0, sum(threads.values()) - len(keys))

    @property
    def orders(self) -> list[Order]:
        """Return the orders that the cluster works on."""
        return [given.order for given in self._given]

    def start(self, order: Order) -> None:
        """Give an order to the cluster.

        Raises
        ------
        Unavailable
            Where there is no scheduler now.
        """
        client = self._connected()
        # a key of its own each time, or Dask answers with what it knows of an earlier one
        key = f"job-{order.job_id}-{order.attempt}-{uuid.uuid4().hex[:8]}"
        future = client.submit(watch.attempt, order.job_id, order.attempt, key=key, pure=False)
        self._given.append(_Given(order, future))

    def end(self, order: Order) -> None:
        """Give up an order. Dask ends no task that runs: `watch` sees in the database that the attempt is over."""
        for given in self._given:
            if given.order is order:
                given.ended = True
                with suppress(Exception):
                    given.future.cancel()

    def ended(self) -> list[Ended[Order]]:
        """Return the orders whose task has ended, or whose scheduler was lost."""
        over = []
        for given in self._given:
            status = given.future.status
            if given.ended:
                over.append(Ended(given.order, "was ended"))
            elif status in ("cancelled", "lost"):
                over.append(Ended(given.order, LOST, blames=False))
            elif status in ("finished", "error"):
                over.append(_ended(given))
        return over

    def forget(self, order: Order) -> None:
        """Stop listing an order; Dask forgets its task then."""
        for given in self._given:
            if given.order is order:
                with suppress(Exception):
                    given.future.release()
        self._given = [given for given in self._given if given.order is not order]

    def stop(self) -> list[Order]:
        """Give up all orders and leave the cluster."""
        orders = self.orders
        for order in orders:
            self.end(order)
        self._given = []
        self._drop()
        return orders

    def _connected(self) -> Any:
        """Return a client that is connected.

        Raises
        ------
        Unavailable
            Where the scheduler does not answer.
        """
        if self._client is not None and self._client.status != "running":
            self._drop()
        if self._client is None:
            distributed = import_module("distributed")
            try:
                self._client = distributed.Client(
                    self._settings.address,
                    timeout=ANSWER_SECONDS,
                    security=_security(self._settings, distributed),
                    set_as_default=False,
                    name="dicom-node",
                )
            except Exception as error:  # OSError, TimeoutError, ssl.SSLError or one of Dask's own
                why = f"the Dask scheduler at {self._settings.address} does not answer"
                raise Unavailable(f"{why}: {type(error).__name__}") from error
            LOG.info("connected to the Dask scheduler at %s", self._settings.address)
        return self._client

    def _drop(self) -> None:
        """Close the client, if there is one; its futures are cancelled then, and `ended` lists their orders."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                client.close(timeout=ANSWER_SECONDS)


def _ended(given: _Given) -> Ended[Order]:
    """Return how a task ended that has an outcome."""
    try:
        return Ended(given.order, given.future.result(timeout=ANSWER_SECONDS) or "ended without a verdict")
    except NodeError as error:  # `watch` could not begin
        return Ended(given.order, str(error), blames=False)
    except Exception as error:  # noqa: BLE001  KilledWorker, or what a worker without this software raises
        name = type(error).__name__
        if name == "KilledWorker":
            return Ended(given.order, watch.WORKER_LOST)
        return Ended(given.order, f"a Dask worker cannot begin: {name}", blames=False)


def _security(settings: DaskSettings, distributed: Any) -> Any:
    if settings.tls is None:
        return None
    tls = settings.tls
    return distributed.Security(
        tls_ca_file=str(tls.authorities),
        tls_client_cert=str(tls.certificate),
        tls_client_key=str(tls.key),
        require_encryption=True,
    )
