# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A policy says only what it changes; the shipped one says the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.evaluate import CONTROLS
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import DocumentError
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.model import OwnControl, Trust
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.deployments import rollout_from_dict, rollout_to_dict
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Constraints, Rings, Rollout, Share, StayUp

Write = Callable[..., Path]


def test_the_shipped_policy_asks_for_an_approval_and_tolerates_no_failure() -> None:
    policy = load_policy()
    assert policy.approvals == {"normal": 1, "standard": 0, "emergency": 1}
    assert policy.rollout == Rollout(steps=(25, 50, 100), order_by="site", late_days=7)


def test_what_a_policy_leaves_out_has_the_shipped_value(write: Write) -> None:
    policy = load_policy(write("policy"))
    assert policy.approvals == {"normal": 2, "standard": 0, "emergency": 1}
    assert policy.rollout == Rollout(canary=Share(10, percent=True), steps=(50, 100), order_by="site", wave_budget=Share(1), late_days=7)
    support = load_policy(write("policy", rollout={"support": {"hours": 0.5}})).rollout
    assert (support.support_hours, support.late_days) == (0.5, 7)
    assert load_policy(write("policy", approvals=..., rollout=...)) == load_policy()
    assert load_policy(write("policy", rollout={"order_by": None})).rollout.order_by is None


def test_constraints_on_a_plan_are_read_and_come_back_out_of_a_journal(write: Write) -> None:
    asked = {
        "canary_hosts": ["web1"],
        "shuffle": True,
        "rings": {"by": "ring", "order": ["early", None]},
        "classes": {"database": "10%"},
        "stay_up": {"redundant": 1, "groups": {"cluster": "75%"}, "services": {"shop": 2}},
        "max_waves": 7,
    }
    rollout = load_policy(write("policy", rollout=asked)).rollout
    assert rollout.constraints == Constraints(
        ("web1",),
        True,
        Rings("ring", ("early", None)),
        {"database": Share(10, percent=True)},
        StayUp(Share(1), {"cluster": Share(75, percent=True)}, {"shop": Share(2)}),
        7,
    )
    query = load_policy(write("policy", rollout={"canary_hosts": "[?attributes.canary]"})).rollout
    for one in (rollout, query, Rollout()):
        kept = json.loads(json.dumps(rollout_to_dict(one)))
        assert rollout_from_dict(kept) == one
    # What a collection wrote that had no constraints is read as without.
    old = {key: value for key, value in rollout_to_dict(Rollout(keep=5)).items() if key != "constraints"}
    assert rollout_from_dict(old) == Rollout(keep=5)


@pytest.mark.parametrize(
    ("rollout", "what"),
    [
        ({"canary": "10"}, "rollout.canary is '10'"),
        ({"canary": -1}, "rollout.canary is the number -1"),
        ({"budget": 1}, "rollout.budget is the number 1"),
        ({"budget": {"wave": "5 %"}}, "rollout.budget.wave is '5 %'"),
        ({"budget": {"all": 1}}, "all is not a key of rollout.budget"),
        ({"on_failure": "ignore"}, "rollout.on_failure is 'ignore'"),
        ({"support": 1}, "rollout.support is the number 1"),
        ({"support": {"hours": -1}}, "rollout.support.hours is"),
        ({"support": {"late_days": 366}}, "rollout.support.late_days is"),
        ({"support": {"late": 7}}, "late is not a key of rollout.support"),
        ({"stable": -1}, "rollout.stable is the number -1"),
        ({"stable": 3601}, "rollout.stable is the number 3601"),
        ({"order_by": ""}, "rollout.order_by is empty"),
        ({"canary_hosts": 7}, "rollout.canary_hosts is the number 7"),
        ({"canary_hosts": ["a", "a"]}, "rollout.canary_hosts lists something twice"),
        ({"rings": {"by": "ring"}}, "order is missing from rollout.rings"),
        ({"rings": {"by": "ring", "order": []}}, "rollout.rings.order is empty"),
        ({"classes": {"database": "a few"}}, "rollout.classes.database is 'a few'"),
        ({"stay_up": {"group": {}}}, "group is not a key of rollout.stay_up"),
        ({"stay_up": {"groups": {"cluster": "101%"}}}, "rollout.stay_up.groups.cluster is '101%'"),
        ({"max_waves": 0}, "rollout.max_waves is the number 0"),
        ({"steps": [100, 50]}, "the steps are [100, 50]"),
    ],
)
def test_what_is_no_rollout_is_refused(write: Write, rollout: dict[str, Any], what: str) -> None:
    with pytest.raises(DocumentError) as caught:
        load_policy(write("policy", rollout=rollout))
    assert any(problem.what.startswith(what) for problem in caught.value.problems), caught.value


