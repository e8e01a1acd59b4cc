"""The example notebooks run as they stand, and what they print is what they promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
#: Script -> what it must print, and the files it leaves.
PROMISED = {
    "one_pair.py": (("Analysis(", "Shunt", "is the truth"), ("overview.png", "result.npz")),
    "own_lungs_and_field.py": (("DisplacementField(up to", "refused: "), ("lungs.nii.gz",)),
    "many_patients.py": (("r² = ", "adjusted for age", "intervention"), ("cohort.png", "groups.png")),
}


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(PROMISED)


#: One registers a pair, which takes fifteen seconds.
SLOW = {"one_pair.py": pytest.mark.slow}


@pytest.mark.parametrize("name", [pytest.param(n, marks=SLOW.get(n, ())) for n in PROMISED])
def test_an_example_runs_as_it_stands(name: str, tmp_path: Path) -> None:
    words, files = PROMISED[name]
    command = [sys.executable, "-W", "error::DeprecationWarning:__main__", str(EXAMPLES / name)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MPLBACKEND": "Agg"},
    )
    assert done.returncode == 0, done.stderr
    assert [word for word in words if word not in done.stdout] == []
    assert all((tmp_path / "example-output" / file).stat().st_size > 1000 for file in files)
    assert "# %% [markdown]" in (EXAMPLES / name).read_text()
