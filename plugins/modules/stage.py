#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage a release on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stage
short_description: Bring a release completely on a host, without effect on what runs
version_added: 0.1.0
description:
  - Sends nothing of a package without the signatures that the policy asks for. They are looked at once in a run.
  - Asks the host what it lacks of the package, sends just that, and builds the release's tree beside the running one.
  - Contents that the host has are linked, after their digests were checked. The host trusts the package digest and nothing else.
  - Old releases beyond what the policy keeps are removed first; never the live one, the last stable one, or this one.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.run
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.host
seealso:
  - module: tidegate.release.plan
  - module: tidegate.release.gate
"""

EXAMPLES = r"""
- name: Stage the release
  tidegate.release.stage:
    run: "{{ hostvars['localhost'].tidegate_run }}"
    cmdb: /srv/cmdb.sqlite
    dsl: /srv/dsl
"""

RETURN = r"""
state:
  description: V(staged) or V(stage_failed).
  type: str
  returned: always
  sample: staged

sent:
  description: How many contents were sent to the host.
  type: int
  returned: when staged
linked:
  description: How many contents the host had already.
  type: int
  returned: when staged

progress:
  description: What the progress display shows of this task.
  type: dict
  returned: always
"""
