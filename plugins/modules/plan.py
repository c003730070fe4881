#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Begin an RFC's deployment, or take it over."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plan
short_description: Begin an RFC's deployment, by clearing it and writing the plan, or take it over
version_added: 0.1.0
description:
  - Evaluates every control of the policy for the RFC, see M(tidegate.release.clear), and refuses unless the clearance is granted.
  - Cuts the CIs in scope into waves, writes the plan to the journal and locks the CIs for this deployment.
  - With O(key), the clearance of a new deployment is signed and kept in the DSL beside the package, as a verification summary.
  - When this RFC's deployment is open already, because its controller was killed or because it is held, it is taken over where it stands.
    One that is backing out goes on without clearance.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.rfc
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.key
  - tidegate.release.homes.local
options:
  backout:
    description: Instead of deploying, order the back-out of this RFC's deployment. Needs no clearance.
    type: bool
    default: false
  data:
    description:
      - How data are that the deployment's release was about to change, when a step that was to do so was interrupted, or failed. Such a
        deployment is held; its message says of which attempt, by a number.
      - V(migrated:417) when after attempt 417 they are migrated, V(as_before:417) when they are as they were before. With
        O(backout=true) also V(kept:417), when they shall stay as they are and the release before gets on with that.
      - It needs O(reason), and the journal has both. Where the policy names people, one of them has to sign it with O(key).
      - Taken from the variable C(tidegate_data), when it is not given.
    type: str
    default: ''
  reason:
    description:
      - Why it is backed out, for O(backout=true), or how it is known what O(data) says.
      - Mandatory with O(data), O(accept), and with O(done_by_hand), where it says what was done.
      - Taken from the variable C(tidegate_reason), when it is not given.
    type: str
    default: ''
  done_by_hand:
    description:
      - Hosts that somebody has brought back by hand to what they ran before, for no step can; for O(backout=true).
      - They are recorded as being back, by the word of whoever says so, and are not visited any more, so a host that the release's role has
        taken out of service is theirs to bring into service again. An audit compares what such a host runs with what was said of it.
      - Each has to be stuck, lost or still to be backed out by the deployment, which has to be open. Where the policy names people, one of
        them has to sign it with O(key).
      - Taken from the variable C(tidegate_done_by_hand), when it is not given.
    type: list
    elements: str
    default: []
  accept:
    description:
      - Hosts that stay as they are, for no firmware brings their devices back to what they ran, or their parts stay; for O(backout=true).
      - Each has to have been changed by the deployment, whose release is firmware or hardware. It is recorded with what it was read to run,
        and not visited any more. Where the policy names people, one of them has to sign it with O(key).
      - The other way out is to exchange the device for a spare, with M(tidegate.release.swap).
      - Taken from the variable C(tidegate_accept), when it is not given.
    type: list
    elements: str
    default: []
  slice:
    description:
      - Say that this run has a slice of the inventory, and that other runs of the same verb for the same RFC, at the same time, have the
        others. Job slicing of AWX and C(ansible-runner transmit) make such runs.
      - The first of them plans the whole deployment, and each claims those hosts that are in its inventory and not left out by C(--limit).
        All of them wait for each other at each gate, and one decides. C(docs/slices.md) in the collection says how.
      - It is refused for a release that brings a role, firmware or hardware.
      - Taken from the variable C(tidegate_slice), when it is not given.
    type: bool
    default: false
  take_over:
    description:
      - Say that the controller which drives the deployment is gone. It is taken over at once, and the journal says so.
      - Without this a controller counts as gone when its process is seen to have ended, on this machine and in this PID namespace, or else
        when its lease has ended.
      - Taken from the variable C(tidegate_take_over), when it is not given.
    type: bool
    default: false
seealso:
  - module: tidegate.release.clear
  - module: tidegate.release.gate
"""

EXAMPLES = r"""
- name: Clear and plan
  tidegate.release.plan:
    rfc: /srv/rfcs/CHG0030001.yml
    dsl: /srv/dsl
    cmdb: /srv/cmdb.sqlite
"""

RETURN = r"""
waves:
  description: The hosts of each wave.
  type: list
  elements: list
  returned: when a new deployment is planned
  sample: [[web1], [web2, web3]]
steps:
  description:
    - For each host its C(wave), C(host), the versions C(from) which, C(null) for none, and C(to) which it goes, and how many C(files) and
      bytes (C(size)) it would be sent at most, by what the CMDB says that it runs.
  type: list
  elements: dict
  returned: when a new deployment would be planned, in check mode
controls:
  description: Every control with its result, reason and remedy.
  type: list
  elements: dict
  returned: when a new deployment is planned
passed_on:
  description:
    - C(rfc), C(release), C(version), how many C(hosts) and C(waves) it has, and how many hosts each of the first 20 waves (C(sizes)).
    - Later jobs get it as C(tidegate_planned), see C(docs/jobs.md) in the collection.
  type: dict
  returned: when a new deployment is planned, or late hosts are

progress:
  description: What the progress display shows of this task.
  type: dict
  returned: always
"""
