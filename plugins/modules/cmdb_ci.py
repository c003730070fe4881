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
  - A class or a kind of relation that the model of CIs does not have, a circle in a kind that has none, a name that differs from another
    one in case only, and an attribute that no two CIs may have alike are refused, and nothing is written. The model is in
    M(tidegate.release.cmdb_model). What was in the CMDB before, and is left as it is, is not held against it.
  - The history has who did it, in AWX and Tower the user who launched the job.
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
      status:
        description: State of the CI, see O(status).
        type: str
        choices: [planned, in_stock, installed, maintenance, retired]
      owned_by:
        description: Who answers for it. An empty string takes it away.
        type: str
      support_group:
        description: Who looks after it. An empty string takes it away.
        type: str
      location:
        description: Where at its site it is. An empty string takes it away.
        type: str
      time_zone:
        description: Time zone where it is, such as V(Europe/Berlin). An empty string takes it away.
        type: str
      revision:
        description: Revision that the CI has to have, see O(revision).
        type: int
      attributes:
        description: Everything else; they become host variables. See O(attributes).
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
  status:
    description:
      - State of the CI; V(installed) for a new one. Only hosts that are V(installed) or V(maintenance) are in the inventory.
      - V(retired) takes the place of removal and keeps relations and history. Whatever is not live is refused while a deployment
        holds the CI, a release is installed on it or it has a unit of hardware.
    type: str
    choices: [planned, in_stock, installed, maintenance, retired]
  owned_by:
    description: Who answers for it. An empty string takes it away.
    type: str
  support_group:
    description: Who looks after it. An empty string takes it away.
    type: str
  location:
    description: Where at its site it is. An empty string takes it away.
    type: str
  time_zone:
    description: Time zone where it is, such as V(Europe/Berlin). An empty string takes it away.
    type: str
  revision:
    description:
      - Revision that the CI has to have, V(0) for one that must not be there. The task fails, writes nothing and says who has written
        since when it has another one. M(tidegate.release.cmdb_ci_info) and RV(revisions) have it.
    type: int
  attributes:
    description:
      - Everything else; they become host variables, so V(ansible_host) works, and are never templated. Those whose names Ansible has
        for itself, such as V(serial), are only in C(tidegate_ci.attributes), as are those that begin with C(ansible_) and say more than
        V(ansible_host), V(ansible_port) and V(ansible_user), unless the inventory file lists them, see
        P(tidegate.release.cmdb#inventory).
      - At most 64 kB each and 1 MB together, as JSON.
      - They are stored as they are, and the history keeps old values for good. Keep secrets in a vault.
      - What a release requires of a CI is looked up here. C(packages) has the versions of the operating system's packages by name,
        C(firmware) those of components, and C(model) is the hardware's. All are texts.
    type: dict
  attributes_mode:
    description:
      - With V(merge) attributes that are not named stay as they are, and one that is null is taken away. What is within an attribute is not
        merged.
      - With V(replace) the CI has the named attributes and no others.
    type: str
    choices: [merge, replace]
    default: merge
  relations:
    description:
      - All relations that start at this CI. M(tidegate.release.cmdb_relation) changes single ones.
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
  number:
    description: Number of the RFC under which this is done; it goes into the history.
    type: str
    default: ""
  reason:
    description: Why it is done, in one line; it goes into the history.
    type: str
    default: ""
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

- name: Note what was seen, unless somebody has written since it was read
  tidegate.release.cmdb_ci:
    name: web1
    attributes:
      bios: "2.4"
      old_bios: null
    revision: 3
    number: CHG0030001
    reason: read at the rack
  delegate_to: localhost

- name: Take a host out of use and keep its history
  tidegate.release.cmdb_ci:
    name: web1
    status: retired
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
revisions:
  description: By name the revision that each CI has now.
  type: dict
  returned: when O(state=present)
  sample: {web1: 4}
removed:
  description: Names of the CIs that were there.
  type: list
  elements: str
  returned: when O(state=absent)
"""
