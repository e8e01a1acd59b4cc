"""One TOML file -> frozen settings, read once and passed down; a key that is not known is an error."""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import re
import tomllib
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from analysis.errors import AnalysisError
from analysis.pipeline.pipeline import Parameters

from ..errors import NodeError, Rejected
from ..model import DEFAULT_OBJECTS, OBJECT_KINDS, PairingRules

T = TypeVar("T")

Kind = Literal["C-STORE", "STOW-RS", "folder"]
#: What a destination of each kind needs.
PLACE: dict[Kind, tuple[str, ...]] = {
    "C-STORE": ("ae_title", "host"),
    "STOW-RS": ("url",),
    "folder": ("folder",),
}


def valid_ae_title(title: str) -> str:
    """The title, if it is one: 1 to 16 printable ASCII characters, no backslash, not only spaces (PS3.5 6.2).

    Raises
    ------
    Rejected
    """
    if not re.fullmatch(r"[ -\[\]-~]{1,16}", title) or not title.strip():
        raise Rejected(f"an AE title is 1 to 16 printable ASCII characters without backslash, not {title!r}")
    return title


@dataclass(frozen=True)
class Peer:
    """Who may send, and where reports of storage commitment go.

    Parameters
    ----------
    ae_title : str
        Calling AE title, or "" for any.
    address : str
        IP address or network ("10.1.2.0/24"), or "" for any.
    port : int
        Where it listens for reports; 0: it gets them on the association of its request only.
    host : str
        Where that is, if not at the address its request came from.
    """

    ae_title: str = ""
    address: str = ""
    port: int = 0
    host: str = ""

    def __post_init__(self) -> None:
        if not self.ae_title and not self.address:
            raise Rejected("a peer needs an ae_title, an address, or both")
        if self.ae_title:
            valid_ae_title(self.ae_title)
        if not 0 <= self.port <= 65535 or (self.host and not self.port):
            raise Rejected("the port of a peer is 1 to 65535; its host needs one")
        if self.address:
            try:
                ipaddress.ip_network(self.address)
            except ValueError as error:
                raise Rejected(
                    f"the address of a peer is an IP address or network, not {self.address!r}"
                ) from error

    def matches(self, ae_title: str, address: str) -> bool:
        """True where both agree.

        Examples
        --------
        >>> Peer("CT1", "10.1.2.0/24").matches("CT1", "10.1.2.7")
        True
        >>> Peer("", "10.1.2.0/24").matches("CT1", "10.1.3.7")
        False
        """
        if self.ae_title and self.ae_title != ae_title:
            return False
        if not self.address:
            return True
        found = ipaddress.ip_address(address)
        mapped = getattr(found, "ipv4_mapped", None)
        return (mapped or found) in ipaddress.ip_network(self.address)


@dataclass(frozen=True)
class TlsSettings:
    """The certificates of one side.

    Parameters
    ----------
    certificate, key : Path
        PEM files: this side's certificate (and chain), and its private key without a passphrase. Relative to
        the configuration file.
    authorities : Path
        PEM file of the authorities the other side's certificate must come from.
    """

    certificate: Path
    key: Path
    authorities: Path

    def below(self, folder: Path) -> TlsSettings:
        """The same with relative paths taken from `folder`."""
        return TlsSettings(folder / self.certificate, folder / self.key, folder / self.authorities)


@dataclass(frozen=True)
class ReceiveSettings:
    """The SCP.

    Parameters
    ----------
    ae_title : str
    host : str
        Address to listen on; loopback unless said.
    port : int
        0 for any free one.
    require_called_ae_title : bool
        Reject associations that call another AE title.
    called_ae_titles : tuple of str
        Others that may be called then.
    acceptors : int
        Processes that receive.
    maximum_associations : int
        At one time, of all processes; further ones are rejected (transient).
    associations_per_minute : int
        Of one address, counted by each process; further ones are rejected (transient).
    network_timeout : float
        Seconds a silent association may last, and a PDU may take to come.
    memory_mb : int
        What a process may hold of data sets that are coming; the association with one that is larger, or
        comes when there is no room left, is aborted.
    min_free_mb : int
        With less room on the disk, associations are rejected (transient).
    quiet_seconds : float
        A study is looked at once nothing came for so long.
    peers : tuple of Peer
        Who may send; none for anyone.
    tls : TlsSettings, optional
        Only TLS, only with a client certificate (PS3.15 B.9); without it, plain TCP.
    """

    ae_title: str = "VQNODE"
    host: str = "127.0.0.1"
    port: int = 11112
    require_called_ae_title: bool = False
    called_ae_titles: tuple[str, ...] = ()
    acceptors: int = 2
    maximum_associations: int = 64
    associations_per_minute: int = 6000
    network_timeout: float = 60.0
    memory_mb: int = 2048
    min_free_mb: int = 1024
    quiet_seconds: float = 30.0
    peers: tuple[Peer, ...] = ()
    tls: TlsSettings | None = None

    def __post_init__(self) -> None:
        for title in (self.ae_title, *self.called_ae_titles):
            valid_ae_title(title)
        if not 0 <= self.port <= 65535:
            raise Rejected(f"a port is 0 to 65535, not {self.port}")
        for name in (
            *("acceptors", "maximum_associations", "associations_per_minute"),
            *("network_timeout", "memory_mb", "quiet_seconds"),
        ):
            if getattr(self, name) <= 0:
                raise Rejected(f"{name} must be positive")


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


