#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Set the instant of a wave."""

from __future__ import annotations

DOCUMENTATION = r"""
module: instant
short_description: Say at which instant the armed hosts of a wave switch, or that they don't
version_added: 0.1.0
description:
  - Counts the hosts of the open wave that M(tidegate.release.arm) has armed in this run, and sets an instant when they are as many as
    C(rollout.together.quorum) of the policy wants.
  - Else nobody of the wave is told an instant, armed hosts disarm themselves, and the gate holds.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.rfc
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.local
seealso:
  - module: tidegate.release.arm
  - module: tidegate.release.fire
"""

EXAMPLES = r"""
- name: Set the instant
  tidegate.release.instant:
    rfc: /srv/rfcs/CHG0030001.yml
    cmdb: /srv/cmdb.sqlite
  run_once: true
  delegate_to: localhost
"""

RETURN = r"""
at:
  description: The instant, in RFC 3339; empty when there is none.
  type: str
  returned: when not in check mode
  sample: '2026-11-29T22:00:10.000000+00:00'
msg:
  description: A sentence about it.
  type: str
  returned: always
progress:
  description: What the progress display shows of this task.
  type: dict
  returned: when not in check mode
"""
