#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model of CIs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cmdb_model
short_description: Set the model of CIs, or read it
version_added: 0.1.0
description:
  - The model says which classes of CIs there are and which of them are hosts, what a CI of a class has to have, which attributes no two CIs
    have alike, which kinds of relations there are between which classes, and whether these may go round in a circle.
  - One comes with the collection. A team's own is built on it, and is kept in the CMDB itself, so that all who write there obey the same
    one, whatever files and versions they have.
  - It is held against what is written from then on. What the CMDB has already stays and is named in RV(msg).
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.local
options:
  src:
    description:
      - The team's file, see C(docs/schemas/model.md). One that has C(schema) alone sets the model that comes with the collection.
      - Nothing is changed without it.
    type: path
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
  - alembic >= 1
  - jsonschema >= 4.20
  - psycopg >= 3 for a CMDB in PostgreSQL
seealso:
  - module: tidegate.release.cmdb_ci
  - module: tidegate.release.cmdb_relation
"""

EXAMPLES = r"""
# model.yml:
# schema: 1
# classes:
#   server: {required: [owned_by], unique: [asset_tag]}
#   kiln: {host: true}
# relations:
#   heats: {from: [kiln], to: [room], acyclic: true, hits: target}
- name: Have everybody who writes CIs obey the team's model
  tidegate.release.cmdb_model:
    cmdb: /srv/cmdb.sqlite
    src: model.yml
  delegate_to: localhost
"""

RETURN = r"""
msg:
  description: What was done, or in check mode would be; and a line for what the CMDB has that the model does not.
  type: str
  returned: success
model:
  description: What the team has set.
  type: dict
  returned: success
unknown:
  description: Classes and kinds of relations that the CMDB has and the model does not, each with how many have it.
  type: list
  elements: str
  returned: success
  sample: ["class 'coffee' of 7 CIs"]
"""