PEM = """-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
"""
PEOPLE = {"rita": {"roles": ["release-manager", "builder"], "keys": [{"public": PEM}]}, "carl": {"roles": ["change-manager"]}}
PARTS = {"responsible": ["release-manager"], "accountable": "change-manager"}
MATRIX = dict.fromkeys(("archive", "verify", "approve", "deploy", "back_out", "audit"), PARTS)


def problems(path: Path) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        load_policy(path)
    return [problem.what for problem in caught.value.problems]


def test_responsibilities_name_somebody_for_each_step(write: Write) -> None:
    policy = load_policy(write("policy", people=PEOPLE, responsibilities=MATRIX))
    assert policy.holders(*policy.responsibilities["deploy"].responsible) == ("rita",)
    assert policy.holders("builder", "change-manager", "nobody") == ("carl", "rita")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"responsibilities": {**MATRIX, "deploy": None}}, "responsibilities.deploy is empty"),
        ({"responsibilities": {step: MATRIX[step] for step in MATRIX if step != "back_out"}}, "the step back_out names nobody"),
        ({"responsibilities": {**MATRIX, "deploy": {**PARTS, "responsible": []}}}, "responsibilities.deploy.responsible is empty"),
        ({"responsibilities": {**MATRIX, "deploy": {**PARTS, "accountable": "ghost"}}}, "nobody has the role 'ghost'"),
        ({"responsibilities": {**MATRIX, "deploy": {**PARTS, "responsible": ["ghost"]}}}, "nobody has the role 'ghost'"),
        ({"responsibilities": {**MATRIX, "audit": {**PARTS, "informed": ["ghost"]}}}, "nobody has the role 'ghost'"),
        (
            {"responsibilities": MATRIX, "trust": {"package": {"role": "builder"}}},
            "'builder' signs for the step archive, but is neither responsible nor accountable for it",
        ),
        (
            {"responsibilities": MATRIX, "rules": [{"when": {"risk": [2]}, "approvals": {"builder": 1}}]},
            "'builder' signs for the step approve, but is neither responsible nor accountable for it",
        ),
        ({"rules": [{"when": {}}]}, "rules.0.when"),
        ({"rules": [{"when": {"risk": [1]}}]}, "rules.0.when.risk.0 is the number 1"),
        ({"rules": [{"when": {"risk": [2]}, "approvals": {"ghost": 1}}]}, "nobody has the role 'ghost'"),
        ({"rules": [{"when": {"risk": [2]}, "approvals": {"builder": 2}}]}, "rules.0.approvals asks for 2 with the role 'builder'"),
        ({"rules": [{"when": {"risk": [2]}, "trust": {"scan": {"role": "ghost"}}}]}, "nobody has the role 'ghost'"),
        ({"rules": [{"when": {"risk": [2]}, "trust": {"package": {"role": "builder"}}}]}, "package is not a key of rules.0.trust"),
        ({"rules": [{"when": {"risk": [2]}, "trust": {"opinion": {"role": "builder"}}}]}, "opinion is not a key of rules.0.trust"),
        ({"rules": [{"when": {"risk": [2]}, "opinions": {"ghost": {"quorum": 1, "minimum": 3}}}]}, "nobody has the role 'ghost'"),
        (
            {"rules": [{"when": {"risk": [2]}, "opinions": {"builder": {"quorum": 2, "minimum": 3}}}]},
            "rules.0.opinions.builder asks for 2 with the role 'builder'",
        ),
        ({"controls": [{"name": "scope", "that": "true", "reason": "x"}]}, "there is a control scope already"),
        ({"controls": [{"name": "own", "that": "true", "reason": "x"}] * 2}, "there is a control own already"),
        ({"controls": [{"name": "Own!", "that": "true", "reason": "x"}]}, "controls.0.name is 'Own!'"),
        ({"controls": [{"name": "own", "that": [], "reason": "x"}]}, "controls.0.that is a list"),
        ({"waivers": {"digest": {"role": "builder"}}}, "digest can't be waived"),
        ({"waivers": {"bogus": {"role": "builder"}}}, "bogus is no control"),
        ({"versions": {"minor": 0}}, "versions.minor is the number 0"),
    ],
)
def test_what_does_not_fit_together_is_refused(write: Write, changes: dict[str, Any], what: str) -> None:
    found = problems(write("policy", people=PEOPLE, approvals=..., **changes))
    assert any(problem.startswith(what) for problem in found), found


