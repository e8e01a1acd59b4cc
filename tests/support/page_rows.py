"""Rows of a node that received, decided, worked and delivered, without its having done so."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import sqlalchemy as sa
from node_values import make_pair, make_slice
from page import Served

from analysis.parameters import Parameters
from dicom_node.model import Header
from dicom_node.store import tables as t
from dicom_node.strict_json import dump, encode

HTML = "<script>alert('x')</script>"
STUDY, INSP = "1.2.3", "1.2.3.1"


def header(n: int, series: str, description: str) -> Header:
    cut = replace(make_slice(f"{series}.{n}", 5.0 * n), acquisition=("1", "B30f", "", "", ""))
    return Header(
        "1.2.840.10008.5.1.4.1.1.2",
        cut.sop_instance_uid,
        series,
        STUDY,
        "CT",
        (cut,),
        (description, "", "", ""),
    )


def filled(found: Served) -> None:
    """A study with two series, a job of every state, a result with numbers, and deliveries."""
    site, now = found.site, time.time()
    rows = []
    for series, words in ((INSP, f"Thorax Insp {HTML}"), ("1.2.3.2", "Thorax Exp")):
        for n in range(24):
            h = header(n, series, words)
            rows.append(
                {
                    "sop_instance_uid": h.sop_instance_uid, "sop_class_uid": h.sop_class_uid, "path": "x/none.dcm",
                    "transfer_syntax_uid": "1.2.840.10008.1.2.1", "sha256": "0", "size": 1000, "header": dump(h),
                    "received_at": now - 500 + n, "calling_ae": HTML[:16], "study_uid": STUDY, "series_uid": series,
                }
            )  # fmt: skip
    states = ("DONE", "RUNNING", "READY", "FAILED", "REFUSED", "SUPERSEDED", "CANCELLED")
    with site.database.writing() as connection:
        connection.execute(sa.insert(t.instance), rows)
        for uid, state in (
            (STUDY, "PAIRED"),
            ("1.2.4", "WAITING"),
            ("1.2.5", "REFUSED"),
            ("1.2.6", "OVERDUE"),
        ):
            values = {
                "study_uid": uid,
                "state": state,
                "reason": f"because {HTML}",
                "since": now - 100,
                "search": "",
            }
            due = now + 3600 if state == "WAITING" else None
            connection.execute(sa.insert(t.study).values(**values, received_at=now - 400, due_at=due))
        for n, state in enumerate(states, 1):
            connection.execute(
                sa.insert(t.job).values(
                    study_uid=STUDY if n == 1 else f"1.2.{n + 2}", revision=1, fingerprint=str(n), state=state,
                    pair=dump(make_pair()), parameters=dump(Parameters()), created=now - 300, since=now - 200,
                    due_at=now,
                    stage="registration", fraction=0.42, reason=f"why {HTML}" if state != "DONE" else "",
                )
            )  # fmt: skip
        for n, state in enumerate(("SENT", "DEAD", "QUEUED")):
            uid = f"1.9.{n}"
            path = f"results/1/{n}-sr.dcm"
            connection.execute(
                sa.insert(t.result).values(sop_instance_uid=uid, sop_class_uid="1", job_id=1, path=path)
            )
            values = {"since": now, "created": now, "due_at": now, "attempts": 3, "reason": f"full {HTML}"}
            connection.execute(
                sa.insert(t.delivery).values(sop_instance_uid=uid, destination="share", state=state, **values)
            )
        measures = encode({"total_abnormal": 31.5, "dead_space": 10.0, "shunt": 5.0, "matched_defect": 16.5})
        for n, day in ((1, "20260101"), (2, "20250101")):
            connection.execute(
                sa.insert(t.outcome).values(
                    job_id=n, patient="p", acquired=day, version="1", measures=measures
                )
            )
        connection.execute(
            sa.insert(t.quarantine).values(
                sop_instance_uid=f"{INSP}.0", sha256="1", path="q", received_at=now, calling_ae="CT1"
            )
        )
    folder = site.config.layout.results_of(1)
    folder.mkdir(parents=True)
    (folder / "overview.png").write_bytes(b"\x89PNG picture")
    numbers = {
        "total_abnormal": {"value": 31.5, "unit": "%"},
        "total_abnormal_sd": {"value": 1.5, "unit": "%"},
    }
    content = {
        "schema": "vq-dicom-node measures 1", "software": "vq-dicom-node 1", "limits": "research", "pairing": HTML,
        "parameters": {}, "measures": {"lungs": numbers, "right": {}},
        "quality": [
            {"check": "c", "verdict": "warn", "value": None, "unit": "1", "limit": "l", "sentence": f"look {HTML}"}
        ],
    }  # fmt: skip
    (folder / "measures.json").write_text(json.dumps(content))
