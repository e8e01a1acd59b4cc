"""What the demo says while it waits."""

from __future__ import annotations

from dicom_node.commands.demonstration import _share
from dicom_node.node.status import Delivery


def test_the_share_delivered_counts_objects() -> None:
    rows = [
        Delivery(1, "pacs", state, objects, 1, None, "")
        for state, objects in (("SENT", 3), ("QUEUED", 4), ("RETRY", 1))
    ]
    assert _share(rows) == 0.375
    assert _share([]) == 0.0
