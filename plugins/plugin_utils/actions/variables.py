# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of the verbs, and what to say of a name that is nearly one of them.

Ansible takes any variable and says nothing of one that nobody reads, so a letter less in ``tidegate_settings`` would deploy without them.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.parsing.vault import AnsibleVaultError
from ansible.utils.vars import load_extra_vars

from ..errors import TidegateError

if TYPE_CHECKING:
    from ansible.parsing.dataloader import DataLoader

PREFIX = "tidegate_"
_COLLECTION = Path(__file__).parents[3]
_NAME = re.compile(r"\b(?:tidegate|verify|lab|audit|report|stock|write_off)_\w+")
ENVIRONMENT = frozenset(f"TIDEGATE_{name}" for name in ("DSL", "CMDB", "POLICY", "RFC", "KEY", "KEY_PASSPHRASE"))
# What hooks get, who may run Ansible themselves.
_OF_HOOKS = frozenset(f"TIDEGATE_{name}" for name in ("RELEASE", "VERSION", "DIGEST", "TREE", "STATE", "PREVIOUS", "NEXT", "HOOK"))
# What a release's own role gets to know, as extra variables of the run that is for it.
OF_ROLES = frozenset(f"tidegate_{name}" for name in ("release", "version", "digest", "tree", "before", "receipts"))
# What a job of AWX gives later ones of a workflow, see ``report/artifacts``: extra variables that nobody here reads.
OF_JOBS = frozenset(f"tidegate_{step}" for step in ("archived", "audited", "cleared", "planned", "concluded"))
_REGISTERED = re.compile(r"(?m)^ *register: *(\w+)$")
_SHOWN = 80  # characters of a name
_CLOSE = 0.7  # of difflib; what a suggestion has to be like


@functools.cache
def known_variables() -> frozenset[str]:
    """Every variable that the roles specify or a playbook of the collection reads."""
    files = (*_COLLECTION.glob("roles/*/meta/argument_specs.yml"), *_COLLECTION.glob("playbooks/*.yml"))
    return frozenset(name for file in files for name in _NAME.findall(file.read_text(encoding="utf-8"))) | OF_ROLES | OF_JOBS


@functools.cache
def registered_variables() -> frozenset[str]:
    """Every variable in which a play of the collection keeps what a task found out."""
    files = (*_COLLECTION.glob("roles/*/tasks/*.yml"), *_COLLECTION.glob("playbooks/*.yml"))
    return frozenset(name for file in files for name in _REGISTERED.findall(file.read_text(encoding="utf-8")))


def refuse_mistyped(loader: DataLoader, variables: Mapping[str, object]) -> None:
    """Raise :class:`TidegateError` for a variable that was meant to be one of the verbs'.

    Among the extra variables whatever begins with ``tidegate_`` has to be one, and nothing may nearly be one. ``variables``, which a
    team's inventory and plays set, and the environment may have such names of their own, but for those that are nearly ours. What a task
    of ours finds out is refused as an extra variable, which would stand in its place.
    """
    known, extra = known_variables(), load_extra_vars(loader)
    strange = sorted(extra.keys() - known)
    faults = [
        f"{name} is what a task finds out, and can't be given; leave it out" for name in sorted(extra) if name in registered_variables()
    ]
    faults += [_fault(name, known) for name in strange if name.startswith(PREFIX) or _is_alike(name, known)]
    own = (name for name in variables.keys() - known - extra.keys() if name.startswith(PREFIX))
    faults += [_fault(name, known) for name in sorted(own) if _is_alike(name, known)]
    named = (name for name in os.environ.keys() - ENVIRONMENT - _OF_HOOKS if name.startswith("TIDEGATE_"))
    faults += [_fault(name, ENVIRONMENT) for name in sorted(named) if _is_alike(name, ENVIRONMENT)]
    if faults:
        raise TidegateError("\n".join(faults))


def refuse_unfit(loader: DataLoader) -> None:
    """Raise :class:`TidegateError` for an extra variable that is a keyword of our plays and no value of that.

    Ansible would say so of each host, when a deployment has begun. What is still to be evaluated is left to it.
    """
    extra = load_extra_vars(loader)
    given = {name: extra[name] for name in _KEYWORDS if name in extra and "{{" not in str(extra[name])}
    unfit = [name for name, value in given.items() if not _KEYWORDS[name][0](value)]
    faults = [f"{name} is {str(given[name])[:_SHOWN]!r}; it has to be {_KEYWORDS[name][1]}" for name in unfit]
    if faults:
        raise TidegateError("\n".join(faults))


def _is_bool(value: object) -> bool:
    try:
        boolean(value)
    except TypeError:
        return False
    return True


def _is_seconds(value: object) -> bool:
    return bool(re.fullmatch("[1-9][0-9]{0,7}", str(value)))


# What an extra variable has to be that is a keyword of a play.
_KEYWORDS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "tidegate_become": (_is_bool, "true or false"),
    "tidegate_hosts": (lambda value: isinstance(value, str), "a text, such as 'web1,db*' or the name of a group"),
    "audit_timeout": (_is_seconds, "a whole number of seconds"),
}


def _is_alike(name: str, known: Collection[str]) -> bool:
    """Whether one sign less, more, other or moved, or another case, makes ``name`` a known one."""
    plain = name.replace("-", "_")
    return any(_is_one_edit(form, other) for form in (plain.lower(), plain.upper()) for other in known)


def _is_one_edit(one: str, other: str) -> bool:
    if len(one) == len(other):
        wrong = [place for place in range(len(one)) if one[place] != other[place]]
        first = wrong[0] if wrong else 0
        moved = len(wrong) == 2 and wrong[1] == first + 1 and one[first : first + 2] == other[first : first + 2][::-1]
        return len(wrong) < 2 or moved
    longer, shorter = (one, other) if len(one) > len(other) else (other, one)
    return len(longer) == len(shorter) + 1 and any(longer[:place] + longer[place + 1 :] == shorter for place in range(len(longer)))


def _fault(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, 1, _CLOSE)
    remedy = f"did you mean {close[0]}?" if close else "docs/verbs.md lists those that there are"
    return f"{name[:_SHOWN]} is no variable of tidegate.release; {remedy}"


def host_settings(templar: Any, host: str, value: Any) -> Mapping[str, Any]:
    """The settings of ``host``, out of its variable as it is written; raises :class:`TidegateError` for one that can't be evaluated.

    As an argument of the task Ansible would evaluate them, and show with its error the lines of the file that they stand in.
    """

    def evaluated(what: str, entry: Any) -> Any:
        try:
            return templar.template(entry)
        except AnsibleError as error:
            # What others say can have the value in it that they were given.
            why = f": {error.message}" if isinstance(error, AnsibleUndefinedVariable | AnsibleVaultError) else ""
            advice = f"look at it with ansible {host} -m ansible.builtin.debug -a var=tidegate_settings, and correct it"
            raise TidegateError(f"{what} can't be evaluated{why}; {advice}") from None

    entries = value if isinstance(value, Mapping) else evaluated("tidegate_settings", value)
    if not isinstance(entries, Mapping | None):
        raise TidegateError("tidegate_settings is something else; it has to be a mapping")
    return {name: evaluated(f"{name} of tidegate_settings", entry) for name, entry in (entries or {}).items()}
