# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of tidegate.release.backout."""

from __future__ import annotations

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.switch import SwitchAction


class ActionModule(SwitchAction):
    """Bring the host back."""

    module = step = "backout"

    @property
    def begins(self) -> bool:
        """See :class:`HostAction`: what the word of an instant has begun is brought to its end."""
        return not self._task.args.get("told")
