# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each control passes, fails, and does not pass on what it was not told; only a clearance without a doubt is granted."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.calendar.model import Calendars, Event
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance import evaluate as controls
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.clearance import Clearance, evaluate
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.control_spec import ControlSpec
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.controls.window import closes
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.evaluate import CONTROLS
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.facts import DataHost, Facts, PackageFacts
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.findings import Control, Finding, Result
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.compatibility.judge import Compatibility
from ansible_collections.tidegate.release.plugins.plugin_utils.dhs.spares import SpareAllotment
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.seen import Piece, Sight, Snapshot
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import KINDS, Statement
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.trust import Counted, Judgement
from ansible_collections.tidegate.release.plugins.plugin_utils.licence.seats import Allotment
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.communication import Channel, Communication
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.model import (
    OwnControl,
    Person,
    Policy,
    PublicKey,
    Quorum,
    Responsibility,
    Trust,
    Verification,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.debts import Debt
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.model import Approval, Rfc
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.register import Overlap, Planned
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from documents import loaded_rfc
from hypothesis import given
from hypothesis import strategies as st

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
START = datetime(2027, 3, 1, 22, tzinfo=UTC)
END = START + timedelta(hours=4)
TICK = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
OTHER_CHANGE = Planned("CHG0030002", -2, "shop", "3.1", "Shop", START, END, START, ("web1",), ("ams",))
NIGHT = Event("night", START, END, frozenset({"ams"}))
LATER_NIGHT = Event("later night", START + timedelta(hours=1), END, frozenset({"ams"}))


def approval(approver: str = "carl", state: str = "approved", decided_at: datetime | None = START - timedelta(days=1)) -> Approval:
    return Approval(approver, "change-manager", state, decided_at)


RFC = loaded_rfc(
    number="CHG0030001",
    requested_by="Rita Reed",
    start_date=START,
    end_date=END,
    digest=DIGEST,
    approvals=(approval(),),
    assigned_to="RITA",
    stakeholders=("desk",),
    communication_plan="Mail on the day before.",
)
TRUST = Trust("release-manager")
SIGNED_AT = START - timedelta(days=2)


def said(kind: str, *words: tuple[str, dict[str, Any]], threshold: int = 1) -> Judgement:
    """What people signed in this order, each with the predicate given."""
    counted = tuple(
        Counted(name, PublicKey(name, ""), Statement("hello", DIGEST, KINDS[kind], predicate), SIGNED_AT + timedelta(minutes=minute))
        for minute, (name, predicate) in enumerate(words)
    )
    return Judgement(kind, Trust("release-manager", threshold), counted, ())


def said_at_once(kind: str, *words: tuple[str, dict[str, Any]]) -> Judgement:
    """What people signed in one second."""
    judgement = said(kind, *words)
    return replace(judgement, counted=tuple(replace(one, signed_at=SIGNED_AT) for one in judgement.counted))


def debt(due: datetime = END + TICK, settled: datetime | None = None) -> Debt:
    return Debt("CHG0029999", "review", "hello", "0.9", DIGEST, START - timedelta(days=3), due, settled, "carl", "in the minutes")


SIGNED = {"signatures", "malware", "evidence", "verification", "rehearsal", "opinions"}  # controls of what people signed
REHEARSAL = {
    "digest": DIGEST,
    "deployed": True,
    "backedOut": True,
    "tests": 1,
    "from": [""],
    "role": {"forward": ["migrate"], "back": ["back_out"]},
}
EVIDENCE = {
    "package": said("package", ("rita", {})),
    "scan": said("scan", ("rita", {"result": "clean"})),
    "sbom": said("sbom", ("rita", {})),
    "licence": said("licence", ("rita", {"declared": "MIT"})),
    "test-result": said("test-result", ("rita", {"result": "PASSED", "passedTests": ["one"], "rehearsal": REHEARSAL})),
}
OPINIONS = {"tester": said("opinion", ("tess", {"score": 4, "blocking": False}))}


def passing(**changes: Any) -> Judgement:
    return said("test-result", ("rita", {"result": "PASSED", "passedTests": ["one"], "rehearsal": REHEARSAL, **changes}))


ABSENT = PackageFacts(None, "")
TELLING = Communication(True, {name: Channel(environment=name) for name in ("chat", "desk", "spare")}, {"hold": ("chat",)})
PACKAGE = PackageFacts(
    DIGEST,
    "",
    "minor",
    {"README.md": 9, "docs/operations.md": 1, "empty-operations": 0},
    manifest={"licensed_product": "acme", "firmware": [], "ansible": {"steps": ["migrate"], "migrate_on": "[0]", "reverse": "none"}},
)
REVERSIBLE = replace(PACKAGE, manifest={"ansible": {"steps": ["migrate", "reverse"], "migrate_on": "[0]"}})
AGREED = said("approval", ("tom", {"decision": "approved"}))
POLICY = Policy(
    approvals={"normal": 1, "standard": 0, "emergency": 1},
    rollout=Rollout(),
    people={"rita": Person(frozenset(["release-manager"]))},
    trust=dict.fromkeys(EVIDENCE, TRUST),
    separate=frozenset({"requester", "builder", "approver"}),
    documentation={"minor": ("README*", "*operations*")},
    versions={"minor": 1},
    responsibilities=dict.fromkeys(
        ("archive", "verify", "approve", "deploy", "back_out", "audit"), Responsibility(("release-manager",), "release-manager")
    ),
    communication=TELLING,
    opinions={"tester": Quorum(1, 3)},
    verification=Verification(rehearsal=True),
    no_return={"dba": 1},
)
FACTS = Facts(
    now=START,
    rfc=RFC,
    policy=POLICY,
    package=PACKAGE,
    scope=("web1", "web2"),
    live={"0.9": "web1", "0.8.7": "web2"},
    evidence=EVIDENCE,
    builders=frozenset({"rita"}),
    debts=(debt(),),
    seats=Allotment("acme", needed=2, free=2),
    spares=SpareAllotment({"R750": 1}, ("A-1",), {"R750": 2}),
    unarchived=(),
    compatibility=Compatibility(),
    data_host=DataHost("web1"),
    signed_approvals={"dba": AGREED},
    calendars=Calendars(windows=(Event("nights", START, END, frozenset({"ams"})),), freezes=()),
    waves=(frozenset({"ams"}), frozenset({"ams"})),
    overlaps=(),
    entered=(),
    channels={"chat": "", "desk": "", "spare": "it has no address"},
    opinions=OPINIONS,
    replaced=frozenset([""]),
    sight=Sight("hello", "1.0", DIGEST, {OTHER: "approval (rejected)"}),
    seen=(Snapshot("hello", "1.0", DIGEST, 7, START, {OTHER: Piece("approval (rejected)", START)}),),
)


def facts(**changes: Any) -> Facts:
    """Facts that pass every control, with these replaced, of the RFC or of all."""
    own = {key: value for key, value in changes.items() if hasattr(FACTS, key)}
    return replace(replace(FACTS, rfc=replace(RFC, **{key: value for key, value in changes.items() if key not in own})), **own)


def result(name: str, given_facts: Facts) -> Control:
    return next(control for control in evaluate(given_facts).controls if control.name == name)


def test_what_is_in_order_is_granted() -> None:
    clearance = evaluate(FACTS)
    assert clearance.granted
    assert [control.name for control in clearance.controls] == list(CONTROLS)
    assert {control.result for control in clearance.controls} == {Result.PASS}
    assert clearance.sentence() == f"CHG0030001 is cleared: hello 1.0; {len(CONTROLS)} controls pass."


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *(("rfc_state", {"state": state}) for state in (-5, -4, -3, 0, 3, 4)),
        ("rfc_state", {"on_hold": True}),
        ("rfc_state", {"on_hold": True, "state": -1}),
        ("window", {"now": START - TICK}),
        ("window", {"now": END}),
        ("window", {"now": END - 10 * MINUTE + TICK}),
        ("window", {"waves": (frozenset({"ams"}), frozenset({"ams", "fra"}))}),
        ("window", {"waves": (frozenset({None}),)}),
        ("window", {"calendars": Calendars(windows=(), freezes=())}),
        ("window", {"calendars": Calendars(windows=(replace(NIGHT, start=START + TICK),), freezes=())}),
        ("window", {"calendars": Calendars(windows=(replace(NIGHT, end=START + 5 * MINUTE - TICK),), freezes=())}),
        ("window", {"calendars": Calendars(windows=(replace(NIGHT, releases=frozenset({"other"})),), freezes=())}),
        ("window", {"instant": START + 6 * MINUTE - TICK}),
        ("window", {"instant": END - 5 * MINUTE + TICK}),
        ("window", {"instant": START + 2 * HOUR, "calendars": Calendars((replace(NIGHT, end=START + 30 * MINUTE), LATER_NIGHT), ())}),
        ("window", {"instant": START - TICK}),
        ("window", {"instant": START + 20 * MINUTE, "calendars": Calendars((replace(NIGHT, end=START + 20 * MINUTE), LATER_NIGHT), ())}),
        ("freeze", {"instant": START + 20 * MINUTE, "calendars": Calendars(freezes=(replace(NIGHT, start=START + 25 * MINUTE - TICK),))}),
        ("freeze", {"calendars": Calendars(freezes=(replace(NIGHT, start=START - TICK, end=START + TICK),))}),
        ("freeze", {"calendars": Calendars(freezes=(replace(NIGHT, start=START + 10 * MINUTE - TICK),))}),
        ("freeze", {"calendars": Calendars(freezes=(replace(NIGHT, sites=frozenset()),))}),
        ("freeze", {"calendars": Calendars(freezes=(replace(NIGHT, releases=frozenset({"hello"})),))}),
        ("freeze", {"calendars": Calendars(freezes=(replace(NIGHT, sites=frozenset({"fra"})),)), "waves": (frozenset({None}),)}),
        ("conflicts", {"overlaps": (Overlap(OTHER_CHANGE, ("web1",)),)}),
        ("digest", {"digest": OTHER}),
        ("digest", {"package": replace(PACKAGE, archived=OTHER)}),
        ("payload_archived", {"package": ABSENT}),
        ("documentation", {"package": replace(PACKAGE, documents={})}),
        ("documentation", {"package": replace(PACKAGE, documents={"README.md": 9, "operations": 0})}),
        ("documentation", {"package": replace(PACKAGE, documents={"readme.md": 9, "operations": 1})}),
        ("payload_intact", {"package": PackageFacts(DIGEST, "blob sha256:00 is damaged")}),
        ("signatures", {"evidence": {**EVIDENCE, "package": Judgement("package", TRUST, (), ("the signature of dora does not count",))}}),
        ("malware", {"evidence": {**EVIDENCE, "scan": said("scan")}}),
        ("malware", {"evidence": {**EVIDENCE, "scan": said("scan", ("rita", {"result": "infected"}), ("carl", {"result": "clean"}))}}),
        ("malware", {"evidence": {**EVIDENCE, "scan": said("scan", ("rita", {"result": "clean"}), ("rita", {"result": "infected"}))}}),
        (
            "malware",
            {"evidence": {**EVIDENCE, "scan": said_at_once("scan", ("rita", {"result": "infected"}), ("rita", {"result": "clean"}))}},
        ),
        ("evidence", {"evidence": {**EVIDENCE, "sbom": said("sbom")}}),
        ("verification", {"evidence": {**EVIDENCE, "test-result": passing(passedTests=[])}}),
        ("rehearsal", {"evidence": {**EVIDENCE, "test-result": passing(rehearsal={**REHEARSAL, "digest": OTHER})}}),
        ("evidence", {"evidence": {**EVIDENCE, "licence": said("licence", ("rita", {"declared": None}))}}),
        ("opinions", {"opinions": {"tester": said("opinion")}}),
        ("opinions", {"opinions": {"tester": said("opinion", ("tess", {"score": 5, "blocking": True}))}}),
        ("scope", {"no_hosts": ("rack7 (rack)",)}),
        ("scope", {"scope": ()}),
        ("scope", {"entered": ("web1",)}),
        ("scope", {"entered": ("web1", "web3")}),
        ("licences", {"seats": Allotment("acme", needed=2, free=1)}),
        ("spares", {"spares": SpareAllotment({"R750": 2}, usable={"R750": 1}, unusable=("A-2 is in stock ams-1, reserved",))}),
        ("baseline", {"unarchived": ("web1 has BIOS 1, and no archived version of hello has that for the R750",)}),
        ("baseline", {"package": replace(PACKAGE, manifest={"reads": "1.0"}), "unarchived": ("it is the first hello on web1",)}),
        ("compatibility", {"compatibility": Compatibility(("web1: it is too old",), ("web2: its class is not known",))}),
        ("data_host", {"data_host": DataHost("", "migrate_on, '[0]', has to give one CI of the plan and gives none")}),
        ("no_return", {"policy": replace(POLICY, no_return={})}),
        ("no_return", {"signed_approvals": {"dba": said("approval")}}),
        ("no_return", {"signed_approvals": {"dba": said("approval", ("rita", {"decision": "approved"}))}}),  # who signed the package
        ("no_return", {"policy": replace(POLICY, no_return={"dba": 2})}),
        ("approvals", {"approvals": ()}),
        ("approvals", {"approvals": (approval(state="requested"),)}),
        ("approvals", {"approvals": (approval(decided_at=None),)}),
        ("approvals", {"approvals": (approval(decided_at=START + TICK),)}),
        ("approvals", {"approvals": (approval(), approval("dora", "rejected"))}),
        ("approvals", {"approvals": (approval(), approval("dora", "rejected", None))}),
        ("approvals", {"approvals": (approval("Rita Reed"),)}),
        ("approvals", {"approvals": (approval("rita  REED "),)}),
        ("approvals", {"approvals": (approval("\uff32ita Reed"),)}),
        ("approvals", {"approvals": (approval("RITA"),)}),  # who signed the package
        ("duties", {"builders": frozenset({"rita", "rita  REED"})}),
        ("version", {"live": {"2.0": "web1"}}),
        ("version", {"live": {"0.9": "web1", "1.0.1": "web2"}}),
        ("version", {"version": "1.0.1", "live": {"1.0": "web1"}}),
        ("communication", {"communication_plan": ""}),
        ("communication", {"communication_plan": " \n"}),
        ("communication", {"stakeholders": ("desk", "nobody\x1b[2J")}),
        ("communication", {"channels": {"chat": "the environment variable CHAT has no address", "desk": ""}}),
        ("communication", {"channels": {"chat": "", "desk": "it is gone"}}),
        ("communication", {"policy": replace(POLICY, communication=replace(TELLING, tell={"hold": ()}))}),
        ("responsibilities", {"assigned_to": ""}),
        ("responsibilities", {"assigned_to": "carl"}),
        ("responsibilities", {"builders": frozenset({"dora"})}),
        ("responsibilities", {"builders": frozenset()}),
        ("debts", {"debts": (debt(START),)}),
        ("debts", {"debts": (debt(START), debt(START - timedelta(days=1), START), debt()), "type": "standard"}),
        ("backout_plan", {"backout_plan": ""}),
        ("backout_plan", {"backout_plan": " \n\t "}),
    ],
)
def test_a_control_fails_alone_and_says_what_to_do(name: str, changes: dict[str, Any]) -> None:
    clearance = evaluate(facts(**changes))
    assert not clearance.granted
    failed = {control.name: control for control in clearance.controls if control.result is Result.FAIL}
    assert failed.keys() == {name}
    assert failed[name].reason
    assert failed[name].remedy


