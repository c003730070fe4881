#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare hosts, CMDB and DSL."""

from __future__ import annotations

DOCUMENTATION = r"""
module: audit
short_description: Name every difference between what hosts run, what the CMDB says and what the DSL holds
version_added: 0.1.0
description:
  - Takes what M(tidegate.release.release_facts) found on each host and compares it with the CMDB's installations and the DSL's packages.
  - Judges the signatures under each archived package by the policy, as it is now. One without those that the policy asks for is a
    difference, on each host that runs it too. What counts because it was signed before its key was revoked is named, and is none.
  - An installation without the seat of a licensed product that it needs is a difference, see M(tidegate.release.licence).
  - Fails when there is a difference. A host without facts is one, for nobody knows what it runs. One that was written off, see
    M(tidegate.release.write_off), is named too, but does not make it fail.
  - When a host that was written off has facts, it is there again. That is noted in the CMDB, unless in check mode, and the host is compared
    like the others.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.local
options:
  found:
    description:
      - What each host runs, by host name, the list RV(tidegate.release.release_facts#module:releases); null for a host that
        could not be read.
    type: dict
    required: true
seealso:
  - module: tidegate.release.release_facts
"""

EXAMPLES = r"""
- name: Compare
  tidegate.release.audit:
    dsl: /srv/dsl
    cmdb: /srv/cmdb.sqlite
    found:
      web1:
        - name: pypiserver
          version: 2.3.2
          digest: sha256:53b9f6d9e1ad4f0a0d5dd0b3b7b3a4f7c6b1ee6d7b0b3a0a6c2e4d9c8a7f1e22
          changed: []
          extra: []
"""

RETURN = r"""
differences:
  description: Every difference.
  type: list
  elements: dict
  returned: always
  contains:
    host:
      description: On which host; null for what is wrong in the DSL itself.
      type: str
    release:
      description: Of which release; null when the host could not be read.
      type: str
    kind:
      description:
        - V(unreadable), V(written_off), V(uncontrolled), V(missing), V(other_version), V(not_in_dsl), V(untrusted), V(unlicensed),
          V(changed_files) or V(extra_files).
      type: str
    detail:
      description: What is different, in one sentence.
      type: str
returned:
  description: Hosts that were written off and are there again.
  type: list
  elements: str
  returned: always
by_revoked:
  description: A sentence for each signature under a trusted package whose key was revoked since.
  type: list
  elements: str
  returned: always
"""
