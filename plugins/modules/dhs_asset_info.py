#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read units of the definitive hardware storage."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dhs_asset_info
short_description: Read which units the definitive hardware storage has, and where they are
version_added: 0.1.0
description:
  - Reads physical units out of the CMDB, all or those that each of the given options has in its list.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.local
options:
  tags:
    description: Tags of units.
    type: list
    elements: str
  models:
    description: Models.
    type: list
    elements: str
  stockrooms:
    description: Stockrooms that units are in, or on their way to.
    type: list
    elements: str
  cis:
    description: CIs that units are in use by.
    type: list
    elements: str
  states:
    description: States.
    type: list
    elements: str
    choices: [on_order, in_stock, in_transit, in_use, in_maintenance, retired, missing]
  history:
    description: Whether to read what was done with these units, too.
    type: bool
    default: false
requirements:
  - SQLAlchemy >= 2
  - psycopg >= 3 for a CMDB in PostgreSQL
seealso:
  - module: tidegate.release.dhs_asset
  - module: tidegate.release.stock
"""

EXAMPLES = r"""
- name: What is in web1
  tidegate.release.dhs_asset_info:
    cmdb: /srv/cmdb.sqlite
    cis: [web1]
  delegate_to: localhost

- name: Where a unit has been
  tidegate.release.dhs_asset_info:
    cmdb: /srv/cmdb.sqlite
    tags: [A-1001]
    history: true
  delegate_to: localhost
"""

RETURN = r"""
units:
  description: The units, by tag.
  type: list
  elements: dict
  returned: success
  contains:
    tag:
      description: The name that its owner gave it.
      type: str
      sample: A-1001
    manufacturer:
      description: Who made it.
      type: str
    serial:
      description: The number that the maker gave it.
      type: str
    model:
      description: What it is.
      type: str
    state:
      description: Where it is.
      type: str
      sample: in_use
    install_status:
      description: The same as ServiceNow's number.
      type: int
      sample: 1
    substate:
      description: What it is good for.
      type: str
    stockroom:
      description: The stockroom that it is in, or on its way to.
      type: str
    ci:
      description: The CI that it is in use by.
      type: str
      sample: web1
    slot:
      description: Where in the CI.
      type: str
      sample: PSU.2
    deployment:
      description: The number of the deployment that it is reserved for; null for none.
      type: int
history:
  description: What was done with the units, oldest first.
  type: list
  elements: dict
  returned: when asked for
  contains:
    asset:
      description: The unit's tag.
      type: str
      sample: A-1001
    at:
      description: When.
      type: str
    actor:
      description: Who.
      type: str
    event:
      description: What.
      type: str
      sample: asset install
    data:
      description: The unit C(before) and C(after), and the C(reason), if one was given.
      type: dict
"""
