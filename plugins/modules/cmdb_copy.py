#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy the CMDB to another database."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cmdb_copy
short_description: Copy a CMDB to another database, as from SQLite to PostgreSQL
version_added: 0.1.0
description:
  - Copies every row of a CMDB, with the ids and the chain that the history and the journal form, in one transaction, and looks at the copy
    as M(tidegate.release.cmdb_verify) does.
  - The other database has no CMDB yet, or one without a row. The original stays as it is; from then on nobody may use it any more, for
    what is written there is not in the copy.
  - It fails while somebody drives a deployment, and when the original is not as it was written.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.local
options:
  to:
    description:
      - Where the copy is made, the path of an SQLite file or an SQLAlchemy URL.
      - Taken from the variable C(tidegate_cmdb_to), when it is not given.
    type: str
    required: true
requirements:
  - SQLAlchemy >= 2
  - alembic >= 1
  - psycopg >= 3 for a CMDB in PostgreSQL
seealso:
  - module: tidegate.release.cmdb_verify
  - module: tidegate.release.cmdb_upgrade
"""

EXAMPLES = r"""
- name: Move to PostgreSQL
  tidegate.release.cmdb_copy:
    cmdb: /srv/cmdb.sqlite
    to: postgresql+psycopg://cmdb@database.example.com/cmdb
  delegate_to: localhost
"""

RETURN = r"""
msg:
  description: What was copied, or in check mode would be, in one sentence.
  type: str
  returned: always
rows:
  description: The number of rows by table.
  type: dict
  returned: success
  sample: {"ci": 4, "history": 12}
heads:
  description: The last lines of the copy's history and journal, as documents have them. Nothing in check mode.
  type: dict
  returned: success
"""
