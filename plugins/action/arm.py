# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of tidegate.release.arm."""

from __future__ import annotations

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.together import Arm


class ActionModule(Arm):
    """Get the host ready to switch at an instant that it is told later."""

    module = "arm"
