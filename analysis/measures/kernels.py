"""Name of a reconstruction kernel -> soft, sharp or unknown: the one table, of four makers and of plain words.

Densities and registration want soft kernels: sharp ones enhance edges, and so noise; they shift LAA and V of a voxel.
Sources: Siemens, the number is the sharpness (10 to 100; B31, Br40 soft, B50 medium sharp, B70 sharp); GE, Philips and
Canon/Toshiba as the NLST and COPDGene protocols sort them (doi:10.1148/radiol.10091808, doi:10.3109/15412550903499522).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

KernelClass = Literal["soft", "sharp", "unknown"]

#: From this number on, Siemens' kernels enhance edges.
SIEMENS_SHARP = 50
#: Prefixes of Siemens' kernels: convolution (B, H, U, S, T ...), iterative (I, J), quantitative (Q), and their regions.
SIEMENS = re.compile(r"(?:[A-Z]{1,2})([1-9]\d|100)[A-Z]{0,2}(?:_\d)?")
#: Canon/Toshiba's FC numbers that enhance edges: body high resolution, bone, lung, and the high resolution of 80 to 89.
CANON_SHARP = frozenset({7, 8, *range(30, 40), *range(50, 60), *range(80, 90)})
CANON = re.compile(r"FC(\d{1,2})(?:-H)?")
#: Whole names, without spaces: GE, Philips (one or two letters), UIH and plain words.
NAMES: dict[str, KernelClass] = {
    **dict.fromkeys(("SOFT", "STANDARD", "STND", "STD", "CHEST", "BODY", "SMOOTH", "MEDIUM"), "soft"),
    **dict.fromkeys(("A", "B", "C", "BSOFTA", "BSOFTB", "BSOFTC"), "soft"),
    **dict.fromkeys(
        ("LUNG", "BONE", "BONEPLUS", "BONE+", "EDGE", "EDGEPLUS", "DETAIL", "ULTRA", "HRCT"), "sharp"
    ),
    **dict.fromkeys(("SHARP", "VSHARP"), "sharp"),
    **dict.fromkeys(("D", "E", "F", "L", "EB", "EC", "YA", "YB", "YC", "YD"), "sharp"),
    **dict.fromkeys(("BSHARPA", "BSHARPB", "BSHARPC", "BVSHARPA", "BVSHARPB", "BVSHARPC"), "sharp"),
}
#: GE's prefixes of the same kernels in high definition, and of its iterative reconstructions.
PREFIX = re.compile(r"^(?:HD|ND|I\.?Q\.?)(?=.)")


def kernel_class(name: str) -> KernelClass:
    r"""Return what a Convolution Kernel (0018,1210) does to edges.

    Parameters
    ----------
    name : str
        As the header says it; of several values (``Br64d\3``: kernel and strength of iteration) the first counts.

    Examples
    --------
    >>> [kernel_class(name) for name in ("B31f", "Br64d\\3", "BONEPLUS", "FC30", "something")]
    ['soft', 'sharp', 'sharp', 'sharp', 'unknown']
    """
    word = re.sub(r"[\s_\-]", "", name.split("\\")[0]).upper()
    word = PREFIX.sub("", word)
    if word in NAMES:
        return NAMES[word]
    if found := CANON.fullmatch(word):
        return "sharp" if int(found[1]) in CANON_SHARP else "soft"
    if found := SIEMENS.fullmatch(word):
        return "sharp" if int(found[1]) >= SIEMENS_SHARP else "soft"
    return "unknown"


def kernels_in_words(kernels: Sequence[str]) -> tuple[bool, str]:
    """Return whether the kernels of both phases deserve a warning, and a sentence on them.

    Parameters
    ----------
    kernels : sequence of str
        Of inspiration and expiration; "" where the header names none.
    """
    insp, exp = kernels
    sharp = sorted({kernel for kernel in kernels if kernel_class(kernel) == "sharp"})
    unknown = sorted({kernel for kernel in kernels if kernel and kernel_class(kernel) == "unknown"})
    if not insp or not exp:
        where = f": {', '.join(filter(None, kernels))}" if insp or exp else ""
        return bool(sharp), f"the header names no kernel for both phases{where}"
    if insp.upper() != exp.upper():
        return True, f"kernels differ: {insp} on inspiration, {exp} on expiration"
    if sharp:
        return True, f"both phases share the sharp kernel {sharp[0]}"
    if unknown:
        return False, f"both phases share the kernel {unknown[0]}, which is not in the table of kernels"
    return False, f"both phases share the smooth kernel {insp}"
