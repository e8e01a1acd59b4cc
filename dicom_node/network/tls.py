"""Certificates -> TLS contexts of both sides (PS3.15 B.9, B.12), read again when changed; names and dates of them."""

from __future__ import annotations

import logging
import os
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import Rejected
from ..settings.peers import TlsSettings

LOG = logging.getLogger(__name__)

#: A handshake that takes longer is given up, seconds.
HANDSHAKE_SECONDS = 10.0
OLDEST = ssl.TLSVersion.TLSv1_2
#: TLS 1.2: forward secrecy and authenticated encryption only (RFC 9325 4.2). Those of TLS 1.3 all have both.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"
#: Between two looks at the files, and between two words about dates that are near, seconds.
LOOK_SECONDS, WORD_SECONDS = 1.0, 86400.0
#: A certificate or revocation list that expires so soon is told of, days.
SOON_DAYS = 30.0

#: How RFC 4514 3 abbreviates the attributes of a subject; others keep the name OpenSSL has for them.
SHORT = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """Return a context that wants a certificate of every client.

    Raises
    ------
    Rejected
        Where a file cannot be used.
    """
    return _context(ssl.PROTOCOL_TLS_SERVER, settings)


def client_context(settings: TlsSettings) -> ssl.SSLContext:
    """Return a context that shows its certificate and checks the server's, its host name included.

    Raises
    ------
    Rejected
        Where a file cannot be used.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, settings)


def _context(protocol: int, settings: TlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = OLDEST
    context.set_ciphers(CIPHERS)
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(settings.certificate, settings.key, password="")
        context.load_verify_locations(settings.authorities)
        if settings.crl is not None:
            context.load_verify_locations(settings.crl)
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "strerror", None) or error
        raise Rejected(
            f"the TLS certificate, key, authorities or revocation lists cannot be used: {why}"
        ) from error
    if context.cert_store_stats()["crl"]:
        # of the whole chain: a revoked authority in between has revoked what it signed, too
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    elif settings.crl is not None:
        raise Rejected(f"the file of revocation lists {settings.crl} has none (X509 CRL, PEM)")
    return context


class Certificates:
    """The context of a server whose files may change while it runs; the last that could be used is kept.

    Parameters
    ----------
    settings : TlsSettings

    Raises
    ------
    Rejected
        Where a file cannot be used now.
    """

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self._seen = self._stamp()
        self._context = server_context(settings)
        self._looked, self._told = time.monotonic(), -WORD_SECONDS

    def context(self) -> ssl.SSLContext:
        """Return the context for the next handshake; not to be called by two threads at one time."""
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            if (stamp := self._stamp()) != self._seen:
                self._read(stamp)
        return self._context

    def warn(self) -> None:
        """Log once a day which certificates and lists expire soon or have expired."""
        now = time.monotonic()
        if now - self._told >= WORD_SECONDS:
            self._told = now
            for sentence in expiring(self._settings, time.time()):
                LOG.warning("TLS: %s", sentence)

    def _read(self, stamp: Any) -> None:
        try:
            self._context = server_context(self._settings)
        except Rejected as error:
            LOG.error("TLS: the files changed, and the ones before stay in use: %s", error)
        else:
            LOG.info("TLS: the files changed and are in use")
            self._told = -WORD_SECONDS
        self._seen = stamp  # said once; the next change is looked at again

    def _stamp(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(path) for path in self._settings.files]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes with a file; None where it cannot be seen."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def certificate_names(shown: dict[str, Any] | None) -> frozenset[str]:
    """Return the names of a certificate as `ssl.SSLSocket.getpeercert` returns it.

    Returns
    -------
    frozenset of str
        The common names and the whole subject (RFC 4514: the last attribute first), and every Subject
        Alternative Name.

    Examples
    --------
    >>> shown = {"subject": ((("organizationName", "H, Inc"),), (("commonName", "CT1"),))}
    >>> sorted(certificate_names(shown | {"subjectAltName": (("DNS", "ct1.example.org"),)}))
    ['CN=CT1,O=H\\\\, Inc', 'CT1', 'ct1.example.org']
    """
    if not shown:
        return frozenset()
    parts = shown.get("subject", ())
    names = {value for part in parts for kind, value in part if kind == "commonName"}
    names |= {value for _, value in shown.get("subjectAltName", ()) if isinstance(value, str)}
    subject = ",".join("+".join(f"{SHORT.get(k, k)}={_escaped(v)}" for k, v in part) for part in parts[::-1])
    return frozenset(names | {subject}) - {""}


def _escaped(value: str) -> str:
    return "".join(f"\\{c}" if c in ',+"\\<>;' else c for c in value)


def expiring(settings: TlsSettings, now: float) -> list[str]:
    """Return a sentence for each certificate and revocation list that has expired, or will in `SOON_DAYS`.

    Parameters
    ----------
    settings : TlsSettings
    now : float
        Seconds since 1970.
    """
    sentences = []
    for path in dict.fromkeys((settings.certificate, settings.authorities, settings.crl)):
        for what, ends in _ends(path) if path is not None else []:
            days, when = (
                (ends - now) / 86400,
                datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%d %H:%M UTC"),
            )
            if days < 0:
                sentences.append(
                    f"the {what} in {path} has expired on {when}: no connection is possible with it"
                )
            elif days < SOON_DAYS:
                sentences.append(f"the {what} in {path} expires in {days:.0f} days, on {when}")
    return sentences


def _ends(path: Path) -> Iterator[tuple[str, float]]:
    """What is in a PEM file, and when each expires, seconds since 1970; what cannot be read is passed over."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return
    for block in text.split("-----BEGIN ")[1:]:
        label, _, rest = block.partition("-----")
        body = rest.partition("-----END")[0]
        if label in DATED:
            try:
                pem = f"{ssl.PEM_HEADER}\n{body.strip()}\n{ssl.PEM_FOOTER}"
                yield DATED[label], _expiry(ssl.PEM_cert_to_DER_cert(pem))
            except (ValueError, IndexError):
                continue


#: PEM labels (RFC 7468) of what expires.
DATED = {"CERTIFICATE": "certificate", "X509 CRL": "certificate revocation list"}
#: Tags of ASN.1 (X.690): of what dates are in, and of dates.
SEQUENCE, UTC_TIME, GENERALIZED_TIME = 0x30, 0x17, 0x18


def _expiry(der: bytes) -> float:
    """The second date of a certificate or list (RFC 5280 4.1.2.5, 5.1.2.5), seconds since 1970."""
    ((_, whole),) = _items(der)
    _, signed = next(_items(whole))
    dates: list[bytes] = []
    for tag, value in _items(signed):
        if tag in (UTC_TIME, GENERALIZED_TIME):  # of a list, the dates stand among its fields
            dates.append(value)
        elif tag == SEQUENCE:  # of a certificate, in a sequence of nothing else
            inner = list(_items(value))
            if len(inner) == 2 and all(kind in (UTC_TIME, GENERALIZED_TIME) for kind, _ in inner):
                dates += [date for _, date in inner]
        if len(dates) > 1:
            break
    text = dates[1].decode("ascii")
    form = "%y%m%d%H%M%SZ" if len(text) == 13 else "%Y%m%d%H%M%SZ"
    return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()


def _items(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each item of a DER encoding (X.690 8.1)."""
    at = 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size], "big"), at + size
        if at + length > len(der):
            raise ValueError("an item does not fit")
        yield tag, der[at : at + length]
        at += length
