"""What a person may do: each action with its question, its role and what it calls, a row an action.

The functions are those that `dicom-node force`, `assign`, `retry` and `cancel` call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from ..delivery import queue as deliver
from ..delivery.kinds import SENDERS
from ..errors import Rejected
from ..jobs import queue as jobs
from ..research.cohort_table import PLAUSIBLE
from ..store.page_tables import dlco, review
from ..store.tables import delivery, instance, job, result, study
from ..studies import queue as studies
from .problems import Conflict, NotThere
from .site import Ask, Site
from .users import Role

#: Longest note on a result (characters).
LONGEST_NOTE = 2000


@dataclass(frozen=True)
class Action:
    """Something that changes the node.

    Parameters
    ----------
    title : str
        What its button says.
    question : str
        What is asked before it is done; its values are put in for {names}.
    values : tuple of str
        Names of the values that it needs.
    role : {"viewer", "operator", "admin"}
    act : callable
        Does it and returns one sentence that says what was done, without patient data.
    """

    title: str
    question: str
    values: tuple[str, ...]
    role: Role
    act: Callable[[Site, Ask], str]


@dataclass(frozen=True)
class Done:
    """What an action did, in one sentence."""

    done: str


def perform(site: Site, name: str, ask: Ask) -> Done:
    """Do what an action says, and report it with the user's name.

    Raises
    ------
    NotThere
        Where there is no such action, job, study, series or destination.
    Conflict
        Where the state of the job or study does not allow it.
    """
    action = ACTIONS.get(name)
    if action is None:
        raise NotThere("there is no such action")
    for value in action.values:
        if not ask.query.get(value):
            raise Rejected(f"the value {value} is missing")
    try:
        done = action.act(site, ask)
    except (NotThere, Conflict):
        raise
    except Rejected as error:
        raise Conflict(str(error)) from error
    if name != "test":
        site.trail.operated(f"{name}: {done}", ask.user.name)
    return Done(done)


def _job(site: Site, ask: Ask) -> int:
    text = ask.query["job"]
    number = int(text) if text.isdecimal() and len(text) < 10 else -1
    with site.database.reading() as connection:
        if connection.scalar(sa.select(job.c.id).where(job.c.id == number)) is None:
            raise NotThere(f"there is no job {text[:12]}")
    return number


def _exists(site: Site, column: sa.Column[str], uid: str, what: str) -> str:
    with site.database.reading() as connection:
        if connection.scalar(sa.select(column).where(column == uid).limit(1)) is None:
            raise NotThere(f"there is no {what} {uid[:64]}")
    return uid


def _force(site: Site, ask: Ask) -> str:
    uid = _exists(site, study.c.study_uid, ask.query["study"], "study")
    studies.look_now(site.database, uid, time.time())
    return f"study {uid} is due now"


def _assign(site: Site, ask: Ask) -> str:
    uid = _exists(site, instance.c.series_uid, ask.query["series"], "series")
    phase = ask.query["phase"]
    if phase not in ("inspiration", "expiration", "none"):
        raise Rejected("a phase is inspiration, expiration or none")
    study_uid = studies.assign(site.database, uid, phase, time.time())  # type: ignore[arg-type]
    return f"series {uid}: {phase}; study {study_uid} is due now"


def _retry(site: Site, ask: Ask) -> str:
    number = _job(site, ask)
    if again := deliver.retry(site.database, number, time.time()):
        return f"{again} objects of job {number} are queued again"
    jobs.retry(site.database, number, time.time())
    return f"job {number} is queued again"


def _cancel(site: Site, ask: Ask) -> str:
    number = _job(site, ask)
    jobs.cancel(site.database, number, time.time())
    return f"job {number} is cancelled"


def _retry_all(site: Site, ask: Ask) -> str:
    name = _destination(site, ask)
    dead = (
        sa.select(result.c.job_id)
        .join(delivery)
        .where(delivery.c.destination == name, delivery.c.state == "DEAD")
    )
    with site.database.reading() as connection:
        numbers = list(connection.scalars(dead.distinct()))
    if not numbers:
        raise Conflict(f"nothing for {name} was given up")
    again = sum(deliver.retry(site.database, number, time.time(), name) for number in numbers)
    return f"{again} objects of {len(numbers)} jobs are queued again for {name}"


def _test(site: Site, ask: Ask) -> str:
    name = _destination(site, ask)
    destination = next(d for d in site.config.destinations if d.name == name)
    answer = SENDERS[type(destination)].probe(destination, site.config.receive.ae_title)
    return f"{name} does not answer: {answer}" if answer else f"{name} answers and would accept results"


def _destination(site: Site, ask: Ask) -> str:
    name = ask.query["destination"]
    if name not in {d.name for d in site.config.destinations}:
        raise NotThere(f"there is no destination {name[:64]}")
    return name


def _review(site: Site, ask: Ask) -> str:
    number, note = _job(site, ask), ask.query.get("note", "").strip()
    if len(note) > LONGEST_NOTE:
        raise Rejected(f"a note has at most {LONGEST_NOTE} characters")
    if jobs.state_of(site.database, number) != "DONE":
        raise Conflict(f"job {number} has no result")
    values = {"job_id": number, "user": ask.user.name, "at": time.time(), "note": note}
    with site.database.writing() as connection:
        connection.execute(sa.insert(review).values(**values))
    return f"the result of job {number} is marked as reviewed"


def _dlco(site: Site, ask: Ask) -> str:
    uid = _exists(site, study.c.study_uid, ask.query["study"], "study")
    try:
        percent = float(ask.query["percent"].replace(",", "."))
    except ValueError:
        raise Rejected("DLCO is a number, in percent of what is predicted") from None
    if not PLAUSIBLE[0] <= percent <= PLAUSIBLE[1]:
        raise Rejected(f"DLCO of {percent:g} % predicted is not plausible")
    values = {"percent": percent, "cohort": "", "user": ask.user.name, "at": time.time()}
    insert = site.database.insert(dlco).values(study_uid=uid, **values)
    del values["cohort"]
    with site.database.writing() as connection:
        connection.execute(insert.on_conflict_do_update(index_elements=["study_uid"], set_=values))
    return f"DLCO of study {uid} is entered"


ACTIONS: Mapping[str, Action] = {
    "force": Action(
        "Decide now", "Decide on study {study} now, without waiting for further images?", ("study",),
        "operator", _force,
    ),
    "assign": Action(
        "Assign phase", "Take series {series} for: {phase}? The study is decided on anew.", ("series", "phase"),
        "operator", _assign,
    ),
    "retry": Action(
        "Try again", "Try job {job} again, or send its results again where they were given up?", ("job",),
        "operator", _retry,
    ),
    "cancel": Action(
        "Cancel", "Cancel job {job}? Its work so far is lost.", ("job",), "operator", _cancel
    ),
    "retry-all": Action(
        "Send all again", "Send everything again that was given up for {destination}?", ("destination",),
        "operator", _retry_all,
    ),
    "test": Action(
        "Test", "Ask {destination} now whether it would accept results?", ("destination",), "operator", _test
    ),
    "dlco": Action(
        "Enter DLCO", "Keep {percent} % of predicted as the DLCO of study {study}?", ("study", "percent"),
        "operator", _dlco,
    ),
    "review": Action(
        "Mark as reviewed", "Mark the result of job {job} as reviewed?", ("job",), "viewer", _review
    ),
}  # fmt: skip
