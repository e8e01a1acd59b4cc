"""Certificates -> TLS contexts of both sides (PS3.15 B.9, B.12), reloaded when changed; their names and dates."""

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
from ..settings.web import WebTls

LOG = logging.getLogger(__name__)

#: Handshake time limit (s).
HANDSHAKE_SECONDS = 10.0
OLDEST = ssl.TLSVersion.TLSv1_2
#: Ciphers of TLS 1.2 with forward secrecy and authenticated encryption (RFC 9325 4.2). All of TLS 1.3 have both.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"
#: Interval at which the files are checked for changes, and interval of warnings about near expiry (s).
LOOK_SECONDS, WORD_SECONDS = 1.0, 86400.0
#: Time before expiry from which a certificate or revocation list is warned of (days).
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
    """Return a server context that requires a certificate from every client.

    Raises
    ------
    Rejected
        Where a file cannot be used.
    """
    return _context(ssl.PROTOCOL_TLS_SERVER, settings)


def client_context(settings: TlsSettings) -> ssl.SSLContext:
    """Return a client context that shows its certificate and checks the server's, including its host name.

    Raises
    ------
    Rejected
        Where a file cannot be used.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, settings)


def page_context(settings: WebTls) -> ssl.SSLContext:
    """Return the context by which browsers are served: TLS 1.2 or later.

    Raises
    ------
    Rejected
        Where a file cannot be used.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = OLDEST
    try:
        context.load_cert_chain(settings.certificate, settings.key, password=lambda: b"")
        if settings.authorities is not None:
            context.load_verify_locations(settings.authorities)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
        raise Rejected(f"the certificate of the page cannot be used: {why}") from error
    return context


def _context(protocol: int, settings: TlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = OLDEST
    context.set_ciphers(CIPHERS)
    context.verify_mode = ssl.CERT_REQUIRED
    for path in settings.files:
        try:
            path.open("rb").close()
        except OSError as error:
            raise Rejected(f"the file {path} of a certificate cannot be read: {error.strerror}") from error
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
        # check the whole chain: revoking an intermediate authority revokes the certificates it signed
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    elif settings.crl is not None:
        raise Rejected(f"the file of revocation lists {settings.crl} has none (X509 CRL, PEM)")
    return context


class Certificates:
    """The TLS context of a server, reloaded when its files change; the last usable one is kept.

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
        """Return the context for the next handshake; two threads must not call it at one time."""
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
        self._seen = stamp  # logged once; after the next change the files are tried again

    def _stamp(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(path) for path in self._settings.files]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Return values that change whenever the file does; None where it cannot be read."""
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


def expiring(settings: TlsSettings | WebTls, now: float) -> list[str]:
    """Return a sentence for each certificate and revocation list that has expired, or will in `SOON_DAYS`.

    Parameters
    ----------
    settings : TlsSettings or WebTls
    now : float
        Current time (s since 1970).
    """
    sentences = []
    for path, what, ends in dated(settings):
        days, when = (ends - now) / 86400, day_of(ends)
        if days < 0:
            sentences.append(f"the {what} in {path} has expired on {when}: no connection is possible with it")
        elif days < SOON_DAYS:
            sentences.append(f"the {what} in {path} expires in {days:.0f} days, on {when}")
    return sentences


def day_of(seconds: float) -> str:
    """Return the minute of a time (s since 1970) as text."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def dated(settings: TlsSettings | WebTls) -> Iterator[tuple[Path, str, float]]:
    """Yield the file, the kind and the expiry (s since 1970) of every certificate and revocation list of some files."""
    for path in dict.fromkeys(settings.files):
        for what, when in _ends(path):
            yield path, what, when


def ends(settings: TlsSettings | WebTls) -> dict[str, float]:
    """Return when the first certificate, and the first revocation list, of some files expires (s since 1970)."""
    found: dict[str, float] = {}
    for _, what, when in dated(settings):
        found[what] = min(when, found.get(what, when))
    return found


def _ends(path: Path) -> Iterator[tuple[str, float]]:
    """Yield each dated item of a PEM file and its expiry (s since 1970), skipping those that cannot be read."""
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


#: PEM labels (RFC 7468) of the items that expire.
DATED = {"CERTIFICATE": "certificate", "X509 CRL": "certificate revocation list"}
#: ASN.1 tags (X.690): of the sequence that holds the dates, and of the two kinds of date.
SEQUENCE, UTC_TIME, GENERALIZED_TIME = 0x30, 0x17, 0x18


def _expiry(der: bytes) -> float:
    """Return the second date of a certificate or revocation list (s since 1970; RFC 5280 4.1.2.5, 5.1.2.5)."""
    ((_, whole),) = _items(der)
    _, signed = next(_items(whole))
    dates: list[bytes] = []
    for tag, value in _items(signed):
        if tag in (UTC_TIME, GENERALIZED_TIME):  # in a revocation list, the dates are fields of their own
            dates.append(value)
        elif tag == SEQUENCE:  # in a certificate, they are alone in a sequence
            inner = list(_items(value))
            if len(inner) == 2 and all(kind in (UTC_TIME, GENERALIZED_TIME) for kind, _ in inner):
                dates += [date for _, date in inner]
        if len(dates) > 1:
            break
    text = dates[1].decode("ascii")
    form = "%y%m%d%H%M%SZ" if len(text) == 13 else "%Y%m%d%H%M%SZ"
    return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()


def _items(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tag and content of each item of a DER encoding (X.690 8.1)."""
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
