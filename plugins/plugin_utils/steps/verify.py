# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verify a package on a lab: mirror live in miniature, upgrade it, test, rehearse the back-out, test again, and sign what came of it."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...module_utils.redaction import Redactor
from ..clearance.policy import load_policy
from ..cmdb.hosts import is_host
from ..cmdb.query import QueryError, search
from ..cmdb.schema import schema
from ..cmdb.store import Cmdb
from ..dsl.layout import OciLayout
from ..dsl.manifest import Manifest
from ..dsl.package import Source, load_package, load_package_manifest
from ..dsl.replica import replicate
from ..dsl.repository import Library, find_library, open_library
from ..errors import ConflictError, IntegrityError, NotFoundError, TidegateError
from ..evidence.approval import APPROVED
from ..evidence.package import PackageName, judge_package
from ..evidence.trust import signer_name
from ..files import make_folder
from ..policy.model import Policy
from ..rfc.source import load_rfc
from ..rollout.journal import Journal
from ..rollout.moves import DONE_BY_HAND
from ..rollout.states import DATA_EVENTS, DataState, DeploymentState, HostState
from ..rollout.wave_journal import ROLE_DID
from ..verification import outcome, parity
from ..verification.miniature import Combination, LiveHost, Miniature, live_host, miniature, with_untouched
from ..verification.model import Model, model
from ..verification.play import Played, began, play, redact_records
from ..verification.scene import RFC, Given, LabHosts, Scene, build
from .approve import Decision, decide, load_decision_request
from .attest import attest, find_release
from .sources import data_host_of

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

_NAMED = 5  # hosts that a sentence names


@dataclass(frozen=True)
class Subject:
    """What is to be verified, against which part of live, and what that is like."""

    release: PackageName
    plan: Miniature
    like: Model
    policy: Policy

    @property
    def around(self) -> list[tuple[str, str, str]]:
        """The releases that doubles have already, and those of CIs that are related to them: name, version and digest of each."""
        near = {(str(row["release"]), str(row["version"]), str(row["digest"])) for row in self.like.installed}
        return sorted({*self.plan.releases, *near})


@dataclass(frozen=True)
class Asked:
    """The release, by the RFC that names it, by its own name with a version or a digest, or by its directory, ``source``, that nobody has
    archived yet; an RFC says then where it is to go, and has to name just that package."""

    rfc: str | None = None
    name: str | None = None
    version: str | None = None
    digest: str | None = None
    source: Source | None = None


