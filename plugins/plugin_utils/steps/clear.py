# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clear an RFC: gather what the controls look at, and evaluate them.

A source that can't be read is a fact too: it makes controls inconclusive instead of ending the evaluation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..clearance.clearance import Clearance, evaluate
from ..clearance.controls.window import closes
from ..clearance.evaluate import ASKED_AT_GATES, CONTROLS, evaluate_controls
from ..clearance.facts import Facts, NotKnown
from ..clearance.findings import Control, Result
from ..clearance.own_controls import evaluate_own, speaking_of
from ..clearance.summary import JudgedBy, summary_statement
from ..cmdb.chain import heads_document
from ..cmdb.hosts import described, is_host
from ..cmdb.store import Cmdb
from ..compatibility.gather import DEPENDS_ON, compatibility
from ..compatibility.judge import with_plan_faults
from ..dhs.spare_rules import SPARE
from ..dsl.manifest import OUTSIDE
from ..dsl.repository import blob_uri
from ..dsl.seen import Sight
from ..errors import FindingsError, TidegateError
from ..evidence.library import sight_of
from ..evidence.statement import Statement
from ..policy.load import DEFAULT
from ..policy.model import Identity, OwnControl, Policy
from ..rfc.model import Rfc
from ..rfc.source import load_rfc
from ..rollout.constraints import Neighbours, asks_for_others, plan_input
from ..rollout.deployments import Deployments
from ..rollout.guard import confirm_fault, confirm_remark
from ..rollout.instant_journal import InstantJournal
from ..rollout.planner import Plan, plan_waves
from ..rollout.states import LATE
from ..rollout.together import for_change, instant_fault, quorum_fault, together_fault
from .channels import unusable
from .sources import (
    Once,
    Sources,
    calendars_of,
    data_host_of,
    debts_of,
    entered_with,
    inspect_package,
    judge_all,
    lacking,
    live_versions,
    manifest_of,
    matter_of,
    not_written_off,
    overlaps_of,
    product_of,
    replaced_digests,
    retirement_of,
    seats_for,
    seen_of,
    select,
)

if TYPE_CHECKING:
    from ..dhs.spares import Exposed

_T = TypeVar("_T")
_NAMED = 3  # things beside a package that a remark names


@dataclass(frozen=True)
class OwnRollout:
    """What a release says of its own rollout, and the policy does not."""

    stable: float | None
    """For how many seconds it has to stay healthy; ``None`` when the policy is to say."""
    role: str
    """The name of its own role, which does each wave; empty when it has none."""
    tree: bool
    """Whether it has a payload."""
    firmware: bool
    """Whether that is firmware."""
    hardware: bool
    """Whether it is hardware."""
    outside: bool
    """Whether its effect is outside the tree."""
    data_host: str
    """The CI on which it migrates data; empty when it has none to migrate."""
    no_return: bool
    """Whether it can't bring them back."""

    @classmethod
    def of(cls, config: Mapping[str, Any], data_host: str) -> OwnRollout:
        """Read the config of a package."""
        own = config.get("ansible", {})
        role = str(own.get("role", "")).rpartition("/")[2]
        kinds = ("firmware" in config, "hardware" in config, config.get("effect") == OUTSIDE)
        return cls(config.get("stable"), role, "payload" in config, *kinds, data_host, "reverse" in own)


