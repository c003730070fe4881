#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sign that a control does not stand in the way of an RFC."""

from __future__ import annotations

DOCUMENTATION = r"""
module: waiver
short_description: Waive a control for one RFC, as signed evidence
version_added: 0.1.0
description:
  - Signs that the owner of O(key) lets one RFC pass although a control fails, for a reason and until a time. The waiver is of the RFC as
    it reads now, and of the package that it names; when either changes it is void.
  - It is kept in the DSL beside the package. Which controls can be waived, and by how many people with which role, is said in the policy
    under C(waivers), out of those that C(docs/controls.md) in the collection lists as such, some of them for RFCs of the type emergency
    alone. M(tidegate.release.clear) then gives the control as C(waived), with who waived it and why. A control that could not find
    something out is never waived.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.rfc
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.key
  - tidegate.release.homes.local
options:
  control:
    description: Name of the control.
    type: str
    required: true
  reason:
    description: Why it is right to go on.
    type: str
    required: true
  expires:
    description: Until when it counts, in RFC 3339 with an offset from UTC.
    type: str
    required: true
seealso:
  - module: tidegate.release.approval
  - module: tidegate.release.clear
"""

EXAMPLES = r"""
- name: Let a release pass whose operations manual is still being written
  tidegate.release.waiver:
    rfc: /srv/rfcs/CHG0030001.yml
    control: documentation
    reason: The manual follows on Monday, operations know.
    expires: "2027-03-02T12:00:00+01:00"
    dsl: /srv/dsl
    cmdb: /srv/cmdb.sqlite
    policy: /srv/policy.yml
    key: /home/carl/key.pem
"""

RETURN = r"""
msg:
  description: The waiver in a sentence.
  type: str
  returned: success
  sample: carl waived documentation for CHG0030001 as change-manager, until 2027-03-02T12:00:00+01:00
rfc:
  description: Number of the RFC.
  type: str
  returned: success
  sample: CHG0030001
digest:
  description: Digest of the release's package.
  type: str
  returned: success
  sample: sha256:53b9f6d9e1ad4f0a0d5dd0b3b7b3a4f7c6b1ee6d7b0b3a0a6c2e4d9c8a7f1e22
control:
  description: Name of the control.
  type: str
  returned: success
  sample: documentation
person:
  description: Who waived it, by the policy.
  type: str
  returned: success
  sample: carl
role:
  description: In which role.
  type: str
  returned: success
  sample: change-manager
expires:
  description: Until when it counts.
  type: str
  returned: success
  sample: "2027-03-02T12:00:00+01:00"
"""