@dataclass(frozen=True)
class Pacs:
    """A PACS that is asked for the rest of a study that waits for its other phase.

    Parameters
    ----------
    name : str
    ae_title, host, port, calling_ae_title, timeout, tls
        As of a destination.
    method : {"C-MOVE", "C-GET"}
        How images are retrieved; for C-MOVE the PACS must know this node's AE title and port.
    search_seconds : float
        Pause between two searches for one study.
    """

    name: str
    ae_title: str
    host: str
    port: int = 104
    calling_ae_title: str = ""
    timeout: float = 30.0
    method: Literal["C-MOVE", "C-GET"] = "C-MOVE"
    search_seconds: float = 300.0
    tls: TlsSettings | None = None

    def __post_init__(self) -> None:
        valid_ae_title(self.ae_title)
        if min(self.timeout, self.search_seconds) <= 0 or not 0 < self.port <= 65535:
            raise Rejected("timeout and search_seconds must be positive, the port 1 to 65535")


@dataclass(frozen=True)
class JobSettings:
    """The workers.

    Parameters
    ----------
    concurrency : int
        Analyses at one time, each in a process of its own.
    max_crashes : int
        A job whose process died so often (out of memory, say) is FAILED.
    nice : int
        How far workers give way to receiving.
    lobes_command : tuple of str
        Words of a program that draws the five lobes, as of `lobes.draw_lobes`; a job it fails for is REFUSED.
    """

    concurrency: int = 1
    max_crashes: int = 3
    nice: int = 10
    lobes_command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        given = " ".join(self.lobes_command)
        if given and not ("{ct}" in given and "{lobes}" in given):
            raise Rejected("lobes_command must name {ct} and {lobes}")
        if self.concurrency < 1 or self.max_crashes < 1 or not 0 <= self.nice <= 19:
            raise Rejected("concurrency and max_crashes must be at least 1, nice 0 to 19")


@dataclass(frozen=True)
class AuditSettings:
    """Where DICOM audit messages (PS3.15 A.5) go: a file, or a repository that takes syslog.

    Parameters
    ----------
    file : Path, optional
        One message a line; relative to the configuration file.
    host, port : of the repository
    tls : TlsSettings, optional
        RFC 5425; without it, TCP (RFC 6587).
    max_messages : int
        Kept in the database while the repository is away; then the oldest are dropped.
    """

    file: Path | None = None
    host: str = ""
    port: int = 6514
    tls: TlsSettings | None = None
    max_messages: int = 100_000

    def __post_init__(self) -> None:
        if (self.file is None) == (not self.host):
            raise Rejected("the audit trail needs a file or a host")
        if self.file is not None and self.tls is not None:
            raise Rejected("tls is for a host, not a file")
        if not 0 < self.port <= 65535 or self.max_messages < 1:
            raise Rejected("the port is 1 to 65535, max_messages at least 1")


@dataclass(frozen=True)
class RetentionSettings:
    """When images of studies that have ended are removed; 0 for never.

    Parameters
    ----------
    days : float
        After the last image of a study came.
    min_free_gb : float
        With less room than this on the disk, the oldest go.
    max_archive_gb : float
        With more images than this, the oldest go.
    """

    days: float = 0.0
    min_free_gb: float = 0.0
    max_archive_gb: float = 0.0

    def __post_init__(self) -> None:
        if min(self.days, self.min_free_gb, self.max_archive_gb) < 0:
            raise Rejected("days, min_free_gb and max_archive_gb must not be negative")

    @property
    def on(self) -> bool:
        """True where anything is ever removed."""
        return max(self.days, self.min_free_gb, self.max_archive_gb) > 0


