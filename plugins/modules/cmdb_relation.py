#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Relate CIs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cmdb_relation
short_description: Relate CIs in the CMDB, or end that
version_added: 0.1.0
description:
  - Adds relations between CIs, or removes them, many in one transaction. Others that these CIs have stay.
  - A relation that the model of CIs does not allow, see M(tidegate.release.cmdb_model), is refused, and none is written.
  - What the model does not know, from before it was set, can be removed.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.local
options:
  relations:
    description: The relations.
    type: list
    elements: dict
    required: true
    suboptions:
      source:
        description: Name of the CI at which it begins.
        type: str
        required: true
      kind:
        description: How the source relates to the target, such as V(runs_on).
        type: str
        required: true
      target:
        description: Name of the CI at which it ends.
        type: str
        required: true
  state:
    description: Whether they are to be there.
    type: str
    choices: [present, absent]
    default: present
  number:
    description: Number of the RFC under which this is done; it goes into the history.
    type: str
    default: ""
  reason:
    description: Why it is done, in one line; it goes into the history.
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
  - module: tidegate.release.cmdb_ci
  - module: tidegate.release.cmdb_impact
  - module: tidegate.release.cmdb_model
"""

EXAMPLES = r"""
- name: Say what runs where
  tidegate.release.cmdb_relation:
    cmdb: /srv/cmdb.sqlite
    relations:
      - {source: shop, kind: depends_on, target: db1}
      - {source: db1, kind: runs_on, target: srv7}
    number: CHG0030001
  delegate_to: localhost
"""

RETURN = r"""
relations:
  description: The relations that were added, or that were there and were removed.
  type: list
  elements: dict
  returned: success
  contains:
    source:
      description: Name of the CI at which it begins.
      type: str
      sample: db1
    kind:
      description: How it relates to the target.
      type: str
      sample: runs_on
    target:
      description: Name of the CI at which it ends.
      type: str
      sample: srv7
"""
