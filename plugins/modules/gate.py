#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide what comes after a wave."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gate
short_description: Decide after staging or after a wave whether to proceed, hold or back out
version_added: 0.1.0
description:
  - Decides about the deployment of O(rfc) that this run of ansible-playbook has planned or taken over, see M(tidegate.release.plan).
  - Counts from the journal how the hosts of the open wave, or of staging, fared, and compares with the failure budgets of the
    wave and of the whole deployment.
  - Reads the RFC and the policy again. While the RFC is on hold, or reads otherwise than when it was cleared, no further wave is opened.
  - Nor is one while a control blocks that can have changed since the clearance. C(docs/controls.md) in the collection says which these
    are. Windows and freezes are looked at for the sites of that wave, what people signed with all that was signed or revoked meanwhile,
    and compatibility for the hosts that get the release next, as things stand without those that failed. The policy's own controls that
    speak of C(now) or C(evidence) are among them.
  - Before the first wave it brings the change to Implement, in ServiceNow when the RFC comes from there, and holds when that fails.
  - Says in the change what was decided, and tells the channels of the policy and the stakeholders of the RFC of the start, of a hold and of
    a back-out. When that fails it warns; the decision stands.
  - When the policy has C(rollout.bake), it first measures metrics of the wave in Prometheus for as long as that says, and keeps the
    deployment's lease while it does. Bad ones are a failure, what is not known holds, and that time is up lets nothing proceed. Each
    measurement is in the journal, so a run that was killed goes on where it was. The address and the token of Prometheus are where the
    policy says, in the environment of the controller or in a file.
  - In check mode it decides nothing and says V(proceed).
  - Writes the decision, the wave's installations and what follows, the next wave opened or the back-out ordered, in one
    transaction. What is not known holds.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.rfc
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.local
options:
  after:
    description: After which step it decides; V(staging) opens the first wave.
    type: str
    choices: [staging, wave]
    default: wave
  patience:
    description:
      - For how many seconds at most the metrics of a wave are waited for. When that is over before they are known the task ends, decides
        nothing and says V(baking); C(deploy) then ends with that as its state, not well, and goes on with the bake when it is run again.
      - Without it the wait is as long as the policy's bake.
      - Taken from the variable C(tidegate_patience), when it is not given.
    type: float
  slice_patience:
    description:
      - For how many seconds one of several controllers, see O(tidegate.release.plan#module:slice), waits for hosts that no controller has
        in its slice. After that such hosts are late before the first wave, and hold the deployment before later ones.
      - Taken from the variable C(tidegate_slice_patience), when it is not given.
    type: float
    default: 600
seealso:
  - module: tidegate.release.activate
"""

EXAMPLES = r"""
- name: Decide about this wave
  tidegate.release.gate:
    rfc: /srv/rfcs/CHG0030001.yml
    dsl: /srv/dsl
    cmdb: /srv/cmdb.sqlite
  run_once: true
  delegate_to: localhost
"""

RETURN = r"""
decision:
  description: V(proceed), V(hold) or V(back_out); V(baking) when O(patience) was over before anything was known.
  type: str
  returned: always
  sample: proceed
reason:
  description: Why, in one sentence.
  type: str
  returned: always

msg:
  description: What was decided, and about which hosts, as it is said under any callback.
  type: str
  returned: when there was something to decide
  sample: "wave 1 of 2: web1 active, gate: proceed"
progress:
  description: What the progress display shows of this task.
  type: dict
  returned: always
"""
