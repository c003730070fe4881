# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a cleared RFC to a plan in the journal, or back to where an interrupted deployment stands."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..activity import listed
from ..cmdb.store import Cmdb
from ..dsl.package import load_package
from ..dsl.repository import open_library
from ..dsl.seen import Sight
from ..errors import ConflictError, StateError, TidegateError
from ..evidence.envelope import sign
from ..evidence.library import list_release, remember_sight
from ..evidence.store import attach
from ..licence.entitlements import reserve
from ..report.progress import counted, words
from ..rfc.debts import delete_debts, incur
from ..rfc.model import Rfc
from ..rfc.register import register_change
from ..rfc.source import load_rfc, open_change, rfc_number
from ..rollout import states
from ..rollout.deployments import Deployment
from ..rollout.forecast import Step, Transfer, plan_lines, transfer, window_line
from ..rollout.holder import Holder
from ..rollout.journal import Journal
from ..rollout.states import DeploymentState, HostState, WaveState
from .clear import Clearing, clear, refusal, without
from .conclude import catch_up
from .tell import make_notifier, save_stakeholders, warned

if TYPE_CHECKING:
    import sqlalchemy as sa
    from securesystemslib.signer import Signer


Interrupted = Callable[[], str]
"""Why nothing more may be started, empty as long as nobody has interrupted this run."""


def never() -> str:
    """Of a run that nobody can interrupt."""
    return ""


def plan(
    *,
    rfc_path: str,
    dsl: str,
    cmdb_url: str,
    policy_path: str | None,
    inventory: Collection[str],
    now: datetime,
    write: bool,
    signer: Signer | None = None,
    outside: Collection[str] = (),
    take_over: bool = False,
    interrupted: Interrupted = never,
) -> dict[str, Any]:
    """Clear the RFC and begin its deployment, or take over the one that is open; return the task's result.

    A deployment that is backing out goes on without clearance: its window may be over, and hosts must not stay in between.
    ``inventory`` are the hosts that Ansible has, ``outside`` those of them that this run leaves out. With ``take_over`` a person says that
    the controller which drives the deployment is gone. With a ``signer`` the clearance of a new deployment is kept beside the package,
    signed. With ``write`` false nothing is written and the plan is only shown.
    Raises :class:`TidegateError` when the RFC is not cleared, its CIs are locked, not in the inventory or left out of this run, its
    scope has left hosts of the plan, or the deployment of this RFC has already failed or was replaced by a later one.
    """
    with Cmdb.open(cmdb_url) as cmdb:
        journal = Journal(cmdb)
        reach = Reach(inventory, outside)

        def resume(deployment: Deployment, until: datetime | None = None) -> dict[str, Any]:
            return _resume(journal, deployment, reach, now, until, interrupted, write=write, take_over=take_over)

        number = rfc_number(rfc_path)
        current = journal.latest(number)
        if current is not None and current.state is DeploymentState.BACKING_OUT:
            return resume(current)
        if current is not None and current.state is DeploymentState.BACKED_OUT:
            missed = catch_up(journal, current, open_change(rfc_path), now) if write else []
            raise ConflictError("; ".join((f"{number} was backed out ({current.reason}); raise a new RFC for the next attempt", *missed)))
        if current is not None and current.state is DeploymentState.COMPLETED and load_rfc(rfc_path).digest == current.digest:
            return resume(current)  # its RFC may be closed by now, and nothing is done to any host

        clearing = clear(rfc_path, dsl, cmdb_url, policy_path, now)
        if not clearing.clearance.granted or clearing.rfc is None or clearing.policy is None:
            _remember(dsl, cmdb_url, clearing, now, write)  # a negative word that was read must not vanish
            raise refusal(clearing.clearance, () if write else _forecast(journal, clearing, dsl, now)["lines"])
        rfc = clearing.rfc
        owed = clearing.policy.emergency if rfc.type == "emergency" else {}
        if current is not None and current.state is not DeploymentState.CANCELLED:
            if current.digest != rfc.digest:
                raise ConflictError(
                    f"{number} now names {rfc.digest}, but {current.label} is {current.state} with {current.digest}; back that out first"
                )
            _refuse_moved_scope(journal, current, {str(ci["name"]) for ci in cmdb.query(rfc.scope)})
            resumed = resume(current, clearing.until)
            _remember(dsl, cmdb_url, clearing, now, write)
            if write and current.state in states.OPEN:
                with cmdb.begin() as connection:
                    incur(connection, rfc, owed, now)  # it may have become an emergency since it began
                    register_change(connection, rfc, (str(ci["name"]) for ci in clearing.cis), now)
            return resumed

        waves = clearing.waves
        hosts = [host for wave in waves for host in wave]
        reach.check(sorted(hosts), "CI", f"in the scope of {number}")
        rollout = clearing.policy.rollout if clearing.stable is None else replace(clearing.policy.rollout, stable=clearing.stable)
        package = {"name": rfc.release, "version": rfc.version, "digest": rfc.digest}
        journal.refuse_plan(number, hosts)
        refuse_interrupted(interrupted, write)
        _remember(dsl, cmdb_url, clearing, now, write)
        if write and signer is not None:
            _keep_clearance(clearing, rfc, dsl, cmdb_url, policy_path, signer, now)
        product = clearing.product

        def along(connection: sa.Connection, deployment_id: int) -> None:
            delete_debts(connection, number)
            incur(connection, rfc, owed, now)
            register_change(connection, rfc, (str(ci["name"]) for ci in clearing.cis), now)
            reserve(connection, deployment_id, product, rfc.release, hosts, (now, rfc.end_date))

        run = journal.begin(number, package, waves, rollout, Holder.this_run(), now, along) if write else None
        sentence = (
            f"{number}: {rfc.release} {rfc.version} to {counted(len(hosts), 'host')} in {counted(len(waves), 'wave')} "
            f"({', '.join(str(len(w)) for w in waves)})"
            f"{without(clearing.left_out)}"
        )
        problems = []
        if run is not None:
            save_stakeholders(journal, run, rfc, now)
            problems = make_notifier(policy_path)(journal, run, "cleared", sentence, now)
        return {
            **result(sentence, changed=True),
            **warned([*problems, *(clearing.clearance.notes if write else ())]),
            **({} if write else _forecast(journal, clearing, dsl, now)),
            "waves": [list(wave) for wave in waves],
            "controls": clearing.clearance.to_dict()["controls"],
            "progress": {"step": "plan", "state": "planned", "detail": sentence, "hosts": len(hosts), "waves": len(waves)},
        }


