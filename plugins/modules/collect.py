#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out what an armed host has done."""

from __future__ import annotations

DOCUMENTATION = r"""
module: collect
short_description: Find out what a host has done at the instant that it was told
version_added: 0.1.0
description:
  - Waits until the host has switched, or has not, and journals how it stands.
  - A host that did not switch runs what it ran, and has failed. A switch that was interrupted is brought to its end.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.rfc
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.root
  - tidegate.release.homes.host
  - tidegate.release.homes.settings
seealso:
  - module: tidegate.release.activate
  - module: tidegate.release.instant
"""

EXAMPLES = r"""
- name: Find out what a host has done at the instant that it was told
  tidegate.release.collect:
    rfc: /srv/rfcs/CHG0030001.yml
    cmdb: /srv/cmdb.sqlite
    dsl: /srv/dsl
    settings:
      address: 192.0.2.10
      port: 8080
"""

RETURN = r"""
state:
  description: V(started), V(failed), V(stuck) or V(lost).
  type: str
  returned: when not in check mode
  sample: started

msg:
  description: Why it did not succeed, or what is to be known of a host on which it did.
  type: str
  returned: when there is something to say

progress:
  description: What the progress display shows of this task.
  type: dict
  returned: when not in check mode
"""