@dataclass(frozen=True)
class Clearing:
    """A clearance and what it was based on; ``cis`` are the selected CIs as the CMDB gives them, ``product`` is the licensed one.

    ``own``: what the release says of its rollout, ``None`` when its package can't be read.

    ``waves``: the hosts of each wave that is to be done, in order, and ``plan``, unless it is under way, why. ``until``: when it is too
    late to start a host of the first of them.
    ``sight``: what the library was seen to have of the release, for the CMDB to remember. ``exposed``: for which units it has to reserve
    a spare each. ``inputs`` and ``ignored`` as in
    :class:`.clearance.facts.Facts`. ``heads``: where the history and the journal ended, empty when the CMDB can't be read.
    """

    clearance: Clearance
    rfc: Rfc | None
    policy: Policy | None
    cis: tuple[dict[str, Any], ...]
    product: str | None = None
    waves: tuple[tuple[str, ...], ...] = ()
    until: datetime | None = None
    sight: Sight | None = None
    own: OwnRollout | None = None
    inputs: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    exposed: tuple[Exposed, ...] = ()
    plan: Plan | None = None
    heads: Mapping[str, Any] = field(default_factory=dict)

    @property
    def left_out(self) -> list[str]:
        """The CIs that no deployment goes to, because they are hosts that were written off."""
        return [str(ci["name"]) for ci in self.cis if ci["written_off"] is not None]

    def document(self) -> dict[str, Any]:
        """The clearance as the documents about it say it: ``about`` is what it was of, as pairs of a word and a text."""
        about = []
        if self.rfc is not None:
            rfc = self.rfc
            about = [
                ("Change", f"{rfc.short_description} ({rfc.type}, risk {rfc.risk}, impact {rfc.impact})"),
                ("Release", f"{rfc.release} {rfc.version}, {rfc.digest}"),
                ("Window", f"{rfc.start_date.isoformat()} to {rfc.end_date.isoformat()}"),
                *([("Instant", f"{rfc.instant.isoformat()}, at which the hosts of the last wave switch")] if rfc.instant else []),
                ("People", f"requested by {rfc.requested_by}, assigned to {rfc.assigned_to or 'nobody'}"),
                ("CIs", f"{len(self.cis)} by {rfc.scope}{without(self.left_out)}"),
            ]
        if self.own is not None and self.own.data_host:
            back = "a point of no return, for nothing brings them back" if self.own.no_return else "and brought back by the step reverse"
            about.append(("Data", f"migrated on {self.own.data_host} before the first wave, {back}"))
        return {**self.clearance.to_dict(), "sentence": self.clearance.sentence(), "about": [list(pair) for pair in about]}

    def remarks(self) -> list[str]:
        """What there is to say of things beside the package that count for nothing, so that nobody takes them for evidence."""
        if not self.ignored or self.rfc is None:
            return []
        what = f"{self.rfc.release} {self.rfc.version}"
        more = f"; {len(self.ignored) - _NAMED} more are listed by attestation_info" if len(self.ignored) > _NAMED else ""
        return [f"not all that is beside {what} is evidence about it: {'; '.join(self.ignored[:_NAMED])}{more}"]

    def summary(self, policy_path: str | None, dsl: str, key_id: str) -> Statement:
        """The clearance as a statement to be signed with a key; raises :class:`TidegateError` when it is not known what was cleared."""
        if self.rfc is None or not self.cis:
            raise TidegateError("a clearance is signed for an RFC and CIs that are known; correct the RFC, or leave the key out")
        policy = Path(policy_path or DEFAULT)
        try:  # what was judged by, whatever the file has become since; of a policy that is not valid the file as it is
            digest = self.policy.sha256 if self.policy else hashlib.sha256(policy.read_bytes()).hexdigest()
        except OSError as error:
            raise TidegateError(f"the policy {policy} can't be read ({error.strerror}), so no clearance by it is signed") from error
        identity = self.policy.identity if self.policy else Identity()
        judged_by = JudgedBy(
            identity.verifier or f"https://tidegate.example/verifier/{key_id}",
            identity.policy or (policy.absolute().as_uri() if policy_path else "https://tidegate.example/policy/default"),
            digest,
            tuple((blob_uri(dsl, self.rfc.release, sha256), sha256) for sha256 in self.inputs),
            self.heads,
        )
        return summary_statement(self.clearance, matter_of(self.rfc, self.cis), judged_by)


