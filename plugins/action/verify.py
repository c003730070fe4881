# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of tidegate.release.verify."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleError
from ansible_collections.tidegate.release.plugins.module_utils.lab.hosts import Lab as Hosts
from ansible_collections.tidegate.release.plugins.module_utils.lab.machine import choose_mode
from ansible_collections.tidegate.release.plugins.module_utils.lab.processes import LabError
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import TidegateAction, secrets_of
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.invocation import refuse_left_out
from ansible_collections.tidegate.release.plugins.plugin_utils.activity import note
from ansible_collections.tidegate.release.plugins.plugin_utils.clock import utc_now
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.package import read_release
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.repository import find_library, open_library
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.library import watch
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import VERIFICATION
from ansible_collections.tidegate.release.plugins.plugin_utils.keys import load_signer
from ansible_collections.tidegate.release.plugins.plugin_utils.policy.load import needs_of_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.report.progress import counted
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.host_answer import MalformedAnswerError, parse_host_facts
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.leftovers import (
    left_behind,
    mark,
    remove,
    temporary_directory,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.settings import optional_setting, required_setting, secret_setting
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.tell import warned
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.verify import (
    Asked,
    Place,
    check_signer,
    claim,
    describe,
    lay_out,
    prepare,
    sign_result,
    verify,
)
from ansible_collections.tidegate.release.plugins.plugin_utils.verification.scene import Given, LabHosts, check_variables

_PREFIX = "tidegate-verify-"

_SHOWN = 20  # differences and reasons that the message lists


class ActionModule(TidegateAction):
    """Verify a package on a lab and sign what came of it."""

    module = "verify"

    def needed(self, given: Mapping[str, Any]) -> tuple[str, ...]:
        return ("dsl", "cmdb") if given.get("name") or given.get("release") else ("rfc", "dsl", "cmdb")

    def libraries(self, given: Mapping[str, Any]) -> tuple[str, ...]:
        return ("base", "verify", *needs_of_policy(optional_setting(given, "policy")))

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        for name in ("hosts", "timeout"):
            if options[name] < 1:
                raise TidegateError(f"verify_{name} is {options[name]}; it has to be 1 or more")
        if options["vars_file"]:
            check_variables(options["vars_file"])
        dsl, policy = required_setting(options, "dsl"), optional_setting(options, "policy")
        source = read_release(Path(options["release"])) if options["release"] else None
        rfc = None if options["name"] else optional_setting(options, "rfc") if source else required_setting(options, "rfc")
        asked = Asked(rfc, options["name"], options["version"], options["digest"], source)
        subject = prepare(asked, dsl, required_setting(options, "cmdb"), policy, options["hosts"], utc_now())
        release, plan = subject.release, subject.plan
        key = optional_setting(options, "key")
        signer = load_signer(key, secret_setting(options, "key_passphrase")) if key else None
        person = check_signer(subject.policy, signer, utc_now()) if signer else ""
        doubles = {double: host.name for double, host in plan.hosts.items()}
        refuse_left_out(self._loader, task_vars, doubles.values(), "the lab is made after these hosts, and compared with them")
        result: dict[str, Any] = {
            "changed": False,
            "version": release.version,
            "digest": release.digest,
            "doubles": doubles,
            "live": sorted(doubles.values()),
        }
        if options["only_plan"] or self._task.check_mode:
            many = counted(len(doubles), "host")
            is_to = "would" if self._task.check_mode else "is to"
            return result | {"msg": f"{release.name} {release.version} {is_to} be verified on {many}: {', '.join(describe(plan))}"}
        note(f"making {counted(len(doubles), 'lab host')}")
        if source:
            with temporary_directory("tidegate-tried-") as folder:
                library, tried = find_library(dsl), str(folder / "dsl")
                if not lay_out(source, library, subject, Path(tried)):
                    signer = None  # evidence is of what is archived
                said, output, path = self._verify(options, subject, task_vars, tried, policy, archived=False)
        else:
            said, output, path = self._verify(options, subject, task_vars, dsl, policy)
        now = utc_now()
        signed = sign_result(dsl, release, said, signer, now) if signer else False
        if signed:
            part = open_library(dsl).repository(release.name)
            result |= warned(watch(required_setting(options, "cmdb"), part, (release.name, release.version, release.digest), now, signer))
        passed = said["result"] == "PASSED"
        more, tests = said[VERIFICATION], len(said["passedTests"])
        parity = more["parity"]
        head = (
            f"{release.name} {release.version}: {said['result']}, {counted(tests, 'test')} passed, {len(said['failedTests'])} failed, "
            f"the lab is like live by {parity['score']} of 100, "
            f"{_went(more['rehearsal'])}"
            f"{f', signed by {person}' if signed else ', signed by nobody'}{', for it is not archived' if source and not signed else ''}"
        )
        lines = [head, *(f"  {reason}" for reason in more["reasons"][:_SHOWN])]
        lines += [f"  different from live: {one}" for one in parity["differences"][:_SHOWN]]
        if not passed:
            lines += [f"  skipped: {name}" for name in said["warnedTests"][:_SHOWN]]
            lines += [f"What the scenario said last, all of it is in {path}:", output] if more["reasons"] else []
        return result | {"changed": True, "failed": not passed, "msg": "\n".join(lines), "result": said["result"], "test_result": said}

    def _verify(
        self, options: dict[str, Any], subject: Any, task_vars: dict[str, Any], dsl: str, policy: str | None, archived: bool = True
    ) -> tuple[dict[str, Any], str, Path]:
        """Run it in a directory that stays when it did not pass, and never leave a lab host behind."""
        given = options["path"]
        lab = options["lab"] or {}
        try:
            mode, warning = choose_mode(lab.get("mode") or "auto")
        except LabError as error:
            raise TidegateError(str(error)) from error
        if warning:
            self._display.warning(warning)
        redactor = secrets_of(task_vars, self._settings_in(options["vars_file"], task_vars))
        if not given:
            self._sweep()
        path = Path(given).absolute() if given else Path(tempfile.mkdtemp(prefix=_PREFIX))
        claim(path)
        if not given:
            mark(path)
        settings = {key: value for key, value in lab.items() if key != "mode" and value is not None}
        place = Place(
            path=path,
            dsl=dsl if "://" in dsl else str(Path(dsl).absolute()),
            lab=LabHosts(mode, **settings),
            given=Given(policy, tuple(options["inventory"]), options["vars_file"], archived),
            collections=os.pathsep.join(constants.COLLECTIONS_PATHS),
            timeout=options["timeout"],
        )
        try:
            said, played = verify(subject, place, _of_form(options["live"]), utc_now(), redactor)
        finally:
            note("taking the lab down")
            try:
                Hosts(str(path / "lab")).down()
            except LabError as error:
                self._display.warning(f"the lab in {path} could not be taken down: {error}")
        if said["result"] == "PASSED" and not given:
            shutil.rmtree(path, ignore_errors=True)
        return said, played.output, path

    def _sweep(self) -> None:
        """Remove the directories of verifications that have ended, with the lab hosts of those that were killed."""
        for folder in left_behind(Path(tempfile.gettempdir()), _PREFIX):
            try:
                Hosts(str(folder / "lab")).down()
            except (LabError, OSError) as error:
                self._display.warning(f"the lab that a run left in {folder} could not be taken down: {error}")
                continue
            remove(folder)

    def _settings_in(self, path: str | None, task_vars: dict[str, Any]) -> dict[str, Any]:
        """The settings that a file of variables gives the lab's hosts, as far as they can be evaluated here."""
        found: dict[str, Any] = {}
        with contextlib.suppress(AnsibleError):
            given = self._loader.load_from_file(path, trusted_as_template=True) if path else {}
            if not isinstance(given, Mapping):
                return found  # Ansible says so
            templar = self._templar.copy_with_new_env(available_variables={**task_vars, **given})
            settings = given.get("tidegate_settings") or {}
            settings = settings if isinstance(settings, Mapping) else templar.template(settings)
            for name, value in settings.items():
                found[name] = value  # also where it can't be evaluated, as what is written may be said
                with contextlib.suppress(AnsibleError):
                    found[name] = templar.template(value)
        return found


def _went(rehearsal: Mapping[str, Any]) -> str:
    """What came of the back-out, for a person."""
    if rehearsal.get("reverse") == "none":
        return "nothing was backed out, for it says reverse: none"
    return f"the back-out was {'' if rehearsal['backedOut'] else 'not '}rehearsed"


def _of_form(live: dict[str, Any] | None) -> dict[str, Any]:
    """The facts of live hosts by name, but for those of hosts that answered something else: these count as hosts that can't be read."""
    found = {}
    for host, facts in (live or {}).items():
        with contextlib.suppress(MalformedAnswerError):
            found[host] = parse_host_facts(facts)
    return found
