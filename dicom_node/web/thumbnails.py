"""A stored image -> a small picture of it, decoded in a process of its own and kept for a while."""

from __future__ import annotations

from .problems import Conflict, NotThere
from .site import Ask, Site


def thumbnail(site: Site, ask: Ask) -> bytes:
    """Return a small picture of an image as PNG.

    Raises
    ------
    NotThere
        Where there is no such image.
    Conflict
        Where its pixels cannot be decoded.
    """
    uid = ask.path["instance"]
    if (kept := site.pictures.get(uid)) is not None:
        return kept
    path = site.archive.paths([uid]).get(uid)
    if path is None:
        raise NotThere(f"there is no image {uid[:64]}")
    with site.decoding:  # the process reads one image at a time
        (made,) = site.previews.read_all([path])
    if isinstance(made, str):
        raise Conflict(made)
    site.pictures.put(uid, made)
    return made
