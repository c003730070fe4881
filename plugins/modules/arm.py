#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Get the host ready to switch at an instant that it is told later."""

from __future__ import annotations

DOCUMENTATION = r"""
module: arm
short_description: Get a host ready to switch to a staged release at an instant that it is told later
version_added: 0.1.0
description:
  - Does all that M(tidegate.release.activate) does before the host changes, and leaves a process there that holds the order in memory and
    waits.
  - Refuses a host whose clock is not known to be within C(rollout.together.skew_milliseconds) of the controller's.
  - Nothing changes on an armed host unless it is told the instant, in time and by the run that armed it.
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
  back:
    description:
      - Whether it gets the host ready to go back, of a deployment that somebody has ordered to be backed out.
      - One that can't be is left as it is, for M(tidegate.release.backout).
    type: bool
    default: false
seealso:
  - module: tidegate.release.activate
  - module: tidegate.release.instant
"""

EXAMPLES = r"""
- name: Get a host ready to switch to a staged release at an instant that it is told later
  tidegate.release.arm:
    rfc: /srv/rfcs/CHG0030001.yml
    cmdb: /srv/cmdb.sqlite
    dsl: /srv/dsl
    settings:
      address: 192.0.2.10
      port: 8080
"""

RETURN = r"""
state:
  description: V(armed), V(failed), V(stuck) or V(lost).
  type: str
  returned: when not in check mode
  sample: armed

msg:
  description: Why it did not succeed, or what is to be known of a host on which it did.
  type: str
  returned: when there is something to say

progress:
  description: What the progress display shows of this task.
  type: dict
  returned: when not in check mode
"""
