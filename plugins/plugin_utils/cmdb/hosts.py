# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which CIs are hosts: the inventory has these and no others, and only they can get a release. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from .ci_changes import is_live
from .model import CiModel

_ADDRESS = frozenset({"ansible_host", "ansible_port", "ansible_user"})
REMEDY = "give it a class that is one, or name its class in host_classes of the policy"


def is_host(ci: Mapping[str, Any], host_classes: Collection[str], model: CiModel) -> bool:
    """Whether a CI is a host: it is live, and its class, in whatever case, is one of ``host_classes`` or, without these, one of hosts.

    A class that the model does not have is one of hosts: a host that the inventory lacks does more harm than a CI too many.
    """
    if not is_live(ci):
        return False
    if host_classes:
        return (ci["class"] or "").casefold() in {one.casefold() for one in host_classes}
    known = model.of(ci["class"])
    return known is None or known.host


def says_how_to_connect(attribute: str) -> bool:
    """Whether an attribute would have Ansible do more than find the host: it becomes a host variable only where the inventory file says so,
    for what it can have run is run on the controller."""
    return attribute.startswith("ansible_") and attribute not in _ADDRESS


def described(ci: Mapping[str, Any]) -> str:
    """A CI's name and class, and its status where it is not live, for a sentence."""
    status = "" if is_live(ci) else f", {ci['status']}"
    return f"{ci['name']} ({ci['class'] or 'no class'}{status})"