@pytest.mark.parametrize(
    ("allowed", "approvals", "says"),
    [
        (False, {"normal": {"owner": 1}}, "the policy lets no RFC run a command"),
        (True, {"normal": 1}, "nobody has to sign an approval"),
        (True, {"normal": {}}, "nobody has to sign an approval"),
        (True, {"normal": {"owner": 1}}, ""),
    ],
)
def test_a_command_among_the_objectives_has_to_be_allowed_and_signed(allowed: bool, approvals: dict[str, Any], says: str) -> None:
    policy = replace(load_policy(), approvals=approvals, objective_commands=allowed)
    check = {"name": "backup\n\x1b", "command": ["true"], "timeout": 5}
    found = result("objectives", facts(rfc=replace(RFC, objectives=(check,)), policy=policy))
    assert (found.result is Result.FAIL, says in found.reason) == (bool(says), True)
    assert found.reason.isprintable()
    without = {"name": "answers", "tcp": {"host": "a", "port": 1}, "timeout": 5}
    assert result("objectives", facts(rfc=replace(RFC, objectives=(without,)), policy=load_policy())).result is Result.PASS


def test_who_can_bring_data_back_needs_nobody_s_approval_and_who_migrates_none_no_host() -> None:
    for package in (REVERSIBLE, replace(PACKAGE, manifest={})):
        found = result("no_return", facts(package=package, policy=replace(POLICY, no_return={}), signed_approvals={}))
        assert found.result is Result.NOT_APPLICABLE
    assert result("data_host", facts(package=replace(PACKAGE, manifest={}), data_host=None)).result is Result.NOT_APPLICABLE
    assert result("data_host", facts(package=REVERSIBLE)).reason == "data are migrated on web1"
    assert "nothing brings back (reverse: none): 1 of 1 approvals by the dba (tom)" in result("no_return", FACTS).reason


