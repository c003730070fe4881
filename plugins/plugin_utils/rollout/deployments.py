# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where deployments stand, as the journal has it: what can be asked without changing anything."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..cmdb.schema import schema
from ..errors import ConflictError, NotFoundError
from ..metrics.model import Bake, BakeVerdict
from . import redundancy, states
from .holder import Holder
from .options import Constraints, Rings, Rollout, Share, StayUp, Together
from .slices import SEVERAL
from .states import DATA_EVENTS, DataState, DeploymentState, HostState, WaveState
from .support import LateHost, Support

with suppress(ImportError):
    import sqlalchemy as sa

if TYPE_CHECKING:
    from ..cmdb.store import Cmdb
    from .planner import Plan

_D, _H, _W = DeploymentState, HostState, WaveState

# What the journal says of a deployment's change: its objectives were checked, its record was written, or could not be.
CHECKED, RECORDED, NOT_RECORDED = "objectives", "change_recorded", "change_not_recorded"

# What the journal says first of a deployment.
PLANNED = "planned"

# What it says when a controller goes on with one, or joins those that drive it.
TAKEN_OVER, JOINED = "taken_over", "joined"

# What the journal says when hosts that are late are planned anew, in waves behind those of the plan.
LATE_ROUND = "late_round"
WENT_BACK = "went_back"

# What the journal says when somebody asked that no further wave begins.
HOLD_ASKED = "hold_asked"

# What the journal says when the metrics that support ends with were measured.
EXIT = "exit_criteria"
ARMED, FIRE, WITHDRAWN = "armed", "fire", "withdrawn"

_LONGEST = 500  # letters of a line in a summary


@dataclass(frozen=True)
class Run:
    """A controller's right to drive a deployment, or its slice of one."""

    deployment: int
    token: int
    epoch: int | None = None
    """By which token the deployment is shared, ``None`` for a controller that has all of it."""

    @property
    def shared(self) -> int:
        """The token that all controllers have in common which drive the deployment now."""
        return self.token if self.epoch is None else self.epoch


@dataclass(frozen=True)
class Past:
    """How long a completed deployment took, in seconds, and in how many waves."""

    seconds: float
    waves: int


@dataclass(frozen=True)
class Deployment:
    """One row of the journal's deployments."""

    id: int
    """The number of the deployment in this CMDB."""
    rfc: str
    """The number of its RFC."""
    release: str
    """The name of the release."""
    version: str
    """Its version."""
    digest: str
    """The digest of its package, ``sha256:...``."""
    state: DeploymentState
    """Where it stands."""
    token: int
    """The fencing token of whoever drives it: a write with a lower one is refused."""
    reason: str
    """Why it stands there, as a sentence goes on with it."""
    rollout: Rollout
    """How the policy cut it, when it was planned."""
    started: datetime | None = None
    """When its first wave opened; ``None`` before."""
    finished: datetime | None = None
    """When it came to its end; ``None`` before."""
    holder: str = ""
    """The controller that drives it, or did last."""
    data: DataState = DataState.NONE
    """What it has done to data."""
    epoch: int | None = None
    """Of a deployment that several controllers drive, as one of them has it: the token that all have in common; ``token`` is its own."""

    @property
    def label(self) -> str:
        """How it is named on hosts and in messages."""
        return f"{self.rfc}#{self.id}"

    @property
    def run(self) -> Run:
        """The right of whoever holds it now."""
        return Run(self.id, self.token, self.epoch)


@dataclass(frozen=True)
class Target:
    """A host of a deployment."""

    host: str
    """Its name in inventory and CMDB."""
    wave: int
    """The number of its wave, from 1."""
    state: HostState
    """What the deployment has done to it."""
    previous_digest: str | None
    """The package that it ran before; ``None`` for nothing."""
    previous_version: str | None
    """The version of that; ``None`` for nothing."""
    detail: str
    """Why it is in its state, in one line; further lines are the last ones of the release's logs."""
    since: datetime
    """When it got its state."""
    controller: int | None = None
    """The token of the controller that has it in its slice; ``None`` where one controller has all hosts, or none has this one yet."""

    @property
    def summary(self) -> str:
        """The detail in one line: what it says first, and last."""
        first, *more = (line.strip() for line in self.detail.splitlines() or [""])
        return f"{first[:_LONGEST]} [...] {more[-1][:_LONGEST]}" if more else first[:_LONGEST]


