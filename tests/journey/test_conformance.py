"""docs/conformance.md is what the code says, and what the code says is what real peers negotiate."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from peers import dcmtk
from pydicom.uid import UID
from pynetdicom import AE, build_role, evt

from dicom_node.dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from dicom_node.network.association import MAXIMUM_PDU
from dicom_node.network.dimse_n import SYNTAXES
from dicom_node.network.storage_scp import SERVICES, STORAGE_CLASSES, TRANSFER_SYNTAXES, Receiver
from dicom_node.node.conformance import statement
from dicom_node.settings.config import ReceiveSettings

CT = "1.2.840.10008.5.1.4.1.1.2"
MODALITY_WORKLIST_FIND = UID("1.2.840.10008.5.1.4.31")
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    events = (evt.EVT_N_ACTION, evt.EVT_N_EVENT_REPORT, evt.EVT_N_CREATE, evt.EVT_N_SET)
    handlers: dict[Any, Callable[[Any], Any]] = dict.fromkeys(events, lambda event: (0x0110, None))
    receiver = Receiver(ReceiveSettings(port=0), lambda one: "stored", lambda: 1e6, handlers)
    yield receiver.start()
    receiver.stop()


def negotiated(
    port: int, contexts: Sequence[tuple[str, Sequence[str]]], **options: Any
) -> list[tuple[str, list[str], bool, bool]]:
    """Abstract syntax, transfer syntax and this side's roles of each context that the node accepts."""
    ae = AE("CT1")
    for abstract, transfer in contexts:
        ae.add_requested_context(abstract, list(transfer))
    assoc = ae.associate("127.0.0.1", port, **options)
    assert assoc.is_established
    found = [
        (str(c.abstract_syntax), [str(t) for t in c.transfer_syntax], bool(c.as_scu), bool(c.as_scp))
        for c in assoc.accepted_contexts
    ]
    assoc.release()
    return found


def test_the_document_is_what_the_code_says() -> None:
    document = Path(__file__).parents[2] / "docs" / "conformance.md"
    assert document.read_text() == statement(), "dicom-node conformance > docs/conformance.md"


def test_a_private_code_means_one_thing() -> None:
    table = statement().split("## Private codes", 1)[1]
    values = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert len(values) > 50
    assert sorted(values) == sorted(set(values))


def test_every_class_is_taken_in_the_first_syntax_of_the_table(port: int) -> None:
    backwards = TRANSFER_SYNTAXES[:0:-1]  # all but the first
    for at in range(0, len(STORAGE_CLASSES), 60):
        some = STORAGE_CLASSES[at : at + 60]
        found = negotiated(port, [(uid, backwards[-3:]) for uid in some])
        assert sorted(found) == sorted((uid, [str(TRANSFER_SYNTAXES[1])], True, False) for uid in some)


def test_every_syntax_of_the_table_is_taken_and_no_other(port: int) -> None:
    assert negotiated(port, [(CT, TRANSFER_SYNTAXES[::-1])])[0][1] == ["1.2.840.10008.1.2.1"]
    found = negotiated(port, [(CT, [uid]) for uid in TRANSFER_SYNTAXES])
    assert sorted(uid for _, (uid,), _, _ in found) == sorted(map(str, TRANSFER_SYNTAXES))
    assert negotiated(port, [(CT, ["1.2.3.4"]), (SECONDARY_CAPTURE, ["1.2.840.10008.1.2"])]) == [
        (SECONDARY_CAPTURE, ["1.2.840.10008.1.2"], True, False)
    ]


@pytest.mark.parametrize("uid", SERVICES)
def test_the_other_services_are_taken_in_their_syntaxes_and_roles(port: int, uid: str) -> None:
    service = SERVICES[uid]
    for syntax in TRANSFER_SYNTAXES:
        taken = negotiated(port, [(uid, [syntax]), (CT, [syntax])])
        assert (uid in [found[0] for found in taken]) == (syntax in SYNTAXES), syntax
    proposed = [build_role(uid, scu_role=True, scp_role=True)]
    ((_, _, scu, scp),) = negotiated(port, [(uid, SYNTAXES)], ext_neg=proposed)
    assert (scu, scp) == (service.scu_role, service.scp_role)


def test_dcmtk_reads_the_name_and_the_pdu_size_of_the_table(port: int) -> None:
    seen = dcmtk("echoscu", "-d", "127.0.0.1", str(port))
    said = seen.stdout + seen.stderr
    told = {
        line.split(":")[1].strip(): line.split(":")[2].strip()
        for line in said.splitlines()
        if " Their " in line
    }
    assert told["Their Implementation Class UID"] == IMPLEMENTATION_CLASS_UID
    assert told["Their Implementation Version Name"] == IMPLEMENTATION_VERSION
    assert told["Their Max PDU Receive Size"] == str(MAXIMUM_PDU)


@pytest.mark.parametrize(
    ("command", "model"),
    [("findscu", "-S"), ("findscu", "-W"), ("movescu", "-S"), ("getscu", "-S")],
)
def test_queries_are_no_service_of_the_node(port: int, command: str, model: str) -> None:
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3"]
    asked = dcmtk(command, model, *keys, "127.0.0.1", str(port), check=False)
    assert asked.returncode != 0
    assert re.search("No (Acceptable|adequate) Presentation Contexts", asked.stderr)


def test_a_service_that_is_not_in_the_tables_is_refused(port: int) -> None:
    contexts = [(MODALITY_WORKLIST_FIND, SYNTAXES), (CT, SYNTAXES)]
    assert [found[0] for found in negotiated(port, contexts)] == [CT]
