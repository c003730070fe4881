# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of tidegate.release.collect."""

from __future__ import annotations

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.together import Collect


class ActionModule(Collect):
    """Find out what an armed host has done."""

    module = "collect"
