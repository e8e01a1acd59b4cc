"""Parcels -> a DICOMweb server -> the outcome of each: the STOW-RS user agent (PS3.18 10.5)."""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import httpx

from ..settings.destinations import StowRsDestination
from .outcome import Outcome, Parcel, Verdict, judge

JSON = "application/dicom+json"
#: HTTP statuses after which the same request can succeed later: access, time-out, too many, and server errors.
AGAIN = frozenset({401, 403, 404, 408, 423, 425, 429, *range(500, 600)})


def send(
    parcels: Sequence[Parcel], destination: StowRsDestination, _calling_ae_title: str
) -> Iterator[tuple[Parcel, Outcome]]:
    """Send one Store Instances request for each object over one connection, so that each gets its own answer."""
    try:
        opened = _client(destination)
    except OSError as error:
        why = f"{destination.name}: authorization_file {error.filename} cannot be read: {error.strerror}"
        yield from ((parcel, Outcome("later", why)) for parcel in parcels)
        return
    with opened as client:
        for parcel in parcels:
            outcome = store(client, destination, parcel)
            yield parcel, outcome
            if outcome.status is None:
                return  # the server cannot be reached: the rest stays due


def store(client: httpx.Client, destination: StowRsDestination, parcel: Parcel) -> Outcome:
    """Send one instance; without an answer it is unknown whether it arrived."""
    boundary = uuid.uuid4().hex
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    body = b"".join((head, parcel.path.read_bytes(), f"\r\n--{boundary}--\r\n".encode()))
    kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
    try:
        answer = client.post(_studies(destination), content=body, headers={"Content-Type": kind})
    except httpx.ConnectError:
        return Outcome("later", f"{destination.name} ({destination.url}) cannot be reached")
    except httpx.HTTPError as error:
        return Outcome(
            "later", f"no answer to the request ({type(error).__name__}): it may have arrived or not"
        )
    return read_answer(answer)


def read_answer(answer: httpx.Response) -> Outcome:
    """Return the outcome that a Store Instances Response gives its one instance (PS3.18 10.5.3 and Annex I.2)."""
    status = answer.status_code
    if status in (200, 202, 409):
        try:
            return _of_payload(status, answer.json())
        except (ValueError, TypeError, AttributeError, LookupError):
            return Outcome("later", f"HTTP {status} without a Store Instances Response", status)
    verdict: Verdict = "later" if status in AGAIN else "never"
    return Outcome(verdict, f"HTTP {status} {answer.reason_phrase}", status)


def _of_payload(status: int, payload: Any) -> Outcome:
    module = payload[0] if isinstance(payload, list) else payload
    if failed := module.get("00081198", {}).get("Value"):  # Failed SOP Sequence
        found = judge(int(failed[0]["00081197"]["Value"][0]))  # Failure Reason
        return Outcome(found.verdict, found.reason, status)
    if not module.get("00081199", {}).get("Value"):  # Referenced SOP Sequence
        raise ValueError("neither stored nor failed")
    return Outcome("sent", "stored" if status == 200 else f"stored with a warning (HTTP {status})", status)


def probe(destination: StowRsDestination, _calling_ae_title: str) -> str:
    """Search the server for one study; return "" where it answers, else why it does not."""
    try:
        with _client(destination) as client:
            answer = client.get(_studies(destination), params={"limit": "1"})
    except OSError as error:
        return f"authorization_file {error.filename} cannot be read: {error.strerror}"
    except httpx.HTTPError as error:
        return f"{destination.name} ({destination.url}) cannot be reached: {type(error).__name__}"
    return "" if answer.is_success else f"{destination.name} answers HTTP {answer.status_code}"


def _client(destination: StowRsDestination) -> httpx.Client:
    headers = {"Accept": JSON}
    if destination.authorization_file is not None:
        headers["Authorization"] = destination.authorization_file.read_text().strip()
    trust = ssl.create_default_context()  # trust the system's authorities, to which a hospital adds its own
    return httpx.Client(headers=headers, timeout=destination.timeout, verify=trust)


def _studies(destination: StowRsDestination) -> str:
    return destination.url.rstrip("/") + "/studies"