def test_by_the_shipped_policy_no_release_goes_behind_a_point_of_no_return() -> None:
    found = result("no_return", facts(policy=load_policy()))
    assert (found.result, "says under no_return of nobody" in found.reason) == (Result.FAIL, True)


def test_the_shipped_policy_lets_no_rfc_run_a_command() -> None:
    assert load_policy().objective_commands is False


@pytest.mark.parametrize("now", [START, END - 10 * MINUTE, START.astimezone(datetime.fromisoformat("2027-01-01T00:00:00+05:45").tzinfo)])
def test_the_window_is_open_from_its_start_until_the_waves_do_not_fit_any_more(now: datetime) -> None:
    assert result("window", facts(now=now)).result is Result.PASS


@pytest.mark.parametrize(
    "event",
    [
        replace(NIGHT, end=START),
        replace(NIGHT, start=START + 10 * MINUTE),
        replace(NIGHT, sites=frozenset({"fra"})),
        replace(NIGHT, releases=frozenset({"other"})),
    ],
)
def test_a_freeze_of_another_time_site_or_release_stops_nothing(event: Event) -> None:
    assert result("freeze", facts(calendars=Calendars(freezes=(event,)))).result is Result.PASS


def test_a_freeze_in_the_middle_of_a_plan_that_overruns_the_window_is_found() -> None:
    """For the window may be waived."""
    event = replace(NIGHT, start=END + 4 * MINUTE, end=END + 5 * MINUTE)
    found = evaluate(facts(now=END, calendars=Calendars(freezes=(event,)))).controls
    assert {control.name for control in found if control.result is Result.FAIL} == {"window", "freeze"}


