#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluate the policy's controls for an RFC."""

from __future__ import annotations

DOCUMENTATION = r"""
module: clear
short_description: Evaluate every control of the release policy for an RFC
version_added: 0.1.0
description:
  - Evaluates every control, whatever the others found, and lists each with its result, reason and remedy. C(docs/controls.md) in the
    collection says what each finds out.
  - The clearance is granted only if no control is V(fail) or V(inconclusive). What can't be read is inconclusive, so it never passes.
  - Changes nothing but the files in O(dest), if that is given, and can be run all day. M(tidegate.release.plan) evaluates the same
    controls again.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.rfc
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.key
  - tidegate.release.homes.local
options:
  dest:
    description:
      - A directory on the controller for the clearance as a document. C(clearance.html) is for people and needs no network,
        C(clearance.json) has the same as data. With O(key), C(clearance.dsse.json) is a signed verification summary as SLSA has it.
        Without a directory nothing is written, and O(key) is not used.
      - They are written whether the RFC is cleared or not, and only when something else than the time is new in them. The summary also has
        the RFC and the policy by their digests, and the CIs, and is signed anew when one of them is another, or its signature is not that
        of O(key).
      - Taken from the variable C(tidegate_clearance), when it is not given.
    type: path
seealso:
  - module: tidegate.release.plan
"""

EXAMPLES = r"""
- name: See whether the RFC may go ahead
  tidegate.release.clear:
    rfc: /srv/rfcs/CHG0030001.yml
    dsl: /srv/dsl
    cmdb: /srv/cmdb.sqlite

- name: Keep the clearance as a page, as data and as a signed summary
  tidegate.release.clear:
    rfc: /srv/rfcs/CHG0030001.yml
    dsl: /srv/dsl
    cmdb: /srv/cmdb.sqlite
    dest: /srv/clearances/CHG0030001
    key: /srv/keys/rita.pem
"""

RETURN = r"""
granted:
  description: Whether the RFC is cleared. The task fails when it is not.
  type: bool
  returned: always
controls:
  description: Every control.
  type: list
  elements: dict
  returned: always
  contains:
    name:
      description: Name of the control.
      type: str
      sample: window
    result:
      description: V(pass), V(fail), V(waived), V(inconclusive) or V(not_applicable).
      type: str
    reason:
      description: What it found.
      type: str
    remedy:
      description: What to do about it; empty when there is nothing to do.
      type: str
files:
  description: The files that were written.
  type: list
  elements: str
  returned: always
passed_on:
  description:
    - The number of the RFC (C(rfc)), the C(digest) that it names, whether it is cleared (C(granted)), and the names of the first 20
      controls that stand in its way (C(failing)).
    - Later jobs get it as C(tidegate_cleared), with C(sentence), see C(docs/jobs.md) in the collection.
  type: dict
  returned: always
"""
