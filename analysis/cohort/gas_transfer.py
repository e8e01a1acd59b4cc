"""Sex, age and height -> reference values of gas transfer (DLCO, TLCO) by a table the user brings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..errors import Rejected

Values = NDArray[np.float64]

#: GLI 2017, corrected 2020: sex, age (years), height (cm), mean and lower limit of normal (mL/min/mmHg).
GLI = (
    ("M", 40.0, 175.0, 30.184, 23.503),
    ("M", 65.0, 175.0, 25.889, 19.230),
    ("F", 40.0, 162.0, 21.355, 16.900),
    ("F", 65.0, 162.0, 19.255, 14.631),
)
SI = 2.986  # mL/min/mmHg in 1 mmol/min/kPa
TOLERANCE = 0.005


@dataclass(frozen=True)
class Reference:
    """Hold reference values of gas transfer as lambda, mu and sigma (Cole and Green 1992, doi:10.1002/sim.4780111005).

    The table is the user's: GLI publishes it (Stanojevic 2017, doi:10.1183/13993003.00010-2017, corrected 2020).
    For a sex and an age it gives mu at a height of 1 cm (its logarithm; the spline's share included), the power of
    height, lambda and sigma.

    Parameters
    ----------
    age, log_mu, height_power, lam, sigma : (n,) float
        In order of age (years); linearly interpolated.
    """

    age: Values
    log_mu: Values
    height_power: Values
    lam: Values
    sigma: Values

    def lms(self, age: float, height_cm: float) -> tuple[float, float, float]:
        """Return lambda, mu and sigma for an age and a height.

        Raises
        ------
        Rejected
            Where the age lies outside the table.
        """
        if not self.age[0] <= age <= self.age[-1]:
            raise Rejected(f"age {age:g} lies outside the table's {self.age[0]:g} to {self.age[-1]:g} years")
        log_mu, power, lam, sigma = (
            float(np.interp(age, self.age, column))
            for column in (self.log_mu, self.height_power, self.lam, self.sigma)
        )
        return lam, float(np.exp(log_mu + power * np.log(height_cm))), sigma

    def percent_predicted(self, value: float, age: float, height_cm: float) -> float:
        """Return 100 value / mu; the value is in the table's unit."""
        return 100 * value / self.lms(age, height_cm)[1]

    def lower_limit(self, age: float, height_cm: float) -> float:
        """Return the lower limit of normal, the 5th percentile: mu (1 - 1.645 lambda sigma)^(1 / lambda)."""
        lam, mu, sigma = self.lms(age, height_cm)
        return float(mu * (1 + stats.norm.ppf(0.05) * lam * sigma) ** (1 / lam))


def check_gli(references: Mapping[str, Reference]) -> None:
    """Refuse a table that does not give GLI's own values, in mL/min/mmHg or in mmol/min/kPa.

    Parameters
    ----------
    references : mapping of "M" and "F" to Reference

    Raises
    ------
    Rejected
        Where a value differs by more than half a percent; the message names the first.
    """
    first = references["M"].lms(*GLI[0][1:3])[1]
    unit = min((1.0, SI), key=lambda u: abs(np.log(first * u / GLI[0][3])))
    for sex, age, height, mean, limit in GLI:
        reference = references[sex]
        found = reference.lms(age, height)[1], reference.lower_limit(age, height)
        for words, value, published in zip(("median", "lower limit"), found, (mean, limit), strict=True):
            if not abs(value * unit / published - 1) <= TOLERANCE:
                raise Rejected(
                    f"these are not GLI's values of 2017 as corrected in 2020: {words} of {sex}, {age:g} years, "
                    f"{height:g} cm is {value:.3f}, published are {published:.3f} mL/min/mmHg"
                    f" ({published / SI:.3f} mmol/min/kPa)"
                )
