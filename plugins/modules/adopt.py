#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make what runs on a host already a release there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: adopt
short_description: Make what runs on a host already a release there, without stopping it
version_added: 0.1.0
description:
  - A part of the playbook C(tidegate.release.adopt), which also archives the release and records in the CMDB what came of it, see
    M(tidegate.release.adoption).
  - With O(step=fetch) the tree is fetched from the host into the release's directory, as its payload, unless there is one already.
  - With O(step=adopt) the host compares its tree with the archived package. When each file, directory and link is the same and the
    release's health checks pass as it runs now, the release is laid out under O(root) and becomes the live one there. So the next release
    has one to go back to, by the C(stop) and C(start) of this one.
  - For a release that has only a role nothing is done on hosts, see M(tidegate.release.adoption).
  - No hook runs and nothing is stopped. What runs goes on from its old place until a release is activated.
  - A host that differs is left as it is, and the task fails with what differs. So does a host on which another release of the name is live.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.dsl
  - tidegate.release.homes.policy
  - tidegate.release.homes.root
  - tidegate.release.homes.settings
options:
  step:
    description: What to do.
    type: str
    choices: [fetch, adopt]
    default: adopt
  release:
    description:
      - Directory of the release, with its C(release.yml).
      - Taken from the variable C(tidegate_release), when it is not given.
    type: path
    required: true
  path:
    description:
      - Directory on the host that the release runs from now. It may be a link to that. Needed unless the release has only a role.
      - Taken from the variable C(tidegate_path), when it is not given.
    type: str
  leave:
    description:
      - Patterns of what in that directory is none of the release, such as V(*.log) or V(var). Each is compared with names, and with paths
        from the directory on. Of a directory all that is in it is left out, too. What Python keeps in C(__pycache__) always is.
      - A tree with another file system mounted in it is refused until that is left out.
      - Taken from the variable C(tidegate_leave), when it is not given.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Can run in check mode and say what it would do.
    support: full
  diff_mode:
    description: Returns what changed when in diff mode.
    support: none
  platform:
    description: Target platforms.
    platforms: posix
    support: full
requirements:
  - Python 3.9 on the host
seealso:
  - module: tidegate.release.adoption
  - module: tidegate.release.archive
  - module: tidegate.release.cmdb_import
"""

EXAMPLES = r"""
- name: Fetch what runs
  tidegate.release.adopt:
    step: fetch
    release: /srv/releases/board
    path: /srv/board
    leave: ["*.log"]
  run_once: true

- name: Make it a release on each host that has the same
  tidegate.release.adopt:
    release: /srv/releases/board
    path: /srv/board
    leave: ["*.log"]
    dsl: /srv/dsl
"""

RETURN = r"""
state:
  description: V(adopted), V(differs), or V(refused) when the host can't have the release.
  type: str
  returned: when O(step=adopt) and the host answered
  sample: adopted
version:
  description: The version of the release.
  type: str
  returned: when O(step=adopt) and the host answered
  sample: "1.0"
digest:
  description: The digest of its package.
  type: str
  returned: when O(step=adopt) and the host answered
msg:
  description: What was fetched, or why the host has not adopted the release.
  type: str
  returned: when there is something to say
"""
