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
  - Writes a site from the CMDB. Its first page, C(index.html), says what waits for a person. There is a page for each change, with who
    asked for it, who decided and signed, how its waves went over time and what its gates went by; for each deployment, with its hosts; for
    each release, with where it is live, its notes, licences and parts; for the hosts, with what each runs and what came to it; and a
    calendar of what is to come, with freezes. All of it can be searched.
  - Beside each page is its data as JSON, beside the first one C(report.json).
  - What people signed, and what is in packages, is read from O(dsl), the signatures checked by O(policy); without a library, or when it
    can't be read, the pages say so. Freezes and windows are those of the calendars of O(policy).
  - Where the hardware storage has stock rules, or firmware levels, they have a page too, with how many units there are for each. What
    counts as usable depends on O(policy).
  - C(figures.html) has the figures of the last twelve months, which M(tidegate.release.figures) explains, with C(figures.json) beside it.
  - Deployments that are not over always have a page, of the others the newest 30, and those that are asked for. The others are counted;
    what an old one left for a person to do is said on the first page all the same.
  - The pages need no network. None has a script but those of the search, which are lists that can be read without. Files that already say
    the same are left alone, and pages that a report has no more are removed.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.dsl
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
    dsl: /srv/dsl
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
