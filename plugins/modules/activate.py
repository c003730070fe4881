#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Activate a release on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: activate
short_description: Make a staged release the live one, or leave the host on what it had
version_added: 0.1.0
description:
  - Goes on with the deployment of O(rfc) that this run of ansible-playbook has planned or taken over, see M(tidegate.release.plan).
  - Refuses unless the journal has opened the host's wave, and when the window that was open then has closed, or a freeze has begun.
  - Holds the release against its package and puts right what was changed, from the host's own good copies or from O(dsl).
  - Writes ahead to the journal, runs the hooks, flips the link, waits for the health checks, all in one round trip.
  - A host on which the release does not come up goes back to its previous release at once, which is put right first like that.
  - A release with C(effect) V(outside) came up, or went back, when its hook C(read) prints what it has to, whatever other hooks say.
  - A release whose stop hook fails is ended and replaced. RV(msg) says so, and whether it still passes its health checks.
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
  - module: tidegate.release.plan
  - module: tidegate.release.gate
"""

EXAMPLES = r"""
- name: Activate the release
  tidegate.release.activate:
    rfc: /srv/rfcs/CHG0030001.yml
    cmdb: /srv/cmdb.sqlite
    dsl: /srv/dsl
    settings:
      address: 192.0.2.10
      port: 8080
"""

RETURN = r"""
state:
  description: V(active), V(failed) or V(stuck).
  type: str
  returned: when not in check mode
  sample: active

msg:
  description: Why it did not succeed, or what is to be known of a host on which it did.
  type: str
  returned: when there is something to say

progress:
  description: What the progress display shows of this task.
  type: dict
  returned: when not in check mode
"""
