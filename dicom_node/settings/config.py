"""One TOML file -> frozen settings, read once and passed down; an unknown key is an error."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from analysis.parameters import Parameters, PictureStyle

from ..errors import Rejected
from ..model import PairingRules
from .dask import DaskSettings
from .destinations import Destination
from .layout import Layout
from .notify import Channel
from .peers import Pacs, Peer, TlsSettings, valid_ae_title
from .toml import _build, _line, _Wrongs
from .web import WebSettings, WebTls

T = TypeVar("T")


@dataclass(frozen=True)
class ReceiveSettings:
    """Settings of the receiving side, a storage SCP.

    Parameters
    ----------
    ae_title : str
    host : str
        Address to listen on; the default is loopback.
    port : int
        Port to listen on; 0 for any free one.
    require_called_ae_title : bool
        True to reject associations that call another AE title than the node's own.
    called_ae_titles : tuple of str
        Further AE titles that may be called where `require_called_ae_title` is True.
    acceptors : int
        Number of processes that receive.
    maximum_associations : int
        Most associations open at one time, over all processes; further ones are rejected (transient).
    associations_per_peer : int
        Most of those for one address, and for one AE title; 0 for three quarters, so that nobody can take all.
    associations_per_minute : int
        Most requests from one address in a minute, counted by each process; further ones are rejected (transient).
    network_timeout : float
        Longest silence on an association, and longest time for one PDU to arrive (s).
    memory_mb : int
        Memory for the data sets that one process is receiving (MB). An association is aborted where its data set is
        larger than this, or does not fit beside the others.
    min_free_mb : int
        Free space on the disk (MB) below which associations are rejected (transient).
    quiet_seconds : float
        Time without new images after which a study is looked at (s).
    peers : tuple of Peer
        The peers that may send; where there are none, anyone may.
    tls : TlsSettings, optional
        Accept only TLS with a client certificate (PS3.15 B.9); without it, plain TCP.
    """

    ae_title: str = "VQNODE"
    host: str = "127.0.0.1"
    port: int = 11112
    require_called_ae_title: bool = False
    called_ae_titles: tuple[str, ...] = ()
    acceptors: int = 2
    maximum_associations: int = 64
    associations_per_peer: int = 0
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
        if not 0 <= self.associations_per_peer <= self.maximum_associations:
            raise Rejected("associations_per_peer is 0 to maximum_associations")
        if self.tls is None and any(peer.certificate for peer in self.peers):
            raise Rejected("the certificate of a peer needs the table [receive.tls]")

    @property
    def share(self) -> int:
        """Return how many associations one address, and one AE title, may have."""
        return self.associations_per_peer or max(1, self.maximum_associations * 3 // 4)


@dataclass(frozen=True)
class JobSettings:
    """Settings of the workers, the processes that analyse.

    Parameters
    ----------
    engine : str
        Where analyses run. "local": in processes of the node. "dask": on the workers of a Dask cluster.
    concurrency : int
        Number of analyses at one time, each in a process of its own; a Dask cluster takes as many as it has threads.
    max_crashes : int
        Number of crashes of its process or its node after which a job is FAILED.
    max_minutes : float
        Time limit of one analysis (min); its process is then ended, which counts as a crash.
    memory_mb : int
        Memory limit of one analysis (MB); a job that needs more is FAILED.
    nice : int
        Niceness of the workers; the higher it is, the more they yield to receiving.
    lobes_command : tuple of str
        Program and arguments that draw the five lobes, as for `lobes.draw_lobes`; a job for which it fails is REFUSED.
    dask : DaskSettings, optional
        The cluster of `engine = "dask"`.
    """

    engine: Literal["local", "dask"] = "local"
    concurrency: int = 1
    max_crashes: int = 3
    max_minutes: float = 120.0
    memory_mb: int = 16_384
    nice: int = 10
    lobes_command: tuple[str, ...] = ()
    dask: DaskSettings | None = None

    def __post_init__(self) -> None:
        given = " ".join(self.lobes_command)
        if given and not ("{ct}" in given and "{lobes}" in given):
            raise Rejected("lobes_command must name {ct} and {lobes}")
        if self.concurrency < 1 or self.max_crashes < 1 or not 0 <= self.nice <= 19:
            raise Rejected("concurrency and max_crashes must be at least 1, nice 0 to 19")
        if self.max_minutes <= 0 or self.memory_mb < 1024:
            raise Rejected("max_minutes must be positive, memory_mb at least 1024")
        if (self.engine == "dask") != (self.dask is not None):
            raise Rejected('engine = "dask" and the table [jobs.dask] need each other')


@dataclass(frozen=True)
class AuditSettings:
    """Destination of the DICOM audit messages (PS3.15 A.5): a file, or a repository that takes syslog.

    Parameters
    ----------
    file : Path, optional
        File that gets one message a line; its path is relative to the configuration file.
    host, port
        Address of the repository.
    tls : TlsSettings, optional
        Send over TLS (RFC 5425); without it, over TCP (RFC 6587).
    max_messages : int
        Most messages kept in the database while the repository cannot be reached; beyond it the oldest are dropped.
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
    """Limits at which the images of ended studies are removed; 0 switches a limit off.

    Parameters
    ----------
    days : float
        Time since the last image of a study was received (days).
    min_free_gb : float
        Free space on the disk below which the oldest studies are removed (GB).
    max_archive_gb : float
        Total size of the images above which the oldest studies are removed (GB).
    """

    days: float = 0.0
    min_free_gb: float = 0.0
    max_archive_gb: float = 0.0

    def __post_init__(self) -> None:
        if min(self.days, self.min_free_gb, self.max_archive_gb) < 0:
            raise Rejected("days, min_free_gb and max_archive_gb must not be negative")

    @property
    def on(self) -> bool:
        """Return whether any limit is switched on."""
        return max(self.days, self.min_free_gb, self.max_archive_gb) > 0


