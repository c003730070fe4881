#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what happened to CIs and under an RFC."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cmdb_history_info
short_description: Read what happened to CIs, or under an RFC
version_added: 0.1.0
description:
  - Reads what the history of the CMDB and the journal say, all at one moment and each line in order of time.
  - The journal of deployments that are long over is in files when M(tidegate.release.journal_archive) has moved it there. These are
    read too; one that is not there as it was written fails the task.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.local
options:
  names:
    description: Names of CIs whose history is asked for, those that are gone from the CMDB too.
    type: list
    elements: str
    default: []
  number:
    description:
      - Number of an RFC. The journal is then that of its deployments, and of O(names) only, if there are any.
      - One of O(names) and O(number) has to be given.
    type: str
    default: ""
  since:
    description: Only what happened at this time or later; RFC 3339 with an offset.
    type: str
  until:
    description: Only what happened at this time or earlier; RFC 3339 with an offset.
    type: str
  at:
    description:
      - The moment of the past of which they are asked for, RFC 3339 with an offset, such as V(2027-05-03T12:00:00Z). It is made of the
        history; they are in RV(cis).
    type: str
  archived:
    description: Whether archives are read. Without them the journal is that of what the CMDB still has.
    type: bool
    default: true
  explain:
    description:
      - Whether the gates of O(number) are judged again, by what the journal says of them and of what was measured, and by nothing else.
        That is done with all of its deployments, whatever O(names), O(since) and O(until) say.
    type: bool
    default: false
requirements:
  - SQLAlchemy >= 2
  - psycopg >= 3 for a CMDB in PostgreSQL
seealso:
  - module: tidegate.release.cmdb_ci_info
  - module: tidegate.release.journal_archive
"""

EXAMPLES = r"""
- name: Find out what happened to a host in May
  tidegate.release.cmdb_history_info:
    names: [web1]
    since: "2027-05-01T00:00:00+02:00"
    until: "2027-05-31T23:59:59+02:00"
    cmdb: /srv/cmdb.sqlite
  register: past

- name: Find out what it was and what ran there at a moment
  tidegate.release.cmdb_history_info:
    names: [web1]
    at: "2027-05-03T20:00:00Z"
    cmdb: /srv/cmdb.sqlite

- name: Judge the gates of an RFC again
  tidegate.release.cmdb_history_info:
    number: CHG0030001
    explain: true
    cmdb: /srv/cmdb.sqlite
  register: explained
  failed_when: explained.gates | rejectattr('same') | length > 0

- name: Show which releases were put on it
  ansible.builtin.debug:
    msg: "{{ past.journal | selectattr('event', 'eq', 'active') | map(attribute='version') | list }}"
"""

RETURN = r"""
history:
  description: What the history of the CMDB says of O(names), or without them what was written to CIs under O(number).
  type: list
  elements: dict
  returned: success
  contains:
    at:
      description: When, in UTC.
      type: str
      sample: "2027-05-03T20:11:09+00:00"
    actor:
      description: Who did it, or which deployment.
      type: str
      sample: CHG0030001#12
    ci:
      description: Name of the CI.
      type: str
      sample: web1
    event:
      description: What happened.
      type: str
      sample: installed
    data:
      description: What there is to say about it.
      type: dict
    number:
      description: Number of the RFC that its writer gave; null for none.
      type: str
      sample: CHG0030001
    reason:
      description: Why, as its writer said; null for nothing.
      type: str
    revision:
      description: Revision that the CI has had since; null for what is no change to the CI itself.
      type: int
      sample: 4
cis:
  description: Those of O(names) that the CMDB had, by name, as M(tidegate.release.cmdb_ci_info) gives them.
  type: list
  elements: dict
  returned: when O(at) is given
journal:
  description: What the journal says of O(names) or of O(number).
  type: list
  elements: dict
  returned: success
  contains:
    at:
      description: When, in UTC.
      type: str
      sample: "2027-05-03T20:11:04+00:00"
    deployment:
      description: Which deployment.
      type: str
      sample: CHG0030001#12
    release:
      description: Name of the release that it deployed.
      type: str
      sample: shop
    version:
      description: Version of the release that it deployed.
      type: str
      sample: "1.4"
    host:
      description: Which host; null for what is about the deployment or a wave.
      type: str
      sample: web1
    wave:
      description: Number of the wave; null for what is about the deployment.
      type: int
      sample: 1
    event:
      description: What was written, such as the state that the host came to.
      type: str
      sample: active
    data:
      description: What there is to say about it.
      type: dict
    file:
      description: The archive that the line is in; null when it is in the CMDB.
      type: str
gates:
  description: Every gate after a wave of O(number), in the order in which they were decided.
  type: list
  elements: dict
  returned: when O(explain)
  contains:
    deployment:
      description: Which deployment.
      type: str
      sample: CHG0030001#12
    wave:
      description: Number of the wave.
      type: int
      sample: 1
    at:
      description: When it was decided, in UTC.
      type: str
      sample: "2027-05-03T20:11:04+00:00"
    decision:
      description: What was decided.
      type: str
      sample: proceed
    reason:
      description: Why, in one sentence.
      type: str
      sample: 1 of 1 host in wave 1 of 2 active; error_rate good 10 of 10
    again:
      description: The decision and the reason that its rules come to now.
      type: dict
    same:
      description: Whether both are the same.
      type: bool
      sample: true
"""
