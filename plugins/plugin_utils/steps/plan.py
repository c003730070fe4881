# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a cleared RFC to a plan in the journal, or back to where an interrupted deployment stands."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..dsl.package import Package, load_package
from ..dsl.repository import Repository
from ..dsl.seen import Sight
from ..errors import ConflictError, StateError, TidegateError
from ..evidence.envelope import sign
from ..evidence.library import list_release, remember_sight
from ..evidence.store import attach
from ..licence.entitlements import reserve
from ..policy.model import Policy
from ..report.artifacts import planned
from ..report.progress import counted, words
from ..rfc.debts import delete_debts, incur
from ..rfc.model import Rfc
from ..rfc.register import cleared_fingerprint, register_change
from ..rfc.source import load_rfc, open_change, rfc_number
from ..rollout import states
from ..rollout.data_change import DataStatement, after_statement, in_doubt
from ..rollout.deployments import Deployment, Run
from ..rollout.forecast import Step, bake_lines, hopeless_comparisons, plan_lines, role_lines, window_line
from ..rollout.holder import Holder
from ..rollout.journal import Journal
from ..rollout.options import Rollout
from ..rollout.slices import SEVERAL, slice_fault
from ..rollout.states import DeploymentState, HostState, WaveState
from ..rollout.together import for_change
from .clear import Clearing, clear, refusal, without
from .conclude import catch_up
from .late import joined_since
from .outlook import transfers
from .person import vouched_data
from .sources import Sources
from .tell import make_notifier, save_stakeholders, warned

if TYPE_CHECKING:
    import sqlalchemy as sa
    from securesystemslib.signer import Signer

_OR_SLICE = "or say with -e tidegate_slice=true that other runs, at the same time, have the others"
# Ansible goes on without an inventory that none of its plugins can read, and only warns.
_UNREAD = "; or have auto in enable_plugins, if Ansible could not parse it"
Interrupted = Callable[[], str]
"""Why nothing more may be started, empty as long as nobody has interrupted this run."""


@dataclass(frozen=True)
class Reach:
    """The hosts that this run can visit: those of the ``inventory`` but for what ``--limit`` leaves ``outside``."""

    inventory: Collection[str]
    outside: Collection[str] = ()

    def check(self, hosts: Iterable[str], noun: str, which: str) -> None:
        """Raise :class:`TidegateError` when a run would not get to all ``hosts``; ``noun`` and ``which`` say what they are."""
        wanted = list(hosts)
        missing = [host for host in wanted if host not in self.inventory]
        if missing:
            give = "give the inventory of this CMDB with -i, a file with plugin: tidegate.release.cmdb"
            remedy = f"{give}, without --limit, {_OR_SLICE}" if self.inventory else f"{give}{_UNREAD}"
            raise TidegateError(f"{_some(missing, noun, which)} not in the inventory ({_names(missing)}); {remedy}")
        left_out = [host for host in wanted if host in self.outside]
        if left_out:
            named = f"{_some(left_out, noun, which)} left out by --limit ({_names(left_out)})"
            raise TidegateError(f"{named}; run this again without it, {_OR_SLICE}")

    def hosts(self) -> set[str]:
        """The hosts that this run gets to."""
        return set(self.inventory).difference(self.outside)