@dataclass(frozen=True)
class Wave:
    """``hosts`` that are to change next, and those that are ``done``: they have the release, whether or not the CMDB says so already."""

    hosts: tuple[str, ...]
    done: frozenset[str] = frozenset()


@dataclass(frozen=True)
class WaveStart:
    """``stop``: why a wave must not start, empty when it may. ``until``: when it is too late to start another of its hosts. ``sight``: what
    the library was seen to have of the release."""

    stop: str
    until: datetime | None = None
    sight: Sight | None = None


@dataclass(frozen=True)
class Question:
    """Which controls are asked of an RFC, and about which hosts; all, and those that its scope selects, when nothing is said.

    ``controls``: their names, but for the policy's own; ``None`` for all, own ones too. ``wave``: the one that is about to start, ``None``
    for all that are to be done. ``hosts``: those that a deployment which is over went to.
    """

    controls: frozenset[str] | None = None
    wave: Wave | None = None
    hosts: tuple[str, ...] | None = None

    def needs(self, source: str) -> bool:
        """Whether one of the controls that are asked looks at a source."""
        return self.controls is None or any(source in CONTROLS[name].sources for name in self.controls)

    def own(self, policy: Policy | None) -> tuple[OwnControl, ...]:
        """The controls of the policy's own that are asked; before a wave those that can come to something else than when it was cleared."""
        if policy is None or self.hosts is not None:
            return ()
        return policy.controls if self.controls is None else speaking_of(policy.controls, ("now", "evidence"))

    def names(self, policy: Policy | None) -> set[str] | None:
        """The names of all controls that are asked; ``None`` for every one."""
        return None if self.controls is None else {*self.controls, *(control.name for control in self.own(policy))}


@dataclass(frozen=True)
class Gathered:
    """What was found out of an RFC. ``selected``: the CIs that people decided on, ``cis`` those of them that the release goes to, as the
    CMDB gives them; ``waves``: the hosts of each wave that is to be done; ``exposed``: the CIs that a spare has to be there for.
    ``None`` for what is not known, or was not asked."""

    facts: Facts
    selected: tuple[dict[str, Any], ...] | None = None
    cis: tuple[dict[str, Any], ...] | None = None
    waves: tuple[tuple[str, ...], ...] | None = None
    exposed: tuple[Exposed, ...] = ()
    heads: Mapping[str, Any] = field(default_factory=dict)
    """Where the history and the journal ended, for a clearance; empty when the CMDB can't be read."""


def refusal(clearance: Clearance, more: Sequence[str] = ()) -> FindingsError:
    """Why a clearance is not granted; ``more`` are further lines that its reader wants."""
    return FindingsError(clearance.sentence(), [*clearance.details(), *more], [*clearance.details(complete=True), *more])


def without(hosts: Collection[str]) -> str:
    """That hosts are left out, for a person; empty when there are none."""
    named = f"{', '.join(sorted(hosts)[:5])}{' ...' if len(hosts) > 5 else ''}"
    return f"; {len(hosts)} written off and left out: {named}" if hosts else ""


def clear(sources: Sources, rfc_path: str) -> Clearing:
    """Evaluate every control for an RFC; read-only."""
    rfc = sources.ask("rfc", lambda: load_rfc(rfc_path))
    found = gather(sources, rfc, Question())
    facts = found.facts
    clearance = evaluate(facts)
    return Clearing(
        clearance,
        rfc,
        facts.policy,
        found.selected or (),
        product_of(facts),
        found.waves or (),
        _until(facts, clearance.controls),
        facts.sight,
        OwnRollout.of(facts.package.manifest, facts.data_host.name if facts.data_host else "") if facts.package else None,
        facts.inputs,
        facts.ignored,
        found.exposed,
        facts.plan,
        found.heads,
    )


def _heads(cmdb: Cmdb) -> dict[str, Any]:
    with cmdb.read() as connection:
        return heads_document(connection)


