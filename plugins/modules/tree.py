#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do one step with the tree of a release whose own role does the rest."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tree
short_description: Switch the tree of a release whose own role does the rest
version_added: 0.1.0
description:
  - A part of what M(tidegate.release.apply) has done to a host, between the steps of the release's own role. It is nothing to call by hand.
  - It refuses a host of which the journal does not say that it is about to change.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.rfc
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.root
  - tidegate.release.homes.host
  - tidegate.release.homes.settings
options:
  step:
    description:
      - V(wait) waits for what an interrupted run has left running there.
      - V(activate) makes the staged tree the live one, and V(settle) waits for the health checks.
      - V(confirm) looks whether they have passed all the time since.
      - V(leave) makes the tree before the live one, and V(backout) waits for the health checks of that.
    type: str
    required: true
    choices: [wait, activate, settle, confirm, leave, backout]
  treeless:
    description: The digests of packages that hosts ran before and that have no payload, so that there is no tree to go back to.
    type: list
    elements: str
    default: []
seealso:
  - module: tidegate.release.apply
"""

EXAMPLES = r"""
- name: Make the new tree the live one
  tidegate.release.tree:
    step: activate
    rfc: /srv/rfcs/CHG0030001.yml
    cmdb: /srv/cmdb.sqlite
    dsl: /srv/dsl
"""

RETURN = r"""
state:
  description: V(started), V(active), V(backed_out), V(failed), V(stuck) or V(owed).
  type: str
  returned: when not in check mode
  sample: started

msg:
  description: Why it did not succeed, or what is to be known of a host on which it did.
  type: str
  returned: when there is something to say
"""
