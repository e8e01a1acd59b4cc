"""A message -> a POST, signed as https://www.standardwebhooks.com says: the channel of the kind `webhook`."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import time

import httpx

from ..delivery.outcome import Outcome
from ..settings.notify import WebhookChannel
from .texts import Message, clock

#: "The receiver wants no more" (RFC 9110 15.5.11); everything else that is no success may be mended at the other side.
GONE = 410
#: The least and the most length of a secret (bytes).
SHORTEST, LONGEST = 24, 64


def send(message: Message, channel: WebhookChannel) -> Outcome:
    """Post one message; its ``webhook-id`` is the same at each attempt, so that the receiver can drop a second one."""
    try:
        secret = read_secret(channel)
    except (OSError, ValueError) as error:
        return Outcome("later", f"secret_file: {getattr(error, 'strerror', None) or error}")
    body = json.dumps(_content(message)).encode()
    headers = {"Content-Type": "application/json", **signature(secret, message.id, body, int(time.time()))}
    try:
        with httpx.Client(timeout=channel.timeout, verify=ssl.create_default_context()) as client:
            answer = client.post(channel.url, content=body, headers=headers)
    except httpx.ConnectError:
        return Outcome("later", f"{channel.place} cannot be reached")
    except httpx.HTTPError as error:
        return Outcome("later", f"no answer ({type(error).__name__}): it may have arrived or not")
    if answer.is_success:
        return Outcome("sent", "taken", answer.status_code)
    verdict = "never" if answer.status_code == GONE else "later"
    return Outcome(verdict, f"HTTP {answer.status_code} {answer.reason_phrase}", answer.status_code)  # type: ignore[arg-type]


def probe(channel: WebhookChannel) -> str:
    """Return "" where the secret can be used, else why not; nothing is posted."""
    try:
        read_secret(channel)
    except (OSError, ValueError) as error:
        return f"secret_file: {getattr(error, 'strerror', None) or error}"
    return ""


def read_secret(channel: WebhookChannel) -> bytes:
    """Return the secret of a channel.

    Raises
    ------
    OSError
        Where the file cannot be read.
    ValueError
        Where it holds no base64 of 24 to 64 bytes.
    """
    text = channel.secret_file.read_text(encoding="ascii", errors="replace").strip().removeprefix("whsec_")
    try:
        secret = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError("it holds no base64") from error
    if not SHORTEST <= len(secret) <= LONGEST:
        raise ValueError(f"it holds {len(secret)} bytes, not {SHORTEST} to {LONGEST}")
    return secret


def signature(secret: bytes, identity: str, body: bytes, at: int) -> dict[str, str]:
    """Return the headers that say who sent a message, when, and that nobody changed it.

    Examples
    --------
    >>> signature(b"0" * 24, "m", b"{}", 7)["webhook-signature"]
    'v1,9Gor33hNlzEHX/fRz6eGARxCd82m28WOAW8Px8bwWzQ='
    """
    digest = hmac.new(secret, b"%s.%d.%s" % (identity.encode(), at, body), hashlib.sha256).digest()
    return {
        "webhook-id": identity,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def _content(message: Message) -> dict[str, object]:
    events = [
        {"kind": one.kind, "at": clock(one.at), "study": one.study_uid, "job": one.job_id, "text": one.text}
        for one in message.told
    ]
    data = {"node": message.node, "subject": message.subject, "events": events}
    return {"type": "dicom-node.events", "timestamp": clock(message.at), "data": data}