def check_wave_start(sources: Sources, rfc: Rfc, wave: Wave) -> WaveStart:
    """Whether the wave may start now, by what can have changed since the RFC was cleared.

    That is the time, what people signed and whether what they signed still holds, what the CIs would meet that get the release next, and
    whether it was retired.
    Waivers count here as they do in a clearance.
    """
    question = Question(ASKED_AT_GATES, wave=wave)
    facts = gather(sources, rfc, question).facts
    controls = evaluate_controls(facts, question.names(facts.policy))
    reasons = (control.why.replace("\n", "; ") for control in controls if control.blocks)
    return WaveStart("; ".join(dict.fromkeys(reasons)), _until(facts, controls), facts.sight)


def refuse_commands(sources: Sources, rfc: Rfc, hosts: Collection[str]) -> None:
    """Raise :class:`TidegateError` unless the commands among an RFC's objectives may be run now, after its deployment to ``hosts``.

    The same that a clearance asks, anew: whatever else was meanwhile entered under its number, people have to have signed this.
    """
    question = Question(frozenset({"objectives", "approvals"}), hosts=tuple(hosts))
    facts = gather(sources, rfc, question).facts
    controls = evaluate_controls(facts, question.names(facts.policy))
    reasons = [control.reason.replace("\n", "; ") for control in controls if control.blocks]
    if reasons:
        raise TidegateError("; ".join(dict.fromkeys(reasons)))


def gather(sources: Sources, rfc: Rfc | None, question: Question) -> Gathered:
    """Find out what the controls look at that are asked; what can't be found out is ``None`` in the facts, and ``errors`` has why.

    All that is asked of the CMDB is of one moment. That begins behind the look at the package, of which every byte may have to be read, and
    is over before what people signed is read: that way a writer in between is no loss, for the evidence is at least what was seen before.
    """
    policy = sources.ask("policy", sources.policy)
    facts = Facts(now=sources.now, rfc=rfc, policy=policy, errors=sources.errors)
    if rfc is None:
        return Gathered(facts)
    look = inspect_package if question.needs("contents") else manifest_of
    package = sources.ask("package", lambda: look(sources.library(), rfc))
    policy = policy.narrowed_to(package.type if package else "", rfc.type, rfc.risk) if policy else None
    found = Gathered(replace(facts, policy=policy, package=package))
    with sources.at_one_moment() as cmdb:
        asking = _Asking(sources, cmdb, rfc, question)
        for step in (_with_cis, _with_records, _with_waves, _with_calendars):
            found = step(asking, found)
        if question.hosts is None:
            found = replace(found, heads=sources.ask("heads", lambda: _heads(cmdb())) or {})
    facts = _with_signed_evidence(found.facts, rfc, found.selected, sources)
    own = question.own(facts.policy)
    if own:
        facts = replace(facts, own=sources.ask("own", lambda: evaluate_own(own, _names(facts, found.cis))) or {})
    return replace(found, facts=facts)


@dataclass(frozen=True)
class _Asking:
    """What an RFC's facts are asked from: the sources, the CMDB as it is at one moment, and which of them are wanted."""

    sources: Sources
    cmdb: Once[Cmdb]
    rfc: Rfc
    question: Question

    def ask(self, name: str, source: Callable[[], _T]) -> _T | None:
        """What a source says, ``None`` when no control that looks at it is asked."""
        return self.sources.ask(name, source) if self.question.needs(name) else None