def _forecast(journal: Journal, clearing: Clearing, dsl: str, now: datetime) -> dict[str, Any]:
    """What the deployment would do: ``lines`` for a person, and ``steps`` by host.

    Both are empty when the RFC selects no host, or the library does not have what it names.
    """
    rfc = clearing.rfc
    nothing: dict[str, Any] = {"lines": [], "steps": []}
    if rfc is None or not clearing.waves:
        return nothing
    there = {str(ci["name"]): ci["installations"].get(rfc.release) or {} for ci in clearing.cis}
    try:
        library = open_library(dsl).repository(rfc.release)
        package = load_package(library, rfc.digest)
    except TidegateError:
        return nothing
    sent: dict[str, Transfer] = {}
    for digest in {str(one.get("digest", "")) for one in there.values()}:
        base = None
        with contextlib.suppress(TidegateError):  # what is not in the library any more can't be compared
            base = load_package(library, digest) if digest else None
        sent[digest] = transfer(package, base)
    steps = [
        Step(number, host, there[host].get("version"), sent[str(there[host].get("digest", ""))])
        for number, wave in enumerate(clearing.waves, start=1)
        for host in wave
    ]
    window = window_line(now, clearing.until or rfc.end_date, len(clearing.waves), journal.past(rfc.release), rfc.release)
    told = [clearing.clearance.sentence(), *clearing.clearance.details()] if clearing.clearance.granted else []
    return {
        "lines": [*told, *plan_lines(steps, rfc.version), window],
        "steps": [
            {"wave": step.wave, "host": step.host, "from": step.installed, "to": rfc.version, **asdict(step.transfer)} for step in steps
        ],
    }


def _remember(dsl: str, cmdb_url: str, clearing: Clearing, now: datetime, write: bool) -> None:
    """Note what the library had when this was cleared; not for a run that is refused for how it was called, which changes nothing."""
    if write:
        remember_sight(cmdb_url, clearing.sight, now)
        if clearing.sight:
            list_release(open_library(dsl).repository(clearing.sight.name), clearing.sight.name)


def _keep_clearance(clearing: Clearing, rfc: Rfc, dsl: str, cmdb_url: str, policy_path: str | None, signer: Signer, now: datetime) -> None:
    """Keep the clearance beside the package, signed."""
    summary = clearing.summary(policy_path, dsl, signer.public_key.keyid)
    kept = attach(open_library(dsl).repository(rfc.release), rfc.digest, sign(summary, signer, now))
    remember_sight(cmdb_url, Sight(rfc.release, rfc.version, rfc.digest, {kept: "clearance"}), now, signer)


