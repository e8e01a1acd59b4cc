"""Logging in and out: a page that asks for name and password, and the cookie of the session that begins."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from . import guard
from .calls import Call, form_of, local


async def login_page(call: Call) -> Response:
    """Return the form to log in with, or begin the session of a user whom a proxy let in."""
    if call.who.user is not None and not call.who.session and not call.who.user.program:
        secret = await run_in_threadpool(call.site.sessions.begin, call.who.user)  # a proxy let the user in
        return with_session(call, secret, call.request.query_params.get("next", ""))
    return call.page("login", next=local(call.request.query_params.get("next", "")), wrong="")


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
        return call.page("login", 401, next=local(form.get("next", "")), wrong="Name or password is wrong.")
    return with_session(call, secret, form.get("next", ""))


def with_session(call: Call, secret: str, target: str) -> Response:
    """Return the way to an address of this page, with the cookie of a session that began."""
    answer = RedirectResponse(local(target), 303)
    by_tls = call.site.settings.tls is not None
    name = guard.cookie_name(call.site.settings)
    answer.set_cookie(name, secret, httponly=True, secure=by_tls, samesite="lax", path="/")
    return answer


async def logout(call: Call) -> Response:
    """End the session."""
    ask = call.ask
    await run_in_threadpool(call.site.sessions.end, call.who.session)
    await run_in_threadpool(call.site.trail.authenticated, ask.user.name, call.who.address, False, True)
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(guard.cookie_name(call.site.settings), path="/")
    return answer