@dataclass(frozen=True)
class RunRequest:
    """What a run was called for: the RFC at ``rfc_path``, on the hosts that it can reach.

    ``write``: false when nothing may be written, and only what would be done is shown. ``take_over``: a person says that the controller
    which drives the deployment is gone. ``said``: what they say of the data that it has changed. ``slice_``: whether this run has a slice
    of the hosts, and others, at the same time, have the rest.
    """

    rfc_path: str
    reach: Reach
    write: bool
    interrupted: Interrupted
    take_over: bool = False
    said: DataStatement | None = None
    slice_: bool = False

    def refuse_unreached(self, hosts: Iterable[str], noun: str, which: str, planned: Collection[str] = ()) -> None:
        """Raise :class:`TidegateError` when this run would not get to all ``hosts``; or where it has a slice, to none of those ``planned``,
        which are the same unless they are given."""
        wanted = list(hosts)
        if not self.slice_:
            self.reach.check(wanted, noun, which)
            return
        every = sorted(planned or wanted)
        if every and self.reach.hosts().isdisjoint(every):
            raise TidegateError(
                f"this slice of the inventory has none of the {counted(len(every), noun)} {which} ({_names(every)}); leave it away, or "
                "correct the inventory"
            )

    def drive(
        self,
        journal: Journal,
        deployment_id: int,
        now: datetime,
        until: datetime | None = None,
        within: sa.Connection | None = None,
        *,
        back: bool = False,
    ) -> Run:
        """Take over a deployment, or join those that drive it with others, to have it taken ``back``; see :meth:`.SliceJournal.join`."""
        about: dict[str, Any] = {"ordered": self.take_over, "said": self.said, "within": within}
        if not self.slice_:
            return journal.take_over(deployment_id, Holder.this_run(), now, until, **about)
        from ..rollout.slice_journal import SliceJournal  # noqa: PLC0415 - for one controller of several

        return SliceJournal(journal.cmdb).join(deployment_id, self.reach.hosts(), Holder.this_run(), now, until, back=back, **about)

    def refuse_driven(self, journal: Journal, current: Deployment, now: datetime) -> None:
        """Raise :class:`ConflictError` while another controller drives a deployment, unless a person says that it is gone. Of a slice
        :meth:`drive` says so, in the transaction in which it joins."""
        if not self.take_over and not (self.slice_ and (self.write or current.holder == SEVERAL)):
            journal.refuse_driven(current.id, Holder.this_run(), now)

    def refuse_interrupted(self) -> None:
        """Raise :class:`StateError` when somebody interrupted the run before it has begun anything."""
        stop = self.interrupted() if self.write else ""
        if stop:
            raise StateError(f"{stop} before anything was begun, so nothing was changed; run the same command again to go on")


def plan(sources: Sources, request: RunRequest, signer: Signer | None = None) -> dict[str, Any]:
    """Clear the RFC and begin its deployment, or take over the one that is open; return the task's result.

    A deployment that is backing out goes on without clearance: its window may be over, and hosts must not stay in between.
    With a ``signer`` the clearance of a new deployment is kept beside the package, signed, and what is said of data is.
    Raises :class:`TidegateError` when the RFC is not cleared, its CIs are locked, not in the inventory or left out of this run, its
    scope has left hosts of the plan, or the deployment of this RFC has already failed or was replaced by a later one; and when something
    is said of data, and nobody signs it whom the policy names.
    """
    journal = Journal(sources.cmdb())
    current = journal.latest(rfc_number(request.rfc_path))
    if current is not None and request.said is not None and current.state in states.OPEN:
        request = replace(request, said=vouched_data(request.said, current, sources.policy(), signer, sources.now))
    if current is not None and _needs_no_clearance(current, request, _brings_in(journal, current, request, sources.now)):
        return _resume(journal, current, request, sources.now)
    if current is not None and current.state is DeploymentState.BACKED_OUT:
        missed = catch_up(journal, current, open_change(request.rfc_path), sources.now) if request.write else []
        raise ConflictError("; ".join((f"{current.rfc} was backed out ({current.reason}); raise a new RFC for the next attempt", *missed)))
    clearing = clear(sources, request.rfc_path)
    if not clearing.clearance.granted or clearing.rfc is None or clearing.policy is None:
        _remember(sources, clearing, request.write)  # a rejection that was read must not vanish
        why = f"{rfc_number(request.rfc_path)} is not cleared any more"
        given_up = _give_up(journal, current, request, why, sources.now) if current is not None else ()
        raise refusal(clearing.clearance, given_up if request.write else _forecast(journal, clearing, sources)["lines"])
    cleared = _Cleared(clearing, clearing.rfc, clearing.policy)
    if current is not None and current.state is not DeploymentState.CANCELLED:
        return _resume_cleared(sources, journal, current, cleared, request)
    try:
        return _begin(sources, journal, cleared, request, signer)
    except ConflictError:
        begun = journal.latest(cleared.rfc.number) if request.slice_ else None
        if begun is None or begun.state not in states.OPEN:
            raise
    return _resume_cleared(sources, journal, begun, cleared, request)  # another slice has been first by a moment


