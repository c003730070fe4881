# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every action of the collection does for its user, whichever it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible import context
from ansible.module_utils.common.collections import ImmutableDict
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible.utils.vars import load_extra_vars
from ansible_collections.tidegate.release.plugins.plugin_utils.actions import base
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.base import Failure, TidegateAction, _faults_within
from ansible_collections.tidegate.release.plugins.plugin_utils.actions.output import AUDIENCE
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError


class Chatty(TidegateAction):
    """An action that says more than it should."""

    module = "archive"

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if options["path"] == "/wrong":
            raise TidegateError(f"{options['key_passphrase']} does not open it")
        if options["path"] == "/many":
            raise TidegateError("\n".join(f"fault {number}" for number in range(10)))
        if options["path"] == "/failed":
            return {"failed": True, "msg": "no", "progress": {"step": "plan", "detail": "no"}}
        if options["path"] == "/findings":
            found = ["first", "second"]
            passed_on = {"passed_on": {"failing": ["window"]}, "ansible_stats": {}}
            return {"failed": True, "msg": "\n".join(("two things are wrong", *found)), "findings": found, **passed_on}
        return {"changed": False, "options": dict(options)}


HOME = base._HOME
WRITTEN = {"path": "{{ tidegate_release | default(omit, true) }}"}


