# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be purged and what not, by a real CMDB: nothing that is installed, may have to be gone back to, or is the last that was good."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb import upgrade
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.schema import schema
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import ConflictError, StateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.debts import debts, settle
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.cmdb_verify import verify_cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.retire import (
    ReleaseState,
    Retirement,
    mark_purged,
    restore,
    retire,
    status,
)
from older_cmdb import enter_in_older

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOLDER = Holder("ann", "machine", 4711, 99, "feedbeef")
PROCEED = GateDecision("proceed", "because")


@pytest.fixture
def cmdb(cmdb_url: str) -> Iterator[Cmdb]:
    with Cmdb.open(cmdb_url, create=True) as opened:
        opened.put_cis([{"name": "web1"}, {"name": "web2"}], actor="test")
        yield opened
        assert verify_cmdb(opened, []).findings == [], "the history comes to what is there"


def change(version: str, reason: str = "CVE-2026-1") -> Retirement:
    return Retirement("hello", version, digest(version), reason, "rita@desk", NOW)


def digest(version: str) -> str:
    return f"sha256:{version[0] * 64}"


def deploy(cmdb: Cmdb, version: str, before: str | None, host: str = "web1", until: str = "completed") -> None:
    package = {"name": "hello", "version": version, "digest": digest(version)}
    journal = Journal(cmdb)
    run = journal.begin(f"CHG-{version}", package, [[host]], Rollout(), HOLDER, NOW)
    if until == "planned":
        return
    journal.staged(run, host, {"version": before, "digest": digest(before)} if before else None, NOW)
    journal.decide_staging(run, PROCEED, NOW)
    journal.activating(run, host, NOW)
    journal.activated(run, host, HostState.STARTED, "", NOW)
    journal.activated(run, host, HostState.ACTIVE, "", NOW)
    if until == "activating":
        return
    journal.decide_wave(run, 1, PROCEED, NOW)


def why_not(cmdb: Cmdb, version: str) -> str:
    """Why it can't be purged; nothing when it could."""
    retire(cmdb, change(version), write=True)
    try:
        mark_purged(cmdb, change(version), write=False)
    except ConflictError as error:
        return str(error)
    return ""


def history(cmdb: Cmdb) -> list[tuple[str, str, dict[str, str]]]:
    table = schema().history
    with cmdb.read() as connection:
        rows = connection.execute(sa.select(table).where(table.c.event.like("release %")).order_by(table.c.seq))
        return [(row.event, row.actor, row.data) for row in rows]


def test_a_release_is_retired_purged_and_brought_back_and_all_of_it_is_in_the_history(cmdb: Cmdb) -> None:
    assert status(cmdb, "hello", "1.0") is None
    assert retire(cmdb, change("1.0"), write=False)
    assert status(cmdb, "hello", "1.0") is None
    assert retire(cmdb, change("1.0"), write=True)
    assert not retire(cmdb, change("1.0", "again"), write=True)
    found = status(cmdb, "hello", "1.0")
    assert found is not None
    assert found.sentence("hello", "1.0") == "hello 1.0 was retired on 2026-03-01 by rita@desk because: CVE-2026-1"
    mark_purged(cmdb, change("1.0", "gone"), write=True)
    mark_purged(cmdb, change("1.0", "gone again"), write=True)
    found = status(cmdb, "hello", "1.0")
    assert found is not None
    assert (found.state, found.reason, found.at) == (ReleaseState.PURGED, "gone", NOW)
    with pytest.raises(StateError, match="was purged on"):
        retire(cmdb, change("1.0"), write=True)
    assert restore(cmdb, change("1.0", "found it"), write=True)
    assert not restore(cmdb, change("1.0"), write=True)
    assert status(cmdb, "hello", "1.0") is None
    what = {"release": "hello", "version": "1.0", "digest": digest("1.0")}
    assert history(cmdb) == [
        ("release retired", "rita@desk", what | {"reason": "CVE-2026-1"}),
        ("release purged", "rita@desk", what | {"reason": "gone"}),
        ("release archived", "rita@desk", what | {"reason": "found it"}),
    ]


def test_a_version_that_was_purged_never_comes_back_as_something_else(cmdb: Cmdb) -> None:
    retire(cmdb, change("1.0"), write=True)
    mark_purged(cmdb, change("1.0"), write=True)
    other = Retirement("hello", "1.0", digest("2.0"), "new", "rita@desk", NOW)
    with pytest.raises(ConflictError, match="a version never changes"):
        restore(cmdb, other, write=True)


def test_what_is_not_retired_is_not_purged(cmdb: Cmdb) -> None:
    with pytest.raises(StateError, match="is not retired"):
        mark_purged(cmdb, change("1.0"), write=True)
    assert history(cmdb) == []


def test_what_nobody_ever_used_can_be_purged(cmdb: Cmdb) -> None:
    deploy(cmdb, "1.0", None)
    assert why_not(cmdb, "2.0") == ""


