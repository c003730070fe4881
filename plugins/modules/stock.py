#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say whether there are spares enough."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stock
short_description: Say for each stock rule what there is, and what to order
version_added: 0.1.0
description:
  - Counts, for each rule of the definitive hardware storage, the units that are usable, reserved and on the way, and says how many to
    order, the smallest multiple of the rule's order size with which the target is reached.
  - Fails when stock is short for any rule, so a schedule that runs it notices.
  - Settles the duty C(spares) of each change that raised what units of a model have to have, once none in stock or on a bench was read
    to be behind, and says so. See M(tidegate.release.settlement).
  - Tells the channels that the policy names under C(communication.tell.stock_low), when nobody was told of a shortage yet.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.local
options:
  stockrooms:
    description: The stockrooms to look at; all unless they are given.
    type: list
    elements: str
requirements:
  - SQLAlchemy >= 2
  - psycopg >= 3 for a CMDB in PostgreSQL
seealso:
  - module: tidegate.release.dhs_rule
  - module: tidegate.release.dhs_asset_info
"""

EXAMPLES = r"""
- name: Say what to order
  tidegate.release.stock:
    cmdb: /srv/cmdb.sqlite
  delegate_to: localhost
"""

RETURN = r"""
stock:
  description: The rules, by stockroom and model, and how it stands for each.
  type: list
  elements: dict
  returned: always
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
    target:
      description: How many there are to be after an order.
      type: int
    order_size:
      description: Units are ordered in multiples of this.
      type: int
    source:
      description: Where they are ordered.
      type: str
    substitutes:
      description: Other models whose units count as well.
      type: list
      elements: str
    usable:
      description: How many units are in stock there and available, and at the level of their model if that has one.
      type: int
      sample: 2
    reserved:
      description: How many are reserved for deployments.
      type: int
    on_the_way:
      description: How many are ordered, or in transit to there.
      type: int
    unfit:
      description: How many are there and count for nothing, by substate.
      type: dict
    short:
      description: Whether it is time to order.
      type: bool
    to_order:
      description: How many to order.
      type: int
      sample: 4
"""
