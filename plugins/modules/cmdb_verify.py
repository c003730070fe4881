#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verify the CMDB."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cmdb_verify
short_description: Find out whether the CMDB's past was changed, and whether its rows are what its history says
version_added: 0.1.0
description:
  - Looks at every line of the history and of the journal, those in archives too. Each has the sha256 of what it says and of the line
    before, so one that was edited, removed or inserted is named, and so is the end when it is missing.
  - Compares where they end with what signed clearances and reports saw. That shows when all of it was written anew, and from where on
    something is missing after an older backup was brought back.
  - Replays the history, and names each CI, relation, installation and write-off whose rows are something else, as after a change by SQL.
  - Says when a trigger is gone, or is not as it was made, that keeps the lines from being changed.
  - It fails when it finds something. It writes nothing, and does the same in check mode.
  - Whoever may write to the database may append lines as Tidegate does. These fit, as those that Tidegate wrote.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.dsl
  - tidegate.release.homes.policy
  - tidegate.release.homes.local
options:
  documents:
    description:
      - Files that say where the history and the journal ended once, a C(report.json) or a signed clearance as M(tidegate.release.clear)
        writes it.
      - Those clearances and records of gates are read besides that are in O(dsl), when there is one. They count when somebody signed them
        whom O(policy) names.
      - Taken from the variable C(tidegate_cmdb_documents), when it is not given.
    type: list
    elements: path
    default: []
requirements:
  - SQLAlchemy >= 2
  - securesystemslib >= 1
  - psycopg >= 3 for a CMDB in PostgreSQL
seealso:
  - module: tidegate.release.cmdb_history_info
  - module: tidegate.release.dsl_verify
  - module: tidegate.release.journal_archive
"""

EXAMPLES = r"""
- name: Verify the CMDB by all that was signed
  tidegate.release.cmdb_verify:
    cmdb: /srv/cmdb.sqlite
    dsl: /srv/dsl
    policy: /srv/policy.yml

- name: After a backup was brought back, find out what is missing
  tidegate.release.cmdb_verify:
    cmdb: /srv/cmdb.sqlite
    documents: [/srv/www/report/report.json]
  register: verified
  failed_when: verified.findings | rejectattr('kind', 'eq', 'truncated') | length > 0
"""

RETURN = r"""
msg:
  description: What was looked at, or what was found, a line for each.
  type: str
  returned: always
lines:
  description: How many lines were looked at, of C(history) and C(journal).
  type: dict
  returned: always
  sample: {history: 40210, journal: 812004}
cis:
  description: How many CIs were compared with the history.
  type: int
  returned: always
  sample: 412
documents:
  description: With how many documents it was compared.
  type: int
  returned: always
  sample: 96
heads:
  description: The last line that was ever written of C(history) and C(journal), each with its number, C(seq), and its C(sha256).
  type: dict
  returned: always
chained:
  description: Which lines were there before they were given a sha256, C(at) the time of that upgrade, for C(history) and C(journal) each.
  type: list
  elements: dict
  returned: always
count:
  description: How many faults there are.
  type: int
  returned: always
  sample: 0
findings:
  description: The faults; the first hundred of each sort.
  type: list
  elements: dict
  returned: always
  contains:
    kind:
      description: V(edited), V(removed), V(inserted) or V(truncated) of a line, V(archive), V(trigger), or V(row) of a CI.
      type: str
      sample: edited
    sentence:
      description: What was found.
      type: str
      sample: line 7 of the history (updated, 2027-05-03T20:11:09+00:00) is not what was written after line 6
    table:
      description: C(history) or C(journal), of a line; else empty.
      type: str
      sample: history
    line:
      description: Number of the first line that is not as it was; 0 for what is about none.
      type: int
      sample: 7
    ci:
      description: Name of the CI, of a row; else empty.
      type: str
      sample: web1
"""
