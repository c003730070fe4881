# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every action of the collection does for its user, whichever it is."""

from __future__ import annotations

from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest
from ansible import context
from ansible.module_utils.common.collections import ImmutableDict
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible.utils.vars import load_extra_vars
from ansible_collections.tidegate.release.plugins.plugin_utils.action_base import TidegateAction
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError


class Chatty(TidegateAction):
    """An action that says more than it should."""

    module = "archive"

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if options["path"] == "/wrong":
            raise TidegateError(f"{options['key_passphrase']} does not open it")
        return {"changed": False, "options": dict(options)}


def run(arguments: dict[str, Any], variables: dict[str, Any] | None = None) -> dict[str, Any]:
    """The result of a task of that action."""
    task = SimpleNamespace(args=arguments, async_val=0, check_mode=False, action="archive")
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"))  # noqa: S108 - never used
    loader = DataLoader()
    return Chatty(task, connection, None, loader, Templar(loader, variables or {}), None).run(task_vars=variables or {})


@pytest.mark.parametrize("value", [1.10, 10, True, date(2026, 3, 1), ["a", "b"], {"a": 1}])
def test_what_yaml_does_not_take_for_a_text_is_no_text(value: Any) -> None:
    result = run({"path": "/right", "key_passphrase": value})
    assert result["failed"]
    assert "key_passphrase is no text but" in result["msg"]
    assert not run({"path": "/right", "key_passphrase": None}).get("failed")


def test_a_variable_that_can_not_be_evaluated_is_not_one_that_is_not_set() -> None:
    variables = {"tidegate_key": trust_as_template("{{ nowhere }}/key.pem")}
    result = run({"path": "/right"}, variables)
    assert result["failed"]
    assert "tidegate_key can't be evaluated: 'nowhere' is undefined" in result["msg"]
    assert not run({"path": "/right"}, variables | {"nowhere": "/keys"}).get("failed")
    assert not run({"path": "/right", "key": "/other.pem"}, variables).get("failed")


def test_a_text_that_was_cut_short_is_refused_in_a_playbook_of_a_teams_own_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "CLIARGS", ImmutableDict(extra_vars=("tidegate_reason=two words",)))
    monkeypatch.setattr(load_extra_vars, "extra_vars", None, raising=False)
    assert "a text was cut short" in run({"path": "/right"})["msg"]
    monkeypatch.setattr(load_extra_vars, "extra_vars", None)


@pytest.mark.parametrize("path", ["/right", "/wrong"])
def test_a_passphrase_never_gets_into_a_result(path: str) -> None:
    arguments = {"path": path, "key_passphrase": "correct-horse"}
    task = SimpleNamespace(args=arguments, async_val=0, check_mode=False, action="archive")
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"))  # noqa: S108 - never used
    result = Chatty(task, connection, None, None, None, None).run(task_vars={})
    assert "correct-horse" not in str(result)
    assert path in str(result) or result["failed"]
