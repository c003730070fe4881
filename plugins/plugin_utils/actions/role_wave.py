# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A wave of hosts that a release's own role does: forward, and back where that did not go well."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible import constants

from ...module_utils.unfinished import wait_for_unfinished
from ..activity import waiting
from ..clock import utc_now
from ..dsl.manifest import OwnAnsible
from ..dsl.package import load_package
from ..dsl.repository import open_library
from ..errors import TidegateError
from ..evidence.package import PackageName
from ..rollout.deployments import Deployment, Run, Target
from ..rollout.leftovers import log_of
from ..rollout.role_play import HostVerdict, PlayPart, Role, back, failed_to_drain, forward, play, serve_again, verdicts
from ..rollout.states import HostState
from ..rollout.wave_journal import Begun, WaveJournal
from ..settings import optional_setting, required_setting
from ..steps.stage import distrust_once
from .own_role import role_variables, roles_within, unpacked_role
from .role_run import RolePlay, prepare_log, run_play

Outcomes = dict[str, tuple[HostState, str]]
"""By host, its state in the end, and why it is in that."""

_Ways = Mapping[str | None, tuple[Role | None, bool, str]]
_RENEWAL = 60.0  # seconds after which the lease is renewed, which is for ten minutes
_LOOK = 2.0  # seconds after which it is looked up whether another controller has taken over
_PATIENCE = 300  # seconds that a task of an interrupted run which was delegated to this machine gets to end
_DRAINED = "; it stays drained"
# Hosts on which an earlier run may have left something running, and handlers that were never run.
_INTERRUPTED = frozenset({HostState.ACTIVATING, HostState.BACKING_OUT, HostState.FAILED, HostState.STUCK, HostState.LOST, HostState.OWED})

# Hosts that have the release before, whole: nothing of this one was begun, or all of it was undone.
_AS_BEFORE = frozenset({HostState.STAGED, HostState.FAILED})


def local_tmp() -> Path:
    """The run's own temporary directory."""
    made: Any = constants  # when they are imported
    return Path(made.DEFAULT_LOCAL_TMP)


