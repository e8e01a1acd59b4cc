"""What this room uses of pynetdicom without being promised it: each name and signature is in what is installed."""

from __future__ import annotations

import ast
import inspect
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import P_DATA

from dicom_node.network import acceptor, c_store_codec, upper_layer

ROOT = Path(__file__).parents[3]

#: Private functions -> their parameters; those that are overridden and those that are called.
FUNCTIONS: dict[str, tuple[Any, str, tuple[str, ...]]] = {
    "_bind_defaults": (Association, "_bind_defaults", ("self",)),
    "_run_reactor": (Association, "_run_reactor", ("self",)),
    "_serve_request": (Association, "_serve_request", ("self", "msg", "context_id")),
    "_decode_pdu": (DULServiceProvider, "_decode_pdu", ("self", "bytestream")),
    "_read_pdu_data": (DULServiceProvider, "_read_pdu_data", ("self",)),
    "_process_recv_primitive": (DULServiceProvider, "_process_recv_primitive", ("self",)),
}
#: Private values -> who has them.
VALUES = {
    "_INTERVENTION_EVENTS": "events",
    "_dul_ready": "association",
    "_is_paused": "association",
    "_kill": "association",
    "_reactor_checkpoint": "association",
    "_server": "association",
    "_idle_timer": "upper layer",
    "_kill_thread": "upper layer",
    "_recv_pdu": "upper layer",
    "_presentation_data_value_list": "P-DATA",
    "_data_set_file": "message",
    "_data_set_path": "message",
    "_context_id": "primitive",
}
#: Classes that are derived from pynetdicom's -> their base.
DERIVED = {
    acceptor.Acceptor: Association,
    upper_layer.UpperLayer: DULServiceProvider,
    c_store_codec.Dimse: DIMSEServiceProvider,
    c_store_codec._StoreRequest: DIMSEMessage,
}


@pytest.fixture(scope="module")
def things() -> dict[str, Any]:
    association = Association(AE(), "acceptor")
    return {
        "events": evt,
        "association": association,
        "upper layer": association.dul,
        "P-DATA": P_DATA(),
        "message": C_STORE_RQ(),
        "primitive": C_STORE(),
    }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_private_function_has_the_parameters_it_is_called_with(name: str) -> None:
    owner, attribute, parameters = FUNCTIONS[name]
    assert tuple(inspect.signature(getattr(owner, attribute)).parameters) == parameters


@pytest.mark.parametrize("name", VALUES)
def test_each_private_value_is_there(name: str, things: dict[str, Any]) -> None:
    assert hasattr(things[VALUES[name]], name)


@pytest.mark.parametrize("derived", DERIVED, ids=lambda one: one.__name__)
def test_what_overrides_a_method_of_pynetdicom_has_its_signature(derived: type) -> None:
    base = DERIVED[derived]
    for name, function in vars(derived).items():
        theirs = getattr(base, name, None)
        if inspect.isfunction(function) and theirs is not None and name != "__init__":
            mine, other = inspect.signature(function).parameters, inspect.signature(theirs).parameters
            assert [(p.name, p.kind) for p in mine.values()] == [(p.name, p.kind) for p in other.values()], (
                name
            )


def private_names(path: Path) -> set[str]:
    """Private names of objects of others that a module uses, and of pynetdicom's that it imports."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not (
            isinstance(node.value, ast.Name) and node.value.id == "self"
        ):
            found |= {node.attr} if node.attr.startswith("_") and not node.attr.startswith("__") else set()
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pynetdicom"):
            names = [*(node.module or "").split(".")[1:], *(alias.name for alias in node.names)]
            found |= {name for name in names if name.startswith("_")}
    return found


def test_this_room_uses_no_other_private_name() -> None:
    ours = {"_request"}  # of the class it stands in
    for path in sorted((ROOT / "dicom_node" / "network").glob("*.py")):
        assert private_names(path) <= {*FUNCTIONS, *VALUES} | ours, path.name


def test_no_other_room_uses_a_private_name_of_pynetdicom() -> None:
    for path in sorted((ROOT / "dicom_node").rglob("*.py")):
        if path.parent.name != "network":
            assert not private_names(path) & {*FUNCTIONS, *VALUES}, path
            imported = [n for n in private_names(path) if f"import {n}" in path.read_text(encoding="utf-8")]
            assert "pynetdicom" not in path.read_text(encoding="utf-8") or not imported, path


def test_the_version_is_one_these_names_were_looked_up_in() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert "pynetdicom>=3.0.4,<3.1" in wanted
    assert (3, 0, 4) <= tuple(int(part) for part in version("pynetdicom").split(".")[:3]) < (3, 1)