_REMARK = "to be looked at: "


def as_remark(detail: str) -> str:
    """The detail of a host that is back, when it said something on the way; else its detail is why it went back."""
    return f"{_REMARK}{detail}" if detail else ""


def remark_in(state: str, detail: str) -> str:
    """What a person should know of a host although it came into a good ``state``; empty when there is nothing."""
    if state == _H.ACTIVE:
        return detail
    return detail.removeprefix(_REMARK) if state == _H.BACKED_OUT and detail.startswith(_REMARK) else ""


@dataclass(frozen=True)
class JournalEntry:
    """An entry of the journal about a deployment as a whole, or about a wave."""

    seq: int
    at: datetime
    event: str
    wave: int | None
    data: Mapping[str, Any]


def rollout_to_dict(rollout: Rollout) -> dict[str, Any]:
    """A rollout as JSON can hold it."""
    return asdict(rollout)


def rollout_from_dict(data: Mapping[str, Any]) -> Rollout:
    """What :func:`rollout_to_dict` made."""
    shares = {name: Share(**data[name]) for name in ("canary", "wave_budget", "total_budget")}
    constraints = _constraints(data["constraints"]) if "constraints" in data else Constraints()  # which older ones have not
    bakes = {name: Bake.from_dict(data[name]) for name in ("bake", "canary_bake", "support_exit") if data.get(name)}
    found, together = data.get("together"), None
    if found:
        lists = {name: tuple(found[name]) for name in ("releases", "types") if name in found}  # older ones have no types
        together = Together(**{**found, **lists, "quorum": Share(**found["quorum"])})
    own = {"steps": tuple(data["steps"]), "constraints": constraints, "together": together}
    return Rollout(**{**data, **shares, **own, **bakes})


def _constraints(data: Mapping[str, Any]) -> Constraints:
    rings, canary, stay_up = data["rings"], data["canary_hosts"], data["stay_up"]

    def shares(of: Mapping[str, Any]) -> dict[str, Share]:
        return {name: Share(**share) for name, share in of.items()}

    return Constraints(
        canary_hosts=canary if isinstance(canary, str) else tuple(canary),
        shuffle=data["shuffle"],
        rings=Rings(rings["by"], tuple(rings["order"])) if rings else None,
        classes=shares(data["classes"]),
        stay_up=StayUp(
            redundant=Share(**stay_up["redundant"]) if stay_up["redundant"] else None,
            groups=shares(stay_up["groups"]),
            services=shares(stay_up["services"]),
        ),
        max_waves=data["max_waves"],
    )


@dataclass(frozen=True)
class Said:
    """What was said of the instant of a wave: when it is, ``at``, with the ``hosts`` to be told; or ``None``, and ``why`` there is none."""

    at: datetime | None
    hosts: frozenset[str] = frozenset()
    why: str = ""


@dataclass(frozen=True)
class LateScope:
    """What a deployment is about once it is live on others: the ``hosts`` that it has in all, and those that it is ``changing`` or that are
    late."""

    deployment: Deployment
    hosts: frozenset[str]
    changing: frozenset[str]

    @property
    def supporting(self) -> bool:
        """Whether nothing is under way, so that CIs which have joined the scope could come in too."""
        return self.deployment.state is _D.SUPPORTING


