"""Reference values of gas transfer: GLI's published vectors, in both units; a table that is none is refused."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.cohort.gas_transfer import GLI, SI, Reference, check_gli
from analysis.errors import Rejected

#: lambda and the power of height as published; the rest follows from the vectors.
SHAPE = {"M": (0.39482, 2.018368), "F": (0.24160, 1.618697)}


def gli(unit: float = 1.0) -> dict[str, Reference]:
    """The table through GLI's vectors: mu and sigma solved from mean and lower limit."""
    out = {}
    for sex, (lam, power) in SHAPE.items():
        rows = [
            (
                age,
                np.log(mean / unit) - power * np.log(height),
                power,
                lam,
                (1 - (limit / mean) ** lam) / (1.6448536 * lam),
            )
            for s, age, height, mean, limit in GLI
            if s == sex
        ]
        out[sex] = Reference(*np.array(rows).T)
    return out


@pytest.mark.parametrize("unit", [1.0, SI])
def test_gli_s_own_table_is_taken_in_either_unit(unit: float) -> None:
    references = gli(unit)
    check_gli(references)
    for sex, age, height, mean, limit in GLI:
        assert references[sex].percent_predicted(mean / unit / 2, age, height) == pytest.approx(50)
        assert references[sex].lower_limit(age, height) == pytest.approx(limit / unit)
        assert 0.1 < references[sex].lms(age, height)[2] < 0.2


def test_a_table_that_is_not_gli_s_is_refused_with_the_value_that_differs() -> None:
    references = gli()
    with pytest.raises(Rejected, match=r"median of M, 40 years, 175 cm is 31\.\d+, published are 30\.184"):
        check_gli({**references, "M": replace(references["M"], log_mu=references["M"].log_mu + 0.03)})
    with pytest.raises(Rejected, match="lower limit of F, 40 years"):
        check_gli({**references, "F": replace(references["F"], sigma=references["F"].sigma * 1.1)})


def test_an_age_outside_the_table_is_refused() -> None:
    with pytest.raises(Rejected, match="age 90 lies outside the table's 40 to 65 years"):
        gli()["M"].lms(90, 175)
