#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do a step of a release of firmware with all machines of a wave at the same time."""

from __future__ import annotations

DOCUMENTATION = r"""
module: devices
short_description: Give all machines of a wave their firmware, each through its BMC, or look again what they run
version_added: 0.1.0
description:
  - Goes on with the deployment of O(rfc) that this run of ansible-playbook has planned or taken over, see M(tidegate.release.plan),
    when the release is firmware and each host of the wave has the attribute C(redfish) in the CMDB. It is one task for all of them.
  - Does with each machine what M(tidegate.release.activate) and M(tidegate.release.confirm) do, with up to 64 of them at the same time,
    whatever C(forks) is, in one worker, which shares 24 and more of them out to a process for each processor. Other machines are left to
    those.
  - Who we are to a BMC is taken from the variables of its own host.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.rfc
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.redfish
  - tidegate.release.homes.local
options:
  step:
    description:
      - V(activate) gives them their firmware, V(confirm) looks again what they run.
      - Where the deployment has no time for which a release has to stay healthy, V(activate) looks again by itself.
    type: str
    required: true
    choices: [activate, confirm]
seealso:
  - module: tidegate.release.activate
  - module: tidegate.release.gate
"""

EXAMPLES = r"""
- name: Give the machines of the wave their firmware
  tidegate.release.devices:
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
  description: By host that the step was for, its state in the journal, and why it is in that.
  type: dict
  returned: when somebody was visited
  sample:
    srv1:
      state: started
      detail: ""

settled:
  description: Whether none of them has to be looked at again.
  type: bool
  returned: when somebody was visited

msg:
  description: Which machines did not get there, a line for each, or why nothing was begun.
  type: str
  returned: when there is something to say
"""
