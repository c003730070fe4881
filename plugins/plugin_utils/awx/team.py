# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Set AWX up for a team: everything that is wanted, in the order in which one thing needs the other."""

from __future__ import annotations

from ..errors import TidegateError
from .apply import Applier, said_after
from .client import AwxClient
from .wanted import (
    MACHINE,
    NAME,
    SCM,
    WORKFLOW,
    AwxReference,
    Setup,
    Verbs,
    after_project,
    before_project,
    check_schedules,
    credential_types,
)


def set_up(client: AwxClient, setup: Setup, verbs: Verbs, write: bool, patience: float) -> tuple[Applier, tuple[str, ...]]:
    """Have AWX as ``setup`` says, with a job template for each of ``verbs`` that the project has a playbook for.

    Returns who made the changes, or named them when ``write`` is false, and a sentence for each thing that had to be left out. What is
    referred to by name is looked for before anything is changed. Waits ``patience`` seconds at most for the project to be fetched.
    Raises :class:`TidegateError` with what was done until then.
    """
    check_schedules(setup, verbs)
    applier = Applier(client, write)
    organization = applier.find(setup.owner)
    for name, kind in ((setup.scm_credential, SCM), (setup.machine_credential, MACHINE)):
        if name:
            applier.find(AwxReference("credentials", name, kind), organization=organization, credential_type__kind=kind)
    if setup.notification and not setup.notification.get("type"):
        applier.find(AwxReference("notification_templates", setup.notification["name"]), organization=organization)
    try:
        for wanted in before_project(setup):
            applier.ensure(wanted)
        playbooks = applier.synchronised(AwxReference("projects", NAME), patience)
        present = {verb: about for verb, about in verbs.items() if playbooks is None or f"{verb}.yml" in playbooks}
        found, left_out = after_project(setup, present, _credentials(applier, organization))
        for wanted in found:
            applier.ensure(wanted)
            if wanted.kind == "workflow_job_templates":
                templates = {node.name: AwxReference("job_templates", f"{NAME} {node.name}") for node in WORKFLOW if not node.approval}
                applier.ensure_nodes(wanted, WORKFLOW, templates)
    except TidegateError as error:
        raise (said_after(error, applier.changes) if write else error) from None
    return applier, left_out


def _credentials(applier: Applier, organization: int) -> set[str]:
    """The names of the credentials of our types that the team has made."""
    numbers = {one.name: applier.id_of(AwxReference(one.kind, one.name)) for one in credential_types()}
    return {
        name
        for name, number in numbers.items()
        if isinstance(number, int)
        and applier.look(AwxReference("credentials", name, name), organization=organization, credential_type=number)
    }
