#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sign somebody's decision on an RFC."""

from __future__ import annotations

DOCUMENTATION = r"""
module: approval
short_description: Approve or reject an RFC, as signed evidence
version_added: 0.1.0
description:
  - Signs that the owner of O(key) approves the RFC or rejects it. The decision is on the RFC as it reads now, on the package that it
    names, and on the CIs that its scope selects now. When any of these changes, an approval is void; a rejection holds until its
    author approves.
  - The decision is kept in the DSL beside the package. M(tidegate.release.clear) counts distinct people in each role that the policy
    names under C(approvals), and leaves out those whom C(separate) in the policy bars.
  - What is the last word of this person already is not signed again.
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
  decision:
    description:
      - What the owner of the key says.
      - Taken from the variable C(tidegate_decision), when it is not given.
    type: str
    choices: [approved, rejected]
    default: approved
  role:
    description:
      - In which role. Can be left out when only one of the roles that decide on this type of RFC is theirs.
      - Taken from the variable C(tidegate_role), when it is not given.
    type: str
  comment:
    description:
      - Why, for those who read it later.
      - Taken from the variable C(tidegate_comment), when it is not given.
    type: str
    default: ""
seealso:
  - module: tidegate.release.clear
  - module: tidegate.release.attestation_info
"""

EXAMPLES = r"""
- name: Approve an RFC
  tidegate.release.approval:
    rfc: /srv/rfcs/CHG0030001.yml
    dsl: /srv/dsl
    cmdb: /srv/cmdb.sqlite
    policy: /srv/policy.yml
    key: /home/carl/key.pem

- name: Reject it
  tidegate.release.approval:
    rfc: /srv/rfcs/CHG0030001.yml
    dsl: /srv/dsl
    cmdb: /srv/cmdb.sqlite
    policy: /srv/policy.yml
    key: /home/carl/key.pem
    decision: rejected
    role: change-manager
    comment: Not in the week before the elections.
"""

RETURN = r"""
msg:
  description: The decision in a sentence.
  type: str
  returned: success
  sample: carl approved CHG0030001 as change-manager, hello 1.0 on 3 CIs
rfc:
  description: Number of the RFC.
  type: str
  returned: success
  sample: CHG0030001
rfc_digest:
  description: Digest of all that the RFC says but for where it stands (state, hold and approvals).
  type: str
  returned: success
  sample: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
digest:
  description: Digest of the release's package.
  type: str
  returned: success
  sample: sha256:53b9f6d9e1ad4f0a0d5dd0b3b7b3a4f7c6b1ee6d7b0b3a0a6c2e4d9c8a7f1e22
cis:
  description: The CIs that the scope selects now, sorted.
  type: list
  elements: str
  returned: success
  sample: [web1, web2, web3]
person:
  description: Who decided, by the policy.
  type: str
  returned: success
  sample: carl
role:
  description: In which role.
  type: str
  returned: success
  sample: change-manager
decision:
  description: What they said.
  type: str
  returned: success
  sample: approved
"""
