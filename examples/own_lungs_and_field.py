# %% [markdown]
# # Your own lungs and your own displacement field
#
# Masks of the lungs and a registration of your own take the place of ours, and are judged by the same checks. Here the
# phantom's true ones do, so that what is left of the error is not the registration's.

# %%
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from analysis import DisplacementField, Parameters, Rejected, Volume, analyse
from analysis.truth.phantom import ThoraxShape, thorax_phantom

OUT = Path("example-output")
OUT.mkdir(exist_ok=True)
SCALE = 0.5  # a thorax of half the size, so that this takes seconds
truth = thorax_phantom(shape=ThoraxShape(in_plane_mm=5.0, slice_mm=5))
affines = [volume.grid.affine.copy() for volume in (truth.inspiratory, truth.expiratory)]
for affine in affines:
    affine[:3] *= SCALE
inspiration, expiration = (
    Volume.from_affine(volume.array, affine)
    for volume, affine in zip((truth.inspiratory, truth.expiratory), affines, strict=True)
)
grid = expiration.grid

# %% [markdown]
# ## Masks
# A label for both lungs or one for each, on any grid: here as a NIfTI file, as a segmentation program writes it.
# (`Volume.from_nifti` is for CTs: it refuses what is not in HU.)

# %%
image = sitk.GetImageFromArray(truth.lungs)
image.SetSpacing(grid.spacing[::-1])
image.SetOrigin(grid.affine[:3, 3].tolist())
sitk.WriteImage(image, str(OUT / "lungs.nii.gz"))
lungs = Volume.from_sitk(sitk.ReadImage(str(OUT / "lungs.nii.gz")))

# %% [markdown]
# ## A field
# In mm, LPS, from every point of expiration to the same tissue on inspiration.

# %%
field = DisplacementField((SCALE * truth.displacement).astype(np.float32), grid)
print(field)
parameters = Parameters(grid_mm=2.5, accept_failed_checks=True)
result = analyse(inspiration, expiration, parameters, lungs=(None, lungs), displacement=field)
print(result)

# %% [markdown]
# ## How good is the field?
# The checks that judge our registration judge yours.

# %%
print(result.registration)

# %% [markdown]
# ## What does not fit is refused, in a sentence
# A field the wrong way round, or in voxels instead of mm, is found before anything is computed with it.

# %%
try:
    wrong = DisplacementField(1000 * field.vectors, grid)
    analyse(inspiration, expiration, parameters, lungs=(None, lungs), displacement=wrong)
except Rejected as refusal:
    print(f"refused: {refusal}")
else:
    raise AssertionError("a field in the wrong unit was taken")
