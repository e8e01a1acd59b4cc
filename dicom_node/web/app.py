"""The parts of a node -> an application (ASGI) that answers browsers and programs."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from ..errors import NodeError, Rejected, Unavailable
from . import cohort, guard, incoming
from .actions import ACTIONS, perform
from .answers import HERE, POLICY, VIEWER_POLICY, Headed, failure, json, page
from .guard import Caller
from .live import Live
from .multipart import Part, Parts, boundary_of
from .openapi import document
from .problems import Forbidden, NotLoggedIn, NotThere, TooLarge, WrongKind
from .routes import API, BLOBS, SCREENS, Blob, Screen
from .site import Ask, Site
from .users import Role

LOG = logging.getLogger(__name__)

Answering = Callable[["Call"], Awaitable[Response]]
#: Longest form, and longest JSON of an action (bytes).
LONGEST_FORM = 1 << 16
STOW_JSON = "application/dicom+json"


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


def make_app(site: Site, bare: Mapping[str, Callable[[], Any]] | None = None) -> Any:
    """Return the application.

    Parameters
    ----------
    site : Site
    bare : mapping of path to callable, optional
        Answers without login, e.g. of `metrics.answers`: each returns a value with `status`, `content_type`, `body`.
    """
    app = Starlette(routes=[*_routes(site), *_bare(bare or {}), _static()])
    app.add_exception_handler(HTTPException, _unknown)
    return Headed(app, site.settings)


def _routes(site: Site) -> Iterator[BaseRoute]:
    live = Live(site)
    let = partial(_guarded, site)
    yield Route("/", lambda request: RedirectResponse("/studies", 303))
    yield Route("/login", let(_login_page, None))
    yield Route("/login", let(_login, None, form=False), methods=["POST"])
    yield Route("/logout", let(_logout), methods=["POST"])
    for screen in SCREENS:
        yield Route(screen.path, let(partial(_screen, screen), screen.role))
        yield Route(API + screen.path, let(partial(_screen_json, screen), screen.role))
    for blob in BLOBS:
        for prefix in ("", API):
            yield Route(prefix + blob.path, let(partial(_blob, blob), blob.role))
    yield Route("/upload", let(_upload_page, "operator"))
    for prefix in ("", API):
        yield Route(prefix + "/upload", let(_upload, "operator"), methods=["POST"])
    yield Route("/confirm/{action}", let(_confirm))
    yield Route("/actions/{action}", let(_act), methods=["POST"])
    yield Route(API + "/actions/{action}", let(_act_json), methods=["POST"])
    yield Route("/cohort/dlco", let(_import_dlco, "operator"), methods=["POST"])
    yield Route(API + "/cohort/dlco", let(_import_dlco_json, "operator"), methods=["POST"])
    yield Route("/live", let(partial(_live, live)))
    yield Route(API + "/openapi.json", let(_openapi))
    for path in ("/dicom-web/studies", "/dicom-web/studies/{study}"):
        yield Route(path, let(_stow, "operator"), methods=["POST"])


def _bare(answers: Mapping[str, Callable[[], Any]]) -> Iterator[BaseRoute]:
    """Yield routes that need no login and tell of no patient: health and metrics."""
    for path, answer in answers.items():

        def endpoint(request: Request, answer: Callable[[], Any] = answer) -> Response:
            try:
                found = answer()
            except Unavailable as error:
                return Response(str(error), 503, media_type="text/plain")
            return Response(found.body, found.status, {"Content-Type": found.content_type})

        yield Route(path, endpoint)


def _static() -> BaseRoute:
    files = StaticFiles(directory=HERE / "static")

    async def kept(scope: Any, receive: Any, send: Any) -> None:
        async def aged(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"cache-control", b"public, max-age=3600"))
            await send(message)

        await files(scope, receive, aged)

    return Mount("/static", kept)


async def _unknown(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    if status == 405:
        return Response("This method is not for this address.", 405, media_type="text/plain")
    return failure(request, NotThere("there is nothing at this address"))


def _guarded(site: Site, answer: Answering, role: Role | None = "viewer", form: bool = True) -> Any:
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
            return _to_login(request, error)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as error:  # noqa: BLE001  the boundary to the caller: it must get an answer, the log the trace
            return await _failed(request, site, who, error)

    return endpoint


async def _check_form(request: Request, site: Site, who: Caller) -> None:
    token = request.headers.get(guard.TOKEN_HEADER, "")
    if not token and request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        token = str((await _form(request)).get(guard.TOKEN_FIELD, ""))
    guard.check_form(site.sessions, who, token)


async def _failed(request: Request, site: Site, who: Caller, error: Exception) -> Response:
    if not isinstance(error, NodeError):
        LOG.exception("%s failed", request.scope.get("path", "").split("/")[1:2])
    elif isinstance(error, Forbidden):
        name = who.user.name if who.user else ""
        site.trail.alert("page", name, who.address, str(error))
    token = site.sessions.form_token(who.session) if who.session else ""
    return failure(request, error, who.user, token)


def _to_login(request: Request, error: Exception) -> Response:
    """Return the page where one logs in, or for programs a refusal."""
    if request.method not in guard.SAFE or request.url.path.startswith((API, "/live", "/dicom-web")):
        return failure(request, error)
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/login?next={quote(target, safe='/')}", 303)


def _local(target: str) -> str:
    """Return an address of this page, or the worklist where another one was named."""
    fine = target.startswith("/") and not target.startswith(("//", "/\\")) and "\\" not in target
    return target if fine and target.isprintable() else "/studies"


async def _form(request: Request) -> dict[str, str]:
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


async def _login_page(call: Call) -> Response:
    if call.who.user is not None and not call.who.session and not call.who.user.program:
        secret = await run_in_threadpool(call.site.sessions.begin, call.who.user)  # a proxy let the user in
        return _with_session(call, secret, call.request.query_params.get("next", ""))
    return call.page("login", next=_local(call.request.query_params.get("next", "")), wrong="")


async def _login(call: Call) -> Response:
    form = await _form(call.request)
    name, password = form.get("name", ""), form.get("password", "")
    site, address = call.site, call.who.address
    secret = await run_in_threadpool(site.sessions.login, name, password, address)
    await run_in_threadpool(
        site.trail.authenticated, name[:64] or "nobody", address, True, secret is not None
    )
    if secret is None:
        return call.page("login", 401, next=_local(form.get("next", "")), wrong="Name or password is wrong.")
    return _with_session(call, secret, form.get("next", ""))


def _with_session(call: Call, secret: str, target: str) -> Response:
    answer = RedirectResponse(_local(target), 303)
    by_tls = call.site.settings.tls is not None
    name = guard.cookie_name(call.site.settings)
    answer.set_cookie(name, secret, httponly=True, secure=by_tls, samesite="lax", path="/")
    return answer


async def _logout(call: Call) -> Response:
    ask = call.ask
    await run_in_threadpool(call.site.sessions.end, call.who.session)
    await run_in_threadpool(call.site.trail.authenticated, ask.user.name, call.who.address, False, True)
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(guard.cookie_name(call.site.settings), path="/")
    return answer


async def _screen(screen: Screen, call: Call) -> Response:
    if call.who.user and not call.who.user.program and not call.who.session:
        return _to_login(
            call.request, NotLoggedIn("")
        )  # a proxy let the user in: begin a session for its forms
    value = await run_in_threadpool(screen.read, call.site, call.ask)
    policy = VIEWER_POLICY if screen.name == "result" else POLICY
    return await run_in_threadpool(lambda: call.page(screen.name, 200, policy, value=value))


async def _screen_json(screen: Screen, call: Call) -> Response:
    return json(await run_in_threadpool(screen.read, call.site, call.ask))


async def _blob(blob: Blob, call: Call) -> Response:
    found = await run_in_threadpool(blob.read, call.site, call.ask)
    if isinstance(found, tuple):
        name, file = found
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return StreamingResponse(_pieces(file), headers=headers, media_type=blob.media_type)
    headers = {"Cache-Control": "private, max-age=600"} if blob.keep else {}
    return Response(found, headers=headers, media_type=blob.media_type)


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(1 << 18):
            yield piece


async def _confirm(call: Call) -> Response:
    name, values = call.request.path_params["action"], dict(call.request.query_params)
    action = ACTIONS.get(name)
    if action is None or not set(action.values) <= set(values):
        raise NotThere("there is no such action")
    guard.check_role(call.who, action.role)
    question = action.question.format(**{key: values[key][:64] for key in action.values})
    back = _local(values.pop("next", ""))
    return call.page("confirm", action=name, title=action.title, question=question, values=values, back=back)


async def _act(call: Call) -> Response:
    form = await _form(call.request)
    done = await _perform(call, form)
    return call.page("done", done=done.done, back=_local(form.get("next", "")))


async def _act_json(call: Call) -> Response:
    try:
        given = await call.request.json() if call.request.headers.get("content-length", "0") != "0" else {}
    except ValueError:
        raise Rejected("the body is no JSON") from None
    if not isinstance(given, dict) or not all(isinstance(v, str | int | float) for v in given.values()):
        raise Rejected("the body is a JSON object of texts and numbers")
    return json(await _perform(call, {str(key): str(value) for key, value in given.items()}))


async def _perform(call: Call, values: dict[str, str]) -> Any:
    name = call.request.path_params["action"]
    if name in ACTIONS:
        guard.check_role(call.who, ACTIONS[name].role)
    return await run_in_threadpool(perform, call.site, name, replace(call.ask, query=values))


async def _upload_page(call: Call) -> Response:
    return call.page("upload", most=call.site.settings.upload_mb)


async def _upload(call: Call) -> Response:
    """Take files and zip archives of a form; what was taken is durable before the answer."""
    store = partial(incoming.store_all, call.site)

    def work(parts: list[Part]) -> list[incoming.Fate]:
        files = [part for part in parts if part.name or part.media_type]
        fates = store(incoming.unpacked(call.site, files), _sender(call))
        if not any(fate.outcome != "refused" for fate in fates):
            raise Rejected(f"nothing was kept: {fates[0].reason}" if fates else "nothing was sent")
        return fates

    fates = await _received(call, "multipart/form-data", work)
    counts = {name: sum(f.outcome == name for f in fates) for name in ("stored", "same", "other", "refused")}
    await run_in_threadpool(
        call.site.trail.operated, f"upload: {counts['stored']} images stored", call.ask.user.name
    )
    refused = [{"file": f.name, "reason": f.reason} for f in fates if f.outcome == "refused"]
    return json({**counts, "reasons": refused[:100]})


async def _stow(call: Call) -> Response:
    """Store instances (PS3.18 10.5): what succeeded is durable before the answer."""
    study = call.request.path_params.get("study", "")

    def work(parts: list[Part]) -> list[incoming.Fate]:
        wrong = {part.media_type for part in parts} - {"application/dicom"}
        if wrong or not parts:
            raise WrongKind("every part must be application/dicom")
        return incoming.store_all(call.site, parts, _sender(call), study)

    fates = await _received(call, "multipart/related", work)
    return json(incoming.instances_response(fates), incoming.status_of_response(fates), STOW_JSON)


async def _received(
    call: Call, kind: str, work: Callable[[list[Part]], list[incoming.Fate]]
) -> list[incoming.Fate]:
    """Write a body into files as it comes, work on them, and remove them whatever happens."""
    boundary = boundary_of(call.request.headers.get("content-type", ""), kind)
    parts = await run_in_threadpool(
        Parts, incoming.new_folder(call.site), boundary, incoming.limits_of(call.site)
    )
    try:
        async for piece in call.request.stream():
            await run_in_threadpool(parts.write, piece)
        return await run_in_threadpool(work, parts.whole())
    finally:
        await run_in_threadpool(parts.remove)


def _sender(call: Call) -> incoming.Sender:
    """Return who sends, as the archive keeps it: an AE title has 16 characters."""
    return incoming.Sender(f"web:{call.ask.user.name}"[:16], call.who.address)


async def _import_dlco(call: Call) -> Response:
    if int(call.request.headers.get("content-length") or cohort.LARGEST + 1) > cohort.LARGEST:
        raise TooLarge("a table of DLCO has at most 1 MB")
    form = await call.request.form(max_fields=5, max_files=1)
    file = form.get("table")
    if file is None or isinstance(file, str):
        raise Rejected("choose a table")
    done = await _keep_dlco(call, await file.read())
    return call.page("imported", value=done)


async def _import_dlco_json(call: Call) -> Response:
    body = b""
    async for piece in call.request.stream():
        body += piece
        if len(body) > cohort.LARGEST:
            raise TooLarge("a table of DLCO has at most 1 MB")
    return json(await _keep_dlco(call, body))


async def _keep_dlco(call: Call, text: bytes) -> cohort.Imported:
    name = call.ask.user.name
    done = await run_in_threadpool(cohort.import_table, call.site, text, name)
    await run_in_threadpool(call.site.trail.operated, f"import: DLCO of {done.taken} studies", name)
    return done


async def _live(live: Live, call: Call) -> Response:
    live.check()
    return StreamingResponse(
        live.events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


async def _openapi(call: Call) -> Response:
    return json(document())
