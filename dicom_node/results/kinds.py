"""Every kind of object a result is delivered as: one row a kind, whose file of this folder makes it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

    from analysis.pipeline.pipeline import Analysis
    from analysis.volume import Volume

    from .context import Case


@dataclass(frozen=True)
class ResultKind:
    """Describe a kind of object that a result is delivered as.

    Parameters
    ----------
    name : str
        What destinations call it in `objects`.
    module : str
        File of this folder; its function ``build(making)`` yields the objects of this kind.
    storage, syntax : str
        Its SOP class and transfer syntax, by their names in `dicom.uids`.
    series : mapping of str to int
        Names of its series -> their Series Numbers, which are above those that scanners use.
    default : bool
        Whether a destination gets it by default: so do the kinds that any PACS accepts.
    needs : tuple of str
        Kinds that are made before it, because it references their objects.
    """

    name: str
    module: str
    storage: str
    syntax: str
    series: Mapping[str, int]
    default: bool = False
    needs: tuple[str, ...] = ()

    @property
    def sop_class(self) -> UID:
        """Return the SOP Class UID; pydicom is imported only here, because settings also use this table."""
        return _uid(self.storage)

    @property
    def transfer_syntax(self) -> UID:
        """Return the Transfer Syntax UID."""
        return _uid(self.syntax)


def _uid(name: str) -> UID:
    from ..dicom import uids

    return cast("UID", getattr(uids, name))


#: In the order in which they are made and sent: what is referenced goes first.
KINDS: tuple[ResultKind, ...] = (
    ResultKind("seg", "seg", "SegmentationStorage", "ExplicitVRLittleEndian", {"seg": 9701}, default=True),
    # the report references the segments: it makes no sense without them
    ResultKind("sr", "report_sr", "Comprehensive3DSRStorage", "ExplicitVRLittleEndian", {"sr": 9702}, True, ("seg",)),
    ResultKind("labelmap", "labelmap", "LabelMapSegmentationStorage", "ExplicitVRLittleEndian", {"labelmap": 9703}),
    ResultKind("text_sr", "report_text", "BasicTextSRStorage", "ExplicitVRLittleEndian", {"text sr": 9704}),
    ResultKind(
        "captures", "captures", "SecondaryCaptureImageStorage", "JPEGBaseline8Bit",
        {"summary": 9705, "capture Q": 9711, "capture V": 9712, "capture classes": 9713}, default=True,
    ),
    ResultKind(
        "coronal", "coronal", "SecondaryCaptureImageStorage", "JPEGBaseline8Bit",
        {"coronal Q": 9714, "coronal V": 9715, "coronal classes": 9716}, default=True,
    ),
    ResultKind(
        "sagittal", "sagittal", "SecondaryCaptureImageStorage", "JPEGBaseline8Bit",
        {"sagittal Q": 9717, "sagittal V": 9718, "sagittal classes": 9719},
    ),
    ResultKind(
        "named_captures", "named_captures", "SecondaryCaptureImageStorage", "JPEGBaseline8Bit",
        {"named summary": 9730, "named capture Q": 9731, "named capture V": 9732, "named capture classes": 9733},
    ),
    ResultKind("pdf", "report_pdf", "EncapsulatedPDFStorage", "ExplicitVRLittleEndian", {"pdf": 9706}, default=True),
    ResultKind(
        "key_objects", "key_objects", "KeyObjectSelectionDocumentStorage", "ExplicitVRLittleEndian",
        {"key objects": 9707}, True, ("captures",),
    ),
    ResultKind(
        "maps", "parametric_map", "ParametricMapStorage", "ExplicitVRLittleEndian",
        {"map V": 9721, "map Q": 9722, "map m": 9723, "map V/Q": 9724, "map jacobian": 9725},
    ),
)  # fmt: skip

OBJECT_KINDS = tuple(kind.name for kind in KINDS)
DEFAULT_OBJECTS = tuple(kind.name for kind in KINDS if kind.default)


def series_number(series: str) -> int:
    """Return the Series Number (0020,0011) of a series of results.

    Examples
    --------
    >>> series_number("sr")
    9702
    """
    return next(kind.series[series] for kind in KINDS if series in kind.series)


@dataclass(eq=False)
class Making:
    """Hold the objects of one result while they are made.

    Parameters
    ----------
    analysis : Analysis
    case : Case
    load_ct : callable
        Reads the expiratory CT; called only where a kind shows it.
    referenced : dict of str to list of Dataset
        Name of a kind -> the objects that one of that kind will reference.
    """

    analysis: Analysis
    case: Case
    load_ct: Callable[[], Volume]
    referenced: dict[str, list[Dataset]] = field(default_factory=dict)

    def refer(self, kind: str, ds: Dataset) -> Dataset:
        """Keep an object that an object of the named kind will reference, and return it."""
        self.referenced.setdefault(kind, []).append(ds)
        return ds


def build_objects(
    analysis: Analysis,
    case: Case,
    load_ct: Callable[[], Volume],
    kinds: Collection[str] = DEFAULT_OBJECTS,
) -> Iterator[tuple[str, Dataset]]:
    """Make every object of the kinds asked for, and of those that they need, one at a time.

    Parameters
    ----------
    analysis : Analysis
    case : Case
    load_ct : callable
        Reads the expiratory CT; called only where colour captures or key objects are asked for.
    kinds : collection of str
        Of `OBJECT_KINDS`.

    Yields
    ------
    kind : str
    ds : Dataset
        With file meta information, ready for ``dcmwrite`` (PS3.10).
    """
    wanted = {*kinds, *(need for kind in KINDS if kind.name in kinds for need in kind.needs)}
    making = Making(analysis, case, load_ct)
    for kind in KINDS:
        if kind.name in wanted:
            build = cast(
                "Callable[[Making], Iterable[Dataset]]", import_module(f".{kind.module}", __package__).build
            )
            for ds in build(making):
                yield kind.name, ds
            making.referenced.pop(kind.name, None)
