"""Logging in at an OpenID provider: a small real one on loopback, honest and not."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from page import Browser, Served, config, served

from dicom_node.errors import Rejected
from dicom_node.settings.web import OidcSettings, WebSettings
from dicom_node.web import users
from dicom_node.web.oidc import Provider as Page
from dicom_node.web.process import Page as Process

ADDRESS, SECRET = "https://vq.hospital.example", "a secret: of the page"
KEY = RSAKey.generate_key(2048, {"kid": "1", "use": "sig", "alg": "RS256"})


@dataclass
class Provider:
    """An OpenID provider that lets in whoever comes as `claims` says; what it signs can be spoilt."""

    claims: dict[str, Any] = field(default_factory=lambda: {"preferred_username": "vera"})
    alg: str = "RS256"
    key: Any = field(default_factory=lambda: KEY)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    issuer: str = ""

    def authorize(self, address: str) -> dict[str, str]:
        """What a browser brings back from the address that it was sent to."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert asked["redirect_uri"] == f"{ADDRESS}/login/oidc/back"
        assert (asked["response_type"], asked["client_id"]) == ("code", "vq")
        assert "openid" in asked["scope"].split()
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        return {"code": code, "state": asked["state"]}

    def token(self, authorization: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        expected = base64.b64encode(b"vq:a%20secret%3A%20of%20the%20page").decode()
        asked = self.codes.pop(form["code"], None)
        digest = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest())
        if (
            asked is None
            or authorization != f"Basic {expected}"
            or form["redirect_uri"] != asked["redirect_uri"]
        ):
            return 400, {"error": "invalid_grant"}
        if digest.rstrip(b"=").decode() != asked["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        times = {"iat": now, "exp": now + 300}
        claims = {
            "iss": self.issuer,
            "aud": "vq",
            "sub": "7",
            "nonce": asked["nonce"],
            **times,
            **self.claims,
        }
        header = {"alg": self.alg, "kid": "1"}
        return 200, {
            "id_token": jwt.encode(header, claims, self.key, algorithms=[self.alg]),
            "access_token": "x",
        }

    def answer(self, path: str) -> dict[str, Any]:
        if path == "/keys":
            return {"keys": [KEY.as_dict(private=False)]}
        names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
        return {"issuer": self.issuer, **{name: f"{self.issuer}/{at}" for name, at in names.items()}}


@pytest.fixture
def provider() -> Iterator[Provider]:
    found = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.say(200, found.answer(self.path))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            self.say(*found.token(self.headers.get("Authorization", ""), form))

        def say(self, status: int, content: dict[str, Any]) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, format: str, *args: Any) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.issuer = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def settings(provider: Provider, tmp_path: Path) -> OidcSettings:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    return OidcSettings(provider.issuer, "vq", tmp_path / "secret", ADDRESS)


@pytest.fixture
def page(settings: OidcSettings, tmp_path: Path) -> Iterator[Served]:
    with served(config(tmp_path, WebSettings(port=0, oidc=settings))) as found:
        yield found


def come_back(
    browser: Browser, provider: Provider, target: str = "/system", **changes: str
) -> httpx.Response:
    """What a browser gets that went to the provider and came back."""
    sent = browser.get("/login/oidc", params={"next": target})
    assert sent.status_code == 303, sent.text
    assert sent.headers["location"].startswith(f"{provider.issuer}/authorize?")
    return browser.get("/login/oidc/back", params={**provider.authorize(sent.headers["location"]), **changes})


def test_a_user_of_the_node_whom_the_provider_knows_gets_a_session_and_goes_where_it_wanted(
    page: Served, provider: Provider
) -> None:
    browser = page.browser()
    assert "Log in at 127.0.0.1" in browser.get("/login").text
    answer = come_back(browser, provider)
    assert (answer.status_code, answer.headers["location"]) == (303, "/system")
    assert "vera" in browser.get("/studies").text
    assert browser.act("cancel", job="1").status_code == 403  # a viewer here, whatever the provider says
    assert 'UserID="vera"' in page.audited()


def test_somebody_whom_only_the_provider_knows_is_not_let_in(page: Served, provider: Provider) -> None:
    provider.claims = {"preferred_username": "stranger", "role": "admin"}
    browser = page.browser()
    answer = come_back(browser, provider)
    assert (answer.status_code, "no user of your name" in answer.text) == (401, True)
    assert browser.get("/studies").status_code == 303
    users.disable(page.site.database, "vera")
    provider.claims = {"preferred_username": "vera"}
    assert come_back(page.browser(), provider).status_code == 401


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"}, {"aud": "another"}, {"aud": ["vq", "another"]}, {"azp": "another"},
        {"nonce": "another"}, {"exp": 1}, {"exp": "soon"}, {"preferred_username": None},
        {"preferred_username": ["vera"]}, {"sub": None},
    ],
    ids=lambda claims: "-".join(f"{k}" for k in claims),
)  # fmt: skip
def test_an_id_token_that_is_not_for_this_login_lets_nobody_in(
    page: Served, provider: Provider, claims: dict[str, Any]
) -> None:
    provider.claims |= claims
    browser = page.browser()
    assert come_back(browser, provider).status_code == 403
    assert browser.get("/studies").status_code == 303


