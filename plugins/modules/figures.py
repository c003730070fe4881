#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say how releases went, in figures."""

from __future__ import annotations

DOCUMENTATION = r"""
module: figures
short_description: Say how releases went, in figures
version_added: 0.1.0
description:
  - Counts from journal, history and CMDB the five figures of DORA, and those of Release Management, such as how many deployments were
    successful, by an emergency change, or rehearsed. There is one of each for all deployments, each month, each release and each team.
  - A team is the support group of the CIs that a deployment is for, or else their owner, or else who requested the change.
  - The result and the files say for each figure what it is and whose definition that follows.
  - A share or a median of fewer than five events is no value, and says so.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
  - tidegate.release.homes.policy
  - tidegate.release.homes.local
options:
  dest:
    description:
      - A file on the controller for the figures. With the suffix C(.json) it is the data, with C(.html) a page that needs no network, with
        C(.prom) OpenMetrics text, as Prometheus reads it and the textfile collector of its node exporter takes it.
      - Taken from the variable C(tidegate_figures_file), when it is not given.
    type: path
  months:
    description:
      - How many months to look back, this one included, from 1 to 120. Months are those of UTC.
      - Taken from the variable C(tidegate_figures_months), when it is not given.
    type: int
    default: 12
requirements:
  - SQLAlchemy >= 2
  - psycopg >= 3 for a CMDB in PostgreSQL
seealso:
  - module: tidegate.release.report
"""

EXAMPLES = r"""
- name: Let Prometheus have the figures of this year
  tidegate.release.figures:
    cmdb: /srv/cmdb.sqlite
    dest: /var/lib/node_exporter/tidegate.prom
  delegate_to: localhost
"""

RETURN = r"""
figures:
  description: The figures.
  type: dict
  returned: success
  contains:
    first_day:
      description: The first day that they are about.
      type: str
      sample: "2026-01-01"
    last_day:
      description: The last day.
      type: str
      sample: "2026-12-24"
    months:
      description: The months, the oldest first.
      type: list
      elements: str
    least_events:
      description: Of fewer events there is no share and no median.
      type: int
      sample: 5
    archived:
      description: Deployments whose journal is archived, so they are left out where it is needed.
      type: int
    definitions:
      description: Each figure with its unit, what it is and whose figure that is.
      type: list
      elements: dict
    all:
      description:
        - By name of a figure its C(value), of how many C(events), C(why) there is no value, and the same by month.
        - A C(value) is V(none) where C(why) says V(too few) or V(not known).
      type: dict
    releases:
      description: The same by name of a release.
      type: dict
    teams:
      description: The same by team.
      type: dict
files:
  description: The file, if it was written, or would be.
  type: list
  elements: str
  returned: success
"""
