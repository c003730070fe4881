# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that a deployment does on the controller, without hosts, on a CMDB of :mod:`aged_cmdb`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from aged_cmdb import NOW, host_name
from ansible_collections.tidegate.release.plugins.plugin_utils.cmdb.store import Cmdb
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import archive
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import create_library
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import open_change
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import Deployment
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.journal import Journal
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.rehearsal import rehearse
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.standing import standing
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.backout import order_backout
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.conclude import conclude
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.gate import decide_staging_gate, decide_wave_gate, make_wave_check
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.plan import Reach, RunRequest, plan
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.schedule import schedule
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.sources import Sources
from documents import open_rfc, policy_of, simple_manifest, write_document

HOSTS = [host_name(number) for number in range(501, 505)]  # all of which have app05


class Team:
    """What a deployment of app05 needs, with a licensed product, for hosts that have an earlier version."""

    def __init__(self, path: Path, cmdb_url: str) -> None:
        self.cmdb_url = cmdb_url
        release = path / "release"
        (release / "payload").mkdir(parents=True)
        (release / "payload" / "version").write_text("new\n")
        (release / "README.md").write_text("# New\n")
        write_document(release / "release.yml", simple_manifest(name="app05", version="99.0", licensed_product="prod0"))
        self.dsl = str(path / "dsl")
        digest = archive(release, create_library(self.dsl).repository("app05")).digest
        self.policy = str(write_document(path / "policy.yml", policy_of(approvals={"normal": 1}, rollout={"canary": 1, "steps": [100]})))
        scope = " || ".join(f"name=='{host}'" for host in HOSTS)
        self.path = path
        self.digest, self.scope = digest, f"[?{scope}]"

    def rfc(self, number: str) -> str:
        release = {"name": "app05", "version": "99.0", "digest": self.digest}
        document = open_rfc(number, "99.0", self.digest, NOW, release=release, scope=self.scope)
        return str(write_document(self.path / f"{number}.yml", document))

    def sources(self) -> Sources:
        return Sources(self.dsl, self.cmdb_url, self.policy, NOW)

    def plan(self, rfc: str, write: bool = True) -> dict[str, Any]:
        with self.sources() as sources:
            return plan(sources, RunRequest(rfc, Reach(HOSTS), write, lambda: ""))


def _visit(team: Team, rfc: str, step: str) -> None:
    """What the lookup ``waves`` and the hosts of the next batch do."""
    with Cmdb.open(team.cmdb_url) as cmdb:
        journal = Journal(cmdb)
        number = Path(rfc).stem
        batch = journal.batches(number, step)[0]
        deployment = journal.latest(number)
        assert deployment is not None
        rehearse(cmdb, deployment, step, batch[0], NOW)
        for host in batch:
            _STEPS[step](cmdb, journal, deployment, host)


def _stage(cmdb: Cmdb, journal: Journal, deployment: Deployment, host: str) -> None:
    assert standing(cmdb, host, deployment.release).installed
    assert standing(cmdb, host, "hello").fresh
    journal.staged(deployment.run, host, {"version": "0.0", "digest": f"sha256:{5:064x}"}, NOW)


def _activate(_cmdb: Cmdb, journal: Journal, deployment: Deployment, host: str) -> None:
    later = NOW + timedelta(seconds=deployment.rollout.stable)
    journal.activating(deployment.run, host, NOW)
    journal.activated(deployment.run, host, HostState.STARTED, "", NOW)
    assert journal.confirming(deployment.run, host, later) is not None
    journal.activated(deployment.run, host, HostState.ACTIVE, "", later)


def _back_out(_cmdb: Cmdb, journal: Journal, deployment: Deployment, host: str) -> None:
    journal.backing_out(deployment.run, host, NOW)
    journal.backed_out(deployment.run, host, HostState.BACKED_OUT, "", NOW)


_STEPS: dict[str, Callable[[Cmdb, Journal, Deployment, str], None]] = {"stage": _stage, "activate": _activate, "backout": _back_out}


def _gate(team: Team, rfc: str, decide: Callable[..., dict[str, Any]]) -> None:
    with team.sources() as sources:
        journal = Journal(sources.cmdb())
        deployment = journal.latest(Path(rfc).stem)
        assert deployment is not None
        decided = decide(journal, deployment.run, open_change(rfc), make_wave_check(sources), lambda *_: [], NOW)
        assert decided["decision"] == "proceed", decided["reason"]


def _conclude(team: Team, rfc: str, wanted: str) -> None:
    with Cmdb.open(team.cmdb_url) as cmdb:
        journal = Journal(cmdb)
        deployment = journal.latest(Path(rfc).stem)
        assert deployment is not None
        ended = conclude(journal, deployment.run, open_change(rfc), wanted, lambda *_: [], lambda *_: [], NOW)
        assert not ended["failed"], ended["msg"]


def _order_backout(team: Team, rfc: str) -> None:
    request = RunRequest(rfc, Reach(HOSTS), True, lambda: "")
    order_backout(request, cmdb_url=team.cmdb_url, policy_path=team.policy, reason="it is slow", now=NOW)


def live(team: Team, turn: int) -> None:
    """A deployment from its schedule to its end, and back; and one that is held at once, goes on, and is cancelled. No ``turn`` twice."""
    rfc, other = (team.rfc(f"CHG8{turn:05}{number}") for number in (1, 2))
    with Cmdb.open(team.cmdb_url) as cmdb:
        assert schedule(cmdb, [rfc], [], NOW, write=True).entered
    team.plan(rfc, write=False)
    waves = team.plan(rfc)["waves"]
    assert len(waves) > 1
    _visit(team, rfc, "stage")
    _gate(team, rfc, decide_staging_gate)
    for _wave in waves:
        _visit(team, rfc, "activate")
        _gate(team, rfc, decide_wave_gate)
    _conclude(team, rfc, "completed")
    team.plan(rfc)  # nothing to do
    _order_backout(team, rfc)
    for _wave in waves:
        _visit(team, rfc, "backout")
    _conclude(team, rfc, "backed_out")
    team.plan(other)
    with Cmdb.open(team.cmdb_url) as cmdb:
        journal = Journal(cmdb)
        held = journal.latest(Path(other).stem)
        assert held is not None
        journal.hold(held.run, "a person wants it", NOW)
    team.plan(other)
    _order_backout(team, other)
    _conclude(team, other, "backed_out")
