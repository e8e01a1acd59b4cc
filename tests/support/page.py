"""A page over a real socket, in this process: its storage, its users, and browsers that are logged in."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from dicom_node.settings.config import AuditSettings, Config, ReceiveSettings
from dicom_node.settings.web import WebSettings
from dicom_node.store.database import Database
from dicom_node.store.keys import make_key
from dicom_node.web import users
from dicom_node.web.process import close_site, make_server, open_site
from dicom_node.web.site import Site

PASSWORD = "correct horse battery"


@dataclass
class Served:
    """A page that answers, and what it works with."""

    site: Site
    base: str
    tokens: dict[str, str] = field(default_factory=dict)

    def browser(self, name: str = "", **headers: str) -> Browser:
        """A browser with a session of this user, as a login begins it; a password takes long to look at."""
        made = Browser(self.base, headers)
        if name:
            user = users.named(self.site.database, name)
            assert user is not None
            made.client.cookies.set("vq", self.site.sessions.begin(user))
        return made

    def program(self, role: str = "operator") -> httpx.Client:
        """A program with a token of a role."""
        return httpx.Client(base_url=self.base, headers={"Authorization": f"Bearer {self.tokens[role]}"})

    def audited(self) -> str:
        """What the audit trail was told so far."""
        from dicom_node.store.tables import audit_spool

        time.sleep(0.3)  # views are written by a thread of their own
        self.site.trail.flush()
        with self.site.database.reading() as connection:
            return "\n".join(row.line for row in connection.execute(audit_spool.select()))


class Browser:
    """What a browser does: it keeps cookies and says where a request comes from."""

    def __init__(self, base: str, headers: dict[str, str]) -> None:
        self.client = httpx.Client(base_url=base, headers=headers)
        self.base = base

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.client.get(path, **more)

    def post(self, path: str, data: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        headers = {"Sec-Fetch-Site": "same-origin", "Origin": self.base} | more.pop("headers", {})
        return self.client.post(path, data=data, headers=headers, **more)

    def login(self, name: str, password: str, **more: Any) -> httpx.Response:
        return self.post("/login", {"name": name, "password": password}, **more)

    def token(self) -> str:
        """The token that this session's forms send back."""
        found = re.search(r'name="form_token" value="(\w+)"', self.get("/studies").text)
        assert found is not None
        return found[1]

    def act(self, action: str, **values: str) -> httpx.Response:
        return self.post(f"/actions/{action}", {"form_token": self.token(), **values})


def config(tmp_path: Path, web: WebSettings | None = None, **changes: Any) -> Config:
    receive = ReceiveSettings(port=0, quiet_seconds=0.4, min_free_mb=1)
    trail = AuditSettings(file=tmp_path / "audit.log")
    web = web or WebSettings(port=0)
    return Config(
        **{"storage": tmp_path / "storage", "receive": receive, "audit": trail, "web": web, **changes}
    )


@contextmanager
def served(settings: Config, bare: Any = None) -> Iterator[Served]:
    """A page with the users vera, otto and anna: viewer, operator, admin."""
    settings.storage.mkdir(exist_ok=True, parents=True)
    prepared = Database(settings.database_url, prepare=True)
    if not settings.layout.patients_key.exists():
        make_key(settings.layout, settings.layout.patients_key)  # as the start of a node does
    known = {account.name for account in users.accounts(prepared)}
    roles: tuple[tuple[str, users.Role], ...] = (("vera", "viewer"), ("otto", "operator"), ("anna", "admin"))
    tokens: dict[str, str] = {}
    for name, role in roles:
        if name not in known:
            users.add(prepared, name, role, PASSWORD, time.time())
            tokens[role] = users.add_token(prepared, f"{role}-program", role, time.time())
    prepared.close()
    assert settings.web is not None
    site = open_site(settings, settings.web)
    listening = socket.create_server(("127.0.0.1", 0))
    server = make_server(site, settings.web, bare)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    end = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < end
        time.sleep(0.01)
    scheme = "https" if settings.web.tls else "http"
    try:
        yield Served(site, f"{scheme}://127.0.0.1:{listening.getsockname()[1]}", tokens)
    finally:
        site.stopped.set()
        server.should_exit = True
        thread.join(10)
        close_site(site)
        listening.close()
