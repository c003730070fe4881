#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look again at a release that came up on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: confirm
short_description: Look again at a release that came up, and count it only if it lasted
version_added: 0.1.0
description:
  - Makes every health check of the release once more, at least C(stable) seconds after it came up, and asks the process that has looked at
    them on the host since. C(stable) is the release's, or the policy's C(rollout.stable).
  - A host on which the release is not well, or was not at any time in between, goes back to its previous release at once.
  - For a release of firmware or hardware the device is asked again what it runs, or what is in its slots.
  - Does nothing on a host on which no release has just come up, and refuses when that is too short a time ago. The gate holds as long as a
    host of the wave was not looked at again.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.rfc
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.redfish
  - tidegate.release.homes.root
  - tidegate.release.homes.host
  - tidegate.release.homes.settings
seealso:
  - module: tidegate.release.activate
  - module: tidegate.release.soak
  - module: tidegate.release.gate
"""

EXAMPLES = r"""
- name: Look at the release again
  tidegate.release.confirm:
    rfc: /srv/rfcs/CHG0030001.yml
    cmdb: /srv/cmdb.sqlite
    settings:
      address: 192.0.2.10
      port: 8080
"""

RETURN = r"""
state:
  description: V(active), V(failed), V(stuck) or V(lost).
  type: str
  returned: when the release had come up on the host
  sample: active

progress:
  description: What the progress display shows of this task.
  type: dict
  returned: when the release had come up on the host
"""
