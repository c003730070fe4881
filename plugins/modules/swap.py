#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Confirm that a unit was exchanged for another."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swap
short_description: Confirm that a unit was exchanged for another
version_added: 0.1.0
description:
  - A person says, by both serial numbers, that a unit of a CI was exchanged for a deployment. It is the end of a work order of a release of
    hardware, or of firmware that nothing brings back, where the machine is exchanged for a spare.
  - Nothing is believed. Where the CI has the attribute C(redfish), the BMC is asked which unit is there now. Where nothing can be read, the
    work order is C(claimed), and a second person has to confirm it with the same task.
  - The old unit is then in quarantine in the stockroom of the new one, which is in use by the CI, in one transaction; attributes of the CI
    that say which unit it is say the new one.
  - Run M(tidegate.release.plan) or the playbook again afterwards, which goes on. Refused while a controller drives the deployment.
  - With a key it is signed, and the history keeps the signature. When the policy names people it has to be the key of one of them.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.rfc
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.key
  - tidegate.release.homes.redfish
  - tidegate.release.homes.local
options:
  host:
    description:
      - The CI's name in the CMDB.
      - Taken from the variable C(tidegate_host), when it is not given.
    type: str
    required: true
  slot:
    description:
      - The slot of the CI, as the work order has it. Without one it is the machine itself.
      - Taken from the variable C(tidegate_slot), when it is not given.
    type: str
    default: ""
  old_serial:
    description:
      - The serial number of the unit that came out; none for a slot that was empty.
      - Taken from the variable C(tidegate_old_serial), when it is not given.
    type: str
    default: ""
  new_serial:
    description:
      - The serial number of the unit that came in; none for a slot that is empty now.
      - Taken from the variable C(tidegate_new_serial), when it is not given.
    type: str
    default: ""
  redfish_fingerprint:
    description:
      - The SHA-256 of the certificate of the new machine's BMC, for one that no authority has signed. The CI keeps it.
      - Taken from the variable C(tidegate_redfish_fingerprint), when it is not given.
    type: str
    default: ""
  reason:
    description:
      - Anything that those who ask later should know.
      - Taken from the variable C(tidegate_reason), when it is not given.
    type: str
    default: ""
seealso:
  - module: tidegate.release.dhs_asset
  - module: tidegate.release.plan
"""

EXAMPLES = r"""
- name: The power supply of web1 was exchanged
  tidegate.release.swap:
    rfc: /srv/rfcs/CHG0030001.yml
    host: web1
    slot: PSU 1
    old_serial: SN-11
    new_serial: SN-77
    cmdb: /srv/cmdb.sqlite
    policy: /srv/policy.yml
    key: ~/.tidegate/carl.pem
"""

RETURN = r"""
state:
  description: How the work order stands, V(claimed) while a second person has to confirm it, V(done) once it is known.
  type: str
  returned: success
  sample: done
work_order:
  description: The number of the work order; none in check mode for an exchange that no work order asked for.
  type: int
  returned: success
  sample: 12
msg:
  description: What is known now, and what to do next.
  type: str
  returned: success
  sample: A-77 is in the slot PSU 1 of web1, as it says itself; run deploy of CHG0030001 again
"""