def test_an_instant_that_the_last_wave_can_keep_stands_in_nobodys_way() -> None:
    assert result("window", facts(instant=START + 6 * MINUTE)).result is Result.PASS
    frozen = Calendars(freezes=(replace(NIGHT, start=START + 25 * MINUTE),))
    assert result("freeze", facts(instant=START + 20 * MINUTE, calendars=frozen)).result is Result.PASS


@pytest.mark.parametrize(("days", "said"), [(1 / 24, Result.FAIL), (20 / 60 / 24, Result.FAIL), (2 / 24, Result.PASS), (0, Result.PASS)])
def test_an_instant_further_away_than_late_hosts_are_let_in_is_refused(days: float, said: Result) -> None:
    """0 days: late hosts are never let in."""
    policy = replace(POLICY, rollout=replace(POLICY.rollout, late_days=days))
    assert result("window", facts(policy=policy, instant=START + HOUR + MINUTE)).result is said


def test_a_wave_whose_window_opens_later_waits_for_it() -> None:
    later = replace(NIGHT, sites=frozenset({"fra"}), start=START + timedelta(hours=1))
    found = result("window", facts(calendars=Calendars(windows=(NIGHT, later)), waves=(frozenset({"ams"}), frozenset({"fra"}))))
    assert found.result is Result.PASS
    assert f"wave 2 has to wait until {(START + timedelta(hours=1)).isoformat()}" in found.reason


