#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Move units of the definitive hardware storage."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dhs_asset
short_description: Say what was done with units of the definitive hardware storage
version_added: 0.1.0
description:
  - Notes what was done with physical units - servers, disks, power supplies - many in one transaction, all or none. Every move leaves a
    line in the CMDB's history.
  - A unit is one thing, by its tag and by manufacturer and serial number, and outlives the CI that it serves. A CI keeps its name, its
    relations and its installations when its unit changes.
  - A unit is in one place. One that is in use has a CI, one that is in stock, ordered or in transit has a stockroom.
  - What is reserved for a deployment is given back when that ends, and by nobody else.
  - When stock comes down to the threshold of a rule, see M(tidegate.release.dhs_rule), the history has a line of it, and the channels
    that the policy names under C(communication.tell.stock_low) are told once, until there is enough again. Without a policy that is
    left to M(tidegate.release.stock).
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.local
options:
  move:
    description:
      - What was done with the units.
      - V(order) and V(receive) enter new ones. V(receive) takes what was ordered, missing or in maintenance into a stockroom.
      - V(inspect) says anew what a unit in stock is good for, by O(substate).
      - V(transfer) sends units on their way to another stockroom, V(arrive) says that they came.
      - V(install) puts a unit that is available into a CI, V(remove) takes it out, into V(quarantine) unless O(substate) says otherwise.
      - What comes back from repair or was missing is in V(quarantine) unless O(substate) says otherwise, and has to be read anew.
      - V(repair) gives units away for repair, V(retire) for good. V(report_missing) says that they are not where they should be.
      - A unit that is so already is left as it is.
    type: str
    required: true
    choices: [order, receive, inspect, transfer, arrive, install, remove, repair, retire, report_missing]
  units:
    description: The units, each by its tag, or by manufacturer and serial. A new one needs these three and its model.
    type: list
    elements: dict
    required: true
    suboptions:
      tag:
        description: The name that its owner gave it.
        type: str
      manufacturer:
        description: Who made it.
        type: str
      serial:
        description: The number that the maker gave it. It is compared without regard to case.
        type: str
      model:
        description: What it is, exactly as the unit itself says where it says anything. A unit keeps its model.
        type: str
      stockroom:
        description: The stockroom it goes to, in place of O(stockroom).
        type: str
      substate:
        description: What it is good for then, in place of O(substate).
        type: str
      ci:
        description: Name of the CI that it goes into.
        type: str
      slot:
        description: Where in the CI, when that has several. Each slot has one unit.
        type: str
  stockroom:
    description: The stockroom that the units go to, for those that name none.
    type: str
    default: ""
  substate:
    description:
      - What the units are good for then, for those that do not say it.
      - In stock V(available), V(quarantine), V(defective), V(pending_repair), V(pending_install), V(pending_transfer) or
        V(pending_disposal); in transit one of the first three; in maintenance V(rma) or nothing; retired V(disposed), V(sold), V(donated)
        or V(vendor_credit); missing V(lost) or V(stolen).
    type: str
    default: ""
  reason:
    description: Why it was done. It goes to the history.
    type: str
    default: ""
attributes:
  diff_mode:
    description: Returns what changed when in diff mode.
    support: full
requirements:
  - SQLAlchemy >= 2
  - psycopg >= 3 for a CMDB in PostgreSQL
seealso:
  - module: tidegate.release.dhs_asset_info
  - module: tidegate.release.dhs_rule
  - module: tidegate.release.stock
"""

EXAMPLES = r"""
- name: Two power supplies came
  tidegate.release.dhs_asset:
    cmdb: /srv/cmdb.sqlite
    move: receive
    stockroom: ams-1
    units:
      - {tag: A-1001, manufacturer: Contoso, serial: PS0001, model: PSU-800}
      - {tag: A-1002, manufacturer: Contoso, serial: PS0002, model: PSU-800}
  delegate_to: localhost

- name: One of them went into web1
  tidegate.release.dhs_asset:
    cmdb: /srv/cmdb.sqlite
    move: install
    units:
      - {tag: A-1001, ci: web1, slot: PSU.2}
  delegate_to: localhost
"""

RETURN = r"""
units:
  description: The units that were changed, as they are now.
  type: list
  elements: dict
  returned: success
  contains:
    tag:
      description: The name that its owner gave it.
      type: str
      sample: A-1001
    manufacturer:
      description: Who made it.
      type: str
    serial:
      description: The number that the maker gave it.
      type: str
    model:
      description: What it is.
      type: str
    state:
      description: Where it is.
      type: str
      sample: in_stock
    install_status:
      description: The same as ServiceNow's number.
      type: int
      sample: 6
    substate:
      description: What it is good for.
      type: str
      sample: available
    stockroom:
      description: The stockroom that it is in, or on its way to.
      type: str
    ci:
      description: The CI that it is in use by.
      type: str
    slot:
      description: Where in the CI.
      type: str
    deployment:
      description: The number of the deployment that it is reserved for; null for none.
      type: int
"""
