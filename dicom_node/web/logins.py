"""Logging in, here or at an OpenID provider, and out: the page that asks, and the cookie of the session that begins."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from . import guard, users
from .calls import Call, form_of, local
from .oidc import LOGIN_SECONDS, Provider
from .problems import NotThere


async def login_page(call: Call) -> Response:
    """Return the form to log in with, or begin the session of a user whom a proxy let in."""
    if call.who.user is not None and not call.who.session and not call.who.user.program:
        secret = await run_in_threadpool(call.site.sessions.begin, call.who.user)  # a proxy let the user in
        return with_session(call, secret, call.request.query_params.get("next", ""))
    return _page(call, call.request.query_params.get("next", ""))


def _page(call: Call, target: str, wrong: str = "") -> Response:
    oidc = call.site.settings.oidc
    provider = "" if oidc is None else urlsplit(oidc.issuer).hostname
    return call.page("login", 401 if wrong else 200, next=local(target), wrong=wrong, provider=provider)


async def login(call: Call) -> Response:
    """Begin a session where name and password are right, and report the attempt."""
    form = await form_of(call.request)
    name, password = form.get("name", ""), form.get("password", "")
    site, address = call.site, call.who.address
    secret = await run_in_threadpool(site.sessions.login, name, password, address)
    await run_in_threadpool(
        site.trail.authenticated, name[:64] or "nobody", address, True, secret is not None
    )
    if secret is None:
        return _page(call, form.get("next", ""), "Name or password is wrong.")
    return with_session(call, secret, form.get("next", ""))


def _provider(call: Call) -> Provider:
    if call.site.provider is None:
        raise NotThere("the page has no OpenID provider")
    return call.site.provider


async def to_provider(call: Call) -> Response:
    """Send the browser to the OpenID provider, with a cookie for its way back."""
    target = local(call.request.query_params.get("next", ""))
    address, cookie = await run_in_threadpool(_provider(call).begin, target)
    answer = RedirectResponse(address, 303)
    answer.set_cookie(_login_cookie(call), cookie, max_age=int(LOGIN_SECONDS), **_kept(call))
    return answer


async def from_provider(call: Call) -> Response:
    """Begin the session of a user whom the OpenID provider knows, and the node too; report the attempt."""
    site, kept = call.site, call.request.cookies.get(_login_cookie(call), "")
    name, target = await run_in_threadpool(_provider(call).end, kept, dict(call.request.query_params))
    user = await run_in_threadpool(users.named, site.database, name)
    await run_in_threadpool(site.trail.authenticated, name[:64], call.who.address, True, user is not None)
    if user is None:
        answer = _page(call, target, "The provider let you in, but this node has no user of your name.")
    else:
        answer = with_session(call, await run_in_threadpool(site.sessions.begin, user), target)
    answer.delete_cookie(_login_cookie(call), path="/")
    return answer


def _login_cookie(call: Call) -> str:
    return f"{guard.cookie_name(call.site.settings)}-login"


def _kept(call: Call) -> dict[str, Any]:
    """Return how a cookie is kept: hidden from scripts, and sent with a click but with no request of another site."""
    return {"httponly": True, "secure": call.site.settings.tls is not None, "samesite": "lax", "path": "/"}


def with_session(call: Call, secret: str, target: str) -> Response:
    """Return the way to an address of this page, with the cookie of a session that began."""
    answer = RedirectResponse(local(target), 303)
    answer.set_cookie(guard.cookie_name(call.site.settings), secret, **_kept(call))
    return answer


async def logout(call: Call) -> Response:
    """End the session."""
    ask = call.ask
    await run_in_threadpool(call.site.sessions.end, call.who.session)
    await run_in_threadpool(call.site.trail.authenticated, ask.user.name, call.who.address, False, True)
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(guard.cookie_name(call.site.settings), path="/")
    return answer
