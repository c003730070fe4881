#!/usr/bin/python
# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the forward schedule of releases."""

from __future__ import annotations

DOCUMENTATION = r"""
module: schedule
short_description: Enter RFCs ahead of time, and publish the forward schedule of releases
version_added: 0.1.0
description:
  - The CMDB has a register of changes. A deployment enters its RFC by itself; this enters RFCs that are still to come, with the CIs
    that their scope selects now. M(tidegate.release.clear) then finds changes that would meet, at one CI or at directly related ones,
    and refuses an RFC whose scope has come to select further CIs since.
  - Publishes what is to come as an iCalendar file that other calendars can subscribe to.
author:
  - Tidegate maintainers (@tidegate)
extends_documentation_fragment:
  - tidegate.release.homes.cmdb
options:
  rfcs:
    description:
      - RFCs to enter, or to enter anew as they read now; each as O(tidegate.release.clear#module:rfc) takes it.
      - Taken from the variable C(tidegate_rfcs), when it is not given.
    type: list
    elements: str
    default: []
  withdraw:
    description:
      - Numbers of RFCs that will not be done. They conflict with nothing any more, and the schedule has them as cancelled.
      - One that has an open deployment stays, and the task fails. An RFC in O(rfcs) that was canceled is withdrawn too.
      - Taken from the variable C(tidegate_withdraw), when it is not given.
    type: list
    elements: str
    default: []
  dest:
    description:
      - The C(.ics) file to write, with an event for each change that is not over; one that was cancelled is in it as cancelled.
      - The C(SEQUENCE) of an event rises when the change gets other dates or another title.
      - Taken from the variable C(tidegate_schedule), when it is not given.
    type: path
attributes:
  check_mode:
    description: Can run in check mode and say what it would do.
    support: full
    details: The file is then compared with the register as it would be.
  diff_mode:
    description: Returns what changed when in diff mode.
    support: full
  platform:
    description: Target platforms.
    platforms: posix
    support: full
notes:
  - Runs on the controller, whatever the connection of the host is.
seealso:
  - module: tidegate.release.clear
"""

EXAMPLES = r"""
- name: Plan ahead
  tidegate.release.schedule:
    rfcs:
      - /srv/rfcs/CHG0030001.yml
      - /srv/rfcs/CHG0030002.yml
    dest: /srv/www/releases.ics
    cmdb: /srv/cmdb.sqlite
"""

RETURN = r"""
entered:
  description: Numbers of the RFCs that were entered, or entered anew because they read otherwise.
  type: list
  elements: str
  returned: success
  sample: [CHG0030001]
withdrawn:
  description: Numbers of the RFCs that were withdrawn.
  type: list
  elements: str
  returned: success
unchanged:
  description: Numbers of the RFCs that were in the register as they read now.
  type: list
  elements: str
  returned: success
conflicts:
  description: Which RFC meets which planned change, and where.
  type: list
  elements: dict
  returned: success
  sample: [{number: CHG0030001, other: CHG0030002, at: [web1]}]
msg:
  description: What was done or would be, a line for each RFC, conflict and file.
  type: str
  returned: success
"""
