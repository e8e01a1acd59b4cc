"""Analysis <-> its record, `analysis.npz`: all of it, whole, kept beside the DICOM objects that show parts of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np

from analysis.pipeline.pipeline import Analysis
from analysis.pipeline.saved import REST, joined, parts

from ..errors import Rejected
from ..strict_json import encode

NAME = "analysis.npz"
#: What older versions kept of the patient: a digest without a key.
PATIENT = "patient"


@dataclass(frozen=True, eq=False)
class Record:
    """Hold a result and what it was made from.

    Parameters
    ----------
    analysis : Analysis
    inspiration, expiration : str
        Series Instance UIDs.
    acquired : str
        When expiration was acquired, "YYYYMMDD…" as far as known.
    pairing : str
        The evidence for which phase is which.
    """

    analysis: Analysis
    inspiration: str
    expiration: str
    acquired: str
    pairing: str = ""

    def dump(self) -> bytes:
        """Return the record's bytes; the same result makes the same bytes."""
        arrays, rest = parts(self.analysis)
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "analysis"}
        text = encode({"analysis": rest, **own})
        buffer = BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **{REST: np.array(text)}, **arrays)
        return buffer.getvalue()


def read_record(path: Path) -> Record:
    """Read the record that a file holds.

    Raises
    ------
    Rejected
        Where there is no record, it is damaged, or another version wrote it in another format.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        own = json.loads(str(arrays.pop(REST)))
        own.pop(PATIENT, None)
        return Record(**{**own, "analysis": joined(Analysis, own["analysis"], arrays)})
    except (FileNotFoundError, NotADirectoryError):
        raise Rejected(f"{path} is not there") from None
    except Exception as error:  # the boundary: numpy's reader of damaged bytes alone raises a dozen kinds
        raise Rejected(
            f"{path} is not a record that this version can read ({type(error).__name__})"
        ) from error


def without_patient(content: bytes) -> bytes:
    """Return a record's bytes without the patient's digest that older versions kept; all else stays as it is.

    Raises
    ------
    Rejected
        Where the bytes are no record.
    """
    name, buffer, text = f"{REST}.npy", BytesIO(content), BytesIO()
    try:
        with ZipFile(buffer, "a", ZIP_DEFLATED) as entries:
            old = entries.getinfo(name)
            with entries.open(old) as file:
                own = json.loads(str(np.lib.format.read_array(file)))
            if own.pop(PATIENT, None) is None:
                return content
            np.lib.format.write_array(text, np.array(encode(own)))
            # the arrays, nearly all of a record, stay as they are: to compress them again takes seconds
            entries.filelist.remove(old)
            del entries.NameToInfo[name]
            entries.writestr(name, text.getvalue())
    except Exception as error:  # the boundary: readers of damaged bytes raise a dozen kinds
        raise Rejected(f"no record of a result ({type(error).__name__})") from error
    changed = bytearray(buffer.getvalue())
    lengths = (changed[old.header_offset + at : old.header_offset + at + 2] for at in (26, 28))
    begins = old.header_offset + 30 + sum(int.from_bytes(one, "little") for one in lengths)
    changed[begins : begins + old.compress_size] = bytes(old.compress_size)  # the digest itself
    return bytes(changed)
