"""The docstrings of both packages -> build/api, a page a module; fails where pdoc warns or a module has no page.

Run it by `sh docs/build.sh`.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import pdoc

PACKAGES = "analysis", "dicom_node"
OUT = Path(__file__).parents[1] / "build" / "api"

#: Of classes that `dicom_node.network` inherits from pynetdicom: it imports the types of these for type checkers only.
INHERITED = re.compile(r"for (pynetdicom\.|dicom_node\.network\.server\.Handler\.ae\b)")


def modules(package: str) -> list[str]:
    """Return the names of a package and of every module below it."""
    path = importlib.import_module(package).__path__
    below = (found.name for found in pkgutil.walk_packages(path, f"{package}."))
    return [package, *(name for name in below if not any(part.startswith("_") for part in name.split(".")))]


def show_submodules(name: str) -> None:
    """Make pdoc list the modules of a package, which it leaves out where `__all__` does not name them."""
    module = importlib.import_module(name)
    if hasattr(module, "__all__") and hasattr(module, "__path__"):
        vars(module).update({name: getattr(module, name) for name in module.__all__})  # loaded when asked for
        below = [found.name for found in pkgutil.iter_modules(module.__path__)]
        shown = vars(module)["__all__"]
        vars(module)["__all__"] = [*shown, *(n for n in below if n not in shown)]


def main() -> int:
    """Write the pages; return the exit code."""
    names = [name for package in PACKAGES for name in modules(package)]
    for name in names:
        show_submodules(name)
    pdoc.render.configure(docformat="numpy", footer_text=f"vq-dicom-node {version('vq-dicom-node')}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pdoc.pdoc(*PACKAGES, output_directory=OUT)
    faults = [str(one.message) for one in caught if not INHERITED.search(str(one.message))]
    pages = {name: OUT / Path(*name.split(".")).with_suffix(".html") for name in names}
    faults += [f"no page of {name}" for name, page in pages.items() if not page.is_file()]
    for fault in faults:
        print(f"docs/api.py: {fault}", file=sys.stderr)
    if not faults:
        print(f"{len(pages)} pages in {OUT.relative_to(OUT.parents[1])}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
