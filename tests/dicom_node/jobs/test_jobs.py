from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from node_values import make_pair

from analysis.pipeline.pipeline import Parameters
from dicom_node.errors import Rejected
from dicom_node.jobs import attempts
from dicom_node.jobs import queue as jobs
from dicom_node.model import Pair
from dicom_node.pairing.pairing import fingerprint
from dicom_node.store.database import Database
from dicom_node.store.tables import job

PARAMETERS = Parameters()


def create(
    database: Database, pair: Pair, now: float = 100.0, parameters: Parameters = PARAMETERS
) -> int | None:
    with database.writing() as connection:
        return jobs.create(database, connection, pair, parameters, "1.0", now)


def states(database: Database) -> list[tuple[int, str]]:
    with database.reading() as connection:
        rows = connection.execute(sa.select(job.c.revision, job.c.state).order_by(job.c.id))
        return [(r.revision, r.state) for r in rows]


def move(database: Database, number: int, name: jobs.MoveName, during: int | None = None) -> bool:
    with database.writing() as connection:
        return jobs.move(connection, number, name, 200.0, during=during)


def test_the_same_pair_is_one_job_and_what_it_holds_comes_back(database: Database) -> None:
    assert create(database, make_pair()) == 1
    assert create(database, make_pair(), now=200.0) is None
    found = attempts.start_next(database, 100.0)
    assert found is not None
    assert (found.pair, found.parameters, found.attempt, found.revision) == (make_pair(), PARAMETERS, 1, 1)


def test_a_job_made_before_the_clock_was_set_back_is_run(database: Database) -> None:
    create(database, make_pair(), now=90_000.0)
    assert attempts.start_next(database, 90_000.0 - jobs.POSTPONED) is None
    found = attempts.start_next(database, 100.0)
    assert found is not None
    assert found.attempt == 1


def test_more_images_make_a_revision_that_supersedes_what_has_not_begun(database: Database) -> None:
    create(database, make_pair())
    create(database, make_pair(count=4))
    assert states(database) == [(1, "SUPERSEDED"), (2, "READY")]
    attempts.start_next(database, 200.0)
    create(database, make_pair(count=5))
    assert states(database) == [(1, "SUPERSEDED"), (2, "RUNNING"), (3, "READY")]


def test_the_fingerprint_knows_images_parameters_and_version_but_no_order() -> None:
    pair = make_pair()
    swapped = replace(pair, inspiratory=pair.expiratory, expiratory=pair.inspiratory)
    one = fingerprint(pair, PARAMETERS, "1.0")
    assert fingerprint(swapped, PARAMETERS, "1.0") == one
    others = {
        fingerprint(make_pair(count=4), PARAMETERS, "1.0"),
        fingerprint(pair, replace(PARAMETERS, low=0.5), "1.0"),
        fingerprint(pair, PARAMETERS, "1.1"),
    }
    assert len(others | {one}) == 4


def test_every_move_has_a_letter_of_its_own() -> None:
    letters = [m.letter for m in jobs.MOVES.values()]
    assert sorted(letters) == list("bcdefghijk")


@settings(max_examples=40)
@given(st.lists(st.sampled_from(sorted(jobs.MOVES)), max_size=8))
def test_no_sequence_of_moves_leaves_the_table(names: list[jobs.MoveName]) -> None:
    database = Database("sqlite://", prepare=True)
    number = create(database, make_pair())
    assert number
    state = "READY"
    for name in names:
        expected = state in jobs.MOVES[name].sources
        assert move(database, number, name) is expected
        state = jobs.MOVES[name].target if expected else state
        assert states(database) == [(1, state)]
    database.close()


def test_a_worker_given_up_cannot_finish_another_ones_run(database: Database) -> None:
    create(database, make_pair())
    attempts.start_next(database, 100.0)
    assert attempts.interrupt(database, 110.0) == 1
    again = attempts.start_next(database, 120.0)
    assert again is not None
    assert again.attempt == 2
    assert not move(database, 1, "finish", during=1)
    assert move(database, 1, "finish", during=2)


def test_ends_of_the_node_are_no_crashes_but_ends_of_the_worker_are(database: Database) -> None:
    create(database, make_pair())
    for _ in range(10):
        attempts.start_next(database, 100.0)
        attempts.interrupt(database, 100.0)
    assert states(database) == [(1, "READY")]
    for _ in range(3):
        found = attempts.start_next(database, 100.0)
        assert found is not None
        attempts.crashed(database, 1, found.attempt, 3, "ended by signal 9", 100.0)
    assert states(database) == [(1, "FAILED")]
    with database.reading() as connection:
        reason = connection.scalar(sa.select(job.c.reason))
    assert reason == "3 attempts ended without a result; the process of the last ended by signal 9"


def test_a_running_job_without_a_process_is_put_back_and_counts_until_it_is_given_up(
    database: Database,
) -> None:
    create(database, make_pair())
    for _ in range(3):
        assert attempts.start_next(database, 100.0) is not None
        assert attempts.reconcile(database, {1}, 3, 100.0) == 0  # its process lives
        assert attempts.reconcile(database, set(), 3, 100.0) == 1
    assert states(database) == [(1, "FAILED")]
    assert attempts.start_next(database, 100.0) is None


def test_a_verdict_that_cannot_be_written_is_no_crash_of_the_job(database: Database) -> None:
    create(database, make_pair())
    for _ in range(10):
        found = attempts.start_next(database, 100.0)
        assert found is not None
        attempts.crashed(database, 1, found.attempt, 3, attempts.NO_VERDICT, 100.0)
    assert states(database) == [(1, "READY")]


def test_a_crash_after_the_verdict_changes_nothing(database: Database) -> None:
    create(database, make_pair())
    attempts.start_next(database, 100.0)
    move(database, 1, "finish")
    attempts.crashed(database, 1, 1, 3, "ended with exit code 1", 100.0)
    assert states(database) == [(1, "DONE")]


def test_only_a_refused_or_failed_job_is_retried(database: Database) -> None:
    create(database, make_pair())
    with pytest.raises(Rejected, match="neither REFUSED, FAILED nor CANCELLED"):
        jobs.retry(database, 1, 100.0)
    with pytest.raises(Rejected, match="there is no job 9"):
        jobs.retry(database, 9, 100.0)
    attempts.start_next(database, 100.0)
    move(database, 1, "refuse")
    jobs.retry(database, 1, 100.0)
    assert states(database) == [(1, "READY")]


def test_a_postponed_job_waits_until_it_is_due(database: Database) -> None:
    create(database, make_pair())
    attempts.start_next(database, 100.0)
    with database.writing() as connection:
        jobs.move(connection, 1, "postpone", 100.0, due_at=130.0)
    assert attempts.start_next(database, 129.0) is None
    assert attempts.start_next(database, 130.0) is not None
