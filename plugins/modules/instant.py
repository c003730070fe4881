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
  - The instant is as soon as the hosts can be told. The last wave of a plan waits for the C(instant) of O(rfc), when that names one.
    Shortly before it the RFC, the policy and the library are looked at again, as before a wave; what stands in the way then, and an
    instant that is over, holds. Once hosts were told that instant, those that did not keep it follow as soon as they can.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.rfc
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.local
options:
  step:
    description: V(wait) waits until hosts have to be armed for an instant that the RFC names, and sets none; V(set) sets the instant.
    type: str
    choices: [wait, set]
    default: set
  back:
    description: Whether it is the instant at which hosts that M(tidegate.release.arm) has armed to go back do so. There is no quorum then.
    type: bool
    default: false
seealso:
  - module: tidegate.release.arm
  - module: tidegate.release.fire
"""

EXAMPLES = r"""
- name: Wait until hosts have to be armed
  tidegate.release.instant:
    rfc: /srv/rfcs/CHG0030001.yml
    dsl: /srv/dsl
    cmdb: /srv/cmdb.sqlite
    step: wait
  run_once: true
  delegate_to: localhost

- name: Set the instant
  tidegate.release.instant:
    rfc: /srv/rfcs/CHG0030001.yml
    dsl: /srv/dsl
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
