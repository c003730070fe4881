# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The differences that an audit found, as lines for a person. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

_NAMED = 10  # hosts that a line names which share a difference


def difference_lines(differences: Iterable[Mapping[str, Any]], *, seen: bool = False) -> list[str]:
    """A line for each difference, with what to do about it; hosts with the same one share it.

    ``seen``: who reads them has just been told by Ansible, host by host, why it could not be reached.
    """
    alike: dict[tuple[str, str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for one in differences:
        detail = one["detail"].partition(":")[0] if seen and one["kind"] == "unreachable" else one["detail"]
        alike[detail, _cover(one), one["remedy"]].append(one)
    lines = []
    for (detail, cover, remedy), found in alike.items():
        hosts = [one["host"] or one.get("unit") or "DSL" for one in found]
        names = ", ".join(hosts[:_NAMED]) + (f" and {len(hosts) - _NAMED} more" if len(hosts) > _NAMED else "")
        lines.append(f"{names}: {detail}{_when(found, cover)}{f'; {remedy}' if remedy else ''}")
    return lines


def _when(found: Iterable[Mapping[str, Any]], cover: str) -> str:
    """Since when hosts have a difference that they share, as far as it is known, and which changes ``cover`` it."""
    since = sorted(one["since"] for one in found if one.get("since"))
    if not since:
        return ""
    after = sorted(one["after"] for one in found if one.get("after"))
    moment = f"between {_minute(after[0])} and {_minute(since[-1])}" if after else f"since {_minute(since[0])}"
    return f" ({moment} UTC{f', {cover}' if cover else ''})"


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


def _cover(one: Mapping[str, Any]) -> str:
    """Which changes cover a difference; empty where it is not known since when it is there."""
    numbers = one.get("covered_by")
    return "" if numbers is None else f"covered by {', '.join(numbers)}" if numbers else "no RFC covers it"
