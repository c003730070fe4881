# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be in AWX for a team: as data, in the order in which it can be made. Another team has another organization."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import TidegateError
from .survey import make_survey

NAME = "Tidegate"
"""Of the project, the inventory and the workflow; what else there is begins with it."""
PERSONAL = frozenset({"approve", "opine", "settle", "swap", "waive", "write_off"})
"""Verbs that somebody signs as a person: their job templates have no key, and ask for the credential with that person's."""
SCM, MACHINE = "scm", "ssh"
"""Kinds that AWX's own types of credentials have."""
Verbs = Mapping[str, tuple[str, Mapping[str, Mapping[str, Any]]]]
"""By name, what a verb does and its options."""
_LEFT_OUT = frozenset({"awx", "lab"})  # this one, and a lab that would be gone with the job's container
_HOMES, _KEY, _REGISTRY, _SERVICENOW, _REDFISH = (
    f"{NAME} {what}" for what in ("homes", "signing key", "registry", "ServiceNow", "Redfish")
)
_EXAMPLE = "DTSTART:20260101T020000Z RRULE:FREQ=DAILY;INTERVAL=1"
_LOCAL_END = re.compile(r"UNTIL=(?!\d{8}T\d{6}Z)", re.IGNORECASE)


@dataclass(frozen=True)
class AwxReference:
    """Something else in AWX, by the kind that its path of the API has, and its name.

    ``type``: for a credential, whose name is its own among those of its type only: the kind of a type of AWX's, or the name of one of ours.
    """

    kind: str
    name: str
    type: str = ""


