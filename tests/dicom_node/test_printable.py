"""What a sender writes cannot act on a terminal, a log or a page."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from dicom_node.audit.messages import Party, alert
from dicom_node.commands import app as commands
from dicom_node.errors import Rejected
from dicom_node.printable import LONGEST, PrintableFormatter, printable
from dicom_node.store.database import Database
from dicom_node.store.tables import instance

EVIL = "[/bold]CT1\n2026-01-01 00:00:00 INFO forged\x1b[2J\x00\u202e"


@given(st.text())
@example(EVIL)
@example("\ud800\x9b\x85\u2028")
def test_whatever_it_is_it_is_printed_on_one_line_and_stays_what_it_was_where_it_can(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    assert printable(shown) == shown
    if text.isprintable():
        assert shown == text


def test_what_is_too_long_is_cut() -> None:
    assert len(printable("x" * 10 * LONGEST)) == LONGEST


def logged(level: int, message: str, *arguments: object, error: BaseException | None = None) -> list[str]:
    """The lines of a log that gets one record."""
    info = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord("node", level, "file", 1, message, arguments, info)
    return PrintableFormatter("%(levelname)s %(message)s").format(record).split("\n")


def test_a_record_is_one_line_of_the_log() -> None:
    (line,) = logged(logging.INFO, "study %s", EVIL)
    assert line.startswith("INFO study [/bold]CT1\\n2026")
    assert line.isprintable()


def test_no_line_of_a_trace_looks_like_a_record() -> None:
    try:
        raise ValueError(EVIL)
    except ValueError as error:
        first, *trace = logged(logging.ERROR, "failed", error=error)
    assert first == "ERROR failed"
    assert trace
    assert all(line.startswith("    ") and line.isprintable() for line in trace)


def test_every_command_logs_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from dicom_node.commands.logs import configure_logging

    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    configure_logging()
    assert [type(handler.formatter) for handler in root.handlers] == [PrintableFormatter]


def test_the_status_shows_what_a_sender_calls_itself_and_does_as_it_says_nowhere(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'node.db'}", prepare=True)
    with database.writing() as connection:
        row = {
            "sop_instance_uid": f"1.2.3\n{EVIL}",
            "sop_class_uid": "1.2",
            "transfer_syntax_uid": "1.2",
            "sha256": "",
            "size": 1,
            "path": "a",
            "received_at": 1.0,
            "calling_ae": "[/bold]CT1",
            "problem": f"Study Instance UID is {EVIL}",
        }
        connection.execute(sa.insert(instance).values(**row))
    database.close()
    config = tmp_path / "node.toml"
    config.write_text(f"storage = '{tmp_path}'\n")
    done = CliRunner(env={"COLUMNS": "400"}).invoke(commands.app, ["status", "--config", str(config)])
    assert done.exit_code == 0, done.output
    assert "[/bold]CT1" in done.output
    assert "\\x1b[2J" in done.output
    assert all(line.isprintable() for line in done.output.split("\n"))


def test_the_sentence_a_command_ends_with_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise Rejected(f"series {EVIL}")

    monkeypatch.setattr(commands, "app", fail)
    with pytest.raises(SystemExit):
        commands.main()
    (line,) = capsys.readouterr().err.rstrip("\n").split("\n")
    assert line.startswith("dicom-node: series [/bold]CT1\\n")
    assert line.isprintable()


def test_the_audit_trail_is_one_line_of_xml() -> None:
    message = alert(Party("NODE", own=True), "rejected", Party(EVIL, "10.0.0.1"), f"{EVIL} is no peer", 0.0)
    assert message.decode("ascii").isprintable()
    assert b"[/bold]CT1\\n2026" in message
