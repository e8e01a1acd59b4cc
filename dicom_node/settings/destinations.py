"""Settings of the destinations of results: one dataclass a kind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import Rejected
from ..model import DEFAULT_OBJECTS, OBJECT_KINDS
from .peers import TlsSettings, valid_ae_title

Kind = Literal["C-STORE", "STOW-RS", "folder"]


#: What a destination of each kind needs.
PLACE: dict[Kind, tuple[str, ...]] = {
    "C-STORE": ("ae_title", "host"),
    "STOW-RS": ("url",),
    "folder": ("folder",),
}


@dataclass(frozen=True)
class Destination:
    """Where every result goes: a PACS (C-STORE), a DICOMweb server (STOW-RS) or a folder.

    Parameters
    ----------
    name : str
        What the queue, the log and ``dicom-node status`` call it.
    kind : {"C-STORE", "STOW-RS", "folder"}
    ae_title, host, port
        Of the PACS.
    calling_ae_title : str
        What this node calls itself there; "" for its own AE title.
    url : str
        Of the DICOMweb service; ``/studies`` is added.
    authorization_file : Path or None
        Holds the value of the Authorization header, e.g. ``Basic …`` or ``Bearer …``.
    folder : Path or None
        An existing folder, absolute.
    timeout : float
        Seconds to wait for a connection or an answer.
    retry_seconds, max_retry_seconds : float
        First and longest pause after a failure; it doubles in between, with jitter.
    max_age_hours : float
        A result that could not be sent (or confirmed) for so long is given up, with the reason.
    storage_commitment : bool
        Ask the PACS to commit to each result (PS3.4 Annex J); it is CONFIRMED only then.
    confirm_seconds : float
        So long a report is waited for, then asked for again.
    objects : tuple of str
        What it gets, of `model.OBJECT_KINDS`.
    tls : TlsSettings, optional
        C-STORE over TLS only, with this certificate shown (PS3.15 B.9).
    """

    name: str
    kind: Kind = "C-STORE"
    ae_title: str = ""
    host: str = ""
    port: int = 104
    calling_ae_title: str = ""
    url: str = ""
    authorization_file: Path | None = None
    folder: Path | None = None
    timeout: float = 30.0
    retry_seconds: float = 5.0
    max_retry_seconds: float = 900.0
    max_age_hours: float = 72.0
    storage_commitment: bool = False
    confirm_seconds: float = 600.0
    objects: tuple[str, ...] = DEFAULT_OBJECTS
    tls: TlsSettings | None = None

    def __post_init__(self) -> None:
        if not self.name or len(self.name) > 64:
            raise Rejected("a destination needs a name (up to 64 characters)")
        self._check_place()
        if self.kind == "C-STORE":
            valid_ae_title(self.ae_title)
        if self.calling_ae_title:
            valid_ae_title(self.calling_ae_title)
        if not 0 < self.port <= 65535:
            raise Rejected(f"a port is 1 to 65535, not {self.port}")
        if not self.objects or not set(self.objects) <= set(OBJECT_KINDS):
            raise Rejected(f"objects must be some of {', '.join(OBJECT_KINDS)}")
        if min(self.timeout, self.retry_seconds, self.max_age_hours, self.confirm_seconds) <= 0:
            raise Rejected("timeout, retry_seconds, max_age_hours and confirm_seconds must be positive")
        if self.storage_commitment and self.kind != "C-STORE":
            raise Rejected("storage_commitment is for kind C-STORE")
        if self.tls is not None and self.kind != "C-STORE":
            raise Rejected("tls is for kind C-STORE")
        if self.max_retry_seconds < self.retry_seconds:
            raise Rejected("max_retry_seconds must not be less than retry_seconds")

    def _check_place(self) -> None:
        """What its kind needs is there, what another kind needs is not."""
        for kind, names in PLACE.items():
            for name in names:
                if kind == self.kind and not getattr(self, name):
                    raise Rejected(f"a destination of kind {kind} needs {name}")
                if kind != self.kind and getattr(self, name):
                    raise Rejected(f"{name} is for kind {kind}, not {self.kind}")
        if self.url and not re.match(r"https?://[^/]", self.url):
            raise Rejected(f"a url begins with https:// or http://, not {self.url!r}")
        if any(p is not None and not p.is_absolute() for p in (self.folder, self.authorization_file)):
            raise Rejected("folder and authorization_file are absolute paths")

    @property
    def place(self) -> str:
        """The address for a person."""
        return {
            "C-STORE": f"{self.ae_title} at {self.host}:{self.port}",
            "STOW-RS": self.url,
            "folder": str(self.folder),
        }[self.kind]
