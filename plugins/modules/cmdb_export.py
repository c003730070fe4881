#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the records of a CMDB to a file."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cmdb_export
short_description: Write the records of a CMDB to a file
version_added: 0.1.0
description:
  - Writes what is so in the CMDB at one moment to a file of JSON, the team's model of CIs, CIs with their attributes and
    relations, what hosts are on record to have besides releases, what is installed, hosts that were written off, licence entitlements,
    the units and stock rules of the definitive hardware storage, releases that were retired or purged, and what was ever seen of each
    release in the library.
  - One record is a line, in an order that does not change, so versions of the file can be compared.
  - M(tidegate.release.cmdb_import) enters the file in an empty CMDB, which has the same records then.
  - Not in it are the history, and what belongs to deployments, such as journals, changes, seats of licences, reservations of units and
    levels of firmware. Their truth is the database in which they ran. A backup of that, or C(cmdb_copy), has all of it.
  - Attributes are written as they are. Only the user who writes the file can read it, and the group where the directory has the
    set-group-id bit.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.local
options:
  dest:
    description: The file on the controller. One that is there is replaced.
    type: path
    required: true
requirements:
  - SQLAlchemy >= 2
  - psycopg >= 3 for a CMDB in PostgreSQL
seealso:
  - module: tidegate.release.cmdb_import
"""

EXAMPLES = r"""
- name: Keep the records of the CMDB beside it
  tidegate.release.cmdb_export:
    cmdb: /srv/cmdb.sqlite
    dest: /srv/cmdb.json
  delegate_to: localhost
"""

RETURN = r"""
msg:
  description: What was written, or in check mode would be.
  type: str
  returned: success
counts:
  description: How many records there are of each kind.
  type: dict
  returned: success
  sample:
    {model: 0, cis: 2, host_sets: 4, installations: 1, write_offs: 0, entitlements: 0, units: 0, stock_rules: 0, releases: 0, library: 1}
"""
