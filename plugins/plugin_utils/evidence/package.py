# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a package may be used, by the signatures that the policy asks for: what stage, gate and audit look at again after the clearance.

Light to import, since each fork that stages a host loads this module: what does the cryptography is loaded when a signature has to be
looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ..activity import noted
from ..dsl.repository import Library, Repository
from ..errors import TidegateError
from ..policy.model import Policy

_REASONS = 5  # why signatures don't count, that a sentence lists


@dataclass(frozen=True)
class PackageName:
    """Which package, and of what it has to be."""

    name: str
    version: str
    digest: str


@dataclass(frozen=True)
class PackageStanding:
    """How a package stands. ``distrust``: why it may not be used for something new, empty when it may. ``by_revoked``: what a revoked key
    had signed. ``danger``: ``distrust``, when that is more than a policy that asks for more than it did when the package was new: a forged
    signature, a revoked key, or what can't be read.
    """

    distrust: str
    by_revoked: tuple[str, ...] = ()
    danger: str = ""


@dataclass(frozen=True)
class Judged:
    """The packages of a library. ``untrusted``: by digest the release and why nobody should have it. ``unmet``: a sentence for each that is
    short of what the policy asks of new ones. ``by_revoked``: what keys had signed before they were revoked.
    """

    untrusted: dict[str, tuple[str, str]] = field(default_factory=dict)
    unmet: list[str] = field(default_factory=list)
    by_revoked: list[str] = field(default_factory=list)


def judge_package(home: Repository, policy: Policy, release: PackageName, now: datetime) -> PackageStanding:
    """Judge the signatures under a package; one that can't be read is not trusted."""
    if "package" not in policy.trust:
        return PackageStanding("")
    from .store import Wanted, collect  # noqa: PLC0415 - see above
    from .trust import judge  # noqa: PLC0415 - see above

    what = f"{release.name} {release.version}"
    try:
        judgement = judge(collect(home, release.digest, Wanted()), policy, "package", release.digest, release.name, release.version, now)
    except TidegateError as error:
        unread = f"the signatures under {what} can't be read: {error}"
        return PackageStanding(unread, danger=unread)
    if judgement.trusted:
        return PackageStanding("", tuple(f"{what}: {sentence}" for sentence in judgement.by_revoked))
    reasons = "".join(f"; {sentence}" for sentence in judgement.refused[:_REASONS])
    why = f"{what} is not trusted: {judgement.sentence()}{reasons}"
    return PackageStanding(why, danger=why if judgement.alarming or judgement.unread else "")


def judge_library(library: Library, policy: Policy, now: datetime, also: Collection[str] = ()) -> Judged:
    """Judge every package of a library, and of the releases ``also`` if it has them without listing them.

    What was archived before the policy asked for signatures is not untrusted for that.
    """
    judged = Judged()
    releases = sorted(library.releases(also).items(), key=lambda item: item[0])
    for (name, version), descriptor in noted("judging the signatures of releases", releases, len(releases)):
        stands = judge_package(library.repository(name), policy, PackageName(name, version, descriptor.digest), now)
        judged.by_revoked.extend(stands.by_revoked)
        if stands.danger:
            judged.untrusted[descriptor.digest] = (name, stands.danger)
        elif stands.distrust:
            judged.unmet.append(stands.distrust)
    return judged


def unmet_sentence(unmet: Sequence[str]) -> str:
    """What to say of packages that are short of what the policy asks of new ones."""
    return (
        f"{len(unmet)} packages are short of the signatures that the policy asks of what is new, the first: {unmet[0]}; they may stay, go "
        "back and be copied, but no RFC for them is cleared until they are signed"
    )
