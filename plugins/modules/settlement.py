#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settle what a change owes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: settlement
short_description: Say that a duty which a change owed afterwards was done
version_added: 0.1.0
description:
  - An emergency change goes live by a shorter path, and owes what the policy lists under C(emergency), each by a date. What is owed shows
    in the report and in every clearance of the same release; what is overdue stands in the way of its next change that is no emergency.
  - A release of firmware that raises what units of a model have to have owes C(spares), within C(spares.level_days) of the policy. That is
    settled by what spares were read to run, see M(tidegate.release.stock); as long as one is behind, this refuses.
  - This notes in the CMDB and its history that a duty was done, by whom, when and how. With a key that is signed, and kept in the DSL
    beside the package. When the policy names people it has to be the key of one of them. Before its first wave has started there is
    nothing to settle.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.key
  - tidegate.release.homes.local
options:
  number:
    description:
      - The number of the RFC.
      - Taken from the variable C(tidegate_number), when it is not given.
    type: str
    required: true
  duty:
    description:
      - What it owed, as the policy calls it.
      - Taken from the variable C(tidegate_duty), when it is not given.
    type: str
    required: true
  note:
    description:
      - What was done, and where it can be read.
      - Taken from the variable C(tidegate_note), when it is not given.
    type: str
    required: true
seealso:
  - module: tidegate.release.clear
  - module: tidegate.release.stock
  - module: tidegate.release.report
"""

EXAMPLES = r"""
- name: The change was reviewed
  tidegate.release.settlement:
    number: CHG0030009
    duty: review
    note: Reviewed on Tuesday, see the minutes of the change board
    key: ~/.tidegate/carl.pem
    dsl: /srv/dsl
    cmdb: /srv/cmdb.sqlite
    policy: /srv/policy.yml
"""

RETURN = r"""
person:
  description: Who settled it.
  type: str
  returned: success
  sample: carl
due:
  description: By when it was to be done.
  type: str
  returned: success
  sample: "2027-03-08T22:00:00+00:00"
"""
