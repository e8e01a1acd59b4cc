"""What each region contributes adds up to the whole, and what is removed leaves the rest."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.anatomy.regions import REGIONS, ZONES_OF
from analysis.measures.digits import carried, firm_text, text_of
from analysis.measures.shares import RESECTIONS, share_measures

ZONES = [region for region, parts in ZONES_OF.items() if len(parts) == 1]
POSITIVE = st.floats(0.01, 10.0)


def table_of(rows: list[tuple[float, float, float, float]]) -> dict[str, dict[str, float]]:
    """The table of six zones with (volume, classified share, V, Q), and of the wholes they make."""
    zones = dict(zip(ZONES, rows, strict=True))
    table = {}
    for region, parts in ZONES_OF.items():
        own = [zones[z] for z in ZONES if ZONES_OF[z][0] in parts]
        classified = sum(volume * share for volume, share, _, _ in own)
        table[region] = {
            "volume_exp": sum(volume for volume, *_ in own),
            "classified_volume": classified,
            "mean_v": sum(volume * share * v for volume, share, v, _ in own) / classified,
            "mean_q": sum(volume * share * q for volume, share, _, q in own) / classified,
        }
    return table


@given(st.lists(st.tuples(POSITIVE, st.floats(0.1, 1.0), POSITIVE, POSITIVE), min_size=6, max_size=6))
def test_the_shares_of_all_zones_and_of_both_lungs_are_the_whole(
    rows: list[tuple[float, float, float, float]],
) -> None:
    table = table_of(rows)
    found = {region: share_measures(table, region) for region in table}
    for name in ("share_volume", "share_v", "share_q"):
        assert sum(found[zone][name] for zone in ZONES) == pytest.approx(100)
        assert found["right"][name] + found["left"][name] == pytest.approx(100)
    assert found["right"]["remaining_q"] == pytest.approx(found["left"]["share_q"])


def test_only_what_surgery_removes_has_a_share_that_stays() -> None:
    table = table_of([(1.0, 1.0, 1.0, 1.0)] * 6)
    for region in table:
        assert ("remaining_q" in share_measures(table, region)) == (region in RESECTIONS)
    assert set(RESECTIONS) <= set(REGIONS)


def test_a_region_without_classified_lung_contributes_nothing_and_v_per_mass_has_no_share() -> None:
    table = table_of([(1.0, 1.0, 1.0, 1.0)] * 6)
    table["left"] |= {"classified_volume": 0.0, "mean_v": math.nan, "mean_q": math.nan}
    found = share_measures(table, "left")
    assert (found["share_v"], found["remaining_q"]) == (0.0, 100.0)
    assert math.isnan(share_measures(table, "right", "delta svg")["share_v"])


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e3))
def test_a_number_keeps_what_its_uncertainty_carries(value: float, sd: float) -> None:
    assert (
        abs(carried(value, "%", sd) - value)
        <= max(0.5 * 10 ** math.floor(math.log10(sd) + 0.0223), 0.5) + 1e-9
    )
    assert len(text_of(sd, "%", sd).strip("0.")) <= 1 or sd >= 9.5


def test_a_fraction_is_told_with_its_uncertainty_and_range() -> None:
    row = {"shunt": 12.34, "shunt_sd": 0.96, "shunt_50": 8.1, "shunt_75": 19.6}
    assert firm_text(row, "shunt") == "12 ± 1 % (8–20 %)"
    assert firm_text({"shunt": 12.34}, "shunt", True) == "12.3 %"
