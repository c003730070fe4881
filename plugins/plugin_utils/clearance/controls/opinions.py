# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control of what users think of a package. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...policy.model import Waivable
from ...rfc.model import Rfc
from ..control_spec import ControlSpec
from ..facts import Facts
from ..findings import NO_PACKAGE, REASONS, Finding, failed, not_applicable, passed, unknown

if TYPE_CHECKING:
    from ...evidence.trust import Counted


def opinions(facts: Facts, rfc: Rfc) -> Finding:
    """Whether enough users in each role that the policy names like the release well enough, and none of them blocks it."""
    policy = facts.known(facts.policy, "policy")
    asked, quorums = policy.opinions, policy.opinion_quorums
    if not quorums:
        return not_applicable("the policy asks for no opinions")
    if facts.package is not None and facts.package.archived is None:
        return unknown(f"there is no archived {rfc.release} {rfc.version} to have an opinion of", "archive the release", NO_PACKAGE)
    judged = facts.known(facts.opinions, "evidence")
    last = {role: latest(facts.known(judged.get(role), "evidence").counted) for role in quorums}
    blocking = sorted({f"{one.person} ({role})" for role, given in last.items() for one in given if one.statement.predicate["blocking"]})
    if blocking:
        return failed(f"blocked by {', '.join(blocking)}", "settle what they object to, and have them sign another opinion")
    unread = [sentence for role in quorums for sentence in judged[role].unread]
    if unread:
        listed = "\n".join(dict.fromkeys(unread[:REASONS]))
        return unknown(f"evidence that can't be read may be a blocking opinion\n{listed}", "restore it from a copy of the DSL")
    lacking, given = [], []
    for role, wanted in asked.items():
        scores = [int(one.statement.predicate["score"]) for one in last[role]]
        by = f" ({', '.join(sorted(one.person for one in last[role]))})" if scores else ""
        mean = sum(scores) / len(scores) if scores else 0
        said = f"{len(scores)} of {wanted.quorum} opinions by the {role}{by}" + (f", {mean:.2f} on average" if scores else "")
        given.append(said)
        if len(scores) < wanted.quorum:
            lacking.append("\n".join((said, *judged[role].refused[:REASONS])))
        elif mean < wanted.minimum:
            lacking.append(f"{said}, less than {wanted.minimum:g}")
    if lacking:
        return failed("\n".join(lacking), "have it tried by more of them, or made better, with tidegate.release.opine")
    return passed("; ".join(given) or "the policy asks for no opinions of such a change, and nobody blocks it")


def latest(counted: Iterable[Counted]) -> list[Counted]:
    """The last opinion of each person; of two at the same moment the blocking one, and then the lower."""
    said = sorted(counted, key=lambda one: (one.signed_at, one.statement.predicate["blocking"], -one.statement.predicate["score"]))
    return list({one.person: one for one in said}.values())


CONTROLS = (ControlSpec("opinions", opinions, 160, asked_at_gates=True, waivable=Waivable.ALWAYS),)