@pytest.mark.parametrize("same", ["version", "digest"])
def test_what_is_installed_anywhere_is_not_purged(cmdb: Cmdb, same: str) -> None:
    """By version or by digest: who entered it by hand may know just one of them."""
    row = {"ci": "web2", "release": "hello", "version": "x", "digest": "sha256:x"} | {same: digest("1.0") if same == "digest" else "1.0"}
    with cmdb.begin() as connection:
        cmdb.record_installations(connection, [row], "test", NOW)
    assert why_not(cmdb, "1.0") == "hello 1.0 was not purged: it is installed on web2"


@pytest.mark.parametrize("until", ["planned", "activating"])
def test_neither_end_of_an_open_deployment_is_purged(cmdb: Cmdb, until: str) -> None:
    deploy(cmdb, "2.0", "1.0", until=until)
    assert "the deployment CHG-2.0#1 is open" in why_not(cmdb, "2.0")
    assert ("the deployment CHG-2.0#1 is open" in why_not(cmdb, "1.0")) == (until == "activating")


def test_what_a_host_may_have_to_go_back_to_is_not_purged_and_what_was_before_that_is(cmdb: Cmdb) -> None:
    deploy(cmdb, "1.0", None)
    deploy(cmdb, "2.0", "1.0")
    deploy(cmdb, "3.0", "2.0")
    assert why_not(cmdb, "1.0") == ""
    assert "CHG-3.0#3, the last deployment on some hosts, can still be backed out" in why_not(cmdb, "2.0")
    assert "it is installed on web1" in why_not(cmdb, "3.0")


def test_one_host_that_lags_behind_keeps_what_it_needs(cmdb: Cmdb) -> None:
    deploy(cmdb, "1.0", None, "web2")
    deploy(cmdb, "2.0", "1.0", "web2")
    for version, before in (("1.0", None), ("2.0", "1.0"), ("3.0", "2.0"), ("4.0", "3.0")):
        deploy(cmdb, version, before, "web1")
    assert "can still be backed out" in why_not(cmdb, "1.0")
    assert "installed on web2" in why_not(cmdb, "2.0")
    assert "can still be backed out" in why_not(cmdb, "3.0")


def test_a_release_that_an_emergency_still_owes_something_for_is_not_purged(cmdb: Cmdb) -> None:
    """What settles it is signed beside the package."""
    deploy(cmdb, "1.0", None)
    deploy(cmdb, "2.0", "1.0")
    deploy(cmdb, "3.0", "2.0")
    what = {"release": "hello", "version": "1.0", "digest": digest("1.0"), "incurred": NOW, "due": NOW}
    with cmdb.begin() as connection:
        connection.execute(sa.insert(schema().debt), what | {"rfc": "CHG-1.0", "duty": "review"})
    assert why_not(cmdb, "1.0") == "hello 1.0 was not purged: CHG-1.0 owes review for it, which is settled with a signature beside it"
    (debt,) = debts(cmdb)
    settle(cmdb, debt, "done", "rita", NOW)
    assert why_not(cmdb, "1.0") == ""


def test_the_last_stable_version_is_not_purged_even_when_no_host_is_left(cmdb: Cmdb) -> None:
    deploy(cmdb, "1.0", None)
    deploy(cmdb, "2.0", "1.0")
    with cmdb.begin() as connection:
        cmdb.record_installations(connection, [{"ci": "web1", "release": "hello", "version": None, "digest": None}], "test", NOW)
    assert "it is the last stable version of hello" in why_not(cmdb, "2.0")


def test_everything_that_stands_in_the_way_is_said_at_once(cmdb: Cmdb) -> None:
    deploy(cmdb, "1.0", None)
    deploy(cmdb, "2.0", "1.0", until="activating")
    said = why_not(cmdb, "1.0")
    assert all(part in said for part in ("installed on web1", "CHG-2.0#2 is open", "CHG-1.0#1, the last deployment", "last stable version"))


def test_another_release_keeps_nothing(cmdb: Cmdb) -> None:
    row = {"ci": "web2", "release": "other", "version": "1.0", "digest": digest("1.0")}
    with cmdb.begin() as connection:
        cmdb.record_installations(connection, [row], "test", NOW)
    assert why_not(cmdb, "1.0") == ""


def test_a_cmdb_from_before_is_upgraded_and_keeps_what_it_has(cmdb_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(upgrade, "HEAD", "0001")
        with Cmdb.open(cmdb_url, create=True) as old:
            enter_in_older(cmdb_url)
            with pytest.raises(Exception, match="release_status"):
                status(old, "hello", "1.0")
    upgrade.upgrade(cmdb_url, NOW)
    with Cmdb.open(cmdb_url) as new:
        assert [ci["name"] for ci in new.cis()] == ["web1"]
        assert retire(new, change("1.0"), write=True)
