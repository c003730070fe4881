#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Set AWX up for a team."""

from __future__ import annotations

DOCUMENTATION = r"""
module: awx
short_description: Set AWX or automation controller up for a team
version_added: 0.1.0
description:
  - Has in an organization of AWX what a team needs to run the verbs there. These are types of credentials for homes and secrets, the
    execution environment, the team's project, the CMDB as its inventory, a job template for each verb with a survey, a workflow from
    archive to deploy, schedules and a notification.
  - There is a job template for each verb that the project has a playbook of the same name for. Its survey is made from the options that
    the verb documents; what a credential gives is never asked for, nor is a mapping, such as the settings of a host.
  - Reads what is there and changes only what differs. What is not named here, and what the team adds, stays as it is. Nothing is removed
    but what no longer follows on a step of the workflow.
  - Secrets never go this way. They are entered in AWX, in credentials of the types that the first run makes and with the names of these
    types; the next run attaches them. Verbs that a person signs ask for that person's credential and do not have the key of a service.
  - The token is in the environment variable E(CONTROLLER_OAUTH_TOKEN), or else E(TOWER_OAUTH_TOKEN). E(REQUESTS_CA_BUNDLE) names the
    file with the certificate authorities, if that of AWX is not one that everybody trusts. A redirection is not followed, and without
    TLS only this machine is asked.
  - Every run has AWX fetch the project, but for check mode, which goes by what was fetched before. That is no change. Jobs have it fetched
    before they begin, too.
  - A step or decision that the team put between two steps of the workflow stays there, and no link goes round it.
  - When something goes wrong midway, the message says how many changes there were until then. The same task goes on from there.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.local
options:
  host:
    description:
      - The address of AWX, such as V(https://awx.example). When it has a path, that is where version 2 of the API is, as in
        V(https://aap.example/api/controller/v2).
      - Taken from the variable C(tidegate_awx_host), or else the environment variable E(CONTROLLER_HOST), when it is not given.
    type: str
    required: true
  organization:
    description:
      - The organization, which has to be there.
      - Taken from the variable C(tidegate_awx_organization), when it is not given.
    type: str
    default: Default
  image:
    description:
      - The image of the execution environment, which has this collection and its libraries.
      - Taken from the variable C(tidegate_awx_image), when it is not given.
    type: str
    required: true
  scm_url:
    description:
      - The git repository of the team's project.
      - Taken from the variable C(tidegate_awx_scm_url), when it is not given.
    type: str
    required: true
  scm_branch:
    description:
      - Its branch; the repository's own unless it is given.
      - Taken from the variable C(tidegate_awx_scm_branch), when it is not given.
    type: str
    default: ""
  scm_credential:
    description:
      - Name of the credential in AWX with which the repository is fetched, if it needs one. It is one for source control, and the
        organization's.
      - Taken from the variable C(tidegate_awx_scm_credential), when it is not given.
    type: str
    default: ""
  inventory_file:
    description:
      - The file of the project that makes the CMDB the inventory.
      - Taken from the variable C(tidegate_awx_inventory_file), when it is not given.
    type: str
    default: cmdb
  machine_credential:
    description:
      - Name of the credential in AWX with which hosts are logged in to, if there is one for all of them. It is one for machines, and the
        organization's.
      - Taken from the variable C(tidegate_awx_machine_credential), when it is not given.
    type: str
    default: ""
  schedules:
    description:
      - By verb, when it runs by itself, as C(DTSTART) and C(RRULE) with an C(INTERVAL), and an C(UNTIL) in UTC. What is not in it is not
        scheduled, and what was scheduled before stays.
      - A verb that has to be told something can't be in it, as answers are no part of it; make its schedule in AWX.
      - Taken from the variable C(tidegate_awx_schedules), when it is not given.
    type: dict
    default:
      audit: DTSTART:20260101T020000Z RRULE:FREQ=DAILY;INTERVAL=1
      dsl_verify: DTSTART:20260104T040000Z RRULE:FREQ=WEEKLY;INTERVAL=1;BYDAY=SU
      report: DTSTART:20260101T060000Z RRULE:FREQ=DAILY;INTERVAL=1
  report:
    description:
      - The directory that the scheduled report is written to, one that outlasts the job. Without it no report is scheduled.
      - Taken from the variable C(tidegate_report), when it is not given.
    type: str
  notification:
    description:
      - Who is told of failed jobs, and of decisions that the workflow waits for.
      - Taken from the variable C(tidegate_awx_notification), when it is not given.
    type: dict
    suboptions:
      name:
        description: Name of the notification template. Alone, it is one that is there already.
        type: str
        default: Tidegate
      type:
        description: Makes it of this type, such as V(email), V(slack) or V(webhook).
        type: str
      configuration:
        description:
          - What that type needs, as AWX calls it. None of it is shown. A secret in it is set when the template is made, or when something
            else of the configuration changes, for AWX tells nobody what it is.
        type: dict
  patience:
    description:
      - For how many seconds at most AWX may be at work on fetching the project.
      - Taken from the variable C(tidegate_awx_patience), when it is not given.
    type: int
    default: 600
attributes:
  diff_mode:
    description: Returns what changed when in diff mode.
    support: full
requirements:
  - requests >= 2
seealso:
  - module: tidegate.release.clear
"""

EXAMPLES = r"""
- name: Set AWX up
  tidegate.release.awx:
    host: https://awx.example
    organization: Shop
    image: registry.example/tidegate-ee:1
    scm_url: https://git.example/shop/releases.git
    machine_credential: Shop hosts
    notification:
      type: webhook
      configuration: {url: https://chat.example/hook, headers: {}}
  delegate_to: localhost
"""

RETURN = r"""
changes:
  description: What was made or changed, or would be in check mode.
  type: list
  elements: str
  returned: success
  sample: [job template Tidegate deploy, survey of job template Tidegate deploy]
left_out:
  description: A sentence for each thing that could not be had, such as a credential that nobody has made yet.
  type: list
  elements: str
  returned: success
"""
