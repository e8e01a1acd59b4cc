"""Who gets in, and every way in which peers let in who should not have been."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from page import PASSWORD, Served, config, served

from dicom_node.errors import Rejected
from dicom_node.settings.web import WebSettings
from dicom_node.store.database import Database
from dicom_node.store.page_tables import web_session, web_token, web_user
from dicom_node.web import users
from dicom_node.web.openapi import document
from dicom_node.web.sessions import Attempts, Sessions


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(config(tmp_path_factory.mktemp("page"))) as found:
        yield found


def test_a_new_database_lets_nobody_in(tmp_path: Path) -> None:
    database = Database("sqlite://", prepare=True)
    assert users.accounts(database) == []
    for name, password in (("admin", "admin"), ("admin", "router"), ("", "")):
        assert users.verified(database, name, password) is None


def test_a_stranger_is_sent_to_the_login_and_a_program_is_refused(page: Served) -> None:
    stranger = page.browser()
    for path in (
        "/studies",
        "/system",
        "/results/1/files/pdf",
        "/thumbnails/1.2.png",
        "/upload",
        "/confirm/cancel",
    ):
        answer = stranger.get(path)
        assert (answer.status_code, answer.headers["location"].split("?")[0]) == (303, "/login")
    for path, methods in document()["paths"].items():
        for method in methods:
            answer = stranger.client.request(
                method, path.replace("{", "").replace("}", ""), headers={"Origin": page.base}
            )
            assert answer.status_code == 401, path


def test_wrong_name_and_wrong_password_get_the_same_sentence(page: Served) -> None:
    answers = [page.browser().login(name, "not the password") for name in ("vera", "nobody-here")]
    assert [a.status_code for a in answers] == [401, 401]
    assert all("Name or password is wrong." in a.text for a in answers)
    assert answers[0].text == answers[1].text


def test_the_right_password_begins_a_session_that_scripts_and_other_sites_cannot_use(page: Served) -> None:
    answer = page.browser().login("vera", PASSWORD)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    secret = cookie.split("=")[1].split(";")[0]
    with page.site.database.reading() as connection:
        kept = [row.digest for row in connection.execute(sa.select(web_session))]
        passwords = [row.password for row in connection.execute(sa.select(web_user))]
    assert secret not in kept
    assert users.digest(secret) in kept
    assert all(text.startswith("$argon2id$") for text in passwords)


def test_logging_out_ends_the_session_at_the_server(page: Served) -> None:
    browser = page.browser("vera")
    cookies = dict(browser.client.cookies)
    assert browser.post("/logout", {"form_token": browser.token()}).status_code == 303
    assert httpx.get(f"{page.base}/studies", cookies=cookies).status_code == 303


def test_sessions_end_after_silence_and_after_hours() -> None:
    database, now = Database("sqlite://", prepare=True), [1000.0]
    users.add(database, "vera", "viewer", PASSWORD, now[0])
    settings = WebSettings(session_minutes=30, session_hours=2)
    sessions = Sessions(database, settings, b"key", lambda: now[0])
    secret = sessions.begin(users.User("vera", "viewer"))
    for _ in range(5):
        now[0] += 20 * 60
        assert sessions.user(secret) is not None
    now[0] += 20 * 60 + 1
    assert sessions.user(secret) is None  # two hours
    secret = sessions.begin(users.User("vera", "viewer"))
    now[0] += 30 * 60 + 1
    assert sessions.user(secret) is None


def test_a_disabled_user_and_a_changed_password_end_every_session(page: Served) -> None:
    database = page.site.database
    users.add(database, "dora", "viewer", PASSWORD, time.time())
    browser = page.browser("dora")
    users.change_password(database, "dora", PASSWORD + "2")
    assert browser.get("/studies").status_code == 303
    assert browser.login("dora", PASSWORD).status_code == 401
    assert browser.login("dora", PASSWORD + "2").status_code == 303
    users.disable(database, "dora")
    assert browser.get("/studies").status_code == 303
    assert browser.login("dora", PASSWORD + "2").status_code == 401


def test_too_many_wrong_passwords_are_not_looked_at_for_a_while(page: Served) -> None:
    users.add(page.site.database, "lola", "viewer", PASSWORD, time.time())
    answers = [page.browser().login("lola", "wrong password").status_code for _ in range(6)]
    assert answers == [401] * 5 + [429]
    assert page.browser().login("lola", PASSWORD).status_code == 429


def test_attempts_are_forgotten_after_five_minutes_and_bounded_in_memory() -> None:
    now = [0.0]
    attempts = Attempts(2, lambda: now[0])
    for n in range(20_000):
        attempts.wrong(f"user{n}", f"10.0.{n // 250}.{n % 250}")
    assert len(attempts._wrong) <= 10_000
    attempts.wrong("a", "b")
    attempts.wrong("a", "b")
    with pytest.raises(Rejected, match="wait"):
        attempts.check("a", "b")
    attempts.check("a", "c")
    now[0] = 301.0
    attempts.check("a", "b")


@pytest.mark.parametrize("name", ["", "a b", "<script>", "x" * 65, "ä", "a\nb"])
def test_a_name_that_could_be_anything_but_a_name_is_refused(name: str) -> None:
    with pytest.raises(Rejected, match="letters, digits"):
        users.add(Database("sqlite://", prepare=True), name, "viewer", PASSWORD, 0.0)


def test_short_passwords_and_unknown_roles_are_refused() -> None:
    database = Database("sqlite://", prepare=True)
    with pytest.raises(Rejected, match="10 to 256"):
        users.add(database, "a", "viewer", "short", 0.0)
    with pytest.raises(Rejected, match="a role is one of"):
        users.add(database, "a", "root", PASSWORD, 0.0)  # type: ignore[arg-type]


# ---- requests that another site makes a browser send


def test_a_form_without_its_token_is_refused_and_audited(page: Served) -> None:
    browser = page.browser("otto")
    for data in ({}, {"form_token": ""}, {"form_token": "0" * 64}):
        assert browser.post("/actions/cancel", {"job": "1", **data}).status_code == 403
    other = page.browser("vera").token()
    assert browser.post("/actions/cancel", {"job": "1", "form_token": other}).status_code == 403
    assert "the form is not from this session" in page.audited()


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:1"},
    ],
)
def test_a_request_of_another_site_is_refused_though_it_knows_the_token(
    page: Served, headers: dict[str, str]
) -> None:
    browser = page.browser("otto")
    data = {"job": "1", "form_token": browser.token()}
    if "Origin" not in headers:
        headers = {"Origin": page.base, **headers}
    if "Sec-Fetch-Site" not in headers:
        answer = browser.client.post("/actions/cancel", data=data, headers=headers)
    else:
        answer = browser.post("/actions/cancel", data, headers=headers)
    assert answer.status_code == 403
    assert "a request that another site sent is refused" in page.audited()


def test_a_request_that_changes_something_and_hides_where_it_comes_from_is_refused(page: Served) -> None:
    browser = page.browser("otto")
    answer = browser.client.post("/actions/cancel", data={"job": "1", "form_token": browser.token()})
    assert answer.status_code == 403
    assert (
        page.browser().client.post("/login", data={"name": "vera", "password": PASSWORD}).status_code == 403
    )


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "", "127.0.0.1.evil.example", "[::1", "a@b"]
)
def test_a_request_to_another_name_is_refused_as_dns_rebinding_would_send_it(page: Served, host: str) -> None:
    answer = page.browser("vera").get("/studies", headers={"Host": host})
    assert answer.status_code in (400, 403)
    assert "Worklist" not in answer.text
    if answer.status_code == 403:
        assert "this address is not one of the page's" in page.audited()


def test_a_name_of_the_settings_is_answered(tmp_path: Path) -> None:
    with served(config(tmp_path, WebSettings(port=0, hosts=("vq.hospital.example",)))) as page:
        answer = page.browser("vera").get("/studies", headers={"Host": "VQ.hospital.example:443"})
        assert answer.status_code == 200


def test_nothing_is_changed_by_get(page: Served) -> None:
    browser = page.browser("otto")
    for path in ("/actions/cancel?job=1", "/logout", "/api/v1/actions/cancel", "/dicom-web/studies"):
        assert browser.get(path).status_code == 405


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "/a\r\nSet-Cookie: x=1",
    ],
)
def test_a_login_leads_to_no_other_site(page: Served, target: str) -> None:
    browser = page.browser()
    answer = browser.post("/login", {"name": "vera", "password": PASSWORD, "next": target})
    assert answer.headers["location"] == "/studies"


# ---- roles, tokens, proxies


def test_a_viewer_decides_nothing_and_sends_nothing(page: Served) -> None:
    browser, program = page.browser("vera"), page.program("viewer")
    for action, values in (("force", {"study": "1"}), ("retry", {"job": "1"}), ("cancel", {"job": "1"})):
        assert browser.act(action, **values).status_code == 403
        assert program.post(f"/api/v1/actions/{action}", json=values).status_code == 403
    assert program.post("/dicom-web/studies", content=b"").status_code == 403
    assert browser.get("/upload").status_code == 403


def test_nobody_sees_the_configuration_but_an_admin(page: Served) -> None:
    assert "min_free_mb" in page.browser("anna").get("/system").text
    assert "min_free_mb" not in page.browser("otto").get("/system").text
    assert page.program("operator").get("/api/v1/system").json()["settings"] == []


def test_no_address_changes_users_or_settings(page: Served) -> None:
    paths = [*document()["paths"], "/users", "/settings"]
    assert [path for path in paths if "user" in path or "password" in path or "setting" in path] == [
        "/users",
        "/settings",
    ]
    assert page.browser("anna").get("/users").status_code == 404


def test_a_token_is_kept_as_its_digest_and_can_be_taken_back(page: Served) -> None:
    database = page.site.database
    token = users.add_token(database, "gateway", "operator", time.time())
    with database.reading() as connection:
        assert token not in repr(connection.execute(sa.select(web_token)).all())
    headers = {"Authorization": f"Bearer {token}"}
    assert httpx.get(f"{page.base}/api/v1/studies", headers=headers).status_code == 200
    users.remove_token(database, "gateway")
    answer = httpx.get(f"{page.base}/api/v1/studies", headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_the_header_of_a_proxy_is_believed_from_its_address_only(tmp_path: Path) -> None:
    near = WebSettings(port=0, proxies=("127.0.0.0/8",), proxy_header="X-Remote-User")
    with served(config(tmp_path, near)) as page:
        proxied = page.browser(**{"X-Remote-User": "vera"})
        answer = proxied.client.get("/studies", follow_redirects=True)
        assert "Worklist" in answer.text
        assert proxied.post("/logout", {"form_token": proxied.token()}).status_code == 303
        assert page.browser(**{"X-Remote-User": "nobody"}).get("/studies").status_code == 303
        twice = httpx.get(
            f"{page.base}/studies", headers=[("X-Remote-User", "vera"), ("X-Remote-User", "anna")]
        )
        assert twice.status_code == 303
        otto = page.browser("otto")
        assert otto.get("/studies", headers={"X-Remote-User": "anna"}).status_code == 303
    far = WebSettings(port=0, proxies=("10.0.0.0/8",), proxy_header="X-Remote-User")
    with served(config(tmp_path, far)) as page:
        assert page.browser(**{"X-Remote-User": "anna"}).get("/studies").status_code == 303
        page.browser(**{"X-Forwarded-For": "10.9.9.9"}).login("vera", "wrong password")
        assert "10.9.9.9" not in page.audited()


# ---- what every answer says


def test_every_answer_forbids_scripts_from_elsewhere_frames_and_keeping(page: Served) -> None:
    for path in ("/login", "/studies", "/nothing-here", "/api/v1/studies", "/static/page.css"):
        headers = page.browser("vera").get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe-eval" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
        assert path.startswith("/static") or headers["cache-control"] == "no-store"


def test_no_page_has_a_script_or_style_in_it_or_names_another_machine() -> None:
    folder = Path(users.__file__).parent / "templates"
    for template in folder.glob("*.html"):
        text = template.read_text(encoding="utf-8")
        assert "style=" not in text, template.name
        assert " on" not in "".join(
            part.split("=")[0] for part in text.split("<")[1:] if part.startswith("script")
        )
        assert "http://" not in text, template.name
        assert "https://" not in text, template.name
        assert all("src=" in part for part in text.split("<script")[1:]), template.name
        assert "|safe" not in text, template.name


def test_logins_and_refusals_are_in_the_audit_trail_with_name_and_address(page: Served) -> None:
    assert page.browser().login("vera", PASSWORD).status_code == 303
    page.browser().login("nobody-at-all", "wrong password")
    told = page.audited()
    assert "User Authentication" in told
    assert 'UserID="vera"' in told
    assert 'UserID="nobody-at-all"' in told
    assert 'NetworkAccessPointID="127.0.0.1"' in told


def test_a_password_is_never_in_the_audit_trail(page: Served) -> None:
    page.browser().login("vera", "hunter2 hunter2")
    assert "hunter2" not in page.audited()
