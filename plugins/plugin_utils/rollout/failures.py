# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why hosts have no outcome, or a bad one, in the words of the first of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from . import states
from .states import HostState

if TYPE_CHECKING:
    from .deployments import Target

Reason = Callable[[str], str]  # why there is no outcome of a host's step, as far as that is known
_ASKED = 20  # hosts without an outcome of which Ansible is asked why


def no_reason(_host: str) -> str:
    """Of a run that knows nothing of its hosts but what the journal has."""
    return ""


def first_failure(wave: Iterable[Target], reason: Reason) -> str:
    """What the first host said that failed, or Ansible of one without an outcome in the journal, or else one that came up."""
    targets = list(wave)
    said = sorted((target for target in targets if target.detail), key=lambda target: target.state is HostState.ACTIVE)
    if said and said[0].state is not HostState.ACTIVE:
        return f" ({said[0].host}: {said[0].summary})"
    undone = [target.host for target in targets if target.state in (HostState.PLANNED, HostState.STAGED, *states.TOUCHED)][:_ASKED]
    found = next(((host, why) for host in undone if (why := reason(host))), None) or next(((one.host, one.summary) for one in said), None)
    return f" ({found[0]}: {found[1]})" if found else ""
