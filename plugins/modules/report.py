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
  - Writes C(index.html) from the CMDB, which says what waits for a person and leads to a page for each deployment, with its waves, gates
    and hosts, and to pages of hosts, with what each runs now. Beside each page is its data as JSON, beside the first one C(report.json).
  - Where the hardware storage has stock rules, or firmware levels, they have a page too, with how many units there are for each. What
    counts as usable depends on O(policy).
  - C(figures.html) has the figures of the last twelve months, which M(tidegate.release.figures) explains, with C(figures.json) beside it.
  - Deployments that are not over always have a page, of the others the newest 30, and those that are asked for. The others are counted;
    what an old one left for a person to do is said on the first page all the same.
  - The pages need no network and no script. Files that already say the same are left alone, and pages that a report has no more are
    removed.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.local
options:
  dest:
    description:
      - Directory for the report, and for nothing else; it is made when it doesn't exist.
      - Taken from the variable C(tidegate_report), when it is not given.
    type: path
    required: true
  deployments:
    description:
      - Numbers of RFCs whose deployments are to have a page, although they are over and not among the newest.
    type: list
    elements: str
    default: []
  extra:
    description:
      - More top-level keys for C(report.json).
      - V(probe), a mapping of C(requests), C(retries) and C(failed) that a client of the service counted, is shown on the page as well.
    type: dict
    default: {}
seealso:
  - module: tidegate.release.figures
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
  description: The path of the first page.
  type: str
  returned: success
  sample: /srv/www/releases/index.html
json:
  description: The path of its data.
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
