"""The holes that a peer's security release had to close, each attacked here: none of them is in this node.

They are mercure's of version 0.4.1: commands in values of tags, in the test of a target and in the view of logs; rules
that are evaluated; templates in notifications; arguments for containers; anybody sets the administrator's password; a
check of origin that believes the request; pickled messages of strangers; an account that is there from the beginning.
"""

from __future__ import annotations

import ast
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from node_values import write_scan
from page import PASSWORD, Served, config, served
from page_rows import filled
from pydicom import dcmread

import dicom_node
from dicom_node.notify.texts import Message, Told
from dicom_node.settings.destinations import CStoreDestination, FolderDestination
from dicom_node.settings.web import WebSettings
from dicom_node.store.database import Database
from dicom_node.store.page_tables import web_session, web_token, web_user
from dicom_node.store.tables import job, study
from dicom_node.web import users
from dicom_node.web.openapi import document

SOURCES = Path(dicom_node.__file__).parent
#: What runs text as a program, or turns bytes of others into objects.
RUNS_TEXT = {"eval", "exec", "compile", "system", "popen", "from_string", "getoutput", "getstatusoutput"}
UNSAFE = {"pickle", "marshal", "shelve", "dill", "yaml"}


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Served]:
    share = FolderDestination("$(touch owned)", folder=tmp_path)
    far = CStoreDestination("; touch owned", ae_title="PACS", host="127.0.0.1", port=1, timeout=2.0)
    with served(config(tmp_path, WebSettings(port=0), destinations=(share, far))) as found:
        filled(found)
        yield found


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield name, node


def test_no_text_is_run_by_a_shell_or_evaluated_anywhere() -> None:
    found = []
    for path in SOURCES.rglob("*.py"):
        for name, call in calls(path):
            shell = any(k.arg == "shell" and getattr(k.value, "value", 1) is not False for k in call.keywords)
            regular = name == "compile" and ast.unparse(call.func) == "re.compile"
            if shell or (name in RUNS_TEXT and not regular):
                found.append(f"{path.relative_to(SOURCES)}: {ast.unparse(call)[:60]}")
    assert found == []


def test_nothing_that_comes_from_elsewhere_is_unpickled() -> None:
    found = []
    for room in ("web", "notify", "metrics", "intake", "network", "delivery", "audit", "store", "settings"):
        for path in (SOURCES / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                found += [f"{path.name}: {name}" for name in names if name.split(".")[0] in UNSAFE]
    assert found == []


class Bomb:
    """What makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return open, (str(self.path), "w")


def test_a_pickle_that_is_sent_makes_nothing(page: Served, tmp_path: Path) -> None:
    mark = tmp_path / "owned"
    body = pickle.dumps(Bomb(mark))
    program = page.program()
    program.post("/api/v1/upload", files=[("files", ("a.dcm", body))])
    program.post("/api/v1/actions/retry", content=body)
    httpx.get(f"{page.base}/studies", cookies={"vq": body.hex()})
    assert not mark.exists()


def test_a_command_in_the_values_of_tags_is_only_text(page: Served, tmp_path: Path) -> None:
    command = "$(touch owned); `touch owned`"
    files = []
    for path in write_scan(tmp_path, "Thorax Insp", 1, slices=3):
        ds = dcmread(path)
        ds.SeriesDescription, ds.PatientName, ds.StudyDescription = command, command, command
        ds.save_as(path, enforce_file_format=True)
        files.append(("files", (command, path.read_bytes())))
    assert page.program().post("/api/v1/upload", files=files).json()["stored"] == 3
    assert list(tmp_path.rglob("owned")) == list(Path.cwd().glob("owned")) == []


def test_the_test_of_a_destination_runs_no_command_in_its_name(page: Served, tmp_path: Path) -> None:
    for name, words in (("$(touch owned)", "answers"), ("; touch owned", "does not answer")):
        answer = page.program().post("/api/v1/actions/test", json={"destination": name})
        assert words in answer.text
    assert list(tmp_path.rglob("owned")) == list(Path.cwd().glob("owned")) == []


def test_a_template_in_a_value_is_shown_and_not_filled_in(page: Served) -> None:
    template = "{{ 7919 * 104729 }} {% for x in (1,) %} {value.__class__} ${7919*104729} %s"
    browser = page.browser("vera")
    assert browser.act("review", job="1", note=template).status_code == 200
    with page.site.database.writing() as connection:
        connection.execute(sa.update(study).values(reason=template))
        connection.execute(sa.update(job).where(job.c.state == "FAILED").values(reason=template))
    for path in ("/results/1", "/studies", "/studies/1.2.3", f"/confirm/force?study={template}&next=/"):
        text = (
            browser.get(path).text if not path.startswith("/confirm") else page.browser("otto").get(path).text
        )
        assert "829348951" not in text
        assert "{{ 7919 * 104729 }}" in text
    message = Message("id", template, 0.0, [Told("failed", 0.0, template, 7, template)])
    assert "829348951" not in message.subject + message.told[0].text
    assert "<class" not in message.subject + message.told[0].text


def test_no_address_takes_a_rule_a_command_arguments_or_shows_a_log(page: Served) -> None:
    words = (
        "rule",
        "log",
        "command",
        "container",
        "module",
        "exec",
        "script",
        "config",
        "setting",
        "user",
        "password",
    )
    parts = [part for path in document()["paths"] for part in path.split("/")]
    assert [part for part in parts if part in words or part.rstrip("s") in words] == []
    for word in words:
        for path in (f"/{word}", f"/{word}s", f"/api/v1/{word}", f"/api/v1/{word}s"):
            assert page.browser("anna").get(path).status_code == 404, path
            assert page.program("admin").post(path, json={"value": "x"}).status_code in (404, 405), path


def test_nobody_changes_a_password_or_role_over_the_page(page: Served) -> None:
    def kept() -> list[Any]:
        with page.site.database.reading() as connection:
            return list(connection.execute(sa.select(web_user.c.name, web_user.c.password, web_user.c.role)))

    before = kept()
    form = {
        "name": "anna",
        "user": "anna",
        "password": "another password",
        "role": "viewer",
        "next": "/studies",
    }
    browser, program = page.browser("vera"), page.program("operator")
    for path in (
        "/login",
        "/users/anna",
        "/api/v1/users/anna",
        "/actions/password",
        "/api/v1/actions/password",
    ):
        browser.post(path, {**form, "form_token": browser.token()})
        program.put(path, json=form)
        program.post(path, json=form)
    assert kept() == before
    assert users.verified(page.site.database, "anna", PASSWORD) is not None


def test_no_account_is_there_before_one_is_added(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'node.db'}", prepare=True)
    with database.reading() as connection:
        for table in (web_user, web_token, web_session):
            assert connection.scalar(sa.select(sa.func.count()).select_from(table)) == 0
    assert users.verified(database, "admin", "router") is None
    database.close()


@pytest.mark.parametrize("header", ["X-Forwarded-Host", "X-Original-URL", "X-Rewrite-URL", "Forwarded"])
def test_what_a_request_says_of_itself_does_not_make_it_ours(page: Served, header: str) -> None:
    browser = page.browser("otto")
    data = {"job": "2", "form_token": browser.token()}
    for value in (page.base, "127.0.0.1", "evil.example", "host=evil.example"):
        headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", header: value}
        answer = browser.client.post("/actions/cancel", data=data, headers=headers)
        assert answer.status_code == 403
    hosted = {"Host": "evil.example", "Origin": "http://evil.example", header: "127.0.0.1"}
    assert browser.client.post("/actions/cancel", data=data, headers=hosted).status_code == 403
