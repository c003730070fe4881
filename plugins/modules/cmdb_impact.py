#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which CIs are hit by what happens to others."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cmdb_impact
short_description: Find out which CIs are hit by what happens to others
version_added: 0.1.0
description:
  - Follows the relations of the CMDB, in the direction in which the model of CIs says that something hits, C(hits) in
    M(tidegate.release.cmdb_model). A kind of relation that the model does not have hits both ends.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.local
options:
  names:
    description: Names of the CIs to which something happens.
    type: list
    elements: str
    required: true
  hops:
    description: Over how many relations at most; any number without it.
    type: int
  upstream:
    description: Whether to look the other way, for the CIs by which O(names) are hit.
    type: bool
    default: false
requirements:
  - SQLAlchemy >= 2
  - psycopg >= 3 for a CMDB in PostgreSQL
seealso:
  - module: tidegate.release.cmdb_relation
  - module: tidegate.release.cmdb_model
"""

EXAMPLES = r"""
- name: Find out what a rack without power takes down
  tidegate.release.cmdb_impact:
    cmdb: /srv/cmdb.sqlite
    names: [rack7]
  delegate_to: localhost
  register: hit

- name: Say how
  ansible.builtin.debug:
    msg: "{{ hit.hits | map(attribute='chain') | map('join', ', ') }}"
"""

RETURN = r"""
hits:
  description: The CIs that are hit, the nearest first.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: Name of the CI.
      type: str
      sample: shop
    hops:
      description: Over how many relations it is hit, at least.
      type: int
      sample: 2
    chain:
      description: These relations, the first one at one of O(names).
      type: list
      elements: str
      sample: [db1 stands_in rack7, shop depends_on db1]
"""
