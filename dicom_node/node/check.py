"""A configuration -> whether a node could run with it here, as a list of checks and their outcomes."""

from __future__ import annotations

import ipaddress
import logging
import os
import shutil
import socket
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..delivery.kinds import SENDERS
from ..errors import NodeError, Rejected
from ..network.tls import expiring, page_context, server_context
from ..notify.kinds import WAYS
from ..settings.config import Config
from ..settings.destinations import StowRsDestination
from ..settings.web import WebTls
from ..store.database import Database, NoTables
from ..store.heartbeat import runs

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Check:
    """One check and its outcome.

    Parameters
    ----------
    name : str
    problem : str
        What is wrong, in one sentence; "" where all is well.
    fatal : bool
        True where the node could not start; False where it would run and try again later.
    wrong : bool
        True where the configuration must be mended: starting again later would not help.
    """

    name: str
    problem: str
    fatal: bool
    wrong: bool = False


def check(config: Config) -> list[Check]:
    """Check the storage folder, the database, the ports, certificates, programs, every destination and channel."""
    checks = [
        Check(f"storage {config.storage}", _storage(config), True),
        Check("database", _database(config), True),
        Check(f"port {config.receive.port} on {config.receive.host}", _port(config), True),
    ]
    for what, table in (("metrics", config.metrics), ("page", config.web)):
        if table is not None:
            problem = "" if _is_ours(config) else _free(table.host, table.port)
            checks.append(Check(f"port {table.port} on {table.host} for the {what}", problem, True))
    checks += _programs(config)
    checks += [Check("who may send", warning, False) for warning in open_to_all(config)]
    checks += _certificates(config)
    for destination in config.destinations:
        answer = SENDERS[type(destination)].probe(destination, config.receive.ae_title)
        checks.append(Check(f"destination {destination.name} ({destination.place})", answer, False))
    for channel in config.notify:
        answer = WAYS[type(channel)].probe(channel)
        checks.append(Check(f"channel {channel.name} ({channel.place})", answer, False))
    return checks


def _programs(config: Config) -> list[Check]:
    """Check that programs and folders outside the storage, which the configuration names, are there."""
    checks = []
    if config.jobs.lobes_command:
        program = config.jobs.lobes_command[0]
        missing = (
            "" if shutil.which(program) else f"the program {program} is not found: every job would be refused"
        )
        checks.append(Check("jobs.lobes_command", missing, False))
    if config.audit is not None and config.audit.file is not None:
        file = config.audit.file
        there = os.access(file, os.W_OK) if file.exists() else os.access(file.parent, os.W_OK | os.X_OK)
        checks.append(Check(f"audit file {file}", "" if there else "not writable", False))
    return checks


def open_to_all(config: Config) -> list[str]:
    """Return a sentence for each way that the configuration leaves open to anybody on the network."""
    receive, found = config.receive, []
    if not receive.peers and not ipaddress.ip_address(receive.host).is_loopback:
        found.append(f"anybody who reaches {receive.host} may send: name [[receive.peers]]")
    for destination in config.destinations:
        if isinstance(destination, StowRsDestination) and destination.url.startswith("http://"):
            secret = " and its authorization" if destination.authorization_file else ""
            if not _is_loopback(destination.url):
                found.append(f"results{secret} go to {destination.name} in the clear: use https://")
    page = config.web
    if page is not None and page.tls is None and not page.proxies and not _is_local(page.host):
        found.append(
            "passwords and images go to the page in the clear: name [web.tls], or the proxies before it"
        )
    return found


def _is_loopback(url: str) -> bool:
    return _is_local(urlsplit(url).hostname or "")


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _certificates(config: Config) -> list[Check]:
    """Check that the files of each table of certificates can be used, and which of them expire soon."""
    checks = []
    for name, settings in config.certificates.items():
        try:
            _ = page_context(settings) if isinstance(settings, WebTls) else server_context(settings)
            problem = ""
        except Rejected as error:
            problem = str(error)
        checks.append(Check(f"certificates of {name}", problem, True, wrong=True))
        soon = expiring(settings, time.time())
        checks += [Check(f"certificates of {name}", told, False) for told in soon]
    return checks


def tell_expiring(config: Config) -> None:
    """Log which certificates and lists of the peers that the node calls expire soon, or have expired.

    The processes that receive look after those of ``[receive.tls]``.
    """
    for name, settings in config.certificates.items():
        for sentence in expiring(settings, time.time()) if name != "receive" else ():
            LOG.warning("TLS of %s: %s", name, sentence)


def _storage(config: Config) -> str:
    """Make nothing: who checks may be another user than the node, which could not open it."""
    there = next(folder for folder in (config.storage, *config.storage.parents) if folder.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return ""
    return "not writable" if there == config.storage else f"cannot be made in {there}"


def _database(config: Config) -> str:
    try:
        Database(config.database_url).close()
    except NoTables:  # the start of the node makes them
        return ""
    except NodeError as error:
        return str(error)
    return ""


def _port(config: Config) -> str:
    return "" if _is_ours(config) else _free(config.receive.host, config.receive.port)


def _is_ours(config: Config) -> bool:
    """Return whether a node runs with this storage, which then has the ports."""
    return runs(config.layout)


def _free(host: str, port: int) -> str:
    """Return "" where an address can be listened on, else why not."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, UnicodeError) as error:
        return f"cannot be listened on: {getattr(error, 'strerror', None) or error}"
    return ""
