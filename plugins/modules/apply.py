#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have a release's own role do the hosts of a wave."""

from __future__ import annotations

DOCUMENTATION = r"""
module: apply
short_description: Have a release's own role do the hosts of a wave, or change data
version_added: 0.1.0
description:
  - Goes on with the deployment of O(rfc) that this run of ansible-playbook has planned or taken over, see M(tidegate.release.plan),
    when the release has a role of its own. It is one task for all hosts of the wave.
  - The role is taken from O(dsl), held against the package's digest, and runs in an ansible-playbook of its own, with this one's
    inventory, extra variables, connection options, passwords and vault secrets.
  - Nobody believes how that ends. A host is good when it reached the last task, nothing failed on it, and it was reached all the time.
  - Hosts that did not come up go back at once. One on which that fails too stays out of service, and RV(hosts) says so.
  - Before each task of the role it is looked up whether this run still holds the deployment; if not, it ends itself.
  - What the role's tasks print is in a file that only its owner can read, in C(~/.local/state/tidegate), or below E(XDG_STATE_HOME).
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.rfc
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.root
  - tidegate.release.homes.local
options:
  step:
    description:
      - V(activate) brings the hosts to the release, and V(backout) back to what they ran before.
      - V(migrate) changes data by the one host that is given, once for each deployment before its first wave, and V(reverse) brings them
        back after the last host is back. When such a step was interrupted, or failed, it is not run again before a person has said, by
        O(tidegate.release.plan#module:data), how the data are.
    type: str
    required: true
    choices: [activate, backout, migrate, reverse]
seealso:
  - module: tidegate.release.activate
  - module: tidegate.release.gate
"""

EXAMPLES = r"""
- name: Have the release's own role do the wave
  tidegate.release.apply:
    step: activate
    rfc: /srv/rfcs/CHG0030001.yml
    cmdb: /srv/cmdb.sqlite
    dsl: /srv/dsl
  run_once: true
  delegate_to: localhost
  become: false
"""

RETURN = r"""
hosts:
  description: By host, its state in the journal, and why it is in that.
  type: dict
  returned: when a wave is done, not in check mode
  sample:
    web1:
      state: active
      detail: ""

msg:
  description: Why nothing was begun, or what became of the data.
  type: str
  returned: when it was skipped, or data were to be changed
"""
