"""The kinds of channel -> how a message is sent by each, one row for each kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..delivery.outcome import Outcome
from ..settings.notify import Channel, SmtpChannel, WebhookChannel
from . import smtp, webhook
from .texts import Message


@dataclass(frozen=True)
class Way:
    """The functions that serve one kind of channel; each gets the dataclass of that kind.

    Parameters
    ----------
    send : callable
        Takes a message and the channel; returns the outcome.
    probe : callable
        Takes the channel; returns "" where it could be used now, else why not. No message is sent.
    """

    send: Callable[[Message, Any], Outcome]
    probe: Callable[[Any], str]


WAYS: Mapping[type[Channel], Way] = {
    SmtpChannel: Way(smtp.send, smtp.probe),
    WebhookChannel: Way(webhook.send, webhook.probe),
}