def test_a_scope_that_has_shrunk_since_it_was_entered_is_none_the_worse() -> None:
    assert result("scope", facts(entered=("web1", "web2", "web3"))).result is Result.PASS


@pytest.mark.parametrize("state", [-2, -1])
def test_an_rfc_may_be_scheduled_or_under_way(state: int) -> None:
    assert result("rfc_state", facts(state=state)).result is Result.PASS


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        (
            {
                "package": None,
                "evidence": None,
                "opinions": None,
                "errors": {"package": "no such directory", "evidence": "no such directory"},
            },
            {
                *("digest", "payload_archived", "payload_intact", "library", "version", "documentation", "licences", "compatibility"),
                *("baseline", "data_host", "no_return", "spares"),
                *SIGNED,
            },
        ),
        (
            {"package": ABSENT, "evidence": None},
            {"library", "digest", "payload_intact", "version", "documentation", "licences", "compatibility", *SIGNED},
        ),
        (
            {"evidence": None, "errors": {"evidence": "a listing is damaged"}},
            SIGNED - {"opinions"},
        ),
        ({"evidence": {kind: found for kind, found in EVIDENCE.items() if kind != "package"}}, {"signatures"}),
        ({"evidence": {}}, SIGNED - {"opinions"}),
        ({"evidence": {**EVIDENCE, "scan": said("scan", ("rita", {"result": "inconclusive", "detail": "no signatures"}))}}, {"malware"}),
        ({"evidence": {**EVIDENCE, "scan": said("scan", ("rita", {"result": "clean"}), ("rita", {"result": "odd"}))}}, {"malware"}),
        ({"opinions": None, "errors": {"evidence": "a listing is damaged"}}, {"opinions"}),
        ({"opinions": {}}, {"opinions"}),
        ({"replaced": None}, {"rehearsal"}),
        (
            {"scope": None, "errors": {"scope": "not a database"}},
            {"scope", "licences", "spares", "baseline", "compatibility", "conflicts", "data_host", "approvals", "no_return", "plan"},
        ),
        (
            {"policy": None, "errors": {"policy": "policy.yml:3: wrong"}},
            {
                "approvals",
                "communication",
                "documentation",
                "duties",
                "freeze",
                "responsibilities",
                "version",
                "window",
                "no_return",
                "plan",
                *SIGNED,
            },
        ),
        ({"builders": None}, {"approvals", "duties", "responsibilities", "no_return"}),
        ({"data_host": None, "errors": {"data_host": "it is locked"}}, {"data_host"}),
        ({"signed_approvals": None}, {"approvals", "no_return"}),
        ({"signed_approvals": {}}, {"no_return"}),
        ({"calendars": None, "errors": {"calendars": "no such file"}}, {"window", "freeze"}),
        ({"waves": None}, {"window", "freeze", "plan"}),
        ({"overlaps": None, "errors": {"overlaps": "it is locked"}}, {"conflicts"}),
        ({"entered": None, "errors": {"overlaps": "it is locked"}}, {"scope"}),
        ({"live": None}, {"version"}),
        ({"channels": None, "errors": {"channels": "it broke"}}, {"communication"}),
        ({"seats": None, "errors": {"seats": "it is locked"}}, {"licences"}),
        ({"spares": None, "errors": {"spares": "it is locked"}}, {"spares"}),
        ({"unarchived": None, "errors": {"baseline": "it is locked"}}, {"baseline"}),
        ({"compatibility": None, "errors": {"compatibility": "it is locked"}}, {"compatibility"}),
        ({"compatibility": Compatibility(unknown=("web1: its class is not known",))}, {"compatibility"}),
        ({"debts": None, "errors": {"debts": "it is locked"}}, {"debts"}),
        ({"seen": None, "errors": {"seen": "it is locked"}}, {"library"}),
        ({"sight": None, "errors": {"evidence": "a listing is damaged"}}, {"library"}),
        ({"sight": Sight("hello", "1.0", DIGEST, {})}, {"library"}),
        ({"seen": (Snapshot("hello", "1.0", OTHER, 7, START),)}, {"library"}),
        ({"version": "next", "live": {"1.0": "web1"}}, {"version"}),
        ({"rfc": None, "errors": {"rfc": "rfc.yml:1: wrong"}}, CONTROLS.keys() - {"rfc_schema"}),
    ],
)
def test_what_is_not_known_is_inconclusive(changes: dict[str, Any], names: set[str]) -> None:
    clearance = evaluate(facts(**changes))
    assert {control.name for control in clearance.controls if control.result is Result.INCONCLUSIVE} == names
    assert not clearance.granted
    assert [control.name for control in clearance.controls] == list(CONTROLS)
    for error in changes.get("errors", {}).values():
        assert error in clearance.text()


