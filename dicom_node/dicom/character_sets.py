"""Specific Character Set (0008,0005) as some sender wrote it -> a defined term, and texts that can be decoded."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from pydicom.charset import decode_bytes, encode_string
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS, PersonName

ESC = 0x1B
#: Numbers of the ISO registry in defined terms (PS3.3 Tables C.12-2 to C.12-4) -> what Python calls them.
SINGLE_BYTE = {
    13: "shift_jis", 100: "latin_1", 101: "iso8859_2", 109: "iso8859_3", 110: "iso8859_4", 126: "iso_ir_126",
    127: "iso_ir_127", 138: "iso_ir_138", 144: "iso_ir_144", 148: "iso_ir_148", 166: "iso_ir_166", 203: "iso8859_15",
}  # fmt: skip
MULTI_BYTE = {58: "iso_ir_58", 87: "iso2022_jp", 149: "euc_kr", 159: "iso2022_jp_2"}
#: Defined terms that highdicom does not accept or pydicom cannot encode: their texts are written as ISO_IR 192 (UTF-8).
NOT_WRITTEN = frozenset({"ISO 2022 IR 149", "ISO 2022 IR 58", "ISO_IR 203", "ISO 2022 IR 203"})
#: Terms that cannot be combined with others (Table C.12-5).
ALONE = {"ISO_IR 192": "utf8", "GB18030": "GB18030", "GBK": "GBK"}
#: Other spellings that senders use (without spaces, hyphens and underscores) -> the defined term they mean.
ALIASES = {
    "ISOIR192": "ISO_IR 192", "UTF8": "ISO_IR 192", "UNICODE": "ISO_IR 192", "ISO10646": "ISO_IR 192",
    "ISO2022IR192": "ISO_IR 192", "GB18030": "GB18030", "GBK": "GBK", "ISO2022GBK": "GBK",
}  # fmt: skip
#: Parts of ISO/IEC 8859 -> their number in the ISO registry.
PARTS_8859 = {1: 100, 2: 101, 3: 109, 4: 110, 5: 144, 6: 127, 7: 126, 8: 138, 9: 148, 11: 166, 15: 203}


#: The escape sequence of ISO 2022 IR 58, which pydicom decodes by and leaves in the text.
CHINESE = "\x1b$)A"
#: Python's names of every set that an escape sequence can begin.
EVERY = ("iso8859", *MULTI_BYTE.values(), *SINGLE_BYTE.values())


@dataclass(frozen=True)
class CharacterSet:
    """Hold how texts are decoded, and the defined terms that say so.

    Attributes
    ----------
    terms : tuple of str
        Valid values of Specific Character Set; none for the default repertoire.
    codecs : tuple of str
        Python's names of these terms, for pydicom; empty where the sender's value is not a defined term.
    """

    terms: tuple[str, ...] = ()
    codecs: tuple[str, ...] = ("latin_1",)

    @property
    def known(self) -> bool:
        """Return whether the sender's value is a defined term."""
        return bool(self.codecs)

    @property
    def written(self) -> bool:
        """Return whether a result may name this character set."""
        return self.known and not NOT_WRITTEN & set(self.terms)

    def decode(self, value: bytes, vr: str) -> tuple[str, bool]:
        """Decode a text, as UTF-8 or Latin-1 where this character set cannot; and return whether it could."""
        if value.isascii() and ESC not in value:
            return value.decode("ascii"), True
        if self.known and (self.terms or value.isascii()):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                text = _decoded(value, self.codecs, vr)
            if text is not None:
                return text, True
        if ESC in value and (text := _decoded(value, EVERY, vr)) is not None:
            return text, False  # escape sequences say themselves which set follows, though none is declared
        try:
            return value.replace(b"\x1b", b"").decode("utf-8"), False
        except UnicodeDecodeError:
            return value.replace(b"\x1b", b"").decode("latin_1"), False

    def holds(self, text: str, vr: str) -> bool:
        """Return whether a text is unchanged after it is encoded and decoded."""
        if text.isascii():
            return True
        if not self.terms:
            return False
        codecs = list(self.codecs)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                if vr == "PN":
                    return str(PersonName(PersonName(text).encode(codecs), codecs)) == text
                return decode_bytes(encode_string(text, codecs), codecs, TEXT_VR_DELIMS) == text
        except (ValueError, LookupError, UserWarning, AttributeError):
            return False


UTF_8 = CharacterSet(("ISO_IR 192",), ("utf8",))


def character_set(values: Iterable[str]) -> CharacterSet:
    """Return the character set that the values of Specific Character Set mean.

    A single ``ISO 2022 IR n`` means ``ISO_IR n``, the same without code extensions (PS3.3 C.12.1.1.2).

    Examples
    --------
    >>> character_set(["ISO 2022 IR 100"]).terms
    ('ISO_IR 100',)
    >>> character_set(["", "ISO 2022 IR 87"]).terms
    ('ISO 2022 IR 6', 'ISO 2022 IR 87')
    >>> character_set(["Not Supplied"]).known
    False
    """
    meant = [_meant(value.strip("\0 ")) for value in values]
    if None in meant:
        return CharacterSet((), ())
    for term in meant:
        if isinstance(term, str):
            return CharacterSet((term,), (ALONE[term],))
    return _extended([m for m in dict.fromkeys(meant) if isinstance(m, int)])


def _meant(value: str) -> str | int | None:
    """Return a term that stands alone, a number of the ISO registry, or None where nothing is defined."""
    plain = re.sub(r"[\s_-]+", "", value).upper()
    if not plain:
        return 6
    if plain in ALIASES:
        return ALIASES[plain]
    if found := re.fullmatch(r"(?:ISO)?(?:20\d\d)?IR(\d+)", plain):
        number = int(found[1])
        return number if number == 6 or number in SINGLE_BYTE or number in MULTI_BYTE else None
    if found := re.fullmatch(r"(?:ISO)?(?:IEC)?8859(\d+)|LATIN(1)", plain):
        return PARTS_8859.get(int(found[1] or found[2]))
    return {"ASCII": 6, "USASCII": 6, "ISO646": 6, "ISO202258": 58}.get(plain)


def _extended(numbers: list[int]) -> CharacterSet:
    """Return one single-byte set by itself, or several with code extensions, a single-byte one first."""
    if numbers in ([], [6]):
        return CharacterSet()
    if len(numbers) == 1 and numbers[0] in SINGLE_BYTE:
        return CharacterSet((f"ISO_IR {numbers[0]}",), (SINGLE_BYTE[numbers[0]],))
    if numbers[0] in MULTI_BYTE:
        numbers = [6, *(n for n in numbers if n != 6)]
    known = {6: "iso8859", **SINGLE_BYTE, **MULTI_BYTE}
    return CharacterSet(tuple(f"ISO 2022 IR {n}" for n in numbers), tuple(known[n] for n in numbers))


def _decoded(value: bytes, codecs: tuple[str, ...], vr: str) -> str | None:
    try:
        if vr == "PN":
            text = str(PersonName(value, list(codecs)))
        else:
            text = decode_bytes(value, list(codecs), PN_DELIMS if vr == "PN" else TEXT_VR_DELIMS)
    except (ValueError, LookupError):
        return None
    text = text.replace(CHINESE, "")
    return None if "\ufffd" in text or "\x1b" in text else text
