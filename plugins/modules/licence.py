#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Enter entitlements to licensed products."""

from __future__ import annotations

DOCUMENTATION = r"""
module: licence
short_description: Enter an entitlement to use a licensed product, or remove it
version_added: 0.1.0
description:
  - Keeps an entitlement in the CMDB as described. Every change leaves a line in the CMDB's history.
  - A release whose C(release.yml) names a C(licensed_product) needs one seat of it on each CI. A deployment reserves the seats that
    it is going to use before it touches a host, and refuses when they don't suffice or end before its window does. A seat is used
    from when the release is recorded as installed, and free again after a back-out.
  - What is left out of a known entitlement's description stays as it is.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.local
options:
  name:
    description: Name of the entitlement, such as the number of its contract.
    type: str
    required: true
  product:
    description: The product, as C(release.yml) calls it under C(licensed_product). Required for a new entitlement.
    type: str
  seats:
    description: On how many CIs the product may be used. Not less than are taken. Required for a new entitlement.
    type: int
  valid_from:
    description: The moment it begins, with its offset from UTC. An empty string takes it away, then it is valid from ever.
    type: str
  valid_until:
    description: The moment it ends, with its offset from UTC. An empty string takes it away, then it is valid for ever.
    type: str
  reference:
    description: Where it can be found, for people.
    type: str
  state:
    description: V(absent) removes it. It fails while a seat of it is taken.
    type: str
    choices: [present, absent]
    default: present
attributes:
  diff_mode:
    description: Returns what changed when in diff mode.
    support: full
requirements:
  - SQLAlchemy >= 2
  - psycopg >= 3 for a CMDB in PostgreSQL
seealso:
  - module: tidegate.release.licence_info
"""

EXAMPLES = r"""
- name: Enter fifty seats for a year
  tidegate.release.licence:
    cmdb: /srv/cmdb.sqlite
    name: C-2027-114
    product: acme-db
    seats: 50
    valid_from: "2027-01-01T00:00:00+01:00"
    valid_until: "2028-01-01T00:00:00+01:00"
    reference: Contract of 2026-12-01, folder 7
  delegate_to: localhost

- name: Prolong it
  tidegate.release.licence:
    cmdb: /srv/cmdb.sqlite
    name: C-2027-114
    valid_until: "2029-01-01T00:00:00+01:00"
  delegate_to: localhost
"""

RETURN = r"""
entitlement:
  description: The entitlement as it is now; null when it was removed.
  type: dict
  returned: success
  contains:
    name:
      description: Its name.
      type: str
      sample: C-2027-114
    product:
      description: The product.
      type: str
      sample: acme-db
    seats:
      description: On how many CIs the product may be used.
      type: int
      sample: 50
    valid_from:
      description: The moment it begins; null for none.
      type: str
    valid_until:
      description: The moment it ends; null for none.
      type: str
    reference:
      description: Where it can be found.
      type: str
"""
