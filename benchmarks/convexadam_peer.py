"""Run ConvexAdam (Siebert, Hansen, Heinrich 2024, doi:10.1109/TMI.2024.3462248): `convexadam_peer.py IN.npz OUT.npz`.

IN holds ``fixed``, ``moving`` (HU) and ``fixed_mask``, ``moving_mask`` of one shape; OUT ``u`` (k, j, i, 3), voxels,
and ``seconds``. The package's defaults: MIND-SSC, both directions, Adam; with masks.
"""

import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from convexAdam.convex_adam_MIND import convex_adam_pt

torch.set_num_threads(2)
given = np.load(sys.argv[1])
with tempfile.TemporaryDirectory() as folder:
    masks = {}
    for name in ("fixed_mask", "moving_mask"):
        masks[name] = Path(folder) / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(given[name].astype(np.float32), np.eye(4)), masks[name])
    start = time.perf_counter()
    u = convex_adam_pt(
        given["fixed"].astype(np.float32),
        given["moving"].astype(np.float32),
        use_mask=True,
        path_fixed_mask=masks["fixed_mask"],
        path_moving_mask=masks["moving_mask"],
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    np.savez(sys.argv[2], u=np.asarray(u, np.float32), seconds=time.perf_counter() - start)
