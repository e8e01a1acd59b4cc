"""What the processes of a crew do in tests: in a module that imports little, for they are spawned."""

import subprocess
import sys
import time
from pathlib import Path

from dicom_node.processes import begin


def sleep(_folder: Path) -> None:
    begin()
    time.sleep(600)


def sleep_with_program(folder: Path) -> None:
    """Start a program, as a user's is, and wait for it."""
    begin()
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (folder / "pid").write_text(str(program.pid))
    program.wait()


def die(_folder: Path) -> None:
    begin()
    sys.exit(7)
