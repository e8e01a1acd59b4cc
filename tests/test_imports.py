"""One table, a row a folder: the folders that it may import. Whatever is not in the table fails."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STDLIB = set(sys.stdlib_module_names)
#: The only packages of others that `analysis` may import.
ARRAYS = {"numpy", "scipy", "SimpleITK", "numba", "matplotlib", "PIL"}

#: Each folder, or module that lies beside the folders, imports itself and those of its row.
ANALYSIS: dict[str, str] = {
    "errors": "",
    "limits_of_use": "",
    "volume": "errors",
    "strict_json": "",
    "parameters": "errors",
    "anatomy": "errors volume",
    "lobes": "volume anatomy",
    "registration": "errors volume",
    "vq": "errors volume parameters",
    "measures": "errors volume anatomy registration vq",
    "pipeline": "errors volume strict_json parameters anatomy lobes registration vq measures",
    "figures": "limits_of_use volume parameters anatomy vq measures pipeline",
    "followup": "errors limits_of_use volume anatomy registration vq measures pipeline figures",
    "cohort": "errors",
    "truth": "errors limits_of_use volume anatomy registration vq pipeline figures",
    "__init__": "errors volume anatomy vq measures pipeline figures",
}
DICOM_NODE: dict[str, str] = {
    "errors": "",
    "model": "errors",
    "printable": "",
    "processes": "errors",
    "strict_json": "analysis errors",
    "troubles": "",
    "settings": "analysis errors model results",
    "dicom": "analysis errors model",
    "network": "errors printable settings dicom",
    "store": "errors model strict_json settings dicom",
    "audit": "errors printable settings network store",
    "pairing": "analysis errors model strict_json processes dicom",
    "results": "analysis errors model strict_json dicom",
    "delivery": "errors troubles settings dicom network store",
    "jobs": "analysis errors model printable processes strict_json settings dicom store pairing results delivery",
    "studies": "errors model settings dicom network store audit pairing jobs",
    "intake": "errors model printable processes settings dicom network store audit delivery studies",
    "metrics": "errors settings network store jobs studies",
    "notify": "errors troubles settings network store delivery",
    "research": "analysis errors model processes strict_json dicom pairing results",
    "node": "analysis errors model processes troubles settings dicom network store audit results delivery jobs studies "
    "pairing strict_json intake metrics notify",
    "web": "analysis errors model printable processes strict_json settings dicom network store audit pairing results "
    "delivery jobs studies intake metrics research node",
    "commands": "analysis errors printable strict_json settings dicom network store audit pairing results delivery "
    "jobs studies metrics research node web",
    "__init__": "",
}
TABLES = {"analysis": ANALYSIS, "dicom_node": DICOM_NODE}
#: Rooms whose import must load none of these, by whatever way.
OFFLINE = ("pairing", "results", "research")
NETWORK_AND_DATABASE = ("pynetdicom", "sqlalchemy", "httpx", "apscheduler")
#: What a process imports as it starts -> libraries that it has no use for while it waits, each of many megabytes.
ANALYSIS_LIBRARIES = ("scipy", "SimpleITK", "numba", "matplotlib", "highdicom")
IDLE = {
    "import dicom_node.node.node, dicom_node.web.process": ANALYSIS_LIBRARIES,
    "from dicom_node.intake import lean; lean.shut_out(); import dicom_node.intake.receivers": (
        *ANALYSIS_LIBRARIES, "numpy", "PIL", "gdcm", "httpx", "sqlalchemy.dialects.postgresql",
    ),
}  # fmt: skip


def room_of(path: Path, package: str) -> str:
    """Return the folder of a module, or its own name where it lies beside the folders."""
    return path.relative_to(ROOT / package).with_suffix("").parts[0]


def imports(source: str, module: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield (top-level package, first name below it) of every import, relative ones resolved."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top, _, rest = alias.name.partition(".")
                yield top, rest.split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            base = list(module[: len(module) - node.level]) if node.level else []
            parts = [*base, *(node.module.split(".") if node.module else [])]
            if len(parts) > 1:
                yield parts[0], parts[1]
            else:
                yield from ((parts[0], alias.name) for alias in node.names)


def forbidden(source: str, path: Path, package: str) -> list[str]:
    """Return what a module imports and its row does not allow."""
    own, table = room_of(path, package), TABLES[package]
    assert own in table, f"{own} has no row in the table"
    allowed = {own, *table[own].split()}
    module = path.relative_to(ROOT).with_suffix("").parts
    found = []
    for top, below in imports(source, module):
        if top == package:
            if below not in allowed:
                found.append(f"{top}.{below}")
        elif top == "analysis" and package == "dicom_node":
            if "analysis" not in allowed:
                found.append(top)
        elif package == "analysis" and top not in ARRAYS | STDLIB:
            found.append(top)
    return found


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", TABLES)
def test_every_module_imports_only_what_the_row_of_its_folder_allows(package: str) -> None:
    wrong = {
        str(path.relative_to(ROOT)): found
        for path in modules(package)
        if (found := forbidden(path.read_text(encoding="utf-8"), path, package))
    }
    assert wrong == {}


@pytest.mark.parametrize(("package", "room"), [(p, room) for p, table in TABLES.items() for room in table])
def test_a_forbidden_import_added_to_any_folder_fails(package: str, room: str) -> None:
    path = next(p for p in modules(package) if room_of(p, package) == room)
    source = path.read_text(encoding="utf-8")
    outside = next((r for r in TABLES[package] if r != room and r not in TABLES[package][room].split()), None)
    if outside is None:
        pytest.skip(f"{room} may import every folder")
    assert forbidden(f"{source}\nfrom {package}.{outside} import something\n", path, package) == [
        f"{package}.{outside}"
    ]


@pytest.mark.parametrize("package", TABLES)
def test_no_two_rooms_import_each_other_and_no_row_names_what_is_not_there(package: str) -> None:
    there = {room_of(path, package) for path in modules(package)}
    table = TABLES[package]
    assert set(table) == there
    order: list[str] = []
    while len(order) < len(table):
        ready = [r for r in table if r not in order and {*table[r].split()} - {"analysis"} <= {*order}]
        assert ready, f"a circle among {sorted(set(table) - set(order))}"
        order += ready


@pytest.mark.parametrize("room", OFFLINE)
def test_rooms_without_network_and_database_load_neither(room: str) -> None:
    names = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in modules("dicom_node")]
    own = [name for name in names if name.startswith(f"dicom_node.{room}.") and not name.endswith("__init__")]
    code = f"import sys, {', '.join(own)}; print(*[m for m in {NETWORK_AND_DATABASE} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


@pytest.mark.parametrize("starts", IDLE)
def test_a_process_that_waits_loads_no_library_that_it_does_not_use(starts: str) -> None:
    code = f"import sys; {starts}; print(*[m for m in {IDLE[starts]} if sys.modules.get(m)])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


@pytest.mark.parametrize("foreign", ["analysis.py", "analysis/__init__.py", "analysis/other.py"])
def test_another_package_called_analysis_is_never_computed_with(tmp_path: Path, foreign: str) -> None:
    (tmp_path / foreign).parent.mkdir(exist_ok=True)
    (tmp_path / foreign).write_text("")
    code = "import dicom_node, analysis; print(analysis.__file__)"
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env, cwd=tmp_path
    )
    if done.returncode == 0:  # a folder without __init__ comes last, wherever it lies
        assert done.stdout.strip() == str(ROOT / "analysis" / "__init__.py")
    else:
        assert (
            f"the package `analysis` of vq-dicom-node is hidden: the one that Python finds lies in {tmp_path}"
            in (done.stderr)
        )
        assert foreign != "analysis/other.py"
