# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.host_facts."""

from __future__ import annotations

from ansible_collections.tidegate.release.plugins.action import release_facts


class ActionModule(release_facts.ActionModule):
    """Run the module over a connection that notices when the host freezes."""

    module = "host_facts"
