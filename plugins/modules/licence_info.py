#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read entitlements and who uses them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: licence_info
short_description: Read the entitlements to licensed products, who uses their seats, and what is installed without one
version_added: 0.1.0
description:
  - Counts the seats that are used, reserved by open deployments and free, and names who has them.
  - Names every installation in the CMDB whose release uses a licensed product, by its C(release.yml) in the DSL, without a seat that is
    valid now.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.local
options:
  product:
    description: Only what is about this product.
    type: str
requirements:
  - SQLAlchemy >= 2
  - jsonschema >= 4
  - psycopg >= 3 for a CMDB in PostgreSQL
seealso:
  - module: tidegate.release.licence
"""

EXAMPLES = r"""
- name: Look
  tidegate.release.licence_info:
    dsl: /srv/dsl
    cmdb: /srv/cmdb.sqlite
    product: acme-db
  delegate_to: localhost
  register: acme

- name: Stop when it is used without a licence
  ansible.builtin.assert:
    that: acme.unlicensed | length == 0
"""

RETURN = r"""
entitlements:
  description: The entitlements, by name.
  type: list
  elements: dict
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
    used:
      description: Seats of CIs on which the product is installed.
      type: int
    reserved:
      description: Seats that open deployments are going to use.
      type: int
    free:
      description: Seats that nobody has.
      type: int
    valid:
      description: Whether it is valid now.
      type: bool
    valid_from:
      description: The moment it begins; null for none.
      type: str
    valid_until:
      description: The moment it ends; null for none.
      type: str
    reference:
      description: Where it can be found.
      type: str
    users:
      description: Who has its seats. Releases on one CI share a seat.
      type: list
      elements: dict
      contains:
        ci:
          description: Name of the CI.
          type: str
        release:
          description: The release that has it.
          type: str
        state:
          description: V(reserved) or V(used).
          type: str
        since:
          description: Since when it is that.
          type: str
        rfc:
          description: Number of the RFC by which it was reserved.
          type: str
unlicensed:
  description: Installations without the seat that they need.
  type: list
  elements: dict
  returned: success
  contains:
    ci:
      description: Name of the CI.
      type: str
    release:
      description: The release.
      type: str
    version:
      description: Its version.
      type: str
    product:
      description: The product; null when the package could not be read, so that it is not known.
      type: str
    detail:
      description: What is wrong, in a sentence.
      type: str
"""
