from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.errors import Rejected
from dicom_node.settings.config import Config, MetricsSettings, read_config
from dicom_node.settings.destinations import CStoreDestination, FolderDestination, StowRsDestination
from dicom_node.settings.notify import EVENTS, SmtpChannel, WebhookChannel
from dicom_node.settings.peers import Peer

EXAMPLE = Path(__file__).parents[3] / "deploy" / "node.toml"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(text)
    return path


def test_the_example_is_read_and_is_the_defaults() -> None:
    assert replace(read_config(EXAMPLE), storage=Config().storage) == Config()


def test_the_examples_that_are_no_defaults_can_be_used_as_they_stand(tmp_path: Path) -> None:
    text = re.sub(r"^#(?=\[|\w+ = )", "", EXAMPLE.read_text(encoding="utf-8"), flags=re.M)
    text = text.replace('file = "audit.log"\n', "")  # either a file or a host
    text = text.replace('engine = "local"', 'engine = "dask"').replace(
        'database = ""', "database = 'postgresql+psycopg://vq@db/vq'"
    )
    config = read_config(written(tmp_path, text))
    assert config.receive.peers == (Peer("CT1", "10.1.2.0/24", 104), Peer("", "127.0.0.1"))
    assert config.receive.tls is not None
    pacs, web, share = config.destinations
    plain = CStoreDestination("pacs", ae_title="ORTHANC", host="127.0.0.1", port=4242)
    assert isinstance(pacs, CStoreDestination)
    assert replace(pacs, tls=None) == plain
    assert isinstance(web, StowRsDestination)
    assert isinstance(share, FolderDestination)
    assert (web.kind, web.url) == ("STOW-RS", "https://pacs.example.org/dicom-web")
    assert (share.kind, share.folder) == ("folder", Path("/srv/vq-results"))
    assert config.metrics == MetricsSettings()
    mail, hook = config.notify
    assert (type(mail), type(hook)) == (SmtpChannel, WebhookChannel)
    assert mail.events == EVENTS


def test_an_empty_file_is_the_embedded_default_on_loopback(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, ""))
    assert config.receive.host == "127.0.0.1"
    assert config.database_url == f"sqlite:///{tmp_path}/dicom-node-data/node.db"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[receive]\nprot = 1\n", "line 2: unknown key 'prot' in [receive]; is 'port' meant?"),
        ("tick = 1\n", "line 1: unknown key 'tick'"),
        ('[receive]\nae_title = "A"\nport = "x"\n', "line 3: 'port' must be a whole number, not 'x'"),
        ("[receive]\nport = true\n", "line 2: 'port' must be a whole number, not True"),
        ("[analysis]\ngrid_mm = 2\nlow = 'x'\n", "line 3: 'low' must be a number"),
        (
            '[[destinations]]\nname = "a"\nhost = "h"\n',
            "'ae_title' is missing in [destinations]",
        ),
        ("[receive]\nport = 70000\n", "line 2: a port is 0 to 65535, not 70000 in [receive]"),
        ('[receive]\nae_title = "MUCH TOO LONG A TITLE"\n', "line 2: an AE title is 1 to 16"),
        (
            "[analysis]\ngrid_mm = 2\nlow = 60\n",
            "line 3: low is a share and less than 1, e.g. 0.6 for 60 %, not 60",
        ),
        (
            '[[destinations]]\nname = "a"\nae_title = "A"\nhost = "h"\n'
            '[[destinations]]\nname = "b"\nae_title = "A"\nhost = "h"\nport = 0\n',
            "line 9: a port is 1 to 65535, not 0 in [destinations]",
        ),
        (
            '[[destinations]]\nname = "a"\nae_title = "A"\nhost = "h"\n[[destinations]]\nname = "b"\n'
            'ae_title = "A"\nhost = "h"\n[destinations.tls]\ncertificate = "c"\nkey = "k"\nauthority = "a"\n',
            "line 12: unknown key 'authority' in [destinations.tls]; is 'authorities' meant?",
        ),
        (
            '[[notify]]\nname = "a"\nkind = "pigeon"\n',
            "line 3: 'kind' must be one of SMTP, webhook, not 'pigeon'",
        ),
        ('[[receive.peers]]\naddress = "10.1.2.300"\n', "an IP address or network, not '10.1.2.300'"),
        ("[[receive.peers]]\n", "a peer needs an ae_title, an address, or both"),
        ("[colour]\nred = 1\n", "line 1: unknown key 'colour'"),
        ("port = = 1\n", "line 1"),
    ],
)
def test_what_is_wrong_is_said_with_file_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(Rejected) as caught:
        read_config(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        'tick = 1\n[receive]\nport = 70000\n[jobs]\nconcurrency = "2"\nnice = 99\n'
        '[[destinations]]\nname = "a"\nhost = "h"\nprot = 1\n[analysis]\nlow = 60\n',
    )
    with pytest.raises(Rejected) as caught:
        read_config(path)
    said = [line.removeprefix(f"{path}, ") for line in str(caught.value).splitlines()]
    assert [line.split(":")[0] for line in said] == [
        "line 1",
        "line 3",
        "line 5",
        "line 10",
        "line 7",
        "line 12",
    ]
    assert "'concurrency' must be a whole number" in said[2]
    assert said[4] == "line 7: 'ae_title' is missing in [destinations]"


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="No such file"):
        read_config(tmp_path / "none.toml")


def test_two_destinations_of_one_name_are_refused(tmp_path: Path) -> None:
    one = '[[destinations]]\nname = "a"\nae_title = "A"\nhost = "h"\n'
    with pytest.raises(Rejected, match="a name of its own"):
        read_config(written(tmp_path, one + one))


@pytest.mark.parametrize(
    ("peer", "ae_title", "address", "allowed"),
    [
        (Peer("CT1"), "CT1", "192.0.2.1", True),
        (Peer("CT1"), "CT2", "192.0.2.1", False),
        (Peer("", "192.0.2.0/24"), "X", "::ffff:192.0.2.9", True),
        (Peer("CT1", "192.0.2.1"), "CT1", "192.0.2.2", False),
        (Peer("", "2001:db8::/32"), "X", "192.0.2.9", False),
    ],
)
def test_peers_are_matched_by_title_and_network(
    peer: Peer, ae_title: str, address: str, allowed: bool
) -> None:
    assert peer.matches(ae_title, address) is allowed


def test_a_lobes_program_needs_a_ct_and_a_place_for_the_lobes(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('[jobs]\nlobes_command = ["draw", "{ct}", "{lobes}"]\n')
    assert read_config(file).jobs.lobes_command == ("draw", "{ct}", "{lobes}")
    file.write_text('[jobs]\nlobes_command = ["draw", "{ct}"]\n')
    with pytest.raises(Rejected, match=r"\{lobes\}"):
        read_config(file)
