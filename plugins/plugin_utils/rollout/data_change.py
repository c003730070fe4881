# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment does to data, in words, and what a person may say of it. Pure.

A step that was interrupted, or that failed, may have done all, nothing or a part. Nobody but a person can see which, so it is never run
again before one has said so, of this very attempt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..errors import StateError
from .states import DATA_FAILED, IN_DOUBT, DataState, DeploymentState, HostState

if TYPE_CHECKING:
    from .deployments import Deployment, JournalEntry, Target

VARIABLE = "tidegate_data"
"""The extra variable by which a person says how the data are."""

_ATTEMPTS = (DataState.MIGRATING, DataState.REVERSING)
_STEP = {DataState.MIGRATING: "migrate", DataState.REVERSING: "reverse"}
_FORM = re.compile(r"(migrated|as_before|kept):([1-9][0-9]{0,17})")
# By what a person says and how the data are on record, how they are then.
_FOLLOWS: Mapping[str, Mapping[DataState, DataState]] = {
    "migrated": {DataState.MIGRATING: DataState.MIGRATED, DataState.REVERSING: DataState.MIGRATED},
    "as_before": {DataState.MIGRATING: DataState.NOT_MIGRATED, DataState.REVERSING: DataState.REVERSED},
    "kept": {},
}
# The same, of who wants the hosts back.
_FOLLOWS_BACK: Mapping[str, Mapping[DataState, DataState]] = {
    "migrated": _FOLLOWS["migrated"],
    "as_before": {**_FOLLOWS["as_before"], DataState.MIGRATED: DataState.REVERSED},
    "kept": dict.fromkeys((DataState.MIGRATING, DataState.MIGRATED, DataState.REVERSING), DataState.KEPT),
}
_ALREADY = {
    "migrated": (DataState.MIGRATED,),
    "as_before": (DataState.NOT_MIGRATED, DataState.REVERSED),
    "kept": (DataState.KEPT,),
}


@dataclass(frozen=True)
class DataStatement:
    """What a person says of the data: ``migrated``, ``as_before``, or ``kept`` for hosts that go back without them.

    ``attempt``: the number of the attempt to migrate or reverse, after which they looked. ``backout``: whether they want the hosts back.
    ``by``: who that is; ``signed``: what the journal has of their signature.
    """

    what: str
    attempt: int
    reason: str
    backout: bool = False
    by: str = ""
    signed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str, reason: str, backout: bool) -> DataStatement:
        """Read the variable; raises :class:`StateError` when it has another form."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise StateError(f"{VARIABLE} is {text!r:.100}; write it as the message that asked for it has it, such as migrated:1")
        return cls(found[1], int(found[2]), reason, backout)


def last_attempt(log: Sequence[JournalEntry]) -> int:
    """The number of the last attempt to migrate or to reverse, 0 when there was none; ``log`` are the journal's entries about data.

    It is that of its entry, so no attempt of another deployment has it.
    """
    return max((entry.seq for entry in log if entry.event in _ATTEMPTS), default=0)


def after_statement(deployment: Deployment, log: Sequence[JournalEntry], said: DataStatement) -> DataState:
    """How the data are with what a person said; raises :class:`StateError` when that can't be so, or is of an earlier attempt."""
    data, last = deployment.data, last_attempt(log)
    if said.attempt != last:
        if said.attempt < last and data not in IN_DOUBT and not said.backout:
            return data  # the same command again, and since then it went on
        raise StateError(
            f"{VARIABLE} is about attempt {said.attempt}, but the last one to change data for {deployment.label} was number {last}; "
            f"look at the data as they are now, and say {said.what}:{last} if that is still so"
        )
    if data in _ALREADY[said.what]:
        return data
    new = (_FOLLOWS_BACK if said.backout else _FOLLOWS)[said.what].get(data)
    if new is None:
        by = " by deploy" if not said.backout and data in _FOLLOWS_BACK[said.what] else ""
        raise StateError(
            f"the data of {deployment.label} are {words(data)}, so {VARIABLE}={said.what}:{said.attempt} can't be taken{by}; "
            f"leave it out{', or back out with it' if by else ''}"
        )
    return new


def after_ordered(deployment: Deployment, log: Sequence[JournalEntry], said: DataStatement | None) -> DataState:
    """How the data are that a person orders to be backed out of; raises :class:`StateError` when they can't be, or nobody knows."""
    data = deployment.data if said is None else after_statement(deployment, log, said)
    barrier = no_way_back(replace(deployment, data=data), log)
    if barrier and deployment.state is not DeploymentState.BACKING_OUT:
        raise StateError(barrier)
    return data


def words(data: DataState) -> str:
    """How the data are, for a person."""
    return data.replace("_", " ")


def in_doubt(deployment: Deployment, log: Sequence[JournalEntry]) -> str:
    """Why a person has to look at the data, and what to say then; empty when there is no reason to."""
    if deployment.data not in IN_DOUBT:
        return ""
    number, step = last_attempt(log), _STEP[deployment.data]
    failed = log[-1].data.get("detail") if log and log[-1].event == DATA_FAILED[deployment.data] else ""
    then = "" if step == "migrate" else ", so that reverse runs again"
    ended = f"failed ({failed})" if failed else "was interrupted"
    return (
        f"{step} on {deployment.rollout.data_host} {ended}, so it is not known what it has done to the data, and it does not run again by "
        "itself: see that nothing of it runs any more, look at the data, and run the same command again with the reason as tidegate_reason "
        f"and -e {VARIABLE}=migrated:{number} if they are migrated{then}, or -e {VARIABLE}=as_before:{number} if they are as before"
    )


def statements(deployment: Deployment, log: Sequence[JournalEntry]) -> dict[str, str]:
    """What a person can say of data that nobody knows, by when they say it; empty when there is no reason to."""
    if deployment.data not in IN_DOUBT:
        return {}
    number = last_attempt(log)
    return {"If the data are migrated": f"migrated:{number}", "If they are as before": f"as_before:{number}"}


def not_to_migrate(deployment: Deployment, targets: Iterable[Target]) -> str:
    """Why data that are to be migrated can't be, by how its host was staged; empty when they can, or need not."""
    if deployment.data is not DataState.NOT_MIGRATED:
        return ""
    host = deployment.rollout.data_host
    state = next((target.state for target in targets if target.host == host), HostState.PLANNED)
    return "" if state is HostState.STAGED else f"{host}, on which data are to be migrated, is {state.replace('_', ' ')}"


def no_way_back(deployment: Deployment, log: Sequence[JournalEntry]) -> str:
    """Why a deployment can't be backed out as its data are; empty when it can."""
    doubt = in_doubt(deployment, log)
    if doubt:
        return doubt
    if not is_past_return(deployment):
        return ""
    number = last_attempt(log)
    return (
        f"{deployment.label} is past its point of no return: {deployment.release} {deployment.version} has migrated data and says "
        "reverse: none, so it is not backed out. Go on with deploy, or with a release that mends it. "
        f"Only who knows better says so: backout with -e {VARIABLE}=as_before:{number} if the data were brought back otherwise, "
        f"or -e {VARIABLE}=kept:{number} if the release before gets on with them as they are; and the reason as tidegate_reason"
    )


def is_past_return(deployment: Deployment) -> bool:
    """Whether it has migrated data, and its release can't undo that."""
    return deployment.data is DataState.MIGRATED and deployment.rollout.no_return


def past_return(deployment: Deployment) -> str:
    """That its data can't be brought back, for the reason of a gate; empty where they can."""
    return "it is past the point of no return, for nothing brings the migrated data back" if is_past_return(deployment) else ""
