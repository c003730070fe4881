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
  - Refuses unless the journal has opened the host's wave, and when the window that was open then has closed, or a freeze has begun.
  - Writes ahead to the journal, runs the hooks, flips the link, waits for the health checks, all in one round trip.
  - A host on which the release does not come up goes back to its previous release at once.
  - A release whose stop hook fails is ended and replaced. RV(msg) says so, and whether it still passes its health checks.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.run
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.host
  - tidegate.release.homes.settings
seealso:
  - module: tidegate.release.plan
  - module: tidegate.release.gate
"""

EXAMPLES = r"""
- name: Activate the release
  tidegate.release.activate:
    run: "{{ hostvars['localhost'].tidegate_run }}"
    cmdb: /srv/cmdb.sqlite
    settings:
      address: 192.0.2.10
      port: 8080
"""

RETURN = r"""
state:
  description: V(active), V(failed) or V(stuck).
  type: str
  returned: always
  sample: active

msg:
  description: Why it did not succeed, or what is to be known of a host on which it did.
  type: str
  returned: when there is something to say

progress:
  description: What the progress display shows of this task.
  type: dict
  returned: always
"""
