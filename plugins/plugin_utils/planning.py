# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a cleared RFC to a plan in the journal, or back to where an interrupted deployment stands."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .clearing import clear, without
from .cmdb.store import Cmdb
from .dsl.home import open_library
from .errors import ConflictError, TidegateError
from .evidence.envelope import sign
from .evidence.store import attach
from .gating import catch_up
from .licence.entitlements import reserve
from .rfc.course import enter
from .rfc.model import load_rfc, rfc_number
from .rfc.source import open_change
from .rollout import states
from .rollout.debts import forget, incur
from .rollout.deployments import Deployment, Run
from .rollout.holder import Holder
from .rollout.journal import Journal
from .rollout.states import DeploymentState, HostState, WaveState
from .telling import concerns, teller, warned

if TYPE_CHECKING:
    import sqlalchemy as sa
    from securesystemslib.signer import Signer


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
) -> dict[str, Any]:
    """Clear the RFC and begin its deployment, or take over the one that is open; return the task's result.

    A deployment that is backing out goes on without clearance: its window may be over, and hosts must not stay in between.
    ``inventory`` are the hosts that Ansible knows. With a ``signer`` the clearance of a new deployment is kept beside the package, signed.
    With ``write`` false nothing is written and the plan is only told.
    Raises :class:`TidegateError` when the RFC is not cleared, its CIs are locked or not in the inventory, its scope has left
    hosts of the plan, or the deployment of this RFC has already failed or was replaced by a later one.
    """
    with Cmdb.open(cmdb_url) as cmdb:
        journal = Journal(cmdb)
        number = rfc_number(rfc_path)
        current = journal.latest(number)
        if current is not None and current.state is DeploymentState.BACKING_OUT:
            return _resume(journal, current, now, write)
        if current is not None and current.state is DeploymentState.BACKED_OUT:
            missed = catch_up(journal, current, open_change(rfc_path), now) if write else []
            raise ConflictError("; ".join((f"{number} was backed out ({current.reason}); raise a new RFC for the next attempt", *missed)))
        if current is not None and current.state is DeploymentState.COMPLETED and load_rfc(rfc_path).digest == current.digest:
            return _resume(journal, current, now, write)  # its RFC may be closed by now, and nothing is done to any host

        clearing = clear(rfc_path, dsl, cmdb_url, policy_path, now)
        if not clearing.clearance.granted or clearing.rfc is None or clearing.policy is None:
            raise TidegateError(f"{clearing.clearance.sentence()}\n{clearing.clearance.text()}")
        rfc = clearing.rfc
        owed = clearing.policy.emergency if rfc.type == "emergency" else {}
        if current is not None and current.state is not DeploymentState.CANCELLED:
            if current.digest != rfc.digest:
                raise ConflictError(
                    f"{number} now names {rfc.digest}, but {current.label} is {current.state} with {current.digest}; back that out first"
                )
            _refuse_moved_scope(journal, current, {str(ci["name"]) for ci in cmdb.query(rfc.scope)})
            if write and current.state in states.OPEN:
                with cmdb.begin() as connection:
                    incur(connection, rfc, owed, now)  # it may have become an emergency since it began
                    enter(connection, rfc, (str(ci["name"]) for ci in clearing.cis), now)
            return _resume(journal, current, now, write, clearing.until)

        waves = clearing.waves
        hosts = [host for wave in waves for host in wave]
        missing = sorted(host for host in hosts if host not in inventory)
        if missing:
            raise TidegateError(
                f"{len(missing)} CIs in the scope of {number} are not in the inventory ({', '.join(missing[:5])}); "
                "use the inventory of this CMDB, without --limit"
            )
        rollout = clearing.policy.rollout
        package = {"name": rfc.release, "version": rfc.version, "digest": rfc.digest}
        if write and signer is not None:
            attach(open_library(dsl).repository(rfc.release), rfc.digest, sign(clearing.summary(policy_path), signer, now))
        product = clearing.product

        def along(connection: sa.Connection, deployment_id: int) -> None:
            forget(connection, number)
            incur(connection, rfc, owed, now)
            enter(connection, rfc, (str(ci["name"]) for ci in clearing.cis), now)
            reserve(connection, deployment_id, product, rfc.release, hosts, (now, rfc.end_date))

        run = journal.begin(number, package, waves, rollout, Holder.this_run(), now, along) if write else None
        sentence = (
            f"{number}: {rfc.release} {rfc.version} to {len(hosts)} hosts in {len(waves)} waves ({', '.join(str(len(w)) for w in waves)})"
            f"{without(clearing.left_out)}"
        )
        problems = []
        if run is not None:
            concerns(journal, run, rfc, now)
            problems = teller(policy_path)(journal, run, "cleared", sentence, now)
        return {
            **_result(run, sentence, changed=True),
            **warned(problems),
            "waves": [list(wave) for wave in waves],
            "controls": clearing.clearance.to_dict()["controls"],
            "progress": {"step": "plan", "state": "planned", "detail": sentence, "hosts": len(hosts), "waves": len(waves)},
        }


def order_backout(*, rfc_path: str, cmdb_url: str, policy_path: str | None, reason: str, now: datetime, write: bool) -> dict[str, Any]:
    """A person wants the deployment of this RFC undone; take it over and say so in the journal."""
    with Cmdb.open(cmdb_url) as cmdb:
        journal = Journal(cmdb)
        number = rfc_number(rfc_path)
        current = journal.latest(number)
        if current is None:
            raise TidegateError(f"{number} was never deployed, so there is nothing to back out; check the RFC")
        if current.state in (DeploymentState.BACKED_OUT, DeploymentState.CANCELLED):
            run = Run(current.id, current.token) if write else None  # what its change system missed of it is still to be written
            return _result(run, f"{current.label} is already {current.state}", changed=False)
        if not write:
            return _result(None, f"{current.label} would be backed out", changed=True)
        run = journal.take_over(current.id, Holder.this_run(), now)
        state = journal.order_backout(run, reason, now)
        told = state is DeploymentState.BACKING_OUT and current.state is not state
        problems = teller(policy_path)(journal, run, "back_out", reason, now) if told else []
        return {**_result(run, f"{current.label} is now {state}", changed=True), **warned(problems)}


def _resume(journal: Journal, current: Deployment, now: datetime, write: bool, until: datetime | None = None) -> dict[str, Any]:
    if current.state not in states.OPEN:
        journal.refuse_superseded(current.id)  # or it would be said to be live
        return {
            **_result(Run(current.id, current.token), f"{current.label} is already {current.state}; nothing to do", changed=False),
            "progress": {"step": "plan", "state": current.state, "detail": f"{current.label} is already {current.state}"},
        }
    _refuse_empty_wave(journal, current)
    sentence = f"{current.label} goes on where it stands: {current.state}"
    run = journal.take_over(current.id, Holder.this_run(), now, until) if write else None
    return {**_result(run, sentence, changed=True), "progress": {"step": "plan", "state": "resumed", "detail": sentence}}


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


def _result(run: Run | None, sentence: str, changed: bool) -> dict[str, Any]:
    facts = {} if run is None else {"tidegate_run": {"deployment": run.deployment, "token": run.token}}
    return {"changed": changed, "msg": sentence, "ansible_facts": facts}
