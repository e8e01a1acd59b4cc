"""The facts known of a connection -> a rejection of its association (PS3.8 9.3.4), or none."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from ..errors import Rejected
from ..printable import printable
from ..settings.config import ReceiveSettings
from ..settings.peers import valid_ae_title
from .admission import Load

#: Result, source and reason of an A-ASSOCIATE-RJ.
Code = tuple[int, int, int]
CALLING_AE_UNKNOWN: Code = (1, 1, 3)
CALLED_AE_UNKNOWN: Code = (1, 1, 7)
LOCAL_LIMIT_EXCEEDED: Code = (2, 3, 2)
REJECTIONS: Mapping[Code, str] = {
    CALLING_AE_UNKNOWN: "the calling AE title is not valid (PS3.5 6.2), or `[[receive.peers]]` does not name the "
    "calling AE title, address and certificate",
    CALLED_AE_UNKNOWN: "the called AE title is not valid, or is not the node's under `require_called_ae_title`",
    LOCAL_LIMIT_EXCEEDED: "too many associations at one time, in all or of one address or AE title, or too many a "
    "minute, or too little room on the disk: try again",
}

Alert = Callable[[Literal["rejected", "no TLS"], str, str, str], None]


@dataclass(frozen=True)
class Caller:
    """The requestor of an association.

    Parameters
    ----------
    calling, called : str
        AE titles of the request (PS3.8 9.3.2), without the spaces around them.
    address : str
    names : frozenset of str
        Names in the certificate that it showed.
    """

    calling: str
    called: str
    address: str
    names: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{printable(self.calling)!r} at {self.address}"


@dataclass(frozen=True)
class Refusal:
    """The reason why a request is not accepted; it holds printable characters only."""

    code: Code
    reason: str


class Door:
    """Decides who may associate, as early as enough is known.

    Parameters
    ----------
    settings : ReceiveSettings
    load : Load
    free_mb : callable
        Returns the free space on the disk (MB).
    """

    def __init__(self, settings: ReceiveSettings, load: Load, free_mb: Callable[[], float]) -> None:
        self._settings, self._load, self._free_mb = settings, load, free_mb
        self._minute, self._requests = 0, Counter[str]()

    def knows_address(self, address: str) -> bool:
        """Return whether anybody at this address may send; called before any byte is read."""
        peers = self._settings.peers
        return not peers or any(peer.lives_at(address) for peer in peers)

    def who(self, caller: Caller) -> Refusal | None:
        """Return why this caller may not send at all, or None; called once the AE titles are read."""
        settings = self._settings
        for title, code in ((caller.calling, CALLING_AE_UNKNOWN), (caller.called, CALLED_AE_UNKNOWN)):
            try:
                valid_ae_title(title)
            except Rejected:
                return Refusal(code, f"{caller}: {printable(title)!r} is not an AE title")
        if settings.peers:
            known = [p for p in settings.peers if p.matches(caller.calling, caller.address)]
            if not known:
                return Refusal(CALLING_AE_UNKNOWN, f"{caller} is not an allowed peer")
            if not any(peer.shows(caller.names) for peer in known):
                shown = printable(", ".join(sorted(caller.names)))
                return Refusal(CALLING_AE_UNKNOWN, f"{caller} shows another's certificate, of {shown}")
        if settings.require_called_ae_title and caller.called not in (
            settings.ae_title,
            *settings.called_ae_titles,
        ):
            return Refusal(CALLED_AE_UNKNOWN, f"{caller} calls {printable(caller.called)!r}")
        return None

    def room(self, caller: Caller) -> Refusal | None:
        """Return why there is no room for this caller now, or None; called once the request is complete."""
        settings, held = self._settings, self._load.held(caller.address, caller.calling)
        share = f"of the {settings.maximum_associations} associations already, of which one may have {settings.share}"
        reasons = {
            f"{caller.address} asks too often": self._too_often(caller.address),
            "too many associations": held.associations >= settings.maximum_associations,
            f"{caller.address} has {held.of_address} {share}": held.of_address >= settings.share,
            f"{printable(caller.calling)!r} has {held.of_title} {share}": held.of_title >= settings.share,
        }
        for reason, so in reasons.items():
            if so:
                return Refusal(LOCAL_LIMIT_EXCEEDED, reason)
        if (free := self._free_mb()) < settings.min_free_mb:
            return Refusal(LOCAL_LIMIT_EXCEEDED, f"{free:.0f} MB left on the disk")
        return None

    def _too_often(self, address: str) -> bool:
        """Count this request and return whether its address has made too many in this minute."""
        minute = int(time.monotonic() / 60)
        if minute != self._minute:
            self._minute, self._requests = minute, Counter()
        self._requests[address] += 1
        return self._requests[address] > self._settings.associations_per_minute
