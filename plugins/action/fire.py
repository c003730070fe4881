# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller half of tidegate.release.fire."""

from __future__ import annotations

from ansible_collections.tidegate.release.plugins.plugin_utils.actions.together import Fire


class ActionModule(Fire):
    """Tell an armed host the instant."""

    module = "fire"