@pytest.mark.parametrize(
    ("alg", "key"), [("HS256", OctKey.import_key("x" * 32)), ("RS256", RSAKey.generate_key(2048))]
)
def test_a_token_that_another_signed_lets_nobody_in(
    page: Served, provider: Provider, alg: str, key: Any
) -> None:
    provider.alg, provider.key = alg, key
    assert come_back(page.browser(), provider).status_code == 403


def test_a_login_that_another_browser_or_nobody_began_is_refused(page: Served, provider: Provider) -> None:
    victim, attacker = page.browser(), page.browser()
    sent = attacker.get("/login/oidc").headers["location"]
    brought = provider.authorize(sent)
    assert victim.get("/login/oidc/back", params=brought).status_code == 403  # it has no cookie of a login
    victim.get("/login/oidc")
    assert victim.get("/login/oidc/back", params=brought).status_code == 403  # its login is another
    assert "was not begun here" in page.audited()
    assert come_back(page.browser(), provider, state="another").status_code == 403
    forged = page.browser()
    forged.client.cookies.set("vq-login", "e30=.00")
    assert forged.get("/login/oidc/back", params=brought).status_code == 403


def test_a_code_counts_once_and_a_refusal_of_the_provider_is_said(page: Served, provider: Provider) -> None:
    browser = page.browser()
    sent = browser.get("/login/oidc").headers["location"]
    brought = provider.authorize(sent)
    provider.codes.clear()
    answer = browser.get("/login/oidc/back", params=brought)
    assert (answer.status_code, "HTTP 400" in answer.text) == (403, True)
    browser.get("/login/oidc")
    state = parse_qs(urlsplit(browser.get("/login/oidc").headers["location"]).query)["state"][0]
    refused = browser.get("/login/oidc/back", params={"error": "access_denied", "state": state})
    assert (refused.status_code, "let nobody in" in refused.text) == (403, True)


def test_a_login_that_took_too_long_is_begun_again(settings: OidcSettings, provider: Provider) -> None:
    now = [1e9]
    page = Page(settings, b"key", lambda: now[0])
    address, cookie = page.begin("/studies")
    brought = provider.authorize(address)
    now[0] += 601
    with pytest.raises(Rejected, match="took too long"):
        page.end(cookie, brought)


def test_a_provider_that_does_not_answer_or_is_another_is_said_and_passwords_still_count(
    page: Served, provider: Provider
) -> None:
    provider.issuer, old = "https://another.example", provider.issuer
    answer = page.browser().get("/login/oidc")
    assert (answer.status_code, "does not describe itself" in answer.text) == (503, True)
    provider.issuer = old
    settings = replace(page.site.settings.oidc, issuer="http://127.0.0.1:1")  # type: ignore[type-var]
    with pytest.raises(Exception, match="does not answer"):
        Page(settings, b"key").begin("/")  # type: ignore[arg-type]
    assert page.browser("vera").get("/studies").status_code == 200


def test_without_a_provider_there_is_no_such_login(tmp_path: Path) -> None:
    with served(config(tmp_path)) as found:
        assert "Log in at" not in found.browser().get("/login").text
        for path in ("/login/oidc", "/login/oidc/back"):
            assert found.browser().get(path).status_code == 404


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "http://login.example"},
        {"issuer": "login"},
        {"address": "ftp://x"},
        {"client_id": ""},
        {"claim": ""},
    ],
    ids=str,
)
def test_settings_that_would_send_secrets_in_the_clear_or_nowhere_are_refused(
    changes: dict[str, str],
) -> None:
    fine: dict[str, Any] = {"issuer": "https://login.example", "client_id": "vq", "address": ADDRESS}
    with pytest.raises(Rejected):
        OidcSettings(**{**fine, **changes}, client_secret_file=Path("secret"))


def test_a_secret_that_is_missing_is_said_at_the_start(settings: OidcSettings, tmp_path: Path) -> None:
    web = WebSettings(oidc=replace(settings, client_secret_file=tmp_path / "none"))
    with pytest.raises(Rejected, match="client_secret_file"):
        Process(config(tmp_path, web))
