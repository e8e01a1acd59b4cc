"""The storage -> the node's own secrets, each made when it is first needed."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import fields
from pathlib import Path

from ..errors import Unavailable
from ..model import Person
from ..settings.layout import Layout
from .durable import make_folder, write_file


def node_key(layout: Layout) -> bytes:
    """Return the secret from which this node's pseudonyms are made; whoever has it can link them to patients.

    Raises
    ------
    Unavailable
        Where the secret cannot be written.
    """
    return make_key(layout, layout.pseudonyms_key)


def make_key(layout: Layout, path: Path) -> bytes:
    """Return the secret that a file holds, for its owner only; a random one is written where the file is missing.

    Raises
    ------
    Unavailable
        Where the secret cannot be written.
    """
    make_folder(layout.storage)
    if not path.exists():
        write_file(path, [secrets.token_bytes(32)], make_folder(layout.incoming))
    return path.read_bytes()


def patients_key(layout: Layout) -> bytes:
    """Return the secret by which the database's digests of patients are keyed (`patients.protect` makes it).

    Raises
    ------
    Unavailable
        Where it cannot be read.
    """
    try:
        return layout.patients_key.read_bytes()
    except OSError as error:
        raise Unavailable(f"the key {layout.patients_key} cannot be read: {error.strerror}") from error


def keyed(key: bytes, digest: str) -> str:
    """Return a digest that only whoever has the key can make (HMAC-SHA-256, RFC 2104); "" for "".

    Patient IDs and birth dates are so few that a digest without a key is found by trying all of them.

    Examples
    --------
    >>> keyed(b"key", "a") == keyed(b"key", "a"), keyed(b"key", "a") == keyed(b"other", "a"), keyed(b"key", "")
    (True, False, '')
    """
    return hmac.digest(key, digest.encode(), hashlib.sha256).hex() if digest else ""


def keyed_person(key: bytes, person: Person) -> Person:
    """Return a person whose every digest is keyed."""
    return Person(**{field.name: keyed(key, getattr(person, field.name)) for field in fields(Person)})