def _with_cis(asking: _Asking, found: Gathered) -> Gathered:
    """Add the CIs that people decided on, and those of them that the release goes to."""
    facts, rfc, cmdb, hosts = found.facts, asking.rfc, asking.cmdb, asking.question.hosts
    if hosts is not None:
        return replace(found, facts=replace(facts, scope=hosts), selected=tuple({"name": host} for host in hosts))
    # What people decided on is all that the scope selects; the release goes to those of it that are there, late to those that lack it.
    selected = asking.sources.ask("scope", lambda: select(cmdb(), rfc))
    cis = asking.sources.ask("scope", lambda: not_written_off(lacking(cmdb(), rfc, selected))) if selected is not None else None
    if cis is not None:
        classes, model = facts.policy.host_classes if facts.policy else None, cmdb().model()
        facts = replace(
            facts,
            scope=tuple(str(ci["name"]) for ci in cis),
            live=live_versions(cis, rfc.release),
            replaced=replaced_digests(rfc, cis),
            bench=bool(cis) and all(ci["class"] == SPARE for ci in cis),
            no_hosts=tuple(described(ci) for ci in cis if classes is not None and not is_host(ci, classes, model)),
        )
    return replace(found, facts=facts, selected=selected, cis=cis)


def _with_records(asking: _Asking, found: Gathered) -> Gathered:
    """Add what the CMDB says of the release and of other changes, and whether the policy's channels can be used."""
    facts, rfc, cmdb, cis, policy = found.facts, asking.rfc, asking.cmdb, found.cis, found.facts.policy
    if facts.package is not None:
        retired = asking.ask("retired", lambda: retirement_of(cmdb(), rfc))
        facts = replace(facts, package=replace(facts.package, retired=retired, unread=asking.sources.errors.get("retired", "")))
    facts = replace(
        facts,
        entered=asking.ask("overlaps", lambda: entered_with(cmdb(), rfc)),
        debts=asking.ask("debts", lambda: debts_of(cmdb(), rfc)),
        channels=asking.ask("channels", lambda: unusable(policy.communication)) if policy else None,
        overlaps=None if cis is None else asking.ask("overlaps", lambda: overlaps_of(cmdb(), rfc, cis)),
        seen=asking.ask("seen", lambda: seen_of(cmdb(), rfc, policy)),
    )
    return replace(found, facts=replace(facts, seats=asking.ask("seats", lambda: seats_for(cmdb(), rfc, facts))))


def _with_waves(asking: _Asking, found: Gathered) -> Gathered:
    """Add what the release has to get on with, the waves that are to be done, and their sites."""
    facts, rfc, cmdb, cis, wave = found.facts, asking.rfc, asking.cmdb, found.cis, asking.question.wave
    if cis is None:
        return found
    if (package := facts.package) is not None:
        # Those that failed keep what they have, and those of later waves have not got it yet.
        having = cis if wave is None else [ci for ci in cis if ci["name"] in wave.done.union(wave.hosts)]
        library = asking.sources.library
        judged = asking.ask("compatibility", lambda: compatibility(cmdb(), library(), rfc, package.manifest, having))
        facts = replace(facts, compatibility=judged)
        if "migrate" in package.manifest.get("ansible", {}).get("steps", ()):
            facts = replace(facts, data_host=asking.ask("data_host", lambda: data_host_of(cmdb(), rfc, package.manifest, cis)))
    planned = (None, (wave.hosts,), None) if wave else asking.sources.ask("plan", lambda: _planned(cmdb(), rfc, cis, facts))
    plan, waves, instant = planned or (None, None, None)
    if facts.compatibility is not None:
        facts = replace(facts, compatibility=with_plan_faults(facts.compatibility, waves or ()))
    if waves is not None:
        sites = {str(ci["name"]): ci["site"] for ci in cis}
        facts = replace(facts, plan=plan, waves=tuple(frozenset(sites.get(host) for host in one) for one in waves), instant=instant)
    found = replace(found, facts=facts, waves=waves)
    config = facts.package.manifest if facts.package is not None else {}
    return _with_units(asking, found, config, cis) if {"firmware", "hardware", "reads"} & config.keys() else found


