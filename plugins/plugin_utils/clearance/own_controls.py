# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The conditions of a policy's own controls: what stands after ``when:`` in a playbook, with Ansible's filters and tests.

They are evaluated in Jinja's sandbox instead of by Ansible: without lookups and whatever else of Ansible's looks at files or the
environment, so that a clearance reads nothing that is not given to it;
with the facts as plain data, so that nothing in them is ever taken for a template; and over ten thousand CIs a hundred times as fast.
Each control has its limit of computing and memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

from ansible.plugins.loader import filter_loader, test_loader

from ..limits import LimitError, run_limited
from ..policy.model import OwnControl
from .findings import Finding, Result, failed, passed, unknown

with suppress(ImportError):
    import jinja2
    import jinja2.meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment

# Ansible's filters and tests that look at the machine, its files or its environment.
_OUTSIDE = frozenset(
    {
        *("expanduser", "expandvars", "fileglob", "realpath", "relpath", "vaulted_file", "directory", "exists", "file", "link"),
        *("link_exists", "mount", "same_file", "is_dir", "is_file", "is_link", "is_mount", "is_same_file"),
    }
)


class _Plugins(dict[str, Callable[..., Any]]):
    """Jinja's own filters or tests, and by their names, full ones too, Ansible's: loaded when first used."""

    def __init__(self, own: Mapping[str, Callable[..., Any]], loader: Any) -> None:
        super().__init__(own)
        self._loader = loader

    def __missing__(self, name: str) -> Callable[..., Any]:
        plugin = None if name.rpartition(".")[2] in _OUTSIDE else self._loader.get(name)
        if plugin is None:
            raise KeyError(name)
        self[name] = plugin.j2_function
        return self[name]

    def __contains__(self, name: object) -> bool:
        return self.get(str(name)) is not None

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default


@functools.cache
def _environment() -> Any:
    environment: Any = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)
    environment.filters = _Plugins(environment.filters, filter_loader)
    environment.tests = _Plugins(environment.tests, test_loader)
    return environment


def evaluate_own(controls: Iterable[OwnControl], names: Mapping[str, Any]) -> dict[str, Finding]:
    """What each control comes to, with ``names`` as the variables of its conditions. One that can't be evaluated is inconclusive."""
    listed = tuple(controls)
    found = run_limited([functools.partial(_fields, control, names) for control in listed])
    return {control.name: _finding(control, fields) for control, fields in zip(listed, found, strict=True)}


def _fields(control: OwnControl, names: Mapping[str, Any]) -> list[str]:
    found = _evaluate(control, names)
    return [found.result.value, found.reason, found.remedy]


def _finding(control: OwnControl, fields: list[str] | LimitError) -> Finding:
    if isinstance(fields, LimitError):
        what = f"the condition {control.that[0]!a:.200} can't be evaluated: {fields}"
        if len(control.that) > 1:
            what = f"the {len(control.that)} conditions can't be evaluated: {fields}"
        return unknown(what, "write it in the policy so that it needs less, for instance without a regular expression or a power")
    result, reason, remedy = fields
    return Finding(Result(result), reason, remedy)


def speaking_of(controls: Iterable[OwnControl], names: Collection[str]) -> tuple[OwnControl, ...]:
    """The controls with a condition that uses one of the variables ``names``; one that can't be parsed may."""
    return tuple(control for control in controls if any(_speaks_of(condition, names) for condition in control.that))


def _speaks_of(condition: str, names: Collection[str]) -> bool:
    try:
        used = jinja2.meta.find_undeclared_variables(_environment().parse(f"{{{{ {condition} }}}}"))
    except (jinja2.TemplateError, RecursionError):
        return True
    return not used.isdisjoint(names)


def _evaluate(control: OwnControl, names: Mapping[str, Any]) -> Finding:
    unmet = []
    for condition in control.that:
        try:
            value = _environment().compile_expression(condition, undefined_to_none=False)(names)
        except MemoryError:
            raise  # which is a limit of the job
        except Exception as error:  # a condition may call anything that filters are made of
            what = " ".join(str(error).split()) or type(error).__name__
            return unknown(f"the condition {condition!a:.200} can't be evaluated: {what:.300}", "correct the condition in the policy")
        if not isinstance(value, bool):
            what = f"the condition {condition!a:.200} is neither true nor false, but {value!a:.60}"
            return unknown(what, "correct the condition in the policy")
        if not value:
            unmet.append(condition)
    if unmet:
        lines = (control.reason, *(f"not so: {' '.join(condition.split()):.200}" for condition in unmet))
        return failed("\n".join(lines), control.remedy or "have the change meet the policy")
    return passed(f"{len(control.that)} condition{'s are' if len(control.that) > 1 else ' is'} met")
