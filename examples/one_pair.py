# %% [markdown]
# # One pair: from two volumes to numbers, a picture and a file
#
# A notebook in the percent format: VS Code and Spyder open it as cells, JupyterLab does so with jupytext, and
# `python examples/one_pair.py` runs it. It needs no data: the pair is a phantom whose answer is known.

# %%
from pathlib import Path

from analysis import Analysis, Parameters, Volume, analyse, overview
from analysis.truth.phantom import ThoraxShape, thorax_phantom

OUT = Path("example-output")
OUT.mkdir(exist_ok=True)

# %% [markdown]
# ## The pair
# Your own comes from `Volume.from_nifti(path)`, `Volume.from_sitk(image)` or, of a bare array in HU with its voxel size
# along k, j, i, `Volume.from_array(array, spacing)`.

# %%
SCALE = 0.5  # a thorax of half the size, so that this takes seconds


def small(volume: Volume) -> Volume:
    """Return a volume with voxels of half the size, at half the place."""
    affine = volume.grid.affine.copy()
    affine[:3] *= SCALE
    return Volume.from_affine(volume.array, affine)


truth = thorax_phantom(shape=ThoraxShape(in_plane_mm=5.0, slice_mm=5))
inspiration, expiration = small(truth.inspiratory), small(truth.expiratory)
print(inspiration, expiration, sep="\n")

# %% [markdown]
# ## The analysis
# So small and coarse a thorax fails checks, as it should: `accept_failed_checks` says that we want the result
# nevertheless.

# %%
result = analyse(inspiration, expiration, Parameters(grid_mm=2.5, accept_failed_checks=True))
print(result)
for finding in result.findings:
    if finding.verdict != "pass":
        print(f"{finding.verdict}: {finding.sentence}")

# %% [markdown]
# ## Numbers
# This phantom is coarse, to be quick, and its fractions are points off the truth; docs/validation.md says how far they
# are at the resolution of a CT.
#
# `result.rows()` has every measure of every region with its unit; `pandas.DataFrame(result.rows())` is a table of it.

# %%
for row in result.rows():
    if row["region"] == "lungs" and row["measure"] in (
        "dead_space",
        "shunt",
        "matched_defect",
        "total_abnormal",
    ):
        print(f"{row['meaning']}: {row['value']:.1f} {row['unit']}")
print({c.name: f"{100 * share:.1f} %" for c, share in truth.fractions().items()}, "is the truth")

# %% [markdown]
# ## A picture, and the whole result as a file
# `overview` draws the page; `result.maps` holds the maps as arrays on `result.grid`.

# %%
overview(result).savefig(OUT / "overview.png")
print({name: values.shape for name, values in result.maps.items()})
result.save(OUT / "result.npz")
again = Analysis.load(OUT / "result.npz")
assert again.measures["lungs"]["shunt"] == result.measures["lungs"]["shunt"]
