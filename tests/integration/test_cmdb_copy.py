# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CMDB moves from SQLite to PostgreSQL and back, with every row, every id and the chain; what can't be copied whole is not begun."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import forked
import pytest
import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb import transfer
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.chain import heads
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.assets import move_units
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.units import MoveOrder
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout, Share
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.cmdb_copy import copy_cmdb

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOSTS = ["web1", "web2"]


def make(url: str, *, ends: bool = True) -> None:
    """A CMDB with something in most of its tables; unless it ``ends``, somebody drives the deployment."""
    rollout = Rollout(canary=Share(10, True), steps=(100,), order_by="site")
    with Cmdb.open(url, create=True) as cmdb:
        cmdb.put_cis(
            [
                {"name": name, "class": "server", "site": "ams", "attributes": {"motd": "żółw \U0001f422", "n": [1, 2.5, None]}}
                for name in HOSTS
            ],
            "ann",
        )
        cmdb.put_cis([{"name": "gone"}], "ann")
        cmdb.relate([("web1", "web2", "depends_on")], "ann")
        with cmdb.begin() as connection:
            move_units(connection, [MoveOrder("receive", "A-1", "Contoso", "SN-1", "R750", stockroom="ams-1")], "ann", NOW, True)
        cmdb.remove_cis(["gone"], "ann")
        journal = Journal(cmdb)
        package = {"name": "hello", "version": "2", "digest": "sha256:" + "2" * 64}
        run = journal.begin("CHG1", package, [HOSTS], rollout, Holder("ann", "other", 4711, 99, "feedbeef"), datetime.now(UTC))
        for host in HOSTS:
            journal.staged(run, host, None, NOW)
        journal.decide_staging(run, GateDecision("hold" if ends else "proceed", "because"), datetime.now(UTC))
        if ends:
            journal.release_lease(run, NOW)


def rows(url: str) -> dict[str, list[Any]]:
    """All that is in a CMDB, by table."""
    with Cmdb.open(url) as cmdb, cmdb.read() as connection:
        tables = schema().chain.metadata.sorted_tables
        return {table.name: sorted(map(repr, connection.execute(sa.select(table)))) for table in tables}


def test_it_goes_to_postgresql_and_back_with_every_row_and_goes_on_there(tmp_path: Path, postgresql: Callable[[], str]) -> None:
    first, server, last = str(tmp_path / "first.sqlite"), postgresql(), str(tmp_path / "last.sqlite")
    make(first)
    there = copy_cmdb(first, server, datetime.now(UTC))
    assert there.verified is not None
    assert rows(server) == rows(first)
    with Cmdb.open(server) as cmdb:
        highest = max(ci["id"] for ci in numbered(cmdb))
        cmdb.put_cis([{"name": "web3"}, {"name": "web4"}], "ann")
        cmdb.remove_cis(["web4"], "ann")
        assert [ci["id"] for ci in numbered(cmdb)][-1] == highest + 1
    other = postgresql()
    copy_cmdb(server, other, datetime.now(UTC))
    with Cmdb.open(other) as cmdb:  # a number that was given is not given again, although its row is gone
        cmdb.put_cis([{"name": "web5"}], "ann")
        assert [ci["id"] for ci in numbered(cmdb)][-1] == highest + 3
    copy_cmdb(server, last, datetime.now(UTC))
    assert rows(last) == rows(server)
    with Cmdb.open(last) as cmdb, cmdb.read() as connection:
        assert heads(connection)["history"].seq == len(rows(server)["history"])


def numbered(cmdb: Cmdb) -> list[dict[str, Any]]:
    ci = schema().ci.c
    with cmdb.read() as connection:
        return [dict(row) for row in connection.execute(sa.select(ci.id, ci.name).order_by(ci.id)).mappings()]


def test_what_is_not_whole_or_in_use_is_not_copied_and_nothing_is_made(tmp_path: Path) -> None:
    url, target = str(tmp_path / "cmdb.sqlite"), tmp_path / "copy.sqlite"
    make(url, ends=False)
    with pytest.raises(ConflictError, match=r"the deployment of CHG1 is being driven by .* wait until it ends"):
        copy_cmdb(url, str(target), datetime.now(UTC))
    with sqlite3.connect(url) as connection:
        connection.execute("UPDATE deployment SET lease_until = NULL")
        connection.execute("UPDATE ci SET site = 'fra' WHERE name = 'web1'")
    with pytest.raises(TidegateError, match=r"is not as it was written \(.*web1.*\); nothing was copied"):
        copy_cmdb(url, str(target), datetime.now(UTC))
    assert not target.exists()
    with pytest.raises(TidegateError, match="there is no CMDB at"):
        copy_cmdb(str(target), url, datetime.now(UTC))
    assert not target.exists()


def test_a_copy_mixes_nothing_and_a_look_makes_nothing(tmp_path: Path) -> None:
    url, used = str(tmp_path / "cmdb.sqlite"), str(tmp_path / "used.sqlite")
    make(url)
    before = rows(url)
    with Cmdb.open(used, create=True) as cmdb:
        cmdb.put_cis([{"name": "db1"}], "test")
    with pytest.raises(ConflictError, match=r"used\.sqlite has rows in ci already"):
        copy_cmdb(url, used, datetime.now(UTC))
    assert [ci["name"] for ci in numbered_in(used)] == ["db1"]
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(TidegateError, match="is to be copied to itself"):
        copy_cmdb(url, str(tmp_path / "link" / "cmdb.sqlite"), datetime.now(UTC))
    shown = copy_cmdb(url, str(tmp_path / "new.sqlite"), datetime.now(UTC), dry_run=True)
    assert (shown.verified, shown.transfer.rows["ci"]) == (None, 2)
    assert not (tmp_path / "new.sqlite").exists()
    assert rows(url) == before


def numbered_in(url: str) -> list[dict[str, Any]]:
    with Cmdb.open(url) as cmdb:
        return numbered(cmdb)


def test_a_copy_that_breaks_off_leaves_no_row_and_the_next_one_is_whole(
    tmp_path: Path, postgresql: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, target = str(tmp_path / "cmdb.sqlite"), postgresql()
    make(url)

    def breaks(*_given: object) -> None:
        raise TidegateError("the line was cut")

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "_set_counters", breaks)
        with pytest.raises(TidegateError, match="the line was cut"):
            copy_cmdb(url, target, datetime.now(UTC))
    assert numbered_in(target) == []
    copy_cmdb(url, target, datetime.now(UTC))
    assert rows(target) == rows(url)


def test_the_verb_says_what_it_copied_and_what_to_use_from_then_on(tmp_path: Path) -> None:
    url, target = str(tmp_path / "cmdb.sqlite"), str(tmp_path / "copy.sqlite")
    make(url)
    variables = json.dumps({"tidegate_cmdb": url, "tidegate_cmdb_to": target})
    command = ["ansible-playbook", "-i", "localhost,", "tidegate.release.cmdb_copy", "-e", variables]
    done = forked.run(command, {**os.environ, "ANSIBLE_NOCOLOR": "1"}, timeout=120)
    said = " ".join(done.stdout.split())
    assert done.returncode == 0, said
    assert "2 CIs, 1 deployment and" in said
    assert "use only the copy from now on" in said
    assert rows(target) == rows(url)
