"""dcmtk's encoders: an image in another transfer syntax."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def encoded(command: list[str], path: Path) -> Path:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} (dcmtk) is not installed")
    out = path.with_suffix(".enc")
    environment = {**os.environ, "TCP_NODELAY": "1"}
    keep = ["+un"] if command[0] in ("dcmcjpeg", "dcmcjpls") else []
    subprocess.run([*command, *keep, str(path), str(out)], check=True, env=environment, capture_output=True)
    return out
