#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say who is told of what, and try whether they are."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tell
short_description: Say who is told of what, and try whether they are
version_added: 0.1.0
description:
  - Says for each channel of the policy, under C(communication), of which events it is told, and whether its addresses are there.
  - With O(test) each is sent a message that says that it is a test, at the same time and within ten seconds.
  - Fails when a channel can't be used, or did not take the message, so it is found out before a deployment is held and nobody hears of it.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.policy
  - tidegate.release.homes.local
options:
  test:
    description:
      - Whether to send the message.
      - Taken from the variable C(tidegate_test), when it is not given.
    type: bool
    default: false
requirements:
  - apprise, for O(test)
"""

EXAMPLES = r"""
- name: Try every channel
  tidegate.release.tell:
    policy: /srv/policy.yml
    test: true
  delegate_to: localhost
"""

RETURN = r"""
channels:
  description: The channels of the policy, by name.
  type: list
  elements: dict
  returned: always
  contains:
    name:
      description: The name.
      type: str
      sample: chat
    events:
      description: Of what it is told.
      type: list
      elements: str
      sample: [hold, back_out]
    quiet:
      description: In which hours it is told only what is urgent; empty when it has none.
      type: str
      sample: 20:00 to 07:00 Europe/Berlin
    told:
      description: Whether it took the message of this run.
      type: bool
    problem:
      description: Why it can't be used, or did not take the message; empty when all is well.
      type: str
"""