class Deployments:
    """The deployments of one CMDB."""

    def __init__(self, cmdb: Cmdb) -> None:
        self._cmdb = cmdb
        self._t = schema()

    @property
    def cmdb(self) -> Cmdb:
        """The CMDB that they are in."""
        return self._cmdb

    def deployment(self, deployment_id: int) -> Deployment:
        """The deployment with that id; raises :class:`NotFoundError`."""
        with self._cmdb.read() as connection:
            return self._load(connection, deployment_id)

    def latest(self, rfc: str) -> Deployment | None:
        """The newest deployment of an RFC, whatever its state. Raises :class:`ConflictError` when its journal is archived."""
        table = self._t.deployment
        with self._cmdb.read() as connection:
            row = connection.execute(sa.select(table).where(table.c.rfc == rfc).order_by(table.c.id.desc()).limit(1)).one_or_none()
            archive = self._t.journal_archive.c
            file = None if row is None else connection.scalar(sa.select(archive.file).where(archive.deployment_id == row.id))
        if file is not None:
            raise ConflictError(f"{rfc} is over and its journal is archived in {file}; raise a new RFC for what is to be done now")
        return None if row is None else deployment_of(row)

    def driven_by(self, rfc: str, holder: Holder) -> Deployment:
        """The newest deployment of an RFC, if ``holder`` is the one that drives it: the journal is where a step finds its right to go on.

        Raises :class:`ConflictError` when somebody else does, :class:`NotFoundError` when the RFC has no deployment.
        """
        current = self.latest(rfc)
        if current is None:
            raise NotFoundError(f"{rfc} has no deployment, so there is nothing to go on with; clear and plan it first, as deploy does")
        mine = self.as_driven_by(current, holder)
        if mine is None:
            raise ConflictError(
                f"{current.label} is {current.state} and this run does not drive it, {current.holder} did last; "
                "run deploy to go on with it, or backout to undo it"
            )
        return mine

    def as_driven_by(self, current: Deployment, holder: Holder) -> Deployment | None:
        """A deployment with the right of ``holder``, who drives it, alone or a slice of it; ``None`` when that one does not."""
        if current.holder != SEVERAL:
            return current if current.holder == str(holder) else None
        c = self._t.controller.c
        mine = (c.deployment_id == current.id, c.epoch == current.token, c.holder == str(holder))
        with self._cmdb.read() as connection:
            token = connection.scalar(sa.select(c.token).where(*mine).order_by(c.token.desc()).limit(1))
        return None if token is None else replace(current, token=token, holder=str(holder), epoch=current.token)

    def targets(self, deployment_id: int) -> list[Target]:
        """Every host of a deployment in the order of the plan."""
        with self._cmdb.read() as connection:
            return self._targets(connection, deployment_id)

    def past(self, release: str, limit: int = 5) -> list[Past]:
        """How long the last deployments of a release took that were completed, from their plan to their end or to their support."""
        d, j, w = self._t.deployment.c, self._t.journal.c, self._t.wave.c
        begun = sa.select(j.at).where(j.deployment_id == d.id).order_by(j.seq).limit(1).scalar_subquery()
        supporting = (j.deployment_id == d.id, j.event == _D.SUPPORTING, j.host.is_(None))
        live = sa.select(j.at).where(*supporting).order_by(j.seq).limit(1).scalar_subquery()
        waves = sa.select(sa.func.count(w.number)).where(w.deployment_id == d.id).scalar_subquery()
        rows = (
            sa.select(begun, sa.func.coalesce(live, d.finished), waves)
            .where(d.release == release, d.state == DeploymentState.COMPLETED, d.finished.is_not(None))
            .where(d.id.not_in(sa.select(self._t.journal_archive.c.deployment_id)))
            .order_by(d.id.desc())
            .limit(limit)
        )
        with self._cmdb.read() as connection:
            return [Past((finished - at).total_seconds(), count) for at, finished, count in connection.execute(rows)]

    def spared(self, deployment_id: int) -> set[str]:
        """The hosts that were written off before this deployment touched them: a plan made now would leave them out as well."""
        t = self._t
        touched = sa.select(t.journal.c.host).where(t.journal.c.deployment_id == deployment_id, t.journal.c.event == _H.ACTIVATING)
        h = t.deployment_host.c
        gone = sa.select(h.host).where(h.deployment_id == deployment_id, h.state == _H.WRITTEN_OFF)
        with self._cmdb.read() as connection:
            return set(connection.scalars(gone)) - set(connection.scalars(touched.where(t.journal.c.host.is_not(None))))

    def waves(self, deployment_id: int) -> list[tuple[int, WaveState, str | None]]:
        """Number, state and decision of each wave, in order."""
        table = self._t.wave
        with self._cmdb.read() as connection:
            rows = connection.execute(sa.select(table).where(table.c.deployment_id == deployment_id).order_by(table.c.number))
            return [(row.number, _W(row.state), row.decision) for row in rows]

    def undecided(self, rfc: str) -> list[list[str]] | None:
        """The hosts of each wave of an RFC's open deployment that is not decided yet, in order; ``None`` when none is open.

        There are none in support: the waves of a late round are still to be cut.
        """
        deployment = self.latest(rfc)
        if deployment is None or deployment.state not in states.OPEN:
            return None
        open_ = [number for number, state, _decision in self.waves(deployment.id) if state is not WaveState.DECIDED]
        targets = self.targets(deployment.id)
        waiting = [target for target in targets if target.state is not _H.WRITTEN_OFF]
        with self._cmdb.read() as connection:
            first = self._round_start(connection, deployment.id)
        if first > 1 or deployment.state is _D.SUPPORTING:  # what earlier waves left out is late, and no part of this
            open_ = [number for number in open_ if number >= first and deployment.state is not _D.SUPPORTING]
        return [[target.host for target in waiting if target.wave == number] for number in open_]

    def round_start(self, deployment_id: int) -> int:
        """The number of the first wave of the round that is under way, or was last: 1, or more in a late round."""
        with self._cmdb.read() as connection:
            return self._round_start(connection, deployment_id)

    def supporting(self, release: str | None = None, hosts: Collection[str] | None = None) -> list[Deployment]:
        """The deployments that are supporting, all or those of a release that have one of ``hosts``."""
        d, h = self._t.deployment.c, self._t.deployment_host.c
        rows = sa.select(self._t.deployment).where(d.state == _D.SUPPORTING).order_by(d.id)
        if release is not None:
            rows = rows.where(d.release == release)
        with self._cmdb.read() as connection:
            found = [deployment_of(row) for row in connection.execute(rows)]
            if hosts is None:
                return found
            of = {one.id: set(connection.scalars(sa.select(h.host).where(h.deployment_id == one.id))) for one in found}
        return [one for one in found if not of[one.id].isdisjoint(hosts)]

    def support(self, deployment: Deployment, now: datetime) -> Support:
        """How the early-life support of a deployment stands."""
        with self._cmdb.read() as connection:
            return self._support(connection, deployment, now)

    def late_scope(self, rfc: str) -> LateScope | None:
        """What an RFC's open deployment is about once it is live on others; ``None`` before, and when it is not open or goes back."""
        deployment = self.latest(rfc)
        if deployment is None or deployment.state not in states.OPEN or deployment.state is _D.BACKING_OUT:
            return None
        supporting = deployment.state is _D.SUPPORTING
        first = self.round_start(deployment.id)
        if first == 1 and not supporting:
            return None
        targets = self.targets(deployment.id)
        if supporting:
            changing = {target.host for target in targets if target.state in states.LATE | states.UNKNOWN}
        else:
            changing = {target.host for target in targets if target.wave >= first or target.state in states.UNKNOWN}
        return LateScope(deployment, frozenset(target.host for target in targets), frozenset(changing))

    def events(self, deployment_id: int) -> list[JournalEntry]:
        """What the journal says of a deployment but not of single hosts, in order."""
        table = self._t.journal
        with self._cmdb.read() as connection:
            rows = connection.execute(
                sa.select(table).where(table.c.deployment_id == deployment_id, table.c.host.is_(None)).order_by(table.c.seq)
            )
            return [JournalEntry(row.seq, row.at, row.event, row.wave, row.data) for row in rows]

    def plan(self, deployment_id: int) -> Plan | None:
        """The plan that a deployment was begun with; ``None`` for one of an older collection, which kept no reasons."""
        from .planner import Plan  # noqa: PLC0415 - each fork loads this module, and few ask

        table = self._t.journal
        about = (table.c.deployment_id == deployment_id, table.c.host.is_(None), table.c.event == PLANNED)
        with self._cmdb.read() as connection:
            data = connection.scalar(sa.select(table.c.data).where(*about).order_by(table.c.seq).limit(1))
        return Plan.from_dict(data["waves"], data["plan"]) if data and "plan" in data else None

    def reasons(self, deployment_id: int) -> dict[str, str]:
        """By host, why it is in its wave, of one that came in late in the round that brought it; without those of which it isn't known."""
        from .planner import Plan  # noqa: PLC0415 - as above

        j = self._t.journal.c
        about = (j.deployment_id == deployment_id, j.host.is_(None), j.event.in_((PLANNED, LATE_ROUND)))
        with self._cmdb.read() as connection:
            planned = connection.execute(sa.select(j.event, j.data).where(*about).order_by(j.seq)).all()
        found: dict[str, str] = {}
        for event, data in planned:
            late = event == LATE_ROUND
            if "plan" in data:
                why = Plan.from_dict(data["waves"], data["plan"]).reason_of()
                found.update({host: f"brought in late; {reason}" if late else reason for host, reason in why.items()})
            elif late:
                found.update(dict.fromkeys((host for wave in data["waves"] for host in wave), "brought in late"))
        return found

    def word(self, run: Run, wave: int) -> Said | None:
        """What this run has said of a wave's instant; ``None`` as long as it has said nothing."""
        with self._cmdb.read() as connection:
            return self._said(connection, run, wave)

    def _said(self, connection: sa.Connection, run: Run, wave: int) -> Said | None:
        j = self._t.journal.c
        about = (j.deployment_id == run.deployment, j.wave == wave, j.event.in_((FIRE, WITHDRAWN)), j.host.is_(None))
        for data in connection.scalars(sa.select(j.data).where(*about).order_by(j.seq)):
            if data["token"] == run.shared:
                at = datetime.fromisoformat(data["at"]) if "at" in data else None
                return Said(at, frozenset(data.get("hosts", ())), str(data.get("why", "")))
        return None

    def gone_back(self, deployment_id: int) -> set[str]:
        """The hosts that have left a deployment's release by themselves, were not tried again since, and are not written off."""
        j = self._t.journal.c
        about = (j.deployment_id == deployment_id, j.event.in_((WENT_BACK, _H.ACTIVATING)), j.host.is_not(None))
        with self._cmdb.read() as connection:
            last = {row.host: row.event for row in connection.execute(sa.select(j.host, j.event).where(*about).order_by(j.seq))}
            bad = {target.host for target in self._targets(connection, deployment_id) if target.state in (_H.FAILED, _H.STUCK)}
        return {host for host, event in last.items() if event == WENT_BACK} & bad

    def planned_scope(self, deployment_id: int) -> str:
        """The query by which a deployment's hosts were selected; empty for an older one, which does not have it on record."""
        j = self._t.journal.c
        about = (j.deployment_id == deployment_id, j.event == PLANNED, j.host.is_(None))
        with self._cmdb.read() as connection:
            planned = connection.scalar(sa.select(j.data).where(*about).order_by(j.seq).limit(1))
        return str((planned or {}).get("scope") or "")

    def data_log(self, deployment_id: int) -> list[JournalEntry]:
        """What the journal says of what a deployment has done to data, in order."""
        with self._cmdb.read() as connection:
            return self._data_log(connection, deployment_id)

    def batches(self, rfc: str, step: str, holder: Holder | None = None) -> list[list[str]]:
        """The hosts that ``step`` (``stage``, ``activate``, ``backout``) still has to visit, wave by wave in its order.

        Of a deployment that several controllers drive, those that ``holder`` has.

        ``activate-together`` is the second of a deployment whose hosts are switched at one instant. ``backout-together`` is what can go
        back so, before the rest does by ``backout``.

        ``activate-devices`` is ``activate`` for a release of firmware, as long as each of these hosts has a BMC.

        ``activate-by-role`` and ``backout-by-role`` are these steps of a release whose own role does them, ``migrate`` and ``reverse`` what
        that does to data, by one host. Empty when the deployment is not at that step: the play that asks has nothing to do.
        """
        current = self.latest(rfc)
        if current is None:
            return []
        found = self._batches(current, step.removesuffix("-devices"))
        if step == "activate-devices" and not (current.rollout.firmware and self._have_bmcs(found)):
            return []
        if current.holder != SEVERAL or not found:
            return found
        if step == "backout-together":  # each controller brings back its own hosts, wave by wave
            return []
        mine = self.as_driven_by(current, holder) if holder else None
        own = {target.host for target in self.targets(current.id) if mine is not None and target.controller == mine.token}
        return [batch for batch in ([host for host in hosts if host in own] for hosts in found) if batch]

    def _have_bmcs(self, batches: Iterable[Iterable[str]]) -> bool:
        return all(ci["attributes"].get("redfish") for ci in self._cmdb.cis(host for batch in batches for host in batch))

    def _batches(self, current: Deployment, step: str) -> list[list[str]]:
        if step in ("migrate", "reverse"):
            return [[current.rollout.data_host]] if self._is_due(current, step) else []
        together = step.endswith("-together")
        step, _by, role = step.removesuffix("-together").partition("-by-")
        is_other = together != (current.rollout.together is not None) and (together or step == "activate")
        if is_other or (step != "stage" and bool(role) != bool(current.rollout.role)):
            return []
        targets = self.targets(current.id)
        if step == "stage" and current.state is _D.STAGING and current.rollout.tree:
            first = self.round_start(current.id)
            hosts = [target.host for target in targets if target.wave >= first and target.state in (_H.PLANNED, _H.STAGE_FAILED)]
            return [hosts] if hosts else []
        if step == "activate" and current.state is _D.ACTIVATING:
            undecided = self._to_decide({number: state for number, state, _decision in self.waves(current.id)}, targets)
            # When every wave is decided, what remains are hosts that got lost in theirs.
            due = [
                target
                for target in targets
                if (target.wave in undecided and target.state not in (_H.PLANNED, *states.LEFT_OUT))
                or (not undecided and target.state in states.UNKNOWN)
            ]
            # Those that a killed run left first: others may have to wait for them.
            due.sort(key=lambda target: target.state is not _H.ACTIVATING)
            return [[target.host for target in due if target.wave == number] for number in sorted({target.wave for target in due})]
        if step != "backout" or current.state is not _D.BACKING_OUT:
            return []
        batches = self._to_back_out(current, targets)
        return self._in_step(batches, targets) if together else batches

    def _in_step(self, batches: Iterable[list[str]], targets: Sequence[Target]) -> list[list[str]]:
        """The hosts of the first batches that can go back at one instant: no wave does before all of the one behind it are back."""
        state, found = {target.host: target.state for target in targets}, []
        for batch in batches:
            ready = [host for host in batch if state[host] in (_H.STARTED, _H.ACTIVE)]
            found += [ready] if ready else []
            if len(ready) < len(batch):
                break
        return found

    def _to_back_out(self, current: Deployment, targets: Sequence[Target]) -> list[list[str]]:
        numbers = sorted({target.wave for target in targets}, reverse=True)
        with self._cmdb.read() as connection:
            mine = self._locked(connection, current.id)
            due = [target for target in targets if target.state in states.TOUCHED and target.host in mine]
            broken: list[Target] = []
            if current.rollout.firmware:  # what may not work goes back first, so that what is redundant with it can follow
                broken = [target for target in due if target.state in redundancy.UNDER_WAY]  # which a killed run left
                broken += [
                    target
                    for target in due
                    if target.state in states.BY_HAND and not redundancy.is_well(self._events(connection, current.id, target.host))
                ]
                due = [target for target in due if target not in broken]
        batches = [[target.host for target in broken]] + [[target.host for target in due if target.wave == number] for number in numbers]
        return [batch for batch in batches if batch]

    def _is_due(self, deployment: Deployment, step: str) -> bool:
        """Whether data have to be migrated, or reversed, now."""
        if step == "migrate":
            return deployment.state is _D.ACTIVATING and deployment.data is DataState.NOT_MIGRATED
        to_reverse = deployment.state is _D.BACKING_OUT and deployment.data is DataState.MIGRATED
        return to_reverse and not any(target.state in states.TOUCHED for target in self.targets(deployment.id))

    def to_visit(self, deployment: Deployment, *, backout: bool = False) -> list[str]:
        """The hosts that a deployment may still have to visit, in the order of the plan; also those that a gate could send back.

        ``backout``: it is about to be backed out.
        """
        targets = self.targets(deployment.id)
        if backout or deployment.state is _D.BACKING_OUT:
            return [target.host for target in targets if target.state in states.TOUCHED]
        if deployment.state not in states.OPEN:
            return []
        if deployment.state is _D.SUPPORTING:
            return [target.host for target in targets if target.state in states.UNKNOWN]
        first = self.round_start(deployment.id)
        begun = any(number >= first and state is not _W.CLOSED for number, state, _decision in self.waves(deployment.id))
        left_out = {_H.WRITTEN_OFF, _H.SUPERSEDED}
        unstaged = (_H.PLANNED, _H.STAGE_FAILED)  # no step visits these any more, once the first wave of their round has opened
        due = [
            target.host
            for target in targets
            if target.state not in left_out and (target.state not in unstaged or (not begun and target.wave >= first))
        ]
        # A host that has got the release may have gone since, and stands in no late one's way.
        there = self.there(due) if first > 1 else set(due)
        return [host for host in due if host in there]

    def locked(self, deployment_id: int) -> set[str]:
        """The hosts that a deployment has locked against others."""
        with self._cmdb.read() as connection:
            return self._locked(connection, deployment_id)

    def _events(self, connection: sa.Connection, deployment_id: int, host: str) -> list[tuple[str, Mapping[str, Any]]]:
        """What the journal says of a host of a deployment, in order."""
        j = self._t.journal.c
        rows = connection.execute(sa.select(j.event, j.data).where(j.deployment_id == deployment_id, j.host == host).order_by(j.seq))
        return [(row.event, row.data) for row in rows]

    def _locked(self, connection: sa.Connection, deployment_id: int) -> set[str]:
        return set(connection.scalars(sa.select(self._t.lock.c.ci).where(self._t.lock.c.deployment_id == deployment_id)))

    def _data_log(self, connection: sa.Connection, deployment_id: int) -> list[JournalEntry]:
        table = self._t.journal
        about = (table.c.deployment_id == deployment_id, table.c.host.is_(None), table.c.event.in_(sorted(DATA_EVENTS)))
        rows = connection.execute(sa.select(table).where(*about).order_by(table.c.seq))
        return [JournalEntry(row.seq, row.at, row.event, row.wave, row.data) for row in rows]

    def _wave_states(self, connection: sa.Connection, deployment_id: int) -> dict[int, WaveState]:
        table = self._t.wave
        rows = connection.execute(sa.select(table.c.number, table.c.state).where(table.c.deployment_id == deployment_id))
        return {row.number: _W(row.state) for row in rows}

    def _round_start(self, connection: sa.Connection, deployment_id: int) -> int:
        j = self._t.journal.c
        rounds = sa.select(j.wave).where(j.event == LATE_ROUND, j.deployment_id == deployment_id, j.host.is_(None))
        return int(connection.scalar(rounds.order_by(j.seq.desc()).limit(1)) or 1)

    def _has_supported(self, connection: sa.Connection, deployment_id: int) -> bool:
        """Whether a deployment is, or was, supporting: it is live, and what it still does concerns single hosts."""
        j = self._t.journal.c
        began = sa.select(j.seq).where(j.event == _D.SUPPORTING, j.deployment_id == deployment_id, j.host.is_(None))
        return connection.execute(began.limit(1)).first() is not None

    def _to_decide(self, waves: Mapping[int, WaveState], targets: Iterable[Target]) -> set[int]:
        """The waves that still have to be decided: the one that is open, and closed ones with a host that may get the release."""
        closed = {target.wave for target in targets if waves[target.wave] is _W.CLOSED and target.state not in states.LEFT_OUT}
        return closed | {number for number, state in waves.items() if state is _W.OPEN}

    def _support(self, connection: sa.Connection, deployment: Deployment, now: datetime) -> Support:
        j, w = self._t.journal.c, self._t.wave.c
        began = (j.event == _D.SUPPORTING, j.deployment_id == deployment.id, j.host.is_(None))
        since = connection.scalar(sa.select(j.at).where(*began).order_by(j.seq).limit(1))
        decided = connection.scalar(sa.select(sa.func.max(w.decided)).where(w.deployment_id == deployment.id))
        targets = self._targets(connection, deployment.id)
        late = [target for target in targets if target.state in states.LATE]
        unknown = tuple(target.host for target in targets if target.state in states.UNKNOWN)
        there = self._there(connection, [target.host for target in late])
        of_late = tuple(LateHost(one.host, one.summary) for one in late if one.host in there)
        support = Support(deployment.rollout, since or now, decided or now, of_late, unknown)
        return replace(support, exit=self._exit(connection, deployment.id, support.until)) if deployment.rollout.support_exit else support

    def _exit(self, connection: sa.Connection, deployment_id: int, since: datetime) -> BakeVerdict | None:
        j = self._t.journal.c
        measured = (j.event == EXIT, j.deployment_id == deployment_id, j.host.is_(None), j.at >= since)
        data = connection.scalar(sa.select(j.data).where(*measured).order_by(j.seq.desc()).limit(1))
        return BakeVerdict(data["outcome"], data["reason"]) if data else None

    def there(self, hosts: Collection[str]) -> set[str]:
        """Those of ``hosts`` that the CMDB has, and that nobody has written off."""
        with self._cmdb.read() as connection:
            return self._there(connection, hosts)

    def _there(self, connection: sa.Connection, hosts: Collection[str]) -> set[str]:
        if not hosts:
            return set()
        return {str(ci["name"]) for ci in self._cmdb.cis(hosts, connection)} - self._cmdb.write_offs(hosts, connection).keys()

    def _load(self, connection: sa.Connection, deployment_id: int) -> Deployment:
        return deployment_of(self._row(connection, deployment_id))

    def _row(self, connection: sa.Connection, deployment_id: int) -> Any:
        row = connection.execute(sa.select(self._t.deployment).where(self._t.deployment.c.id == deployment_id)).one_or_none()
        if row is None:
            raise NotFoundError(f"the CMDB has no deployment {deployment_id}; check which CMDB this is")
        return row

    def _targets(self, connection: sa.Connection, deployment_id: int) -> list[Target]:
        table = self._t.deployment_host
        rows = connection.execute(sa.select(table).where(table.c.deployment_id == deployment_id).order_by(table.c.position))
        return [target_of(row) for row in rows]


def deployment_of(row: Any) -> Deployment:
    """A row of the table of deployments."""
    return Deployment(
        row.id,
        row.rfc,
        row.release,
        row.version,
        row.digest,
        _D(row.state),
        row.token,
        row.reason,
        rollout_from_dict(row.options),
        row.started,
        row.finished,
        row.holder,
        DataState(row.data_state),
    )


def target_of(row: Any) -> Target:
    """A row of the table of hosts."""
    return Target(row.host, row.wave, _H(row.state), row.previous_digest, row.previous_version, row.detail, row.updated, row.controller)
