"""Values that several tests of the node share."""

from __future__ import annotations

from dicom_node.model import Pair, Series, Slice

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def make_slice(uid: str, z: float = 0.0) -> Slice:
    return Slice(
        uid, 1, (0.0, 0.0, z), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (1.0, 1.0), 64, 64, 2.0, ("1", "B30f")
    )


def make_series(name: str, phase: str | None = None, study: str = "1.2.3", count: int = 3) -> Series:
    slices = tuple(make_slice(f"{name}.{n}", 2.0 * n) for n in range(count))
    return Series(name, study, slices, phase, "SeriesDescription", 2.0, "", "B30f", "")  # type: ignore[arg-type]


def make_pair(insp: str = "1.2.3.1", exp: str = "1.2.3.2", count: int = 3, decided: bool = True) -> Pair:
    phases = ("inspiration", "expiration") if decided else (None, None)
    series = [make_series(name, phase, count=count) for name, phase in zip((insp, exp), phases, strict=True)]
    return Pair(series[0], series[1], decided, "SeriesDescription")
