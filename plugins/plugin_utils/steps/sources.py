# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts that controls look at, each from its source: the DSL, the CMDB, what people signed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from ..activity import note
from ..calendar.model import CalendarFiles, Calendars
from ..clearance.facts import DataHost, Facts, PackageFacts
from ..clearance.policy import load_policy
from ..cmdb.query import QueryError, search
from ..cmdb.store import Cmdb
from ..dsl.descriptors import TITLE
from ..dsl.package import load_package, load_package_manifest, verify_package
from ..dsl.repository import Library, open_library
from ..dsl.role import check_packaged_role
from ..dsl.seen import Piece, Snapshot
from ..errors import DocumentError, IntegrityError, NotFoundError, TidegateError
from ..evidence.approval import Matter
from ..evidence.library import snapshot
from ..evidence.store import Attached, Wanted, collect
from ..evidence.trust import Judgement, judge, judge_approvals, judge_opinions, judge_waiver, signers, sort_out
from ..licence.entitlements import would_reserve
from ..licence.seats import Allotment
from ..policy.model import Policy
from ..rfc.debts import Debt, debts
from ..rfc.model import Rfc
from ..rfc.register import Overlap, cleared_fingerprint, entered, overlapping
from ..rollout.deployments import Deployments
from ..rollout.states import OPEN, DataState
from .retire import status

_T = TypeVar("_T")


@dataclass(frozen=True)
class SignedEvidence:
    """What people signed, as :class:`Facts` has it. ``attached``: all evidence, ``None`` when nobody looked for it, but for what was
    ``passed_over``."""

    evidence: dict[str, Judgement]
    approvals: dict[str, Judgement] | None
    builders: frozenset[str]
    waivers: dict[str, Judgement]
    opinions: dict[str, Judgement]
    attached: tuple[Attached, ...] | None = None
    passed_over: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


class Once(Generic[_T]):
    """What is opened or loaded when it is first asked for; each later question gets the same, or the same error."""

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._made: list[_T] = []
        self._error: Exception | None = None

    def __call__(self) -> _T:
        if self._error is not None:
            raise self._error
        if not self._made:
            try:
                self._made.append(self._make())
            except Exception as error:
                self._error = error
                raise
        return self._made[0]


