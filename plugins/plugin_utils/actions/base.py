# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every action plugin of the collection shares.

Its options are in ``options``. What fails is said once and in short, whichever callback shows it: see :class:`Failure`.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from ansible import constants as C
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ...module_utils.redaction import Redactor
from ..errors import FindingsError, TidegateError, shortened
from ..libs import require
from .invocation import refuse_cut_texts
from .options import argument_spec, evaluated, fallbacks, meaning, resolve
from .output import heartbeat
from .variables import refuse_mistyped

_HOME = str(Path(__file__).parents[3])
_REGISTERED = (
    "__backout_result",
    "__confirm_result",
    "__activate_result",
    "__stage_result",
)  # by the roles of those names, the last step first
_SECRET_VARIABLE = re.compile("PASS|SECRET|TOKEN|KEY|CREDENTIAL|AUTH")  # of the environment
_SECRET = re.compile("pass(word|phrase)$")  # documentation has no word for an option that must not be shown
_VARIABLE = re.compile(r"\{\{\s*(\w+)")
_MENTIONED = 64  # characters that a sentence quotes of a value
_EXPECTED = {
    "bool": "true or false",
    "dict": "a mapping",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "path": "a path",
    "str": "a text",
}
# What a failed task says to whoever does not ask for more; ``progress`` is for the callback of this collection.
_TRACED = 3  # the verbosity of those who look for a fault of ours
_BRIEF = frozenset({"changed", "failed", "msg", "progress", "state"})


class Failure(AnsibleActionFail):
    """A task that failed, shown as the one line that its message is.

    For a result that an action returns, Ansible's own callbacks show the message twice, and between them where in which role the task
    stands, which is nothing that its user could mend. From ``-vvv`` on they do, for developers.
    """

    _include_cause_message = False

    @property
    def omit_exception_key(self) -> bool:
        """Whether the message stands alone."""
        return bool(Display().verbosity < _TRACED)


def _fault(option: Mapping[str, Any], value: Any) -> str:
    """Why ``value`` is none that ``option`` takes, empty when it is one."""
    kind, choices = str(option.get("type", "str")), option.get("choices")
    if ArgumentSpecValidator({"value": {"type": kind}}).validate({"value": value}).error_messages:
        return f"is {_shown(value)}; it has to be {_EXPECTED.get(kind, kind)}"
    if choices and value not in choices:
        return f"is {_shown(value)}; it has to be {', '.join(map(str, choices[:-1]))} or {choices[-1]}"
    return ""


def _shown(value: object) -> str:
    text = repr(str(value))
    return text if len(text) <= _MENTIONED else f"{text[:_MENTIONED]}..."


def _plain(value: Any) -> Any:
    """A result as Ansible keeps one: it warns of an enumeration where a text will do."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value.value if isinstance(value, Enum) else value


def reasons(task_vars: Mapping[str, Any]) -> Callable[[str], str]:
    """Look up what Ansible said of a host's step when the journal has no outcome of it, as for a setting that could not be templated.

    The roles register their steps' results; nothing is known of a host that has none, and nothing of one that did not fail.
    """
    hosts = task_vars.get("hostvars", {})

    def reason(host: str) -> str:
        variables = hosts[host] if host in hosts else {}  # noqa: SIM401 - get() of Ansible's has no default
        results = [variables[name] for name in _REGISTERED if name in variables]
        failed = next((result for result in results if isinstance(result, Mapping) and result.get("failed")), {})
        return " ".join(str(failed.get("msg", "")).split())

    return reason


def secrets_of(task_vars: Mapping[str, Any]) -> Redactor:
    """Knows what a check that is made on the controller must not show: each host's settings, and what the environment has of secrets."""
    found: dict[str, list[Any]] = {}
    hosts = task_vars.get("hostvars", {})
    for host in hosts:
        with contextlib.suppress(AnsibleError):  # one that can't be evaluated was never given to a service
            settings = hosts[host].get("tidegate_settings")
            for name, value in settings.items() if isinstance(settings, Mapping) else ():
                found.setdefault(str(name), []).append(value)
    for name, value in os.environ.items():
        if _SECRET_VARIABLE.search(name):
            found.setdefault(name.lower(), []).append(value)
    return Redactor(found)


class Unreachable(AnsibleConnectionFailure):
    """A host that can't be reached, shown as one line like a :class:`Failure`."""

    _include_cause_message = False

    @property
    def result_contribution(self) -> dict[str, object]:
        """The keys of the task's result."""
        return {"unreachable": True, "msg": self.message}

    @property
    def omit_exception_key(self) -> bool:
        """Whether the message stands alone."""
        return bool(Display().verbosity < _TRACED)


