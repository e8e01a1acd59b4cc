"""The nouns of the journey: Slice, Header, Series, Pair. Plain values; no DICOM library, no database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .errors import Rejected

Phase = Literal["inspiration", "expiration"]
Point = tuple[float, float, float]

#: Attributes in which a phase may be named in words: what the values of `Header.texts` are, in order.
TEXTS = ("SeriesDescription", "ProtocolName", "ImageComments", "ImageType")
#: What the values of `Slice.acquisition` are, in order.
ACQUISITION = ("acquisition", "kernel", "image type", "respiratory phase", "temporal position")


@dataclass(frozen=True)
class Person:
    """Who an instance says the patient is, as digests: they can be compared, but not read.

    Parameters
    ----------
    patient_id, issuer, birth_date, name : str
        Of Patient ID (0010,0020), Issuer of Patient ID (0010,0021), Patient's Birth Date (0010,0030) and Patient's
        Name (0010,0010): SHA-256 of the value without padding; "" where it is empty.
    """

    patient_id: str = ""
    issuer: str = ""
    birth_date: str = ""
    name: str = ""


@dataclass(frozen=True)
class Slice:
    """One CT slice: a single-frame instance, or one frame of an Enhanced CT.

    Parameters
    ----------
    sop_instance_uid : str
    frame : int
        Frame number from 1; 1 for a single-frame instance.
    position : (3,) float
        Image Position (Patient), mm, LPS (PS3.3 C.7.6.2.1.1).
    orientation : (6,) float
        Image Orientation (Patient): direction cosines of a row, then of a column.
    spacing : (2,) float
        Pixel Spacing: mm between rows, mm between columns.
    rows, columns : int
    thickness : float or None
        Slice Thickness, mm.
    acquisition : tuple of str
        What must not be mixed in one stack, one value for each name of `ACQUISITION`; "" where not given.
    """

    sop_instance_uid: str
    frame: int
    position: Point
    orientation: tuple[float, float, float, float, float, float]
    spacing: tuple[float, float]
    rows: int
    columns: int
    thickness: float | None
    acquisition: tuple[str, ...]


@dataclass(frozen=True)
class Header:
    """What the node reads of one stored instance, once, to decide with; of name and ID only digests.

    Parameters
    ----------
    sop_class_uid, sop_instance_uid, series_instance_uid, study_instance_uid : str
    modality : str
    slices : tuple of Slice
        Empty where the instance is no original CT image that could be part of a pair.
    texts : tuple of str
        Series Description, Protocol Name, Image Comments, Image Type: evidence of the phase.
    phase_code : str
        Value of the Acquisition Context item that codes the phase ("14910006", "58322009"), or "".
    phase_percent : float or None
        Nominal Percentage of Respiratory Phase (0020,9245).
    kernel : str
        Convolution Kernel (0018,1210).
    contrast : str
        Contrast/Bolus Agent (0018,0010), or the first agent's name; "" for none.
    gantry_tilt : float
        Gantry/Detector Tilt (0018,1120), degrees.
    body_part : str
        Body Part Examined (0018,0015).
    acquired : str
        Acquisition date and time, "YYYYMMDDHHMMSS.ffffff" as far as given; "" for none.
    patient_position : str
        Patient Position (0018,5100).
    ignored : str
        Why it takes no part in a pair ("derived image", "localizer", "not CT"); "" where it does.
    person : Person
    frame_of_reference, device : str
        Frame of Reference UID (0020,0052); Manufacturer, Manufacturer's Model Name and Device Serial Number.
    """

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    modality: str
    slices: tuple[Slice, ...]
    texts: tuple[str, ...] = ()
    phase_code: str = ""
    phase_percent: float | None = None
    kernel: str = ""
    contrast: str = ""
    gantry_tilt: float = 0.0
    body_part: str = ""
    acquired: str = ""
    patient_position: str = ""
    ignored: str = ""
    person: Person = Person()
    frame_of_reference: str = ""
    device: str = ""


@dataclass(frozen=True)
class Series:
    """One stack of CT slices in the order of space, ascending along row x column.

    Parameters
    ----------
    series_instance_uid, study_instance_uid : str
    slices : tuple of Slice
        At least two, evenly spaced, one orientation, one size, one acquisition.
    phase : {"inspiration", "expiration"} or None
        What the text and codes say; None where they say nothing or contradict themselves.
    evidence : str
        Why: "acquisition context", "SeriesDescription 'Thorax Insp 2.0'", … or why there is none.
    gap : float
        mm between slices.
    description, kernel, contrast : str
    acquired : str
        When the first of its slices was acquired; two reconstructions of one breath-hold share it.
    patient_position : str
        Patient Position (0018,5100) of its slices; "" where not given.
    derived : bool
        True where the scanner calls the images DERIVED although they are plain reconstructions.
    people : tuple of Person
        Every different one that its instances name.
    lie : str
        How the patient lies, as far as known: "supine", "prone", "decubitus right" or "decubitus left".
    notes : tuple of str
        What a reader of the result should know of its headers, a sentence each.
    frame_of_reference, device : str
        Of its first slice.
    """

    series_instance_uid: str
    study_instance_uid: str
    slices: tuple[Slice, ...]
    phase: Phase | None
    evidence: str
    gap: float
    description: str
    kernel: str
    contrast: str
    acquired: str = ""
    patient_position: str = ""
    derived: bool = False
    people: tuple[Person, ...] = ()
    lie: str = ""
    notes: tuple[str, ...] = ()
    frame_of_reference: str = ""
    device: str = ""

    @property
    def sop_instance_uids(self) -> tuple[str, ...]:
        """The instances of the stack, each once, in slice order."""
        return tuple(dict.fromkeys(s.sop_instance_uid for s in self.slices))


@dataclass(frozen=True)
class Pair:
    """Two stacks of one study to be analysed together.

    Where neither says which phase it is (`decided` is False), the larger segmented lung volume decides.
    """

    inspiratory: Series
    expiratory: Series
    decided: bool
    reason: str


@dataclass(frozen=True)
class Refusal:
    """A stack, or a whole series, that cannot take part in a pair.

    Parameters
    ----------
    series_instance_uid : str
    reason : str
        One sentence without patient data, e.g. "slice gap 5.0 mm after z=-210.5, expected 2.5".
    """

    series_instance_uid: str
    reason: str


@dataclass(frozen=True)
class Assembled:
    """The stacks found among some headers, and what was refused."""

    series: tuple[Series, ...]
    refused: tuple[Refusal, ...]


@dataclass(frozen=True)
class PairingRules:
    """What a site may say about its own series.

    Parameters
    ----------
    inspiration_words, expiration_words : tuple of str
        Words of the site's protocol names besides the built-in ones; whole words, case does not matter.
    max_slice_mm : float
        Stacks whose slices lie further apart, or are thicker, are no candidates.
    different_positions : bool
        Also pair inspiration and expiration between which the patient was turned, e.g. from supine to prone.
    between_studies_minutes : float
        Series of one patient in different studies are a pair where they were taken within so many minutes, in one
        Frame of Reference or on one device; 0 for never.
    """

    inspiration_words: tuple[str, ...] = ()
    expiration_words: tuple[str, ...] = ()
    max_slice_mm: float = 5.0
    different_positions: bool = False
    between_studies_minutes: float = 30.0

    def __post_init__(self) -> None:
        if self.between_studies_minutes < 0:
            raise Rejected("between_studies_minutes must not be negative")
