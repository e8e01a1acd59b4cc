"""Every address of the page and the API, a row an address: what is read there, and who may.

A screen is one typed value: the page shows it with a template, and the API returns it as JSON under ``/api/v1``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

from . import cohort, results
from .deliveries import deliveries
from .site import Ask, Site
from .studies import study_page
from .system import system
from .thumbnails import thumbnail
from .users import Role
from .worklist import worklist

API = "/api/v1"


@dataclass(frozen=True)
class Screen:
    """A value to look at.

    Parameters
    ----------
    name : str
        Name of its template.
    path : str
    read : callable
        Returns the value; its return type is the schema of the API.
    summary : str
        What it shows, in one sentence.
    query : tuple of str
        Values that narrow it down.
    role : {"viewer", "operator", "admin"}
    """

    name: str
    path: str
    read: Callable[[Site, Ask], Any]
    summary: str
    query: tuple[str, ...] = ()
    role: Role = "viewer"


@dataclass(frozen=True)
class Blob:
    """Bytes to look at or to keep: a picture, a map, a report.

    Parameters
    ----------
    path, summary, role
        As of `Screen`.
    read : callable
        Returns the bytes, or a file name and an open file.
    media_type : str
    keep : bool
        True where a browser may keep it for a while, because it never changes.
    """

    path: str
    read: Callable[[Site, Ask], bytes | tuple[str, IO[bytes]]]
    media_type: str
    summary: str
    keep: bool = False
    role: Role = "viewer"


SCREENS: tuple[Screen, ...] = (
    Screen(
        "worklist", "/studies", worklist, "Every study, a page at a time, and how many are in each state.",
        ("state", "search", "before"),
    ),
    Screen("study", "/studies/{study}", study_page, "All that is known of a study, and all that happened to it."),
    Screen("result", "/results/{job}", results.result_page, "The numbers, findings and reviews of a result."),
    Screen("cohort", "/cohort", cohort.cohort_page, "Total abnormal against DLCO, over all results.", ("job",)),
    Screen("deliveries", "/deliveries", deliveries, "Each destination with its queue."),
    Screen("system", "/system", system, "Disk, rates, what cannot be read, certificates, configuration."),
)  # fmt: skip
BLOBS: tuple[Blob, ...] = (
    Blob("/results/{job}/picture.png", results.picture, "image/png", "The summary picture of a result.", True),
    Blob(
        "/results/{job}/maps/{map}.nii.gz", results.view, "application/gzip",
        "A map of a result as NIfTI: ct, V, Q, VQ or classes.", True,
    ),
    Blob(
        "/results/{job}/files/{file}", results.download, "application/octet-stream",
        "A result as a file: pdf, nifti, csv, json or dicom.",
    ),
    Blob("/thumbnails/{instance}.png", thumbnail, "image/png", "A small picture of an image.", True),
    Blob("/cohort/report.pdf", cohort.report, "application/pdf", "The report of the cohort."),
)  # fmt: skip
