"""The lock fits the ranges of pyproject.toml, has a hash for every pin, and names no place of the one who made it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "deploy" / "requirements.lock").read_text(encoding="utf-8")
#: Name, version and hashes of each pin; a package may have several, for different versions of Python.
PINS = re.findall(
    r"^([\w.-]+)==(\S+)[^\n]*?\\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", LOCK, flags=re.M
)


def test_every_pin_has_a_hash() -> None:
    assert len(PINS) == len(re.findall(r"^\S+==", LOCK, flags=re.M)) > 20


def test_every_dependency_is_pinned_within_its_range() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]["postgres"]
    wanted = [*project["project"]["dependencies"], *extras, *project["build-system"]["requires"]]
    for requirement in map(Requirement, wanted):
        found = [version for name, version, _ in PINS if name == canonicalize_name(requirement.name)]
        assert found, f"{requirement.name} is not in the lock: sh deploy/lock.sh"
        assert all(requirement.specifier.contains(version) for version in found), requirement


def test_the_lock_names_no_index_and_no_path() -> None:
    lines = [line for line in LOCK.splitlines() if not line.lstrip().startswith("--hash")]
    assert [line for line in lines if re.search(r"://|--(index|extra|find|trusted)|(^|\s)/", line)] == []
