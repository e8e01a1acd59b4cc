"""Every screen of a node that has studies, jobs and results: as text for people, as its document says for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from node_values import write_scan
from page import Served, config, served
from page_rows import HTML, INSP, STUDY, filled

from dicom_node.settings.destinations import FolderDestination
from dicom_node.settings.web import WebSettings
from dicom_node.store import tables as t
from dicom_node.web.openapi import document
from dicom_node.web.routes import BLOBS, SCREENS


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("screens")
    (folder / "share").mkdir()
    share = FolderDestination("share", folder=folder / "share")
    web = WebSettings(port=0, viewer_url="https://pacs.example/?s={study}")
    with served(config(folder, web, destinations=(share,))) as found:
        filled(found)
        yield found


PATHS = {"study": STUDY, "job": "1", "map": "ct", "file": "json", "instance": "1.2", "action": "force"}


def at(path: str) -> str:
    return path.format(**PATHS)


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.name)
def test_every_screen_shows_names_with_html_in_them_as_text(page: Served, screen: Any) -> None:
    answer = page.browser("anna").get(at(screen.path))
    assert answer.status_code == 200, answer.text
    assert "<script>alert" not in answer.text
    if screen.name in ("worklist", "study", "result", "deliveries"):
        assert "&lt;script&gt;alert" in answer.text


def test_every_state_of_studies_jobs_and_open_deliveries_is_counted_and_leads_to_its_studies(
    page: Served,
) -> None:
    value = page.program("viewer").get("/api/v1/studies").json()
    counts = {(c["of"], c["state"]): c["count"] for c in value["counts"]}
    assert len(counts) == 6 + 7 + 2
    assert counts["study", "WAITING"] == counts["job", "RUNNING"] == counts["delivery", "DEAD"] == 1
    assert counts["study", "REMOVED"] == 0
    for (of, state), count in counts.items():
        lines = (
            page.program("viewer").get("/api/v1/studies", params={"state": f"{of}:{state}"}).json()["lines"]
        )
        assert bool(lines) >= (of != "job" and count > 0)


@pytest.mark.parametrize(
    "state",
    ["job:RUNNING", "job:DONE", "job:CANCELLED", "job:FAILED", "study:PAIRED", "study:WAITING", "study:x"],
)
def test_a_filter_finds_the_same_studies_where_many_are_in_a_state(
    page: Served, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    def found() -> list[str]:
        value = page.program("viewer").get("/api/v1/studies", params={"state": state}).json()
        return [line["study_uid"] for line in value["lines"]]

    few = found()
    monkeypatch.setattr("dicom_node.web.worklist.MANY", 1)
    assert found() == few


def test_a_waiting_study_says_until_when_and_a_running_job_how_far_it_is(page: Served) -> None:
    text = page.browser("vera").get("/studies").text
    assert "until <time>" in text
    text = page.browser("vera").get("/studies?state=job:RUNNING").text
    assert "registration 42 %" in text


@pytest.mark.parametrize(
    ("search", "found"), [(STUDY, [STUDY]), (INSP, [STUDY]), ("1.2.", 4), ("1", 5), ("%", []), ("zz", [])]
)
def test_a_search_finds_uids_their_beginnings_series_and_jobs(page: Served, search: str, found: Any) -> None:
    lines = page.program("viewer").get("/api/v1/studies", params={"search": search}).json()["lines"]
    uids = [line["study_uid"] for line in lines]
    assert (uids == found) if isinstance(found, list) else len(uids) in (found, found - 1)


def test_a_study_has_its_series_with_the_evidence_and_a_timeline_in_order(page: Served) -> None:
    value = page.program("viewer").get(f"/api/v1/studies/{STUDY}").json()
    assert {s["phase"] for s in value["stacks"]} == {"inspiration", "expiration"}
    assert all("SeriesDescription" in s["evidence"] for s in value["stacks"])
    times = [moment["at"] for moment in value["moments"]]
    assert times == sorted(times)
    text = " ".join(m["what"] for m in value["moments"])
    assert all(word in text for word in ("received", "PAIRED", "job 1 DONE", "share DEAD", "quarantined"))
    assert value["viewer"] == f"https://pacs.example/?s={STUDY}"
    assert value["names"] is None


def test_a_result_has_numbers_with_uncertainty_findings_trend_and_reviews(page: Served) -> None:
    browser = page.browser("vera")
    assert browser.act("review", job="1", note=f"looks fine {HTML}").status_code == 200
    value = page.program("viewer").get("/api/v1/results/1").json()
    lungs = value["regions"][0]["values"]
    assert next((v["value"], v["sd"]) for v in lungs if v["measure"] == "total_abnormal") == (31.5, 1.5)
    assert [v["day"] for v in value["visits"]] == ["2025-01-01", "2026-01-01"]
    assert value["reviews"][-1]["user"] == "vera"
    text = browser.get("/results/1").text
    assert "Reviewed</b> by vera" in text
    assert "<script>alert" not in text
    assert "is marked as reviewed" in page.audited()


def test_views_searches_and_downloads_are_audited_with_the_name(page: Served) -> None:
    browser = page.browser("vera")
    for path in (f"/studies/{STUDY}", "/studies?search=secret-patient", "/results/1/files/json"):
        assert browser.get(path).status_code == 200
    told = page.audited()
    assert all(event in told for event in ("DICOM Instances Accessed", "Query", "Export"))
    assert "secret-patient" not in told


def test_files_that_name_the_patient_need_a_role_where_names_are_hidden(page: Served) -> None:
    browser = page.browser("vera")
    for name in ("pdf", "dicom"):
        assert browser.get(f"/results/1/files/{name}").status_code == 403
    assert "DICOM objects" not in browser.get("/results/1").text
    assert "DICOM objects" in page.browser("otto").get("/results/1").text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/results/999", 404), ("/results/x", 404), ("/results/99999999999999999999", 404), ("/results/2", 409),
        ("/studies/9.9.9", 404), ("/results/1/files/exe", 404), ("/results/1/maps/../x.nii.gz", 404),
        ("/results/1/maps/ct.nii.gz", 404), ("/thumbnails/9.9.png", 404), ("/static/../app.py", 404),
        ("/static/%2e%2e/app.py", 404), ("/cohort/report.pdf", 409), ("/confirm/delete?job=1", 404), ("/.env", 404),
    ],
)  # fmt: skip
def test_what_is_not_there_is_said_in_one_sentence(page: Served, path: str, status: int) -> None:
    answer = page.browser("otto").get(path)
    assert answer.status_code == status
    assert "Traceback" not in answer.text
    if not path.startswith("/static"):
        assert 'role="alert"' in answer.text


def test_an_action_is_asked_back_before_it_is_done(page: Served) -> None:
    browser = page.browser("otto")
    text = browser.get("/confirm/force?study=1.2.4&next=/studies").text
    assert "Decide on study 1.2.4 now" in text
    with page.site.database.reading() as connection:
        due = connection.scalar(sa.select(t.study.c.due_at).where(t.study.c.study_uid == "1.2.4"))
    assert (due or 0) > time.time() + 1000
    assert "1.2.4 is due now" in browser.act("force", study="1.2.4").text
    assert "force: study 1.2.4 is due now" in page.audited()
    assert 'UserID="otto"' in page.audited()


@pytest.mark.parametrize(
    ("action", "values", "status", "words"),
    [
        ("retry", {"job": "999"}, 404, "there is no job 999"),
        ("retry", {"job": "3"}, 409, "job 3 is neither REFUSED, FAILED nor CANCELLED"),
        ("retry", {"job": "4"}, 200, "job 4 is queued again"),
        ("cancel", {"job": "1"}, 409, "job 1 is neither READY nor RUNNING"),
        ("cancel", {"job": "2"}, 200, "job 2 is cancelled"),
        ("cancel", {}, 422, "the value job is missing"),
        ("cancel", {"job": "1 OR 1=1"}, 404, "there is no job"),
        ("force", {"study": "9.9"}, 404, "there is no study 9.9"),
        ("assign", {"series": INSP, "phase": "expiration"}, 200, "1.2.3 is due now"),
        ("assign", {"series": INSP, "phase": "sideways"}, 409, "a phase is"),
        ("assign", {"series": "9.9", "phase": "none"}, 404, "there is no series"),
        ("retry-all", {"destination": "nowhere"}, 404, "there is no destination"),
        ("retry-all", {"destination": "share"}, 200, "1 objects of 1 jobs are queued again"),
        ("retry-all", {"destination": "share"}, 409, "nothing for share was given up"),
        ("test", {"destination": "share"}, 200, "share answers"),
        ("dlco", {"study": STUDY, "percent": "61,5"}, 200, "is entered"),
        ("dlco", {"study": STUDY, "percent": "nan"}, 409, "not plausible"),
        ("dlco", {"study": STUDY, "percent": "9000"}, 409, "not plausible"),
        ("dlco", {"study": STUDY, "percent": HTML}, 409, "is a number"),
        ("review", {"job": "5"}, 409, "has no result"),
        ("review", {"job": "1", "note": "x" * 2001}, 409, "at most 2000"),
        ("explode", {"job": "1"}, 404, "no such action"),
    ],
)
def test_every_action_does_what_it_says_or_says_why_not(
    page: Served, action: str, values: dict[str, str], status: int, words: str
) -> None:
    answer = page.program().post(f"/api/v1/actions/{action}", json=values)
    assert answer.status_code == status, answer.text
    assert words.lower() in answer.text.lower()


@pytest.mark.parametrize("body", ["[]", "{", '{"job": [1]}', '"x"', '{"job": null}', "\xff"])
def test_a_body_that_is_no_object_of_values_is_refused(page: Served, body: str) -> None:
    answer = page.program().post("/api/v1/actions/retry", content=body.encode("latin-1"))
    assert answer.status_code == 422


def matches(value: Any, schema: dict[str, Any], schemas: dict[str, Any]) -> bool:
    """Whether a value is as a schema says; of JSON Schema, only what the document uses."""
    if "$ref" in schema:
        return matches(value, schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "anyOf" in schema:
        return any(matches(value, one, schemas) for one in schema["anyOf"])
    kinds: dict[str, Any] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "null": type(None),
    }
    kind = schema["type"]
    if kind == "array":
        return isinstance(value, list) and all(matches(one, schema["items"], schemas) for one in value)
    if kind == "object":
        if "properties" not in schema:
            return isinstance(value, dict) and all(
                matches(v, schema["additionalProperties"], schemas) for v in value.values()
            )
        known = schema["properties"]
        return (
            isinstance(value, dict)
            and set(value) == set(known)
            and all(matches(value[k], known[k], schemas) for k in known)
        )
    return isinstance(value, kinds[kind])


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.name)
def test_the_answers_of_the_api_are_as_its_document_says(page: Served, screen: Any) -> None:
    described = document()
    operation = described["paths"]["/api/v1" + screen.path]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    value = page.program("admin").get("/api/v1" + at(screen.path)).json()
    assert matches(value, schema, described["components"]["schemas"]), value


def test_every_address_of_the_document_is_answered_and_every_other_is_not(page: Served) -> None:
    served_document = page.program("viewer").get("/api/v1/openapi.json").json()
    assert served_document == json.loads(json.dumps(document()))
    for path, methods in document()["paths"].items():
        for method in methods:
            answer = page.program().request(method, at(path))
            assert answer.status_code != 405, path
            assert "nothing at this address" not in answer.text, path
    assert page.program().get("/api/v1/nothing").status_code == 404
    assert (
        len([p for p in document()["paths"] if p.startswith("/api/v1/")]) == len(SCREENS) + len(BLOBS) + 8 + 3
    )


def test_the_stream_of_events_tells_what_runs_and_ends_when_the_page_stops(tmp_path: Path) -> None:
    with served(config(tmp_path)) as found:
        filled(found)
        with found.program("viewer").stream("GET", "/live", timeout=20) as stream:
            lines = stream.iter_lines()
            told = json.loads(next(lines).removeprefix("data: "))
            assert told["jobs"] == [{"id": 2, "stage": "registration", "fraction": 0.42}]
            begun = time.monotonic()
            found.site.stopped.set()
            assert all(not line or line.startswith("data") for line in lines)
            assert time.monotonic() - begun < 3


def test_secrets_of_the_configuration_are_hidden(tmp_path: Path) -> None:
    from dicom_node.web.system import _settings

    settings = config(tmp_path, database="postgresql+psycopg://vq:geheim@db/vq")
    text = " ".join(f"{s.key}={s.value}" for s in _settings(settings, ""))
    assert "geheim" not in text
    assert "postgresql+psycopg://vq:(hidden)@db/vq" in text
    assert "receive.port=0" in text


def test_the_timeline_of_a_study_says_how_long_each_stage_of_a_job_took(tmp_path: Path) -> None:
    from dicom_node.jobs import attempts
    from dicom_node.jobs import queue as jobs

    with served(config(tmp_path)) as found:
        filled(found)
        database, begun = found.site.database, time.time() - 60
        for at, stage in ((0.0, "lungs"), (1.0, "lungs"), (12.5, "registration")):
            attempts.progress(database, 2, 0, stage, 0.5, begun + at)
        attempts.progress(database, 2, 7, "of an attempt that is over", 0.5, begun + 20)
        value = found.program("viewer").get("/api/v1/studies/1.2.4").json()
        told = [(m["what"], m["text"]) for m in value["moments"] if "job 2: " in m["what"]]
        assert told == [("job 2: lungs", "12.5 s"), ("job 2: registration", "goes on")]
        jobs.cancel(database, 2, begun + 30)
        value = found.program("viewer").get("/api/v1/studies/1.2.4").json()
        assert ("job 2: registration", "17.5 s") in [(m["what"], m["text"]) for m in value["moments"]]


def test_a_destination_says_how_much_it_took_in_the_last_hour(tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    share = FolderDestination("share", folder=tmp_path / "share")
    with served(config(tmp_path, destinations=(share,))) as found:
        filled(found)
        (queue,) = found.program("viewer").get("/api/v1/deliveries").json()["queues"]
        assert (queue["last_hour"], queue["counts"]["SENT"]) == (1, 1)
        with found.site.database.writing() as connection:
            connection.execute(sa.update(t.delivery).values(due_at=time.time() - 3601))
        (queue,) = found.program("viewer").get("/api/v1/deliveries").json()["queues"]
        assert queue["last_hour"] == 0
        assert "0 taken in the last hour" in found.browser("vera").get("/deliveries").text


def test_every_certificate_is_shown_with_its_expiry_that_of_the_page_too_to_admins_only(
    tmp_path: Path,
) -> None:
    from certificates import authority

    from dicom_node.settings.config import ReceiveSettings
    from dicom_node.settings.web import WebTls
    from dicom_node.web.site import Ask
    from dicom_node.web.system import system
    from dicom_node.web.users import User

    own = authority(tmp_path, "ours")
    with served(config(tmp_path)) as found:
        web = WebSettings(port=0, tls=WebTls(own.certificate, own.key))
        receive = ReceiveSettings(port=0, min_free_mb=1, tls=own)
        site = replace(found.site, config=config(tmp_path, web, receive=receive))
        shown = system(site, Ask(User("anna", "admin"))).certificates
        assert {(one.table, one.file) for one in shown} == {
            ("receive", own.certificate.name),
            ("receive", own.authorities.name),
            ("web", own.certificate.name),
        }
        assert all(1.9 < one.days < 2.1 for one in shown)
        assert system(site, Ask(User("otto", "operator"))).certificates == ()


def test_names_are_shown_where_the_settings_say_so_and_as_text(tmp_path: Path) -> None:
    from pydicom import dcmread

    paths = write_scan(tmp_path, "Thorax Insp", 1)
    ds = dcmread(paths[0])
    ds.PatientName, ds.PatientID = HTML, "ID-7"
    with served(config(tmp_path, WebSettings(port=0, names=True))) as found:
        filled(found)
        place = found.site.config.storage / "x" / "none.dcm"
        place.parent.mkdir()
        ds.save_as(place, enforce_file_format=True)
        text = found.browser("vera").get("/studies").text
        assert "ID-7" in text
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert" in text