@dataclass(frozen=True)
class MetricsSettings:
    """Where `/metrics`, `/livez` and `/readyz` are served without a page; with this table only.

    Parameters
    ----------
    host : str
        Address to listen on; the default is loopback.
    port : int
        Port to listen on; 0 for any free one.
    """

    host: str = "127.0.0.1"
    port: int = 9112

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise Rejected(f"a port is 0 to 65535, not {self.port}")


@dataclass(frozen=True)
class Config:
    """All settings of a node.

    Parameters
    ----------
    storage : Path
        Folder for images, results and the database, readable by its owner only; relative to the configuration file.
    database : str
        SQLAlchemy URL; "" for an SQLite file in `storage`.
    tick_seconds : float
        Interval at which the node looks for due work (s).
    wait_hours : float
        Time for which a study without its other phase is WAITING (h). After it the study is OVERDUE; images that
        arrive later still complete it.
    receive, jobs, pairing, analysis, pictures, destinations, pacs, audit, retention, metrics, notify, web
        The tables of the configuration file.
    """

    storage: Path = Path("dicom-node-data")
    database: str = ""
    tick_seconds: float = 1.0
    wait_hours: float = 24.0
    receive: ReceiveSettings = field(default_factory=ReceiveSettings)
    jobs: JobSettings = field(default_factory=JobSettings)
    pairing: PairingRules = field(default_factory=PairingRules)
    analysis: Parameters = field(default_factory=Parameters)
    pictures: PictureStyle = field(default_factory=PictureStyle)
    destinations: tuple[Destination, ...] = ()
    pacs: Pacs | None = None
    audit: AuditSettings | None = None
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    metrics: MetricsSettings | None = None
    notify: tuple[Channel, ...] = ()
    web: WebSettings | None = None

    def __post_init__(self) -> None:
        kept_free = self.retention.min_free_gb * 1000
        if 0 < kept_free <= self.receive.min_free_mb:
            raise Rejected(
                "retention.min_free_gb must be more than receive.min_free_mb, or images are refused first"
            )
        names = [d.name for d in self.destinations]
        if len(set(names)) < len(names):
            raise Rejected("every destination needs a name of its own")
        channels = [channel.name for channel in self.notify]
        if len(set(channels)) < len(channels):
            raise Rejected("every channel of [[notify]] needs a name of its own")
        if self.tick_seconds <= 0 or self.wait_hours <= 0:
            raise Rejected("tick_seconds and wait_hours must be positive")
        if self.jobs.engine != "local" and not self.database.startswith("postgresql"):
            raise Rejected(f'jobs.engine = "{self.jobs.engine}" needs a database on PostgreSQL')

    @property
    def client_certificates(self) -> tuple[TlsSettings, ...]:
        """Return the certificates that this node shows to the peers it calls."""
        peers = *self.destinations, self.pacs
        return tuple(tls for peer in peers for tls in _certificates(peer).values())

    @property
    def peer_names(self) -> frozenset[str]:
        """Return the AE titles under which senders are counted; all others are counted together."""
        return frozenset(peer.ae_title for peer in self.receive.peers if peer.ae_title)

    @property
    def certificates(self) -> dict[str, TlsSettings | WebTls]:
        """Return the certificates of each table that names some, by the name of the table."""
        named = {"receive": self.receive, "audit": self.audit, "pacs": self.pacs, "jobs.dask": self.jobs.dask}
        parts: dict[str, object] = {**named, **{f"destination {d.name}": d for d in self.destinations}}
        found: dict[str, TlsSettings | WebTls] = {}
        found |= {name: tls for name, part in parts.items() for tls in _certificates(part).values()}
        return found if self.web is None or self.web.tls is None else {**found, "web": self.web.tls}

    @property
    def layout(self) -> Layout:
        """Return the names of the files and folders in `storage`."""
        return Layout(self.storage)

    @property
    def database_url(self) -> str:
        """Return `database`, or the URL of the SQLite file in the storage folder where it is empty."""
        return self.database or f"sqlite:///{self.layout.database}"


