"""A request that was let in, and how every endpoint is guarded: who may, whose form it is, what an error gets."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response

from ..errors import NodeError
from . import guard
from .answers import POLICY, failure, page
from .guard import Caller
from .problems import Forbidden, NotLoggedIn, TooLarge
from .routes import API
from .site import Ask, Site
from .users import Role

LOG = logging.getLogger(__name__)

Answering = Callable[["Call"], Awaitable[Response]]
#: Longest form, and longest JSON of an action (bytes).
LONGEST_FORM = 1 << 16


@dataclass(frozen=True)
class Call:
    """A request that was let in."""

    request: Request
    site: Site
    who: Caller

    @property
    def ask(self) -> Ask:
        """Return the request as the other modules take it."""
        assert self.who.user is not None
        return Ask(self.who.user, self.request.path_params, dict(self.request.query_params), self.who.address)

    @property
    def form_token(self) -> str:
        """Return the token of this session's forms."""
        return self.site.sessions.form_token(self.who.session) if self.who.session else ""

    def page(self, name: str, status: int = 200, policy: str = POLICY, **values: Any) -> Response:
        """Return a page of this session."""
        here = self.request.url.path
        given = {"user": self.who.user, "form_token": self.form_token, "here": here, **values}
        return page(name, status, policy, **given)


def guarded(site: Site, answer: Answering, role: Role | None = "viewer", form: bool = True) -> Any:
    """Return an endpoint that lets in whom the guard lets in, and turns every error into an answer.

    Parameters
    ----------
    role : str or None
        Role that is needed; None for none.
    form : bool
        False where a request that changes something comes before there is a session.
    """

    async def endpoint(request: Request) -> Response:
        who = Caller(request.client.host if request.client else "", None)
        try:
            guard.check_host(request, site.settings)
            who = await run_in_threadpool(guard.caller, request, site)
            changes = request.method not in guard.SAFE
            if changes and not (who.user and who.user.program):
                guard.check_origin(request, site.settings)
            if role is not None:
                guard.check_role(who, role)
            if changes and form and who.user and not who.user.program:
                await _check_form(request, site, who)
            return await answer(Call(request, site, who))
        except NotLoggedIn as error:
            return to_login(request, error)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as error:  # noqa: BLE001  the boundary to the caller: it must get an answer, the log the trace
            return await _failed(request, site, who, error)

    return endpoint


async def _check_form(request: Request, site: Site, who: Caller) -> None:
    token = request.headers.get(guard.TOKEN_HEADER, "")
    if not token and request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        token = str((await form_of(request)).get(guard.TOKEN_FIELD, ""))
    guard.check_form(site.sessions, who, token)


async def _failed(request: Request, site: Site, who: Caller, error: Exception) -> Response:
    if not isinstance(error, NodeError):
        LOG.exception("%s failed", request.scope.get("path", "").split("/")[1:2])
    elif isinstance(error, Forbidden):
        name = who.user.name if who.user else ""
        site.trail.alert("page", name, who.address, str(error))
    token = site.sessions.form_token(who.session) if who.session else ""
    return failure(request, error, who.user, token)


def to_login(request: Request, error: Exception) -> Response:
    """Return the page where one logs in, or for programs a refusal."""
    if request.method not in guard.SAFE or request.url.path.startswith((API, "/live", "/dicom-web")):
        return failure(request, error)
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/login?next={quote(target, safe='/')}", 303)


def local(target: str) -> str:
    """Return an address of this page, or the worklist where another one was named."""
    fine = target.startswith("/") and not target.startswith(("//", "/\\")) and "\\" not in target
    return target if fine and target.isprintable() else "/studies"


async def form_of(request: Request) -> dict[str, str]:
    """Return the fields of a form, which is kept for a second look.

    Raises
    ------
    TooLarge
        Where it is larger than any form of this page.
    """
    if not hasattr(request.state, "form"):
        if int(request.headers.get("content-length") or LONGEST_FORM + 1) > LONGEST_FORM:
            raise TooLarge("the form is too large")
        found = await request.form(max_fields=50, max_files=0)
        request.state.form = {name: str(value) for name, value in found.items()}
    return dict(request.state.form)
