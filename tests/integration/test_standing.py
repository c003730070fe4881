# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host may still need: both ends of what is open, and of what can still be backed out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Run
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.gate import GateDecision
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.holder import Holder
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.standing import Standing, standing
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOLDER = Holder("ann", "machine", 4711, 99, "feedbeef")
A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
PROCEED, BACK_OUT = GateDecision("proceed", "because"), GateDecision("back_out", "because")


@pytest.fixture
def cmdb(tmp_path: Path) -> Iterator[Cmdb]:
    with Cmdb.open(str(tmp_path / "cmdb.sqlite"), create=True) as opened:
        opened.put_cis([{"name": "web1"}, {"name": "web2"}], actor="test")
        yield opened


def stage(cmdb: Cmdb, digest: str, live: str | None, release: str = "hello") -> Run:
    package = {"name": release, "version": digest[7], "digest": digest}
    journal = Journal(cmdb)
    run = journal.begin(f"CHG-{digest[7]}", package, [["web1"]], Rollout(), HOLDER, NOW)
    journal.staged(run, "web1", {"version": live[7], "digest": live} if live else None, NOW)
    journal.decide_staging(run, PROCEED, NOW)
    return run


def deploy(cmdb: Cmdb, digest: str, live: str | None, decision: GateDecision = PROCEED) -> Run:
    run = stage(cmdb, digest, live)
    journal = Journal(cmdb)
    journal.activating(run, "web1", NOW)
    journal.activated(run, "web1", HostState.STARTED, "", NOW)
    journal.activated(run, "web1", HostState.ACTIVE, "", NOW)
    journal.decide_wave(run, 1, decision, NOW)
    return run


def test_a_host_that_nothing_was_deployed_to_needs_nothing(cmdb: Cmdb) -> None:
    assert standing(cmdb, "web1", "hello") == Standing(None, (), True)
    deploy(cmdb, A, None)
    assert standing(cmdb, "web2", "hello") == standing(cmdb, "web1", "other") == Standing(None, (), True)


def test_what_a_completed_deployment_can_be_backed_out_to_is_needed(cmdb: Cmdb) -> None:
    deploy(cmdb, A, None)
    assert standing(cmdb, "web1", "hello") == Standing(A, (A,), False)
    deploy(cmdb, B, A)
    assert standing(cmdb, "web1", "hello") == Standing(B, (A, B), False)
    deploy(cmdb, C, B)
    assert standing(cmdb, "web1", "hello") == Standing(C, (B, C), False)  # the way from B to A is closed


def test_an_open_deployment_needs_both_its_ends_beside_that(cmdb: Cmdb) -> None:
    deploy(cmdb, A, None)
    deploy(cmdb, B, A)
    stage(cmdb, C, B)
    assert standing(cmdb, "web1", "hello") == Standing(B, (A, B, C), False)


def test_a_deployment_that_is_backing_out_still_needs_where_it_goes(cmdb: Cmdb) -> None:
    deploy(cmdb, A, None)
    run = deploy(cmdb, B, A, BACK_OUT)
    assert standing(cmdb, "web1", "hello").needed == (A, B)
    journal = Journal(cmdb)
    journal.backing_out(run, "web1", NOW)
    journal.backed_out(run, "web1", HostState.BACKED_OUT, "", NOW)
    journal.conclude(run, NOW)
    assert standing(cmdb, "web1", "hello") == Standing(A, (A,), False)


def test_a_host_is_fresh_until_somebody_tried(cmdb: Cmdb) -> None:
    journal = Journal(cmdb)
    assert standing(cmdb, "web1", "hello").fresh
    run = journal.begin("CHG-a", {"name": "hello", "version": "a", "digest": A}, [["web1"], ["web2"]], Rollout(), HOLDER, NOW)
    assert standing(cmdb, "web1", "hello") == Standing(None, (A,), True)
    journal.stage_failed(run, "web1", "", NOW)
    assert not standing(cmdb, "web1", "hello").fresh
    assert standing(cmdb, "web2", "hello").fresh
    journal.order_backout(run, "", NOW)
    journal.begin("CHG-b", {"name": "hello", "version": "b", "digest": B}, [["web1"], ["web2"]], Rollout(), HOLDER, NOW)
    assert not standing(cmdb, "web1", "hello").fresh