@dataclass(frozen=True)
class _Cleared:
    """A clearance that is granted, and what comes with it: the RFC, and the policy with the rules that apply to it."""

    clearing: Clearing
    rfc: Rfc
    policy: Policy

    @property
    def package(self) -> dict[str, str]:
        """The package as the journal wants it."""
        return {"name": self.rfc.release, "version": self.rfc.version, "digest": self.rfc.digest}

    @property
    def rollout(self) -> Rollout:
        """The policy's rollout, with what the release says itself: how long it has to stay healthy, its role, whether it has a payload;
        and how long spares may be behind it."""
        own = {"level_days": self.policy.spares.level_days, **(asdict(self.clearing.own) if self.clearing.own else {})}
        rollout = for_change(self.policy.rollout, self.rfc.release, self.rfc.type)
        return replace(rollout, **{name: value for name, value in own.items() if value is not None})

    def register(self, connection: sa.Connection, now: datetime) -> None:
        """Enter the change, as it was cleared, in the register, and what it owes afterwards when it is an emergency."""
        incur(connection, self.rfc, self.policy.emergency if self.rfc.type == "emergency" else {}, now)
        register_change(connection, self.rfc, (str(ci["name"]) for ci in self.clearing.cis), now)

    def reserve_spares(self, connection: sa.Connection, deployment_id: int, now: datetime) -> None:
        """Reserve a unit for each that has to have one, as far as the deployment has not done so, and plan what people do with them."""
        if self.clearing.exposed:
            from ..dhs.assets import reserve_spares  # noqa: PLC0415 - for releases of firmware and hardware alone

            holder = str(Holder.this_run())
            about = (self.clearing.exposed, self.policy.spares, self.rfc.type)
            reserve_spares(connection, deployment_id, *about, holder, now)
            if self.rollout.hardware:
                from ..dhs.work_orders import plan_work_orders  # noqa: PLC0415 - for releases of hardware alone

                plan_work_orders(connection, deployment_id, *about, now)


def _needs_no_clearance(current: Deployment, request: RunRequest, brings_in: bool) -> bool:
    """Whether a deployment goes on as it stands: back to where the hosts were, or nowhere, for no host is to get what the RFC names."""
    if current.state is DeploymentState.COMPLETED or (current.state is DeploymentState.SUPPORTING and not brings_in):
        return load_rfc(request.rfc_path).digest == current.digest  # it may be closed by now, and nothing is done to any host
    return current.state is DeploymentState.BACKING_OUT


def refuse_another_release(rfc: Rfc, current: Deployment) -> None:
    """Raise :class:`ConflictError` when an RFC names another package than its deployment has."""
    if current.digest == rfc.digest:
        return
    done = current.state in (DeploymentState.COMPLETED, DeploymentState.BACKED_OUT)
    remedy = "give this change a number of its own" + ("" if done else ", or back that out first")
    raise ConflictError(f"{current.rfc} now names {rfc.digest}, but {current.label} is {current.state} with {current.digest}; {remedy}")


def _resume_cleared(sources: Sources, journal: Journal, current: Deployment, cleared: _Cleared, request: RunRequest) -> dict[str, Any]:
    """Go on with a deployment whose RFC was cleared anew."""
    rfc, now = cleared.rfc, sources.now
    refuse_another_release(rfc, current)
    selected = {str(ci["name"]) for ci in journal.cmdb.query(rfc.scope)}
    _refuse_moved_scope(journal, current, selected)
    if current.state is DeploymentState.SUPPORTING and cleared.clearing.waves and journal.support(current, now).lets_in(now):
        return _bring_in(sources, journal, current, cleared, request)
    resumed = _resume(journal, current, request, now, cleared.clearing.until)
    _remember(sources, cleared.clearing, request.write)
    if request.write and current.state in states.OPEN:
        with journal.cmdb.begin() as connection:
            cleared.register(connection, now)  # it may have become an emergency since it began
            # A device may have said that it runs another version than was recorded.
            cleared.reserve_spares(connection, current.id, now)
    return resumed


