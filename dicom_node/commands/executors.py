"""Where the cases of a batch are worked on: child processes here, or a Dask cluster (an optional extra)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..errors import Rejected, Unavailable
from ..research.workers import Workers, in_child

T = TypeVar("T")

#: Time limit for reaching a Dask scheduler (s).
CONNECT_SECONDS = 15.0


@dataclass(frozen=True)
class DaskAddress:
    """Hold where a Dask scheduler is, and the files that TLS needs.

    Parameters
    ----------
    address : str
        ``tls://host:8786`` or, without TLS, ``tcp://host:8786``.
    authorities, certificate, key : Path, optional
        PEM files: who is trusted, and who we are. A ``tls`` address needs all three.
    """

    address: str
    authorities: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@contextmanager
def local_workers(size: int, memory_mb: int) -> Iterator[Executor]:
    """Yield an executor of child processes here; they are killed where the block ends by an error or Ctrl-C."""
    workers = Workers(size, memory_mb)
    well = False
    try:
        yield workers
        well = True
    finally:
        workers.shutdown(cancel_futures=not well)


@contextmanager
def dask_workers(where: DaskAddress, memory_mb: int) -> Iterator[Executor]:
    """Yield an executor on a Dask cluster; each worker runs a case in a child process of its own.

    Raises
    ------
    Rejected
        Where Dask is not installed, or a file for TLS is missing.
    Unavailable
        Where the scheduler cannot be reached.
    """
    try:
        from distributed import Client, Security
    except ImportError as error:
        raise Rejected("Dask is not installed: pip install 'vq-dicom-node[dask]'") from error
    files = where.authorities, where.certificate, where.key
    if where.address.startswith("tls://") and not all(files):
        raise Rejected(f"{where.address} needs --tls-ca, --tls-cert and --tls-key")
    names = ("tls_ca_file", "tls_client_cert", "tls_client_key")
    security = {name: str(path) for name, path in zip(names, files, strict=True) if path}
    try:
        client = Client(
            where.address,
            security=Security(require_encryption=True, **security) if security else None,
            timeout=CONNECT_SECONDS,
            set_as_default=False,
        )
    except (OSError, ValueError, TimeoutError) as error:
        raise Unavailable(f"the Dask scheduler at {where.address} cannot be reached: {error}") from error
    try:
        yield _OnDask(client, memory_mb)
    finally:
        client.close()


class _OnDask(Executor):
    """Submit each task to Dask, where a worker runs it in a child process (`in_child`)."""

    def __init__(self, client: Any, memory_mb: int) -> None:
        # pure=True, the default, would run equal tasks once and not repeat one that failed
        self._inner: Executor = client.get_executor(pure=False)
        self._memory_mb = memory_mb

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        return self._inner.submit(in_child, self._memory_mb, fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._inner.shutdown(wait=wait, cancel_futures=cancel_futures)