@dataclass(frozen=True)
class Config:
    """Everything a node is told.

    Parameters
    ----------
    storage : Path
        Folder for images, results and the database; owner-only. Relative to the file.
    database : str
        SQLAlchemy URL; "" for an SQLite file in `storage`.
    tick_seconds : float
        How often due things are looked for.
    wait_hours : float
        A study without its other phase is WAITING for so long, then OVERDUE; images still complete it.
    receive, jobs, pairing, analysis, destinations, pacs, audit, retention
        The tables of the file.
    """

    storage: Path = Path("dicom-node-data")
    database: str = ""
    tick_seconds: float = 1.0
    wait_hours: float = 24.0
    receive: ReceiveSettings = field(default_factory=ReceiveSettings)
    jobs: JobSettings = field(default_factory=JobSettings)
    pairing: PairingRules = field(default_factory=PairingRules)
    analysis: Parameters = field(default_factory=Parameters)
    destinations: tuple[Destination, ...] = ()
    pacs: Pacs | None = None
    audit: AuditSettings | None = None
    retention: RetentionSettings = field(default_factory=RetentionSettings)

    def __post_init__(self) -> None:
        kept_free = self.retention.min_free_gb * 1000
        if 0 < kept_free <= self.receive.min_free_mb:
            raise Rejected(
                "retention.min_free_gb must be more than receive.min_free_mb, or images are refused first"
            )
        names = [d.name for d in self.destinations]
        if len(set(names)) < len(names):
            raise Rejected("every destination needs a name of its own")
        if self.tick_seconds <= 0 or self.wait_hours <= 0:
            raise Rejected("tick_seconds and wait_hours must be positive")

    @property
    def database_url(self) -> str:
        """`database`, or the SQLite file in the storage folder."""
        return self.database or f"sqlite:///{self.storage / 'node.db'}"


def read_config(path: Path) -> Config:
    """Read a node's TOML file.

    Raises
    ------
    Rejected
        Where the file is missing or no TOML, a key is unknown, or a value is of another type or out of
        range; the message names the file, the line and the key.
    """
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Rejected(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        config = _build(Config, table, "")
    except _Wrong as error:
        raise Rejected(f"{path}{_line(text, error)}: {error}") from error
    folder = path.parent.absolute()

    def placed(part: Any) -> Any:
        """A part with the certificates' paths taken from the file's folder."""
        return (
            part
            if part is None or part.tls is None
            else dataclasses.replace(part, tls=part.tls.below(folder))
        )

    audit = placed(config.audit)
    if audit is not None and audit.file is not None:
        audit = dataclasses.replace(audit, file=folder / audit.file)
    return dataclasses.replace(
        config,
        storage=folder / config.storage,
        receive=placed(config.receive),
        destinations=tuple(placed(d) for d in config.destinations),
        pacs=placed(config.pacs),
        audit=audit,
    )


class _Wrong(Rejected):
    """A key or value of the file; knows where."""

    def __init__(self, table: str, key: str, message: str) -> None:
        super().__init__(message)
        self.table, self.key = table, key


def _build(cls: type[T], table: dict[str, Any], name: str) -> T:
    """The dataclass of a TOML table."""
    kinds = get_type_hints(cls)
    where = f" in [{name}]" if name else ""
    for key in table:
        if key not in kinds:
            close = difflib.get_close_matches(key, kinds, 1)
            raise _Wrong(
                name, key, f"unknown key '{key}'{where}" + (f"; is '{close[0]}' meant?" if close else "")
            )
    values = {key: _value(kinds[key], raw, name, key) for key, raw in table.items()}
    for item in dataclasses.fields(cls):  # type: ignore[arg-type]
        missing = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if missing and item.name not in values:
            raise _Wrong(name, "", f"'{item.name}' is missing{where}")
    try:
        return cls(**values)
    except (NodeError, AnalysisError) as error:
        if isinstance(error, _Wrong):
            raise
        raise _Wrong(name, "", f"{error}{where}") from error


def _value(kind: Any, raw: Any, table: str, key: str) -> Any:
    if get_origin(kind) in (types.UnionType, Union):
        kind = next(k for k in get_args(kind) if k is not type(None))
    if get_origin(kind) is Literal:
        if raw not in get_args(kind):
            raise _Wrong(table, key, f"'{key}' must be one of {', '.join(get_args(kind))}, not {raw!r}")
        return raw
    if dataclasses.is_dataclass(kind) and isinstance(raw, dict):
        return _build(kind, raw, f"{table}.{key}" if table else key)  # type: ignore[arg-type]
    if get_origin(kind) is tuple and isinstance(raw, list):
        return tuple(_value(get_args(kind)[0], item, table, key) for item in raw)
    if kind is Path and isinstance(raw, str):
        return Path(raw).expanduser()
    if kind is float and type(raw) is int:
        return float(raw)
    if type(raw) is not kind:
        name = getattr(kind, "__name__", str(kind))
        raise _Wrong(table, key, f"'{key}' must be {NAMES.get(name, name)}, not {raw!r}")
    return raw


#: How a person calls the types of a TOML file.
NAMES = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "Path": "a text",
}


def _line(text: str, error: _Wrong) -> str:
    """``", line 7"`` of the key in its table, or of the table, as far as it can be found."""
    here, found = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([\w.\-]+)", line):
            here = header[1]
            found = number if here == error.table and not error.key else found
        elif (
            error.key
            and here == error.table
            and re.match(rf"\s*[\"']?{re.escape(error.key)}[\"']?\s*[=.]", line)
        ):
            return f", line {number}"
        if error.key and header and here == (f"{error.table}.{error.key}" if error.table else error.key):
            return f", line {number}"
    return f", line {found}" if found else ""