def _brings_in(journal: Journal, current: Deployment, request: RunRequest, now: datetime) -> bool:
    """Whether a deployment that is supporting could bring its release to a host now; an RFC that was edited may select others."""
    if current.state is not DeploymentState.SUPPORTING:
        return False
    support = journal.support(current, now)
    if support.lets_in(now) and (support.late or load_rfc(request.rfc_path).fingerprint != cleared_fingerprint(journal.cmdb, current.rfc)):
        return True
    return bool(journal.to_visit(current))


def _bring_in(sources: Sources, journal: Journal, current: Deployment, cleared: _Cleared, request: RunRequest) -> dict[str, Any]:
    """Begin a late round for the hosts that the clearance just found to lack the release, or say what it would do."""
    clearing, rfc, now = cleared.clearing, cleared.rfc, sources.now
    waves = [list(wave) for wave in clearing.waves]
    if request.slice_:  # the others bring in theirs before or after it
        waves = list(filter(None, ([host for host in wave if host in request.reach.hosts()] for wave in waves)))
    hosts = [host for wave in waves for host in wave]
    if not hosts:
        raise TidegateError(f"this slice of the inventory has none of the hosts that {current.label} brings in late; leave it away")
    targets = journal.targets(current.id)
    # The others too, for a gate could send them back; a slice can't get to those.
    touched = [target.host for target in targets if target.state in states.TOUCHED and not request.slice_]
    there = journal.there(touched)
    live = [host for host in touched if host in there]
    request.reach.check(dict.fromkeys([*sorted(hosts), *live]), "host", f"that {current.label} brings in late, or could have to take back")
    request.refuse_interrupted()
    joined = sorted(set(hosts) - {target.host for target in targets})
    sentence = (
        f"{current.label} is live, and brings {rfc.release} {rfc.version} to {counted(len(hosts), 'host')} late, in "
        f"{counted(len(waves), 'wave')}: {_names(hosts)}"
        f"{f'; {_names(joined)} joined the scope since' if joined else ''}{_left_out(joined_since(journal.cmdb, current), joined)}"
    )
    if not request.take_over:
        journal.refuse_driven(current.id, Holder.this_run(), now)
    if request.write:
        _remember(sources, clearing, request.write)

        def along(connection: sa.Connection, deployment_id: int) -> None:
            cleared.register(connection, now)
            reserve(connection, deployment_id, clearing.product, rfc.release, hosts, (now, rfc.end_date))
            cleared.reserve_spares(connection, deployment_id, now)

        why = clearing.plan.to_dict() if clearing.plan and not request.slice_ else None
        journal.begin_late(current.id, waves, Holder.this_run(), now, ordered=request.take_over, why=why, also=along)
    return {
        **result(sentence, changed=True),
        **warned(list(clearing.clearance.notes)),
        "waves": waves,
        "controls": clearing.clearance.to_dict()["controls"],
        "passed_on": planned(rfc.number, rfc.release, rfc.version, waves),
        "progress": {"step": "plan", "state": "planned", "detail": sentence, "hosts": len(hosts), "waves": len(waves)},
    }


def _left_out(joined: Collection[str], brought_in: Collection[str]) -> str:
    """That CIs have joined the scope of a deployment which does not go there, for a person; empty when there are none."""
    others = sorted(set(joined).difference(brought_in))
    if not others:
        return ""
    undecided = f"; {_names(others)} joined the scope since, which nobody has decided on"
    return f"{undecided}: edit the RFC and have it approved anew, or raise another one"


