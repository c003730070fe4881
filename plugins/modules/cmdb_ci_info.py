#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read CIs from the CMDB."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cmdb_ci_info
short_description: Read CIs, their relations and what is installed on them
version_added: 0.1.0
description:
  - Reads from the CMDB, all at one moment, now or in the past, the CIs that O(names) and O(query) pick; all without either.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.local
options:
  names:
    description: Names of CIs; those that don't exist are left out.
    type: list
    elements: str
  query:
    description:
      - JMESPath expression over the list of all CIs, as RV(cis) has them without their relations, that gives CIs or their names.
    type: str
  at:
    description:
      - The moment of the past of which they are asked for, RFC 3339 with an offset, such as V(2027-05-03T12:00:00Z). It is made of the
        history; without it, it is now.
    type: str
requirements:
  - SQLAlchemy >= 2
  - jmespath >= 1
  - psycopg >= 3 for a CMDB in PostgreSQL
seealso:
  - module: tidegate.release.cmdb_ci
"""

EXAMPLES = r"""
- name: Find the web servers in Amsterdam
  tidegate.release.cmdb_ci_info:
    query: "[?class=='web' && site=='ams']"
  delegate_to: localhost
  register: web

- name: Find out what the same servers were on a day in May
  tidegate.release.cmdb_ci_info:
    query: "[?class=='web' && site=='ams']"
    at: "2027-05-03T12:00:00Z"
  delegate_to: localhost

- name: Show what runs there
  ansible.builtin.debug:
    msg: "{{ web.cis | items2dict(key_name='name', value_name='installations') }}"
"""

RETURN = r"""
cis:
  description: The CIs, by name.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: Name of the CI.
      type: str
      sample: web1
    class:
      description: What kind of CI it is.
      type: str
      sample: web
    site:
      description: Where it is.
      type: str
      sample: ams
    environment:
      description: What it is for.
      type: str
      sample: production
    status:
      description: State of the CI, see O(tidegate.release.cmdb_ci#module:status).
      type: str
      sample: installed
    install_status:
      description: That state in ServiceNow's field of this name.
      type: int
      sample: 1
    operational_status:
      description: That state in ServiceNow's field of this name.
      type: int
      sample: 1
    owned_by:
      description: Who answers for it.
      type: str
    support_group:
      description: Who looks after it.
      type: str
    location:
      description: Where at its site it is.
      type: str
    time_zone:
      description: Time zone where it is.
      type: str
    revision:
      description: How often it has been written, to be given back to O(tidegate.release.cmdb_ci#module:revision).
      type: int
      sample: 3
    attributes:
      description: Everything else that is known about it.
      type: dict
      sample: {ansible_host: 192.0.2.11}
    installations:
      description: By release, the C(version) and C(digest) that are installed.
      type: dict
    written_off:
      description: Null, or C(since) when, C(by) whom and for which C(reason) the host was written off.
      type: dict
    relations:
      description: Relations that start or end at the CI, each with C(source), C(target) and C(kind).
      type: list
      elements: dict
"""
