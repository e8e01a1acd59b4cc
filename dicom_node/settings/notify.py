"""Settings of the channels by which the node tells people: one dataclass for each kind, chosen by the key `kind`.

A new kind needs one dataclass here, one file in `notify` and one row in `notify.kinds`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, get_args

from ..errors import Rejected

#: What a channel may tell of.
Told = Literal["result", "refused", "waiting", "dead", "disk", "failed", "certificate"]
EVENTS: tuple[str, ...] = get_args(Told)


@dataclass(frozen=True, kw_only=True)
class Channel:
    """Settings that every kind of channel has.

    Parameters
    ----------
    name : str
        Name of the channel in the log, in ``dicom-node status`` and in the metrics.
    events : tuple of str
        What it tells of: "result" (ready), "refused" (a study or a job), "waiting" (a study for too long), "dead" (a
        delivery was given up), "disk" (nearly full), "failed" (a job), "certificate" (about to expire).
    digest_minutes : float
        Time for which events are collected into one message (min); 0 sends each at once.
    timeout : float
        Time to wait for a connection or an answer (s).
    retry_seconds, max_retry_seconds : float
        First and longest pause after a failure (s); the pause doubles each time, less some jitter.
    max_age_hours : float
        Time after which a message that could not be sent is given up, with the reason (h).
    """

    #: The value of the key `kind`.
    kind: ClassVar[str]

    name: str = field(kw_only=False)
    events: tuple[str, ...] = EVENTS
    digest_minutes: float = 0.0
    timeout: float = 30.0
    retry_seconds: float = 30.0
    max_retry_seconds: float = 3600.0
    max_age_hours: float = 72.0

    def __post_init__(self) -> None:
        if not self.name or len(self.name) > 64:
            raise Rejected("a channel of [[notify]] needs a name (up to 64 characters)")
        if not self.events or not set(self.events) <= set(EVENTS):
            raise Rejected(f"events must be some of {', '.join(EVENTS)}")
        if min(self.timeout, self.retry_seconds, self.max_age_hours) <= 0 or self.digest_minutes < 0:
            raise Rejected(
                "timeout, retry_seconds and max_age_hours must be positive, digest_minutes 0 or more"
            )
        if self.max_retry_seconds < self.retry_seconds:
            raise Rejected("max_retry_seconds must not be less than retry_seconds")

    @property
    def place(self) -> str:
        """Return the address of the channel, for a person to read."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class SmtpChannel(Channel):
    """A mail server that takes messages for some recipients (RFC 5321).

    Parameters
    ----------
    host, port
        Address of the mail server.
    sender : str
        Address in From.
    recipients : tuple of str
        Addresses in To.
    security : {"starttls", "tls", "none"}
        How the connection is encrypted (RFC 3207, RFC 8314); certificates are checked against the system's authorities.
    user : str
        Name to log in with; "" to log in with none.
    password_file : Path, optional
        Absolute path of a file with the password.
    """

    kind = "SMTP"

    host: str
    sender: str
    recipients: tuple[str, ...]
    port: int = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str = ""
    password_file: Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.host or not 0 < self.port <= 65535:
            raise Rejected("a channel of kind SMTP needs a host and a port of 1 to 65535")
        if not self.recipients:
            raise Rejected("a channel of kind SMTP needs recipients")
        for address in (self.sender, *self.recipients):
            if not re.fullmatch(r"[!-?A-~]+@[!-?A-~]+", address):
                raise Rejected(f"an e-mail address is a name, @ and a host, not {address!r}")
        if bool(self.user) != (self.password_file is not None):
            raise Rejected("user and password_file are given together or not at all")
        if self.password_file is not None and not self.password_file.is_absolute():
            raise Rejected("password_file is an absolute path")

    @property
    def place(self) -> str:
        """Return the address of the channel, for a person to read."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class WebhookChannel(Channel):
    """A web service that takes messages as JSON by POST, signed as https://www.standardwebhooks.com says.

    Parameters
    ----------
    url : str
        Where messages are posted.
    secret_file : Path
        Absolute path of a file with the secret of the signature: base64 of 24 to 64 bytes, with or without "whsec_".
    """

    kind = "webhook"

    url: str
    secret_file: Path

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.match(r"https?://[^/]", self.url):
            raise Rejected(f"a url begins with https:// or http://, not {self.url!r}")
        if not self.secret_file.is_absolute():
            raise Rejected("secret_file is an absolute path")

    @property
    def place(self) -> str:
        """Return the address of the channel, for a person to read."""
        return self.url.partition("?")[0]
