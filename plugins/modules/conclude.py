#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Close a deployment, or say what it waits for."""

from __future__ import annotations

DOCUMENTATION = r"""
module: conclude
short_description: Close a deployment and say in one sentence how it ended
version_added: 0.1.0
description:
  - Closes a back-out that owes nothing and writes what the hosts run now to the CMDB.
  - Holds a complete one against the objectives of its RFC, and closes the change as C(successful), C(successful_issues) or
    C(unsuccessful), in the register of the CMDB and in ServiceNow when the RFC comes from there. What could not be written there is a
    warning, and is made up for when the same command runs again.
  - When the policy has C(rollout.support.exit) and nothing else keeps the support of a deployment from its end, it measures these metrics
    of all hosts that have the release. Support ends when they are good; else the task fails, the release stays where it is, and C(deploy)
    measures again when it is run again.
  - With O(key) what the gates of the deployment were decided by is signed and kept in the DSL beside the package, as evidence of the kind
    C(gates); M(tidegate.release.cmdb_history_info) decides them again. When that fails it warns.
  - Tells the channels of the policy and the stakeholders of the RFC that it is done.
  - Fails with one sentence when the deployment was backed out, is held, or still owes hosts a back-out; and when it is another than the one
    of O(rfc) that this run has planned or taken over, unless that was over as wanted before.
  - In check mode it says what would be.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.rfc
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.dsl
  - tidegate.release.homes.key
  - tidegate.release.homes.local
options:
  wanted:
    description: The state that counts as success. A deployment that is V(supporting), live on all hosts but those within the budget, is
      as good as a V(completed) one.
    type: str
    choices: [completed, staged, backed_out]
    default: completed
seealso:
  - module: tidegate.release.gate
"""

EXAMPLES = r"""
- name: Conclude
  tidegate.release.conclude:
    rfc: /srv/rfcs/CHG0030001.yml
    cmdb: /srv/cmdb.sqlite
"""

RETURN = r"""
state:
  description: The state of the deployment.
  type: str
  returned: always
  sample: completed
objectives:
  description: The objectives of the RFC, once they were checked.
  type: list
  elements: dict
  returned: always
  contains:
    name:
      description: Of the objective.
      type: str
    met:
      description: Whether it was met.
      type: bool
    detail:
      description: Why not.
      type: str
passed_on:
  description:
    - C(rfc), C(release), C(version), the C(state), how many C(hosts) are in which state, and the names of the first 20 that failed, got
      lost, still owe the back-out, or were left as they are (C(amiss)). The report has all of them.
    - Later jobs get it as C(tidegate_concluded), with C(sentence), see C(docs/jobs.md) in the collection.
  type: dict
  returned: always

progress:
  description: What the progress display shows of this task.
  type: dict
  returned: always
"""