class Sources:
    """What is asked for facts: one library, one CMDB, one policy, each opened once and when it is first needed, and one ``now``.

    ``dsl``: the address of the library; ``kept``: a folder that is the run's own, for what has not to be asked for again in that run.
    ``policy_path``: of the policy, ``None`` for the shipped one. ``errors`` has why a source did not
    answer, by its name. Close it, or use it in a ``with``.
    """

    def __init__(self, dsl: str, cmdb_url: str, policy_path: str | None, now: datetime, kept: Path | None = None) -> None:
        self.dsl, self.policy_path, self.now = dsl, policy_path, now
        self.errors: dict[str, str] = {}
        self._opened = contextlib.ExitStack()
        self.library: Once[Library] = Once(lambda: open_library(dsl).at_one_moment(kept))
        self.cmdb: Once[Cmdb] = Once(lambda: self._opened.enter_context(Cmdb.open(cmdb_url)))
        self.policy: Once[Policy] = Once(lambda: load_policy(policy_path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @contextlib.contextmanager
    def at_one_moment(self) -> Iterator[Once[Cmdb]]:
        """The CMDB as it is at one moment, that of the first question; it is over with the block, so that no writer waits for it."""
        with contextlib.ExitStack() as moment:
            yield Once(lambda: moment.enter_context(self.cmdb().at_one_moment()))

    def ask(self, name: str, source: Callable[[], _T]) -> _T | None:
        """What a source says; even a fault that nobody thought of must leave the others to be asked."""
        note(f"looking at the {name}")
        try:
            return source()
        except TidegateError as error:
            self.errors[name] = str(error)
        except RecursionError:
            self.errors[name] = "it is nested too deeply"
        except Exception as error:  # a JMESPath such as [::0] breaks only when it runs
            self.errors[name] = f"{type(error).__name__}: {error}"
        return None


def select(cmdb: Cmdb, rfc: Rfc) -> tuple[dict[str, Any], ...]:
    """The CIs that an RFC is about: those of its open deployment, if it still reads as that was cleared, or those its scope selects now.

    A deployment changes what a scope selects that asks for what is installed, and people decided on what it was.
    """
    deployment = Deployments(cmdb).latest(rfc.number)
    if deployment is None or deployment.state not in OPEN or cleared_fingerprint(cmdb, rfc.number) != rfc.fingerprint:
        return tuple(cmdb.query(rfc.scope))
    planned = {target.host for target in Deployments(cmdb).targets(deployment.id)}
    return tuple(ci for ci in cmdb.query() if ci["name"] in planned)


def lacking(cmdb: Cmdb, rfc: Rfc, cis: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    """Those of the selected CIs that a deployment is still about: all of them, until it is live on others and only some are late.

    While it is supporting, that are also CIs which an RFC that was edited and approved anew selects besides. When none is left to be
    changed, as the last was written off, it is about what it was about before.
    """
    late = Deployments(cmdb).late_scope(rfc.number)
    if late is None:
        return cis
    found = tuple(ci for ci in cis if ci["name"] in late.changing or (late.supporting and ci["name"] not in late.hosts))
    return found if any(ci["written_off"] is None for ci in found) else cis


def not_written_off(cis: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    """Those of the selected CIs that a deployment goes to; raises :class:`NotFoundError` when all are hosts that were written off."""
    there = tuple(ci for ci in cis if ci["written_off"] is None)
    if cis and not there:
        raise NotFoundError(f"every CI that the scope selects is written off, {cis[0]['name']} first; correct the scope")
    return there


def inspect_package(library: Library, rfc: Rfc) -> PackageFacts:
    """What the library says of an RFC's package, each of its bytes looked at; whether it was retired is not in the library."""
    home = library.repository(rfc.release)
    archived = home.resolve(rfc.release, rfc.version)
    damage = kind = ""
    documents: dict[str, int] = {}
    config: dict[str, Any] = {}
    if archived is not None:
        try:
            verify_package(home, archived)
            opened = load_package(home, archived)
            manifest = opened.manifest
            manifest.check()
            check_packaged_role(home, opened)
            kind = manifest.type
            config = manifest.to_config()
            titles = {part.annotations.get(TITLE, ""): part.size for part in opened.documentation}
            own = f"{manifest.scenario}/" if manifest.scenario else "/"
            documents = {title: size for title, size in titles.items() if not title.startswith(own)}  # tests document nothing
            damage = opened.misnamed(rfc.release, rfc.version)
        except (IntegrityError, DocumentError) as error:
            damage = str(error)
    return PackageFacts(archived, damage, kind, documents, None, config)


def manifest_of(library: Library, rfc: Rfc) -> PackageFacts:
    """What the package that is being deployed says of itself, without a look at all of it."""
    manifest = load_package_manifest(library.repository(rfc.release), rfc.digest)
    return PackageFacts(rfc.digest, "", manifest.type, retired=None, manifest=manifest.to_config())


def retirement_of(cmdb: Cmdb, rfc: Rfc) -> str:
    """What became of the RFC's release since it was archived, empty when nothing did."""
    found = status(cmdb, rfc.release, rfc.version)
    return found.sentence(rfc.release, rfc.version) if found else ""


def live_versions(cis: Iterable[Mapping[str, Any]], release: str) -> dict[str, str]:
    """A CI for each version of the release that they have."""
    found = ((ci["installations"].get(release), str(ci["name"])) for ci in cis)
    return {str(installation["version"]): name for installation, name in found if installation}


def replaced_digests(rfc: Rfc, cis: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The digests of what an RFC's release takes the place of, ``""`` for nothing."""
    found = (ci["installations"].get(rfc.release, {}).get("digest", "") for ci in cis)
    return frozenset(str(digest) for digest in found if digest != rfc.digest)


def debts_of(cmdb: Cmdb, rfc: Rfc) -> tuple[Debt, ...]:
    """What earlier emergency changes of the release owe, settled or not."""
    return tuple(debts(cmdb, release=rfc.release))


def product_of(facts: Facts) -> str | None:
    """The licensed product whose seats the release uses, if any."""
    return facts.package.manifest.get("licensed_product") if facts.package else None


def seats_for(cmdb: Cmdb, rfc: Rfc, facts: Facts) -> Allotment | None:
    """How the seats that the deployment would take stand; ``None`` when it takes none, or it is not known where it goes."""
    product = product_of(facts)
    if product is None or facts.scope is None:
        return None
    with cmdb.read() as connection:
        return would_reserve(connection, product, rfc.release, facts.scope, (max(facts.now, rfc.start_date), rfc.end_date))


def overlaps_of(cmdb: Cmdb, rfc: Rfc, cis: Iterable[Mapping[str, Any]]) -> tuple[Overlap, ...]:
    """Other planned changes that meet this one."""
    return tuple(overlapping(cmdb, rfc, {str(ci["name"]) for ci in cis}))


def entered_with(cmdb: Cmdb, rfc: Rfc) -> tuple[str, ...]:
    """The CIs that the RFC was entered in the register with, empty when it was not; of an open deployment the plan has the last word."""
    return () if Deployments(cmdb).undecided(rfc.number) is not None else entered(cmdb, rfc) or ()


def calendars_of(files: CalendarFiles, library: Once[Library], cmdb: Once[Cmdb], rfc: Rfc, now: datetime) -> Calendars:
    """What the policy's calendars have until the RFC may be done, held against the sites and releases that there are."""
    if not (files.windows or files.freezes):
        return Calendars()
    from ..calendar.ics import horizon, read_calendars  # noqa: PLC0415 - slow to import, and only for who has calendars

    found = read_calendars(files, *horizon(now, rfc.end_date))
    if not (found.windows or found.freezes):
        return found
    sites, releases = cmdb().sites(), {rfc.release, *cmdb().releases()}
    named = {name for event in (*(found.windows or ()), *(found.freezes or ())) for name in event.releases}
    # A registry is asked only when there is a need.
    return found.matched(sites, releases | library().names() if named - releases else releases)


def judge_all(
    library: Library,
    policy: Policy,
    rfc: Rfc,
    digest: str,
    cis: Iterable[Mapping[str, Any]] | None,
    seen: Mapping[str, Piece],
    now: datetime,
) -> SignedEvidence:
    """Judge everything that people signed about a package, for an RFC and the CIs that its scope selects.

    ``seen``: what the CMDB remembers of the evidence; what was decided for other RFCs is not read.
    """
    if not policy.people:
        return SignedEvidence({}, {}, frozenset(), {}, {})
    evidence = collect(library.repository(rfc.release), digest, Wanted(rfc.number, seen))
    matter = None if cis is None else matter_of(rfc, cis)
    asked = policy.signed_by(rfc.type)
    inputs, ignored = sort_out(evidence, digest)
    return SignedEvidence(
        {kind: judge(evidence, policy, kind, digest, rfc.release, rfc.version, now) for kind in policy.trust},
        {role: judge_approvals(evidence, policy, matter, role, asked.get(role, 1), now) for role in policy.deciders} if matter else None,
        signers(evidence, policy, "package"),
        {control: judge_waiver(evidence, policy, matter, control, now) for control in policy.waivers} if matter else {},
        judge_opinions(evidence, policy, digest, rfc.release, rfc.version, now),
        evidence.attached,
        evidence.passed_over,
        inputs,
        ignored,
    )


def seen_of(cmdb: Cmdb, rfc: Rfc, policy: Policy | None) -> tuple[Snapshot, ...]:
    """What was seen in the library of an RFC's release before, nothing or one."""
    found = snapshot(cmdb, rfc.release, rfc.version, policy)
    return () if found is None else (found,)


def data_host_of(cmdb: Cmdb, rfc: Rfc, manifest: Mapping[str, Any], cis: Sequence[Mapping[str, Any]]) -> DataHost:
    """Where a release migrates data: by its own query over the ``cis`` of the plan, or where an open deployment has it.

    Raises :class:`TidegateError` when the query can't be evaluated.
    """
    begun = Deployments(cmdb).latest(rfc.number)
    if begun is not None and begun.state in OPEN and begun.data is not DataState.NONE:
        gone = begun.data is DataState.NOT_MIGRATED and begun.rollout.data_host not in {ci["name"] for ci in cis}
        planned = f"data are to be migrated on {begun.rollout.data_host} by the plan, which does not get the release any more"
        return DataHost(begun.rollout.data_host, planned if gone else "")
    expression = manifest["ansible"]["migrate_on"]
    try:
        found = search(expression, [dict(ci) for ci in cis])
    except QueryError as error:
        raise TidegateError(f"migrate_on, {expression!r:.200}, can't be used: {error}") from error
    listed = found if isinstance(found, list) else [] if found is None else [found]
    names = list(dict.fromkeys(str(one.get("name") if isinstance(one, Mapping) else one) for one in listed))
    what = f"migrate_on, {expression!r:.200}, has to give one CI of the plan and gives"
    if len(names) != 1:
        return DataHost("", f"{what} {', '.join(sorted(names)[:5]) if names else 'none'}{', ...' if len(names) > 5 else ''}")
    inside = names[0] in {ci["name"] for ci in cis}
    return DataHost(names[0], "" if inside else f"{what} {names[0]:.200}, which is not in it")


def matter_of(rfc: Rfc, cis: Iterable[Mapping[str, Any]]) -> Matter:
    """What people decide on when they decide on an RFC whose scope selects ``cis``."""
    return Matter(rfc.number, rfc.fingerprint, rfc.release, rfc.version, rfc.digest, tuple(sorted(str(ci["name"]) for ci in cis)))
