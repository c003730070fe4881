# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_databases = itertools.count(1)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], str]]:
    """A PostgreSQL server of this test run's own, on a socket in a temporary directory; call it for the URL of a new database."""
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

    def run(*command: str) -> None:
        done = subprocess.run([*prefix, *command], capture_output=True, text=True, cwd=home, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    def make() -> str:
        name = f"cmdb{next(_databases)}"
        run(str(programs / "createdb"), "-h", str(home), "-U", "cmdb", name)
        return f"postgresql+psycopg://cmdb@/{name}?host={home}"

    data = str(home / "data")
    try:
        run(str(programs / "initdb"), "-D", data, "-U", "cmdb", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories='{home}' -c fsync=off"
        run(str(programs / "pg_ctl"), "-D", data, "-l", str(home / "log"), "-w", "-o", options, "start")
        try:
            yield make
        finally:
            run(str(programs / "pg_ctl"), "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(home)


@pytest.fixture(params=["sqlite", "postgresql"])
def cmdb_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a CMDB can be made: each test that asks for it runs on SQLite and on a real PostgreSQL."""
    if request.param == "sqlite":
        return str(tmp_path / "cmdb.sqlite")
    url: str = request.getfixturevalue("postgresql")()
    return url
