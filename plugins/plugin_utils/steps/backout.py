# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A person wants a deployment undone: take it over and say so in the journal; the hosts follow in steps of their own.

A host that no step of ours can bring back is brought back by a person, who says so.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..activity import listed
from ..clearance.policy import load_policy
from ..cmdb.store import Cmdb
from ..dhs.work_order import WorkOrderState
from ..dhs.work_orders import list_work_orders
from ..errors import NotFoundError, StateError, TidegateError
from ..evidence.statement import ACCEPTED, DONE_BY_HAND
from ..report.progress import counted, words
from ..rfc.source import rfc_number
from ..rollout import states
from ..rollout.data_change import after_ordered
from ..rollout.data_journal import DataJournal
from ..rollout.deployments import Deployment, Target
from ..rollout.host_statements import not_by_hand
from ..rollout.journal import Journal
from ..rollout.states import DataState, DeploymentState
from ..rollout.stranded import ACCEPT
from .person import responsible_person, signed_about_host, vouched_data
from .plan import RunRequest, result
from .tell import make_notifier, warned

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

_ORDERED = "ordered by a person"


def order_backout(
    request: RunRequest,
    *,
    cmdb_url: str,
    policy_path: str | None,
    reason: str,
    now: datetime,
    by_hand: Collection[str] = (),
    accepted: Collection[str] = (),
    signer: Signer | None = None,
) -> dict[str, Any]:
    """A person wants the deployment of this RFC undone; take it over and say so in the journal. Return the task's result.

    The hosts ``by_hand`` are recorded as being back, those ``accepted`` as staying as they are, and neither are visited any more. Raises
    :class:`TidegateError` when there is no deployment,
    another controller drives it, a later one has replaced it, or a host that has to go back is not in the inventory or left out, or can't
    go back and is not accepted; and when
    one of ``by_hand`` can't have been brought back so, or no reason is given for that. What is said of these hosts, or of data, has to be
    signed with ``signer`` by somebody whom the policy names, when it names people.
    """
    reason = " ".join(reason.split())
    with Cmdb.open(cmdb_url) as cmdb:
        journal = Journal(cmdb)
        number = rfc_number(request.rfc_path)
        current = journal.latest(number)
        if current is None:
            raise TidegateError(f"{number} was never deployed, so there is nothing to back out; check the RFC")
        done = _refuse_by_hand(journal, current, by_hand)
        staying = _refuse_accepted(journal, current, accepted)
        if current.state in (DeploymentState.BACKED_OUT, DeploymentState.CANCELLED):
            return result(f"{current.label} is already {words(current.state)}", changed=False)
        persons = [
            _person(policy_path, signer, reason, f"that {', '.join(target.host for target in targets)} {what}", now) if targets else ""
            for targets, what in ((done, "was brought back by hand"), (staying, "stays as it is"))
        ]
        if request.said is not None:
            request = replace(request, said=vouched_data(request.said, current, load_policy(policy_path), signer, now))
        journal.refuse_backout(current)
        data = after_ordered(current, journal.data_log(current.id), request.said)
        later = DataJournal(cmdb).later_change(current) if data is DataState.MIGRATED else ""
        if later and current.state is not DeploymentState.BACKING_OUT:
            raise StateError(f"the data of {current.label} can't be reversed, so no host goes back: {later}")
        names = [target.host for target in (*done, *staying)]
        if current.state is not DeploymentState.BACKING_OUT and (ways := journal.ways_out(current, names)):
            raise StateError(f"{current.label} can't be backed out as it is: {ways}")
        hosts = [host for host in journal.to_visit(current, backout=True) if host not in names]
        by_step = current.rollout.data_host not in {*names, *journal.by_hand(current.id)}
        reversing = [current.rollout.data_host] if data is DataState.MIGRATED and by_step else []
        planned = [target.host for target in journal.targets(current.id)] if request.slice_ else ()
        request.refuse_unreached(dict.fromkeys([*hosts, *reversing]), "host", f"that {current.label} has to be backed out of", planned)
        request.refuse_driven(journal, current, now)
        drained = journal.out_of_service(current.id, [target.host for target in done])
        left = f"; {', '.join(target.host for target in staying)} {{}} recorded as staying as it is" if staying else ""
        if not request.write:
            return result(_sentence(current, hosts, done, drained, "would be", data, by_step) + left.format("would be"), changed=True)
        request.refuse_interrupted()
        by_word = _by_word(current, done, drained, reason, signer, now)
        about = {"deployment": current.label, "release": _release(current), "reason": reason}
        stays = {target.host: signed_about_host(target.host, ACCEPTED, about, signer, now) for target in staying}
        with cmdb.begin() as connection:  # or who is killed in between would have said how the data are, and not that the hosts go back
            run = request.drive(journal, current.id, now, within=connection, back=True)
            if stays:
                journal.accept(run, stays, persons[1], reason, now, connection)
            state = journal.order_backout(run, reason or _ORDERED, now, connection)
            if done:
                journal.done_by_hand(run, by_word, persons[0], reason, now, connection)
        begins = state is DeploymentState.BACKING_OUT and current.state is not state
        problems = make_notifier(lambda: load_policy(policy_path))(journal, run, "back_out", reason or _ORDERED, now) if begins else []
        sentence = _sentence(current, hosts, done, drained, "is", data, by_step) + left.format("is")
        return {**result(sentence, changed=True), **warned(problems)}


