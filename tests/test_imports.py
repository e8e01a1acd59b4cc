"""The direction of imports: analysis knows no DICOM, a module of it only those above; a step imports no other step."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ANALYSIS_MAY = {"numpy", "scipy", "SimpleITK", "numba", "matplotlib", "PIL"}

#: analysis, in the order of computation: a module imports only modules above it.
ORDER = (
    *(
        "errors",
        "volume",
        "smoothing",
        "morphology",
        "body",
        "airways",
        "pleura",
        "lungs",
        "registration",
        "ventilation",
    ),
    *(
        "perfusion",
        "parameters",
        "subregions",
        "classes",
        "regions",
        "measures",
        "quality",
        "phase",
        "lobes",
        "maps",
    ),
    *("uncertainty", "pipeline", "phantom", "convergence", "fields", "motion"),
    *(
        "defects",
        "sliding",
        "breathing",
        "scanner",
        "twins",
        "colours",
        "captures",
        "figures",
        "trend",
        "report",
        "validation",
        "gas_transfer",
        "cohort",
        "cohort_figures",
        "longitudinal",
        "longitudinal_figures",
    ),
)

STEPS = {
    "receive",
    "archive",
    "headers",
    "series",
    "pairing",
    "jobs",
    "volumes",
    "objects",
    "deliver",
    "confirm",
    "commit",
    "performed",
    "retrieve",
    "retention",
}
JOINERS = {
    "lobes",
    "worker",
    "node",
    "acceptors",
    "cli",
    "conformance",
    "local",
    "demo",
    "check",
    "validate",
    "cohort",
    "cohort_table",
    "cohort_pages",
    "cohort_report",
    "export",
    "deidentify",
    "compare",
}
#: Shared by steps: values, settings, and what several of them stand on.
SUPPORT = {
    "images",
    *(
        "model",
        "errors",
        "config",
        "database",
        "durable",
        "association",
        "tls",
        "malformed",
        "limits",
        "phase",
        "analysis",
    ),
    *("ct_series", "index", "studies", "crew", "child", "schedule", "status", "bars", "parcel"),
    *("store_scu", "stow_rs", "upper_layer", "dimse", "group_commit", "part10", "request"),
    *("audit", "audit_message", "syslog"),
    "record",
    "priors",
    "confidentiality",
}


def imports(path: Path, package: str):
    """(module, first name below the package) of every import of a file, relative ones resolved."""
    here = ("", *path.relative_to(ROOT / package).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = [p for p in here[: len(here) - node.level] if p]
            parts = [*base, *(node.module or "").split(".")]
            parts = [p for p in parts if p]
            yield from ([(package, parts[0])] if parts else [(package, a.name) for a in node.names])
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".")
            yield module[0], module[1] if len(module) > 1 else ""


def modules(package: str):
    return [pytest.param(p, id=str(p.relative_to(ROOT))) for p in sorted((ROOT / package).rglob("*.py"))]


def step_of(path: Path, package: str) -> str:
    return path.relative_to(ROOT / package).with_suffix("").parts[0]


@pytest.mark.parametrize("path", modules("analysis"))
def test_analysis_imports_arrays_only_and_what_stands_above(path):
    own = step_of(path, "analysis")
    for top, below in imports(path, "analysis"):
        if top == "analysis" and own != "__init__" and below and below != own:
            assert below in ORDER, f"{below} is not in the order of computation"
            assert ORDER.index(below) < ORDER.index(own), f"{own} imports {below}, which stands below it"
        elif top != "analysis":
            assert top in ANALYSIS_MAY or top in STDLIB, f"analysis imports {top}"


@pytest.mark.parametrize("path", modules("dicom_node"))
def test_a_step_of_the_journey_imports_no_other_step(path):
    own = step_of(path, "dicom_node")
    assert own in {*STEPS, *JOINERS, *SUPPORT, "__init__"}, f"{own} has no place in the journey"
    for top, below in imports(path, "dicom_node"):
        if top != "dicom_node" or own in JOINERS or below in ("", own):
            continue
        if own in (*STEPS, *SUPPORT):
            assert below in SUPPORT, f"{own} imports {below}"


STDLIB = set(__import__("sys").stdlib_module_names)
