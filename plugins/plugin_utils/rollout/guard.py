# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host can be left to go back by itself when nobody confirms a release in time. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .options import Rollout


def confirm_fault(config: Mapping[str, Any], rollout: Rollout) -> str:
    """That hosts would go back before the release can have shown that it is well, as a sentence; empty when they would not.

    ``config``: that of the package. It may take what its start hook and its health checks may, and has to last after that.
    """
    if not rollout.confirm_minutes:
        return ""
    start = config.get("hooks", {}).get("start", {}).get("timeout", 0)
    health = sum(check["timeout"] for check in config.get("health", ()))
    stable = config.get("stable", rollout.stable)
    needed = start + health + stable
    if rollout.confirm_minutes * 60 > needed:
        return ""
    parts = f"start {start:g}, health checks {health:g}, stable {stable:g}"
    return (
        f"hosts would go back by themselves {rollout.confirm_minutes * 60:g} seconds after they were switched, and {config['name']} "
        f"{config['version']} may take {needed:g} to show that it is well ({parts}); raise rollout.confirm_minutes"
    )


def confirm_remark(config: Mapping[str, Any], rollout: Rollout) -> str:
    """That hosts don't go back by themselves though the policy wants it, and for what; empty when they do, or it does not."""
    brings = {"ansible": "a role of its own", "firmware": "firmware", "hardware": "hardware"}
    found = [words for key, words in brings.items() if key in config]
    if not rollout.confirm_minutes or not found:
        return ""
    return f"hosts don't go back by themselves, as rollout.confirm_minutes says: the release brings {found[0]}, which no host undoes alone"