def prepare(asked: Asked, dsl: str, cmdb_url: str, policy_path: str | None, limit: int, now: datetime) -> Subject:
    """Find the package and choose what of live is mirrored.

    With an RFC that is what its scope selects, without one the hosts that have the release. Raises :class:`TidegateError` when there is
    nothing to mirror, or the policy does not trust the package: what nobody signed is not run.
    """
    policy = load_policy(policy_path)
    if (asked.rfc is None) == (asked.name is None) and asked.source is None:
        raise TidegateError("what is to be verified is not clear; give either an RFC or the name of a release")
    name, version, digest, scope = asked.name or "", asked.version, asked.digest, ""
    rfc = None if asked.rfc is None else load_rfc(asked.rfc)
    if rfc is not None:
        name, version, digest, scope = rfc.release, None, rfc.digest, rfc.scope
    if asked.source is not None:
        manifest = asked.source.manifest
        if name not in ("", manifest.name):
            raise ConflictError(
                f"{rfc.number if rfc else 'the name'} is of {name}, and the directory is {manifest.name}; correct one of them"
            )
        name, library = manifest.name, find_library(dsl)
        release = PackageName(name, manifest.version, asked.source.preview(None).digest)
        if digest and digest != release.digest:
            raise ConflictError(
                f"{rfc.number if rfc else 'tidegate_digest'} names the package {digest}, and the directory {asked.source.directory} is "
                f"{release.digest}; correct the digest or the directory, or give only one of them"
            )
    else:
        library = open_library(dsl)
        home = library.repository(name)
        release = find_release(home, name, version, digest)
        if distrust := judge_package(home, policy, release, now).distrust:
            raise TidegateError(distrust)
        manifest = load_package_manifest(home, release.digest)
    if rfc is not None and release.version != rfc.version:
        raise ConflictError(f"{rfc.number} names {name} {rfc.version}, but its digest is that of {release.version}; correct the RFC")
    if manifest.firmware or manifest.hardware:
        kind = "firmware" if manifest.firmware else "hardware"
        raise TidegateError(
            f"{name} {release.version} is {kind}, and hosts of the lab have no such device; try it on a bench and attest the result"
        )
    with Cmdb.open(cmdb_url) as cmdb, cmdb.read() as connection:
        all_cis = {str(ci["name"]): ci for ci in cmdb.query(connection=connection)}
        cis = cmdb.query(scope, connection) if scope else [ci for ci in all_cis.values() if name in ci["installations"]]
        if asked.source is not None and not cis and not scope:  # the first of its name
            rules = cmdb.model(connection)
            cis = [ci for ci in all_cis.values() if is_host(ci, policy.host_classes, rules)]
        cis = [ci for ci in cis if ci["written_off"] is None]  # the release does not go there
        relations = [(one["source"], one["target"], one["kind"]) for one in cmdb.relations([str(ci["name"]) for ci in cis], connection)]
    live = [host for host in map(live_host, cis) if all(one[2] != release.digest for one in host.releases)]
    if not live:
        raise NotFoundError(
            f"there is no host to upgrade to {name} {release.version}: {len(cis)} were found, and all of them have it; "
            "give an RFC whose scope selects others"
        )
    by_data = _migrated_on(manifest, cis).union(*(_migrated_on(one, there) for one, there in _installed(library, live, cis)))
    plan = miniature(live, limit, by_data)
    if manifest.ansible is not None and not manifest.no_return:  # from where there is no way back, none is rehearsed to having nothing
        plan = with_untouched(plan, name, lambda host: _needed(library, manifest, host.releases), unlike=by_data)
    return Subject(release, plan, model(plan, {str(ci["name"]): ci for ci in cis}, all_cis, relations), policy)


def _migrated_on(manifest: Manifest, cis: Iterable[Mapping[str, Any]]) -> set[str]:
    """The names of the CIs on which a release would migrate data; what is wrong with its query the lab's own says."""
    if manifest.ansible is None or not manifest.ansible.migrate_on:
        return set()
    try:
        found = search(manifest.ansible.migrate_on, [dict(ci) for ci in cis])
    except QueryError:
        return set()
    listed = found if isinstance(found, list) else [found]
    return {str(one.get("name") if isinstance(one, Mapping) else one) for one in listed}


def _installed(
    library: Library | None, live: Iterable[LiveHost], cis: Collection[Mapping[str, Any]]
) -> Iterator[tuple[Manifest, list[Mapping[str, Any]]]]:
    """The manifest of each release that live hosts have, with the CIs that have it; but for what the library does not have."""
    for name, version, digest in sorted({one for host in live for one in host.releases}):
        with contextlib.suppress(IntegrityError):  # what it is to be built from the lab says itself
            if library is not None and library.repository(name).resolve(name, version) == digest:
                there = [ci for ci in cis if ci["installations"].get(name, {}).get("digest") == digest]
                yield load_package_manifest(library.repository(name), digest), there


def _needed(library: Library | None, manifest: Manifest, there: Combination) -> Combination:
    """What of ``there``, the releases of a host, one with this manifest requires, and what that requires in turn."""
    found: dict[str, tuple[str, str, str]] = {}
    left = [manifest]
    while left:
        wanted = {str(condition.get("release")) for condition in left.pop().requires} - {manifest.name, *found}
        for one in (one for one in there if one[0] in wanted):
            found[one[0]] = one
            if library is not None and library.repository(one[0]).resolve(one[0], one[1]) == one[2]:
                left.append(load_package_manifest(library.repository(one[0]), one[2]))
    return frozenset(found.values())


def lay_out(source: Source, library: Library | None, subject: Subject, path: Path) -> bool:
    """Make a library in ``path`` for the time of a verification, with a release that is not archived and what live has.

    Returns whether ``library`` has just that package too. Raises :class:`TidegateError` when the version is archived with another content.
    """
    target = OciLayout.create(path)
    archived = source.archive(target)
    if library is None:
        return False
    there = library.repository(archived.name).resolve(archived.name, archived.version)
    _copy(library, target, subject.around)
    return there == archived.digest


