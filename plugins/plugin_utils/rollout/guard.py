# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host can be left to go back by itself when nobody confirms a release in time. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .options import Rollout

_BRINGS = {"ansible": "a role of its own", "firmware": "firmware", "hardware": "hardware"}


def confirm_fault(config: Mapping[str, Any], rollout: Rollout) -> str:
    """That hosts would go back before the release can have shown that it is well, as a sentence; empty when they would not.

    ``config``: that of the package. It may take what its hooks, packages and health checks may, and has to last after
    that; the release before may take as long to stop as this one.
    """
    if not rollout.confirm_minutes or not _BRINGS.keys().isdisjoint(config):
        return ""
    hooks = config.get("hooks", {})
    parts = {name: hooks.get(name, {}).get("timeout", 0) for name in ("stop", "start", "read")}
    parts["packages"] = config.get("packages", {}).get("timeout", 0)
    parts["health checks"] = sum(check["timeout"] for check in config.get("health", ()))
    parts["stable"] = config.get("stable", rollout.stable)
    needed = sum(parts.values())
    if rollout.confirm_minutes * 60 > needed:
        return ""
    said = ", ".join(f"{name} {seconds:g}" for name, seconds in parts.items() if seconds)
    return (
        f"hosts would go back by themselves {rollout.confirm_minutes * 60:g} seconds after they were switched, and {config['name']} "
        f"{config['version']} may take {needed:g} to show that it is well ({said}); raise rollout.confirm_minutes"
    )


def confirm_remark(config: Mapping[str, Any], rollout: Rollout) -> str:
    """What people should know of hosts that go back by themselves, or don't though the policy wants it; empty for nothing."""
    found = [words for key, words in _BRINGS.items() if key in config]
    if not rollout.confirm_minutes:
        return ""
    if found:
        return f"hosts don't go back by themselves, as confirm_minutes says: the release brings {found[0]}, which no host undoes alone"
    if rollout.confirm_minutes < rollout.wave_minutes:
        after = f"hosts go back by themselves after {rollout.confirm_minutes:g} minutes, and a wave may take {rollout.wave_minutes}"
        return f"{after}: those that are first may not be confirmed in time"
    return ""
