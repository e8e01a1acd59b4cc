"""A real PostgreSQL of one's own that can be stopped, started and made read-only (Debian's packages; as root)."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path


class Server:
    """A PostgreSQL server on a socket in a folder of its own, gone when it is closed."""

    def __init__(self) -> None:
        self._programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        self._folder = Path(tempfile.mkdtemp(prefix="vq-postgres-"))
        shutil.chown(self._folder, "postgres")
        self.url = f"postgresql+psycopg://postgres@/postgres?host={self._folder}"
        self._run("initdb", "-D", str(self._folder / "db"), "-A", "trust")
        self.start()

    def start(self) -> None:
        """Start it, or do nothing where it runs."""
        options = f"-k {self._folder} -c listen_addresses=''"
        self._run(
            "pg_ctl",
            "-D",
            str(self._folder / "db"),
            "-l",
            str(self._folder / "log"),
            "-w",
            "-o",
            options,
            "start",
        )

    def stop(self) -> None:
        """Stop it as a crash does."""
        self._run("pg_ctl", "-D", str(self._folder / "db"), "-m", "immediate", "-w", "stop")

    def read_only(self, wanted: bool) -> bool:
        """Let it refuse all writes, as a standby does, or take them again; whether it was there to hear it."""
        words = f"ALTER SYSTEM SET default_transaction_read_only = {'on' if wanted else 'off'}"
        # a session of its own may write whatever the default is
        allowed = "SET default_transaction_read_only = off"
        psql = [
            "psql",
            "-h",
            str(self._folder),
            "-q",
            "-c",
            allowed,
            "-c",
            words,
            "-c",
            "SELECT pg_reload_conf()",
        ]
        return self._as_postgres(psql).returncode == 0

    def close(self) -> None:
        """Stop it and remove all of it."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        self._as_postgres([str(self._programs / program), *arguments])

    def _as_postgres(self, command: list[str]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", check=False,
        )  # fmt: skip