def _begin(sources: Sources, journal: Journal, cleared: _Cleared, request: RunRequest, signer: Signer | None) -> dict[str, Any]:
    """Begin a new deployment, or say what it would do."""
    clearing, rfc, now = cleared.clearing, cleared.rfc, sources.now
    hosts = [host for wave in clearing.waves for host in wave]
    if request.slice_ and (fault := slice_fault(cleared.rollout)):
        raise TidegateError(f"{rfc.number} can't be deployed by several controllers: {fault}")
    request.refuse_unreached(sorted(hosts), "CI", f"in the scope of {rfc.number}")
    journal.refuse_plan(rfc.number, hosts)
    request.refuse_interrupted()
    sizes = f"({', '.join(str(len(wave)) for wave in clearing.waves)})"
    sentence = (
        f"{rfc.number}: {rfc.release} {rfc.version} to {counted(len(hosts), 'host')} in {counted(len(clearing.waves), 'wave')} {sizes}"
        f"{without(clearing.left_out)}{_data_sentence(*_data_of(clearing))}"
    )
    installed = {str(ci["name"]) for ci in clearing.cis if ci["installations"].get(rfc.release)}
    foreseen = hopeless_comparisons(cleared.rollout, clearing.waves, installed)
    if not request.write:
        more = {**_forecast(journal, clearing, sources), **warned(foreseen)}
    else:
        _remember(sources, clearing, request.write)
        if signer is not None:
            _attach_clearance(sources, clearing, rfc, signer)
        supporting = journal.supporting(rfc.release, hosts)
        run = _write_plan(journal, cleared, hosts, request, now)
        problems = make_notifier(sources.policy)(journal, run, "cleared", sentence, now)
        for before in supporting:  # complete with this, and here nobody knows where its RFC is
            ended = journal.deployment(before.id)
            if ended.state is DeploymentState.COMPLETED:
                problems += catch_up(journal, ended, None, now)
        more = warned([*foreseen, *problems, *clearing.clearance.notes])
        sentence += _slice_of(journal, journal.deployment(run.deployment), request)
    return {
        **result(sentence, changed=True),
        **more,
        "waves": [list(wave) for wave in clearing.waves],
        "controls": clearing.clearance.to_dict()["controls"],
        "passed_on": planned(rfc.number, rfc.release, rfc.version, clearing.waves),
        "progress": {"step": "plan", "state": "planned", "detail": sentence, "hosts": len(hosts), "waves": len(clearing.waves)},
    }


def _write_plan(journal: Journal, cleared: _Cleared, hosts: Collection[str], request: RunRequest, now: datetime) -> Run:
    """Write the plan to the journal, and in the same transaction locks, register, debts, seats and spares."""
    clearing, rfc = cleared.clearing, cleared.rfc
    joined: list[Run] = []

    def along(connection: sa.Connection, deployment_id: int) -> None:
        delete_debts(connection, rfc.number)
        cleared.register(connection, now)
        reserve(connection, deployment_id, clearing.product, rfc.release, hosts, (now, rfc.end_date))
        cleared.reserve_spares(connection, deployment_id, now)
        if request.slice_:
            joined.append(request.drive(journal, deployment_id, now, within=connection))

    told: dict[str, Any] = {"why": clearing.plan.to_dict() if clearing.plan else None, "scope": rfc.scope}
    run = journal.begin(rfc.number, cleared.package, clearing.waves, cleared.rollout, Holder.this_run(), now, along, **told)
    run = joined[0] if joined else run
    save_stakeholders(journal, run, rfc, now)
    return run


