"""Settings of a Dask cluster on which jobs are worked on."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import Rejected
from .peers import TlsSettings


@dataclass(frozen=True)
class DaskSettings:
    """Where the scheduler of a Dask cluster listens.

    Whoever reaches a scheduler can run programs on its workers. So it is reached over TLS, with a certificate on each
    side, unless it listens on loopback.

    Parameters
    ----------
    address : str
        "tls://host:port"; "tcp://127.0.0.1:port" on this machine only.
    tls : TlsSettings, optional
        The certificate that this node shows to the scheduler, and the authority of the scheduler's.
    """

    address: str
    tls: TlsSettings | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.address)
        try:
            well = bool(parts.scheme in ("tls", "tcp") and parts.hostname and parts.port)
        except ValueError:
            well = False
        if not well:
            raise Rejected(f"the address of a scheduler is tls://host:port, not {self.address!r}")
        if parts.scheme == "tls" and self.tls is None:
            raise Rejected(f"{self.address} needs the table [jobs.dask.tls]")
        if parts.scheme == "tcp" and (self.tls is not None or not _is_loopback(parts.hostname or "")):
            raise Rejected(
                "whoever reaches a scheduler without TLS can run programs on its workers: use tls:// and the table "
                "[jobs.dask.tls], or tcp:// on loopback"
            )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