def _copy(library: Library, target: Library, wanted: Collection[tuple[str, str, str]]) -> None:
    """Bring the releases ``wanted``, name, version and digest, to another library, as far as this one has them."""
    found = {key: package for key, package in library.releases().items() if (*key, package.digest) in wanted}
    if problems := replicate(library, target, found, lambda *_release: "", write=True).problems:
        raise TidegateError(problems[0])


def _with_approvals(scene: Scene, approver: Signer, subject: Subject, place: Place, library: Library, now: datetime) -> str:
    """The address of a library with what the lab gets, where the lab's ``approver`` has approved each point of no return.

    It is the lab's own, for in that of live nothing is approved.
    """
    dsl = place.dsl
    if place.given.archived:  # else it is one that was made for this alone
        dsl = str(scene.path / "dsl")
        release = subject.release
        _copy(library, OciLayout.create(Path(dsl)), [(release.name, release.version, release.digest), *subject.around])
    for number in scene.no_return:
        question = load_decision_request(str(scene.path / f"{number}.yml"), dsl, str(scene.cmdb), str(scene.policy_of(number)))
        decide(question, approver, Decision(APPROVED, None, "in a lab"), now, write=True)
    return dsl


def check_signer(policy: Policy, signer: Signer, now: datetime) -> str:
    """Who verifies; raises :class:`TidegateError` before anything is run when their test result would count for nothing."""
    name = signer_name(policy, signer, now)
    asked = (policy.trust, *(rule.trust for rule in policy.rules))
    roles = {trust["test-result"].role for trust in asked if "test-result" in trust}
    if not roles:
        raise TidegateError("the policy asks for no test result; say under trust who signs one, or verify without a key")
    if roles.isdisjoint(policy.people[name].roles):
        raise TidegateError(
            f"test results are signed by people with the role {' or '.join(sorted(roles))}, which {name} has not; let others verify"
        )
    return name


@dataclass(frozen=True)
class Place:
    """Where a verification runs: its directory, which is empty, the library, what the lab is and is given, and where Ansible looks."""

    path: Path
    dsl: str
    lab: LabHosts
    given: Given
    collections: str
    timeout: int


def claim(path: Path) -> None:
    """Make the directory of a verification; raises :class:`ConflictError` when it may be another's."""
    try:
        make_folder(path)
        path.chmod(0o700)  # the variables of live's hosts are in it
        if any(path.iterdir()):
            raise ConflictError(f"{path} is not empty; give a directory of its own, or none")
    except OSError as error:
        raise TidegateError(f"{path} can't be used to work in ({error.strerror}); give another directory, or none") from error


def verify(
    subject: Subject, place: Place, live: Mapping[str, Mapping[str, Any]], now: datetime, redactor: Redactor
) -> tuple[dict[str, Any], Played]:
    """Play the scenario; return the predicate of its test result, and how it went. ``live`` are the facts of live hosts, by name.

    What ``redactor`` knows is in neither. Raises :class:`TidegateError` when the scenario did not get as far as the release: that says
    nothing about it.
    """
    library = open_library(place.dsl)
    release = subject.release
    package = load_package(library.repository(release.name), release.digest)
    scene = build(place.path, subject.plan, subject.like, library, release, package, place.lab, place.given, now)
    if why := unplayable(scene, library, place.given):
        raise TidegateError(f"{release.name} {release.version} was not verified, and nothing is signed: {why}")
    scenario = scene.fingerprint()
    dsl = _with_approvals(scene, scene.approver, subject, place, library, now) if scene.approver else place.dsl
    try:
        played = play(scene, dsl, place.collections, place.lab.mode == "isolated", place.timeout, redactor)
        tests = outcome.read_tests(_read(scene.results), redactor)
    finally:
        redact_records(scene, redactor)
    if why := unbuilt(scene, played):
        raise TidegateError(
            f"{release.name} {release.version} was not verified, and nothing is signed: {why}; mend that and run verify again, what the "
            f"scenario said is in {place.path}"
        )
    like = parity.compare(Miniature(subject.plan.hosts, (*subject.plan.lacking, *scene.lacking)), live, scene.facts())
    said = outcome.predicate(
        tests,
        rehearsed(scene, tests.passed_at),
        like,
        ended=played.ended,
        digest=release.digest,
        events=outcome.count_events(played.events),
        hosts={double: host.name for double, host in subject.plan.hosts.items()},
        scenario=scenario,
    )
    return said, played


