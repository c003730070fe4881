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
  - Goes on with the deployment of O(rfc) that this run of ansible-playbook has planned or taken over, see M(tidegate.release.plan).
  - Sends nothing of a package without the signatures that the policy asks for. They are looked at once in a run.
  - Asks the host what it lacks of the package, sends just that, and builds the release's tree beside the running one.
  - Contents that the host has are cloned where its file system can, else copied, and their digests checked, so that no release writes into
    another's files; C(rollout.share_files) in the policy links them. Large files that changed are put together from the chunks
    that the host has and those that it lacks. The host trusts the package digest and nothing else.
  - Old releases beyond what the policy keeps are removed first; never the live one, the last stable one, this one, or one that a
    deployment may still have to go back to.
  - What is known to be lacking and is small goes with the first call, so that a host takes one round trip.
  - A release with C(effect) V(outside) is asked by its hook C(read) what is there, with the host's variable C(tidegate_settings). Where no
    release is live, the archived version that is read so is recorded as installed, without being activated. What can't be brought back
    is refused.
author:
  - Tidegate maintainers (@tidegate)
options:
  mirror:
    description:
      - Where the host fetches what it lacks, C(http://) or C(https://), host, and a path. Either any static file server over the directory
        of the DSL, or the release's repository in a registry, a URL with C(/v2/) in it.
      - The mirror need not be trusted. All that comes from it is checked against the package's digest, and what it does not bring in a
        bounded time is pushed over the connection.
      - It is asked without credentials, redirections are not followed, and C(https://) needs a certificate that the host trusts.
      - Taken from the variable C(tidegate_mirror), when it is not given.
    type: str
extends_documentation_fragment:
  - tidegate.release.homes.rfc
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.redfish
  - tidegate.release.homes.root
  - tidegate.release.homes.host
seealso:
  - module: tidegate.release.plan
  - module: tidegate.release.gate
"""

EXAMPLES = r"""
- name: Stage the release
  tidegate.release.stage:
    rfc: /srv/rfcs/CHG0030001.yml
    cmdb: /srv/cmdb.sqlite
    dsl: /srv/dsl

- name: Stage it from a file server near the host
  tidegate.release.stage:
    rfc: /srv/rfcs/CHG0030001.yml
    mirror: http://mirror.ams.example/dsl
"""

RETURN = r"""
state:
  description: V(staged) or V(stage_failed).
  type: str
  returned: when not in check mode
  sample: staged

sent:
  description: How many pieces the host lacked, contents or chunks of large ones.
  type: int
  returned: when staged
reused:
  description: How many contents the host had already.
  type: int
  returned: when staged

source:
  description: >-
    Where the host got what it lacked from, V(push) as soon as any of it was pushed, or V(mirror); V(host) when it had everything.
  type: str
  returned: when staged
  sample: push
bytes:
  description: How many bytes that took, packed when they were pushed.
  type: int
  returned: when staged
mirror_problem:
  description: Why the mirror did not bring everything.
  type: str
  returned: when it did not
progress:
  description: What the progress display shows of this task.
  type: dict
  returned: when not in check mode
"""
