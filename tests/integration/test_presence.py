# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run is there until its last process has ended, in whatever container it is and however long it stands still; else nothing is said."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb import presence
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from postgresql import running_postgresql
from waiting import wait_until

RUN = """
import json, os, sys, time
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb import presence
presence.enter(sys.argv[1])
worker = os.fork() if sys.argv[2:] else 1
if not worker:
    os.setsid()  # as ansible-core's workers do
    time.sleep(600)
print(json.dumps([dict(presence.mark()), os.getpid(), worker]), flush=True)
time.sleep(600)
"""
CONTAINER = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a PID namespace needs root")


@pytest.fixture
def cmdb(cmdb_url: str) -> Cmdb:
    with Cmdb.open(cmdb_url, create=True) as cmdb:
        return cmdb


@contextmanager
def run(url: str, *arguments: str, within: list[str] | None = None) -> Iterator[tuple[dict[str, Any], subprocess.Popen[str], int]]:
    """A run with its mark, and the number of a worker that it has forked."""
    command = [*(within or []), sys.executable, "-c", RUN, url, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout
        try:
            mark, _pid, worker = json.loads(process.stdout.readline())
            yield mark, process, worker
        finally:
            process.kill()


def sees(cmdb: Cmdb, mark: dict[str, Any]) -> bool | None:
    with cmdb.read() as connection:
        return cmdb.is_there(mark, connection)


@needs_root
def test_one_in_a_container_is_there_however_long_it_is_stopped_and_gone_when_the_container_is(cmdb: Cmdb, cmdb_url: str) -> None:
    with run(cmdb_url, within=CONTAINER) as (mark, container, _worker):
        assert sees(cmdb, mark) is True
        os.killpg(container.pid, signal.SIGSTOP)
        assert sees(cmdb, mark) is True
        os.killpg(container.pid, signal.SIGCONT)
        container.kill()
        wait_until(lambda: sees(cmdb, mark) is False)


def test_one_whose_worker_is_at_work_still_is_there(cmdb: Cmdb, cmdb_url: str) -> None:
    with run(cmdb_url, "with a worker") as (mark, main, worker):
        main.kill()
        main.wait()
        assert sees(cmdb, mark) is True
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: sees(cmdb, mark) is False)


def test_the_end_of_a_worker_is_not_that_of_its_run(cmdb: Cmdb, cmdb_url: str) -> None:
    with run(cmdb_url, "with a worker") as (mark, main, worker):
        os.kill(worker, signal.SIGKILL)
        assert main.poll() is None
        with run(cmdb_url) as (other, _process, _worker):
            assert other != mark
        wait_until(lambda: sees(cmdb, other) is False)
        assert sees(cmdb, mark) is True


def test_of_another_kernel_file_or_server_nothing_is_known(cmdb: Cmdb, cmdb_url: str) -> None:
    with run(cmdb_url) as (mark, process, _worker):
        process.kill()
    wait_until(lambda: sees(cmdb, mark) is False)
    changes: dict[str, Any] = {"boot": "another", "file": "1:1", "byte": "x", "server": "another", "session": None}
    seen = {name: sees(cmdb, mark | {name: value}) for name, value in changes.items() if name in mark}
    assert seen
    assert set(seen.values()) == {None}
    assert sees(cmdb, {}) is None


def test_a_file_of_locks_that_somebody_has_removed_says_nothing(tmp_path: Path) -> None:
    url = str(tmp_path / "cmdb.sqlite")
    with Cmdb.open(url, create=True) as cmdb, run(url) as (mark, _process, _worker):
        assert sees(cmdb, mark) is True
        (tmp_path / "cmdb.sqlite-runs").unlink()
        assert sees(cmdb, mark) is None
        with run(url) as (other, _other_process, _other_worker):
            assert (sees(cmdb, mark), sees(cmdb, other)) == (None, True)


def test_whoever_may_write_to_the_file_may_show_that_it_is_there(tmp_path: Path) -> None:
    url = str(tmp_path / "cmdb.sqlite")
    with Cmdb.open(url, create=True):
        Path(url).chmod(0o660)
    with run(url):
        assert (tmp_path / "cmdb.sqlite-runs").stat().st_mode & 0o777 == 0o660


def test_on_a_file_system_that_is_not_this_kernels_own_there_is_no_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert presence._file_system(Path("/proc/self")) == "proc"
    monkeypatch.setattr(presence, "_LOCAL", frozenset({"nfs4"}))
    with Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True):
        assert presence._lock_byte(tmp_path / "cmdb.sqlite") == {}


def test_a_run_goes_on_without_a_mark_where_there_is_no_cmdb(tmp_path: Path) -> None:
    for url in (str(tmp_path / "none.sqlite"), f"postgresql://nobody@/none?host={tmp_path}"):
        with run(url) as (mark, process, _worker):
            assert (mark, process.poll()) == ({}, None)


def test_a_server_that_was_down_says_nothing_of_those_before() -> None:
    with running_postgresql() as server:
        url = server.database()
        with Cmdb.open(url, create=True) as cmdb, run(url) as (mark, _process, _worker), run(url) as (other, _other, _other_worker):
            # One session that dies badly takes all the others with it, while the server's first process lives on.
            os.kill(other["session"], signal.SIGKILL)
            wait_until(lambda: "all server processes terminated; reinitializing" in server.log)
            assert wait_until(lambda: [sees(cmdb, mark)]) == [None]
            server.stop("fast")
            server.start()
            assert sees(cmdb, mark) is None


def test_a_session_is_not_ended_for_being_idle(postgresql: Callable[[], str]) -> None:
    url = postgresql()
    with Cmdb.open(url, create=True) as cmdb, cmdb.begin() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {sa.make_url(url).database} SET idle_session_timeout = '500ms'")
    with run(url) as (mark, _process, _worker), sa.create_engine(url, poolclass=sa.NullPool).connect() as idle:
        own = idle.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        idle.commit()
        ended = "SELECT NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid = %(pid)s)"
        with sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT").connect() as other:
            wait_until(lambda: other.exec_driver_sql(ended, {"pid": own}).scalar())
        idle.invalidate()
        assert sees(cmdb, mark) is True


def test_behind_a_pooler_there_is_no_mark(postgresql: Callable[[], str]) -> None:
    pooler = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if not pooler:
        pytest.skip("needs pgbouncer (apt install pgbouncer)")
    url = postgresql()
    with Cmdb.open(url, create=True):
        name, server = str(sa.make_url(url).database), sa.make_url(url).query["host"]
    with tempfile.TemporaryDirectory(prefix="tg-pool-") as home:  # a socket's path has to be short, and reachable for another user
        folder = Path(home)
        folder.chmod(0o777)
        (folder / "settings.ini").write_text(
            f"[databases]\n{name} = host={server} user=cmdb\n"
            f"[pgbouncer]\nlisten_addr =\nunix_socket_dir = {home}\nauth_type = any\npool_mode = transaction\n"
        )
        user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
        with subprocess.Popen([*user, pooler, "-q", str(folder / "settings.ini")], stderr=subprocess.DEVNULL) as process:
            try:
                wait_until((folder / ".s.PGSQL.6432").exists)
                pooled = f"postgresql+psycopg://cmdb@/{name}?host={home}&port=6432"
                with sa.create_engine(pooled, poolclass=sa.NullPool).connect() as connection:
                    assert connection.exec_driver_sql("SELECT 1").scalar() == 1
                with run(pooled) as (mark, _process, _worker):
                    assert mark == {}
            finally:
                process.kill()
