"""A scanner's report on its procedure step -> the images it lists: SCP of MPPS (PS3.4 F.7). Nothing depends on it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import sqlalchemy as sa
from pydicom import Dataset

from ..errors import Rejected
from ..network.dimse_n import COMMON, Status, answered, hostile, read_attributes, text, valid_uid
from ..store.database import Database
from ..store.tables import performed_image, performed_step, performed_study

LOG = logging.getLogger(__name__)

#: Time without change after which a step is forgotten (s).
FORGET_SECONDS = 30 * 86400.0

#: Performed Procedure Step Status (0040,0252). Only steps IN PROGRESS may change.
StepState = Literal["IN PROGRESS", "COMPLETED", "DISCONTINUED"]

#: Every status that answers an N-CREATE or N-SET (PS3.4 F.7.2.1.4, F.7.2.2.4; PS3.7 Annex C).
STATUSES: Mapping[str, Status] = {
    **COMMON,
    "accepted": Status(0x0000),
    "invalid state": Status(0x0106, "Invalid Performed Procedure Step Status"),
    "ended": Status(0x0110, "Performed Procedure Step Object may no longer be updated", 0xA710),
    "duplicate": Status(0x0111, "There is a procedure step of this UID"),
    "unknown": Status(0x0112, "There is no procedure step of this UID"),
    "invalid uid": Status(0x0117, "SOP Instance UID missing or invalid"),
    "no study": Status(0x0120, "No Study Instance UID in the Scheduled Step Attributes Sequence"),
}


def on_create(database: Database, event: Any) -> tuple[Dataset, None]:
    """Handle EVT_N_CREATE: a procedure step begins."""
    return _answer("N-CREATE of a procedure step", lambda: _create(database, event, time.time())), None


def on_set(database: Database, event: Any) -> tuple[Dataset, None]:
    """Handle EVT_N_SET: a procedure step continues or ends."""
    return _answer("N-SET of a procedure step", lambda: _set(database, event, time.time())), None


def _answer(what: str, serve: Callable[[], str]) -> Dataset:
    return answered(what, serve, STATUSES)


def _create(database: Database, event: Any, now: float) -> str:
    request = event.request
    if not (uid := _uid(request.AffectedSOPInstanceUID)):
        return "invalid uid"
    ds = read_attributes(request.AttributeList, event.context.transfer_syntax)
    with hostile():
        state, images = text(ds, "PerformedProcedureStepStatus"), _images(ds)
        scheduled = ds.get("ScheduledStepAttributesSequence") or []
        studies = {study for item in scheduled if (study := _uid(text(item, "StudyInstanceUID")))}
    if state != "IN PROGRESS":
        return "invalid state"
    if not studies:
        return "no study"
    calling = str(event.assoc.requestor.ae_title).strip()
    step = database.insert(performed_step).values(
        sop_instance_uid=uid, state="IN PROGRESS", calling_ae=calling, changed=now
    )
    with database.writing() as connection:
        if not connection.execute(step.on_conflict_do_nothing()).rowcount:
            return "duplicate"
        _forget(connection, now)
        rows = [{"study_uid": study, "step_uid": uid} for study in sorted(studies)]
        connection.execute(sa.insert(performed_study), rows)
        _list(connection, uid, images)
    LOG.info("%s: procedure step %s of study %s begins", calling, uid, ", ".join(sorted(studies)))
    return "accepted"


def _set(database: Database, event: Any, now: float) -> str:
    request = event.request
    if not (uid := _uid(request.RequestedSOPInstanceUID)):
        return "invalid uid"
    ds = read_attributes(request.ModificationList, event.context.transfer_syntax)
    with hostile():
        state = text(ds, "PerformedProcedureStepStatus") or "IN PROGRESS"
        images, listed = _images(ds), "PerformedSeriesSequence" in ds
    if state not in get_args(StepState):
        return "invalid state"
    step = performed_step.c.sop_instance_uid == uid
    with database.writing() as connection:
        changed = sa.update(performed_step).where(step, performed_step.c.state == "IN PROGRESS")
        if not connection.execute(changed.values(state=state, changed=now)).rowcount:
            return "ended" if connection.execute(sa.select(performed_step).where(step)).first() else "unknown"
        if listed:
            connection.execute(sa.delete(performed_image).where(performed_image.c.step_uid == uid))
            _list(connection, uid, images)
    LOG.info("procedure step %s: %s, %d images listed", uid, state, len(images))
    return "accepted"


def _uid(value: Any) -> str:
    """Return the UID, or "" where it is not valid."""
    try:
        return valid_uid(value)
    except Rejected:
        return ""


def _images(ds: Dataset) -> dict[str, str]:
    """Return the series of every image in the Performed Series Sequence (0040,0340), without other objects."""
    return {
        valid_uid(text(image, "ReferencedSOPInstanceUID")): valid_uid(text(series, "SeriesInstanceUID"))
        for series in ds.get("PerformedSeriesSequence") or []
        for image in series.get("ReferencedImageSequence") or []
    }


def _list(connection: sa.Connection, step_uid: str, images: Mapping[str, str]) -> None:
    rows = [{"step_uid": step_uid, "sop_instance_uid": u, "series_uid": s} for u, s in images.items()]
    if rows:
        connection.execute(sa.insert(performed_image), rows)


def _forget(connection: sa.Connection, now: float) -> None:
    """Delete steps that have not changed for `FORGET_SECONDS`."""
    old = performed_step.c.changed < now - FORGET_SECONDS
    uids = connection.scalars(sa.select(performed_step.c.sop_instance_uid).where(old)).all()
    for uid in uids:
        connection.execute(sa.delete(performed_image).where(performed_image.c.step_uid == uid))
        connection.execute(sa.delete(performed_study).where(performed_study.c.step_uid == uid))
        connection.execute(sa.delete(performed_step).where(performed_step.c.sop_instance_uid == uid))
