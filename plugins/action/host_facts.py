# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.host_facts."""

from __future__ import annotations

from ansible_collections.tidegate.release.plugins.action import release_facts


class ActionModule(release_facts.ActionModule):
    """Have the host program look at what the host is made of."""

    module = "host_facts"
    found = ("os", "python", "packages")
    outside = False
    along = True  # it has no root to look for the program in