def test_no_control_of_its_own_takes_the_place_of_another(write: Write) -> None:
    own = [{"name": name, "that": "true", "reason": "x"} for name in CONTROLS]
    assert problems(write("policy", controls=own)) == [f"there is a control {name} already" for name in CONTROLS]


def test_rules_add_to_what_is_asked_of_the_changes_they_are_for(write: Write) -> None:
    rules = [
        {"when": {"risk": [2, 3]}, "documentation": ["*operations*"]},
        {"when": {"release": ["major"], "change": ["normal"]}, "approvals": {"builder": 1}, "trust": {"scan": {"role": "builder"}}},
    ]
    policy = load_policy(write("policy", people=PEOPLE, approvals=..., rules=rules, waivers={"own": {"role": "builder"}}, controls=[OWN]))
    assert policy.narrowed_to("minor", "normal", 4) == policy
    risky = policy.narrowed_to("minor", "standard", 3)
    assert (risky.documentation, risky.signed_by("standard"), risky.trust) == ({"minor": ("*operations*",)}, {}, {})
    major = policy.narrowed_to("major", "normal", 2)
    assert (major.approvals, major.signed_by("normal")) == (policy.approvals, {"builder": 1})
    assert major.trust == {"scan": Trust("builder")}
    assert policy.narrowed_to("major", "emergency", 2).trust == {}
    assert policy.controls == (OwnControl("own", ("rfc.risk > 2",), "too risky", ""),)


def test_only_an_emergency_waives_its_back_out(write: Write) -> None:
    waivers = {control: {"role": "builder"} for control in ("backout_plan", "rehearsal", "freeze")}
    policy = load_policy(write("policy", people=PEOPLE, waivers=waivers))
    assert (
        policy.narrowed_to("minor", "normal", 3).waivers.keys()
        == policy.narrowed_to("emergency", "standard", 3).waivers.keys()
        == {"freeze"}
    )
    assert policy.narrowed_to("minor", "emergency", 3).waivers == policy.waivers


def test_a_rule_s_approvals_come_on_top_of_those_that_are_asked_anyway(write: Write) -> None:
    rules = [{"when": {"risk": [2]}, "approvals": {"release-manager": 1}}]
    policy = load_policy(write("policy", people=PEOPLE, approvals={"normal": {"builder": 1}}, rules=rules))
    assert policy.narrowed_to("minor", "normal", 3).signed_by("normal") == {"builder": 1}
    assert policy.narrowed_to("minor", "normal", 2).signed_by("normal") == {"builder": 1, "release-manager": 1}
    policy = policy.narrowed_to("minor", "emergency", 2)
    assert (policy.approvals["emergency"], policy.signed_by("emergency")) == (1, {"release-manager": 1})


OWN = {"name": "own", "that": "rfc.risk > 2", "reason": "too risky"}
