#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Record which hosts adopted a release."""

from __future__ import annotations

DOCUMENTATION = r"""
module: adoption
short_description: Begin to adopt a release, and record which hosts have it
version_added: 0.1.0
description:
  - A part of the playbook C(tidegate.release.adopt), on the controller, before and after M(tidegate.release.adopt) on each host.
  - With O(step=begin) it fails, before any host is asked, unless C(release.yml) is in order, the CMDB has all hosts, with no other version
    of the release, and no deployment holds one of them.
  - With O(step=record) hosts whose task ended with C(adopted), which the variable C(adopt_result) has, get the release as installed in the
    CMDB, in one transaction. It fails when there are others, and names each with the reason. Running it all again, when those have been
    mended, leaves what was adopted as it is. Seats of a licensed product are taken by deployments alone, so hosts that have none are named.
  - When the release brings a role with the step C(check), that runs on those hosts before, in one ansible-playbook of its own, and a host
    has to pass it. No other step of the role runs.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.local
options:
  step:
    description: What to do.
    type: str
    choices: [begin, record]
    required: true
  release:
    description:
      - Directory of the release, with its C(release.yml).
      - Taken from the variable C(tidegate_release), when it is not given.
    type: path
    required: true
  path:
    description:
      - Directory on hosts that the release runs from now. Needed unless the release has only a role.
      - Taken from the variable C(tidegate_path), when it is not given.
    type: str
  hosts:
    description: The hosts that are to have the release.
    type: list
    elements: str
    required: true
seealso:
  - module: tidegate.release.adopt
  - module: tidegate.release.audit
"""

EXAMPLES = r"""
- name: Record what became of each host
  tidegate.release.adoption:
    step: record
    release: /srv/releases/board
    path: /srv/board
    hosts: "{{ groups['web'] }}"
    dsl: /srv/dsl
    cmdb: /srv/cmdb.sqlite
"""

RETURN = r"""
digest:
  description: The digest of the release's package.
  type: str
  returned: when O(step=record)
adopted:
  description: The hosts that have the release now.
  type: list
  elements: str
  returned: when O(step=record)
not_adopted:
  description: By host, why it has not.
  type: dict
  returned: when O(step=record)
  sample: {web3: "/srv/board is not board 1.0: it has otherwise index.html"}
"""
