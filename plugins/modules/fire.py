#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell an armed host the instant."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fire
short_description: Tell an armed host the instant at which it switches
version_added: 0.1.0
description:
  - Writes ahead to the journal that the host may change from now on, and tells it the instant that M(tidegate.release.instant) has set.
  - Does nothing where no instant was set, and on hosts that are not armed.
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
    description: Whether it is a host that was armed to go back.
    type: bool
    default: false
seealso:
  - module: tidegate.release.activate
  - module: tidegate.release.instant
"""

EXAMPLES = r"""
- name: Tell an armed host the instant at which it switches
  tidegate.release.fire:
    rfc: /srv/rfcs/CHG0030001.yml
    cmdb: /srv/cmdb.sqlite
    dsl: /srv/dsl
    settings:
      address: 192.0.2.10
      port: 8080
"""

RETURN = r"""
state:
  description: V(told), V(failed), V(stuck) or V(lost).
  type: str
  returned: when not in check mode
  sample: told

msg:
  description: Why it did not succeed, or what is to be known of a host on which it did.
  type: str
  returned: when there is something to say

progress:
  description: What the progress display shows of this task.
  type: dict
  returned: when not in check mode
"""
