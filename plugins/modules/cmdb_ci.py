#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write CIs to the CMDB."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cmdb_ci
short_description: Write CIs to the CMDB, or remove them
version_added: 0.1.0
description:
  - Enters CIs in the CMDB and keeps them as described, many in one transaction. Every change leaves a line in the CMDB's history.
  - The CMDB is made when there is none yet. An older one is left alone, see M(tidegate.release.cmdb_upgrade).
  - What is left out of a known CI's description stays as it is.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.local
options:
  cis:
    description: The CIs, each with its own description. Either this or O(name).
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the CI, which is its host name in the inventory.
        type: str
        required: true
      class:
        description: What kind of CI it is, see O(class). An empty string takes it away.
        type: str
      site:
        description: Where it is. An empty string takes it away.
        type: str
      environment:
        description: What it is for, such as V(test) or V(production). An empty string takes it away.
        type: str
      attributes:
        description: Everything else, all of it; they become host variables. See O(attributes).
        type: dict
      relations:
        description: All relations that start at this CI.
        type: list
        elements: dict
        suboptions:
          kind:
            description: How the CI relates to the target, such as V(runs_on).
            type: str
            required: true
          target:
            description: Name of another CI, known or written in the same task.
            type: str
            required: true
  name:
    description: Name of the one CI that the other options describe.
    type: str
  class:
    description:
      - What kind of CI it is. An empty string takes it away.
      - It says whether the CI is a host, see P(tidegate.release.cmdb#inventory).
    type: str
  site:
    description: Where it is. An empty string takes it away.
    type: str
  environment:
    description: What it is for, such as V(test) or V(production). An empty string takes it away.
    type: str
  attributes:
    description:
      - Everything else, all of it; they become host variables, so V(ansible_host) works, and are never templated. Those whose names
        Ansible has for itself, such as V(serial), are only in C(tidegate_ci.attributes).
      - They are stored as they are, and the history keeps old values for good. Keep secrets in a vault.
      - What a release requires of a CI is looked up here. C(packages) has the versions of the operating system's packages by name,
        C(firmware) those of components, and C(model) is the hardware's. All are texts.
    type: dict
  relations:
    description:
      - All relations that start at this CI.
      - V(depends_on) is for a CI that uses what the target offers. A release is held against what is on both ends.
    type: list
    elements: dict
    suboptions:
      kind:
        description: How the CI relates to the target, such as V(runs_on).
        type: str
        required: true
      target:
        description: Name of another CI, known or written in the same task.
        type: str
        required: true
  state:
    description:
      - V(absent) removes the CIs and their relations. It fails, removing none, while a deployment holds one of them or a release is
        installed on it.
    type: str
    choices: [present, absent]
    default: present
attributes:
  diff_mode:
    description: Returns what changed when in diff mode.
    support: full
requirements:
  - SQLAlchemy >= 2
  - alembic >= 1
  - psycopg >= 3 for a CMDB in PostgreSQL
seealso:
  - module: tidegate.release.cmdb_ci_info
  - plugin: tidegate.release.cmdb
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: Enter one host
  tidegate.release.cmdb_ci:
    cmdb: /srv/cmdb.sqlite
    name: web1
    class: server
    site: ams
    environment: production
    attributes:
      ansible_host: 192.0.2.11
  delegate_to: localhost

- name: Enter many at once
  tidegate.release.cmdb_ci:
    cis:
      - {name: rack7, class: rack, site: ams}
      - {name: db1, class: server, site: ams, relations: [{kind: stands_in, target: rack7}]}
  delegate_to: localhost

- name: Remove a host
  tidegate.release.cmdb_ci:
    name: web1
    state: absent
  delegate_to: localhost
"""

RETURN = r"""
created:
  description: Names of the CIs that are new.
  type: list
  elements: str
  returned: when O(state=present)
updated:
  description: Names of the CIs that changed.
  type: list
  elements: str
  returned: when O(state=present)
removed:
  description: Names of the CIs that were there.
  type: list
  elements: str
  returned: when O(state=absent)
"""
