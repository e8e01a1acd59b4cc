"""Published values of healthy lungs, each with its source: what a measure of both lungs is read against.

They are of other people, other scanners and other positions than the patient's: a value outside is a reason to look,
not a finding. Lung volumes are predicted by sex, age and height where the images give them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """Hold what healthy lungs have of a measure.

    Parameters
    ----------
    words : str
        The value or range, as written in reports, in the unit of the measure.
    source : str
    """

    words: str
    source: str


@dataclass(frozen=True)
class Person:
    """Hold what predicts lung volumes.

    Parameters
    ----------
    sex : str
        "M", "F", or anything else where it is not known.
    age : float or None
        Years.
    height : float or None
        Metres.
    """

    sex: str = ""
    age: float | None = None
    height: float | None = None


#: Sex -> total lung capacity in litres: slope and offset for height in metres, residual standard deviation. Age 18-70,
#: seated; smokers are among those measured (European Community for Steel and Coal, Quanjer 1993, table 6). The same
#: lungs hold 5 to 15 % less on CT when their owner lies (100 volunteers, Yamada 2020).
TLC: Mapping[str, tuple[float, float, float]] = {"M": (7.99, -7.08, 0.70), "F": (6.60, -5.79, 0.60)}
#: Ages and heights for which these equations hold.
AGES, HEIGHTS = (18.0, 70.0), {"M": (1.55, 1.95), "F": (1.45, 1.80)}
QUANJER = "Quanjer 1993, doi:10.1183/09041950.005s1693"
YAMADA = "Yamada 2020, PMID 33004894"
ZACH = "Zach 2012, doi:10.1097/RLI.0b013e318262292e"
HOESEIN = "Mohamed Hoesein 2013, doi:10.1371/journal.pone.0065177"

#: Zach: 92 healthy adults who never smoked, mean and standard deviation; expired there is the end of a normal breath.
#: Mohamed Hoesein: mean of men who smoked much and whose FEV1/FVC is above 70 %; no better source was found.
FIXED: Mapping[str, Reference] = {
    "laa950": Reference("2.0 ± 2.7", ZACH),
    "laa856": Reference("9.2 ± 6.8", ZACH),
    "mld_ratio": Reference("0.86 (unobstructed smokers)", HOESEIN),
    "perc15": Reference("-912 (unobstructed smokers)", HOESEIN),
}


def references(person: Person) -> dict[str, Reference]:
    """Return the reference of every measure of both lungs that has one.

    Examples
    --------
    >>> references(Person("M", 60, 1.75))["volume_insp"].words
    '5750-8050 seated'
    >>> "volume_insp" in references(Person("M", 60, None))
    False
    """
    found = dict(FIXED)
    predicted = predicted_tlc_ml(person)
    if predicted is not None:
        mean, sd = predicted
        # 1.64 standard deviations on each side hold 90 % of healthy people
        low, high = (round(mean + z * sd, -1) for z in (-1.64, 1.64))
        found["volume_insp"] = Reference(
            f"{low:.0f}-{high:.0f} seated", f"total lung capacity, {QUANJER}; 5-15 % less lying, {YAMADA}"
        )
    return found


def predicted_tlc_ml(person: Person) -> tuple[float, float] | None:
    """Return the predicted total lung capacity and its residual standard deviation (mL); None where it is not known.

    Examples
    --------
    >>> predicted_tlc_ml(Person("F", 50, 1.65))
    (5100.0, 600.0)
    """
    if person.sex not in TLC or person.age is None or person.height is None:
        return None
    low, high = HEIGHTS[person.sex]
    if not (AGES[0] <= person.age <= AGES[1] and low <= person.height <= high):
        return None
    slope, offset, sd = TLC[person.sex]
    return round(1000 * (slope * person.height + offset), 6), 1000 * sd
