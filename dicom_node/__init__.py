"""A DICOM node: paired inspiratory/expiratory CT in, V/Q results out.

The rooms, in the order in which each may import those before it (docs/architecture.md tells the journeys through them):

==============  ================================================================================
`settings`      one TOML file -> frozen settings
`dicom`         files of anybody -> headers, pixels and masks that may be trusted
`network`       a connection -> DICOM messages, within limits
`store`         bytes and rows -> the same after a power cut
`audit`         what happened -> DICOM audit messages
`pairing`       headers -> a pair, or why not; a pair -> an Analysis
`results`       an Analysis -> DICOM objects and files
`delivery`      results -> their destinations
`jobs`          a pair -> a job and the process that works on it
`studies`       what is known of a study -> what is decided
`intake`        what comes over the network -> durable files and rows
`research`      files on disk -> results on disk; no node
`node`          a configuration -> a node that runs
`commands`      what a person types -> the other rooms
==============  ================================================================================
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

# `analysis` is a name that others use, too: another package of that name, found first, would be computed with
_found = find_spec("analysis")
_origin = Path(_found.origin) if _found is not None and _found.origin else None
if _origin is None or _origin.parents[1] != Path(__file__).parents[1]:
    _where = "nowhere" if _origin is None else f"in {_origin.parent}"
    raise ImportError(
        f"the package `analysis` of vq-dicom-node is hidden: the one that Python finds lies {_where}; "
        "use an environment of its own (docs/operating.md)"
    )
