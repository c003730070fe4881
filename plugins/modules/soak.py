#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until the releases of a wave can be looked at again."""

from __future__ import annotations

DOCUMENTATION = r"""
module: soak
short_description: Wait until a release has run on the hosts of a wave for as long as it has to stay healthy
version_added: 0.1.0
description:
  - Waits once for all hosts of the deployment on which the release came up and that were not looked at again, until the last of them has
    run for C(stable) seconds. C(stable) is the release's, or the policy's C(rollout.stable).
  - Keeps the deployment's lease while it waits.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.rfc
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.local
seealso:
  - module: tidegate.release.activate
  - module: tidegate.release.confirm
"""

EXAMPLES = r"""
- name: Give the releases of this wave time to fail
  tidegate.release.soak:
    rfc: /srv/rfcs/CHG0030001.yml
    cmdb: /srv/cmdb.sqlite
  run_once: true
  delegate_to: localhost
"""

RETURN = r"""
seconds:
  description: How long it waited.
  type: float
  returned: always
  sample: 9.4
hosts:
  description: The hosts that it waited for.
  type: list
  elements: str
  returned: always
  sample: [web1, web2]
"""
