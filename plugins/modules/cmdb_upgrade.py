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
    backup, with C(sqlite3 cmdb.sqlite ".backup copy.sqlite") or C(pg_dump).
  - With O(revision) it takes the CMDB back to what an older version of the collection needs, in one transaction, too. Whoever has to
    say to which one reads it in the message with which that version refuses the CMDB.
  - It fails while somebody drives a deployment.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.local
options:
  revision:
    description:
      - The revision to which the CMDB is taken back, such as V(0018). Without it the CMDB is upgraded.
      - Taken from the variable C(tidegate_cmdb_revision), when it is not given.
    type: str
  lose:
    description:
      - Whether what the older revision has no place for is to be lost. Otherwise it fails, and names the tables and columns, where there is
        any. The history keeps its lines.
      - Taken from the variable C(tidegate_cmdb_lose), when it is not given.
    type: bool
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

- name: Take it back, for colleagues whose collection can't be upgraded yet
  tidegate.release.cmdb_upgrade:
    cmdb: /srv/cmdb.sqlite
    revision: "0020"
  delegate_to: localhost
"""

RETURN = r"""
msg:
  description: What was done, or in check mode would be, in one sentence; and a line for what of the CMDB means something else
    than before, or is lost.
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