def test_a_policy_that_asks_for_no_signature_does_not_ask_whether_there_is_one() -> None:
    asks_none = replace(FACTS, policy=Policy({"normal": 1}, Rollout()), evidence=None, package=REVERSIBLE)
    found = {name: result(name, asks_none) for name in ("signatures", "malware", "evidence", "verification", "rehearsal", "opinions")}
    assert {control.result for control in found.values()} == {Result.NOT_APPLICABLE}
    assert "asks for no" in found["signatures"].reason
    assert evaluate(asks_none).granted


def test_an_rfc_that_can_not_be_read_fails_its_schema() -> None:
    clearance = evaluate(facts(rfc=None, errors={"rfc": "rfc.yml:1: a is missing; add a\nrfc.yml:2: b is wrong; mend b"}))
    assert clearance.controls[0] == Control(
        "rfc_schema", Result.FAIL, "rfc.yml:1: a is missing; add a\nrfc.yml:2: b is wrong; mend b", "correct the RFC"
    )
    assert clearance.sentence() == "the RFC is not cleared: rfc_schema stands in the way."
    assert clearance.details() == [
        "  fail          rfc_schema: rfc.yml:1: a is missing; add a",
        "                rfc.yml:2: b is wrong; mend b",
    ]
    once = evaluate(facts(rfc=None, errors={"rfc": "rfc.yml:1: a is missing; add a"}))
    assert once.sentence() == "the RFC is not cleared: rfc_schema: rfc.yml:1: a is missing; add a."
    assert once.details() == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"package": None, "evidence": None, "sight": None, "compatibility": None, "errors": {"package": "no DSL at /x; name it"}},
            " controls that can't be evaluated: no DSL at /x; name it.",
        ),
        ({"policy": None, "errors": {"policy": "policy.yml:1: it is empty; fill it"}}, "policy.yml:1: it is empty; fill it."),
        ({"scope": None, "waves": None, "errors": {"scope": "no CMDB at /x; name it"}}, "no CMDB at /x; name it."),
        ({"package": ABSENT, "evidence": None, "sight": None, "seen": ()}, "payload_archived: the DSL has no hello 1.0; archive it"),
    ],
)
def test_what_several_controls_come_to_grief_over_is_said_once(changes: dict[str, Any], sentence: str) -> None:
    errors = changes.get("errors", {})
    known = {name: errors.get("package", "") for name in ("evidence", "compatibility")} if "package" in errors else {}
    clearance = evaluate(facts(**{**changes, "errors": known | errors}))
    assert sum(control.blocks for control in clearance.controls) > 3
    assert sentence in clearance.sentence()
    assert len(clearance.details()) == 1  # how much passes
    assert "controls pass (-v lists them)" in clearance.details()[0]


def test_what_controls_that_pass_note_is_said_once_whether_or_not_it_is_cleared() -> None:
    calendars = replace(facts().calendars or Calendars(), notes=("a cancelled event stops nothing",))
    for changes in ({}, {"sight": None, "errors": {"sight": "no DSL at /x; name it"}}):
        clearance = evaluate(facts(calendars=calendars, **changes))
        assert clearance.granted == (not changes)
        assert clearance.notes == ("a cancelled event stops nothing",)
        assert [line.split(maxsplit=1) for line in clearance.details() if "note" in line] == [["note", "a cancelled event stops nothing"]]


