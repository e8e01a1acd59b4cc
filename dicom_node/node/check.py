"""A configuration -> whether a node could run with it here, as a list of checks and their outcomes."""

from __future__ import annotations

import ipaddress
import os
import socket
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..delivery.kinds import SENDERS
from ..errors import NodeError, Rejected, Unavailable
from ..network.tls import expiring, server_context
from ..settings.config import Config
from ..settings.destinations import CStoreDestination, StowRsDestination
from ..store.database import Database, NoTables
from ..store.durable import make_folder


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
    """

    name: str
    problem: str
    fatal: bool


def check(config: Config) -> list[Check]:
    """Check the storage folder, the database, the port and every destination."""
    checks = [
        Check(f"storage {config.storage}", _storage(config), True),
        Check("database", _database(config), True),
        Check(f"port {config.receive.port} on {config.receive.host}", _port(config), True),
    ]
    checks += [Check("who may send", warning, False) for warning in open_to_all(config)]
    checks += _certificates(config)
    for destination in config.destinations:
        answer = SENDERS[type(destination)].probe(destination, config.receive.ae_title)
        checks.append(Check(f"destination {destination.name} ({destination.place})", answer, False))
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
    return found


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _certificates(config: Config) -> list[Check]:
    """Check that the files of each table of certificates can be used, and which of them expire soon."""
    tables = {"receive": config.receive.tls}
    tables |= {} if config.audit is None else {"audit": config.audit.tls}
    tables |= {} if config.pacs is None else {"pacs": config.pacs.tls}
    tables |= {
        f"destination {d.name}": d.tls for d in config.destinations if isinstance(d, CStoreDestination)
    }
    checks = []
    for name, settings in tables.items():
        if settings is not None:
            try:
                server_context(settings)
                found = [Check(f"certificates of {name}", "", True)]
            except Rejected as error:
                found = [Check(f"certificates of {name}", str(error), True)]
            soon = [Check(f"certificates of {name}", told, False) for told in expiring(settings, time.time())]
            checks += found + soon
    return checks


def _storage(config: Config) -> str:
    try:
        make_folder(config.storage)
    except Unavailable as error:
        return str(error)
    return "" if os.access(config.storage, os.W_OK | os.X_OK) else "not writable"


def _database(config: Config) -> str:
    try:
        Database(config.database_url).close()
    except NoTables:  # the start of the node makes them
        return ""
    except NodeError as error:
        return str(error)
    return ""


def _port(config: Config) -> str:
    family = socket.AF_INET6 if ":" in config.receive.host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((config.receive.host, config.receive.port))
    except OSError as error:
        return f"cannot be listened on: {error.strerror or error}"
    return ""
