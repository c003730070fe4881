# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controls of the verification on a lab, and of the back-out that was rehearsed there. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ...evidence.statement import VERIFICATION
from ...policy.model import Verification, Waivable
from ...rfc.model import Rfc
from ..control_spec import ControlSpec
from ..facts import Facts
from ..findings import NO_PACKAGE, REASONS, Finding, failed, not_applicable, passed, unknown

if TYPE_CHECKING:
    from ...evidence.statement import Statement
    from ...evidence.trust import Judgement

_REMEDY = "have it verified with tidegate.release.verify by somebody who has the role"
_LISTED = 5  # tests, or differences, that a finding names


def verification(facts: Facts, rfc: Rfc) -> Finding:
    """Whether as many people as the policy asks signed that the package passed its tests, on a lab that was enough like live."""
    policy = facts.known(facts.policy, "policy")
    if "test-result" not in policy.trust:
        return not_applicable("the policy asks for no verification")
    judged = _judged(facts, rfc)
    if isinstance(judged, Finding):
        return judged
    wanted = policy.verification or Verification()
    last = _last(judged)
    bad = sorted(name for name, said in last.items() if said.predicate.get("result") == "FAILED")
    if bad:
        return failed(
            "\n".join(f"{name} signed that it failed{_why(last[name].predicate)}" for name in bad),
            "mend it, and have a new version verified",
        )
    finding = _counted(judged, last, lambda said: _verification_fault(said.predicate, wanted), "verified it")
    differences = sorted({str(one) for said in last.values() for one in _parity(said.predicate).get("differences", ())})
    listed = [f"different from live: {one}" for one in differences[:_LISTED]]
    more = [f"and {len(differences) - _LISTED} differences more"] if len(differences) > _LISTED else []
    return Finding(finding.result, "\n".join((finding.reason, *listed, *more)), finding.remedy)


def rehearsal(facts: Facts, rfc: Rfc) -> Finding:
    """Whether the back-out of this very package, and each step of its role, was rehearsed, to each package of the release that is live, or
    the way forward of one that says reverse: none.
    """
    policy = facts.known(facts.policy, "policy")
    if policy.verification is None or not policy.verification.rehearsal or "test-result" not in policy.trust:
        return not_applicable("the policy asks for no rehearsal of the back-out")
    judged = _judged(facts, rfc)
    if isinstance(judged, Finding):
        return judged
    replaced = facts.known(facts.replaced, "scope")
    own = facts.known(facts.package, "package").manifest.get("ansible") or {}
    what = "rehearsed all of it but a way back, for it has none (reverse: none)" if "reverse" in own else "rehearsed its back-out"
    return _counted(judged, _last(judged), lambda said: _rehearsal_fault(said.predicate, said.digest, replaced, own), what)


def _judged(facts: Facts, rfc: Rfc) -> Judgement | Finding:
    if facts.package is not None and facts.package.archived is None:
        return unknown(f"there is no archived {rfc.release} {rfc.version} to verify", "archive the release", NO_PACKAGE)
    return facts.known(facts.known(facts.evidence, "evidence").get("test-result"), "evidence")


def _last(judgement: Judgement) -> dict[str, Statement]:
    """The last statement of each person who counts; of two in one second, that it failed."""
    statements = sorted(judgement.counted, key=lambda one: one.order(one.statement.predicate.get("result") == "FAILED"))
    return {one.person: one.statement for one in statements}


def _counted(judgement: Judgement, last: Mapping[str, Statement], fault: Callable[[Statement], str], what: str) -> Finding:
    """Whether enough people signed a result that is without fault."""
    faults = {name: fault(said) for name, said in sorted(last.items())}
    good = [name for name, why in faults.items() if not why]
    threshold = judgement.wanted.threshold if judgement.wanted else 1
    by = f" ({', '.join(good)})" if good else ""
    said = f"{len(good)} of {threshold} {what}{by}"
    if len(good) >= threshold:
        return passed(said)
    notes = [f"{name}'s test result does not count: {why}" for name, why in faults.items() if why]
    return failed("\n".join((said, *notes[:REASONS], *judgement.refused[:REASONS])), _REMEDY)


