from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from node_values import make_pair

from analysis.pipeline.pipeline import Parameters
from dicom_node.jobs import queue as jobs
from dicom_node.store.database import Database
from dicom_node.store.tables import audit_spool, instance
from dicom_node.store.unread import CRASHES, HANGS

COMMAND = [sys.executable, "-c", "from dicom_node.commands.app import main; main()"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, env=environment, check=False
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(f'storage = "data"\n[receive]\nport = {free_port()}\nmin_free_mb = 1\n')
    return path


def test_help_names_every_command_and_the_exit_codes() -> None:
    done = run("--help")
    assert done.returncode == 0
    for word in ("serve", "status", "check-config", "retry", "Exit codes"):
        assert word in done.stdout


def test_a_wrong_configuration_is_usage_and_says_where(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text("[receive]\nprot = 1\n")
    done = run("check-config", "--config", str(path))
    assert done.returncode == 2
    said = re.sub(r"[\s│╭╮╰╯─]+", " ", done.stderr)
    assert "line 2: unknown key 'prot' in [receive]; is 'port' meant?" in said
    assert "Traceback" not in done.stderr


def test_check_config_says_what_is_well_and_reports_a_dead_destination(config: Path) -> None:
    with config.open("a") as file:
        file.write('[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 1\n')
    done = run("check-config", "--config", str(config))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ok ") == 3
    assert "pacs (PACS at 127.0.0.1:1) cannot be reached" in done.stdout


def test_check_config_fails_where_the_port_is_taken(config: Path) -> None:
    port = int(re.findall(r"port = (\d+)", config.read_text())[0])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        done = run("check-config", "--config", str(config))
    assert done.returncode == 3
    assert (
        done.stderr.strip()
        == f"dicom-node: port {port} on 127.0.0.1: cannot be listened on: Address already in use"
    )


def test_status_before_any_node_ran_is_unavailable(config: Path) -> None:
    done = run("status", "--config", str(config))
    assert done.returncode == 3
    assert done.stderr.startswith("dicom-node: no node has run with the database")
    assert len(done.stderr.splitlines()) == 1


def test_status_shows_jobs_and_why_for_people_and_scripts(config: Path) -> None:
    (config.parent / "data").mkdir()
    database = Database(f"sqlite:///{config.parent / 'data' / 'node.db'}", prepare=True)
    with database.writing() as connection:
        jobs.create(database, connection, make_pair(), Parameters(), "1.0", 1e9)
        jobs.move(connection, 1, "start", 1e9, stage="registration", fraction=0.42)
    for_people = run("status", "--config", str(config))
    assert for_people.returncode == 0
    assert "RUNNING registration 42%" in for_people.stdout
    with database.writing() as connection:
        jobs.move(connection, 1, "refuse", 1e9, reason="no lungs were found")
    database.close()
    found = json.loads(run("status", "--json", "--config", str(config)).stdout)
    assert (found["jobs"][0]["state"], found["jobs"][0]["reason"]) == ("REFUSED", "no lungs were found")
    again = run("retry", "1", "--config", str(config))
    assert (again.returncode, again.stdout.strip()) == (0, "job 1 is queued again")
    twice = run("retry", "1", "--config", str(config))
    assert (twice.returncode, twice.stderr.strip()) == (
        1,
        "dicom-node: job 1 is neither REFUSED, FAILED nor CANCELLED",
    )


def test_serve_listens_until_sigterm_and_leaves_no_process(config: Path) -> None:
    port = int(re.findall(r"port = (\d+)", config.read_text())[0])
    process = subprocess.Popen(
        [*COMMAND, "serve", "--config", str(config)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    try:
        _, log = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, log
    assert "VQNODE listens on 127.0.0.1" in log
    assert "stopped" in log
    end = time.monotonic() + 10
    while left := living(process.pid):
        assert time.monotonic() < end, left
        time.sleep(0.1)


def living(group: int) -> list[list[str]]:
    """Processes of a group, but for those that have ended and that nobody has waited for."""
    shown = subprocess.run(
        ["ps", "-ww", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 2) for line in shown.stdout.splitlines()]
    return [args for pgid, state, *args in rows if int(pgid) == group and not state.startswith("Z")]


def test_a_configuration_that_cannot_serve_is_wrong_usage_and_not_tried_again(config: Path) -> None:
    """systemd starts a node again unless it ends with 2 (RestartPreventExitStatus of deploy/dicom-node.service)."""
    with config.open("a") as file:
        file.write('[receive.tls]\ncertificate = "a.crt"\nkey = "a.key"\nauthorities = "ca.crt"\n')
    for command in ("serve", "check-config"):
        done = run(command, "--config", str(config))
        said = re.sub(r"[\s│╭╮╰╯─]+", " ", done.stderr)
        assert (command, done.returncode) == (command, 2)
        assert "a.crt of a certificate cannot be read: No such file or directory" in said


def test_a_disk_that_cannot_be_used_is_one_sentence_and_tried_again(config: Path, tmp_path: Path) -> None:
    lock = tmp_path / "node" / "node.lock"
    lock.mkdir(parents=True)
    config.write_text(f'storage = "{lock.parent}"\n')
    found = run("serve", "--config", str(config))
    assert found.returncode == 3
    assert found.stderr.splitlines()[-1] == f"dicom-node: {lock}: Is a directory"
    assert "Traceback" not in found.stderr


def test_a_shell_completes_commands() -> None:
    asked = {"_DICOM_NODE_COMPLETE": "complete_bash", "COMP_WORDS": "dicom-node sta", "COMP_CWORD": "1"}
    done = subprocess.run(
        [Path(sys.executable).with_name("dicom-node")],
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **asked},
    )  # fmt: skip
    assert done.stdout.split() == ["status"], done.stderr


def test_images_that_ended_their_reader_are_listed_and_read_again_and_that_is_audited(config: Path) -> None:
    config.write_text(f"{config.read_text()}[audit]\nfile = 'audit.log'\n")
    url = f"sqlite:///{config.parent / 'data' / 'node.db'}"
    (config.parent / "data").mkdir()
    database = Database(url, prepare=True)
    row = {"sop_class_uid": "1.2", "transfer_syntax_uid": "1.2", "sha256": "", "size": 1, "received_at": 0.0}
    with database.writing() as connection:
        for uid, problem in (("1.1", CRASHES), ("1.2", HANGS), ("1.3", "no DICOM")):
            values = {"sop_instance_uid": uid, "path": uid, "calling_ae": "CT1", "problem": problem}
            connection.execute(sa.insert(instance).values(**row, **values))
    listed = run("reread", "--config", str(config))
    assert sorted(listed.stdout.splitlines()) == [f"1.1: {CRASHES}", f"1.2: {HANGS}"]
    assert run("reread", "1.3", "--config", str(config)).returncode == 1  # it is the image's own fault
    again = run("reread", "1.1", "--config", str(config))
    assert "1 images are read again" in again.stdout
    assert "1 images are read again" in run("reread", "all", "--config", str(config)).stdout
    with database.reading() as connection:
        columns = instance.c.sop_instance_uid, instance.c.problem
        assert dict(connection.execute(sa.select(*columns)).all()) == {
            "1.1": None,
            "1.2": None,
            "1.3": "no DICOM",
        }
        told = list(connection.scalars(sa.select(audit_spool.c.line)))
    assert sum("reread: 1 images are read again" in line for line in told) == 2
    database.close()
