#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archive the journal of deployments that are long over."""

from __future__ import annotations

DOCUMENTATION = r"""
module: journal_archive
short_description: Move what the journal says of deployments that are long over into files
version_added: 0.1.0
description:
  - Moves the waves, hosts and lines of the journal, and the CIs of the change, of deployments that are over for longer than C(journal) in
    the policy says. The deployments and changes themselves stay on record, so an RFC that was archived is never begun again.
  - What is open, installed or locked somewhere, or owes something stays, and so does what waits for a person, or was the last to change a
    host after a deployment of the same release that stays, which has to find out whether that host is still its own.
  - Each file is JSON lines, compressed with gzip. Its first line is a statement about the rest, with who archived it and why, signed when
    there is a key. The rows leave the CMDB in one transaction, when the file is on disk, was read back and is what the CMDB has. A run
    that is killed is made up for by the next one. The signature is for people who ask later; what reads a file checks that it has the
    digest that the CMDB has of it.
  - M(tidegate.release.report), when it is asked for a deployment, and M(tidegate.release.cmdb_history_info) show what is archived, from the
    file where this module put it, which has to be as it was written and on the path that the CMDB has of it. So keep the files, and take
    them along when you make a backup of the CMDB.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.key
  - tidegate.release.homes.local
attributes:
  diff_mode:
    description: Returns what changed when in diff mode.
    support: full
options:
  dest:
    description:
      - Directory for the files; it is made when it doesn't exist.
      - Taken from the variable C(tidegate_journal_archive), when it is not given.
    type: path
    required: true
  reason:
    description:
      - What it is for. It has to be said.
      - Taken from the variable C(tidegate_reason), when it is not given.
    type: str
    default: ""
seealso:
  - module: tidegate.release.cmdb_history_info
  - module: tidegate.release.report
"""

EXAMPLES = r"""
- name: Archive what is older than the policy has it
  tidegate.release.journal_archive:
    dest: /srv/archive
    reason: The yearly clean-up, see TASK0042
    cmdb: /srv/cmdb.sqlite
    policy: /srv/policy.yml
"""

RETURN = r"""
msg:
  description: What was archived, or in check mode would be, in one sentence.
  type: str
  returned: success
deployments:
  description: The deployments that were archived.
  type: list
  elements: str
  returned: success
  sample: [CHG0030001#1]
files:
  description: The files that were written.
  type: list
  elements: str
  returned: success
  sample: [/srv/archive/journal-1-100-0123456789ab.jsonl.gz]
kept:
  description: How many of the deployments that ended before the policy's term stay, by the reason.
  type: dict
  returned: success
  sample: {a host of theirs runs what they installed: 12}
person:
  description: Who archived them.
  type: str
  returned: success
  sample: carl
"""
