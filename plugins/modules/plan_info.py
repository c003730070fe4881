#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show a plan."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plan_info
short_description: Show which host is in which wave, and why
version_added: 0.1.0
description:
  - Shows the plan with which M(tidegate.release.plan) would begin the RFC's deployment now, or the one that its deployment was begun with.
  - Says for each host the one constraint that puts it into its wave and not into the one before, and how many waves there have to be at
    least, and for what.
  - Changes nothing but the file in O(dest), if that is given. No approval is needed. Fails when there is no plan that keeps what the policy
    asks for, with every fault.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.rfc
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.local
options:
  host:
    description:
      - Say of this host alone in which wave it is, and why. Fails when it is in none.
      - Taken from the variable C(tidegate_host), when it is not given.
    type: str
    default: ''
  dest:
    description:
      - A file on the controller for the plan. With the suffix C(.html) it is a page that needs no network, with C(.svg) its drawing, with
        C(.json) the same as data.
      - Taken from the variable C(tidegate_plan_file), when it is not given.
    type: path
seealso:
  - module: tidegate.release.plan
  - module: tidegate.release.clear
"""

EXAMPLES = r"""
- name: Show the plan, and write it as a page
  tidegate.release.plan_info:
    rfc: /srv/rfcs/CHG0030001.yml
    dsl: /srv/dsl
    cmdb: /srv/cmdb.sqlite
    dest: /srv/plans/CHG0030001.html
  delegate_to: localhost

- name: Ask for one host
  tidegate.release.plan_info:
    rfc: /srv/rfcs/CHG0030001.yml
    dsl: /srv/dsl
    cmdb: /srv/cmdb.sqlite
    host: web1
  delegate_to: localhost
"""

RETURN = r"""
plan:
  description: The plan.
  type: dict
  returned: always
  contains:
    rfc:
      description: The number of the RFC.
      type: str
    release:
      description: The name of the release.
      type: str
    version:
      description: Its version.
      type: str
    deployment:
      description: The deployment whose plan it is; C(null) for a plan that is only shown.
      type: str
      sample: CHG0030001#7
    state:
      description: The state of that deployment, or C(null).
      type: str
    at_least:
      description: How many waves there have to be at least; C(null) when the deployment is of a collection that kept no reasons.
      type: int
    at_least_why:
      description: What causes that.
      type: str
    warnings:
      description: What a person should know of it.
      type: list
      elements: str
    waves:
      description:
        - Each wave with its C(number), C(not_before), when it can begin at the earliest by the windows of its sites, C(instant), when
          its hosts switch by the RFC of a deployment that has not begun, and C(hosts). Each of these is a C(host) with the version
          C(from) which it goes, C(null) for none, C(why), its C(state) in the deployment, and how many C(bytes) it is sent before packing,
          C(null) where that is not known.
      type: list
      elements: dict
    change:
      description: What the RFC says, such as its C(title), C(requested_by) and C(backout_plan); C(null) when it can't be read.
      type: dict
    estimate:
      description:
        - When each of the C(waves) is likely to C(start) and C(end), how many C(seconds) all of them take, and C(by) what that is known.
        - C(null) for a deployment, and when nothing can be said.
      type: dict
    calendar:
      description: The freezes and windows in the time of the RFC, each with C(kind), C(summary), C(start) and C(end).
      type: list
      elements: dict
    gates:
      description: What is asked after each wave, in sentences.
      type: list
      elements: str
    decide:
      description: Who has to decide, C(what), in which C(role), how many, C(count), and which C(people) have it.
      type: list
      elements: dict
    no_return:
      description: What can't be brought back; empty for nothing.
      type: str
files:
  description: The files that were written.
  type: list
  elements: str
  returned: always
passed_on:
  description:
    - C(rfc), C(release), C(version), how many C(hosts) and C(waves) it has, and how many hosts each of the first 20 waves (C(sizes)).
    - Later jobs get it as C(tidegate_planned), see C(docs/jobs.md) in the collection.
  type: dict
  returned: always
"""
