# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts have besides releases is put on record whole or not at all, and the history says by whom, why and instead of what."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb import recorded_sets as records
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb import upgrade
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit_record import record_hosts
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.audit_sets import SETS, HostSets, digest_of

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SAID: dict[str, dict[str, str]] = {**{name: {} for name in SETS}, "packages": {"a:all": "1"}}


@pytest.fixture
def cmdb(cmdb_url: str) -> Iterator[Cmdb]:
    with Cmdb.open(cmdb_url, create=True) as opened:
        opened.put_cis([{"name": name, "class": "server"} for name in ("web1", "web2")], "test")
        yield opened


def whole(**other: dict[str, str]) -> HostSets:
    entries = {**SAID, **other}
    return HostSets({name: digest_of(one) for name, one in entries.items()}, entries, {})


def lines(cmdb: Cmdb) -> list[Any]:
    history = schema().history.c
    with cmdb.read() as connection:
        return list(
            connection.execute(
                sa.select(history.ci, history.actor, history.data).where(history.event == "set recorded").order_by(history.seq)
            )
        )


def test_sets_are_on_record_with_who_and_why_and_again_changes_nothing(cmdb: Cmdb) -> None:
    found = {"web1": whole(), "stranger": whole()}
    assert record_hosts(cmdb, found, "carl", " as it\n was ", NOW, write=False) == {"web1": sorted(SETS)}
    assert lines(cmdb) == []
    assert record_hosts(cmdb, found, "carl", " as it\n was ", NOW, write=True) == {"web1": sorted(SETS)}
    assert record_hosts(cmdb, found, "dora", "again", NOW, write=True) == {}
    with cmdb.read() as connection:
        record = records.recorded_sets(connection, ["web1", "web2"])["web1"]["packages"]
        assert records.recorded_digests(connection) == {"web1": dict(whole().sha256)}
    assert (record.actor, record.reason, record.at, record.entries) == ("carl", "as it was", NOW, {"a:all": "1"})
    assert [(line.ci, line.actor) for line in lines(cmdb)] == [("web1", "carl")] * len(SETS)

    assert record_hosts(cmdb, {"web1": whole(packages={})}, "dora", "cleaned up", NOW, write=True) == {"web1": ["packages"]}
    said = lines(cmdb)[-1].data
    assert said == {"set": "packages", "sha256": digest_of({}), "was": digest_of(SAID["packages"]), "count": 0, "reason": "cleaned up"}


@pytest.mark.parametrize(
    "odd", [None, HostSets(), HostSets(whole().sha256, {}, {}), HostSets(problems={"packages": "rpm does not answer"})]
)
def test_a_host_that_did_not_say_all_puts_nothing_on_record(cmdb: Cmdb, odd: HostSets | None) -> None:
    with pytest.raises(TidegateError, match="web2 did not say all that goes on record"):
        record_hosts(cmdb, {"web1": whole(), "web2": odd}, "carl", "as it was", NOW, write=True)
    with pytest.raises(TidegateError, match="needs a reason"):
        record_hosts(cmdb, {"web1": whole()}, "carl", " ", NOW, write=True)
    assert lines(cmdb) == []


def test_a_record_goes_with_its_ci(cmdb: Cmdb) -> None:
    record_hosts(cmdb, {"web1": whole()}, "carl", "as it was", NOW, write=True)
    with cmdb.begin() as connection:
        connection.execute(sa.delete(schema().ci).where(schema().ci.c.name == "web1"))
    with cmdb.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(schema().host_set)).scalar() == 0


def test_the_table_can_be_taken_away_again(cmdb: Cmdb) -> None:
    migration = import_module(f"{upgrade.__package__}.migrations.versions.0021_host_set")
    with cmdb.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        migration.downgrade()
        assert not sa.inspect(connection).has_table("host_set")
        migration.upgrade()
        assert sa.inspect(connection).has_table("host_set")
