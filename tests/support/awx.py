# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for AWX, written from what its serializers, models and views accept and refuse (awx/api, awx/main at version 24).

AWX itself can't run here. So this one is stricter: it refuses fields and filters that it does not know, where AWX ignores such fields
without a word. That, too, it does when it is told to.
"""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jinja2
import jinja2.sandbox
import jsonschema
from answering import serve_http
from dateutil.rrule import rrulestr
from registry import make_certificate

TOKEN = "Zq81-geheim-awx-token"  # noqa: S105 - a test's own
HTML = b"<html><body><h1>Log in</h1></body></html>"
_BASIC = {"name": "", "description": ""}
_TEXT = ("scm_branch", "limit", "job_tags", "skip_tags")
_PROMPTS = {
    f"ask_{what}_on_launch": False
    for what in ("scm_branch", "diff_mode", "variables", "limit", "tags", "skip_tags", "job_type", "verbosity", "inventory", "credential")
}


@dataclass(frozen=True)
class Model:
    """What a kind has: fields with their defaults, which have to be given, to what other kind they refer, and what is there once only."""

    fields: dict[str, Any]
    required: tuple[str, ...] = ("name",)
    refers: dict[str, str] = field(default_factory=dict)
    unique: tuple[str, ...] = ("name", "organization")
    fixed: tuple[str, ...] = ()  # read-only
    frozen: tuple[str, ...] = ()  # read-only once it is there
    relations: dict[str, str] = field(default_factory=dict)


_EVENTS = {f"notification_templates_{event}": "notification_templates" for event in ("started", "success", "error")}
_OWNED = {"organization": "organizations"}
MODELS = {
    "organizations": Model({**_BASIC, "max_hosts": 0, "default_environment": None}, unique=("name",)),
    "credential_types": Model(
        {**_BASIC, "kind": "", "namespace": None, "managed": False, "inputs": {}, "injectors": {}},
        required=("name", "kind"),
        unique=("name", "kind"),
        fixed=("namespace", "managed"),
    ),
    "credentials": Model(
        {**_BASIC, "organization": None, "credential_type": None, "inputs": {}},
        required=("name", "credential_type", "organization"),
        refers={**_OWNED, "credential_type": "credential_types"},
        unique=("organization", "name", "credential_type"),
    ),
    "execution_environments": Model(
        {**_BASIC, "organization": None, "image": "", "credential": None, "pull": ""},
        required=("name", "image"),
        refers={**_OWNED, "credential": "credentials"},
        unique=("name",),
    ),
    "projects": Model(
        {
            **_BASIC,
            "organization": None,
            "scm_type": "",
            "scm_url": "",
            "scm_branch": "",
            "credential": None,
            "scm_update_on_launch": False,
            "allow_override": False,
            "default_environment": None,
            "status": "never updated",
        },
        refers={**_OWNED, "credential": "credentials", "default_environment": "execution_environments"},
        fixed=("status",),
    ),
    "inventories": Model({**_BASIC, "organization": None, "kind": "", "variables": ""}, required=("name", "organization"), refers=_OWNED),
    "inventory_sources": Model(
        {
            **_BASIC,
            "inventory": None,
            "source": None,
            "source_project": None,
            "source_path": "",
            "source_vars": "",
            "credential": None,
            "execution_environment": None,
            "overwrite": False,
            "overwrite_vars": False,
            "update_on_launch": False,
            "status": "never updated",
        },
        required=("name", "inventory", "source"),
        refers={
            "inventory": "inventories",
            "source_project": "projects",
            "credential": "credentials",
            "execution_environment": "execution_environments",
        },
        unique=("name", "inventory"),
        fixed=("status",),
        frozen=("inventory",),
    ),
    "notification_templates": Model(
        {**_BASIC, "organization": None, "notification_type": "", "notification_configuration": {}, "messages": None},
        required=("name", "organization", "notification_type"),
        refers=_OWNED,
    ),
    "job_templates": Model(
        {
            **_BASIC,
            "organization": None,
            "job_type": "run",
            "inventory": None,
            "project": None,
            "playbook": "",
            "extra_vars": "",
            "execution_environment": None,
            "survey_enabled": False,
            "allow_simultaneous": False,
            "job_slice_count": 1,
            **dict.fromkeys(_TEXT, ""),
            **_PROMPTS,
        },
        required=("name", "project"),
        refers={
            **_OWNED,
            "inventory": "inventories",
            "project": "projects",
            "execution_environment": "execution_environments",
        },
        fixed=("organization",),  # it is the project's
        relations={"credentials": "credentials", **_EVENTS},
    ),
    "workflow_job_templates": Model(
        {
            **_BASIC,
            "organization": None,
            "inventory": None,
            "extra_vars": "",
            "survey_enabled": False,
            "allow_simultaneous": False,
            **dict.fromkeys(_TEXT),
        },
        refers={**_OWNED, "inventory": "inventories"},
        relations={**_EVENTS, "notification_templates_approvals": "notification_templates"},
    ),
    "workflow_job_template_nodes": Model(
        {
            "workflow_job_template": None,
            "unified_job_template": None,
            "identifier": "",
            "all_parents_must_converge": False,
            "extra_data": {},
            "success_nodes": [],
            "failure_nodes": [],
            "always_nodes": [],
        },
        required=("workflow_job_template",),
        refers={"workflow_job_template": "workflow_job_templates", "unified_job_template": "job_templates"},
        unique=("identifier", "workflow_job_template"),
        fixed=("success_nodes", "failure_nodes", "always_nodes"),
        frozen=("workflow_job_template",),
    ),
    "workflow_approval_templates": Model({**_BASIC, "timeout": 0}, unique=()),
    "schedules": Model(
        {**_BASIC, "unified_job_template": None, "rrule": "", "enabled": True, "extra_data": {}},
        required=("name", "unified_job_template", "rrule"),
        refers={"unified_job_template": "job_templates"},
        unique=("unified_job_template", "name"),
    ),
}
_LINKS = ("success_nodes", "failure_nodes", "always_nodes")
_SURVEYED = ("job_templates", "workflow_job_templates")
_QUESTION_TYPES = {
    "text": str,
    "textarea": str,
    "password": str,
    "multiplechoice": str,
    "multiselect": str,
    "integer": int,
    "float": (int, float),
}
# By type of notification, its fields; a default makes one that may be left out.
_CONFIGURATIONS: dict[str, dict[str, tuple[type, Any]]] = {
    "webhook": {
        "url": (str, ...),
        "http_method": (str, "POST"),
        "disable_ssl_verification": (bool, False),
        "username": (str, ""),
        "password": (str, ""),
        "headers": (dict, ...),
    },
    "slack": {"token": (str, ...), "channels": (list, ...)},
}
_SECRET_FIELDS = {"webhook": ("password",), "slack": ("token",)}
_NAME = "^[a-zA-Z_]+[a-zA-Z0-9_]*$"
_STRINGS = {"type": "object", "additionalProperties": {"type": "string"}, "propertyNames": {"pattern": _NAME}}
_INPUTS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "required": {"type": "array", "items": {"type": "string"}},
        "fields": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["id", "label"],
                "properties": {
                    "type": {"enum": ["string", "boolean"]},
                    "format": {"enum": ["ssh_private_key", "url"]},
                    "choices": {"type": "array", "minItems": 1, "items": {"type": "string"}},
                    "id": {"type": "string", "pattern": _NAME},
                    "label": {"type": "string"},
                    "help_text": {"type": "string"},
                    "multiline": {"type": "boolean"},
                    "secret": {"type": "boolean"},
                    "default": {},
                },
            },
        },
    },
}
_INJECTORS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "file": {"type": "object", "additionalProperties": {"type": "string"}, "propertyNames": {"pattern": r"^template(\.\w+)?$"}},
        "env": _STRINGS,
        "extra_vars": _STRINGS,
    },
}


class RefusedError(Exception):
    """The request is answered with this status and document, and nothing is changed."""

    def __init__(self, status: int, document: Any) -> None:
        super().__init__(str(document))
        self.status, self.document = status, document


def _invalid(**faults: str) -> RefusedError:
    return RefusedError(400, {name: [text] for name, text in faults.items()})


@dataclass
class Awx:
    """What it holds and how it behaves; everything may be changed while it runs.

    ``playbooks``: those of the repository, which the project has once it is fetched. That takes ``looks`` looks at it and ends as ``ends``.
    ``page``: entries of a page at most. ``ignores``: fields that it takes without a word and does not keep. ``fault``: whether a request,
    by method and path, is answered with ``(status, headers, body)`` in place of an answer.
    """

    host: str
    authority: Path
    rows: dict[str, dict[int, dict[str, Any]]] = field(default_factory=lambda: {kind: {} for kind in MODELS})
    attached: dict[tuple[str, int, str], list[int]] = field(default_factory=dict)
    surveys: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    playbooks: list[str] = field(default_factory=list)
    looks: int = 2
    ends: str = "successful"
    page: int = 5
    ignores: set[str] = field(default_factory=set)
    fault: Callable[[str, str], tuple[int, dict[str, str], bytes] | None] = lambda _method, _path: None
    requests: list[tuple[str, str]] = field(default_factory=list)
    last: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """Who the tests are to it."""
        return {"CONTROLLER_HOST": f"https://{self.host}", "CONTROLLER_OAUTH_TOKEN": TOKEN, "REQUESTS_CA_BUNDLE": str(self.authority)}

    @property
    def writes(self) -> list[tuple[str, str]]:
        """The requests that were to change something."""
        return [one for one in self.requests if one[0] != "GET"]

    def make(self, kind: str, /, **fields: Any) -> int:
        """Enter something as its administrator would."""
        return int(self.create(kind, fields)["id"])

    def named(self, kind: str, name: str) -> dict[str, Any]:
        """The one of that name."""
        found = [row for row in self.rows[kind].values() if name in (row.get("name"), row.get("identifier"))]
        assert len(found) == 1, f"{len(found)} of {kind} {name}"
        return found[0]

    def names(self, kind: str) -> list[str]:
        """Of all of them."""
        return sorted(row.get("name") or row.get("identifier", "") for row in self.rows[kind].values())

    def attached_names(self, kind: str, name: str, relation: str) -> list[str]:
        """The names of what is attached to something."""
        there = self.attached.get((kind, self.named(kind, name)["id"], relation), [])
        return sorted(self.rows[MODELS[kind].relations[relation]][one]["name"] for one in there)

    def survey(self, kind: str, name: str) -> list[dict[str, Any]]:
        """The questions of a template."""
        found: list[dict[str, Any]] = self.surveys.get((kind, self.named(kind, name)["id"]), {}).get("spec", [])
        return found

    def links(self) -> dict[str, dict[str, list[str]]]:
        """By step of a workflow, what follows on it."""
        nodes = self.rows["workflow_job_template_nodes"]
        return {
            row["identifier"]: {link: sorted(nodes[one]["identifier"] for one in row[link]) for link in _LINKS if row[link]}
            for row in nodes.values()
        }

    # -- the API -----------------------------------------------------------

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        matched = re.fullmatch(r"/api/v2/([a-z_]+)/(?:([0-9]+)/(?:([a-z_]+)/)?)?", path)
        if not matched or matched[1] not in MODELS or (matched[2] and int(matched[2]) not in self.rows[matched[1]]):
            raise RefusedError(404, {"detail": "The requested resource could not be found."})
        kind, number, part = matched[1], int(matched[2] or 0), matched[3]
        if part:
            return self.part(method, kind, number, part, query, body)
        if not number and method == "GET":
            return 200, self.listed([self.shown(kind, row) for row in self.matching(kind, query)], path, query)
        if not number and method == "POST" and kind != "workflow_approval_templates":
            return 201, self.shown(kind, self.create(kind, body))
        if number and method == "GET":
            return 200, self.look(kind, number)
        if number and method == "PATCH":
            return 200, self.shown(kind, self.change(kind, number, body))
        raise RefusedError(405, {"detail": f'Method "{method}" not allowed.'})

    def part(self, method: str, kind: str, number: int, part: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        """What is below one thing."""
        if part == "survey_spec" and kind in _SURVEYED:
            return self.survey_spec(method, (kind, number), body)
        if part in MODELS[kind].relations:
            return self.relation(method, kind, number, part, query, body)
        if kind == "workflow_job_template_nodes" and part in _LINKS and method == "POST":
            return self.link(number, part, body)
        others = {
            ("projects", "playbooks", "GET"): self.project_playbooks,
            ("projects", "update", "POST"): self.update_project,
            ("workflow_job_templates", "workflow_nodes", "GET"): self.workflow_nodes,
            ("workflow_job_template_nodes", "create_approval_template", "POST"): self.create_approval,
        }
        if (kind, part, method) not in others:
            raise RefusedError(404, {"detail": "The requested resource could not be found."})
        return others[kind, part, method](number, query, body)

    def project_playbooks(self, number: int, query: dict[str, str], body: Any) -> tuple[int, Any]:
        return 200, self.rows["projects"][number].get("_playbooks", [])

    def update_project(self, number: int, query: dict[str, str], body: Any) -> tuple[int, Any]:
        self.rows["projects"][number] |= {"status": "pending", "_looks": self.looks}
        return 202, {"project_update": 1}

    def workflow_nodes(self, number: int, query: dict[str, str], body: Any) -> tuple[int, Any]:
        kind = "workflow_job_template_nodes"
        nodes = [self.shown(kind, row) for row in self.rows[kind].values() if row["workflow_job_template"] == number]
        return 200, self.listed(nodes, f"/api/v2/workflow_job_templates/{number}/workflow_nodes/", query)

    def create_approval(self, number: int, query: dict[str, str], body: Any) -> tuple[int, Any]:
        if unknown := set(body) - {"name", "description", "timeout"}:
            raise _invalid(**dict.fromkeys(unknown, "Unknown field."))
        made = self.create("workflow_approval_templates", body)
        self.rows["workflow_job_template_nodes"][number]["unified_job_template"] = made["id"]
        return 201, self.shown("workflow_approval_templates", made)

    def matching(self, kind: str, query: dict[str, str]) -> list[dict[str, Any]]:
        rows = list(self.rows[kind].values())
        for path, value in query.items():
            if path in ("page", "page_size", "order_by"):
                continue
            name, _, inner = path.partition("__")
            other = MODELS[kind].refers.get(name, "")
            if name not in MODELS[kind].fields or (inner and inner not in (MODELS[other].fields if other else ())):
                raise RefusedError(400, {"detail": f"{kind} has no field named '{path}'"})
            if inner:
                rows = [row for row in rows if row[name] is not None and str(self.rows[other][row[name]][inner]) == value]
                continue
            if other and not value.isdigit():
                raise RefusedError(400, {"detail": f"Field '{name}' expected a number but got '{value}'."})
            rows = [row for row in rows if str(row[name]) == value]
        return rows

    def listed(self, rows: list[dict[str, Any]], path: str, query: dict[str, str]) -> dict[str, Any]:
        size, number = min(int(query.get("page_size", 25)), self.page), int(query.get("page", 1))
        if number > 1 and (number - 1) * size >= len(rows):
            raise RefusedError(404, {"detail": "Invalid page."})
        more = f"{path}?page={number + 1}" if number * size < len(rows) else None
        return {"count": len(rows), "next": more, "previous": None, "results": rows[(number - 1) * size : number * size]}

    def look(self, kind: str, number: int) -> dict[str, Any]:
        row = self.rows[kind][number]
        if row.get("_looks"):
            row["_looks"] -= 1
            row["status"] = "running" if row["_looks"] else self.ends
            if row["status"] == "successful":
                row["_playbooks"] = list(self.playbooks)
        return self.shown(kind, row)

    def shown(self, kind: str, row: dict[str, Any]) -> dict[str, Any]:
        shown = {name: value for name, value in row.items() if not name.startswith("_")}
        kind_said = {"inventories": "inventory"}.get(kind, kind.removesuffix("s"))
        shown |= {"type": kind_said, "url": f"/api/v2/{kind}/{row['id']}/", "related": {}, "summary_fields": {}}
        if kind == "credentials":
            fields = self.rows["credential_types"][row["credential_type"]]["inputs"].get("fields", [])
            secret = tuple(one["id"] for one in fields if one.get("secret"))
            shown["inputs"] = {name: "$encrypted$" if name in secret else value for name, value in row["inputs"].items()}
        if kind == "notification_templates":
            secret = _SECRET_FIELDS[row["notification_type"]]
            shown["notification_configuration"] = {
                name: "$encrypted$" if name in secret and value else value for name, value in row["notification_configuration"].items()
            }
        if kind == "workflow_job_template_nodes" and (number := row["unified_job_template"]):
            approval = number in self.rows["workflow_approval_templates"]
            there = self.rows["workflow_approval_templates" if approval else "job_templates"][number]
            summary = {"id": number, "name": there["name"], "description": there["description"]}
            shown["summary_fields"] = {"unified_job_template": summary | {"unified_job_type": "workflow_approval" if approval else "job"}}
        return json.loads(json.dumps(shown))  # type: ignore[no-any-return]  # a copy, as it would be on the wire

    # -- changes -----------------------------------------------------------

    def create(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        model = MODELS[kind]
        if missing := [name for name in model.required if body.get(name) in (None, "")]:
            raise _invalid(**dict.fromkeys(missing, "This field is required."))
        row = json.loads(json.dumps(model.fields)) | self.taken(kind, body, ())
        return self.save(kind, self.last + 1, row, {})

    def change(self, kind: str, number: int, body: dict[str, Any]) -> dict[str, Any]:
        before = self.rows[kind][number]
        return self.save(kind, number, before | self.taken(kind, body, MODELS[kind].frozen), before)

    def taken(self, kind: str, body: dict[str, Any], frozen: tuple[str, ...]) -> dict[str, Any]:
        model = MODELS[kind]
        if not isinstance(body, dict):
            raise RefusedError(400, {"detail": "JSON parse error"})
        settable = model.fields.keys() - set(model.fixed) - set(frozen)
        if unknown := body.keys() - settable - self.ignores:
            raise _invalid(**dict.fromkeys(unknown, "Unknown or read-only field."))
        taken = {name: value for name, value in body.items() if name not in self.ignores}
        for name, value in taken.items():
            default = model.fields[name]
            if name in model.refers:
                kinds = [model.refers[name], *(["workflow_job_templates"] if name == "unified_job_template" else [])]
                if value is not None and (type(value) is not int or not any(value in self.rows[one] for one in kinds)):
                    raise _invalid(**{name: f'Invalid pk "{value}" - object does not exist.'})
            elif isinstance(default, bool | str | dict) and type(value) is not type(default):
                raise _invalid(**{name: f"Not a valid {type(default).__name__}."})
        return taken

    def save(self, kind: str, number: int, row: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
        check = getattr(self, f"check_{kind}", None)
        if check:
            check(row, before)
        model = MODELS[kind]
        others = [other for key, other in self.rows[kind].items() if key != number]
        if model.unique and any(all(row[name] == other[name] for name in model.unique) for other in others):
            raise RefusedError(400, {"__all__": [f"{kind} with this {' and '.join(model.unique)} already exists."]})
        self.last = max(self.last, number)
        self.rows[kind][number] = row | {"id": number}
        return self.rows[kind][number]

    def check_credential_types(self, row: dict[str, Any], before: dict[str, Any]) -> None:
        in_use = before and any(one["credential_type"] == before["id"] for one in self.rows["credentials"].values())
        if in_use and row["inputs"] != before["inputs"]:
            raise RefusedError(403, {"detail": "Modifications to inputs are not allowed for credential types that are in use"})
        if row["kind"] not in ("cloud", "net") and self.requests:
            raise _invalid(kind=f"Must be 'cloud' or 'net', not {row['kind']}")
        try:
            jsonschema.validate(row["inputs"], _INPUTS)
            jsonschema.validate(row["injectors"], _INJECTORS)
        except jsonschema.ValidationError as error:
            raise _invalid(inputs=error.message) from None
        fields = row["inputs"].get("fields", [])
        if len({one["id"] for one in fields}) < len(fields) or any(one["id"] == "tower" for one in fields):
            raise _invalid(inputs="field IDs must be unique")
        for one in fields:
            one.setdefault("type", "string")
        names: dict[str, Any] = {one["id"]: "EXAMPLE" for one in fields}
        if "template" in row["injectors"].get("file", {}):
            names["tower"] = {"filename": "EXAMPLE"}
        for part, injectors in row["injectors"].items():
            for name, template in injectors.items():
                if part == "env" and (name.startswith("ANSIBLE_") or not template.isascii()):
                    raise _invalid(injectors=f"Environment variable {name} is not allowed to be used in credentials.")
                try:
                    jinja2.sandbox.ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined).from_string(template).render(names)
                except jinja2.TemplateError as error:
                    raise _invalid(injectors=f"{name} uses an undefined field ({error})") from None

    def check_credentials(self, row: dict[str, Any], before: dict[str, Any]) -> None:
        known = {one["id"] for one in self.rows["credential_types"][row["credential_type"]]["inputs"].get("fields", [])}
        if unknown := row["inputs"].keys() - known:
            raise _invalid(inputs=f"Additional properties are not allowed ({unknown} were unexpected)")

    def kind_of(self, credential: int) -> str:
        return str(self.rows["credential_types"][self.rows["credentials"][credential]["credential_type"]]["kind"])

    def check_execution_environments(self, row: dict[str, Any], before: dict[str, Any]) -> None:
        if before and row["organization"] not in (None, before["organization"]):
            raise _invalid(organization="Cannot change the organization of an execution environment")

    def check_projects(self, row: dict[str, Any], before: dict[str, Any]) -> None:
        if row["scm_type"] not in ("", "git", "svn", "insights", "archive"):
            raise _invalid(scm_type=f'"{row["scm_type"]}" is not a valid choice.')
        if row["scm_type"] and not row["scm_url"]:
            raise _invalid(scm_url="SCM URL is required.")
        if row["credential"] is not None and self.kind_of(row["credential"]) != "scm":
            raise _invalid(credential="Credential kind must be 'scm'.")
        if any(row[name] != before.get(name) for name in ("scm_type", "scm_url", "scm_branch")):  # the credential is none of them
            row |= {"status": "pending", "_looks": self.looks}

    def check_inventory_sources(self, row: dict[str, Any], before: dict[str, Any]) -> None:
        if row["source"] not in ("scm", "ec2", "file"):
            raise _invalid(source=f'"{row["source"]}" is not a valid choice.')
        if row["source"] == "scm" and not row["source_project"]:
            raise _invalid(source_project="Project required for scm type sources.")
        if row["source"] != "scm" and (row["source_project"] or row["source_path"]):
            raise _invalid(detail="Cannot set source_project source_path if not SCM type.")

    def check_notification_templates(self, row: dict[str, Any], before: dict[str, Any]) -> None:
        kind, given = row["notification_type"], row["notification_configuration"]
        if kind not in _CONFIGURATIONS:
            raise _invalid(notification_type=f'"{kind}" is not a valid choice.')
        for name, (expected, default) in _CONFIGURATIONS[kind].items():
            if name not in given and default is ...:
                raise _invalid(notification_configuration=f"Missing required fields for Notification Configuration: {name}.")
            if type(given.setdefault(name, default)) is not expected:
                raise _invalid(notification_configuration=f"Configuration field '{name}' incorrect type, expected {expected.__name__}.")
        if unknown := given.keys() - _CONFIGURATIONS[kind].keys():
            raise _invalid(notification_configuration=f"Unknown fields {sorted(unknown)}.")

    def check_job_templates(self, row: dict[str, Any], before: dict[str, Any]) -> None:
        project = self.rows["projects"][row["project"]]
        if project["scm_type"] and row["playbook"] not in project.get("_playbooks", []):
            raise _invalid(playbook="Playbook not found for project.")
        if row["inventory"] is None and not row["ask_inventory_on_launch"]:
            raise _invalid(inventory="You must either set a default value or ask to prompt on launch.")
        if row["job_type"] not in ("run", "check"):
            raise _invalid(job_type=f'"{row["job_type"]}" is not a valid choice.')
        row["organization"] = project["organization"]

    def check_workflow_job_template_nodes(self, row: dict[str, Any], before: dict[str, Any]) -> None:
        if not row["identifier"]:
            raise _invalid(identifier="This field may not be blank.")

    def check_schedules(self, row: dict[str, Any], before: dict[str, Any]) -> None:
        rule = row["rrule"]
        starts = re.findall(r"DTSTART(?:;[^:]+)?:[0-9]+T[0-9]+Z?", rule)
        rules = re.findall(r"RULE:\S*", rule)
        faults = [
            ("Valid DTSTART required in rrule.", not starts),
            ("DTSTART cannot be a naive datetime.", bool(re.search(r"DTSTART:[0-9]+T[0-9]+ ", rule))),
            ("Multiple DTSTART is not supported.", len(starts) > 1),
            ("One or more rule required in rrule.", not rules),
            ("EXDATE and RDATE are not allowed in rrule.", bool(re.search("(EXDATE|RDATE):", rule, re.IGNORECASE))),
            ("INTERVAL required in rrule.", any("interval" not in one.lower() for one in rules)),
            ("SECONDLY is not supported.", any("secondly" in one.lower() for one in rules)),
            ("BYDAY with numeric prefix not supported.", any(re.search(r"BYDAY[:=][0-9]+[a-zA-Z]{2}", one) for one in rules)),
            ("RRULE may not contain both COUNT and UNTIL.", any("COUNT" in one and "UNTIL" in one for one in rules)),
        ]
        wrong = [text for text, is_so in faults if is_so]
        try:
            row["rrule"] = _coerced(rule)
            rrulestr(row["rrule"])
        except ValueError as error:
            wrong.append(f"rrule parsing failed validation: {error}")
        if wrong:
            raise RefusedError(400, {"rrule": wrong})
        if before and row["extra_data"] == before["extra_data"]:
            return
        questions = self.surveys.get(("job_templates", row["unified_job_template"]), {}).get("spec", [])
        if unknown := row["extra_data"].keys() - {one["variable"] for one in questions}:
            raise _invalid(extra_data=f"Variables {', '.join(sorted(unknown))} are not allowed on launch.")
        if missing := [one["variable"] for one in questions if one["required"] and one["variable"] not in row["extra_data"]]:
            raise RefusedError(400, {"variables_needed_to_start": [f"'{name}' value missing" for name in missing]})

    # -- what is attached --------------------------------------------------

    def relation(self, method: str, kind: str, number: int, part: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        other = MODELS[kind].relations[part]
        there = self.attached.setdefault((kind, number, part), [])
        if method == "GET":
            rows = [self.shown(other, self.rows[other][one]) for one in there]
            return 200, self.listed(rows, f"/api/v2/{kind}/{number}/{part}/", query)
        added = self.referred(other, body)
        if body.get("disassociate"):
            there[:] = [one for one in there if one != added]
            return 204, None
        if other == "credentials":
            types = [self.rows[other][one]["credential_type"] for one in there]
            if self.rows[other][added]["credential_type"] in types:
                raise RefusedError(400, {"error": "Cannot assign multiple credentials of one type."})
        if added not in there:
            there.append(added)
        return 204, None

    def referred(self, kind: str, body: Any) -> int:
        if not isinstance(body, dict) or body.keys() - {"id", "disassociate"} or type(body.get("id")) is not int:
            raise RefusedError(400, {"msg": '"id" field must be an integer.'})
        if body["id"] not in self.rows[kind]:
            raise RefusedError(400, {"detail": "object does not exist"})
        return int(body["id"])

    def link(self, number: int, part: str, body: Any) -> tuple[int, Any]:
        nodes = self.rows["workflow_job_template_nodes"]
        other, node = self.referred("workflow_job_template_nodes", body), nodes[number]
        if body.get("disassociate"):
            node[part] = [one for one in node[part] if one != other]
            return 204, None
        if any(other in node[one] for one in _LINKS if one != part):
            raise RefusedError(400, {"Error": "Relationship not allowed."})
        reached, left = set(), [other]
        while left:
            one = left.pop()
            if one == number:
                raise RefusedError(400, {"Error": "Cycle detected."})
            if one not in reached:
                reached.add(one)
                left += [follower for each in _LINKS for follower in nodes[one][each]]
        node[part] = sorted({*node[part], other})
        return 204, None

    # -- surveys -----------------------------------------------------------

    def survey_spec(self, method: str, template: tuple[str, int], body: Any) -> tuple[int, Any]:
        if method == "GET":
            return 200, json.loads(json.dumps(self.surveys.get(template, {})))
        if method == "DELETE":
            self.surveys.pop(template, None)
            return 200, None
        if method != "POST":
            raise RefusedError(405, {"detail": f'Method "{method}" not allowed.'})
        for name, kind in (("name", str), ("description", str), ("spec", list)):
            if not isinstance(body.get(name), kind):
                raise RefusedError(400, {"error": f"Field '{name}' is missing from survey spec, or of another type."})
        if not body["spec"]:
            raise RefusedError(400, {"error": "'spec' doesn't contain any items."})
        variables: set[str] = set()
        for number, question in enumerate(body["spec"]):
            if fault := next(_question_faults(question, variables), ""):
                raise RefusedError(400, {"error": f"survey question {number}: {fault}"})
        self.surveys[template] = body
        return 200, None


def _coerced(rule: str) -> str:
    """A rule as AWX keeps it: with one blank between its parts, and with the end in UTC."""
    text = " ".join(rule.split())

    def in_utc(match: re.Match[str]) -> str:
        zone = rrulestr(text.replace(match[0], f"{match[0]}Z"), forceset=True)._rrule[0]._dtstart.tzinfo
        local = datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=zone)
        return f"UNTIL={local.astimezone(UTC):%Y%m%dT%H%M%SZ}"

    return re.sub(r"UNTIL=([0-9]+T[0-9]+)(?![0-9Z])", in_utc, text)


def _question_faults(question: Any, variables: set[str]) -> Iterator[str]:
    """What AWX has against a question; besides, a key that its pages don't know, or one that they break without."""
    known = {"type", "question_name", "question_description", "variable", "required", "default", "min", "max", "choices", "new_question"}
    if not isinstance(question, dict) or question.keys() - known:
        yield "is not an object, or has unknown keys"
    for name, expected in (("type", str), ("question_name", str), ("variable", str), ("required", bool)):
        if not isinstance(question.get(name), expected):
            yield f"'{name}' is missing, or of another type"
    if question["variable"] in variables:
        yield f"'variable' '{question['variable']}' duplicated"
    variables.add(question["variable"])
    kind, default = question["type"], question.get("default", "")
    if kind not in _QUESTION_TYPES:
        yield f"'{kind}' is not one of the allowed question types"
    if default != "" and not isinstance(default, _QUESTION_TYPES[kind]):
        yield "the default is of another type"
    if any(question.get(name) is not None and type(question[name]) is not int for name in ("min", "max")):
        yield "the limit is no integer"
    if kind in ("multiplechoice", "multiselect"):
        if "default" not in question:
            yield "the page for editing it breaks without a default"
        chosen = default.splitlines()
        if not question.get("choices"):
            yield "must specify choices"
        if (kind == "multiplechoice" and len(chosen) > 1) or any(one not in question["choices"] for one in chosen):
            yield "Default choice must be answered from the choices listed."


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Awx]:
    """AWX on a port of this machine's own, with TLS, as it is after its installation."""
    key, certificate = make_certificate(folder)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # or each answer goes in two packets, of which the second one waits for an acknowledgement

        def do_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = urlsplit(self.path)
            with lock:
                awx.requests.append((self.command, parts.path))
                if fault := awx.fault(self.command, parts.path):
                    self.send(*fault)
                    return
                try:
                    if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                        raise RefusedError(401, {"detail": "Authentication credentials were not provided."})
                    if body and self.headers.get("Content-Type") != "application/json":
                        raise RefusedError(415, {"detail": "Unsupported media type in request."})
                    status, document = awx.answer(self.command, parts.path, dict(parse_qsl(parts.query)), json.loads(body) if body else {})
                except RefusedError as error:
                    status, document = error.status, error.document
            self.send(status, {}, b"" if document is None else json.dumps(document).encode())

        do_GET = do_PATCH = do_PUT = do_POST = do_DELETE = do_any

        def send(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in ({"Content-Type": "application/json"} | headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(OSError):  # who asked need not take all of it
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serve_http(Handler, context) as port:
        awx = Awx(f"127.0.0.1:{port}", certificate)
        awx.make("organizations", name="Default")
        machine = {"fields": [{"id": "username", "label": "Username"}, {"id": "ssh_key_data", "label": "Key", "secret": True}]}
        awx.make("credential_types", name="Machine", kind="ssh", inputs=machine)
        scm = {"fields": [{"id": "username", "label": "Username"}, {"id": "password", "label": "Password", "secret": True}]}
        awx.make("credential_types", name="Source Control", kind="scm", inputs=scm)
        yield awx