class TidegateAction(ActionBase):
    """Base of the actions: validate, run :meth:`execute`, turn a :class:`TidegateError` into a failed task."""

    module: ClassVar[str]
    libraries: ClassVar[tuple[str, ...]] = ()
    per_host: ClassVar[bool] = False  # whether it runs on many hosts at once, and not once on the controller
    whole: ClassVar[bool] = False  # a later step reads all of a failed result

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Do the task; raises :class:`Failure` when it failed."""
        self._supports_check_mode = True
        self._supports_async = False
        result: dict[str, Any] = super().run(tmp, task_vars)
        findings, given = not self.per_host, dict(self._task.args)
        try:
            refuse_cut_texts(self._loader)
            refuse_mistyped(self._loader, task_vars or {})
            require(*self.libraries)
            self._refuse_left_out(task_vars or {})
            given = resolve(self.module, given, task_vars or {}, self._templar)
            with heartbeat(self.module, str((task_vars or {}).get("inventory_hostname", "")) if self.per_host else ""):
                result.update(_plain(self.execute(self._options(given), task_vars or {})))
        except FindingsError as error:
            result.update(failed=True, msg=error.complete if self._is_asked_for_more() else str(error))
        except TidegateError as error:
            result.update(failed=True, msg=str(error) if self._is_asked_for_more() else shortened(str(error)))
            findings = False
        except AnsibleConnectionFailure as error:
            raise Unreachable(str(error)) from error
        except OSError as error:
            if self._display.verbosity >= _TRACED:
                raise
            result.update(failed=True, msg=f"{error.filename or 'the controller'}: {error.strerror or error}; mend that and run this again")
        secrets = {str(value) for name, value in given.items() if value and _SECRET.search(name)}
        if secrets:
            result = dict(remove_values(result, secrets))
        if result.get("failed"):
            self._fail(result, findings)
        return result

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Do the work of the action with validated options; return the keys of the task's result.

        Of a failed one, the lines of ``msg`` after the first are shown by themselves, before it.
        """
        raise NotImplementedError

    def _fail(self, result: dict[str, Any], findings: bool) -> NoReturn:
        """Raise :class:`Failure`; what else the result has only goes to those who ask for it.

        ``findings``: the lines after the first are a list to be read, which Ansible's own callbacks would show as one line of JSON.
        """
        for warning in result.pop("warnings", ()):
            self._display.warning(warning)
        constants: Any = C
        first, *others = str(result.get("msg", "")).splitlines() or [""]
        for line in others if findings else ():
            self._display.display(line, color=constants.COLOR_ERROR)
        if not self.whole and not self._is_asked_for_more():
            result = {key: value for key, value in result.items() if key in _BRIEF} | ({"msg": first} if findings else {})
            progress = result.get("progress")
            if isinstance(progress, Mapping) and progress.get("detail") == result.get("msg"):  # the display takes it from there
                result["progress"] = {key: value for key, value in progress.items() if key != "detail"}
        core: Any = Failure  # ansible-core has no types for its constructor
        raise core(str(result.get("msg", "")), result=result)

    def _is_asked_for_more(self) -> bool:
        """Whether somebody wants all of a failed result: with ``-v``, or in a task of a team's own that registers it."""
        return self._display.verbosity > 0 or (bool(self._task.register) and not self._is_ours())

    def _is_ours(self) -> bool:
        """Whether the task is one of this collection's roles or playbooks."""
        return str(self._task.get_path()).startswith(_HOME)

    def _written(self) -> dict[str, str]:
        """By option, the variable that the task takes it from, as far as it is written there."""
        written = self._task.get_ds() or {}
        arguments = written.get(f"tidegate.release.{self.module}") if isinstance(written, Mapping) else None
        found = {name: _VARIABLE.match(str(text)) for name, text in arguments.items()} if isinstance(arguments, Mapping) else {}
        return {name: match[1] for name, match in found.items() if match}

    def _variables(self, given: Mapping[str, Any]) -> dict[str, str]:
        """By option, the variable that its value comes from, or, in a task of ours, would have come from."""
        left_out = {name: fallback for name, fallback in fallbacks(self.module).items() if self._task.args.get(name) in (None, "")}
        return {name: fallback.variable for name, fallback in left_out.items() if given.get(name) or self._is_ours()} | self._written()

    def _refuse_left_out(self, task_vars: Mapping[str, Any]) -> None:
        """An option is left out when its variable is not set; not when it is set and can't be evaluated, which Jinja's default() hides."""
        for name, variable in self._written().items():
            if name not in self._task.args:
                evaluated(variable, task_vars, self._templar)

    def _options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        spec, variables, faults = argument_spec(self.module), self._variables(given), []
        known = {*spec, *(alias for option in spec.values() for alias in option.get("aliases", ()))}
        for name in given.keys() - known:
            close = difflib.get_close_matches(str(name), known, 1)
            remedy = f"did you mean {close[0]}?" if close else f"it has {', '.join(spec)}"
            faults.append(f"{_shown(name)} is no option of tidegate.release.{self.module}; {remedy}")
        for name, option in spec.items():
            called = variables.get(name) or f"{name} of tidegate.release.{self.module}"
            value = given.get(name)
            # A version 1.10 would become 1.1, a date or a yes something else.
            if value is not None and not isinstance(value, str) and option.get("type") in ("str", "path"):
                faults.append(f"{called} is no text but {_shown(value)}, as YAML reads it; write it in quotes")
            elif value in (None, "") and option.get("required"):
                remedy = f"; add -e {called}=..., {meaning(self.module, name)}" if name in variables else ""
                faults.append(f"{called} is missing{remedy}")
            elif value is not None and (fault := _fault(option, value)):
                faults.append(f"{called} {fault}")
        if faults:
            raise TidegateError("\n".join(faults))
        outcome = ArgumentSpecValidator(spec).validate(dict(given))
        if outcome.error_messages:  # what an entry of a list is refused for
            raise TidegateError(f"tidegate.release.{self.module}: " + "; ".join(outcome.error_messages))
        return dict(outcome.validated_parameters)
