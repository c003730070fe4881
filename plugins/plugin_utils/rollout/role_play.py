# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The play by which a release's own role does a wave, and what its receipts say of each host. Pure.

A team's tasks run in an ansible-playbook of their own, once for the hosts of a wave, so whatever they do to a play they do to that one.
Nobody believes how it ends: a host is good when the receipts show that it reached the last task, that nothing failed on it, and that it
was reached all the time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

MARK = "TIDEGATE_RUN"
"""The variable of the environment that all carries which a wave's tasks start: ``deployment:number``, higher in each run of it."""

STEP = "tidegate_step"
"""The variable of each task that says of which part of the play it is."""

RECEIPTS = "tidegate_receipts"
"""The variable with the path of the file that receipts are written to."""
LOADED = "loaded"
"""What stands in it before the first task, when there is somebody who writes."""

# Ansible goes on without a callback that it can't load; then nobody would know what is done.
_WITNESSED = {
    "name": "what is done is written down",
    "ansible.builtin.assert": {"that": f"'{LOADED}' in lookup('ansible.builtin.file', {RECEIPTS})", "quiet": True},
    "run_once": True,
    "delegate_to": "localhost",
    "become": False,
    "vars": {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"},
}
_TREE = "tidegate.release.tree"


@dataclass(frozen=True)
class Role:
    """A release's own role, unpacked at ``path``; ``steps`` are those that it has, ``handlers`` the names of its handlers."""

    path: str
    steps: tuple[str, ...]
    handlers: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlayPart:
    """A task of the play that is ours, or a step of the role: ``called`` says which in messages, ``tasks`` are Ansible's.

    ``step``: which of the role's it is, empty for ours; the role says how long each of them may take.
    """

    called: str
    tasks: tuple[Mapping[str, Any], ...]
    step: str = ""


@dataclass(frozen=True)
class Receipt:
    """What was seen of a task on a host: ``event`` is ``reached`` (the last one), ``failed`` or ``unreachable``.

    ``message`` is empty for tasks that are not ours: what they say may have secrets in it. ``part``: of which part of the play it is.
    """

    event: str
    host: str
    task: str
    module: str
    message: str = ""
    part: str = ""


@dataclass(frozen=True)
class HostVerdict:
    """What became of a host: ``problem`` is empty when it is good, and ``unreachable`` whether it could not be reached.

    ``part``: the part of the play in which it failed, and behind which nothing was done there; empty where that is not certain.
    """

    problem: str = ""
    unreachable: bool = False
    part: str = ""


def forward(role: Role, what: str, tree: bool, stable: float, resumed: Collection[str]) -> list[PlayPart]:
    """What is done to a wave's hosts: out of service, the new tree, the role's tasks, a look at health, into service again.

    ``stable``: for how many seconds it has to stay healthy. ``resumed``: hosts that an interrupted run may owe what its handlers do.
    """
    parts = [*_wait(resumed), _step(role, "drain", what), *_ours(tree, "activate", f"the tree of {what}")]
    parts += [_step(role, "activate", what, resumed), *_ours(tree, "settle", f"the health of {what}")]
    if tree and stable > 0:
        pause = {"ansible.builtin.pause": {"seconds": stable}}
        parts += [PlayPart(f"{what} has to stay healthy", (pause,)), *_ours(tree, "confirm", f"whether {what} stayed healthy")]
    return [*parts, _step(role, "check", what), _step(role, "restore", what)]


def back(
    role: Role, what: str, tree: bool, before: Role | None, own: bool, to: str, resumed: Collection[str]
) -> list[tuple[Role, list[PlayPart]]]:
    """What is done to hosts that go back to ``to``, in runs one after the other: the role of each, and its parts.

    ``before``: the role of the release before, ``None`` where there is none. ``own``: this one's ``back_out`` undoes it, else the
    ``activate`` of ``before`` brings that back. Either way the ``check`` of ``before`` says whether it came back, ahead of ``restore``.
    In one run Ansible takes a handler of one role for that of the other, so each has its own.
    """
    leave = [*_wait(resumed), _step(role, "drain", what), *_ours(tree, "leave", f"the tree of {to}")]
    if own:
        leave.append(_tasks(role.path, "back_out", _title("back_out", what)))
    health, restore = _ours(tree, "backout", f"the health of {to}"), _step(role, "restore", what)
    if before is None or (own and "check" not in before.steps):
        return [(role, [*leave, *health, restore])]
    activate = [] if own else [_step(before, "activate", to, resumed)]
    return [(role, leave), (before, [*activate, *health, _step(before, "check", to)]), (role, [restore])]


def serve_again(role: Role, what: str, resumed: Collection[str]) -> list[PlayPart]:
    """What is done to hosts that could not be taken out of service, and that nothing else was done to."""
    return [*_wait(resumed), _step(role, "restore", what)]


def failed_to_drain(verdict: HostVerdict, what: str) -> bool:
    """Whether a host failed in ``drain`` of the release ``what``, so that nothing behind that was begun there."""
    return bool(verdict.part) and verdict.part == _title("drain", what)


def on_data(role: Role, step: str, what: str, host: str) -> list[PlayPart]:
    """What is done to data, on ``host``: ``migrate`` or ``reverse``.

    Before the last part it is reached, and nothing of an earlier attempt runs there. That part begins with a task of ours, so as long as it
    was not seen, none of the role was begun.
    """
    part = _tasks(role.path, step, _title(step, what))
    return [*_wait([host]), replace(part, tasks=({"ansible.builtin.debug": {"msg": "begun"}}, *part.tasks))]


def check_alone(role: Role, what: str) -> list[PlayPart]:
    """What is done to hosts that have the release already, as far as anybody knows: a look whether that is so."""
    return [_step(role, "check", what)]


def play(
    name: str, hosts: Sequence[str], parts: Iterable[PlayPart], mark: str, end: str, *, facts: bool, tree: Mapping[str, Any]
) -> dict[str, Any]:
    """The play of these ``parts``; ``end`` is the name of its last task, ``mark`` the value of :data:`MARK`.

    ``tree``: options that every task of ours gets, for not all of them need be extra variables.
    """
    tasks: list[dict[str, Any]] = [_WITNESSED]
    for part in parts:
        for task in part.tasks:
            given = {_TREE: {**task[_TREE], **tree}} if _TREE in task else {}
            tasks += [{"name": part.called, **task, **given, "vars": {STEP: part.called}}]
        if part.tasks:
            tasks.append({"name": f"handlers of {part.called}", "ansible.builtin.meta": "flush_handlers"})
    tasks.append({"name": end, "ansible.builtin.debug": {"msg": "reached"}})
    return {
        "name": name,
        "hosts": list(hosts),
        "gather_facts": facts,
        "strategy": "ansible.builtin.linear",
        "any_errors_fatal": False,
        "ignore_unreachable": False,
        "force_handlers": False,
        "become": "{{ tidegate_become | default(true) }}",
        "environment": {MARK: mark},
        "tasks": tasks,
    }


def verdicts(
    hosts: Iterable[str], receipts: Collection[Receipt], failures: Mapping[str, int], ended: str, last: str = ""
) -> dict[str, HostVerdict]:
    """What became of each host; ``failures`` counts its failed tasks, ``ended`` says how the run ended where nothing else is known.

    ``last``: the part that was begun last, behind which nothing was done on any host. A failure that a role's ``rescue`` took care of, or
    that it ignored, is none.
    """
    found = {host: _verdict(host, [one for one in receipts if one.host == host], failures, ended) for host in hosts}
    return {host: replace(one, part=one.part or last) if one.problem else one for host, one in found.items()}


def _verdict(host: str, receipts: Collection[Receipt], failures: Mapping[str, int], ended: str) -> HostVerdict:
    for one in receipts:
        if one.event == "unreachable":
            return HostVerdict(f"it was not reached in the task {_called(one)}", unreachable=True)
    failed = [one for one in receipts if one.event == "failed"]
    if host in failures and not failures[host] and any(one.event == "reached" for one in receipts):
        return HostVerdict()
    if failed:
        # One that failed for good gets no further task; what it ignored, or was rescued from, is not among its failures.
        part = failed[-1].part if failures.get(host) else ""
        return HostVerdict(f"the task {_called(failed[-1])} failed{f': {failed[-1].message}' if failed[-1].message else ''}", part=part)
    return HostVerdict(f"its tasks ended before the last one ({ended})")


def _title(step: str, what: str) -> str:
    return f"{step} of {what}"


def _called(receipt: Receipt) -> str:
    return f"{receipt.task!r} ({receipt.module})"


def _wait(resumed: Collection[str]) -> list[PlayPart]:
    """No task runs twice at once: on hosts that were interrupted, what still runs is waited for."""
    task = {_TREE: {"step": "wait"}, "when": f"inventory_hostname in {sorted(resumed)!r}"}
    return [PlayPart("what an interrupted run has left running", (task,))] if resumed else []


def _step(role: Role, step: str, what: str, resumed: Collection[str] = ()) -> PlayPart:
    if step not in role.steps:
        return PlayPart(step, ())
    part = _tasks(role.path, step, _title(step, what))
    if not (resumed and role.handlers):
        return part
    owed = {
        "name": "handlers that an interrupted run may owe",
        "ansible.builtin.debug": {"msg": "notified"},
        "changed_when": True,
        "notify": list(role.handlers),
        "when": f"inventory_hostname in {sorted(resumed)!r}",
    }
    return PlayPart(part.called, (*part.tasks, owed), step)


def _tasks(path: str, step: str, called: str) -> PlayPart:
    return PlayPart(called, ({"ansible.builtin.import_role": {"name": path, "tasks_from": step}},), step)


def _ours(tree: bool, step: str, called: str) -> list[PlayPart]:
    return [PlayPart(called, ({_TREE: {"step": step}},))] if tree else []