def _refuse_by_hand(journal: Journal, current: Deployment, hosts: Collection[str]) -> list[Target]:
    """The hosts that are to be recorded as brought back by hand; those that are back already are left out."""
    if not hosts:
        return []
    targets = {target.host: target for target in journal.targets(current.id)}
    others = sorted(set(hosts) - targets.keys())
    if others:
        raise NotFoundError(f"{', '.join(others)} is not part of {current.label}, so it owes nothing there; check the names")
    wanted = [targets[host] for host in sorted(set(hosts)) if targets[host].state is not states.HostState.BACKED_OUT]
    for target in wanted:
        if target.state not in states.BY_HAND or current.state not in states.OPEN:
            raise StateError(not_by_hand(current, target))
    return wanted


def _refuse_accepted(journal: Journal, current: Deployment, hosts: Collection[str]) -> list[Target]:
    """The hosts that are to be recorded as staying as they are; those that are so already are left out."""
    if not hosts:
        return []
    if not (current.rollout.firmware or current.rollout.hardware):
        raise StateError(f"{ACCEPT} is about firmware and parts that nobody brings back, and {current.release} is software; leave it out")
    targets = {target.host: target for target in journal.targets(current.id)}
    others = sorted(set(hosts) - targets.keys())
    if others:
        raise NotFoundError(f"{', '.join(others)} is not part of {current.label}, so it did nothing there; check the names")
    wanted = [targets[host] for host in sorted(set(hosts)) if targets[host].state is not states.HostState.ACCEPTED]
    with journal.cmdb.read() as connection:
        claimed = list_work_orders(connection, deployments=[current.id], cis=[x.host for x in wanted], states=[WorkOrderState.CLAIMED])
    if claimed:
        raise StateError(f"nobody knows yet what stays there: {claimed[0].sentence()}")
    for target in wanted:
        if target.state not in states.TOUCHED:
            raise StateError(f"{target.host} is {target.state} in {current.label}, so there is nothing to accept; leave it out")
    return wanted


def _person(policy_path: str | None, signer: Signer | None, reason: str, what: str, now: datetime) -> str:
    """Who takes the responsibility for ``what`` is said of hosts."""
    if not reason:
        raise TidegateError(f"no reason is given for what is said, {what}; give it in tidegate_reason, for those who ask later")
    return responsible_person(load_policy(policy_path), signer, now, f"{what} is said")


def _release(current: Deployment) -> dict[str, str]:
    """What a signed statement says of a deployment's release."""
    return {"name": current.release, "version": current.version, "digest": current.digest}


def _by_word(
    current: Deployment, done: Sequence[Target], drained: Collection[str], reason: str, signer: Signer | None, now: datetime
) -> dict[str, dict[str, Any]]:
    """What the history has of hosts that are back by a person's word: the signed statement of that, and whether the host is drained."""
    said = {}
    for target in done:
        to = {"version": target.previous_version, "digest": target.previous_digest} if target.previous_digest else None
        about = {
            "deployment": current.label,
            "release": _release(current),
            "to": to,
            "reason": reason,
        }
        left: dict[str, Any] = {"drained": True} if target.host in drained else {}
        said[target.host] = {**left, **signed_about_host(target.host, DONE_BY_HAND, about, signer, now)}
    return said


def _sentence(
    current: Deployment, hosts: Sequence[str], done: Sequence[Target], drained: Sequence[str], is_: str, data: DataState, by_step: bool
) -> str:
    """What an ordered back-out comes to, for a person; see :func:`_going_back`."""
    if not done:
        return _going_back(current, hosts, is_, data, by_step)
    what = f"{current.rfc}: {current.release} {current.version}"
    parts = [f"{what} {is_} recorded as undone by hand on {', '.join(target.host for target in done)}"]
    if hosts or data is DataState.MIGRATED:
        parts.append(_going_back(current, hosts, is_, data, by_step))
    if drained:
        parts.append(f"the role does not go there any more, so bring into service by hand what it took out of that: {', '.join(drained)}")
    return "; ".join(parts)


def _going_back(current: Deployment, hosts: Sequence[str], is_: str, data: DataState, by_step: bool) -> str:
    """What becomes of ``hosts``, the last wave's first, and of the data, which are now as ``data`` says.

    ``by_step``: whether the role reverses them; else that is a person's to do, who has brought back their host, too.
    """
    what, data_host = f"{current.rfc}: {current.release} {current.version}", current.rollout.data_host
    in_the_end = f"reversed on {data_host}" if by_step else f"to be brought back by hand, as {data_host} was"
    then = {
        DataState.MIGRATED: f"then its data are {in_the_end}",
        DataState.REVERSED: "its data are as before",
        DataState.KEPT: "its data stay as they are",
    }.get(data)
    if not hosts:
        return f"{what} {is_} {f'being backed out: {then}' if then else 'cancelled, for no host has it'}"
    named = f"{counted(len(hosts), 'host')}: {listed(list(reversed(hosts)))}"
    return f"{what} {is_} {'being backed' if is_ == 'is' else 'backed'} out of {named}{f'; {then}' if then else ''}"
