#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Back out a release on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backout
short_description: Bring a host back to the release it had before a deployment
version_added: 0.1.0
description:
  - Goes on with the deployment of O(rfc) that this run of ansible-playbook has planned or taken over, see M(tidegate.release.plan).
  - Leaves the deployment's release and makes the previous one live, with hooks, link and health checks.
  - The previous release is held against its package first. What was changed is put right, from the host's own good copies or from
    O(dsl); files that nobody released stay, unless they are in the way. Without good copies the host is owed and the files are named.
  - When there was none, the C(remove) hook runs too, and the host is owed as long as a health check passes that did not before the
    release came.
  - A host that was not touched, or is back already, is left alone.
  - When it can't be reached or does not come up it is owed. Run the same playbook again.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.rfc
  - tidegate.release.homes.dsl
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.redfish
  - tidegate.release.homes.root
  - tidegate.release.homes.host
  - tidegate.release.homes.settings
options:
  told:
    description: Whether hosts may have been told an instant at which they go back. Those that were are waited for and looked at
      although somebody has interrupted the run; the others go back as always.
    type: bool
    default: false
seealso:
  - module: tidegate.release.plan
  - module: tidegate.release.gate
"""

EXAMPLES = r"""
- name: Back out the release
  tidegate.release.backout:
    rfc: /srv/rfcs/CHG0030001.yml
    cmdb: /srv/cmdb.sqlite
    dsl: /srv/dsl
    settings:
      address: 192.0.2.10
      port: 8080
"""

RETURN = r"""
state:
  description: V(backed_out) or V(owed).
  type: str
  returned: when not in check mode
  sample: backed_out

msg:
  description: Why it did not succeed, or what is to be known of a host on which it did.
  type: str
  returned: when there is something to say

progress:
  description: What the progress display shows of this task.
  type: dict
  returned: when not in check mode
"""
