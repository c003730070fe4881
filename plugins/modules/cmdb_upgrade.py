#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Upgrade the CMDB."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cmdb_upgrade
short_description: Bring a CMDB to what this version of the collection needs
version_added: 0.1.0
description:
  - Upgrades the tables of a CMDB that an older version of the collection made, in one transaction. Nothing else ever does that. All other
    modules and plugins refuse an older CMDB, those that only read it too, and change nothing.
  - Afterwards older versions of the collection can't use the CMDB any more. So upgrade the collection everywhere first, and make a
    backup, with C(sqlite3 cmdb.sqlite ".backup copy.sqlite") or C(pg_dump). There is no way back but that.
  - It fails while somebody drives a deployment.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.local
requirements:
  - SQLAlchemy >= 2
  - alembic >= 1
  - psycopg >= 3 for a CMDB in PostgreSQL
seealso:
  - module: tidegate.release.cmdb_ci
"""

EXAMPLES = r"""
- name: Upgrade the CMDB
  tidegate.release.cmdb_upgrade:
    cmdb: /srv/cmdb.sqlite
  delegate_to: localhost
"""

RETURN = r"""
msg:
  description: What was done, or in check mode would be, in one sentence; and a line for what of the CMDB means something else
    than before.
  type: str
  returned: always
before:
  description: The CMDB's revision before.
  type: str
  returned: success
  sample: "0003"
after:
  description: The CMDB's revision after.
  type: str
  returned: success
  sample: "0006"
"""