def _forecast(journal: Journal, clearing: Clearing, sources: Sources) -> dict[str, Any]:
    """What the deployment would do: ``lines`` for a person, and ``steps`` by host.

    Both are empty when the RFC selects no host, or the library does not have what it names.
    """
    rfc = clearing.rfc
    nothing: dict[str, Any] = {"lines": [], "steps": []}
    if rfc is None or not clearing.waves:
        return nothing
    there = {str(ci["name"]): ci["installations"].get(rfc.release) or {} for ci in clearing.cis}
    try:
        library = sources.library().repository(rfc.release)
        package = load_package(library, rfc.digest)
    except TidegateError:
        return nothing
    sent = transfers(library, package, (str(one.get("digest", "")) for one in there.values()))
    steps = [
        Step(number, host, there[host].get("version"), sent[str(there[host].get("digest", ""))])
        for number, wave in enumerate(clearing.waves, start=1)
        for host in wave
    ]
    window = window_line(sources.now, clearing.until or rfc.end_date, len(clearing.waves), journal.past(rfc.release), rfc.release)
    baked = bake_lines(clearing.policy.rollout) if clearing.policy else ()
    cleared = [clearing.clearance.sentence(), *clearing.clearance.details()] if clearing.clearance.granted else []
    return {
        "lines": [
            *cleared,
            *plan_lines(steps, rfc.version),
            *role_lines(_role_tasks(library, package), *_data_of(clearing)),
            *baked,
            window,
        ],
        "steps": [
            {"wave": step.wave, "host": step.host, "from": step.installed, "to": rfc.version, **asdict(step.transfer)} for step in steps
        ],
    }


def _data_sentence(data_host: str, no_return: bool) -> str:
    if not data_host:
        return ""
    return f"; before the first wave data are migrated on {data_host}{', which is a point of no return' if no_return else ''}"


def _data_of(clearing: Clearing) -> tuple[str, bool]:
    """The host on which data are migrated, empty for none, and whether that is for good."""
    return (clearing.own.data_host, clearing.own.no_return) if clearing.own else ("", False)


def _role_tasks(library: Repository, package: Package) -> dict[str, list[str]]:
    if package.role_archive is None:
        return {}
    from ..dsl.role import role_tasks  # noqa: PLC0415 - for the releases that bring one

    return role_tasks(library, package)


def _remember(sources: Sources, clearing: Clearing, write: bool) -> None:
    """Note what the library had when this was cleared; not for a run that is refused for how it was called, which changes nothing."""
    if write:
        remember_sight(sources.cmdb, clearing.sight, sources.now)
        if clearing.sight:
            list_release(sources.library().repository(clearing.sight.name), clearing.sight.name)


def _attach_clearance(sources: Sources, clearing: Clearing, rfc: Rfc, signer: Signer) -> None:
    """Attach the clearance to the package, signed."""
    summary = clearing.summary(sources.policy_path, sources.dsl, signer.public_key.keyid)
    attached = attach(sources.library().repository(rfc.release), rfc.digest, sign(summary, signer, sources.now))
    remember_sight(sources.cmdb, Sight(rfc.release, rfc.version, rfc.digest, {attached: "clearance"}), sources.now, signer)


def _some(hosts: list[str], noun: str, which: str) -> str:
    return f"1 {noun} {which} is" if len(hosts) == 1 else f"{len(hosts)} {noun}s {which} are"


def _names(hosts: list[str]) -> str:
    return f"{', '.join(hosts[:5])}{', ...' if len(hosts) > 5 else ''}"


