"""A request -> who asks, or why it is refused: the only place that decides who gets in.

Rules against requests that another site makes a browser send (operations of peers show each of them missing): the Host
is on a list; a request that changes something comes from this origin, as the browser says (Sec-Fetch-Site, Origin), and
brings the token of its session's forms. A program with a token in `Authorization` is no browser and needs neither.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request

from ..printable import printable
from ..settings.web import WebSettings
from . import users
from .problems import Forbidden, NotLoggedIn
from .sessions import Sessions
from .site import Site
from .users import Role, User

#: Methods that change nothing (RFC 9110 9.2.1).
SAFE = frozenset({"GET", "HEAD"})
#: Header, and field of a form, with the token of a session's forms.
TOKEN_HEADER, TOKEN_FIELD = "x-form-token", "form_token"


@dataclass(frozen=True)
class Caller:
    """Who sent a request.

    Parameters
    ----------
    address : str
    user : User or None
    session : str
        Secret of the session; "" where a token or nobody said who it is.
    """

    address: str
    user: User | None
    session: str = ""


def cookie_name(settings: WebSettings) -> str:
    """Return the name of the session's cookie; by TLS, one that browsers accept only from this very host."""
    return "__Host-vq" if settings.tls else "vq"


def caller(request: Request, site: Site) -> Caller:
    """Return who sent a request.

    Raises
    ------
    Unavailable
        Where the database cannot be reached.
    """
    address = _address(request, site.settings)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return Caller(address, users.of_token(site.database, token.strip()))
    secret = request.cookies.get(cookie_name(site.settings), "")
    user = site.sessions.user(secret) if secret else None
    if named := _named_by_proxy(request, site.settings):
        if user is not None and user.name != named:
            return Caller(address, None)
        return Caller(address, user or users.named(site.database, named), secret if user else "")
    return Caller(address, user, secret if user else "")


def check_host(request: Request, settings: WebSettings) -> None:
    """Refuse a request whose Host is not one of this page's.

    Raises
    ------
    Forbidden
        Where a name that was made to point here, or a foreign proxy, was called.
    """
    if _host(f"//{request.headers.get('host', '')}") not in settings.names_of_host:
        raise Forbidden("this address is not one of the page's: add it to `hosts` of the table [web]")


def check_origin(request: Request, settings: WebSettings) -> None:
    """Refuse a request that changes something and that another site made a browser send.

    Raises
    ------
    Forbidden
        Where the browser says so, or says nothing.
    """
    fetched, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if fetched is None and origin is None:
        raise Forbidden("a request without Origin that changes something is refused")
    if fetched not in (None, "same-origin"):
        raise Forbidden("a request that another site sent is refused")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise Forbidden("a request that another site sent is refused")


def check_form(sessions: Sessions, who: Caller, token: str) -> None:
    """Refuse a form that this session did not get from this page.

    Raises
    ------
    Forbidden
        Where the token is missing or another session's.
    """
    if not (who.session and sessions.is_form_token(who.session, token)):
        raise Forbidden("the form is not from this session: load the page again")


def check_role(who: Caller, role: Role) -> User:
    """Return the user of a request, where the role suffices.

    Raises
    ------
    NotLoggedIn
        Where nobody is logged in.
    Forbidden
        Where the role does not suffice.
    """
    if who.user is None:
        raise NotLoggedIn("log in first")
    if not who.user.may(role):
        raise Forbidden(f"this needs the role {role}")
    return who.user


def _address(request: Request, settings: WebSettings) -> str:
    """Return where a request came from: what the last trusted proxy says, or else the connection."""
    address = request.client.host if request.client else ""
    for hop in reversed(request.headers.get("x-forwarded-for", "").split(",")):
        if not _trusted(address, settings) or not _is_address(hop.strip()):
            break
        address = hop.strip()
    return printable(address)


def _named_by_proxy(request: Request, settings: WebSettings) -> str:
    """Return the user that a trusted proxy names; "" where there is none, or the header came from elsewhere."""
    peer = request.client.host if request.client else ""
    if not settings.proxy_header or not _trusted(peer, settings):
        return ""
    values = request.headers.getlist(settings.proxy_header)
    return values[0] if len(values) == 1 else ""


def _trusted(address: str, settings: WebSettings) -> bool:
    if not _is_address(address):
        return False
    found = ipaddress.ip_address(address)
    found = getattr(found, "ipv4_mapped", None) or found
    return any(found in ipaddress.ip_network(proxy) for proxy in settings.proxies)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""
