#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write off a host that will not come back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: write_off
short_description: Say that a host will not come back, so that nothing waits for it any more
version_added: 0.1.0
description:
  - Notes in the CMDB and its history that a host is dead. Deployments that are open go on without it, those that wait to back it out owe
    it nothing more, and new ones leave it out. In a rollout it counts as a host that failed, so the budgets of the policy still hold.
  - What is installed there stays on record until the CI is removed, which M(tidegate.release.cmdb_ci) now does. Seats of licensed
    products that the host had are free.
  - It ends when the host is there again, which an audit finds out, see M(tidegate.release.audit), or somebody says so with O(state=absent).
  - With a key it is signed, and the history keeps the signature. When the policy names people it has to be the key of one of them.
  - Refused while a controller drives a deployment that may be about to change the host.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.key
  - tidegate.release.homes.local
options:
  host:
    description:
      - The host's name in the CMDB.
      - Taken from the variable C(tidegate_host), when it is not given.
    type: str
    required: true
  reason:
    description:
      - Why it will not come back, or how it is known that it is there again. Needed for O(state=present).
      - Taken from the variable C(tidegate_reason), when it is not given.
    type: str
    default: ""
  state:
    description: V(present) writes it off, V(absent) takes that back.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: tidegate.release.audit
  - module: tidegate.release.cmdb_ci
  - module: tidegate.release.report
"""

EXAMPLES = r"""
- name: The disk of web4 died
  tidegate.release.write_off:
    host: web4
    reason: Its disk died on Monday, see INC0012
    key: ~/.tidegate/carl.pem
    cmdb: /srv/cmdb.sqlite
    policy: /srv/policy.yml
"""

RETURN = r"""
person:
  description: Who wrote the host off, or took that back.
  type: str
  returned: success
  sample: carl
deployments:
  description: The open deployments that go on without the host.
  type: list
  elements: str
  returned: success
  sample: [CHG0030009#12]
"""
