"""The storage folder -> the names of all that lies in it; no other module spells them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

#: The 256 folders over which the files of `archive` and `quarantine` are spread, by the first byte of a hash.
SHELVES = tuple(f"{n:02x}" for n in range(256))


@dataclass(frozen=True)
class Layout:
    """The names below a node's storage folder.

    Parameters
    ----------
    storage : Path
        Folder of the images, the results and the database; for its owner only.
    """

    storage: Path

    @property
    def archive(self) -> Path:
        """Folder of the images that are kept, by shelf."""
        return self.storage / "archive"

    @property
    def quarantine(self) -> Path:
        """Folder of what came under the UID of another image, and of damaged files, by shelf."""
        return self.storage / "quarantine"

    @property
    def incoming(self) -> Path:
        """Folder of files that are being written; emptied at each start."""
        return self.storage / "incoming"

    @property
    def database(self) -> Path:
        """SQLite file of the embedded default."""
        return self.storage / "node.db"

    @property
    def lock(self) -> Path:
        """File whose lock says that a node uses this storage."""
        return self.storage / "node.lock"

    @property
    def identity(self) -> Path:
        """File that says which storage this is; the database knows it, too."""
        return self.storage / "identity"

    @property
    def pseudonyms_key(self) -> Path:
        """Secret that the pseudonyms of this node's exports come from."""
        return self.storage / "pseudonyms.key"

    @property
    def results(self) -> Path:
        """Folder of all results, by job."""
        return self.storage / "results"

    @property
    def workspaces(self) -> Path:
        """Folder of the temporary files of running jobs; emptied at each start."""
        return self.storage / "work"

    def workspace(self, job_id: int, attempt: int) -> Path:
        """Folder of the temporary files of one attempt of a job; removed at its end."""
        return self.workspaces / f"{job_id}-{attempt}"

    def results_of(self, job_id: int) -> Path:
        """Folder of a job's results."""
        return self.results / str(job_id)

    def relative(self, path: Path) -> str:
        """A path as the database keeps it: below the storage, with slashes."""
        return path.relative_to(self.storage).as_posix()
