"""The storage folder -> the names of the files and folders in it, which no other module spells."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

#: The 256 folders over which the files of `archive` and `quarantine` are spread, by the first byte of a hash.
SHELVES = tuple(f"{n:02x}" for n in range(256))


@dataclass(frozen=True)
class Layout:
    """The names of files and folders below a node's storage folder.

    Parameters
    ----------
    storage : Path
        Folder of the images, the results and the database; for its owner only.
    """

    storage: Path

    @property
    def archive(self) -> Path:
        """Return the folder of the images that are kept, by shelf."""
        return self.storage / "archive"

    @property
    def quarantine(self) -> Path:
        """Return the folder of damaged files, and of images sent under the UID of another image, by shelf."""
        return self.storage / "quarantine"

    @property
    def incoming(self) -> Path:
        """Return the folder of files that are being written; a start removes those that nobody writes any more."""
        return self.storage / "incoming"

    def drafts(self, member: str) -> Path:
        """Return the folder of the files that one node is writing, below `incoming`; "" for no node."""
        return self.incoming / member

    @property
    def database(self) -> Path:
        """Return the SQLite file that is used where no other database is configured."""
        return self.storage / "node.db"

    @property
    def lock(self) -> Path:
        """Return the file whose lock says that a node uses this storage."""
        return self.storage / "node.lock"

    @property
    def heartbeat(self) -> Path:
        """Return the file that the node of this machine touches at every tick; others may share the storage."""
        return self.storage / f"heartbeat-{socket.gethostname()}"

    @property
    def identity(self) -> Path:
        """Return the file that identifies this storage; the database holds the same identity."""
        return self.storage / "identity"

    @property
    def pseudonyms_key(self) -> Path:
        """Return the file of the secret from which the pseudonyms of this node's exports are made."""
        return self.storage / "pseudonyms.key"

    @property
    def patients_key(self) -> Path:
        """Return the file of the secret by which the database's digests of patients are keyed."""
        return self.storage / "patients.key"

    @property
    def results(self) -> Path:
        """Return the folder of all results, by job."""
        return self.storage / "results"

    @property
    def workspaces(self) -> Path:
        """Return the folder of the temporary files of running jobs; a start removes those of others."""
        return self.storage / "work"

    def workspace(self, job_id: int, attempt: int) -> Path:
        """Return the folder of the temporary files of one attempt of a job; it is removed at the attempt's end."""
        return self.workspaces / f"{job_id}-{attempt}"

    def results_of(self, job_id: int) -> Path:
        """Return the folder of a job's results."""
        return self.results / str(job_id)

    def relative(self, path: Path) -> str:
        """Return a path as the database keeps it: relative to the storage, with slashes."""
        return path.relative_to(self.storage).as_posix()
