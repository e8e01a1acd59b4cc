"""A real pair goes through a Dask worker, as far as the PACS: run by `sh tests/cluster.sh`."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from cluster import settled
from cluster_site import Cluster, Scanner

from dicom_node.store.tables import job, result

pytestmark = pytest.mark.slow
pytest.importorskip("distributed", reason="the extra `dask` is not installed")


@pytest.fixture(scope="module")
def pair(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both phases of the POPI pair, as DICOM."""
    folder = tmp_path_factory.mktemp("popi")
    with zipfile.ZipFile(shared / "real-pair-popi" / "popi-pair-2.5mm.zip") as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.endswith(".dcm")])
    return folder


def done(folder: Path, pair: Path, workers: int) -> tuple[Any, dict[str, Any], dict[str, int], set[str]]:
    """Send the pair to a node; its job, its measures, what came to the PACS and what was to come there."""
    if os.geteuid():
        pytest.skip("only root starts PostgreSQL as its user")
    site = Cluster(folder, 1, workers)
    try:
        scanner = Scanner([pair], site.ports, 1.0)
        assert site.until(lambda _: scanner.send(pair, site.ports[0]) == 0, 120)
        assert scanner.responses == len(list(pair.rglob("*.dcm"))) == 222
        assert site.until(settled(1), 1200), [p.read_text()[-2000:] for p in folder.glob("*.log")]
        database = site.database()
        with database.reading() as connection:
            row = connection.execute(sa.select(job)).one()
            kinds = result.c.path.like("%-seg.dcm") | result.c.path.like("%-sr.dcm")
            wanted = set(connection.scalars(sa.select(result.c.sop_instance_uid).where(kinds)))
        database.close()
        measures = json.loads((site.storage / "results" / str(row.id) / "measures.json").read_text())
        return row, measures, dict(site.pacs.came), wanted
    finally:
        site.close()


def test_a_real_pair_is_done_by_a_dask_worker_with_the_numbers_of_the_nodes_own_process(
    pair: Path, tmp_path: Path
) -> None:
    row, measures, came, wanted = done(tmp_path / "dask", pair, 1)
    assert (row.state, row.attempt, row.crashes) == ("DONE", 1, 0)
    assert row.worker.rpartition(":")[2].isdecimal()
    assert came == dict.fromkeys(wanted, 1)
    assert wanted
    own, other, came, wanted = done(tmp_path / "local", pair, 0)
    assert (own.state, own.attempt, own.worker) == ("DONE", 1, "")
    assert came == dict.fromkeys(wanted, 1)
    assert measures["measures"] == other["measures"]
    assert measures["parameters"] == other["parameters"]