def _with_units(asking: _Asking, found: Gathered, config: Mapping[str, Any], cis: Sequence[dict[str, Any]]) -> Gathered:
    """Add whether what devices run is archived, and which units a release of firmware or hardware would reserve."""
    from ..dsl.firmware import FirmwareImage  # noqa: PLC0415 - for releases whose effect is not their tree alone
    from .baseline import machines_of, unarchived  # noqa: PLC0415 - as above
    from .stock import spares_for  # noqa: PLC0415 - as above

    facts, rfc, cmdb, library, waves = found.facts, asking.rfc, asking.cmdb, asking.sources.library, found.waves
    machines = cache(lambda: machines_of(cmdb(), [FirmwareImage.of(one) for one in config.get("firmware", ())], cis))
    if "hardware" not in config:
        facts = replace(facts, unarchived=asking.ask("baseline", lambda: unarchived(library(), machines, rfc, config, cis)))
    if facts.policy is None or waves is None or "reads" in config:
        return replace(found, facts=facts)
    exposed, spares = asking.ask("spares", lambda: spares_for(library(), cmdb(), rfc, facts, cis, waves, machines)) or ((), None)
    return replace(found, facts=replace(facts, spares=spares), exposed=exposed)


def _planned(
    cmdb: Cmdb, rfc: Rfc, cis: Sequence[Mapping[str, Any]], facts: Facts
) -> tuple[Plan | None, tuple[tuple[str, ...], ...], datetime | None] | None:
    """The plan to be made, its waves, and the instant of the last of them; of a plan in the journal the waves that are not decided, and
    ``None`` for what is not to be made, or is not named."""
    if facts.policy is None:
        return None
    deployments = Deployments(cmdb)
    late = deployments.late_scope(rfc.number)
    begun = deployments.undecided(rfc.number)
    rollout = facts.policy.rollout
    if late is not None and late.supporting:
        # One that got lost is looked at where it is, and in no wave; and who is late need not be who was to be the canary.
        others = {target.host for target in deployments.targets(late.deployment.id) if target.state not in LATE}
        cis = [ci for ci in cis if ci["name"] not in others]
        rollout = replace(late.deployment.rollout, constraints=replace(rollout.constraints, canary_hosts=()))
        rfc = replace(rfc, instant=None)  # which is over for who is late
    elif begun is not None:
        return None, tuple(tuple(wave) for wave in begun), _instant_to_come(cmdb, rfc, facts)
    if not cis:
        return None, (), None
    plan = _plan_of(cmdb, rfc, cis, replace(facts.policy, rollout=rollout), facts)
    if fault := quorum_fault(for_change(rollout, rfc.release, rfc.type), [len(wave) for wave in plan.waves]):
        raise TidegateError(fault)
    return plan, plan.waves, rfc.instant


def _instant_to_come(cmdb: Cmdb, rfc: Rfc, facts: Facts) -> datetime | None:
    """The instant of the last wave of a deployment that has begun; ``None`` when hosts were told it, or the RFC names none.

    Raises :class:`TidegateError` when the deployment's hosts are switched one by one.
    """
    journal = InstantJournal(cmdb)
    current = journal.latest(rfc.number)
    if current is None or rfc.instant is None or journal.round_start(current.id) > 1:
        return None
    if current.rollout.together is None:
        raise TidegateError(instant_fault(facts.package.manifest if facts.package else {}, current.rollout, rfc.instant))
    return None if journal.was_told(current.id, len(journal.waves(current.id)), rfc.instant) else rfc.instant


