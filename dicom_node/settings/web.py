"""Settings of the operator's page: where it listens, who may be whom, what it shows."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import Rejected

#: What a request header may be called (RFC 9110 5.1).
HEADER_NAME = r"[A-Za-z0-9-]{1,64}"


@dataclass(frozen=True)
class WebTls:
    """The certificate that the page shows to browsers.

    Parameters
    ----------
    certificate, key : Path
        PEM files: the page's certificate (and chain), and its private key without a passphrase; relative to the
        configuration file.
    authorities : Path, optional
        PEM file of authorities; with it, every browser must show a certificate that one of them signed.
    """

    certificate: Path
    key: Path
    authorities: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Return every file that these settings name."""
        return (self.certificate, self.key, *([self.authorities] if self.authorities else []))

    def below(self, folder: Path) -> WebTls:
        """Return the same settings with relative paths resolved against `folder`."""
        authorities = self.authorities and folder / self.authorities
        return WebTls(folder / self.certificate, folder / self.key, authorities)


@dataclass(frozen=True)
class OidcSettings:
    """An OpenID provider at which users may log in (OpenID Connect Core 1.0).

    Parameters
    ----------
    issuer : str
        Name and address of the provider; https, or http on this machine.
    client_id : str
        What the provider calls this page.
    client_secret_file : Path
        File with the secret that the provider gave it; relative to the configuration file.
    address : str
        Address by which browsers call the page; the provider must know ``{address}/login/oidc/back``.
    claim : str
        Claim of the ID token that is the user's name here; the user must be one of the node's.
    authorities : Path, optional
        PEM file of the authorities that may have signed the provider's certificate; the system's without it.
    """

    issuer: str
    client_id: str
    client_secret_file: Path
    address: str
    claim: str = "preferred_username"
    authorities: Path | None = None

    def __post_init__(self) -> None:
        for name in ("issuer", "address"):
            url = urlsplit(getattr(self, name))
            near = url.scheme == "http" and url.hostname in ("127.0.0.1", "::1", "localhost")
            if not (url.hostname and (url.scheme == "https" or near)) or url.query or url.fragment:
                raise Rejected(f"{name} is an address with https://, or http:// on this machine")
        if not (self.client_id and self.claim):
            raise Rejected("client_id and claim must not be empty")

    def below(self, folder: Path) -> OidcSettings:
        """Return the same settings with relative paths resolved against `folder`."""
        authorities = self.authorities and folder / self.authorities
        return replace(self, client_secret_file=folder / self.client_secret_file, authorities=authorities)


@dataclass(frozen=True)
class WebSettings:
    """Settings of the page; there is none without this table.

    Parameters
    ----------
    host : str
        Address to listen on; the default is loopback.
    port : int
        Port to listen on; 0 for any free one.
    hosts : tuple of str
        Names by which browsers may call the page, besides those of loopback and `host`.
    names : bool
        True to show names, Patient IDs and accession numbers to users who are logged in.
    session_minutes, session_hours : float
        A session ends after so many minutes without a request, and after so many hours.
    login_attempts : int
        Wrong passwords for one user from one address in five minutes, after which further ones are not looked at.
    upload_mb : int
        Most that one upload or STOW-RS request may hold (MB).
    viewer_url : str
        Address of a study in the PACS viewer, with "{study}" for the Study Instance UID; "" for no link.
    proxies : tuple of str
        Addresses or networks of reverse proxies whose `proxy_header` and X-Forwarded-For are believed.
    proxy_header : str
        Header in which such a proxy names the user that it has let in; "" for none. The user must be one of the node's.
    tls : WebTls, optional
        Serve by TLS 1.2 or later only.
    oidc : OidcSettings, optional
        Provider at which users may log in, besides their passwords here.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    hosts: tuple[str, ...] = ()
    names: bool = False
    session_minutes: float = 30.0
    session_hours: float = 12.0
    login_attempts: int = 5
    upload_mb: int = 8192
    viewer_url: str = ""
    proxies: tuple[str, ...] = ()
    proxy_header: str = ""
    tls: WebTls | None = None
    oidc: OidcSettings | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise Rejected(f"a port is 0 to 65535, not {self.port}")
        for name in ("session_minutes", "session_hours", "login_attempts", "upload_mb"):
            if getattr(self, name) <= 0:
                raise Rejected(f"{name} must be positive")
        if self.viewer_url and not re.match(r"https?://[^\s]*\{study\}", self.viewer_url):
            raise Rejected("viewer_url begins with http:// or https:// and holds {study}")
        if self.proxy_header and not (self.proxies and re.fullmatch(HEADER_NAME, self.proxy_header)):
            raise Rejected("proxy_header is the name of a header, and needs the addresses of the proxies")
        for address in self.proxies:
            try:
                ipaddress.ip_network(address)
            except ValueError as error:
                raise Rejected(f"a proxy is an IP address or network, not {address!r}") from error

    def below(self, folder: Path) -> WebSettings:
        """Return the same settings with relative paths resolved against `folder`."""
        return replace(
            self, tls=self.tls and self.tls.below(folder), oidc=self.oidc and self.oidc.below(folder)
        )

    @property
    def names_of_host(self) -> frozenset[str]:
        """Return what the Host header of a request may say, without the port."""
        return frozenset({"127.0.0.1", "localhost", "::1", self.host, *(name.lower() for name in self.hosts)})
