"""The storage -> the node's own secret, made when it is first needed."""

from __future__ import annotations

import secrets

from ..settings.layout import Layout
from .durable import make_folder, write_file


def node_key(layout: Layout) -> bytes:
    """Return the secret from which this node's pseudonyms are made; whoever has it can link them to patients.

    Raises
    ------
    Unavailable
        Where the secret cannot be written.
    """
    make_folder(layout.storage)
    if not layout.pseudonyms_key.exists():
        write_file(layout.pseudonyms_key, [secrets.token_bytes(32)], make_folder(layout.incoming))
    return layout.pseudonyms_key.read_bytes()