@pytest.mark.parametrize(
    ("needed", "approvals", "passes"),
    [
        (0, (), True),
        (0, (approval(state="rejected"),), False),
        (2, (approval("carl"), approval("dora")), True),
        (2, (approval("carl"), approval("carl")), False),
        (2, (approval("carl"), approval(" Carl")), False),
        (2, (approval("carl"), approval("Rita Reed")), False),
        (1, (approval("carl"), approval("Rita Reed")), True),
    ],
)
def test_distinct_people_are_counted_and_never_the_requester(needed: int, approvals: tuple[Approval, ...], passes: bool) -> None:
    policy = Policy(approvals={"normal": needed}, rollout=Rollout())
    found = result("approvals", facts(policy=policy, approvals=approvals))
    assert (found.result is Result.PASS) == passes, found


@pytest.mark.parametrize("name", ["approvals", "duties"])
def test_who_must_not_be_the_builder_is_not_known_when_nobody_signed_the_package(name: str) -> None:
    assert result(name, facts(builders=frozenset())).result is Result.INCONCLUSIVE
    assert FACTS.policy
    lenient = replace(FACTS.policy, separate=frozenset({"requester", "approver"}))
    assert not result(name, facts(builders=frozenset(), policy=lenient)).blocks


def test_a_policy_that_does_not_know_the_type_of_an_rfc_does_not_pass_it() -> None:
    found = result("approvals", facts(policy=Policy(approvals={}, rollout=Rollout())))
    assert (found.result, found.blocks) == (Result.INCONCLUSIVE, True)


def test_a_control_that_breaks_is_inconclusive_and_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_facts: Facts, _rfc: Rfc) -> Finding:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(controls, "CONTROLS", {"broken": ControlSpec("broken", broken, 0), **CONTROLS})
    first, *others = evaluate(FACTS).controls
    assert (first.name, first.result) == ("broken", Result.INCONCLUSIVE)
    assert "ZeroDivisionError: by zero" in first.reason
    assert {control.result for control in others} == {Result.PASS}


def test_a_control_of_the_policy_s_own_is_one_of_the_controls() -> None:
    assert FACTS.policy
    own = replace(FACTS.policy, controls=(OwnControl("backup_done", ("true",), "no backup", ""),))
    known = facts(policy=own, own={"backup_done": Finding(Result.FAIL, "no backup", "make one")})
    assert evaluate(known).controls[-1] == Control("backup_done", Result.FAIL, "no backup", "make one")
    unknown = evaluate(facts(policy=own, errors={"own": "it broke"})).controls[-1]
    assert (unknown.name, unknown.result) == ("backup_done", Result.INCONCLUSIVE)
    assert "it broke" in unknown.reason
    waived = {"backup_done": Judgement("waiver", TRUST, said("package", ("carl", {"expires": "tomorrow", "reason": "x"})).counted, ())}
    assert evaluate(replace(known, waivers=waived)).controls[-1].result is Result.WAIVED
    undecided = replace(known, own={"backup_done": Finding(Result.INCONCLUSIVE, "who knows", "look")}, waivers=waived)
    assert evaluate(undecided).controls[-1].result is Result.INCONCLUSIVE


@pytest.mark.parametrize(
    ("kind", "new", "old", "passes"),
    [
        ("major", "2.0", "1.9.3", True),
        ("major", "v3", "v1.9", True),
        ("major", "1.10", "1.9", False),
        ("minor", "1.10", "1.9.3", True),
        ("minor", "1.9.4", "1.9.3", False),
        ("minor", "2.0", "1.9", False),
        ("minor", "1.8", "1.9", False),
        ("emergency", "1.9.4", "1.9.3", True),
        ("emergency", "1.9.1", "1.9", True),
        ("emergency", "1.10.1", "1.9", False),
        ("emergency", "1.9.3-rc1", "1.9.3", False),
        ("minor", "1.9", "1.9", True),
    ],
)
def test_a_release_raises_the_number_that_its_type_says(kind: str, new: str, old: str, passes: bool) -> None:
    assert FACTS.policy
    policy = replace(FACTS.policy, versions={"major": 1, "minor": 2, "emergency": 3})
    # What is live and has no number is older than the rule.
    found = result("version", facts(policy=policy, package=replace(PACKAGE, type=kind), version=new, live={old: "web1", "stable": "web2"}))
    assert (found.result is Result.PASS) == passes, found


@pytest.mark.parametrize(
    ("kind", "owed", "result_"),
    [
        ("normal", debt(START - timedelta(days=1), START), Result.PASS),
        ("normal", debt(START + TICK), Result.PASS),
        ("standard", debt(START), Result.FAIL),
        ("emergency", debt(START), Result.PASS),
    ],
)
def test_what_is_overdue_blocks_the_next_release_that_is_no_emergency(kind: str, owed: Debt, result_: Result) -> None:
    found = result("debts", facts(type=kind, debts=(owed,)))
    assert found.result is result_
    assert ("CHG0029999 (hello 0.9) owes review" in found.reason) == (owed.settled is None)


