# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the objectives of an RFC are checked, its commands are judged again before the first of them is made."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import pytest
from ansible_collections.tidegate.release.plugins.action import conclude as subject
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.options import Rollout
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DeploymentState, HostState
from ansible_collections.tidegate.release.plugins.plugin_utils.steps import conclude as closing

HTTP = {"name": "page", "http": {"url": "http://127.0.0.1/"}}
COMMAND = {"name": "look", "command": ["true"]}
HOMES = {"rfc": "rfc.yml", "dsl": "dsl", "cmdb": "cmdb.sqlite", "policy": None, "wanted": "completed"}


def maker(monkeypatch: pytest.MonkeyPatch, judge: Any) -> Any:
    """What the action gives to ``conclude`` to make the objectives with; ``judge`` stands for the judgement of commands."""
    given: list[Any] = []

    def conclude(*arguments: Any, **_more: Any) -> dict[str, Any]:
        given.extend(arguments)
        return {"msg": "", "state": "completed", "progress": {}, "passed_on": {}}

    for name in ("Journal", "Holder", "open_change", "make_notifier", "interrupted", "reasons", "secrets_of", "say_last"):
        monkeypatch.setattr(subject, name, MagicMock())
    monkeypatch.setattr(subject, "rfc_number", lambda _rfc: "CHG0001")
    monkeypatch.setattr(subject, "to_conclude", lambda *_: SimpleNamespace(id=7, run=None, epoch=None, rollout=Rollout()))
    monkeypatch.setattr(subject.Cmdb, "open", lambda _url: contextlib.nullcontext(MagicMock()))
    cast("Any", subject.Journal)().targets.return_value = [SimpleNamespace(host="web1"), SimpleNamespace(host="web2")]
    monkeypatch.setattr(subject, "conclude", conclude)
    monkeypatch.setattr(subject, "refuse_commands", judge)
    action = object.__new__(subject.ActionModule)
    action._task = SimpleNamespace(check_mode=False)
    action.execute(dict(HOMES), {})
    return given[5]


def test_no_command_runs_that_is_not_allowed_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[Any] = []

    def refuse(*arguments: Any) -> None:
        judged.append(arguments[2])
        raise TidegateError("the policy lets no RFC run commands")

    made = MagicMock(return_value=[])
    make = maker(monkeypatch, refuse)
    monkeypatch.setattr(subject, "evaluate_objectives", made)
    with pytest.raises(TidegateError, match="no RFC run commands"):
        make(SimpleNamespace(objectives=[HTTP, COMMAND]))
    assert judged == [{"web1", "web2"}], "by the hosts of the deployment"
    assert not made.called
    assert make(SimpleNamespace(objectives=[HTTP])) == []
    assert made.called


def test_the_verdict_of_a_back_out_has_one_cause_once() -> None:
    lost = cast("Any", SimpleNamespace(host="web1", state=HostState.OWED, detail="it is off", summary="it is off"))
    deployment = {"rfc": "CHG0001", "release": "hello", "version": "2.0", "state": DeploymentState.BACKING_OUT}
    for reason, times in (("1 host failed or got lost (web1: it is off)", 1), ("it was slow", 1)):
        said = closing._verdict(cast("Any", SimpleNamespace(**deployment, reason=reason)), [lost], {"web1"})
        assert said.count("(web1: it is off)") == times
