"""Lints the chart and renders it into a folder, for one node and for three: ``render.py CHART FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import helm_python

CASES: dict[str, dict[str, Any]] = {
    "one": {},
    "three": {
        "replicas": 3,
        "secret": "node-files",
        "storage": {"accessMode": "ReadWriteMany", "className": "nfs"},
    },
}


def main(chart: str, folder: Path) -> None:
    print(helm_python.lint(chart))
    for name, values in CASES.items():
        with helm_python.Chart.load(chart) as loaded:
            for path, text in loaded.render(values, name=f"vq-{name}", namespace="default").items():
                for n, document in enumerate(part for part in text.split("\n---\n") if part.strip()):
                    (folder / f"{name}-{Path(path).stem}-{n}.yaml").write_text(document)
    with helm_python.Chart.load(chart) as loaded:
        try:
            loaded.render({"replicas": 2}, name="two", namespace="default")
        except helm_python.HelmError as error:
            print(f"two nodes on a volume of one pod are refused: {error}")
        else:
            raise SystemExit("two nodes on a volume of one pod are not refused")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