@dataclass(frozen=True)
class AwxObject:
    """One thing as it is to be. What ``fields`` leave out is AWX's, or the team's.

    ``within``: what besides the name tells it from others. ``hidden``: fields whose value is nowhere shown. ``survey``: its
    questions, ``None`` for what has no survey. ``attached``: by relation, what has to be among those that are attached to it.
    """

    kind: str
    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    within: Mapping[str, AwxReference] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    survey: Sequence[Mapping[str, Any]] | None = None
    attached: Mapping[str, tuple[AwxReference, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Node:
    """A step of the workflow: the job template of a verb, or a decision of people, with what comes after it."""

    name: str
    success: tuple[str, ...] = ()
    failure: tuple[str, ...] = ()
    approval: str = ""
    """What is asked, for a decision."""


@dataclass(frozen=True)
class Setup:
    """What a team says of its AWX."""

    organization: str
    image: str
    """Of the execution environment."""
    scm_url: str
    scm_branch: str
    scm_credential: str
    """Name of the credential for the repository; empty for none."""
    source_path: str
    """The inventory file in the project."""
    machine_credential: str
    """Name of the credential for hosts; empty for none."""
    schedules: Mapping[str, str]
    """By verb, when it runs: DTSTART and RRULE."""
    report: str
    """The directory for the report; empty for none, and then none is scheduled."""
    notification: Mapping[str, Any]
    """``name``, ``type`` and ``configuration``; empty for none."""

    @property
    def owner(self) -> AwxReference:
        """The organization."""
        return AwxReference("organizations", self.organization)


WORKFLOW = (
    Node("archive", success=("verify",)),
    Node("verify", success=("go live",)),
    Node(
        "go live",
        success=("clear",),
        approval=(
            "Lets the workflow go on, and signs nothing. Who approves the change says so with a key of their own, by the job template "
            "of approve, and clear looks at that."
        ),
    ),
    Node("clear", success=("stage",)),
    Node("stage", success=("deploy",)),
    Node("deploy", failure=("back out",)),
    Node(
        "back out",
        success=("backout",),
        approval="The deployment failed or is held; its job says why. Approve to undo it, deny to leave it, for deploy goes on with it.",
    ),
    Node("backout"),
)


def credential_types() -> tuple[AwxObject, ...]:
    """The types of credentials: what homes and secrets come from, so that no survey asks for them."""
    return (
        _type(
            _HOMES,
            "Where library, CMDB and policy are",
            [
                _input("dsl", "Library", "oci://host/prefix; a directory would be gone with the job"),
                _input("cmdb", "CMDB", "postgresql+psycopg://user:password@host/database", secret=True),
                _input("policy", "Policy", "A file of the project, such as policy.yml; without it the shipped one applies"),
            ],
            ["dsl", "cmdb"],
            {"env": {"TIDEGATE_DSL": "{{ dsl }}", "TIDEGATE_CMDB": "{{ cmdb }}", "TIDEGATE_POLICY": "{{ policy }}"}},
        ),
        _type(
            _KEY,
            "The private key that signs, of a service or of a person",
            [
                _input("key", "Private key", "In PEM", secret=True, multiline=True),
                _input("passphrase", "Passphrase", "If the key has one", secret=True),
            ],
            ["key"],
            {
                "file": {"template": "{{ key }}\n"},
                "env": {"TIDEGATE_KEY": "{{ tower.filename }}", "TIDEGATE_KEY_PASSPHRASE": "{{ passphrase }}"},
            },
        ),
        _type(
            _REGISTRY,
            "Who we are to the registry that holds the library",
            [_input("auth_file", "auth.json", "What podman login --authfile auth.json leaves", secret=True, multiline=True)],
            ["auth_file"],
            {"file": {"template": "{{ auth_file }}"}, "env": {"REGISTRY_AUTH_FILE": "{{ tower.filename }}"}},
        ),
        _type(
            _SERVICENOW,
            "Who we are to the instance that has the RFCs",
            [
                _input("host", "Instance", "Such as https://instance.example"),
                _input("username", "User", "With a password; or a token alone"),
                _input("password", "Password", "", secret=True),
                _input("token", "OAuth token", "In place of user and password", secret=True),
            ],
            ["host"],
            {
                "env": {
                    "SN_HOST": "{{ host }}",
                    "SN_USERNAME": "{{ username }}",
                    "SN_PASSWORD": "{{ password }}",
                    "SN_ACCESS_TOKEN": "{{ token }}",
                }
            },
        ),
        _type(
            _REDFISH,
            "Who we are to the BMCs of machines, for releases of firmware",
            [_input("username", "User", ""), _input("password", "Password", "", secret=True)],
            ["username", "password"],
            {"extra_vars": {"tidegate_redfish_user": "{{ username }}", "tidegate_redfish_password": "{{ password }}"}},
        ),
    )


def by_credential() -> frozenset[str]:
    """The variables that no survey asks for, since a credential gives them."""
    given = [one.fields["injectors"] for one in credential_types()]
    environment = {name.lower() for injectors in given for name in injectors.get("env", ())}
    return frozenset(environment.union(*(injectors.get("extra_vars", ()) for injectors in given)))


def before_project(setup: Setup) -> tuple[AwxObject, ...]:
    """What there has to be before AWX knows which playbooks the project has."""
    repository = {"credential": AwxReference("credentials", setup.scm_credential, SCM)} if setup.scm_credential else {}
    return (
        *credential_types(),
        # Its name is AWX's own and not the organization's, so the team's is in it.
        AwxObject("execution_environments", _environment(setup).name, {"image": setup.image, "organization": setup.owner}),
        AwxObject(
            "projects",
            NAME,
            {
                "organization": setup.owner,
                "scm_type": "git",
                "scm_url": setup.scm_url,
                "scm_branch": setup.scm_branch,
                # Or jobs would run for ever what the first fetch brought.
                "scm_update_on_launch": True,
                **repository,
            },
            {"organization": setup.owner},
        ),
    )


def check_schedules(setup: Setup, verbs: Verbs) -> None:
    """Raises :class:`TidegateError` for a schedule that AWX would refuse at the end, or never have as it is asked for."""
    for verb, rule in setup.schedules.items():
        if not isinstance(rule, str):
            raise TidegateError(f"tidegate_awx_schedules has no text for {verb!a:.40}; write a rule there, such as {_EXAMPLE}")
        if _LOCAL_END.search(rule):
            raise TidegateError(
                f"tidegate_awx_schedules has an UNTIL for {verb!a:.40} that is not in UTC; write it like UNTIL=20261231T230000Z"
            )
        options = verbs[verb][1] if verb in verbs.keys() - _LEFT_OUT else {}
        required = [str(one["variable"]) for one in make_survey(options, by_credential()) if one["required"]]
        if missing := [name for name in required if name not in _answers(setup, verb)]:
            raise TidegateError(
                f"tidegate_awx_schedules has {verb}, which has to be told {', '.join(missing)}; leave it out there, and schedule the job "
                f"template {NAME} {verb} in AWX, where its answers can be entered"
            )


def after_project(setup: Setup, verbs: Verbs, credentials: Collection[str]) -> tuple[tuple[AwxObject, ...], tuple[str, ...]]:
    """Inventory, notification, job templates, workflow and schedules; and a sentence for each thing that has to be left out.

    ``verbs``: those that the project has a playbook for. ``credentials``: the names of those of our types that there are.
    """
    asked = {verb: make_survey(options, by_credential()) for verb, (_says, options) in verbs.items() if verb not in _LEFT_OUT}
    left_out = [
        f"there is no credential {one.name!r}; make one of the type of that name in AWX, and run this again"
        for one in credential_types()[:2]
        if one.name not in credentials
    ]
    wanted = [*_inventory(setup, credentials), *_notification(setup)]
    failed = {"notification_templates_error": (_notified(setup),)} if setup.notification else {}
    for verb, survey in asked.items():
        wanted.append(_job_template(setup, verb, verbs[verb][0], survey, credentials, failed))
    lacking = [node.name for node in WORKFLOW if not node.approval and node.name not in asked]
    if lacking:
        left_out.append(f"the project has no playbook of its own for {', '.join(lacking)}, so there is no workflow")
    else:
        wanted.append(_workflow(setup, asked, failed))
    for verb, rule in setup.schedules.items():
        if verb not in asked:
            left_out.append(f"the project has no playbook of its own for {verb}, so it is not scheduled")
        elif verb == "report" and not setup.report:
            left_out.append("tidegate_report is not given, so no report is scheduled; name a directory that outlasts the job")
        else:
            wanted.append(_schedule(verb, rule, _answers(setup, verb)))
    return tuple(wanted), tuple(left_out)


def _input(name: str, label: str, help_text: str, secret: bool = False, multiline: bool = False) -> dict[str, Any]:
    made: dict[str, Any] = {"id": name, "label": label, "type": "string"}
    made |= {"help_text": help_text} if help_text else {}
    return made | ({"secret": True} if secret else {}) | ({"multiline": True} if multiline else {})


def _type(name: str, description: str, fields: list[dict[str, Any]], required: list[str], injectors: dict[str, Any]) -> AwxObject:
    inputs = {"fields": fields, "required": required}
    return AwxObject("credential_types", name, {"description": description, "kind": "cloud", "inputs": inputs, "injectors": injectors})


def _environment(setup: Setup) -> AwxReference:
    return AwxReference("execution_environments", f"{NAME} {setup.organization}")


def _inventory(setup: Setup, credentials: Collection[str]) -> tuple[AwxObject, ...]:
    home = {"credential": AwxReference("credentials", _HOMES, _HOMES)} if _HOMES in credentials else {}
    return (
        AwxObject("inventories", NAME, {"organization": setup.owner}, {"organization": setup.owner}),
        AwxObject(
            "inventory_sources",
            NAME,
            {
                "inventory": AwxReference("inventories", NAME),
                "source": "scm",
                "source_project": AwxReference("projects", NAME),
                "source_path": setup.source_path,
                **home,
                "execution_environment": _environment(setup),
                # A host that the CMDB has no more is none here either.
                "overwrite": True,
                "overwrite_vars": True,
                "update_on_launch": True,
            },
            {"inventory": AwxReference("inventories", NAME)},
        ),
    )


def _notified(setup: Setup) -> AwxReference:
    return AwxReference("notification_templates", setup.notification["name"])


def _notification(setup: Setup) -> tuple[AwxObject, ...]:
    """Only one that we are told how to make; else it is one that the team has made."""
    if not setup.notification.get("type"):
        return ()
    fields = {
        "organization": setup.owner,
        "notification_type": setup.notification["type"],
        "notification_configuration": setup.notification["configuration"],
    }
    hidden = frozenset({"notification_configuration"})
    return (AwxObject("notification_templates", setup.notification["name"], fields, {"organization": setup.owner}, hidden),)


def _job_template(
    setup: Setup,
    verb: str,
    description: str,
    survey: Sequence[Mapping[str, Any]],
    credentials: Collection[str],
    failed: Mapping[str, tuple[AwxReference, ...]],
) -> AwxObject:
    ours = [one.name for one in credential_types() if one.name in credentials and not (one.name == _KEY and verb in PERSONAL)]
    attached = [AwxReference("credentials", one, one) for one in ours]
    attached += [AwxReference("credentials", setup.machine_credential, MACHINE)] if setup.machine_credential else []
    fields = {
        "description": description,
        "job_type": "run",
        "project": AwxReference("projects", NAME),
        "playbook": f"{verb}.yml",
        "inventory": AwxReference("inventories", NAME),
        "execution_environment": _environment(setup),
        "survey_enabled": bool(survey),
        # Check mode is asked for there. What two jobs must not do at once, the CMDB's locks keep apart.
        "ask_job_type_on_launch": True,
        "allow_simultaneous": True,
        "ask_credential_on_launch": verb in PERSONAL,
        "ask_inventory_on_launch": verb == "import",
    }
    name = f"{NAME} {verb}"
    relations = {"credentials": tuple(attached), **failed}
    return AwxObject("job_templates", name, fields, {"organization": setup.owner}, survey=survey, attached=relations)


def _workflow(setup: Setup, asked: Mapping[str, Sequence[Mapping[str, Any]]], failed: Mapping[str, tuple[AwxReference, ...]]) -> AwxObject:
    """It asks for what its steps have to know, which they get when their own surveys ask for it."""
    questions = {str(one["variable"]): one for node in WORKFLOW for one in asked.get(node.name, ()) if one["required"]}
    fields = {
        "description": "Archives a release, verifies it, and once people agree clears, stages and deploys it; a failed one can be undone",
        "organization": setup.owner,
        "survey_enabled": True,
        "allow_simultaneous": True,
    }
    told = dict(failed) | ({"notification_templates_approvals": (_notified(setup),)} if failed else {})
    home = {"organization": setup.owner}
    return AwxObject("workflow_job_templates", NAME, fields, home, survey=tuple(questions.values()), attached=told)


def _answers(setup: Setup, verb: str) -> dict[str, str]:
    """What a schedule of a verb answers."""
    return {"tidegate_report": setup.report} if verb == "report" else {}


def _schedule(verb: str, rule: str, answers: Mapping[str, str]) -> AwxObject:
    template = {"unified_job_template": AwxReference("job_templates", f"{NAME} {verb}")}
    # AWX puts one blank between the parts. Answers that we don't have are the team's.
    fields = {**template, "rrule": " ".join(rule.split()), **({"extra_data": dict(answers)} if answers else {})}
    return AwxObject("schedules", f"{NAME} {verb}", fields, template)
