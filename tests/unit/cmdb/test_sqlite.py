# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many connections workers make, and what their end leaves."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb import sqlite
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cmdb.sqlite"
    with Cmdb.open(str(path), create=True):
        return path


def _in_worker(work: Callable[[], object]) -> None:
    worker = multiprocessing.get_context("fork").Process(target=work)
    worker.start()
    worker.join()
    assert worker.exitcode == 0


def _log(file: Path) -> Path:
    return file.with_name(f"{file.name}-wal")


def _open_files() -> list[str]:
    links = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return [os.readlink(link) for link in links if link.is_symlink()]


def _put(cmdb: Cmdb, *names: str) -> None:
    for name in names:
        cmdb.put_cis([{"name": name}], "test")


def test_a_worker_makes_one_connection_for_all_its_transactions(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: made.append(args) or connect(*args, **options))

    def work() -> None:
        with Cmdb.open(str(file)) as cmdb:
            _put(cmdb, "web1", "web2")
            assert len(cmdb.query()) == 2
            with cmdb.read(), cmdb.read():  # a second one at the same time needs a second one
                pass
        assert len(made) == 2
        assert str(file) not in _open_files()

    _in_worker(work)


def test_a_process_that_forks_workers_leaves_nothing_open_that_they_would_inherit(file: Path) -> None:
    cmdb = Cmdb.open(str(file))
    _put(cmdb, "web1")
    assert str(file) not in _open_files()
    _in_worker(lambda: _put(cmdb, "web2"))
    assert [ci["name"] for ci in cmdb.query()] == ["web1", "web2"]


@pytest.mark.parametrize("left_open", [True, False])
def test_what_one_of_many_workers_wrote_stays_in_the_log_for_who_closes_the_file(file: Path, left_open: bool) -> None:
    def work() -> None:
        if left_open:
            sqlite.leave_open()
        with Cmdb.open(str(file)) as cmdb:
            _put(cmdb, "web1")

    _in_worker(work)
    assert _log(file).exists() is left_open
    with Cmdb.open(str(file)) as cmdb:
        assert [ci["name"] for ci in cmdb.query()] == ["web1"]
    assert not _log(file).exists(), "who is the last to close it copies the log into it"


def test_a_cmdb_that_such_a_worker_makes_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "cmdb.sqlite"

    def work() -> None:
        sqlite.leave_open()
        Cmdb.open(str(path), create=True)

    _in_worker(work)
    assert Cmdb.open(str(path)).query() == []