def sign_result(dsl: str, release: PackageName, said: Mapping[str, Any], signer: Signer, now: datetime) -> bool:
    """Sign a test result, whatever it says: that a verification failed has to be on record too."""
    return attest(open_library(dsl).repository(release.name), release, "test-result", said, signer, now, write=True)


def unplayable(scene: Scene, library: Library, given: Given) -> str:
    """Why a lab can't play what releases do to data or outside their trees, or must not; empty when it may.

    That says nothing of the release.

    How those that live has already are installed is for the scenario to say, and for :func:`unbuilt`.
    """
    rfcs = [load_rfc(str(scene.path / f"{number}.yml")) for number in (*scene.replaced, RFC)]
    manifests = [load_package_manifest(library.repository(rfc.release), rfc.digest) for rfc in rfcs]
    migrating = [one for one in manifests if one.ansible is not None and one.ansible.migrate_on]
    if migrating and given.vars_file is None:
        return (
            f"{migrating[-1].name} {migrating[-1].version} changes data, and variables that the CMDB and its inventory give to the lab's "
            "hosts may lead to the data of live; give a file with variables of the lab (verify_vars_file), which says where its data are, "
            "or is empty when its hosts have them"
        )
    outside = [one for one in manifests if one.reads is not None]
    if outside and given.vars_file is None:
        return (
            f"{outside[-1].name} {outside[-1].version} has its effect outside its tree, and settings that the CMDB and its inventory give "
            "to the lab's hosts may lead to what live has; give a file with variables of the lab (verify_vars_file), whose "
            "tidegate_settings lead to a double of that, or which is empty when the lab's hosts have it"
        )
    if manifests[-1] not in migrating:
        return ""
    with Cmdb.open(str(scene.cmdb)) as cmdb:
        problem = data_host_of(cmdb, rfcs[-1], manifests[-1].to_config(), cmdb.query(rfcs[-1].scope)).problem
    double = "a double has its host's site, class and attributes, and its name as far as a lab host can have it"
    return f"in the lab {problem}; {double}, so have migrate_on find one by these" if problem else ""


def unbuilt(scene: Scene, played: Played) -> str:
    """Why the lab was not made like live, so that nothing that happened in it says anything of the release; empty when it was.

    A scenario of the release's own may install what live has in another way than the one that is shipped; so what it never deployed
    counts only when it did not come to the release either.
    """
    with Cmdb.open(str(scene.cmdb)) as cmdb:
        journal = Journal(cmdb)
        for number, what in scene.replaced.items():
            deployment = journal.latest(number)
            if deployment is None:
                continue
            lacking = [target for target in journal.targets(deployment.id) if target.state is not HostState.ACTIVE]
            if lacking or deployment.state is not DeploymentState.COMPLETED:
                detail = next((f"{target.host}: {target.detail}" for target in lacking if target.detail), deployment.reason or played.ended)
                return f"{what}, which is live, could not be installed in the lab{f' ({detail})' if detail else ''}"
        if journal.latest(RFC) is None and not began(played.events):
            return f"what live has now could not be made in the lab ({played.ended or 'the scenario does not deploy the release'})"
    return ""


def rehearsed(scene: Scene, passed_at: Iterable[float]) -> outcome.Rehearsal:
    """What the journal of the lab says was done, and not what the scenario says. ``passed_at``: when tests passed."""
    try:
        with Cmdb.open(str(scene.cmdb)) as cmdb:
            return _rehearsed(cmdb, scene, passed_at)
    except TidegateError as error:
        return outcome.Rehearsal("", fault=str(error))


