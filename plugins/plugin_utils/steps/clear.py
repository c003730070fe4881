# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clear an RFC: gather what the controls look at, and evaluate them.

A source that can't be read is a fact too: it makes controls inconclusive instead of ending the evaluation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from ..clearance.clearance import Clearance, evaluate
from ..clearance.controls.window import closes
from ..clearance.evaluate import ASKED_AT_GATES, evaluate_controls
from ..clearance.facts import Facts, NotKnown
from ..clearance.findings import Control, Result
from ..clearance.own_controls import evaluate_own, speaking_of
from ..clearance.policy import load_policy
from ..clearance.summary import JudgedBy, summary_statement
from ..cmdb.hosts import described, is_host
from ..cmdb.store import Cmdb
from ..compatibility.judge import with_plan_faults
from ..dsl.repository import blob_uri
from ..dsl.seen import Sight
from ..errors import FindingsError, TidegateError
from ..evidence.library import sight_of
from ..evidence.statement import Statement
from ..policy.load import DEFAULT
from ..policy.model import Identity, Policy
from ..rfc.model import Rfc
from ..rfc.source import load_rfc
from ..rollout.deployments import Deployments
from ..rollout.planner import plan_hosts, plan_waves
from .sources import (
    Sources,
    calendars_of,
    compatibility_of,
    debts_of,
    entered_with,
    inspect_package,
    judge_all,
    live_versions,
    manifest_of,
    matter_of,
    not_written_off,
    overlaps_of,
    product_of,
    replaced_digests,
    seats_for,
    seen_of,
    select,
)
from .tell import unusable

_T = TypeVar("_T")
_NAMED = 3  # things beside a package that a remark names