def _plan_of(cmdb: Cmdb, rfc: Rfc, cis: Sequence[Mapping[str, Any]], policy: Policy, facts: Facts) -> Plan:
    """The plan for the CIs under a policy's rollout; raises :class:`TidegateError` with everything that can't be kept."""
    rollout = for_change(policy.rollout, rfc.release, rfc.type)
    config = facts.package.manifest if facts.package else {}
    neighbours, named = Neighbours(), rollout.constraints.canary_hosts
    if isinstance(named, tuple) and named:
        neighbours = Neighbours(written_off=cmdb.write_offs(named).keys())
    if asks_for_others(rollout):
        scope = {ci["name"] for ci in cis}
        members: dict[str, list[str]] = {name: [] for name in rollout.constraints.stay_up.services}
        for entry in cmdb.relations(list(members)) if members else ():
            if entry["kind"] == DEPENDS_ON and entry["source"] in members:
                members[entry["source"]].append(entry["target"])
        # What is no host changes with no wave, and a spare on a bench serves nobody: neither keeps anything up.
        model = cmdb.model()
        hosts = (ci for ci in cmdb.query() if is_host(ci, policy.host_classes, model) and ci["class"] != SPARE)
        neighbours = replace(neighbours, others=[ci for ci in hosts if ci["name"] not in scope], services=members)
    hosts_in_scope, limits = plan_input(cis, rollout, neighbours, f"{rfc.release} {rfc.version}")
    own = filter(None, (together_fault(config, rollout), instant_fault(config, rollout, rfc.instant), confirm_fault(config, rollout)))
    remarks = filter(None, (confirm_remark(config, rollout),))
    limits = replace(limits, faults=(*own, *limits.faults), remarks=(*remarks, *limits.remarks))
    return plan_waves(hosts_in_scope, rollout, facts.compatibility.order if facts.compatibility else (), limits)


def _with_calendars(asking: _Asking, found: Gathered) -> Gathered:
    """Add the windows and freezes that the waves have to fit into."""
    facts, policy, sources = found.facts, found.facts.policy, asking.sources
    if policy is None:
        return found
    calendars = asking.ask("calendars", lambda: calendars_of(policy.calendars, sources.library, asking.cmdb, asking.rfc, facts.now))
    return replace(found, facts=replace(facts, calendars=calendars))


def _with_signed_evidence(facts: Facts, rfc: Rfc, selected: tuple[dict[str, Any], ...] | None, sources: Sources) -> Facts:
    """Add what people signed about the package; ``selected``: the CIs that they decided on."""
    policy, digest = facts.policy, facts.package.archived if facts.package else None
    if policy is None or digest is None:
        sources.errors["evidence"] = sources.errors.get("package") or sources.errors.get("policy", "")
        return facts
    seen_before = facts.seen[0].evidence if facts.seen else {}
    said = sources.ask("evidence", lambda: judge_all(sources.library(), policy, rfc, digest, selected, seen_before, facts.now))
    if said is None:
        return facts
    unread = Sight(rfc.release, rfc.version, digest)
    return replace(
        facts,
        sight=unread if said.attached is None else sight_of(unread, said.attached, said.passed_over, seen_before),
        evidence=said.evidence,
        signed_approvals=said.approvals,
        builders=said.builders,
        waivers=said.waivers,
        opinions=said.opinions,
        inputs=said.inputs,
        ignored=said.ignored,
    )


def _until(facts: Facts, controls: Iterable[Control]) -> datetime | None:
    """When what is open now closes; at once when that is not known, and then a control blocks too."""
    try:
        waived = {control.name for control in controls if control.result is Result.WAIVED}
        return closes(facts, facts.rfc, waived) if facts.rfc else facts.now
    except NotKnown:
        return facts.now


def _names(facts: Facts, cis: Iterable[Mapping[str, Any]] | None) -> dict[str, Any]:
    """What the conditions of a policy's own controls can speak of; what could not be found out is not defined."""
    names: dict[str, Any] = {"now": facts.now}
    if facts.rfc is not None:
        names["rfc"] = asdict(facts.rfc)
    if facts.package is not None and facts.package.archived is not None and not facts.package.damage:
        names["release"] = {**facts.package.manifest, "digest": facts.package.archived}
    if cis is not None:
        names["cmdb"] = {"cis": list(cis)}
    if facts.evidence is not None:
        names["evidence"] = [
            {"kind": kind, "person": one.person, "signed_at": one.signed_at, "predicate": one.statement.predicate}
            for kind, judgement in facts.evidence.items()
            for one in judgement.counted
        ]
    return names
