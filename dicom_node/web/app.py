"""The parts of a node -> an application (ASGI) that answers browsers and programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import IO, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from ..errors import Rejected, Unavailable
from . import guard, logins, uploads
from .actions import ACTIONS, perform
from .answers import HERE, POLICY, VIEWER_POLICY, Headed, failure, json
from .calls import Call, form_of, guarded, local, to_login
from .live import Live
from .oidc import BACK
from .openapi import document
from .problems import NotLoggedIn, NotThere
from .routes import API, BLOBS, SCREENS, Blob, Screen
from .site import Site


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
    let = partial(guarded, site)
    yield Route("/", lambda request: RedirectResponse("/studies", 303))
    yield Route("/login", let(logins.login_page, None))
    yield Route("/login", let(logins.login, None, form=False), methods=["POST"])
    yield Route("/login/oidc", let(logins.to_provider, None))
    yield Route(BACK, let(logins.from_provider, None))
    yield Route("/logout", let(logins.logout), methods=["POST"])
    for screen in SCREENS:
        yield Route(screen.path, let(partial(_screen, screen), screen.role))
        yield Route(API + screen.path, let(partial(_screen_json, screen), screen.role))
    for blob in BLOBS:
        for prefix in ("", API):
            yield Route(prefix + blob.path, let(partial(_blob, blob), blob.role))
    yield Route("/upload", let(uploads.upload_page, "operator"))
    for prefix in ("", API):
        yield Route(prefix + "/upload", let(uploads.upload, "operator"), methods=["POST"])
    yield Route("/confirm/{action}", let(_confirm))
    yield Route("/actions/{action}", let(_act), methods=["POST"])
    yield Route(API + "/actions/{action}", let(_act_json), methods=["POST"])
    yield Route("/cohort/dlco", let(uploads.import_dlco, "operator"), methods=["POST"])
    yield Route(API + "/cohort/dlco", let(uploads.import_dlco_json, "operator"), methods=["POST"])
    yield Route("/live", let(partial(_live, live)))
    yield Route(API + "/openapi.json", let(_openapi))
    for path in ("/dicom-web/studies", "/dicom-web/studies/{study}"):
        yield Route(path, let(uploads.stow, "operator"), methods=["POST"])


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


async def _screen(screen: Screen, call: Call) -> Response:
    if call.who.user and not call.who.user.program and not call.who.session:
        return to_login(
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
    back = local(values.pop("next", ""))
    return call.page("confirm", action=name, title=action.title, question=question, values=values, back=back)


async def _act(call: Call) -> Response:
    form = await form_of(call.request)
    done = await _perform(call, form)
    return call.page("done", done=done.done, back=local(form.get("next", "")))


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


async def _live(live: Live, call: Call) -> Response:
    live.check()
    return StreamingResponse(
        live.events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


async def _openapi(call: Call) -> Response:
    return json(document())