class Hosted(Chatty):
    """An action with a host's settings."""

    module = "activate"

    def execute(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        return {"changed": False, "options": {name: value for name, value in options.items() if value is not None}}


class Everywhere(Chatty):
    """An action that runs on many hosts at once."""

    per_host = True


def run(
    arguments: dict[str, Any],
    variables: dict[str, Any] | None = None,
    register: str = "",
    kind: type[TidegateAction] = Chatty,
    path: str = "/home/team",
    written: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The result of a task of that action, ``written`` so in a playbook in ``path``."""
    task = SimpleNamespace(
        args=arguments,
        async_val=0,
        check_mode=False,
        action="archive",
        register=register,
        get_ds=lambda: {f"tidegate.release.{kind.module}": WRITTEN if written is None else written},
        get_path=lambda: f"{path}/playbook.yml:3",
    )
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"))  # noqa: S108 - never used
    loader = DataLoader()
    action = kind(task, connection, None, loader, Templar(loader, variables or {}), None)
    try:
        return action.run(task_vars=variables or {})
    except Failure as failure:  # as ansible-core does
        shown = {} if failure.omit_exception_key else {"exception": failure}
        return dict(failure.result) | {"failed": True, "msg": failure.message} | shown


@pytest.mark.parametrize("value", [1.10, 10, True, date(2026, 3, 1), ["a", "b"], {"a": 1}])
def test_what_yaml_does_not_take_for_a_text_is_no_text(value: Any) -> None:
    result = run({"path": "/right", "key_passphrase": value})
    assert result["failed"]
    assert "key_passphrase of tidegate.release.archive is no text but" in result["msg"]
    assert not run({"path": "/right", "key_passphrase": None}).get("failed")


def test_what_is_no_text_within_a_list_is_none_either() -> None:
    spec = {"type": "list", "elements": "dict", "options": {"serial": {"type": "str"}, "count": {"type": "int"}}}
    for value in (12, 1.10, False):
        assert list(_faults_within("units", spec, [{"serial": "0012"}, {"serial": value, "count": 3}])) == [
            f"units[1].serial is no text but {str(value)!r}, as YAML reads it; write it in quotes"
        ]


@pytest.mark.parametrize(("kind", "left"), [(Everywhere, 1), (Chatty, 0)])
def test_only_a_step_of_many_hosts_leaves_to_others_to_close_the_cmdb(
    monkeypatch: pytest.MonkeyPatch, kind: type[TidegateAction], left: int
) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(base, "leave_open", lambda: calls.append(True))
    assert not run({"path": "/right"}, kind=kind).get("failed")
    assert len(calls) == left


def test_a_variable_that_can_not_be_evaluated_is_not_one_that_is_not_set() -> None:
    variables = {"tidegate_key": trust_as_template("{{ nowhere }}/key.pem")}
    result = run({"path": "/right"}, variables)
    assert result["failed"]
    assert "tidegate_key can't be evaluated: 'nowhere' is undefined" in result["msg"]
    assert not run({"path": "/right"}, variables | {"nowhere": "/keys"}).get("failed")
    assert not run({"path": "/right", "key": "/other.pem"}, variables).get("failed")


def test_nor_is_one_that_a_task_of_a_teams_own_hands_on() -> None:
    variables = {"wanted": trust_as_template("{{ nowhere }}")}
    result = run({"path": "/right"}, variables, written={"examine": "{{ wanted | default(omit) }}"})
    assert "wanted can't be evaluated: 'nowhere' is undefined" in result["msg"]


@pytest.mark.parametrize("settings", ["hidden-1 of a host", [{"token": "hidden-1"}], 5, "{'token': hidden-1"])
def test_settings_that_are_no_mapping_are_refused_without_their_values(settings: Any) -> None:
    result = run({"settings": settings}, kind=Hosted)
    assert result["msg"] == "settings of tidegate.release.activate is something else; it has to be a mapping"


def test_a_mistyped_variable_of_a_host_is_refused_by_whoever_runs_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """What only a host's variables have, no play knows of before; without its settings a release would go live there."""
    monkeypatch.setattr(load_extra_vars, "extra_vars", {}, raising=False)
    result = run({"path": "/right"}, {"tidegate_setings": {"port": 80}})
    assert result["failed"]
    assert "did you mean tidegate_settings?" in result["msg"]
    assert not run({"path": "/right"}, {"tidegate_settings": {"port": 80}, "tidegate_of_ours": 1}).get("failed")


def test_a_text_that_was_cut_short_is_refused_in_a_playbook_of_a_teams_own_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "CLIARGS", ImmutableDict(extra_vars=("tidegate_reason=two words",)))
    monkeypatch.setattr(load_extra_vars, "extra_vars", None, raising=False)
    assert "a text was cut short" in run({"path": "/right"})["msg"]
    monkeypatch.setattr(load_extra_vars, "extra_vars", None)


@pytest.mark.parametrize("path", ["/right", "/wrong"])
def test_a_passphrase_never_gets_into_a_result(path: str) -> None:
    arguments = {"path": path, "key_passphrase": "correct-horse"}
    result = run(arguments)
    assert "correct-horse" not in str(result)
    assert path in str(result) or result["failed"]


@pytest.mark.parametrize("path", ["/right", "/wrong"])
@pytest.mark.parametrize("source", ["variable", "environment"])
def test_nor_does_one_that_no_task_gives(monkeypatch: pytest.MonkeyPatch, path: str, source: str) -> None:
    monkeypatch.setenv("TIDEGATE_KEY_PASSPHRASE", "correct-horse" if source == "environment" else "")
    result = run({"path": path}, {"tidegate_key_passphrase": "correct-horse"} if source == "variable" else {})
    assert "correct-horse" not in str(result)
    assert "******" in str(result) or "VALUE_SPECIFIED_IN_NO_LOG" in str(result)


@pytest.mark.parametrize("where", [HOME, "/home/team"])
def test_what_a_variable_has_is_named_by_it(where: str) -> None:
    assert "tidegate_examine is 'maybe'" in run({"path": "/right"}, {"tidegate_examine": "maybe"}, path=where)["msg"]


def test_a_passphrase_that_can_not_be_evaluated_is_not_shown() -> None:
    variables = {"tidegate_key_passphrase": trust_as_template("{{ 'correct-horse' | to_datetime }}")}
    result = run({"path": "/right"}, variables)
    assert result["msg"] == "tidegate_key_passphrase can't be evaluated; correct it, or take it away"


def test_settings_that_can_not_be_evaluated_are_left_to_who_does_not_show_them() -> None:
    """The action of a host evaluates each by itself."""
    variables = {"tidegate_settings": trust_as_template("{{ {'token': 'hidden-1' | to_datetime} }}")}
    written = {"settings": "{{ tidegate_settings | default(omit) }}"}
    assert "settings" not in run({}, variables, kind=Hosted, written=written)["options"]


def test_what_is_missing_is_named_by_its_variable_in_a_role_and_by_itself_in_a_task_of_a_teams_own() -> None:
    assert "tidegate_release is missing; add -e" in run({}, path=HOME, written={})["msg"]
    assert run({}, written={})["msg"] == "path of tidegate.release.archive is missing"


def test_who_uses_the_command_is_told_of_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Chatty, "homes", ("dsl",))
    monkeypatch.delenv("TIDEGATE_DSL", raising=False)
    monkeypatch.setenv("TIDEGATE_ONLY_WORDS", "true")
    first, second = run({}, path=HOME, written={})["msg"].splitlines()
    assert first == "--release is missing; add --release ..., the release's directory, the one that has its release.yml"
    assert "set --dsl or the environment variable TIDEGATE_DSL" in second


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "tidegate_release is missing; add -e tidegate_release=..., the release's directory"),
        ({"path": ""}, "tidegate_release is missing; "),
        ({"path": "/right", "examine": "perhaps"}, "examine of tidegate.release.archive is 'perhaps'; it has to be true or false"),
        ({"path": "/right", "exmine": True}, "'exmine' is no option of tidegate.release.archive; did you mean examine?"),
    ],
)
def test_an_option_that_is_not_as_it_has_to_be_is_named_by_its_variable(arguments: dict[str, Any], said: str) -> None:
    result = run(arguments)
    assert said in result["msg"]
    assert set(result) <= {"failed", "msg", "changed"}


