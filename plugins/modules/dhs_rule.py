#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say how many units of a model a stockroom should have."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dhs_rule
short_description: Say how many units of a model a stockroom should have
version_added: 0.1.0
description:
  - Keeps stock rules of the definitive hardware storage as described, many in one transaction. Every change leaves a line in the CMDB's
    history.
  - A rule says with how many usable units of a model a stockroom is short, and how many are to be there after an order. Usable is what is
    in stock there and available, and was read lately to have the firmware that live units of its model have, where a firmware release has
    completed on any.
  - M(tidegate.release.stock) says how it stands for each.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.local
options:
  rules:
    description: The rules. There is one for a model in a stockroom.
    type: list
    elements: dict
    required: true
    suboptions:
      model:
        description: The model.
        type: str
        required: true
      stockroom:
        description: The stockroom.
        type: str
        required: true
      threshold:
        description: With so many usable units, or fewer, stock is short. Needed for O(state=present).
        type: int
      target:
        description: How many there are to be after an order, more than O(rules[].threshold). Needed for O(state=present).
        type: int
      order_size:
        description: Units are ordered in multiples of this.
        type: int
        default: 1
      source:
        description: Where they are ordered, for people.
        type: str
        default: ""
      substitutes:
        description: Other models whose units count as well.
        type: list
        elements: str
        default: []
  state:
    description: V(absent) removes the rules.
    type: str
    choices: [present, absent]
    default: present
attributes:
  diff_mode:
    description: Returns what changed when in diff mode.
    support: full
requirements:
  - SQLAlchemy >= 2
  - psycopg >= 3 for a CMDB in PostgreSQL
seealso:
  - module: tidegate.release.dhs_asset
  - module: tidegate.release.stock
"""

EXAMPLES = r"""
- name: Keep power supplies in Amsterdam
  tidegate.release.dhs_rule:
    cmdb: /srv/cmdb.sqlite
    rules:
      - {model: PSU-800, stockroom: ams-1, threshold: 2, target: 6, order_size: 4, source: Contoso}
  delegate_to: localhost
"""

RETURN = r"""
rules:
  description: The rules that were changed, as they are now; those that were removed, as they were.
  type: list
  elements: dict
  returned: success
  contains:
    model:
      description: The model.
      type: str
      sample: PSU-800
    stockroom:
      description: The stockroom.
      type: str
      sample: ams-1
    threshold:
      description: With so many usable units, or fewer, stock is short.
      type: int
      sample: 2
    target:
      description: How many there are to be after an order.
      type: int
      sample: 6
    order_size:
      description: Units are ordered in multiples of this.
      type: int
      sample: 4
    source:
      description: Where they are ordered.
      type: str
    substitutes:
      description: Other models whose units count as well.
      type: list
      elements: str
"""
