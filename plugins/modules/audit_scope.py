#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts are asked in an audit."""

from __future__ import annotations

DOCUMENTATION = r"""
module: audit_scope
short_description: Say what M(tidegate.release.release_facts) has to look for on each host in an audit
version_added: 0.1.0
description:
  - Reads once, for all hosts, what is on record of their packages, units, cron files and listeners, and where the policy has copies of
    releases looked for. Changes nothing.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.local
seealso:
  - module: tidegate.release.audit
  - module: tidegate.release.release_facts
"""

EXAMPLES = r"""
- name: Find out what hosts are to be asked
  tidegate.release.audit_scope:
    dsl: /srv/dsl
    cmdb: /srv/cmdb.sqlite
  register: audit_scope
"""

RETURN = r"""
copies:
  description: Directories, the C(audit.copies) of the policy.
  type: list
  elements: str
  returned: success
recorded:
  description: By host, the sha256 of each set that is on record of it.
  type: dict
  returned: success
  sample:
    web1: {packages: 0bd5...}
"""