def read_config(path: Path) -> Config:
    """Read a node's TOML file.

    Raises
    ------
    Rejected
        Where the file is missing or is not TOML, a key is unknown, or a value has the wrong type or is out of
        range. The message has a line for each thing that is wrong, with the file, the line and the key.
    """
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Rejected(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        config = _build(Config, table, "")
    except _Wrongs as errors:
        lines = dict.fromkeys(f"{path}{_line(text, error)}: {error}" for error in errors.found)
        raise Rejected("\n".join(lines)) from errors
    folder = path.parent.absolute()

    audit = _placed(config.audit, folder)
    if audit is not None and audit.file is not None:
        audit = dataclasses.replace(audit, file=folder / audit.file)
    return dataclasses.replace(
        config,
        storage=folder / config.storage,
        receive=_placed(config.receive, folder),
        jobs=dataclasses.replace(config.jobs, dask=_placed(config.jobs.dask, folder)),
        destinations=tuple(_placed(d, folder) for d in config.destinations),
        pacs=_placed(config.pacs, folder),
        audit=audit,
        web=config.web and config.web.below(folder),
    )


def _certificates(part: object) -> dict[str, TlsSettings]:
    """Return the certificates that a part of the settings names, by key."""
    names = [item.name for item in dataclasses.fields(part)] if dataclasses.is_dataclass(part) else []
    return {name: value for name in names if isinstance(value := getattr(part, name), TlsSettings)}


def _placed(part: T, folder: Path) -> T:
    """Return a part of the settings with the paths of its certificates resolved against `folder`."""
    found = {name: tls.below(folder) for name, tls in _certificates(part).items()}
    return dataclasses.replace(part, **found) if found else part  # type: ignore[type-var]
