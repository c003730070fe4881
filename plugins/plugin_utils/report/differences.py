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
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in differences:
        detail = one["detail"].partition(":")[0] if seen and one["kind"] == "unreachable" else one["detail"]
        alike[detail, one["remedy"]].append(one["host"] or one.get("unit") or "DSL")
    lines = []
    for (detail, remedy), hosts in alike.items():
        names = ", ".join(hosts[:_NAMED]) + (f" and {len(hosts) - _NAMED} more" if len(hosts) > _NAMED else "")
        lines.append(f"{names}: {detail}{f'; {remedy}' if remedy else ''}")
    return lines
