# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real PostgreSQL for tests."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_databases = itertools.count(1)


class PostgreSql:
    """A PostgreSQL server of this test run's own, on a socket in the directory ``home``."""

    def __init__(self, programs: Path, home: Path, prefix: list[str], settings: str) -> None:
        self._programs, self.home, self._prefix = programs, home, prefix
        self._settings = f"-c listen_addresses='' -c unix_socket_directories='{home}' -c fsync=off {settings}"
        self._run("initdb", "-D", str(home / "data"), "-U", "cmdb", "-A", "trust", "-E", "UTF8", "--no-sync")

    @property
    def log(self) -> str:
        """What it has said so far."""
        return (self.home / "log").read_text(errors="replace")

    def start(self) -> None:
        """Returns once it takes connections."""
        self._run("pg_ctl", "-D", str(self.home / "data"), "-l", str(self.home / "log"), "-w", "-o", self._settings, "start")

    def stop(self, mode: str = "immediate") -> None:
        """Returns once it is gone."""
        self._run("pg_ctl", "-D", str(self.home / "data"), "-m", mode, "-w", "stop")

    def database(self) -> str:
        """The URL of a new database."""
        name = f"cmdb{next(_databases)}"
        self._run("createdb", "-h", str(self.home), "-U", "cmdb", name)
        return f"postgresql+psycopg://cmdb@/{name}?host={self.home}"

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._prefix, str(self._programs / program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.home, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


@contextmanager
def running_postgresql(settings: str = "") -> Iterator[PostgreSql]:
    """A server with further ``settings``, as its command line takes them; stopped and removed at the end."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.skip("needs PostgreSQL's server programs in /usr/lib/postgresql/*/bin (apt install postgresql)")
    programs = found[-1].parent
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("PostgreSQL won't run as root and setpriv is missing (apt install util-linux)")
    # Not below tmp_path: a socket's path has to be short, and reachable for another user.
    home = Path(tempfile.mkdtemp(prefix="tg-pg-"))
    prefix: list[str] = []
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(home, nobody.pw_uid, nobody.pw_gid)
        prefix = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]

    try:
        server = PostgreSql(programs, home, prefix, settings)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(home)
