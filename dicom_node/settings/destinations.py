"""Settings of the destinations of results: one dataclass a kind, chosen by the key `kind` of its table.

A further kind is one dataclass here, one file in `delivery` and its row in `delivery.kinds`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ..errors import Rejected
from ..results.kinds import DEFAULT_OBJECTS, OBJECT_KINDS
from .peers import TlsSettings, valid_ae_title


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where results go: what every kind of destination has.

    Parameters
    ----------
    name : str
        What the queue, the log and ``dicom-node status`` call it.
    timeout : float
        Time to wait for a connection or an answer (s).
    retry_seconds, max_retry_seconds : float
        First and longest pause after a failure (s); it doubles in between, less some jitter.
    max_age_hours : float
        A result that could not be sent (or confirmed) for so long is given up, with the reason.
    objects : tuple of str
        The kinds of objects it gets, of `results.kinds.OBJECT_KINDS`.
    """

    #: The value of the key `kind`.
    kind: ClassVar[str]

    name: str = field(kw_only=False)
    timeout: float = 30.0
    retry_seconds: float = 5.0
    max_retry_seconds: float = 900.0
    max_age_hours: float = 72.0
    objects: tuple[str, ...] = DEFAULT_OBJECTS

    def __post_init__(self) -> None:
        if not self.name or len(self.name) > 64:
            raise Rejected("a destination needs a name (up to 64 characters)")
        if not self.objects or not set(self.objects) <= set(OBJECT_KINDS):
            raise Rejected(f"objects must be some of {', '.join(OBJECT_KINDS)}")
        if min(self.timeout, self.retry_seconds, self.max_age_hours) <= 0:
            raise Rejected("timeout, retry_seconds and max_age_hours must be positive")
        if self.max_retry_seconds < self.retry_seconds:
            raise Rejected("max_retry_seconds must not be less than retry_seconds")

    @property
    def place(self) -> str:
        """Its address, for a person."""
        raise NotImplementedError

    @property
    def peer(self) -> str:
        """What the audit trail calls it."""
        return self.name

    @property
    def confirms(self) -> bool:
        """True where a result has arrived only once the destination committed to keep it."""
        return False


@dataclass(frozen=True, kw_only=True)
class CStoreDestination(Destination):
    """A PACS that takes results by C-STORE (PS3.4 Annex B).

    Parameters
    ----------
    ae_title, host, port
        Of the PACS.
    calling_ae_title : str
        What this node calls itself there; "" for its own AE title.
    storage_commitment : bool
        Ask the PACS to commit to each result (PS3.4 Annex J); it is CONFIRMED only then.
    confirm_seconds : float
        Time to wait for a report before commitment is requested again (s).
    tls : TlsSettings, optional
        TLS only, with this certificate shown (PS3.15 B.9).
    """

    kind = "C-STORE"

    ae_title: str
    host: str
    port: int = 104
    calling_ae_title: str = ""
    storage_commitment: bool = False
    confirm_seconds: float = 600.0
    tls: TlsSettings | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        valid_ae_title(self.ae_title)
        if self.calling_ae_title:
            valid_ae_title(self.calling_ae_title)
        if not self.host:
            raise Rejected("a destination of kind C-STORE needs a host")
        if not 0 < self.port <= 65535:
            raise Rejected(f"a port is 1 to 65535, not {self.port}")
        if self.confirm_seconds <= 0:
            raise Rejected("confirm_seconds must be positive")

    @property
    def place(self) -> str:
        """Its address, for a person."""
        return f"{self.ae_title} at {self.host}:{self.port}"

    @property
    def peer(self) -> str:
        """What the audit trail calls it."""
        return self.ae_title

    @property
    def confirms(self) -> bool:
        """True where a result has arrived only once the destination committed to keep it."""
        return self.storage_commitment


@dataclass(frozen=True, kw_only=True)
class StowRsDestination(Destination):
    """A DICOMweb server that takes results by STOW-RS (PS3.18 10.5).

    Parameters
    ----------
    url : str
        Of the service; ``/studies`` is added.
    authorization_file : Path or None
        Absolute path of a file with the value of the Authorization header, e.g. ``Basic …`` or ``Bearer …``.
    """

    kind = "STOW-RS"

    url: str
    authorization_file: Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.match(r"https?://[^/]", self.url):
            raise Rejected(f"a url begins with https:// or http://, not {self.url!r}")
        if self.authorization_file is not None and not self.authorization_file.is_absolute():
            raise Rejected("authorization_file is an absolute path")

    @property
    def place(self) -> str:
        """Its address, for a person."""
        return self.url


@dataclass(frozen=True, kw_only=True)
class FolderDestination(Destination):
    """A folder that takes results as files.

    Parameters
    ----------
    folder : Path
        Absolute path of an existing folder.
    """

    kind = "folder"

    folder: Path

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.folder.is_absolute():
            raise Rejected("folder is an absolute path")

    @property
    def place(self) -> str:
        """Its address, for a person."""
        return str(self.folder)