def _resume(journal: Journal, current: Deployment, request: RunRequest, now: datetime, until: datetime | None = None) -> dict[str, Any]:
    """Take over a deployment where it stands; ``until``: when it is too late to start another host of the open wave."""
    if current.state not in states.OPEN:
        try:
            journal.refuse_superseded(current.id)  # or it would be said to be live
        except ConflictError as error:
            # When that ended its support its change was not at hand.
            catch = bool(current.reason) and request.write
            missed = catch_up(journal, current, open_change(request.rfc_path), now) if catch else []
            raise ConflictError("; ".join((str(error), *missed))) from error
        return {
            **result(f"{current.label} is already {current.state}; nothing to do", changed=False),
            "progress": {"step": "plan", "state": current.state, "detail": f"{current.label} is already {current.state}"},
        }
    request.refuse_interrupted()
    log = journal.data_log(current.id)
    data = current.data if request.said is None else after_statement(current, log, request.said)
    _refuse_empty_wave(journal, current)
    try:
        journal.refuse_resume(current)
    except ConflictError as error:
        given_up = _give_up(journal, current, request, "another deployment came first", now)
        raise ConflictError("; ".join((str(error), *given_up))) from error
    doubt = in_doubt(replace(current, data=data), log)
    sentence = f"{current.label} goes on where it stands: {words(current.state)}{f', for {doubt}' if doubt else ''}"
    if current.state is DeploymentState.SUPPORTING and not journal.to_visit(current):
        why = "; ".join(journal.support(current, now).barriers(now))
        left_out = _left_out(joined_since(journal.cmdb, current), ())
        sentence = f"{current.label} is live; {why or 'its support is over'}, and no host is to be changed{left_out}"
    request = _alone(journal, current, request)
    changed = current.state is DeploymentState.BACKING_OUT and current.data in states.CHANGED
    data_host = {current.rollout.data_host} - journal.by_hand(current.id) if changed else ()
    planned = [target.host for target in journal.targets(current.id)] if request.slice_ else ()
    due = dict.fromkeys([*journal.to_visit(current), *data_host])
    request.refuse_unreached(due, "host", f"that {current.label} has {'' if request.slice_ else 'still '}to visit", planned)
    request.refuse_driven(journal, current, now)
    if request.write:
        request.drive(journal, current.id, now, until)
        sentence += _slice_of(journal, current, request)
    return {**result(sentence, changed=True), "progress": {"step": "plan", "state": "resumed", "detail": sentence}}


def _alone(journal: Journal, current: Deployment, request: RunRequest) -> RunRequest:
    """A slice joins others at a wave. When all are decided, hosts are left that had got lost in theirs: each slice looks at its own, one
    after the other, and the gate holds until the last has."""
    forward = current.state in (DeploymentState.ACTIVATING, DeploymentState.HELD, DeploymentState.SUPPORTING)
    lost = [target.host for target in journal.targets(current.id) if target.state in states.UNKNOWN] if request.slice_ and forward else []
    if not lost or any(state is not WaveState.DECIDED for _number, state, _decision in journal.waves(current.id)):
        return request
    request.refuse_unreached(lost, "host", f"that had got lost in {current.label}")
    return replace(request, slice_=False, reach=Reach(set(request.reach.inventory) | set(journal.to_visit(current))))


def _slice_of(journal: Journal, current: Deployment, request: RunRequest) -> str:
    """How many hosts of a deployment this run has, where others have the rest, for a person; empty where it has all."""
    if not request.slice_:
        return ""
    hosts = [target.host for target in journal.targets(current.id)]
    own = [host for host in hosts if host in request.reach.hosts()]
    return f"; this run has {len(own)} of its {counted(len(hosts), 'host')}: {_names(own)}"


def _give_up(journal: Journal, current: Deployment, request: RunRequest, why: str, now: datetime) -> tuple[str, ...]:
    """End a late round that can't go on, so that nothing is locked for it, nor the release taken back from where it is live.

    Returns a sentence, if that was done; nothing is in check mode, nor while a host of it may be changing.
    """
    if not request.write or not journal.give_up_round(current.id, Holder.this_run(), why, now):
        return ()
    return (f"{current.label} brings in nobody any more for now, and is live where it was",)


def _refuse_empty_wave(journal: Journal, current: Deployment) -> None:
    """A wave that is open and has no host left that gets the release says nothing about it, so no other may follow.

    A late one is passed over: the release has shown in the waves before what it is.
    """
    if journal.round_start(current.id) > 1:
        return
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
    late = journal.late_scope(current.rfc)
    waiting = {HostState.PLANNED, HostState.STAGED, HostState.STAGE_FAILED} | (states.LATE if late else frozenset())
    outside = [
        target.host
        for target in journal.targets(current.id)
        if target.state in waiting and target.host not in selected and (late is None or target.host in late.changing)
    ]
    if outside:
        raise ConflictError(
            f"{current.rfc} no longer selects {len(outside)} of the hosts that {current.label} is still to change "
            f"({', '.join(outside[:5])}); give the RFC its scope back, or back the deployment out and raise a new RFC"
        )


def result(sentence: str, changed: bool) -> dict[str, Any]:
    """A task's result that says what it came to."""
    return {"changed": changed, "msg": sentence}
