"""Plain values that all rooms share: Slice, Header, Series, Pair. No DICOM library, no database."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from .errors import Rejected

Phase = Literal["inspiration", "expiration"]
Point = tuple[float, float, float]

#: Attributes in which a phase may be named in words: what the values of `Header.texts` are, in order.
TEXTS = ("SeriesDescription", "ProtocolName", "ImageComments", "ImageType")
#: The names of the values of `Slice.acquisition`, in order.
ACQUISITION = ("acquisition", "kernel", "image type", "respiratory phase", "temporal position")


def digest_of(text: str) -> str:
    """Return the SHA-256 of a text without padding; "" for an empty one.

    Examples
    --------
    >>> digest_of(" A7 ") == digest_of("A7"), digest_of(" ")
    (True, '')
    """
    text = text.strip()
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest() if text else ""


@dataclass(frozen=True)
class Person:
    """The patient that an instance names, as digests, which can be compared but not read.

    Whoever tries all possible values finds the one of a digest without a key: only keyed digests are written anywhere
    (`store.keys`).

    Parameters
    ----------
    patient_id, issuer, birth_date, name : str
        SHA-256, or its keyed digest, of the values of Patient ID (0010,0020), Issuer of Patient ID (0010,0021),
        Patient's Birth Date (0010,0030) and Patient's Name (0010,0010), without padding; "" where the value is empty.
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
        Image Position (Patient) in LPS (mm; PS3.3 C.7.6.2.1.1).
    orientation : (6,) float
        Image Orientation (Patient): direction cosines of a row, then of a column.
    spacing : (2,) float
        Pixel Spacing: distance between rows, then between columns (mm).
    rows, columns : int
    thickness : float or None
        Slice Thickness (mm).
    acquisition : tuple of str
        Values that must not differ within one stack, one for each name of `ACQUISITION`; "" where not given.
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
    """The header values that the node decides with, read once from a stored instance; name and ID only as digests.

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
        Nominal Percentage of Respiratory Phase (0020,9245) (%).
    kernel : str
        Convolution Kernel (0018,1210).
    contrast : str
        Contrast/Bolus Agent (0018,0010), or the first agent's name; "" for none.
    gantry_tilt : float
        Gantry/Detector Tilt (0018,1120) (degrees).
    body_part : str
        Body Part Examined (0018,0015).
    acquired : str
        Acquisition date and time, "YYYYMMDDHHMMSS.ffffff" as far as given; "" for none.
    patient_position : str
        Patient Position (0018,5100).
    ignored : str
        Why the instance cannot be part of a pair ("derived image", "localizer", "not CT"); "" where it can.
    person : Person
    frame_of_reference, device : str
        Frame of Reference UID (0020,0052); Manufacturer, Manufacturer's Model Name and Device Serial Number.
    accession : str
        SHA-256 of Accession Number (0008,0050); "" where it is empty.
    notes : tuple of str
        Sentences that a reader of the result should know.
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
    accession: str = ""
    notes: tuple[str, ...] = ()

    @property
    def concerns_pairing(self) -> bool:
        """Return whether the instance is a CT image, usable or not, so that its study needs a decision or a reason."""
        return self.ignored not in ("not CT", "our own result")


@dataclass(frozen=True)
class Series:
    """One stack of CT slices, sorted by position along the slice normal (row x column), ascending.

    Parameters
    ----------
    series_instance_uid, study_instance_uid : str
    slices : tuple of Slice
        At least two, evenly spaced, one orientation, one size, one acquisition.
    phase : {"inspiration", "expiration"} or None
        The phase that texts and codes give; None where they give none or contradict each other.
    evidence : str
        Where the phase was found: "acquisition context", "SeriesDescription 'Thorax Insp 2.0'", …; or why there
        is none.
    gap : float
        Distance between slices (mm).
    description, kernel, contrast : str
    acquired : str
        Acquisition time of its first slice; two reconstructions of one breath-hold have the same.
    patient_position : str
        Patient Position (0018,5100) of its slices; "" where not given.
    derived : bool
        True where the scanner calls the images DERIVED although they are plain reconstructions.
    people : tuple of Person
        Every different patient that its instances name.
    lie : str
        How the patient lies, as far as known: "supine", "prone", "decubitus right" or "decubitus left".
    notes : tuple of str
        Sentences about its headers that a reader of the result should know.
    frame_of_reference, device : str
        Values of its first slice.
    cycle : float or None
        Percentage of the breathing cycle, where it is a phase of a 4D series.
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
    cycle: float | None = None

    @property
    def sop_instance_uids(self) -> tuple[str, ...]:
        """Return the SOP Instance UIDs of the stack, each once, in slice order."""
        return tuple(dict.fromkeys(s.sop_instance_uid for s in self.slices))


@dataclass(frozen=True)
class Pair:
    """Two stacks of one study to be analysed together.

    Where the headers do not say which phase each stack is (`decided` is False), the stack with the larger segmented
    lung volume is the inspiration.
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
    incomplete : bool
        True where slices are missing that may still come.
    phase : {"inspiration", "expiration"} or None
        The phase that its headers name.
    """

    series_instance_uid: str
    reason: str
    incomplete: bool = False
    phase: Phase | None = None


@dataclass(frozen=True)
class Assembled:
    """The stacks found among some headers, and what was refused."""

    series: tuple[Series, ...]
    refused: tuple[Refusal, ...]


@dataclass(frozen=True)
class PairingRules:
    """Rules by which a site adapts the pairing to its own series.

    Parameters
    ----------
    inspiration_words, expiration_words : tuple of str
        Words in the site's protocol names that mean the phase, besides the built-in ones. They match whole words;
        case does not matter.
    max_slice_mm : float
        Largest slice distance and thickness of a stack that may be part of a pair (mm).
    different_positions : bool
        True to pair inspiration and expiration also where the patient was turned in between, e.g. from supine to prone.
    between_studies_minutes : float
        Longest time between two series of one patient that are paired although they lie in different studies (min).
        They must share the Frame of Reference or the device; 0 never pairs across studies.
    """

    inspiration_words: tuple[str, ...] = ()
    expiration_words: tuple[str, ...] = ()
    max_slice_mm: float = 5.0
    different_positions: bool = False
    between_studies_minutes: float = 30.0

    def __post_init__(self) -> None:
        if self.between_studies_minutes < 0:
            raise Rejected("between_studies_minutes must not be negative")
