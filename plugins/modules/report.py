#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the report."""

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Write what was deployed and what runs where
version_added: 0.1.0
description:
  - Writes C(report.json) and C(report.html) from the CMDB, all deployments with their waves, gates and hosts, and what every host runs now.
  - The page is one file that needs no network and no script. Files that already say the same are left alone.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.local
options:
  dest:
    description:
      - Directory for C(report.html) and C(report.json); it is made when it doesn't exist.
      - Taken from the variable C(tidegate_report), when it is not given.
    type: path
    required: true
  extra:
    description:
      - More top-level keys for C(report.json).
      - V(probe), a mapping of C(requests), C(retries) and C(failed) that a client of the service counted, is shown on the page as well.
    type: dict
    default: {}
seealso:
  - module: tidegate.release.conclude
  - module: tidegate.release.audit
"""

EXAMPLES = r"""
- name: Report
  tidegate.release.report:
    cmdb: /srv/cmdb.sqlite
    dest: /srv/www/releases
"""

RETURN = r"""
html:
  description: The path of the page.
  type: str
  returned: success
  sample: /srv/www/releases/report.html
json:
  description: The path of the data.
  type: str
  returned: success
  sample: /srv/www/releases/report.json
attention:
  description: What waits for a person, in sentences.
  type: list
  elements: str
  returned: success
progress:
  description: What the progress display shows of this task.
  type: dict
  returned: always
"""
