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
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import date
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
from ..cmdb.sqlite import leave_open
from ..errors import FindingsError, TidegateError, shortened
from ..libs import require
from ..settings import how_to_give, is_secret, library_needs, missing, optional_setting, user_name
from .documentation import SECRET, argument_spec, fallbacks, meaning
from .invocation import refuse_cut_texts
from .options import HIDDEN, evaluated, resolve
from .output import AUDIENCE, heartbeat
from .variables import refuse_mistyped

_HOME = str(Path(__file__).parents[3])
_REGISTERED = (
    "__backout_result",
    "__confirm_result",
    "__activate_result",
    "__stage_result",
)  # by the roles of those names, the last step first
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
_PASSED_ON = "passed_on"  # what the role of a step that failed has still to pass on


def kept_in_run() -> Path:
    """A folder that is this run's own, for what was fetched out of a library and is the same for all of its tasks."""
    constants: Any = C
    return Path(constants.DEFAULT_LOCAL_TMP) / "tidegate-library"


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


def _fault(name: str, option: Mapping[str, Any], value: Any) -> str:
    """Why ``value`` is none that ``option``, which is called ``name``, takes; empty when it is one."""
    kind, choices = str(option.get("type", "str")), option.get("choices")
    if ArgumentSpecValidator({"value": {"type": kind}}).validate({"value": value}).error_messages:
        return f"is {'something else' if name in HIDDEN else _shown(value)}; it has to be {_EXPECTED.get(kind, kind)}"
    if choices and value not in choices:
        return f"is {_shown(value)}; it has to be {', '.join(map(str, choices[:-1]))} or {choices[-1]}"
    return ""


def _faults_within(called: str, option: Mapping[str, Any], value: Any) -> Iterator[str]:
    """What is wrong with the entries of a list and with the keys of a mapping; ``value`` itself is what ``option`` takes."""
    if "elements" in option and option.get("type") == "list":
        entry = {key: option[key] for key in ("options", "choices") if key in option} | {"type": option["elements"]}
        for number, one in enumerate(value.split(",") if isinstance(value, str) else value):
            fault = _fault(called, entry, one)
            yield from [f"{called}[{number}] {fault}"] if fault else _faults_within(f"{called}[{number}]", entry, one)
    elif isinstance(value, Mapping) and "options" in option:
        yield from (f"{called}.{name} is unknown; {_instead(name, option['options'])}" for name in value.keys() - option["options"])
        for name, part in option["options"].items():
            if value.get(name) is not None:
                is_no_text = part.get("type", "str") == "str" and not isinstance(value[name], str)
                fault = _no_text(value[name]) if is_no_text else _fault(name, part, value[name])
                yield from [f"{called}.{name} {fault}"] if fault else _faults_within(f"{called}.{name}", part, value[name])
            elif part.get("required"):
                yield f"{called}.{name} is missing"


def _no_text(value: object) -> str:
    """A version 1.10 would become 1.1, a serial number 0012 ten, a no False."""
    return f"is no text but {_shown(value)}, as YAML reads it; write it in quotes"


def _instead(name: object, known: Collection[str]) -> str:
    close = difflib.get_close_matches(str(name), known, 1)
    return f"did you mean {close[0]}?" if close else f"it has {', '.join(known)}"


def _shown(value: object) -> str:
    text = repr(str(value))
    return text if len(text) <= _MENTIONED else f"{text[:_MENTIONED]}..."


