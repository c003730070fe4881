#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settle what an audit found, under an RFC."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cmdb_reconcile
short_description: Settle what the last audit found, under an RFC that allows it
version_added: 0.1.0
description:
  - Takes the differences of the last audit, which the CMDB's history has, on the CIs of an RFC. With O(action=record) what is there is put
    on record, with O(action=restore) it says which of them a deployment of the same RFC brings back to what is on record.
  - Refuses unless the RFC, as it reads, is in the register of changes, approved, at Scheduled or Implement, not on hold, its window open,
    and about these CIs.
  - Put on record can be a release that is live where another one or none is recorded, if it is the very package that the RFC names, the
    library holds it and its signatures count; the firmware that a device says it runs, unless a release brought another one; and the
    packages, units, cron files and listeners of a host that has a record of these. Nothing else can, for a release is what its digest
    says.
  - To restore, run M(tidegate.release.cmdb_reconcile), C(tidegate.release.deploy) and C(tidegate.release.audit) one after the other with
    an RFC that names the package on record. That goes the normal way, cleared, staged, activated behind gates and recorded.
  - Who did it, why, under which RFC, what was on record before and the audit are in the history of each CI, in one transaction with the
    records. With a key it is signed. When the policy names people it has to be the key of one of them.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.rfc
  - tidegate.release.homes.policy
  - tidegate.release.homes.key
  - tidegate.release.homes.local
options:
  reason:
    description:
      - Why it is so.
      - Taken from the variable C(tidegate_reason), when it is not given.
    type: str
    default: ""
  action:
    description:
      - V(record) puts on record what is there, V(restore) says what a deployment of the RFC brings back and changes nothing itself.
      - Taken from the variable C(tidegate_reconcile_action), when it is not given.
    type: str
    choices: [record, restore]
    default: record
  kinds:
    description:
      - Only differences of these kinds, as RV(tidegate.release.audit#module:differences[].kind) has them.
      - Taken from the variable C(tidegate_reconcile_kinds), when it is not given.
    type: list
    elements: str
    default: []
  hosts:
    description:
      - Only differences on these hosts.
      - Taken from the variable C(tidegate_reconcile_hosts), when it is not given.
    type: list
    elements: str
    default: []
seealso:
  - module: tidegate.release.audit
  - module: tidegate.release.schedule
"""

EXAMPLES = r"""
- name: Somebody had to bring hello 1.2 by hand on Sunday, which CHG0030009 has approved since
  tidegate.release.cmdb_reconcile:
    rfc: CHG0030009.yml
    reason: Brought by hand while the library was down, see INC0012
    kinds: [other_version]
    key: ~/.tidegate/carl.pem
    dsl: /srv/dsl
    cmdb: /srv/cmdb.sqlite
    policy: /srv/policy.yml
"""

RETURN = r"""
settled:
  description: The differences that are on record now, or that a deployment of the RFC brings back, as M(tidegate.release.audit) has them.
  type: list
  elements: dict
  returned: success
left:
  description: A sentence for each difference that this RFC does not settle so.
  type: list
  elements: str
  returned: success
person:
  description: Who took the responsibility.
  type: str
  returned: success
  sample: carl
"""