def _verification_fault(said: Mapping[str, Any], wanted: Verification) -> str:
    if said.get("result") != "PASSED":
        skipped = _names(said.get("warnedTests"))
        more = f": skipped {', '.join(skipped[:_LISTED])}" if skipped else ""
        return f"its result is {said.get('result')!a:.40}, not PASSED{more}"
    if not _names(said.get("passedTests")):
        return "it names no test that passed, and what nobody tested is not verified"
    if _names(said.get("failedTests")):
        return f"it names tests that failed: {', '.join(_names(said.get('failedTests'))[:_LISTED])}"
    if wanted.parity is not None:
        score = _whole(_parity(said).get("score"))
        if score is None or not 0 <= score <= 100:
            return "it does not say how much like live the lab was"
        if score < wanted.parity:
            return f"the lab was like live by {score} of 100, less than {wanted.parity}"
    return ""


def _rehearsal_fault(said: Mapping[str, Any], digest: str, replaced: frozenset[str], own: Mapping[str, Any]) -> str:
    """Why it does not count. ``own``: what the package, and nobody else, says of the release's own role; empty when it has none.

    To go forward is enough where the package says that nothing brings its data back: whether that may be is for :func:`.people.no_return`.
    """
    rehearsed = _more(said).get("rehearsal")
    if not isinstance(rehearsed, Mapping):
        return "no back-out was rehearsed"
    if rehearsed.get("digest") != digest:
        return f"the back-out was rehearsed with {rehearsed.get('digest')!a:.80}, not with {digest}"
    no_return = "reverse" in own and rehearsed.get("reverse") == "none"
    if rehearsed.get("deployed") is not True or not (rehearsed.get("backedOut") is True or no_return):
        return "the release was not deployed and backed out again"
    if (_whole(rehearsed.get("tests")) or 0) < 1:
        return f"nothing was tested after the {'deployment' if no_return else 'back-out'}"
    role = rehearsed.get("role")
    did = role if isinstance(role, Mapping) else {}
    if own and (step := missing_step(own["steps"], _names(did.get("forward")), _names(did.get("back")), no_return=no_return)):
        return f"{step} of the release's role was not rehearsed"
    others = sorted(replaced - set(_names(rehearsed.get("from"))))
    way = "the way forward was not rehearsed from" if no_return else "the back-out was not rehearsed to"
    return f"{way} {others[0] or 'having no release'}, which is live now" if others else ""


def missing_step(steps: Iterable[str], forward: Collection[str], back: Collection[str], *, no_return: bool) -> str:
    """One of a role's ``steps`` that was not seen to be done on the way ``forward`` or ``back``, or what brings hosts back; empty when all
    was. With ``no_return`` nothing went back."""
    missing = [step for step in steps if step != "reverse" and step not in forward]
    if not no_return:
        missing += [] if {"back_out", "activate"} & {*back} else ["back_out"]
        missing += [step for step in steps if step == "reverse" and step not in back]
    return next(iter(missing), "")


def _more(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a test result says that its type has no fields for; older ones say it among the others."""
    more = said.get(VERIFICATION)
    return more if isinstance(more, Mapping) else said


def _parity(said: Mapping[str, Any]) -> Mapping[str, Any]:
    parity = _more(said).get("parity")
    found = parity if isinstance(parity, Mapping) else {}
    return found if isinstance(found.get("differences", []), list) else {}


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _names(value: object) -> list[str]:
    return [ascii(one)[1:-1][:200] for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _why(said: Mapping[str, Any]) -> str:
    reasons = _names(_more(said).get("reasons")) or _names(said.get("failedTests"))
    return f": {reasons[0]}{f' (and {len(reasons) - 1} more)' if reasons[1:] else ''}" if reasons else ""


CONTROLS = (
    ControlSpec("verification", verification, 140, asked_at_gates=True, waivable=Waivable.ALWAYS),
    ControlSpec("rehearsal", rehearsal, 150, asked_at_gates=True, waivable=Waivable.IN_EMERGENCIES),
)
