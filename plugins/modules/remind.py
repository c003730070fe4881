#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell people what is due now."""

from __future__ import annotations

DOCUMENTATION = r"""
module: remind
short_description: Tell people what is due now
version_added: 0.1.0
description:
  - Tells the channels of the policy, under C(communication.tell), what is due now. The window of a change opens within an hour
    (C(window_opens)); a deployment has been held for an hour, and again each day (C(held_since)); a duty is due within a day, or is
    overdue (C(duty_due)); stock is low (C(stock_low)).
  - Tells as well what happened in the quiet hours of a channel and was not urgent, when they are over.
  - Each is told once to each channel, which the CMDB remembers, however many schedules run this. There is no daemon, so run it every
    ten minutes or so.
  - What no address of a channel took is tried again by the next run, for a day.
  - Fails when a channel could not be told.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.local
requirements:
  - SQLAlchemy >= 2
  - psycopg >= 3 for a CMDB in PostgreSQL
  - apprise
seealso:
  - module: tidegate.release.tell
"""

EXAMPLES = r"""
- name: Tell people what is due
  tidegate.release.remind:
    cmdb: /srv/cmdb.sqlite
    policy: /srv/policy.yml
  delegate_to: localhost
"""

RETURN = r"""
told:
  description: What was told, or would be in check mode, in order.
  type: list
  elements: dict
  returned: always
  contains:
    title:
      description: The title of the message.
      type: str
      sample: "CHG0030001 hello 1.2: its window opens soon"
    channels:
      description: The channels that were told.
      type: list
      elements: str
      sample: [chat]
waiting:
  description: How many messages wait for quiet hours to end, or for an address to take them.
  type: int
  returned: always
problems:
  description: Which channel could not be told of what, and why.
  type: list
  elements: str
  returned: always
"""
