#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Enter the hosts of an inventory in the CMDB."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cmdb_import
short_description: Enter the hosts of an Ansible inventory in the CMDB
version_added: 0.1.0
description:
  - Enters each host of the inventory that this run was started with as a CI, or keeps its CI as the inventory has it, all in one
    transaction. A second run changes nothing. The CMDB is made when there is none yet.
  - A host's variables become attributes of its CI, those that its groups have in the inventory among them. Files in C(group_vars) and
    C(host_vars) are left alone; beside the inventory file of P(tidegate.release.cmdb#inventory) they go on to count.
  - Its groups are the attribute C(inventory_groups), from which P(tidegate.release.cmdb#inventory) makes the same groups, see the example.
  - Not taken, and named, are variables that are in a vault, look like a secret by their name or value, are templates, which the CMDB never
    evaluates, or can't be attributes. Keep those in C(group_vars) or C(host_vars).
  - What came from the inventory before and is not in it any more, or is not taken now, is taken away. What somebody has set in the CMDB
    stays, and is named where the inventory has another value. The attribute C(inventory_variables) has which attributes came from the
    inventory, each with a mark by which it is known whether it was changed since. The history of a CI has what it had before.
  - A host that was entered in this way and that the inventory does not have any more is named, and stays until M(tidegate.release.cmdb_ci)
    removes it.
  - With O(src) it enters the records that M(tidegate.release.cmdb_export) wrote instead, in a CMDB that has none yet, all or none of
    them. A second run changes nothing.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.local
options:
  src:
    description:
      - A file on the controller that M(tidegate.release.cmdb_export) wrote. The inventory is not looked at then.
      - A file that was cut, or that has a record which can't be, is refused as a whole.
    type: path
  classes:
    description:
      - Groups of the inventory that are a class of CIs. Each host of such a group gets the group's name as its class.
      - Taken from the variable C(tidegate_classes), when it is not given.
    type: list
    elements: str
    default: []
  sites:
    description:
      - Groups of the inventory that are a site, as O(classes).
      - Taken from the variable C(tidegate_sites), when it is not given.
    type: list
    elements: str
    default: []
  environments:
    description:
      - Groups of the inventory that are an environment, as O(classes).
      - Taken from the variable C(tidegate_environments), when it is not given.
    type: list
    elements: str
    default: []
requirements:
  - SQLAlchemy >= 2
  - alembic >= 1
  - jsonschema >= 4.20 for O(src)
  - psycopg >= 3 for a CMDB in PostgreSQL
seealso:
  - module: tidegate.release.cmdb_ci
  - module: tidegate.release.cmdb_export
  - module: tidegate.release.adopt
  - plugin: tidegate.release.cmdb
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: Enter the hosts of the inventory, those of the groups ams and lon with their site
  tidegate.release.cmdb_import:
    cmdb: /srv/cmdb.sqlite
    sites: [ams, lon]
  delegate_to: localhost

- name: Enter the records of another CMDB in a new one
  tidegate.release.cmdb_import:
    cmdb: postgresql+psycopg://cmdb@db/cmdb
    src: /srv/cmdb.json
  delegate_to: localhost

# The inventory file cmdb.yml in place of the old one, with the same groups:
# plugin: tidegate.release.cmdb
# keyed_groups:
#   - {key: "inventory_groups | default([])", prefix: "", separator: ""}
"""

RETURN = r"""
msg:
  description: What was done, or in check mode would be, and what was not; a line for each thing.
  type: str
  returned: success
created:
  description: Names of the CIs that are new.
  type: list
  elements: str
  returned: success
updated:
  description: Names of the CIs that changed.
  type: list
  elements: str
  returned: success
gone:
  description: Names of the CIs that the inventory does not have any more.
  type: list
  elements: str
  returned: success
not_taken:
  description: By host, the variables that were not taken, each with the reason.
  type: dict
  returned: success
  sample: {web1: {db_password: it looks like a secret}}
dropped:
  description: By host, the attributes that came from the inventory before and were taken away.
  type: dict
  returned: success
  sample: {web1: [http_port]}
"""