def test_all_homes_that_lack_are_named_at_once_with_what_else_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DSL", "CMDB"):
        monkeypatch.delenv(f"TIDEGATE_{name}", raising=False)
    monkeypatch.setattr(Chatty, "homes", ("dsl", "cmdb"))
    said = run({})["msg"].splitlines()
    assert [line[:12] for line in said] == ["tidegate_rel", "no definitiv", "no CMDB (a f"]
    monkeypatch.setenv("TIDEGATE_CMDB", "/srv/cmdb.sqlite")
    assert run({"path": "/right"})["msg"].startswith("no definitive software library")
    assert not run({"path": "/right", "dsl": "/srv/dsl"}).get("failed")


def test_what_is_wrong_in_a_list_or_mapping_is_named_by_its_place() -> None:
    hosts = {"type": "list", "elements": "dict", "options": {"name": {"type": "str", "required": True}, "port": {"type": "int"}}}
    mode = {"type": "dict", "options": {"mode": {"type": "str", "choices": ["user", "local"]}}}
    assert list(_faults_within("lab_hosts", hosts, "web1")) == ["lab_hosts[0] is 'web1'; it has to be a mapping"]
    assert list(_faults_within("lab_hosts", hosts, [{"name": "a", "port": 1}, {"port": "ssh", "nam": "b"}])) == [
        "lab_hosts[1].nam is unknown; did you mean name?",
        "lab_hosts[1].name is missing",
        "lab_hosts[1].port is 'ssh'; it has to be a whole number",
    ]
    assert list(_faults_within("verify_lab", mode, {"mode": "vm"})) == ["verify_lab.mode is 'vm'; it has to be user or local"]


def test_what_our_callback_shows_is_no_part_of_what_another_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "progress" not in run({"path": "/failed"})
    monkeypatch.setattr(AUDIENCE, "callback", True)
    assert run({"path": "/failed"})["progress"] == {"step": "plan"}


def test_a_failed_result_has_its_data_for_who_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr("ansible.utils.display.Display.display", lambda _self, text, **_options: shown.append(text))
    brief = run({"path": "/findings"})
    assert "passed_on" not in brief
    assert (brief["msg"], shown) == ("two things are wrong", ["first", "second"])
    assert "findings" not in brief
    asked = run({"path": "/findings"}, register="found")
    assert asked["findings"] == ["first", "second"]
    assert asked["msg"] == "two things are wrong\nfirst\nsecond"
    assert run({"path": "/findings"}, path=HOME, register="__found")["passed_on"] == {"failing": ["window"]}, "a role passes that on"


def test_an_error_has_three_lines_unless_more_is_asked_for() -> None:
    assert run({"path": "/many"})["msg"].splitlines() == ["fault 0", "fault 1", "and 8 more faults, which -v lists"]
    assert len(run({"path": "/many"}, register="found")["msg"].splitlines()) == 10


class Colour(StrEnum):
    """An enumeration of texts."""

    RED = "red"


@dataclass(frozen=True)
class Piece:
    """Something with a moment in it."""

    at: datetime
    colours: frozenset[Colour]


def _is_plain(value: object) -> bool:
    if type(value) is dict:
        return all(type(key) in _PLAIN and _is_plain(entry) for key, entry in value.items())
    return all(map(_is_plain, value)) if type(value) is list else type(value) in _PLAIN


_PLAIN = (str, int, float, bool, type(None))


def test_whatever_an_action_gives_its_result_holds_plain_types_only(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = {
        Colour.RED: [Colour.RED, (1, True, None, 1.5)],
        "piece": Piece(datetime(2027, 3, 1, tzinfo=UTC), frozenset({Colour.RED})),
        "path": Path("/a"),
        "day": date(2027, 3, 1),
        "set": {"b", "a"},
    }
    monkeypatch.setattr(Chatty, "execute", lambda *_arguments: odd)
    result = run({"path": "/odd"})
    assert {name: result[name] for name in ("red", "piece", "path", "day", "set")} == {
        "red": ["red", [1, True, None, 1.5]],
        "piece": {"at": "2027-03-01T00:00:00+00:00", "colours": ["red"]},
        "path": "/a",
        "day": "2027-03-01",
        "set": ["a", "b"],
    }
    assert _is_plain(result)


@pytest.mark.parametrize("path", sorted((Path(HOME) / "plugins" / "modules").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_every_module_has_an_action_that_sees_to_that(path: Path) -> None:
    action = import_module(f"ansible_collections.tidegate.release.plugins.action.{path.stem}").ActionModule
    assert issubclass(action, TidegateAction)
    assert action.run is TidegateAction.run
