# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that the controls look at. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from ..policy.model import Policy
from ..rfc.model import Rfc
from .findings import Finding

if TYPE_CHECKING:
    from ..calendar.model import Calendars
    from ..compatibility.judge import Compatibility
    from ..dhs.spares import SpareAllotment
    from ..dsl.seen import Sight, Snapshot
    from ..evidence.trust import Judgement
    from ..licence.seats import Allotment
    from ..rfc.debts import Debt
    from ..rfc.register import Overlap
    from ..rollout.planner import Plan

_T = TypeVar("_T")


@dataclass(frozen=True)
class DataHost:
    """On which CI of the plan a release migrates data; ``problem``: why that is none, empty when it is one."""

    name: str
    problem: str = ""


@dataclass(frozen=True)
class PackageFacts:
    """What the DSL, and the CMDB about it, say of the package that the RFC names."""

    archived: str | None
    """The digest of the package with the RFC's name and version; ``None`` when the DSL has none."""
    damage: str
    """Why the package is not intact; empty when every blob was read, has its digest, and belongs to this release."""
    type: str = ""
    """The release's type, such as ``minor``; empty without a package."""
    documents: Mapping[str, int] = field(default_factory=dict)
    """The size of each document that comes with the release, in bytes, by its name."""
    retired: str | None = ""
    """A sentence on what became of the release since it was archived, empty when nothing did; ``None`` when that could not be found out."""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """The whole manifest, as the package has it."""
    unread: str = ""
    """Why ``retired`` could not be found out."""


class NotKnown(Exception):
    """A control can't be decided, for a source could not be read; carries reason and remedy, and ``cause`` as :class:`Finding` has it."""

    def __init__(self, reason: str, remedy: str, cause: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.cause = cause


# What to say when a source could not be read, and what to do.
_SOURCES = {
    "policy": ("the policy could not be read", "correct the policy"),
    "package": ("the DSL could not be read", "make it readable"),
    "scope": ("the CIs could not be selected", "correct the scope, or make the CMDB readable"),
    "plan": ("the hosts could not be put in waves", "correct rollout in the policy, or choose other CIs"),
    "own": ("its conditions could not be evaluated", "correct them in the policy"),
    "calendars": ("the calendars could not be read", "correct them, or calendars in the policy"),
    "channels": ("the channels could not be looked at", "correct communication in the policy"),
    "overlaps": ("what else is planned could not be read", "make the CMDB readable"),
    "compatibility": ("what it has to get on with could not be found out", "make the CMDB and the DSL readable"),
    "data_host": ("the CI to migrate data on could not be selected", "correct migrate_on, and archive the release anew"),
    "seats": ("the seats of its product could not be counted", "make the CMDB readable"),
    "spares": ("the spares that it would reserve could not be counted", "make the CMDB readable"),
    "baseline": ("what is archived of what is there could not be found out", "make the CMDB and the DSL readable"),
    "debts": ("what earlier changes owe could not be read", "make the CMDB readable"),
    "evidence": ("the evidence could not be read", "make the DSL and the CMDB readable"),
    "seen": ("what was seen in the library before could not be read", "make the CMDB readable"),
}


@dataclass(frozen=True)
class Facts:
    """Everything that controls look at, each fact by itself. ``None`` means that it could not be found out; see :meth:`known`."""

    now: datetime
    """The moment of the clearance, aware of its time zone."""
    rfc: Rfc | None
    """The RFC; ``None`` when it can't be read."""
    policy: Policy | None
    """The policy, narrowed to this change by its rules; ``None`` when it can't be read."""
    package: PackageFacts | None = None
    """What the DSL says of the package."""
    scope: tuple[str, ...] | None = None
    """The names of the CIs that the RFC's scope selects now, without hosts that were written off."""
    evidence: Mapping[str, Judgement] | None = None
    """What the evidence of each kind comes to that the policy's ``trust`` asks for, by kind."""
    signed_approvals: Mapping[str, Judgement] | None = None
    """What the signed approvals come to, by role, of every role whose approval the policy asks for, for this RFC or another."""
    builders: frozenset[str] | None = None
    """The people of the policy who signed the package."""
    waivers: Mapping[str, Judgement] = field(default_factory=dict)
    """What the waivers come to, by control, of every control that the policy lets people waive."""
    live: Mapping[str, str] | None = None
    """Each version of the release that a CI of the scope has, with the name of one such CI."""
    own: Mapping[str, Finding] = field(default_factory=dict)
    """What the policy's own controls come to, by name."""
    debts: tuple[Debt, ...] | None = None
    """What earlier changes of the release owe, settled or not."""
    bench: bool = False
    """Whether the scope has nothing but spares on a bench."""
    seats: Allotment | None = None
    """How the seats stand that the release would reserve of its licensed product; also ``None`` when it has no such product."""
    spares: SpareAllotment | None = None
    """The spares that a release of firmware would reserve; also ``None`` for software."""
    unarchived: tuple[str, ...] | None = None
    """Sentences on what is there and could not be brought back for want of a package; also ``None`` for a release that is its tree."""
    compatibility: Compatibility | None = None
    """How the release gets on with what is on the CIs and around them."""
    data_host: DataHost | None = None
    """Where the release migrates data; also ``None`` when it has none to migrate."""
    calendars: Calendars | None = None
    """The windows and freezes from now to the end of the RFC's window."""
    plan: Plan | None = None
    """The plan to be made, and why it is that one; also ``None`` when one is under way."""
    waves: tuple[frozenset[str | None], ...] | None = None
    """The sites of each wave that is still to be done, in order; a ``None`` among the sites is a CI without one."""
    instant: datetime | None = None
    """When the hosts of the last of them switch, for a plan that is to be made; ``None`` for as soon as they are armed."""
    channels: Mapping[str, str] | None = None
    """Why each of the policy's channels can't be used, by its name; empty when all can."""
    overlaps: tuple[Overlap, ...] | None = None
    """Other changes that are planned for the same time and meet this one."""
    entered: tuple[str, ...] | None = None
    """The CIs that the RFC was entered in the register with; empty when it was not entered."""
    opinions: Mapping[str, Judgement] | None = None
    """What the opinions come to, by role, of each role that the policy asks."""
    replaced: frozenset[str] | None = None
    """The digests of what the CIs of the scope have of this release now, an empty text where that is nothing."""
    sight: Sight | None = None
    """What the library has of the release now."""
    seen: tuple[Snapshot, ...] | None = None
    """What the library had of the release before: nothing or one snapshot."""
    no_hosts: tuple[str, ...] = ()
    """Those CIs of the scope that can't get a release, each with its class."""
    inputs: tuple[str, ...] = ()
    """The sha256 of each piece of evidence that was judged, in hexadecimal."""
    ignored: tuple[str, ...] = ()
    """A sentence for each other thing beside the package, which counts for nothing."""
    errors: Mapping[str, str] = field(default_factory=dict)
    """Why a source could not be read, by its name: ``rfc``, ``retired`` or a key of ``_SOURCES``."""

    def known(self, value: _T | None, source: str) -> _T:
        """``value``, unless it could not be found out: then :class:`NotKnown` is raised, which makes the control inconclusive."""
        if value is not None:
            return value
        what, remedy = _SOURCES[source]
        # Without a policy much is not even asked.
        error = self.errors.get(source) or (self.errors.get("policy") if self.policy is None else None)
        raise NotKnown(f"{what}: {error}" if error else what, remedy, error or f"{what}; {remedy}")
