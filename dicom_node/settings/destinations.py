"""Settings of the destinations of results: one dataclass for each kind, chosen by the key `kind` of the table.

A new kind needs one dataclass here, one file in `delivery` and one row in `delivery.kinds`.
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
    """Settings that every kind of destination has.

    Parameters
    ----------
    name : str
        Name of the destination in the queue, the log and ``dicom-node status``.
    timeout : float
        Time to wait for a connection or an answer (s).
    retry_seconds, max_retry_seconds : float
        First and longest pause after a failure (s); the pause doubles each time, less some jitter.
    max_age_hours : float
        Time after which a result that could not be sent (or confirmed) is given up, with the reason (h).
    objects : tuple of str
        Kinds of objects that are sent to it, from `results.kinds.OBJECT_KINDS`.
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
        """Return the address of the destination, for a person to read."""
        raise NotImplementedError

    @property
    def peer(self) -> str:
        """Return the name of the destination in the audit trail."""
        return self.name

    @property
    def confirms(self) -> bool:
        """Return whether a result counts as arrived only once the destination has committed to keep it."""
        return False


@dataclass(frozen=True, kw_only=True)
class CStoreDestination(Destination):
    """A PACS that takes results by C-STORE (PS3.4 Annex B).

    Parameters
    ----------
    ae_title, host, port
        AE title and address of the PACS.
    calling_ae_title : str
        AE title under which this node calls the PACS; "" for the node's own.
    storage_commitment : bool
        True to ask the PACS to commit to each result (PS3.4 Annex J); a result is CONFIRMED only then.
    confirm_seconds : float
        Time to wait for a report before commitment is requested again (s).
    tls : TlsSettings, optional
        Connect over TLS and show this certificate (PS3.15 B.9); without it, plain TCP.
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
        """Return the address of the destination, for a person to read."""
        return f"{self.ae_title} at {self.host}:{self.port}"

    @property
    def peer(self) -> str:
        """Return the name of the destination in the audit trail."""
        return self.ae_title

    @property
    def confirms(self) -> bool:
        """Return whether a result counts as arrived only once the destination has committed to keep it."""
        return self.storage_commitment


@dataclass(frozen=True, kw_only=True)
class StowRsDestination(Destination):
    """A DICOMweb server that takes results by STOW-RS (PS3.18 10.5).

    Parameters
    ----------
    url : str
        URL of the service; ``/studies`` is appended.
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
        """Return the address of the destination, for a person to read."""
        return self.url


@dataclass(frozen=True, kw_only=True)
class FolderDestination(Destination):
    """A folder that takes results as files.

    Parameters
    ----------
    folder : Path
        Absolute path of an existing folder.
    mode : str
        Permissions of the files, in octal.
    group : str
        Group of the files, one that the node's user belongs to; "" for that user's own.
    """

    kind = "folder"

    folder: Path
    mode: str = "0600"
    group: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.folder.is_absolute():
            raise Rejected("folder is an absolute path")
        if not re.fullmatch(r"0?[0-7]{3}", self.mode) or not self.bits & 0o400:
            raise Rejected(
                f"mode is three octal digits, such as 0640, that let the owner read: not {self.mode!r}"
            )

    @property
    def bits(self) -> int:
        """Return the permissions of the files as a number."""
        return int(self.mode, 8)

    @property
    def place(self) -> str:
        """Return the address of the destination, for a person to read."""
        return str(self.folder)
