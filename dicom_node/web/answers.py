"""Values and errors -> answers: pages from templates, JSON, and the headers that every answer has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from ..printable import printable
from ..settings.web import WebSettings
from ..strict_json import encode
from . import charts
from .actions import ACTIONS
from .problems import status_of

HERE = Path(__file__).parent
#: No script but our files, nothing from elsewhere, in no frame of others. NiiVue writes its own styles and makes
#: textures from blobs, on the page of a result only.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
VIEWER_POLICY = POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'").replace(
    "img-src 'self' data:", "img-src 'self' data: blob:"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # not no-referrer: a form would then send Origin null
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
#: Half a year (RFC 6797).
BY_TLS = {"Strict-Transport-Security": "max-age=15768000"}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Headed:
    """An application whose every answer has the headers above, unless it sets one of them itself."""

    def __init__(self, app: Any, settings: WebSettings) -> None:
        self._app = app
        self._headers = {**HEADERS, **(BY_TLS if settings.tls else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI)."""

        async def headed(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message["headers"]}
                more = [(k.lower().encode(), v.encode()) for k, v in self._headers.items()]
                message["headers"] = [*message["headers"], *(pair for pair in more if pair[0] not in own)]
            await send(message)

        await self._app(scope, receive, headed)


def _time(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def _size(octets: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if octets < 1000:
            return f"{octets:.0f} {unit}" if unit == "B" else f"{octets:.1f} {unit}"
        octets /= 1000
    return f"{octets:.1f} TB"


def _short(uid: str) -> Markup:
    """Return a UID with places where a line may break."""
    parts = [Markup.escape(part) for part in uid.split(".")]
    return Markup(".<wbr>").join(parts)


def _duration(seconds: float) -> str:
    """Return a time span in words.

    Examples
    --------
    >>> _duration(59), _duration(3700), _duration(-5)
    ('59 s', '1 h 1 min', '0 s')
    """
    seconds = max(0, int(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    if seconds < 172800:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 86400} days"


def environment() -> Environment:
    """Return the templates; whatever a value holds shows as text."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {"time": _time, "size": _size, "short": _short, "duration": _duration, "printable": printable}
    made.filters.update(filters)
    made.globals.update(charts=charts, ACTIONS=ACTIONS)
    return made


TEMPLATES = environment()


def page(name: str, status: int = 200, policy: str = POLICY, **values: Any) -> Response:
    """Return a page made by a template."""
    text = TEMPLATES.get_template(f"{name}.html").render(**values)
    headers = {"Content-Security-Policy": policy}
    return Response(text, status, headers, media_type="text/html")


def json(value: object, status: int = 200, media_type: str = "application/json") -> Response:
    """Return a value as strict JSON."""
    return Response(encode(value), status, media_type=media_type)


def wants_json(request: Request) -> bool:
    """Return whether an address is for programs."""
    return request.url.path.startswith(("/api/", "/dicom-web/", "/upload", "/live"))


def failure(request: Request, error: Exception, user: Any = None, form_token: str = "") -> Response:
    """Return the answer that an error gets: one sentence, and none of a bug's insides."""
    status = status_of(error)
    sentence = printable(str(error)) if status != 500 else "internal error: the log of the node says more"
    sentence = sentence[:1].upper() + sentence[1:]
    if wants_json(request):
        answer = json({"error": sentence, "status": status}, status)
    else:
        answer = page(
            "problem", status, sentence=sentence, code=status, user=user, form_token=form_token, here=""
        )
    if status == 429:
        answer.headers["Retry-After"] = "300"
    if status == 401 and request.url.path.startswith(("/api/", "/dicom-web/")):
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer
