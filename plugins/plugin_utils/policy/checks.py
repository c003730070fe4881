# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the schema can't say about a policy: that people, roles, steps and controls fit together. Notes every problem in the document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..documents import Document, Place
from .model import Person, Waivable

STEPS = ("archive", "verify", "approve", "deploy", "back_out", "audit")


def check_roles(document: Document, people: Mapping[str, Person]) -> None:
    """Enough people with a key have to have each role, or what is asked for could never be given."""
    for section in ("trust", "waivers"):
        trust = document.data.get(section, {})
        for kind, wanted in trust.items() if isinstance(trust, dict) else ():
            if document.is_good((section, kind)):
                place = (section, kind, "threshold" if "threshold" in wanted else "role")
                _check_role(document, people, wanted["role"], wanted.get("threshold", 1), (section, kind, "role"), place)
    rules = document.data.get("rules", [])
    asked = (
        [document.data.get("trust"), *(rule.get("trust") for rule in rules if isinstance(rule, dict))] if isinstance(rules, list) else []
    )
    if document.is_good(("verification",)) and not any(isinstance(trust, dict) and "test-result" in trust for trust in asked):
        document.problem(("verification",), "nobody is trusted to verify", "say under trust who signs a test-result")
    opinions = document.data.get("opinions", {})
    for role, wanted in opinions.items() if isinstance(opinions, dict) else ():
        if document.is_good(("opinions", role)):
            _check_role(document, people, role, wanted["quorum"], ("opinions", role, "quorum"), ("opinions", role, "quorum"))
    approvals = document.data.get("approvals", {})
    for kind, wanted in approvals.items() if isinstance(approvals, dict) else ():
        if document.is_good(("approvals", kind)) and isinstance(wanted, dict):
            for role, threshold in wanted.items():
                _check_role(document, people, role, threshold, ("approvals", kind, role), ("approvals", kind, role))
    for role, threshold in document.data.get("no_return", {}).items() if document.is_good(("no_return",)) else ():
        _check_role(document, people, role, threshold, ("no_return", role), ("no_return", role))
    if document.is_good(("rules",)):
        for index, rule in enumerate(document.data.get("rules", ())):
            _check_rule(document, people, ("rules", index), rule)


def _check_rule(document: Document, people: Mapping[str, Person], place: Place, rule: Mapping[str, Any]) -> None:
    for role, threshold in rule.get("approvals", {}).items():
        _check_role(document, people, role, threshold, (*place, "approvals", role), (*place, "approvals", role))
    for role, wanted in rule.get("opinions", {}).items():
        name = (*place, "opinions", role, "quorum")
        _check_role(document, people, role, wanted["quorum"], name, name)
    for kind, wanted in rule.get("trust", {}).items():
        name = (*place, "trust", kind)
        _check_role(document, people, wanted["role"], wanted.get("threshold", 1), (*name, "role"), name)


def _check_role(document: Document, people: Mapping[str, Person], role: str, threshold: int, name: Place, number: Place) -> None:
    """``name`` and ``number`` are where the role and the threshold are written."""
    holders = sorted(one for one, described in people.items() if role in described.roles)
    able = [one for one in holders if document.data["people"][one].get("keys")]
    if not holders:
        document.problem(name, f"nobody has the role {role!a}", "give it to somebody under people, or correct it")
    elif len(able) < threshold:
        have = f"{len(able)} with a key {'has' if len(able) == 1 else 'have'} it"
        what = ".".join(str(part) for part in name[:-1])
        document.problem(number, f"{what} asks for {threshold} with the role {role!a}, but {have}", "lower it, or give the role to more")


def check_steps(document: Document) -> None:
    place = ("rollout", "steps")
    if document.is_good(place):
        steps = document.data["rollout"]["steps"]
        if steps != sorted(set(steps)) or steps[-1] != 100:
            document.problem(place, f"the steps are {steps}", "let them rise and end with 100")


def check_responsibilities(document: Document, people: Mapping[str, Person]) -> None:
    """Each step has to name roles that somebody has, and whoever signs for a step has to have a part in it."""
    matrix = document.data.get("responsibilities")
    if not isinstance(matrix, dict) or not matrix or not document.is_good(("responsibilities",)):
        return
    for step in STEPS:
        if step not in matrix:
            document.problem(
                ("responsibilities",), f"the step {step} names nobody", f"name who is responsible and accountable under {step}"
            )
    for step, parts in matrix.items():
        for part, roles in parts.items():
            for index, role in enumerate([roles] if isinstance(roles, str) else roles):
                if not any(role in described.roles for described in people.values()):
                    place: Place = ("responsibilities", step, part, *(() if isinstance(roles, str) else (index,)))
                    document.problem(place, f"nobody has the role {role!a}", "give it to somebody under people, or correct it")
    for place, role, step in _signing(document):
        parts = matrix.get(step, {})
        if role not in (*parts.get("responsible", ()), parts.get("accountable")):
            remedy = f"name it under responsibilities.{step}, or ask for a role that is"
            document.problem(place, f"{role!a} signs for the step {step}, but is neither responsible nor accountable for it", remedy)


def _signing(document: Document) -> Iterator[tuple[Place, str, str]]:
    """Where the policy asks a role to sign, and for which step."""
    steps = {"test-result": "verify"}
    sections = [((), document.data), *((("rules", index), rule) for index, rule in enumerate(document.data.get("rules", ())))]
    for place, section in sections:
        for kind, wanted in section.get("trust", {}).items():
            yield (*place, "trust", kind, "role"), wanted["role"], steps.get(kind, "archive")
        for kind, asked in section.get("approvals", {}).items():
            if place and isinstance(asked, int):
                yield (*place, "approvals", kind), kind, "approve"
            elif isinstance(asked, dict):
                for role in asked:
                    yield (*place, "approvals", kind, role), role, "approve"


def check_controls(document: Document, controls: Mapping[str, Waivable]) -> None:
    """A team's own control has a name of its own, and only what may be waived is.

    ``controls`` are those that there are anyway; a team's own can always be waived.
    """
    waivable = {name for name, when in controls.items() if when is not Waivable.NEVER}
    listed = document.data.get("controls", [])
    own: set[str] = set()
    for index, control in enumerate(listed if isinstance(listed, list) else []):
        if document.is_good(("controls", index, "name")):
            name = control["name"]
            if name in controls or name in own:
                document.problem(("controls", index, "name"), f"there is a control {name} already", "give this one another name")
            own.add(name)
    waivers = document.data.get("waivers")
    for name in waivers if isinstance(waivers, dict) else ():
        if name not in waivable and name not in own:
            what = "can't be waived" if name in controls else "is no control"
            document.problem(("waivers", name), f"{name} {what}", f"leave it out; these can be: {', '.join(sorted({*waivable, *own}))}")
