"""Bodies that hold files: the upload of the page, STOW-RS, and tables of DLCO."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ..errors import Rejected
from . import cohort, incoming
from .answers import json
from .calls import Call
from .multipart import Part, Parts, boundary_of
from .problems import TooLarge, WrongKind

STOW_JSON = "application/dicom+json"


async def upload_page(call: Call) -> Response:
    """Return the page that takes files."""
    return call.page("upload", most=call.site.settings.upload_mb)


async def upload(call: Call) -> Response:
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


async def stow(call: Call) -> Response:
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


async def import_dlco(call: Call) -> Response:
    """Keep the DLCO of a table that a form sent."""
    if int(call.request.headers.get("content-length") or cohort.LARGEST + 1) > cohort.LARGEST:
        raise TooLarge("a table of DLCO has at most 1 MB")
    form = await call.request.form(max_fields=5, max_files=1)
    file = form.get("table")
    if file is None or isinstance(file, str):
        raise Rejected("choose a table")
    done = await _keep_dlco(call, await file.read())
    return call.page("imported", value=done)


async def import_dlco_json(call: Call) -> Response:
    """Keep the DLCO of a table that is the body."""
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
