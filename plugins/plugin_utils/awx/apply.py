# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring AWX to what is wanted: read what is there, change what differs, and believe only what it answers that it now has."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import TidegateError
from .client import AwxClient
from .wanted import AwxObject, AwxReference, Node

PAUSE = 2.0
"""Seconds between two looks at a project that is synchronised."""
_AT_WORK = frozenset({"new", "pending", "waiting", "running", "updating"})
_ENCRYPTED = "$encrypted$"  # in place of a secret that is set
_HIDDEN = "(not shown)"
_ALWAYS = "always_nodes"
_LINKS = ("success_nodes", "failure_nodes", _ALWAYS)
_NODES, _APPROVALS = "workflow_job_template_nodes", "workflow_approval_templates"


@dataclass(frozen=True)
class AwxChange:
    """One thing that was made or changed, or would be: before and after, the fields that differ alone."""

    what: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.what}: {', '.join(self.after) if self.before else 'new'}"


@dataclass(frozen=True)
class Unmade:
    """Stands for the id of what check mode did not make."""

    what: str


class Applier:
    """Makes changes in AWX, or only names them when ``write`` is false. ``changes`` has those so far, whatever came after them."""

    def __init__(self, client: AwxClient, write: bool) -> None:
        self._client = client
        self._write = write
        self._ids: dict[AwxReference, int | Unmade] = {}
        self.changes: list[AwxChange] = []

    def find(self, reference: AwxReference, **filters: Any) -> int:
        """The id of what has to be there already; raises :class:`TidegateError` when it is not there, or is there twice."""
        found = self._named(reference.kind, reference.name, filters)
        if found is None:
            kind = f" of the kind {reference.type}" if reference.type else ""
            owned = " that is the organization's" if "organization" in filters else ""
            what = f"{_said(reference.kind)} {reference.name!a:.80}{kind}{owned}"
            raise TidegateError(f"{self._client.host} has no {what}; make it there, or correct its name")
        self._ids[reference] = found["id"]
        return int(found["id"])

    def look(self, reference: AwxReference, **filters: Any) -> bool:
        """Whether something is there; if so, it can be referred to."""
        found = self._named(reference.kind, reference.name, filters)
        if found is not None:
            self._ids[reference] = found["id"]
        return found is not None

    def id_of(self, reference: AwxReference) -> int | Unmade:
        """The id of what was found or made before."""
        return self._ids[reference]

    def ensure(self, wanted: AwxObject) -> None:
        """Have one thing as it is wanted. What is made anew is one change, with its survey and what is attached to it."""
        what, reference = f"{_said(wanted.kind)} {wanted.name}", AwxReference(wanted.kind, wanted.name)
        fields = {name: self._resolved(value) for name, value in wanted.fields.items()}
        within = {name: self._ids[one] for name, one in wanted.within.items()}
        # What it would be in is not there, so neither is it.
        there = None if any(isinstance(one, Unmade) for one in within.values()) else self._named(wanted.kind, wanted.name, within)
        is_new = there is None
        if there is None:
            shown = {name: _HIDDEN if name in wanted.hidden else value for name, value in fields.items()}
            shown |= {"survey_spec": list(wanted.survey)} if wanted.survey else {}
            self._note(what, {}, shown | {relation: [one.name for one in added] for relation, added in wanted.attached.items() if added})
            if not self._write:
                self._ids[reference] = Unmade(what)
                return
            there = self._client.post(f"{wanted.kind}/", {"name": wanted.name, **fields})
            self._check(what, fields, there, wanted.hidden)
        else:
            self._update(f"{wanted.kind}/{there['id']}/", what, there, fields, wanted.hidden)
        self._ids[reference] = there["id"]
        path = f"{wanted.kind}/{there['id']}/"
        if wanted.survey is not None:
            self._survey(f"{path}survey_spec/", what, wanted.survey, is_new)
        for relation, references in wanted.attached.items():
            self._attach(f"{path}{relation}/", what, relation, references, is_new)

    def synchronised(self, project: AwxReference, patience: float) -> list[str] | None:
        """The playbooks of a project, once AWX has fetched it again; ``None`` when check mode did not make it.

        Check mode fetches nothing. Raises :class:`TidegateError` when it can't be fetched, or is not within ``patience`` seconds.
        """
        number = self._ids[project]
        if isinstance(number, Unmade):
            return None
        path, end = f"projects/{number}/", time.monotonic() + patience
        status = str(self._client.get(path).get("status"))
        if status not in _AT_WORK and self._write:
            self._client.post(f"{path}update/", {})
            status = "pending"
        while status in _AT_WORK and self._write:
            if time.monotonic() > end:
                raise TidegateError(
                    f"{self._client.host} is not done with fetching the project {project.name} after {patience:g} s ({status}); "
                    "look at its job there, and run this again"
                )
            time.sleep(PAUSE)
            status = str(self._client.get(path).get("status"))
        if self._write and status != "successful":
            raise TidegateError(
                f"{self._client.host} could not fetch the project {project.name} ({status!a:.40}); look at its last job there, mend that "
                "and run this again"
            )
        return self._client.texts(f"{path}playbooks/")

    def ensure_nodes(self, workflow: AwxObject, nodes: Sequence[Node], templates: Mapping[str, AwxReference]) -> None:
        """Have the steps of a workflow, and what follows on what, as they are wanted; steps that the team added stay as they are."""
        number = self._ids[AwxReference(workflow.kind, workflow.name)]
        there: dict[str, dict[str, Any]] = {}
        if not isinstance(number, Unmade):
            listed = self._client.every(f"workflow_job_templates/{number}/workflow_nodes/")
            there = {str(one.get("identifier")): one for one in listed}
        new = {node.name for node in nodes} - there.keys()
        for node in nodes:
            what = f"step {node.name} of {_said(workflow.kind)} {workflow.name}"
            fields = {} if node.approval else {"unified_job_template": self._ids[templates[node.name]]}
            if node.name in new:
                follows = {"success_nodes": node.success, "failure_nodes": node.failure}
                asked = {"description": node.approval} if node.approval else {}
                self._note(what, {}, {**fields, **asked, **{name: list(names) for name, names in follows.items() if names}})
                if not self._write:
                    continue
                content = {"workflow_job_template": number, "identifier": node.name, **fields}
                there[node.name] = self._client.post(f"{_NODES}/", content)
                self._check(what, content, there[node.name])
            elif fields:
                self._update(f"{_NODES}/{there[node.name]['id']}/", what, there[node.name], fields)
            if node.approval:
                self._decision(node, what, there[node.name], node.name in new)
        for node in nodes:
            if node.name in there:  # or check mode did not make it
                self._follow(node, there, {one.name for one in nodes}, node.name in new)

    def _decision(self, node: Node, what: str, there: Mapping[str, Any], is_new: bool) -> None:
        """Have a step be a decision of people."""
        fields = {"name": node.name, "description": node.approval}
        summary = there.get("summary_fields", {}).get("unified_job_template", {})
        if summary.get("unified_job_type") == "workflow_approval":
            path = f"{_APPROVALS}/{summary['id']}/"
            self._update(path, what, self._client.get(path), fields)
            return
        if not is_new:
            self._note(what, {"decision": None}, {"decision": node.approval})
        if self._write:
            made = self._client.post(f"{_NODES}/{there['id']}/create_approval_template/", {**fields, "timeout": 0})
            self._check(what, fields, made)

    def _follow(self, node: Node, there: Mapping[str, Mapping[str, Any]], ours: Collection[str], is_new: bool) -> None:
        """Have those steps follow that have to, and no others of ``ours``."""
        before = _followers(there[node.name], there)
        wanted = {"success_nodes": node.success, "failure_nodes": node.failure, _ALWAYS: ()}
        # One that the team has follow always does follow, and AWX would take no second link to it.
        kept = {**wanted, _ALWAYS: (*node.success, *node.failure)}
        after: dict[str, list[str]] = {}
        ended: list[tuple[str, str]] = []
        begun: list[tuple[str, str]] = []
        for relation in _LINKS:
            # A way that the team has led over steps of its own, such as a decision, is not to be gone round by a link of ours.
            passed = set(before[_ALWAYS]) | _reached((*before[relation], *before[_ALWAYS]), there, ours)
            gone = [name for name in before[relation] if name in ours and name not in kept[relation]]
            new = [name for name in wanted[relation] if name not in before[relation] and name not in passed]
            after[relation] = [name for name in before[relation] if name not in gone] + new
            ended += [(relation, name) for name in gone]
            begun += [(relation, name) for name in new]
        other = [relation for relation in _LINKS if before[relation] != after[relation]]
        if other and not is_new:
            self._note(
                f"what follows on step {node.name}",
                {relation: before[relation] for relation in other},
                {relation: after[relation] for relation in other},
            )
        if not self._write:
            return
        path = f"{_NODES}/{there[node.name]['id']}"
        for relation, name in ended:  # first, as AWX takes no second link between two steps
            self._client.post(f"{path}/{relation}/", {"id": there[name]["id"], "disassociate": True})
        for relation, name in begun:
            self._client.post(f"{path}/{relation}/", {"id": there[name]["id"]})

    def _named(self, kind: str, name: str, filters: Mapping[str, Any]) -> dict[str, Any] | None:
        # A filter that AWX does not know would find everything, and its order is its own: what comes is looked at.
        found = [one for one in self._client.every(f"{kind}/", name=name, **filters) if one.get("name") == name]
        if len(found) > 1:
            raise TidegateError(f"{self._client.host} has {len(found)} of {_said(kind)} {name!a:.80}; leave one of them there")
        return found[0] if found else None

    def _resolved(self, value: Any) -> Any:
        return self._ids[value] if isinstance(value, AwxReference) else value

    def _note(self, what: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        def shown(values: Mapping[str, Any]) -> dict[str, Any]:
            return {name: f"(new) {value.what}" if isinstance(value, Unmade) else value for name, value in values.items()}

        self.changes.append(AwxChange(what, shown(before), shown(after)))

    def _update(self, path: str, what: str, there: Mapping[str, Any], fields: Mapping[str, Any], hidden: Collection[str] = ()) -> None:
        """Change those fields of something that are not as they have to be."""
        other = {name: value for name, value in fields.items() if not _same(there.get(name), value, name in hidden)}
        if not other:
            return
        before = {name: _HIDDEN if name in hidden else there.get(name) for name in other}
        self._note(what, before, {name: _HIDDEN if name in hidden else value for name, value in other.items()})
        if self._write:
            self._check(what, other, self._client.patch(path, other), hidden)

    def _check(self, what: str, fields: Mapping[str, Any], answer: Mapping[str, Any], hidden: Collection[str] = ()) -> None:
        """AWX ignores what it does not know without a word."""
        lost = sorted(name for name, value in fields.items() if not _same(answer.get(name), value, name in hidden))
        if lost or not isinstance(answer.get("id"), int):
            raise self._lost(what, ", ".join(lost) or "it")

    def _lost(self, what: str, part: str) -> TidegateError:
        return TidegateError(f"{self._client.host} took {what} and did not keep {part}; look whether this version of AWX has that")

    def _survey(self, path: str, what: str, questions: Sequence[Mapping[str, Any]], is_new: bool) -> None:
        before = [] if is_new else self._client.get(path).get("spec") or []
        if before == list(questions):
            return
        if not is_new:
            self._note(f"survey of {what}", {"spec": before}, {"spec": list(questions)})
        if not self._write:
            return
        if not questions:  # an empty one is refused
            self._client.delete(path)
        else:
            self._client.post(path, {"name": "", "description": "", "spec": list(questions)})
        if (self._client.get(path).get("spec") or []) != list(questions):
            raise self._lost(f"the survey of {what}", "it")

    def _attach(self, path: str, what: str, relation: str, references: Sequence[AwxReference], is_new: bool) -> None:
        """Have some things among those that are attached; where there is another credential of the same type, that is the team's choice."""
        there = [] if is_new else self._client.every(path)
        taken = {one.get("credential_type") for one in there if one.get("type") == "credential"}
        for reference in references:
            number = self._ids[reference]
            if any(one["id"] == number for one in there):
                continue
            if reference.kind == "credentials" and taken and self._client.get(f"credentials/{number}/").get("credential_type") in taken:
                continue
            if not is_new:
                names = [one.get("name") for one in there]
                self._note(f"{relation.replace('_', ' ')} of {what}", {relation: names}, {relation: [*names, reference.name]})
            if self._write:
                self._client.post(path, {"id": number})


def said_after(error: TidegateError, changes: Sequence[AwxChange]) -> TidegateError:
    """The error of a change that was not the first one, with what was done before it."""
    if not changes:
        return error
    done = "1 change was" if len(changes) == 1 else f"{len(changes)} changes were"
    return TidegateError(f"{error}; {done} begun until then, the last of {changes[-1].what}, and the same command goes on from there")


def _followers(node: Mapping[str, Any], there: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """By relation, the names of the steps that follow on one."""
    names = {one["id"]: name for name, one in there.items()}
    return {relation: [names[one] for one in node.get(relation, ()) if one in names] for relation in _LINKS}


def _reached(begin: Sequence[str], there: Mapping[str, Mapping[str, Any]], ours: Collection[str]) -> set[str]:
    """The steps of ``ours`` that follow, at once or later, on those of ``begin`` that are not."""
    reached, seen, left = set[str](), set[str](), [name for name in begin if name not in ours]
    while left:
        name = left.pop()
        if name in ours:
            reached.add(name)
        elif name not in seen:
            seen.add(name)
            left += [one for names in _followers(there[name], there).values() for one in names]
    return reached


def _same(have: Any, want: Any, hidden: bool) -> bool:
    """Whether AWX has what is wanted: to what is hidden it adds keys, and in place of a secret it says only that there is one."""
    if hidden and isinstance(want, Mapping) and isinstance(have, Mapping):
        return all(name in have and have[name] in (value, _ENCRYPTED) for name, value in want.items())
    return bool(have == want)


def _said(kind: str) -> str:
    """A kind as people say it."""
    return {"inventories": "inventory"}.get(kind, kind.removesuffix("s")).replace("_", " ")
