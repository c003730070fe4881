#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sign what somebody who tried a package thinks of it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: opinion
short_description: Give a user's opinion of an archived package, as signed evidence
version_added: 0.1.0
description:
  - Signs what the owner of O(key) thinks of a package that they tried, and keeps it in the DSL beside the package. An opinion is of this
    very package; one that is built anew has none.
  - How many people of each role have to give theirs, and what mean score it has to come to, is said in the policy under C(opinions).
    M(tidegate.release.clear) counts the last opinion of each person in each of these roles. An opinion that is O(blocking) stops the
    release, whatever the others say, until the same person signs another in that role or the control C(opinions) is waived.
  - What is the last word of this person already is not signed again.
  - With a CMDB, that remembers what the library has of the release now, so that nothing of it can vanish unseen.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.package
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.key
  - tidegate.release.homes.local
options:
  score:
    description:
      - From 1, useless, to 5, excellent.
      - Taken from the variable C(tidegate_score), when it is not given.
    type: int
    required: true
  role:
    description:
      - In which role. Can be left out when only one of the roles that the policy asks is theirs.
      - Taken from the variable C(tidegate_role), when it is not given.
    type: str
  functionality:
    description:
      - What they say of what it does.
      - Taken from the variable C(tidegate_functionality), when it is not given.
    type: str
    default: ""
  usability:
    description:
      - What they say of working with it.
      - Taken from the variable C(tidegate_usability), when it is not given.
    type: str
    default: ""
  blocking:
    description:
      - Whether it must not go live as it is.
      - Taken from the variable C(tidegate_blocking), when it is not given.
    type: bool
    default: false
seealso:
  - module: tidegate.release.clear
  - module: tidegate.release.waiver
  - module: tidegate.release.attestation_info
"""

EXAMPLES = r"""
- name: Say that it is good
  tidegate.release.opinion:
    name: pypiserver
    version: 2.3.2
    score: 4
    functionality: All that we need.
    usability: The upload form is hard to find.
    dsl: /srv/dsl
    policy: /srv/policy.yml
    key: /home/tess/key.pem

- name: Say that it must not go live
  tidegate.release.opinion:
    name: pypiserver
    digest: sha256:53b9f6d9e1ad4f0a0d5dd0b3b7b3a4f7c6b1ee6d7b0b3a0a6c2e4d9c8a7f1e22
    role: tester
    score: 1
    blocking: true
    functionality: It loses packages whose names have a dot.
    dsl: /srv/dsl
    policy: /srv/policy.yml
    key: /home/tess/key.pem
"""

RETURN = r"""
msg:
  description: The opinion in a sentence.
  type: str
  returned: success
  sample: tess gives pypiserver 2.3.2 4 of 5 as tester
version:
  description: Version of the release, as its package says.
  type: str
  returned: success
  sample: 2.3.2
digest:
  description: Digest of its package.
  type: str
  returned: success
  sample: sha256:53b9f6d9e1ad4f0a0d5dd0b3b7b3a4f7c6b1ee6d7b0b3a0a6c2e4d9c8a7f1e22
person:
  description: Whose opinion it is, by the policy.
  type: str
  returned: success
  sample: tess
role:
  description: In which role.
  type: str
  returned: success
  sample: tester
"""
