# %% [markdown]
# # Many patients: fractions beside DLCO
#
# The statistics of a cohort from Python, on a table of 46 patients that is made up: their DLCO falls with the abnormal
# lung and with age, by numbers that stand below. It shows how the statistics are used, and nothing about patients.
# For a real cohort two commands do all of this, and draw Figure 1: `dicom-node batch cases.csv results` and
# `dicom-node cohort results results/batch.csv` (docs/cohort.md).

# %%
from pathlib import Path

import numpy as np

from analysis.cohort.figures import boxes, scatter
from analysis.cohort.regression import partial_correlation, regress
from analysis.cohort.statistics import compare_groups, correlate

OUT = Path("example-output")
OUT.mkdir(exist_ok=True)

# %% [markdown]
# ## The table
# Of results on disk, `Analysis.load(folder / "analysis.npz").measures["lungs"]["total_abnormal"]` is a patient's value.

# %%
POINTS_A_PERCENT, POINTS_A_YEAR = -1.2, -0.4
rng = np.random.default_rng(46)
groups = ["PE"] * 14 + ["chronic lung disease"] * 27 + ["intervention"] * 5
age = rng.uniform(40, 80, len(groups))
severity = {"PE": 12.0, "chronic lung disease": 20.0, "intervention": 32.0}
abnormal = np.array([rng.gamma(6.0, severity[name] / 6.0) for name in groups]) + 0.1 * (age - 60)
dlco = 115 + POINTS_A_PERCENT * abnormal + POINTS_A_YEAR * (age - 40) + rng.normal(0, 7, len(groups))

# %% [markdown]
# ## How DLCO goes with the abnormal lung
# Pearson's r and r² with their intervals, Spearman's rho beside it; then adjusted for age, and both together.

# %%
found = correlate(abnormal, dlco)
print(f"r² = {found.r2.value:.2f} ({found.r2.low:.2f} to {found.r2.high:.2f}), rho = {found.rho.value:.2f}")
adjusted = partial_correlation(abnormal, dlco, {"age": age})
print(f"adjusted for age: r = {adjusted.r.value:.2f} ({adjusted.r.low:.2f} to {adjusted.r.high:.2f})")
together = regress(dlco, {"total abnormal": abnormal, "age": age})
for name, one in together.coefficients.items():
    print(
        f"{name}: {one.slope.value:+.2f} ({one.slope.low:+.2f} to {one.slope.high:+.2f}) points of DLCO each"
    )
slope = together.coefficients["total abnormal"].slope
assert slope.low < POINTS_A_PERCENT < slope.high, "the interval misses what was put in"

# %% [markdown]
# ## The groups
# Kruskal-Wallis, then Dunn's test with Holm's correction.

# %%
by_group = {name: abnormal[[one == name for one in groups]] for name in severity}
compared = compare_groups(by_group)
print(f"groups: p = {compared.p:.1e}, medians { ({k: round(v, 1) for k, v in compared.medians.items()}) }")
for pair in compared.pairs:
    print(f"{pair.a} - {pair.b}: p = {pair.p:.2g}, Cliff's delta {pair.delta:+.2f}")

# %% [markdown]
# ## Pictures

# %%
labels = ("Total abnormal, % of classified lung", "DLCO, % predicted")
scatter(abnormal, dlco, groups, labels, found).savefig(OUT / "cohort.png")
boxes({"Total abnormal": by_group}, "%").savefig(OUT / "groups.png")
