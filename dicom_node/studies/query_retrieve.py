"""A study that waits for its other phase -> its images in a PACS, by C-FIND and C-GET or C-MOVE (PS3.4 Annex C)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydicom import Dataset
from pynetdicom import ALL_TRANSFER_SYNTAXES, build_context, build_role, evt

from ..dicom.uids import CT_CLASSES, STUDY_ROOT_FIND, STUDY_ROOT_GET, STUDY_ROOT_MOVE
from ..errors import Unavailable
from ..network.association import associate
from ..settings.peers import Pacs

#: What a C-GET takes.
#: Statuses of C-FIND, C-GET and C-MOVE responses (PS3.4 C.4): more to come.
PENDING = frozenset({0xFF00, 0xFF01})


def missing(pacs: Pacs, calling_ae_title: str, study_uid: str, stored: Mapping[str, int]) -> list[str]:
    """Return the CT series of a study of which the PACS has more instances than are stored here.

    Parameters
    ----------
    stored : mapping of Series Instance UID to int
        Number of instances stored here.

    Raises
    ------
    Unavailable
        Where the PACS does not answer.
    """
    query = _identifier("SERIES", study_uid, "")
    query.Modality = "CT"
    query.NumberOfSeriesRelatedInstances = None
    assoc = associate(pacs, calling_ae_title, [build_context(STUDY_ROOT_FIND)])
    found = _responses(assoc, pacs, lambda: assoc.send_c_find(query, STUDY_ROOT_FIND))
    wanted = []
    for status, answer in found:
        if status.Status in PENDING and answer is not None and answer.get("Modality", "CT") == "CT":
            uid = str(answer.SeriesInstanceUID)
            there = int(answer.get("NumberOfSeriesRelatedInstances") or 0)
            if there > stored.get(uid, 0) or uid not in stored:
                wanted.append(uid)
    return sorted(wanted)


def fetch(
    pacs: Pacs,
    calling_ae_title: str,
    study_uid: str,
    series_uids: Sequence[str],
    on_store: Callable[[Any], int | Dataset],
) -> None:
    """Retrieve series, by C-GET with the handler `on_store` or by C-MOVE to this node's own SCP.

    Parameters
    ----------
    on_store : callable
        Handler of EVT_C_STORE.

    Raises
    ------
    Unavailable
        Where the PACS does not answer or does not send everything; images that arrived are kept.
    """
    model = STUDY_ROOT_MOVE
    options: dict[str, Any] = {}
    contexts = [build_context(model)]
    if pacs.method == "C-GET":
        model = STUDY_ROOT_GET
        contexts = [build_context(model), *(build_context(uid, ALL_TRANSFER_SYNTAXES) for uid in CT_CLASSES)]
        options["ext_neg"] = [build_role(uid, scp_role=True) for uid in CT_CLASSES]
        options["evt_handlers"] = [(evt.EVT_C_STORE, on_store)]
    query = _identifier("SERIES", study_uid, list(series_uids))
    assoc = associate(pacs, calling_ae_title, contexts, serves=pacs.method == "C-GET", **options)

    def send() -> Any:
        if pacs.method == "C-GET":
            return assoc.send_c_get(query, model)
        return assoc.send_c_move(query, calling_ae_title, model)

    for status, _ in _responses(assoc, pacs, send):
        if status.Status not in (*PENDING, 0x0000):
            raise Unavailable(f"{pacs.name} did not send all: {pacs.method} ended with 0x{status.Status:04X}")


def _identifier(level: str, study_uid: str, series_uid: str | list[str]) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = level
    ds.StudyInstanceUID = study_uid
    ds.SeriesInstanceUID = series_uid
    return ds


def _responses(assoc: Any, pacs: Pacs, send: Callable[[], Any]) -> list[tuple[Dataset, Dataset | None]]:
    """Send a request on a new association, release it, and return all responses."""
    try:
        found = list(send())
    except (RuntimeError, ValueError) as error:
        raise Unavailable(f"{pacs.name} does not answer: {error}") from error
    finally:
        assoc.release()
    if any("Status" not in status for status, _ in found):
        raise Unavailable(f"{pacs.name} does not answer")
    return found