def _plain(value: Any) -> Any:
    """A result as Ansible keeps one, of what JSON has: from 2.19 on it warns of anything else, or fails for it."""
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return {_plain(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        entries = [_plain(entry) for entry in value]
        return sorted(entries, key=str) if isinstance(value, set | frozenset) else entries
    value = value.value if isinstance(value, Enum) else value.isoformat() if isinstance(value, date) else value
    return value if value is None or isinstance(value, str | int | float) else str(value)


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


def secrets_of(task_vars: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> Redactor:
    """Knows what a check that is made on the controller must not show: each host's settings, and what the environment has of secrets.

    ``more``: settings of hosts that are not in the inventory.
    """
    found = {str(name): [value] for name, value in (more or {}).items()}
    hosts = task_vars.get("hostvars", {})
    for host in hosts:
        with contextlib.suppress(AnsibleError):  # one that can't be evaluated was never given to a service
            settings = hosts[host].get("tidegate_settings")
            for name, value in settings.items() if isinstance(settings, Mapping) else ():
                found.setdefault(str(name), []).append(value)
    for name, value in os.environ.items():
        if is_secret(name):
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
    homes: ClassVar[tuple[str, ...]] = ()  # of those in ``settings``, what it can do nothing without
    per_host: ClassVar[bool] = False  # whether it runs on many hosts at once, and not once on the controller
    whole: ClassVar[bool] = False  # a later step reads all of a failed result

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Do the task; raises :class:`Failure` when it failed."""
        self._supports_check_mode = True
        self._supports_async = False
        result: dict[str, Any] = super().run(tmp, task_vars)
        findings, given = not self.per_host, dict(self._task.args)
        if self.per_host:
            leave_open()
        try:
            refuse_cut_texts(self._loader)
            refuse_mistyped(self._loader, task_vars or {})
            self._refuse_left_out(task_vars or {})
            given = resolve(self.module, given, task_vars or {}, self._templar)
            require(*self.libraries(given), *library_needs(given))
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
        secrets = {str(value) for name, value in given.items() if value and SECRET.search(name)}
        if secrets:
            result = dict(remove_values(result, secrets))
        if result.get("failed"):
            self._fail(result, findings)
        return result

    def record_outcome(self, changed: bool, msg: str) -> dict[str, Any]:
        """What a result says of a record that has ``changed``, or would have: nobody shall take what check mode found for done."""
        return {"changed": changed, "msg": f"{msg}. This was check mode: nothing has changed" if changed and self._task.check_mode else msg}

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Do the work of the action with validated options; return the keys of the task's result.

        Of a failed one, the lines of ``msg`` after the first are shown by themselves, before it.
        """
        raise NotImplementedError

    def needed(self, given: Mapping[str, Any]) -> tuple[str, ...]:
        """The homes that it can do nothing without, when these options are ``given``; all that lack are named at once."""
        return self.homes

    def libraries(self, given: Mapping[str, Any]) -> tuple[str, ...]:
        """What it needs of libraries, by the files of ``requirements/``, when these options are ``given``; its homes may add to that."""
        return ("base",)

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
            kept = _BRIEF | {_PASSED_ON} if self._is_ours() else _BRIEF
            result = {key: value for key, value in result.items() if key in kept} | ({"msg": first} if findings else {})
            progress = result.pop("progress", None)
            if isinstance(progress, Mapping) and AUDIENCE.callback:  # which takes what is not there from the message
                said = result.get("msg")
                result["progress"] = {key: value for key, value in progress.items() if (key, value) != ("detail", said)}
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
            if name not in self._task.args and name not in HIDDEN:
                evaluated(variable, task_vars, self._templar)

    def _options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        spec, variables, faults = argument_spec(self.module), self._variables(given), []
        known = {*spec, *(alias for option in spec.values() for alias in option.get("aliases", ()))}
        faults += [
            f"{_shown(name)} is no option of tidegate.release.{self.module}; {_instead(name, spec)}" for name in given.keys() - known
        ]
        for name, option in spec.items():
            called = variables.get(name) or f"{name} of tidegate.release.{self.module}"
            value = given.get(name)
            if value is not None and not isinstance(value, str) and option.get("type") in ("str", "path"):
                faults.append(f"{called} {_no_text(value)}")
            elif value in (None, "") and option.get("required"):
                remedy = f"; add {how_to_give(called)}..., {meaning(self.module, name)}" if name in variables else ""
                faults.append(f"{user_name(called) if name in variables else called} is missing{remedy}")
            elif value is not None and (fault := _fault(name, option, value)):
                faults.append(f"{called} {fault}")
            elif value is not None:
                faults += _faults_within(called, option, value)
        faults += [missing(name) for name in self.needed(given) if optional_setting(given, name) is None]
        if faults:
            raise TidegateError("\n".join(faults))
        outcome = ArgumentSpecValidator(spec).validate(dict(given))
        if outcome.error_messages:  # what an entry of a list is refused for
            raise TidegateError(f"tidegate.release.{self.module}: " + "; ".join(outcome.error_messages))
        return dict(outcome.validated_parameters)
