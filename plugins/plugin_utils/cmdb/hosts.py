# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which CIs are hosts: the inventory has these and no others, and only they can get a release. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

# What nobody logs in to. Nothing is here that could be a machine: a host that the inventory lacks does more harm than a CI too many.
NO_HOSTS = frozenset(
    {
        *("rack", "cabinet", "room", "cage", "floor", "building", "site", "location", "datacenter", "data_center"),
        *("pdu", "ups", "cable", "circuit", "patch_panel"),
        *("subnet", "vlan", "ip_address", "certificate"),
        *("business_service", "licence", "license", "contract", "document", "person", "team"),
    }
)
REMEDY = "give it a class that is one, or name its class in host_classes of the policy"


def is_host(ci: Mapping[str, Any], host_classes: Collection[str]) -> bool:
    """Whether a CI is a host, by its class, in whatever case: one of ``host_classes``, or without these any but :data:`NO_HOSTS`.

    Of the latter, names as ServiceNow's tables have them (``cmdb_ci_rack``), or of two words, are others of the same.
    """
    name = (ci["class"] or "").casefold()
    if host_classes:
        return name in {one.casefold() for one in host_classes}
    return "_".join(name.removeprefix("cmdb_ci_").replace("-", " ").split()) not in NO_HOSTS


def described(ci: Mapping[str, Any]) -> str:
    """A CI's name and class, for a sentence."""
    return f"{ci['name']} ({ci['class'] or 'no class'})"
