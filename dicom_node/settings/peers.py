"""Settings of the peers of a node: who may send, certificates, the PACS that is searched."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from ..errors import Rejected


def valid_ae_title(title: str) -> str:
    """Return the title if it is a valid AE title (PS3.5 6.2).

    It has 1 to 16 printable ASCII characters, no backslash, and not only spaces.

    Raises
    ------
    Rejected
        Where it is not.
    """
    if not re.fullmatch(r"[ -\[\]-~]{1,16}", title) or not title.strip():
        raise Rejected(f"an AE title is 1 to 16 printable ASCII characters without backslash, not {title!r}")
    return title


@dataclass(frozen=True)
class Peer:
    """A peer that may send, and where its reports of storage commitment are sent.

    Parameters
    ----------
    ae_title : str
        Calling AE title, or "" for any.
    address : str
        IP address or network ("10.1.2.0/24"), or "" for any.
    port : int
        Port where it listens for reports; with 0 it gets them only on the association of its request.
    host : str
        Host where it listens for reports; "" for the address that its request came from.
    certificate : str
        A name of the certificate it must show: the common name of its subject, its whole subject
        ("CN=CT1,O=Hospital", RFC 4514), or a Subject Alternative Name; "" for any certificate. Needs TLS.
    """

    ae_title: str = ""
    address: str = ""
    port: int = 0
    host: str = ""
    certificate: str = ""

    def __post_init__(self) -> None:
        if not self.ae_title and not self.address:
            raise Rejected("a peer needs an ae_title, an address, or both")
        if self.ae_title:
            valid_ae_title(self.ae_title)
        if not 0 <= self.port <= 65535 or (self.host and not self.port):
            raise Rejected("the port of a peer is 1 to 65535; its host needs one")
        if self.address:
            try:
                ipaddress.ip_network(self.address)
            except ValueError as error:
                raise Rejected(
                    f"the address of a peer is an IP address or network, not {self.address!r}"
                ) from error

    def matches(self, ae_title: str, address: str) -> bool:
        """Return whether the AE title and the address belong to this peer.

        Examples
        --------
        >>> Peer("CT1", "10.1.2.0/24").matches("CT1", "10.1.2.7")
        True
        >>> Peer("", "10.1.2.0/24").matches("CT1", "10.1.3.7")
        False
        """
        return self.ae_title in ("", ae_title) and self.lives_at(address)

    def shows(self, names: frozenset[str]) -> bool:
        """Return whether a certificate with these names belongs to this peer; without `certificate`, any does.

        Case does not matter, as in host names (RFC 4343).

        Examples
        --------
        >>> Peer("CT1", certificate="ct1.example.org").shows(frozenset({"CT1.example.org", "10.1.2.7"}))
        True
        """
        return not self.certificate or self.certificate.lower() in {name.lower() for name in names}

    def lives_at(self, address: str) -> bool:
        """Return whether the address belongs to this peer; it is known before any byte of a connection is read.

        Examples
        --------
        >>> Peer("CT1").lives_at("192.0.2.1"), Peer("CT1", "10.1.2.7").lives_at("::ffff:10.1.2.7")
        (True, True)
        """
        if not self.address:
            return True
        found = ipaddress.ip_address(address)
        mapped = getattr(found, "ipv4_mapped", None)
        return (mapped or found) in _network(self.address)


@cache
def _network(address: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Return the network of a peer's address, cached because every connection asks for every peer's."""
    return ipaddress.ip_network(address)


@dataclass(frozen=True)
class TlsSettings:
    """The certificate files of one side of a TLS connection.

    Parameters
    ----------
    certificate, key : Path
        PEM files: this side's certificate (and chain), and its private key without a passphrase. Relative to
        the configuration file.
    authorities : Path
        PEM file of the authorities that may have signed the other side's certificate; revocation lists in it are used.
    crl : Path, optional
        PEM file of certificate revocation lists, one for each authority. With this, or with a list among the
        `authorities`, a revoked certificate is refused, and so is every certificate of an authority whose list
        is missing or out of date (RFC 5280 6.3).
    """

    certificate: Path
    key: Path
    authorities: Path
    crl: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Return every file that these settings name."""
        return (self.certificate, self.key, self.authorities, *([self.crl] if self.crl else []))

    def below(self, folder: Path) -> TlsSettings:
        """Return the same settings with relative paths resolved against `folder`."""
        crl = self.crl and folder / self.crl
        return TlsSettings(folder / self.certificate, folder / self.key, folder / self.authorities, crl)


@dataclass(frozen=True)
class Pacs:
    """A PACS that is searched for the missing images of a study that waits for its other phase.

    Parameters
    ----------
    name : str
    ae_title, host, port, calling_ae_title, timeout, tls
        As in `CStoreDestination`.
    method : {"C-MOVE", "C-GET"}
        How images are retrieved; for C-MOVE the PACS must know this node's AE title and port.
    search_seconds : float
        Pause between two searches for one study (s).
    """

    name: str
    ae_title: str
    host: str
    port: int = 104
    calling_ae_title: str = ""
    timeout: float = 30.0
    method: Literal["C-MOVE", "C-GET"] = "C-MOVE"
    search_seconds: float = 300.0
    tls: TlsSettings | None = None

    def __post_init__(self) -> None:
        valid_ae_title(self.ae_title)
        if min(self.timeout, self.search_seconds) <= 0 or not 0 < self.port <= 65535:
            raise Rejected("timeout and search_seconds must be positive, the port 1 to 65535")