@pytest.mark.parametrize(("bench", "result_"), [(False, Result.FAIL), (True, Result.PASS)])
def test_spares_that_are_overdue_block_all_but_what_brings_them_to_level(bench: bool, result_: Result) -> None:
    owed = replace(debt(START), duty="spares")
    found = result("debts", facts(debts=(owed,), bench=bench))
    assert found.result is result_
    if not bench:
        assert "bring the spares to level on a bench" in found.remedy
    assert result("debts", facts(debts=(owed, debt(START)), bench=bench)).result is Result.FAIL


@pytest.mark.parametrize(
    ("waived", "until"),
    [((), END - 3 * MINUTE), (("window",), END - 3 * MINUTE), (("freeze",), END - 2 * MINUTE), (("window", "freeze"), None)],
)
def test_what_is_waived_does_not_say_until_when_hosts_may_be_started(waived: tuple[str, ...], until: datetime | None) -> None:
    earlier, later = replace(NIGHT, end=END - 2 * MINUTE), replace(NIGHT, start=END - 3 * MINUTE, end=END + MINUTE)
    given_facts = facts(calendars=Calendars(windows=(earlier,), freezes=(later, replace(later, start=START, sites=frozenset({"fra"})))))
    assert closes(given_facts, RFC, waived) == until


@given(results=st.lists(st.sampled_from(Result), max_size=6))
def test_only_controls_that_all_let_pass_are_granted(results: list[Result]) -> None:
    found = tuple(Control(f"c{number}", value, "reason", "remedy") for number, value in enumerate(results))
    clearance = Clearance("CHG0030001", "hello 1.0", DIGEST, START, found)
    assert clearance.granted == (bool(results) and not {Result.FAIL, Result.INCONCLUSIVE} & set(results))
    assert json.loads(json.dumps(clearance.to_dict()))["granted"] == clearance.granted
    assert len(clearance.sentence().splitlines()) == 1
    assert all(control.name in clearance.sentence() for control in found if control.blocks)
    lines = "\n".join((clearance.sentence(), *clearance.details()))
    for control in found:  # each that is in the way once with its reason; what passes by number; the rest not at all
        assert lines.count(f"{control.name}: reason") == (control.blocks or control.result is Result.WAIVED)
        shown = control.result is not Result.NOT_APPLICABLE
        assert clearance.text().count(f" {control.name}: reason") == shown + (control.blocks and sum(one.blocks for one in found) == 1)
    order = [line.split()[0] for line in clearance.details(complete=True) if "->" not in line]
    assert order == sorted(order, key=["fail", "inconclusive", "waived", "pass"].index)


@pytest.mark.parametrize(
    ("number", "said"),
    [(1, "c0: reason 0; remedy."), (2, "c0 and c1 stand in the way."), (3, "c0, c1 and c2 stand in the way.")],
)
def test_the_sentence_says_all_of_one_reason_and_the_names_of_several(number: int, said: str) -> None:
    found = tuple(Control(f"c{index}", Result.FAIL, f"reason {index}", "remedy") for index in range(number))
    clearance = Clearance("CHG0030001", "hello 1.0", DIGEST, START, found)
    assert clearance.sentence() == f"CHG0030001 is not cleared: {said}"
    assert clearance.details() == ([f"  fail          c{index}: reason {index}; remedy" for index in range(number)] if number > 1 else [])


def test_the_table_says_what_to_do_and_what_fails_comes_first() -> None:
    found = evaluate(facts(rfc=replace(RFC, on_hold=True), package=PackageFacts(DIGEST, "one\ntwo", manifest=PACKAGE.manifest)))
    lines = found.text().splitlines()
    assert lines[0] == "CHG0030001 is not cleared: rfc_state and payload_intact stand in the way."
    assert lines[1:6] == [
        "  fail          rfc_state: CHG0030001 is on hold",
        "                -> settle what it waits for and take it off hold",
        "  fail          payload_intact: one",
        "                two",
        "                -> restore the package from a copy of the DSL",
    ]
    rows = [line.split()[1].rstrip(":") for line in lines[1:] if not line.startswith("      ")]
    assert set(rows) == set(CONTROLS)
    assert found.details()[1] == "  fail          payload_intact: one; two; restore the package from a copy of the DSL"


def test_what_the_library_lacks_is_named_with_when_it_was_seen_and_what_to_do() -> None:
    found = result("library", facts(sight=Sight("hello", "1.0", DIGEST, {})))
    assert f"hello 1.0: approval (rejected) {OTHER}, seen {START.isoformat()}" in found.reason
    assert "tidegate_dsl_replica" in found.remedy
    gone = result("library", facts(package=ABSENT, evidence=None))
    assert f"hello 1.0: the package {DIGEST}, seen" in gone.reason
    never = result("library", facts(package=ABSENT, evidence=None, seen=()))
    assert never.result is Result.NOT_APPLICABLE
    # Where the policy knows nobody who signs, nobody reads what was signed.
    assert result("library", facts(sight=Sight("hello", "1.0", DIGEST))).result is Result.PASS