@dataclass(frozen=True)
class Clearing:
    """A clearance and what it was based on; ``cis`` are the selected CIs as the CMDB gives them, ``product`` is the licensed one.

    ``stable``: for how many seconds the release says it has to stay healthy, ``None`` when it does not say.

    ``waves``: the hosts of each wave that is to be done, in order. ``until``: when it is too late to start a host of the first of them.
    ``sight``: what the library was seen to have of the release, for the CMDB to remember. ``inputs`` and ``ignored`` as in
    :class:`.policy.facts.Facts`.
    """

    clearance: Clearance
    rfc: Rfc | None
    policy: Policy | None
    cis: tuple[dict[str, Any], ...]
    product: str | None = None
    waves: tuple[tuple[str, ...], ...] = ()
    until: datetime | None = None
    sight: Sight | None = None
    stable: float | None = None
    inputs: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

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
                ("People", f"requested by {rfc.requested_by}, assigned to {rfc.assigned_to or 'nobody'}"),
                ("CIs", f"{len(self.cis)} by {rfc.scope}{without(self.left_out)}"),
            ]
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
        try:
            digest = hashlib.sha256(policy.read_bytes()).hexdigest()
        except OSError as error:
            raise TidegateError(f"the policy {policy} can't be read ({error.strerror}), so no clearance by it is signed") from error
        identity = self.policy.identity if self.policy else Identity()
        judged_by = JudgedBy(
            identity.verifier or f"https://tidegate.example/verifier/{key_id}",
            identity.policy or (policy.absolute().as_uri() if policy_path else "https://tidegate.example/policy/default"),
            digest,
            tuple((blob_uri(dsl, self.rfc.release, sha256), sha256) for sha256 in self.inputs),
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


def refusal(clearance: Clearance, more: Sequence[str] = ()) -> FindingsError:
    """Why a clearance is not granted; ``more`` are further lines that its reader wants."""
    return FindingsError(clearance.sentence(), [*clearance.details(), *more], [*clearance.details(complete=True), *more])


def without(hosts: Collection[str]) -> str:
    """That hosts are left out, for a person; empty when there are none."""
    named = f"{', '.join(sorted(hosts)[:5])}{' ...' if len(hosts) > 5 else ''}"
    return f"; {len(hosts)} written off and left out: {named}" if hosts else ""


def clear(rfc_path: str, dsl: str, cmdb_url: str, policy_path: str | None, now: datetime) -> Clearing:
    """Evaluate every control for an RFC; read-only."""
    sources = Sources()
    rfc = sources.ask("rfc", lambda: load_rfc(rfc_path))
    policy = sources.ask("policy", lambda: load_policy(policy_path))
    facts = Facts(now=now, rfc=rfc, policy=policy, errors=sources.errors)
    selected: tuple[dict[str, Any], ...] | None = None
    cis: tuple[dict[str, Any], ...] | None = None
    waves: tuple[tuple[str, ...], ...] | None = None
    if rfc is not None:
        package = sources.ask("package", lambda: inspect_package(dsl, cmdb_url, rfc))
        # What people decided on is all that the scope selects; the release goes to those of it that are there.
        selected = sources.ask("scope", lambda: select(cmdb_url, rfc))
        cis = sources.ask("scope", lambda: not_written_off(selected)) if selected is not None else None
        facts = replace(
            facts,
            policy=policy.narrowed_to(package.type if package else "", rfc.type, rfc.risk) if policy else None,
            package=package,
            scope=None if cis is None else tuple(str(ci["name"]) for ci in cis),
            live=None if cis is None else live_versions(cis, rfc.release),
            former=None if cis is None else replaced_digests(rfc, cis),
            no_hosts=tuple(described(ci) for ci in cis or () if policy and not is_host(ci, policy.host_classes)),
            entered=sources.ask("overlaps", lambda: entered_with(cmdb_url, rfc)),
            debts=sources.ask("debts", lambda: debts_of(cmdb_url, rfc)),
            channels=sources.ask("channels", lambda: unusable(policy.communication)) if policy else None,
        )
        facts = replace(facts, seats=sources.ask("seats", lambda: seats_for(cmdb_url, rfc, facts)))
        if package is not None and cis is not None:
            found = sources.ask("compatibility", lambda: compatibility_of(dsl, cmdb_url, rfc, package, cis))
            facts = replace(facts, compatibility=found)
        waves = sources.ask("scope", lambda: _waves(cmdb_url, rfc, cis, facts))
        if facts.compatibility is not None:
            facts = replace(facts, compatibility=with_plan_faults(facts.compatibility, waves or ()))
        facts = _plan(facts, rfc, dsl, cmdb_url, cis, waves, sources)
        facts = _with_signed_evidence(facts, rfc, (dsl, cmdb_url), selected, sources)
        own = facts.policy.controls if facts.policy else ()
        if own:
            facts = replace(facts, own=sources.ask("own", lambda: evaluate_own(own, _names(facts, cis))) or {})
    clearance = evaluate(facts)
    until = _until(facts, clearance.controls)
    stable = facts.package.manifest.get("stable") if facts.package else None
    return Clearing(
        clearance,
        rfc,
        facts.policy,
        selected or (),
        product_of(facts),
        waves or (),
        until,
        facts.sight,
        stable,
        facts.inputs,
        facts.ignored,
    )


def check_wave_start(rfc: Rfc, wave: Wave, dsl: str, cmdb_url: str, policy_path: str | None, now: datetime) -> WaveStart:
    """Whether the wave may start now, by what can have changed since the RFC was cleared.

    That is the time, what people signed and whether what they signed still holds, what the CIs would meet that get the release next, and
    whether it was retired.
    Waivers count here as they do in a clearance.
    """
    sources = Sources()
    policy = sources.ask("policy", lambda: load_policy(policy_path))
    package = sources.ask("package", lambda: manifest_of(dsl, cmdb_url, rfc))
    if policy is not None:
        policy = policy.narrowed_to(package.type if package else "", rfc.type, rfc.risk)
    selected = sources.ask("scope", lambda: select(cmdb_url, rfc))
    cis = sources.ask("scope", lambda: not_written_off(selected)) if selected is not None else None
    facts = Facts(now=now, rfc=rfc, policy=policy, errors=sources.errors, package=package)
    if cis is not None:
        sites = {str(ci["name"]): ci["site"] for ci in cis}
        facts = replace(
            facts,
            scope=tuple(sites),
            former=replaced_digests(rfc, cis),
            waves=(frozenset(sites.get(host) for host in wave.hosts),),
        )
    if package is not None and cis is not None:
        # Those that failed keep what they have, and those of later waves have not got it yet.
        names = wave.done.union(wave.hosts)
        having = [ci for ci in cis if ci["name"] in names]
        found = sources.ask("compatibility", lambda: compatibility_of(dsl, cmdb_url, rfc, package, having))
        facts = replace(facts, compatibility=with_plan_faults(found, (wave.hosts,)) if found else None)
    if policy is not None:
        calendars = sources.ask("calendars", lambda: calendars_of(policy.calendars, dsl, cmdb_url, rfc, now))
        facts = _with_signed_evidence(replace(facts, calendars=calendars), rfc, (dsl, cmdb_url), selected, sources)
    own = speaking_of(policy.controls, ("now", "evidence")) if policy else ()
    facts = replace(facts, own=sources.ask("own", lambda: evaluate_own(own, _names(facts, cis))) or {})
    controls = evaluate_controls(facts, {*ASKED_AT_GATES, *(control.name for control in own)})
    reasons = (control.why.replace("\n", "; ") for control in controls if control.blocks)
    return WaveStart("; ".join(dict.fromkeys(reasons)), _until(facts, controls), facts.sight)


def refuse_commands(rfc: Rfc, hosts: Collection[str], dsl: str, cmdb_url: str, policy_path: str | None, now: datetime) -> None:
    """Raise :class:`TidegateError` unless the commands among an RFC's objectives may be run now, after its deployment to ``hosts``.

    The same that a clearance asks, anew: whatever else was meanwhile entered under its number, people have to have signed this.
    """
    sources = Sources()
    policy = sources.ask("policy", lambda: load_policy(policy_path))
    package = sources.ask("package", lambda: manifest_of(dsl, cmdb_url, rfc))
    facts = Facts(now=now, rfc=rfc, policy=None, errors=sources.errors, package=package)
    if policy is not None and package is not None:
        facts = replace(facts, policy=policy.narrowed_to(package.type, rfc.type, rfc.risk), scope=tuple(hosts))
        facts = _with_signed_evidence(facts, rfc, (dsl, cmdb_url), tuple({"name": name} for name in hosts), sources)
    controls = evaluate_controls(facts, {"objectives", "approvals"})
    reasons = [control.reason.replace("\n", "; ") for control in controls if control.blocks]
    if reasons:
        raise TidegateError("; ".join(dict.fromkeys(reasons)))


def _until(facts: Facts, controls: Iterable[Control]) -> datetime | None:
    """When what is open now closes; at once when that is not known, and then a control blocks too."""
    try:
        waived = {control.name for control in controls if control.result is Result.WAIVED}
        return closes(facts, facts.rfc, waived) if facts.rfc else facts.now
    except NotKnown:
        return facts.now


def _plan(
    facts: Facts,
    rfc: Rfc,
    dsl: str,
    cmdb_url: str,
    cis: Iterable[Mapping[str, Any]] | None,
    waves: tuple[tuple[str, ...], ...] | None,
    sources: Sources,
) -> Facts:
    """Add the sites of the waves that are to be done, the calendars that they have to fit into, and what else is planned."""
    policy = facts.policy
    facts = replace(facts, overlaps=None if cis is None else sources.ask("overlaps", lambda: overlaps_of(cmdb_url, rfc, cis)))
    if policy is None:
        return facts
    facts = replace(facts, calendars=sources.ask("calendars", lambda: calendars_of(policy.calendars, dsl, cmdb_url, rfc, facts.now)))
    if cis is None or waves is None:
        return facts
    sites = {str(ci["name"]): ci["site"] for ci in cis}
    return replace(facts, waves=tuple(frozenset(sites.get(host) for host in wave) for wave in waves))


def _waves(cmdb_url: str, rfc: Rfc, cis: Collection[Mapping[str, Any]] | None, facts: Facts) -> tuple[tuple[str, ...], ...] | None:
    """The hosts of each wave that is to be done: those of the plan in the journal that are not decided, or those of the plan to be made."""
    if cis is None or facts.policy is None:
        return None
    with Cmdb.open(cmdb_url) as cmdb:
        begun = Deployments(cmdb).undecided(rfc.number)
    if begun is not None:
        return tuple(tuple(wave) for wave in begun)
    # With a fault there is no deployment, and maybe no order either.
    order = facts.compatibility.order if facts.compatibility and not facts.compatibility.faults else ()
    return plan_waves(plan_hosts(cis, facts.policy.rollout), facts.policy.rollout, order) if cis else ()


def _with_signed_evidence(
    facts: Facts, rfc: Rfc, homes: tuple[str, str], cis: tuple[dict[str, Any], ...] | None, sources: Sources
) -> Facts:
    """Add what people signed about the package, and what was seen of it before. ``homes``: where the library and the CMDB are."""
    dsl, cmdb_url = homes
    facts = replace(facts, seen=sources.ask("seen", lambda: seen_of(cmdb_url, rfc, facts.policy)))
    policy, digest = facts.policy, facts.package.archived if facts.package else None
    if policy is None or digest is None:
        sources.errors["evidence"] = sources.errors.get("package") or sources.errors.get("policy", "")
        return facts
    said = sources.ask("evidence", lambda: judge_all(dsl, policy, rfc, digest, cis, facts.now))
    if said is None:
        return facts
    known = facts.seen[0].evidence if facts.seen else {}
    unread = Sight(rfc.release, rfc.version, digest)
    return replace(
        facts,
        sight=unread if said.attached is None else sight_of(rfc.release, rfc.version, digest, said.attached, known),
        evidence=said.evidence,
        signed_approvals=said.approvals,
        builders=said.builders,
        waivers=said.waivers,
        opinions=said.opinions,
        inputs=said.inputs,
        ignored=said.ignored,
    )


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