class RoleWave:
    """The hosts of one wave, and all that it takes to have the role of the ``deployment``'s release do them.

    ``action`` is the task's, ``options`` those of its module, ``work`` a directory of this user's alone. Raises
    :class:`TidegateError` when the package can't be read, or what its role needs is not there; then nothing was begun.
    """

    def __init__(self, action: Any, options: Mapping[str, Any], journal: WaveJournal, deployment: Deployment, work: Path) -> None:
        self._action, self._options, self._work = action, options, work
        self._journal, self._deployment, self._run = journal, deployment, deployment.run
        self._what = f"{deployment.release} {deployment.version}"
        self._tree = deployment.rollout.tree
        self._before: dict[str, Target] = {}
        self.refused: dict[str, str] = {}
        """Hosts that are not this deployment's to change, and why; nothing was done to them."""
        self._resumed: list[str] = []
        self._did: dict[str, list[str]] = {}
        self._treeless: set[str] = set()
        self._reached = ""  # which part of the play was under way last
        self._home = open_library(required_setting(options, "dsl")).repository(deployment.release)
        found = self._unpacked(deployment.digest)
        if found is None:
            raise TidegateError(f"{self._what} brings no role; run deploy again, which then does without")
        self._role, self._own = found
        self._drains = "drain" in self._role.steps
        prepare_log(log_of(deployment.label, None))

    def activate(self, hosts: Collection[str]) -> Outcomes:
        """Bring the hosts forward, and those that did not come up back at once.

        Raises :class:`TidegateError` when the package is not trusted any more; to go back nobody has to trust it.
        """
        self._refuse_distrusted()
        ways = self._ways(hosts)
        before = self._begin(self._journal.begin_wave(self._run, hosts, self._drains, utc_now()))
        if not before:
            return {}
        self._resumed = [host for host, target in before.items() if target.state in _INTERRUPTED]
        parts = forward(self._role, self._what, self._tree, self._deployment.rollout.stable, self._resumed)
        found = self._do("activate", list(before), parts, self._role, {})
        bad = {host: verdict for host, verdict in found.items() if verdict.problem}
        self._did = {host: did for host, did in self._did.items() if host not in bad}  # and from here on what brings those back
        outcomes: Outcomes = {host: (HostState.ACTIVE, "") for host in found if host not in bad}
        restored = set(outcomes)
        self._resumed = list(bad)  # a task that was given up may still be at work there
        way = self._serve_again(bad)
        way |= self._go_back({host: before[host] for host in bad if host not in way}, ways)
        for host, verdict in way.items():
            outcomes[host] = self._fallen_back(bad[host], verdict)
            if not verdict.problem:
                restored.add(host)
        self._journal.end_wave(self._run, outcomes, restored if self._drains else (), self._did, utc_now())
        return outcomes

    def back_out(self, hosts: Collection[str]) -> Outcomes:
        """Bring the hosts back to what they ran before."""
        ways = self._ways(hosts)
        before = self._begin(self._journal.begin_back_out(self._run, hosts, self._drains, utc_now()))
        if not before:
            return {}
        self._resumed = [host for host, target in before.items() if target.state in _INTERRUPTED]
        found = self._go_back(before, ways)
        found |= self._serve_again(found)
        drained = _DRAINED if self._drains else ""
        outcomes: Outcomes = {
            host: (HostState.OWED, f"{verdict.problem}{drained}") if verdict.problem else (HostState.BACKED_OUT, "")
            for host, verdict in found.items()
        }
        restored = [host for host, verdict in found.items() if not verdict.problem]
        self._journal.end_wave(self._run, outcomes, restored if self._drains else (), self._did, utc_now())
        return outcomes

    def _begin(self, begun: Begun) -> Mapping[str, Target]:
        """Keep what the hosts were before, and who is refused; return the former."""
        self._before, self.refused = begun.hosts, begun.refused
        return begun.hosts

    def _refuse_distrusted(self) -> None:
        deployment, dsl = self._deployment, required_setting(self._options, "dsl")
        release = PackageName(deployment.release, deployment.version, deployment.digest)
        distrust = distrust_once(local_tmp() / "tidegate-trust", dsl, optional_setting(self._options, "policy"), release, utc_now())
        if distrust:
            raise TidegateError(distrust)

    def _fallen_back(self, why: HostVerdict, way: HostVerdict) -> tuple[HostState, str]:
        if not way.problem:
            return HostState.FAILED, why.problem
        detail = f"{why.problem}; going back failed too: {way.problem}{_DRAINED if self._drains else ''}"
        return HostState.LOST if way.unreachable else HostState.STUCK, detail

    def _unpacked(self, digest: str) -> tuple[Role, OwnAnsible] | None:
        """The role of a package, where it can run; nothing when it brings none."""
        package = load_package(self._home, digest)
        if package.manifest.payload is None:
            self._treeless.add(digest)
        own = package.manifest.ansible
        return (unpacked_role(self._home, package, own, self._work / digest.removeprefix("sha256:")[:16]), own) if own else None

    def _ways(self, hosts: Collection[str]) -> _Ways:
        """By the package that hosts ran before: its role, if it has one, whether this one's own ``back_out`` is what brings it back, and
        what it is called.

        It is found before anything is touched, for what the library does not have can't be gone back to.
        """
        ways: dict[str | None, tuple[Role | None, bool, str]] = {}
        for target in self._journal.targets(self._deployment.id):
            digest = target.previous_digest
            if target.host not in hosts or digest in ways:
                continue
            called = f"{self._deployment.release} {target.previous_version}" if target.previous_version else "having no release"
            found = self._unpacked(digest) if digest is not None else None
            before = found[0] if found else None
            # One that has no role, or does nothing by it, undoes nothing of this one's.
            own = self._own.back_out == "own" or before is None or "activate" not in before.steps
            ways[digest] = (before, own, called)
        return ways

    def _serve_again(self, found: Mapping[str, HostVerdict]) -> dict[str, HostVerdict]:
        """Have those hosts serve again that still have the release before and could not be taken out of service; what came of it.

        To try that again would keep them out of it, with nothing to go back from.
        """
        hosts = [host for host, one in found.items() if failed_to_drain(one, self._what) and self._before[host].state in _AS_BEFORE]
        return self._do("restore", hosts, serve_again(self._role, self._what, self._resumed), self._role, {}) if hosts else {}

    def _go_back(self, targets: Mapping[str, Target], ways: _Ways) -> dict[str, HostVerdict]:
        found: dict[str, HostVerdict] = {}
        for digest, (before, own, called) in ways.items():
            hosts = [host for host, target in targets.items() if target.previous_digest == digest]
            if not hosts:
                continue
            version = targets[hosts[0]].previous_version or ""
            for role, parts in back(self._role, self._what, self._tree, before, own, called, self._resumed):
                left = [host for host in hosts if host not in found or not found[host].problem]
                about = {"tidegate_version": version, "tidegate_digest": digest or ""} if role is before else {}
                if left and any(part.tasks for part in parts):
                    found |= self._do("back_out", left, parts, role, about)
        return found

    def _do(self, step: str, hosts: list[str], parts: list[PlayPart], role: Role, about: Mapping[str, str]) -> dict[str, HostVerdict]:
        """Run a play and judge each of its hosts by what was seen; ``about``: variables of another release than this one."""
        end = f"the end, {secrets.token_hex(8)}"
        # Tokens are milliseconds too, so each run is later than all of those before it, by whichever controller.
        mark = f"{self._deployment.label}:{max(self._run.token, int(time.time() * 1000))}"
        name = f"{self._deployment.label}: {step} of {self._what}"
        given = {option: required_setting(self._options, option) for option in ("rfc", "dsl", "cmdb")}
        tree = {**given, "treeless": sorted(self._treeless)}
        document = play(name, hosts, parts, mark, end, facts=self._own.gather_facts, tree=tree)
        log = self._log()
        limits = {part.called: self._own.timeout for part in parts if part.step} | {"": self._own.timeout}
        wanted = RolePlay(document, end, limits, self._variables() | dict(about), roles_within(role), log)
        self._journal.renew(self._run, utc_now())
        with waiting("what an interrupted run has left running here"):
            left = wait_for_unfinished(mark, _PATIENCE) if self._resumed else []
        if left:
            return {host: HostVerdict(f"the processes {', '.join(map(str, left))} of an interrupted run still run here") for host in hosts}
        order = {"cmdb": given["cmdb"], "deployment": self._run.deployment, "token": self._run.token}
        self._reached = ""
        seen = run_play(self._action, wanted, order, self._work, renewing(self._journal, self._run))
        self._reached = seen.step
        found = verdicts(hosts, seen.receipts, seen.failures, seen.ended, seen.step)
        for host in (host for host, verdict in found.items() if not verdict.problem):
            self._did.setdefault(host, []).extend(part.step for part in parts if part.step)
        return {host: replace(one, problem=f"{one.problem}, see {log}") if one.problem else one for host, one in found.items()}

    def _log(self) -> Path:
        return log_of(self._deployment.label, min(target.wave for target in self._before.values()))

    def _variables(self) -> dict[str, Any]:
        deployment, before = self._deployment, self._before.items()
        had = {host: (target.previous_version, target.previous_digest) for host, target in before}
        return role_variables(deployment.release, deployment.version, deployment.digest, had, self._tree)


def renewing(journal: WaveJournal, run: Run) -> Callable[[], None]:
    """What renews the lease now and then; it raises :class:`ConflictError` when another controller has taken over.

    That is looked up more often: the callback asks it before each task only, and a task may have a loop.
    """
    renewal = time.monotonic() + _RENEWAL
    look = time.monotonic() + _LOOK

    def watch() -> None:
        nonlocal renewal, look
        if time.monotonic() >= renewal or (time.monotonic() >= look and not journal.is_held_by(run)):
            journal.renew(run, utc_now())
            renewal = time.monotonic() + _RENEWAL
        if time.monotonic() >= look:
            look = time.monotonic() + _LOOK

    return watch
