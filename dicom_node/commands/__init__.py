"""What a person types -> what the other rooms do, an exit code and one sentence.

In: arguments and one configuration file. Out: terminal and files. The only room that configures logs.
"""

from __future__ import annotations


def main() -> None:
    """Run the program `dicom-node`; the node's child processes import this module too, so that it must be small."""
    from .app import main as run

    run()
