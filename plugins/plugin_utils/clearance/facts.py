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
    from ..dsl.seen import Sight, Snapshot
    from ..evidence.trust import Judgement
    from ..licence.seats import Allotment
    from ..rfc.debts import Debt
    from ..rfc.register import Overlap

_T = TypeVar("_T")


@dataclass(frozen=True)
class PackageFacts:
    """What the DSL says. ``archived``: the digest under the RFC's name and version, ``None`` when there is none.

    ``damage``: why the package is not intact, empty when every blob was read, is what its digest says, and belongs to this release.
    ``type`` is the release's; ``documents`` are the sizes of its documentation, in bytes, by name.
    ``manifest``: the whole of what the release says of itself, as its package has it.
    ``retired``: what became of the release since, empty when nothing did, ``None`` when that could not be found out, for ``unread``.
    """

    archived: str | None
    damage: str
    type: str = ""
    documents: Mapping[str, int] = field(default_factory=dict)
    retired: str | None = ""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    unread: str = ""


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
    "own": ("its conditions could not be evaluated", "correct them in the policy"),
    "calendars": ("the calendars could not be read", "correct them, or calendars in the policy"),
    "channels": ("the channels could not be looked at", "correct communication in the policy"),
    "overlaps": ("what else is planned could not be read", "make the CMDB readable"),
    "compatibility": ("what it has to get on with could not be found out", "make the CMDB and the DSL readable"),
    "seats": ("the seats of its product could not be counted", "make the CMDB readable"),
    "debts": ("what earlier changes owe could not be read", "make the CMDB readable"),
    "evidence": ("the evidence could not be read", "make the DSL and the CMDB readable"),
    "seen": ("what was seen in the library before could not be read", "make the CMDB readable"),
}


@dataclass(frozen=True)
class Facts:
    """Everything that controls look at. ``None`` stands for what could not be found out; ``errors`` has the reason by the name of the
    source: ``rfc``, ``policy``, ``package``, ``scope``, ``own``, ``debts``, ``calendars``, ``channels``, ``overlaps``, ``seats``,
    ``compatibility``, ``evidence`` or ``seen``.

    ``policy`` is the policy with the rules that apply to this change. ``scope`` names the CIs that the RFC's scope selects now.
    ``evidence``: the judgement of each kind of evidence that the policy's ``trust`` asks for. ``signed_approvals``: that of each role whose
    signed approval the policy asks for, for this RFC or another. ``builders``: the people of the policy who signed the package.
    ``waivers``: the judgement of each control that the policy lets people waive. ``live``: each version of the release that a CI of the
    scope has, with the name of such a CI. ``own``: what the policy's own controls come to, by name. ``debts``: what earlier emergency
    changes of the release owe, settled or not. ``calendars``: the windows and freezes that matter. ``waves``: the sites of each wave that
    is still to be done, in order. ``channels``: why each channel of the policy can't be used, empty when it can.
    ``overlaps``: other changes that are planned for the same time and meet this one. ``entered``: the CIs that the RFC was entered in
    the register with, empty when it was not. ``opinions``: the judgement of the opinions of each role that the policy asks. ``former``:
    the digests of what the CIs of the scope have of this release now, ``""`` where that is nothing. ``seats``: those of its licensed
    product that it would reserve. ``compatibility``: how it gets on with what is around it. ``sight``: what the library has
    of the release now; ``seen``: what it had before, nothing or one. ``inputs``: the sha256 of each piece of evidence that was judged.
    ``ignored``: a sentence for each other thing beside the package, which counts for nothing. ``no_hosts``: those CIs of the scope that
    can't get a release, each with its class.
    """

    now: datetime
    rfc: Rfc | None
    policy: Policy | None
    package: PackageFacts | None = None
    scope: tuple[str, ...] | None = None
    evidence: Mapping[str, Judgement] | None = None
    signed_approvals: Mapping[str, Judgement] | None = None
    builders: frozenset[str] | None = None
    waivers: Mapping[str, Judgement] = field(default_factory=dict)
    live: Mapping[str, str] | None = None
    own: Mapping[str, Finding] = field(default_factory=dict)
    debts: tuple[Debt, ...] | None = None
    seats: Allotment | None = None
    compatibility: Compatibility | None = None
    calendars: Calendars | None = None
    waves: tuple[frozenset[str | None], ...] | None = None
    channels: Mapping[str, str] | None = None
    overlaps: tuple[Overlap, ...] | None = None
    entered: tuple[str, ...] | None = None
    opinions: Mapping[str, Judgement] | None = None
    former: frozenset[str] | None = None
    sight: Sight | None = None
    seen: tuple[Snapshot, ...] | None = None
    no_hosts: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    errors: Mapping[str, str] = field(default_factory=dict)

    def known(self, value: _T | None, source: str) -> _T:
        """``value``, unless it could not be found out: then :class:`NotKnown` is raised, which makes the control inconclusive."""
        if value is not None:
            return value
        what, remedy = _SOURCES[source]
        # Without a policy much is not even asked.
        error = self.errors.get(source) or (self.errors.get("policy") if self.policy is None else None)
        raise NotKnown(f"{what}: {error}" if error else what, remedy, error or f"{what}; {remedy}")
