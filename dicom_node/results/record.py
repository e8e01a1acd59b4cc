"""Analysis <-> its record, `analysis.npz`: all of it, whole, kept beside the DICOM objects that show parts of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path

import numpy as np

from analysis.pipeline.pipeline import Analysis
from analysis.pipeline.saved import REST, joined, parts

from ..errors import Rejected
from ..strict_json import encode

NAME = "analysis.npz"


@dataclass(frozen=True, eq=False)
class Record:
    """Hold a result and what it was made from.

    Parameters
    ----------
    analysis : Analysis
    patient : str
        A key shared by all studies of a patient, neither name nor ID; "" where the images do not say.
    inspiration, expiration : str
        Series Instance UIDs.
    acquired : str
        When expiration was acquired, "YYYYMMDD…" as far as known.
    pairing : str
        The evidence for which phase is which.
    """

    analysis: Analysis
    patient: str
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
        return Record(**{**own, "analysis": joined(Analysis, own["analysis"], arrays)})
    except (FileNotFoundError, NotADirectoryError):
        raise Rejected(f"{path} is not there") from None
    except Exception as error:  # the boundary: numpy's reader of damaged bytes alone raises a dozen kinds
        raise Rejected(
            f"{path} is not a record that this version can read ({type(error).__name__})"
        ) from error
