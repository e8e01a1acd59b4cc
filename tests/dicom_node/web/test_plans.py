"""Every question that a screen, a live page or a tick asks of the database is answered by an index."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from page import Served, config, served
from page_rows import INSP, STUDY, filled

from dicom_node.node.node import Node
from dicom_node.settings.config import Config, RetentionSettings
from dicom_node.settings.destinations import CStoreDestination, FolderDestination
from dicom_node.settings.notify import WebhookChannel
from dicom_node.settings.peers import Pacs
from dicom_node.store.database import Database
from dicom_node.store.tables import metadata
from dicom_node.web.live import Live
from dicom_node.web.routes import SCREENS

#: Tables with a row for each image, study, job, object or event; the others stay small.
LARGE = {
    *("instance", "study", "study_key", "job", "result", "delivery", "event", "outcome", "dlco", "review"),
    *("quarantine", "notification", "commitment", "performed_step", "performed_study", "performed_image"),
    *("data_set_uid", "assignment", "audit_transfer"),
}
QUERIES: dict[str, tuple[dict[str, str], ...]] = {
    "worklist": (
        {}, {"before": "5"}, {"search": STUDY}, {"search": INSP}, {"search": "1"}, {"search": "accession"},
        *({"state": state} for state in ("study:WAITING", "job:RUNNING", "delivery:DEAD")),
    ),
    "cohort": ({}, {"job": "1"}),
}  # fmt: skip
Asked = list[tuple[str, Any]]


def settings(folder: Path) -> Config:
    (folder / "share").mkdir()
    share = FolderDestination("share", folder=folder / "share")
    pacs = CStoreDestination("pacs", ae_title="P", host="127.0.0.1", port=1, storage_commitment=True)
    hook = WebhookChannel("chat", url="https://x.example", secret_file=folder / "secret")
    return config(
        folder,
        database=os.environ.get("VQ_DATABASE", ""),
        destinations=(share, pacs),
        notify=(hook,),
        pacs=Pacs(name="pacs", ae_title="P", host="127.0.0.1", port=1),
        retention=RetentionSettings(days=30),
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(settings(tmp_path_factory.mktemp("plans"))) as found:
        filled(found)
        yield found
        if found.site.database.is_shared:
            metadata.drop_all(found.site.database.engine)


@contextmanager
def listened(database: Database) -> Iterator[Asked]:
    """What is asked of a database meanwhile."""
    asked: Asked = []

    def note(
        _connection: object, _cursor: object, statement: str, values: Any, _c: object, many: bool
    ) -> None:
        if not many and re.match(r"\s*(SELECT|UPDATE|DELETE|WITH)", statement):
            asked.append((statement, values))

    sa.event.listen(database.engine, "before_cursor_execute", note)
    yield asked
    sa.event.remove(database.engine, "before_cursor_execute", note)


def scans(database: Database, asked: Asked) -> list[str]:
    """The statements for which a large table is read from its begin to its end."""
    found = []
    with database.reading() as connection:
        if database.is_shared:
            connection.exec_driver_sql(
                "SET LOCAL enable_seqscan = off"
            )  # else small tables are read as a whole
        for statement, values in asked:
            explain = "EXPLAIN" if database.is_shared else "EXPLAIN QUERY PLAN"
            rows = connection.exec_driver_sql(f"{explain} {statement}", values).all()
            plan = [str(row[0] if database.is_shared else row[3]) for row in rows]
            # the last rows by the primary key: as many are read as are shown
            last = re.search(r"ORDER BY \w+\.id DESC\s+LIMIT", statement) is not None
            found += [f"{line}: {statement}" for line in plan if _reads_all(line) and not last]
    return found


def _reads_all(line: str) -> bool:
    scan = re.search(r"\bSeq Scan on (\w+)|^SCAN (\w+)(?!.*INDEX)", line)
    return scan is not None and (scan[1] or scan[2]) in LARGE


def test_a_question_without_an_index_is_seen_by_this_test(page: Served) -> None:
    database = page.site.database
    with listened(database) as asked, database.reading() as connection:
        connection.execute(sa.text("SELECT path FROM instance WHERE path = 'x'"))
        connection.execute(sa.text("SELECT path FROM instance WHERE series_uid = 'x'"))
    assert len(asked) == 2
    assert len(scans(database, asked)) == 1


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.name)
def test_what_a_screen_asks_is_answered_by_indexes(page: Served, screen: Any) -> None:
    path = f"/api/v1{screen.path.format(study=STUDY, job=1)}"
    program = page.program("admin")
    with listened(page.site.database) as asked:
        for query in QUERIES.get(screen.name, ({},)):
            assert program.get(path, params=query).status_code == 200
    assert asked
    assert scans(page.site.database, asked) == []


def test_what_an_open_page_asks_each_second_is_answered_by_indexes(page: Served) -> None:
    live = Live(page.site)
    with listened(page.site.database) as asked:
        live._read()
        page.site.sessions.user("secret")
    assert len(asked) >= 7
    assert scans(page.site.database, asked) == []


def steps(node: Node) -> dict[str, Callable[[], object]]:
    """What a node does at each tick, each half minute, each hour and each day."""
    schedules = node._schedule, node._keeping, node._hourly, node._daily
    jobs = [job for one in schedules for job in one._scheduler.get_jobs()]
    return {job.id: job.args[0] for job in jobs}


def test_what_a_tick_asks_is_answered_by_indexes(page: Served) -> None:
    node = Node(page.site.config)
    try:
        with listened(node.database) as asked:
            for name, step in steps(node).items():
                before = len(asked)
                step()
                assert len(asked) > before or name in ("heartbeat", "certificates", "conditions", "member"), (
                    name
                )
        assert len(asked) > 30
        assert scans(node.database, asked) == []
    finally:
        node._reader.close()
        node._executor.stop()
        node.database.close()
        node._lock.close()
