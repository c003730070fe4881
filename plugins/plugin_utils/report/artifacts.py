# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run passes on to later ones: custom stats of Ansible's, which AWX keeps as the artifacts of a job. Pure.

Ansible takes them from the result of a task that went well. Where one that failed has something to pass on, its role does so by
``set_stats``. AWX keeps them in its database, so they are small: numbers, and no more than :data:`NAMED` names of each kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

NAMED = 20
"""How many names of hosts or controls an artifact has at most."""
_JINJA = re.compile(r"\{(?=[{%#])")


def passed_on(step: str, facts: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """The keys of a task's result that pass on ``facts`` and ``more`` as ``tidegate_<step>``; its key ``passed_on`` has the facts alone.

    What a host has said may be in a text, and the next job takes it for a variable, so nothing in it is a template.
    """
    data = {f"tidegate_{step}": inert({**facts, **more})}
    return {"passed_on": inert(facts), "ansible_stats": {"data": data, "per_host": False, "aggregate": False}}


def first(names: Iterable[str]) -> list[str]:
    """The first :data:`NAMED` of the names, in their order."""
    return list(names)[:NAMED]


def planned(rfc: str, release: str, version: str, waves: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """What is passed on of a plan; of the hosts of each wave their number."""
    sizes = [len(wave) for wave in waves]
    return {"rfc": rfc, "release": release, "version": version, "hosts": sum(sizes), "waves": len(sizes), "sizes": sizes[:NAMED]}


def inert(value: Any) -> Any:
    """A value of JSON without anything that Ansible would evaluate."""
    if isinstance(value, Mapping):
        return {name: inert(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [inert(entry) for entry in value]
    return _JINJA.sub("{ ", value) if isinstance(value, str) else value