def backing_out(deployment: Deployment, hosts: Sequence[str], is_: str) -> str:
    """What an ordered back-out comes to, for a person; ``hosts`` are those that go back, the last wave's first."""
    what = f"{deployment.rfc}: {deployment.release} {deployment.version}"
    if not hosts:
        return f"{what} {is_} cancelled, for no host has it"
    being = "being backed" if is_ == "is" else "backed"
    return f"{what} {is_} {being} out of {counted(len(hosts), 'host')}: {listed(list(reversed(hosts)))}"


@dataclass(frozen=True)
class Reach:
    """The hosts that this run can visit: those of the ``inventory`` but for what ``--limit`` leaves ``outside``."""

    inventory: Collection[str]
    outside: Collection[str]

    def check(self, hosts: Iterable[str], noun: str, which: str) -> None:
        """Raise :class:`TidegateError` when a run would not get to all ``hosts``; ``noun`` and ``which`` say what they are."""
        wanted = list(hosts)
        missing = [host for host in wanted if host not in self.inventory]
        if missing:
            raise TidegateError(
                f"{_some(missing, noun, which)} not in the inventory ({_names(missing)}); "
                "give the inventory of this CMDB with -i, a file with plugin: tidegate.release.cmdb, without --limit"
            )
        left_out = [host for host in wanted if host in self.outside]
        if left_out:
            raise TidegateError(f"{_some(left_out, noun, which)} left out by --limit ({_names(left_out)}); run this again without it")


def _some(hosts: list[str], noun: str, which: str) -> str:
    return f"1 {noun} {which} is" if len(hosts) == 1 else f"{len(hosts)} {noun}s {which} are"


def _names(hosts: list[str]) -> str:
    return f"{', '.join(hosts[:5])}{', ...' if len(hosts) > 5 else ''}"


def _resume(
    journal: Journal,
    current: Deployment,
    reach: Reach,
    now: datetime,
    until: datetime | None,
    interrupted: Interrupted,
    *,
    write: bool,
    take_over: bool,
) -> dict[str, Any]:
    if current.state not in states.OPEN:
        journal.refuse_superseded(current.id)  # or it would be said to be live
        return {
            **result(f"{current.label} is already {current.state}; nothing to do", changed=False),
            "progress": {"step": "plan", "state": current.state, "detail": f"{current.label} is already {current.state}"},
        }
    refuse_interrupted(interrupted, write)
    _refuse_empty_wave(journal, current)
    journal.refuse_resume(current)
    sentence = f"{current.label} goes on where it stands: {words(current.state)}"
    reach.check(journal.to_visit(current), "host", f"that {current.label} has still to visit")
    if not take_over:
        journal.refuse_driven(current.id, Holder.this_run(), now)
    if write:
        journal.take_over(current.id, Holder.this_run(), now, until, ordered=take_over)
    return {**result(sentence, changed=True), "progress": {"step": "plan", "state": "resumed", "detail": sentence}}


def refuse_interrupted(interrupted: Interrupted, write: bool) -> None:
    """Raise :class:`StateError` when somebody interrupted the run before it has begun anything."""
    stop = interrupted() if write else ""
    if stop:
        raise StateError(f"{stop} before anything was begun, so nothing was changed; run the same command again to go on")


def _refuse_empty_wave(journal: Journal, current: Deployment) -> None:
    """A wave that is open and has no host left that gets the release says nothing about it, so no other may follow."""
    number = next((number for number, state, _decision in journal.waves(current.id) if state is WaveState.OPEN), None)
    wave = [target for target in journal.targets(current.id) if target.wave == number]
    if current.state is not DeploymentState.BACKING_OUT and wave and all(target.state in states.LEFT_OUT for target in wave):
        raise ConflictError(
            f"every host of wave {number} of {current.label} is written off or could not be staged, {wave[0].host} first, so no host shows "
            "whether the release is good; back the deployment out, and raise a new RFC for the hosts that are left"
        )


def _refuse_moved_scope(journal: Journal, current: Deployment, selected: Collection[str]) -> None:
    """The hosts still to change have to be among those that the RFC, as just cleared, selects; finished ones may have left its query."""
    if current.state not in states.OPEN:
        return
    waiting = (HostState.PLANNED, HostState.STAGED, HostState.STAGE_FAILED)
    outside = [target.host for target in journal.targets(current.id) if target.state in waiting and target.host not in selected]
    if outside:
        raise ConflictError(
            f"{current.rfc} no longer selects {len(outside)} of the hosts that {current.label} is still to change "
            f"({', '.join(outside[:5])}); give the RFC its scope back, or back the deployment out and raise a new RFC"
        )


def result(sentence: str, changed: bool) -> dict[str, Any]:
    return {"changed": changed, "msg": sentence}