def _rehearsed(cmdb: Cmdb, scene: Scene, passed_at: Iterable[float]) -> outcome.Rehearsal:
    journal = Journal(cmdb)
    deployment = journal.latest(RFC)
    if deployment is None:
        return outcome.Rehearsal("", fault="the lab's journal has no deployment of it")
    table = schema().journal
    with cmdb.read() as connection:
        events = connection.execute(table.select().where(table.c.deployment_id == deployment.id).order_by(table.c.seq)).all()
    targets = journal.targets(deployment.id)
    hosts = {target.host for target in targets}
    ends = {event.event: event.at for event in events if event.host is None and event.event in ("completed", "backed_out")}
    active = {event.host for event in events if event.event == "active"}
    deployed = "completed" in ends and active == hosts == set(scene.before)
    installed: dict[str, set[tuple[str, str, str]]] = {double: set() for double in scene.before}
    for row in cmdb.installations(sorted(scene.before)):
        installed[row["ci"]].add((row["release"], row["version"], row["digest"]))
    strays = sorted(double for double, releases in scene.before.items() if installed[double] != releases)
    by_hand = sorted(event.host for event in events if event.event == DONE_BY_HAND)
    by_word = _by_word(events, deployment.rollout.no_return)
    backed_out = deployed and deployment.state is DeploymentState.BACKED_OUT and not strays and not by_hand and not by_word
    to_its_end = deployed and deployment.rollout.no_return and deployment.state is DeploymentState.COMPLETED and not by_word
    left = "; ".join([f"{one.host}: {one.summary}" for one in targets if one.state is HostState.OWED][:_NAMED])
    if by_hand:
        left = f"{', '.join(by_hand[:_NAMED])} was brought back by hand"
    elif by_word:
        left = f"that its data are {by_word.replace('_', ' ')} was said, and no step of its role came to that"
    fault = left or deployment.reason or (f"{', '.join(strays[:_NAMED])} has not what it had before" if deployed and strays else "")
    last = ends["backed_out"] if backed_out else ends["completed"] if to_its_end else None
    after = sum(at > last.timestamp() for at in passed_at) if last is not None else 0
    replaced = {next((one[2] for one in releases if one[0] == deployment.release), "") for releases in scene.before.values()}
    role = None
    if scene.steps is not None:
        forward, back = (_done_by_role(events, event, hosts) for event in (HostState.ACTIVE, HostState.BACKED_OUT))
        forward = (*_done_to_data(events, DataState.MIGRATED, "migrate"), *forward)
        role = outcome.RoleRehearsal(scene.steps, forward, (*back, *_done_to_data(events, DataState.REVERSED, "reverse")))
    return outcome.Rehearsal(deployment.digest, deployed, backed_out, after, tuple(sorted(replaced)), fault, role, to_its_end)


def _by_word(events: Iterable[Any], no_return: bool) -> str:
    """What was said of data in place of a step that ended well; of those that nothing brings back it may be said that they are kept."""
    said = (str(one.data["said"]) for one in events if one.host is None and one.event in DATA_EVENTS and "said" in one.data)
    return next((what for what in said if not (no_return and what == DataState.KEPT)), "")


def _done_to_data(events: Iterable[Any], state: DataState, step: str) -> tuple[str, ...]:
    """``step``, if it came to that ``state`` of the data, and nobody just said so."""
    return (step,) if any(one.host is None and one.event == state and "said" not in one.data for one in events) else ()


def _done_by_role(events: Iterable[Any], event: str, hosts: Collection[str]) -> tuple[str, ...]:
    """The steps of roles that ended in this ``event`` of a host; nothing unless a role did something on each of ``hosts``."""
    last = {one.host: [str(step) for step in one.data.get(ROLE_DID, ())] for one in events if one.host is not None and one.event == event}
    if not all(last.get(host) for host in hosts):
        return ()
    return tuple(dict.fromkeys(step for host in sorted(last) for step in last[host]))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def describe(plan: Miniature) -> list[str]:
    """Each double, for a person."""
    return [f"{double} for {host.name}{_runs(host)}" for double, host in sorted(plan.hosts.items())]


def _runs(host: LiveHost) -> str:
    listed = ", ".join(f"{name} {version}" for name, version, _digest in sorted(host.releases))
    return f" ({listed})" if listed else ""
