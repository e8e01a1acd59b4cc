"""A CT volume: HU in an array (k, j, i) and where its voxels lie in the patient; files of images.

Conventions of the whole package, said once:

* arrays are indexed (k, j, i) = (slice, row, column);
* points and vectors are (x, y, z) in DICOM's LPS patient coordinates, mm (PS3.3 C.7.6.2.1.1);
* an affine maps the index (k, j, i, 1) to (x, y, z, 1): its columns are the steps of k, of j and of i;
* grids are right-handed: det < 0 in this index order means i × j points along +k.
"""

from .displacement import DisplacementField
from .grid import Float, Grid, Labels, Mask
from .volume import Volume, affine_of

__all__ = ["DisplacementField", "Float", "Grid", "Labels", "Mask", "Volume", "affine_of"]
