"""Attributes as some sender wrote them -> those a result may copy: every value is one of its VR (PS3.5 6.2).

A result copies who the patient is and what the study is; it does not need a birth date that is a date. So what cannot
be written again is left out here, before the analysis, and named; it never ends a result.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date

from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_description, dictionary_VM, dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import PersonName

from .character_sets import UTF_8, CharacterSet, character_set
from .malformed import MALFORMED

CHARACTER_SET = Tag(0x0008, 0x0005)
#: How deep sequence items may be nested: no module nests them deeper.
DEPTH = 8

#: VRs of text: any characters except controls (tabs and new lines only where the VR allows paragraphs).
LINES = frozenset({"ST", "LT", "UT"})
TEXTS = frozenset({"LO", "SH", "UC", "PN", *LINES})
#: VRs of characters in a fixed form -> the pattern that a value must match, and the name of that form.
FORMS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "AE": (re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}"), "an AE title"),
    "AS": (re.compile(r"\d{3}[DWMY]"), "an age"),
    "CS": (re.compile(r"[A-Z0-9 _]{1,16}"), "a code string"),
    "DA": (re.compile(r"\d{8}"), "a date"),
    "DS": (re.compile(r"(?=.{1,16}$)[+-]?(\d+(\.\d*)?|\.\d+)([Ee][+-]?\d{1,3})?"), "a decimal number"),
    "DT": (re.compile(r"\d{4}(\d\d){0,5}(\.\d{1,6})?([+-]\d{4})?"), "a date and time"),
    "IS": (re.compile(r"[+-]?\d{1,10}"), "a whole number"),
    "TM": (re.compile(r"([01]\d|2[0-3])([0-5]\d(([0-5]\d|60)(\.\d{1,6})?)?)?"), "a time"),
    "UI": (re.compile(r"(?=.{1,64}$)\d+(\.\d+)+"), "a UID"),
    "UR": (re.compile(r"[\x21-\x5b\x5d-\x7e]+"), "an address"),
}
#: The binary VRs that pydicom reads, numbers and tags: any bytes of the right length are a valid value.
NUMBERS = frozenset({"US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "AT"})


@dataclass
class _Cleaning:
    """Collect what is found while the attributes of one instance are checked."""

    charset: CharacterSet = field(default_factory=CharacterSet)
    texts: list[tuple[str, str]] = field(default_factory=list)
    foreign: bool = False
    problems: list[str] = field(default_factory=list)


def clean(
    ds: Dataset, wanted: Callable[[BaseTag], bool], empty: Iterable[str] = ()
) -> tuple[Dataset, tuple[str, ...]]:
    """Return the attributes of an instance that can be written again, and which could not.

    Parameters
    ----------
    ds : Dataset
        As read from the file, before pydicom converts any value; its bytes may be anything.
    wanted : callable
        Whether an attribute of the instance's root is to be copied; private ones never are.
    empty : iterable of str
        Keywords of attributes that are always present, empty where they cannot be copied (Type 2).

    Returns
    -------
    (Dataset, tuple of str)
        The texts are Unicode, and Specific Character Set (0008,0005) is a defined term that holds them all:
        the sender's own where it does, ISO_IR 192 otherwise. The sentences name attributes, never their values.
    """
    state = _Cleaning()
    state.charset = character_set(_character_set_values(ds))
    if not state.charset.known:
        state.problems.append(f"{named(CHARACTER_SET)} is not a defined term")
    out = Dataset()
    for element in _elements(ds, wanted, state, 0):
        out.add(element)
    for keyword in empty:
        if keyword not in out:
            setattr(out, keyword, "")
    charset = state.charset
    kept = not charset.written or all(charset.holds(text, vr) for vr, text in state.texts)
    held = kept and not state.foreign
    if charset.known and not held:
        state.problems.append(f"{named(CHARACTER_SET)} does not hold every text")
    if not held or not charset.written:
        charset = UTF_8
    if charset.terms:
        out.SpecificCharacterSet = charset.terms[0] if len(charset.terms) == 1 else list(charset.terms)
    return out, tuple(dict.fromkeys(state.problems))


def named(tag: int | str) -> str:
    """Return the name and tag of an attribute, as messages show them.

    Examples
    --------
    >>> named("PatientBirthDate")
    "Patient's Birth Date (0010,0030)"
    """
    number = Tag(tag_for_keyword(tag) or 0) if isinstance(tag, str) else Tag(tag)
    try:
        words = dictionary_description(number)
    except KeyError:
        words = "attribute"
    return f"{words} ({number.group:04X},{number.element:04X})"


def is_uid(text: str) -> bool:
    """Return whether a text is at most 64 digits and dots. Leading zeros, against PS3.5 9.1, are accepted."""
    return FORMS["UI"][0].fullmatch(text) is not None


def _character_set_values(ds: Dataset) -> list[str]:
    element = ds.get_item(CHARACTER_SET)
    if element is None or element.value is None:
        return []
    value = element.value
    if isinstance(value, bytes):
        return value.decode("latin_1").split("\\")
    return [str(v) for v in value] if isinstance(value, (list, tuple, MultiValue)) else [str(value)]


def _elements(
    ds: Dataset, wanted: Callable[[BaseTag], bool], state: _Cleaning, depth: int
) -> Iterator[DataElement]:
    for number in sorted(ds.keys()):
        tag = Tag(number)
        if tag.is_private or tag.element == 0 or tag == CHARACTER_SET or not wanted(tag):
            continue
        try:
            vr, vm = dictionary_VR(tag), dictionary_VM(tag)
        except KeyError:
            continue
        try:
            element = _element(ds, tag, vr, vm, state, depth)
        except (*MALFORMED, OSError):  # pydicom raises the latter for a sequence whose bytes are not DICOM
            state.problems.append(f"{named(tag)} cannot be read")
            continue
        if element is not None:
            yield element


def _element(ds: Dataset, tag: BaseTag, vr: str, vm: str, state: _Cleaning, depth: int) -> DataElement | None:
    if vr == "SQ":
        return _sequence(ds, tag, state, depth)
    if vr in NUMBERS:
        read = ds[tag]
        if vm == "1" and read.VM > 1:
            state.problems.append(f"{named(tag)} is not a single value")
            return None
        return read if vr == read.VR and not isinstance(read.value, (bytes, str)) else None
    raw = ds.get_item(tag)
    if raw is None or vr not in TEXTS | FORMS.keys():
        return None
    text = _text(raw, vr, state)
    if not text:
        return _new(tag, vr, "")
    values = [text] if vr in LINES | {"UR"} else text.split("\\")
    values = [v for v in (_form(vr, value) for value in values) if v is not None]
    many = 1 if vr in LINES | {"UR"} else text.count("\\") + 1
    if len(values) < many or (many > 1 and vm == "1"):
        state.problems.append(f"{named(tag)} is not {FORMS[vr][1] if vr in FORMS else 'a single value'}")
        return None
    if vr in TEXTS:
        state.texts += [(vr, value) for value in values]
    return _new(tag, vr, values[0] if len(values) == 1 else values)


def _sequence(ds: Dataset, tag: BaseTag, state: _Cleaning, depth: int) -> DataElement | None:
    read = ds[tag].value
    if not isinstance(read, Sequence) or depth >= DEPTH:
        return None
    items = []
    for item in read:
        own = state.charset
        if CHARACTER_SET in item:
            state.charset = character_set(_character_set_values(item))
        out = Dataset()
        for element in _elements(item, lambda _: True, state, depth + 1):
            out.add(element)
        state.charset = own
        items.append(out)
    return DataElement(tag, "SQ", Sequence(items))


def _text(raw: RawDataElement | DataElement, vr: str, state: _Cleaning) -> str:
    """Return the text of an element without padding; several values stay joined by backslashes."""
    value = raw.value
    if value is None:
        return ""
    if not isinstance(value, bytes):
        several = isinstance(value, (list, tuple, MultiValue))
        return "\\".join(map(str, value)) if several else str(value)
    if vr not in TEXTS:
        return value.decode("latin_1").strip("\0 ")
    text, held = state.charset.decode(value.rstrip(b"\0 "), vr)
    state.foreign = state.foreign or not held
    kept = "\t\n\f\r" if vr in LINES else ""
    return "".join(c for c in text if c in kept or (c.isprintable() or c == "\u3000"))


def _form(vr: str, value: str) -> str | None:
    """Return a value in the form that may be written, or None where it is not valid for its VR."""
    if vr in TEXTS:
        return value.rstrip(" ") if vr in LINES else value.strip(" ")
    value = value.strip(" \0")
    if not value:
        return ""
    if vr == "CS":
        value = value.upper()
    if not FORMS[vr][0].fullmatch(value) or (vr in ("DA", "DT") and not _is_date(value)):
        return None
    if vr == "IS" and not -(2**31) <= int(value) < 2**31:
        return None
    return value


def _is_date(value: str) -> bool:
    """Return whether a DA or DT value begins with a date of the calendar, followed by a valid time, if any."""
    digits = re.match(r"\d+", value)
    text = digits[0] if digits else ""
    try:
        date(int(text[:4]), int(text[4:6] or 1), int(text[6:8] or 1))
    except ValueError:
        return False
    return not text[8:] or FORMS["TM"][0].fullmatch(text[8:]) is not None


def _new(tag: BaseTag, vr: str, value: str | list[str]) -> DataElement:
    if vr == "PN":
        return DataElement(
            tag, vr, PersonName(value) if isinstance(value, str) else [PersonName(v) for v in value]
        )
    return DataElement(tag, vr, value)
