"""Studies that are due -> a pair and its job, or why there is none; waiting studies -> a search in the PACS."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from pydicom import Dataset

from ..audit.trail import Trail
from ..errors import NodeError, Unavailable
from ..jobs import queue as jobs
from ..model import Pair
from ..pairing.pairing import NoPair, pair
from ..pairing.stacks import assemble, with_assigned
from ..settings.config import Config
from ..settings.peers import Pacs
from ..store.archive import Archive
from . import query_retrieve
from . import queue as studies
from .between import Asked, pair_between

LOG = logging.getLogger(__name__)


def settle(archive: Archive, config: Config, trail: Trail, software: str) -> None:
    """Decide on every study that has been quiet or that its scanner has finished: a job, or why there is none.

    Parameters
    ----------
    software : str
        Version of this software, on which a result depends too.
    """
    database, quiet = archive.database, config.receive.quiet_seconds
    for uid in studies.hasten(database, time.time(), quiet):
        LOG.info("study %s: every image its scanner lists is here", uid)
    for seen in studies.due(database, time.time(), quiet, config.wait_hours * 3600):
        _record(archive, config, trail, software, seen, _decide(archive, config, seen))


def search(archive: Archive, pacs: Pacs, title: str, store: Callable[[Any], int | Dataset]) -> None:
    """Retrieve the missing images of studies that wait for their other phase from the PACS.

    Parameters
    ----------
    title : str
        AE title of this node.
    store : callable
        Handler of the C-STORE requests of a C-GET.
    """
    database = archive.database
    for study_uid in studies.to_search(database, time.time(), pacs.search_seconds):
        try:
            uids = query_retrieve.missing(pacs, title, study_uid, studies.stored(database, study_uid))
            if uids:
                query_retrieve.fetch(pacs, title, study_uid, uids, store)
            found = f"{pacs.name}: {len(uids)} series retrieved" if uids else f"{pacs.name} has no more"
        except Unavailable as error:
            found = str(error)
        LOG.info("study %s: %s", study_uid, found)
        studies.searched(database, study_uid, time.time() + pacs.search_seconds, found)


def _decide(archive: Archive, config: Config, seen: studies.Due) -> Pair | NoPair:
    database, rules, study_uid = archive.database, config.pairing, seen.study_uid
    now, wait = time.time(), config.wait_hours * 3600
    try:
        found, assigned = assemble(archive.headers(study_uid), rules), studies.assigned(database)
        decision = pair(with_assigned(found, assigned), rules)
        if isinstance(decision, Pair) or not decision.waiting:
            return decision
        since = now - wait - 60 * rules.between_studies_minutes
        others = studies.companions(database, study_uid, since)
        overdue = seen.state == "WAITING" and seen.since + wait <= now
        asked = Asked(study_uid, others, studies.joined(database, study_uid), overdue)
        return pair_between(asked, archive.headers, rules, assigned) or decision
    except (NodeError, MemoryError):
        raise
    except Exception as error:  # the boundary of one study: a bug in it must not stop the others
        LOG.exception("study %s", study_uid)
        return NoPair(f"internal error: {type(error).__name__}", False)


def _record(
    archive: Archive,
    config: Config,
    trail: Trail,
    software: str,
    seen: studies.Due,
    decision: Pair | NoPair,
) -> None:
    """Record the decision and create the job in the same transaction."""
    now, wait, database = time.time(), config.wait_hours * 3600, archive.database
    with database.writing() as connection:
        if isinstance(decision, NoPair):
            state: studies.StudyState = "WAITING" if decision.waiting else "REFUSED"
            settled = studies.settle(connection, seen, state, decision.reason, now, wait)
            LOG.info("study %s %s: %s", seen.study_uid, state, decision.reason)
        elif settled := studies.settle(connection, seen, "PAIRED", decision.reason, now, wait):
            for one in (decision.inspiratory, decision.expiratory):
                if one.study_instance_uid != seen.study_uid:
                    studies.paired_too(connection, one.study_instance_uid, decision.reason, now)
            jobs.create(database, connection, decision, config.analysis, software, now)
    if isinstance(decision, NoPair) and decision.people:
        trail.alert("two patients", "", "", f"study {seen.study_uid}: {decision.reason}")
    if not settled:
        LOG.info("study %s: more images came", seen.study_uid)
