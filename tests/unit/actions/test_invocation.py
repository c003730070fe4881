# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the options of ansible-playbook could leave out or cut short is refused, and what they do not is done as it is written."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible import context
from ansible.errors import AnsibleError, AnsibleLookupError
from ansible.module_utils.common.collections import ImmutableDict
from ansible.parsing.dataloader import DataLoader
from ansible.template import trust_as_template
from ansible.utils import vars as ansible_vars
from ansible_collections.tidegate.release.plugins.action import plan
from ansible_collections.tidegate.release.plugins.lookup import controller
from ansible_collections.tidegate.release.plugins.lookup.controller import LookupModule
from ansible_collections.tidegate.release.plugins.plugin_utils.actions import invocation
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import TidegateError

ROOT = Path(__file__).parents[3]
GROUPS = {"all": ["web1", "web2"], "web": ["web1", "web2"], "ungrouped": []}
Called = Callable[..., None]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Called:
    """Sets how ansible-playbook was called."""

    def call(**options: Any) -> None:
        options["extra_vars"] = tuple(trust_as_template(option) for option in options.get("extra_vars", ()))  # as ansible-core does
        monkeypatch.setattr(context, "CLIARGS", ImmutableDict({"tags": ["all"], **options}))
        monkeypatch.setattr(ansible_vars.load_extra_vars, "extra_vars", None, raising=False)
        monkeypatch.setattr(LookupModule, "drives", False)

    return call


def look_up(groups: Mapping[str, list[str]] | None = None, *, hold: bool = False) -> list[str]:
    return LookupModule(loader=DataLoader()).run([], {"groups": GROUPS if groups is None else groups}, hold=hold)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tags": ["x", "y"]}, "--tags x,y could leave out a part of this"),
        ({"tags": ["never"]}, "--tags never"),
        ({"tags": ["tagged"]}, "--tags tagged"),
        ({"skip_tags": ["x", "untagged"]}, "--skip-tags x,untagged could leave out"),
        ({"skip_tags": ["all"]}, "--skip-tags all could leave out"),
        ({"start_at_task": "Conclude"}, "--start-at-task 'Conclude' could leave out"),
        ({"step": True}, "--step could leave out"),
    ],
)
def test_an_option_that_could_leave_out_a_part_is_refused(called: Called, options: dict[str, Any], words: str) -> None:
    called(**options)
    with pytest.raises(AnsibleLookupError, match=words):
        look_up()


@pytest.mark.parametrize("listing", ["syntax", "listhosts", "listtasks", "listtags"])
def test_who_only_looks_at_a_playbook_is_not_refused(called: Called, listing: str) -> None:
    called(**{listing: True}, tags=["x"], subset="web1")
    assert look_up() == ["localhost"]


@pytest.mark.parametrize("skipped", [[], ["molecule-notest", "notest"], ["tagged"]])
@pytest.mark.parametrize("tags", [["all"], ["all", "x"], ["untagged"], []])
def test_tags_that_leave_out_nothing_do_not_matter(called: Called, tags: list[str], skipped: list[str]) -> None:
    called(tags=tags, skip_tags=skipped, step=False, start_at_task=None)
    assert look_up() == ["localhost"]


class Imported(invocation.Play):
    """Stands where ansible-core evaluates the hosts of a play."""

    def evaluate(self) -> list[str]:
        return look_up()


def test_a_playbook_that_a_team_imports_with_tags_may_be_chosen_by_them(called: Called) -> None:
    play = Imported()
    called(tags=["x"])
    with pytest.raises(AnsibleLookupError, match="--tags x"):
        play.evaluate()
    play.tags = ["x"]
    assert play.evaluate() == ["localhost"]
    called(tags=["x"], start_at_task="Conclude")
    with pytest.raises(AnsibleLookupError, match="--start-at-task"):
        play.evaluate()


class Executor(invocation.PlaybookExecutor):
    """Stands where ansible-core runs a playbook."""

    def __init__(self, limit: str) -> None:
        self._inventory = invocation.InventoryManager(DataLoader(), parse=False)
        for host in GROUPS["all"]:
            self._inventory.add_host(host)
        self._inventory.subset(limit)

    def hosts(self) -> list[str]:
        found = look_up()
        return [host.name for host in self._inventory.get_hosts(found)]


@pytest.mark.parametrize("limit", ["all", "*", "web1,web2", "web", "all,localhost", "web1:web2", "!db1", "~web.*"])
def test_a_limit_that_leaves_out_nothing_is_lifted(called: Called, limit: str) -> None:
    called(subset=limit)
    assert Executor(limit).hosts() == ["localhost"]


@pytest.mark.parametrize("limit", ["web1", "web9", "web:!web2", "!localhost:web1"])
def test_a_limit_that_leaves_out_the_controller_is_refused(called: Called, limit: str) -> None:
    called(subset=limit)
    with pytest.raises(AnsibleLookupError, match="leaves out localhost, where everything is decided"):
        look_up()


def test_a_limit_that_leaves_out_the_controller_of_the_inventory_is_refused(called: Called) -> None:
    called(subset="all:!localhost")
    with pytest.raises(AnsibleLookupError, match="leaves out localhost"):
        look_up({"all": ["web1", "localhost"], "ungrouped": ["web1", "localhost"]})


def test_where_the_inventory_can_not_be_reached_a_limit_without_the_controller_is_refused(called: Called) -> None:
    called(subset="all")
    with pytest.raises(AnsibleLookupError, match="leaves out localhost"):
        look_up()
    called(subset="all,localhost")
    assert look_up() == ["localhost"]


def test_what_a_limit_leaves_out_is_known(called: Called) -> None:
    called(subset="web1,localhost")
    assert invocation.outside_limit(DataLoader(), {"groups": GROUPS}) == {"web2"}
    called()
    assert invocation.outside_limit(DataLoader(), {"groups": GROUPS}) == set()


def test_a_limit_that_leaves_out_a_host_that_a_verb_is_about_is_refused(called: Called) -> None:
    called(subset="web1,localhost")
    invocation.refuse_left_out(DataLoader(), {"groups": GROUPS}, ["web1", "db1"], "all of them are entered")
    with pytest.raises(TidegateError, match="--limit web1,localhost leaves out web2, so nothing was done: all of them are entered; run it"):
        invocation.refuse_left_out(DataLoader(), {"groups": GROUPS}, ["web1", "web2"], "all of them are entered")
    called(subset="all")
    invocation.refuse_left_out(DataLoader(), {"groups": GROUPS}, ["web1", "web2"], "all of them are entered")


@pytest.mark.parametrize("given", ["tidegate_slice=true", "tidegate_slice=yes", '{"tidegate_slice": true}', "tidegate_slice=1"])
def test_a_slice_is_for_what_several_controllers_do_together(called: Called, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setattr(controller, "hold_on_signals", lambda: None)
    monkeypatch.setattr(LookupModule, "_show_presence", lambda *_given: None)  # which needs a CMDB
    called(extra_vars=(given,))
    with pytest.raises(AnsibleLookupError, match="tidegate_slice is for deploy, stage and backout"):
        look_up()
    assert look_up(hold=True) == ["localhost"]
    assert look_up() == ["localhost"], "in a later play of the same run"


@pytest.mark.parametrize("given", ["tidegate_slice=false", "tidegate_slice=", '{"tidegate_slice": false}', "tidegate_slice=no", "x=y"])
def test_no_slice_is_all_of_it(called: Called, given: str) -> None:
    called(extra_vars=(given,))
    assert look_up() == ["localhost"]


TEXTS = [
    "Change log comes on Monday",
    "it's done",
    "don't, won't",
    'say "no"',
    "fix #5",
    "#5",
    "see ticket=5 today",
    "a=b",
    "=",
    "yes",
    "1.10",
    "[1, 2]",
    "{'a': 1}",
    "C:\\new\\table",
    "two\nlines",
    " spaces around ",
    "ünïcode 変更",
    "comma, colon: dash - star * amp &",
    "100 % {done}",
    "null",
    "@file",
    "$(x) `y` $z",
]


def extra(option: str, name: str = "tidegate_reason") -> Any:
    """What Ansible makes of an option of the extra variables, if it is not refused."""
    invocation.refuse_cut_texts(DataLoader())
    return ansible_vars.load_extra_vars(DataLoader()).get(name)


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_in_json_is_whole(called: Called, text: str) -> None:
    option = json.dumps({"tidegate_reason": text})
    called(extra_vars=(option,))
    assert extra(option) == text


@pytest.mark.parametrize(
    "form", ["tidegate_reason={}", "tidegate_reason='{}'", 'tidegate_reason="{}"', "tidegate_rfc=a.yml tidegate_reason={}"]
)
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_in_another_form_is_whole_or_refused(called: Called, text: str, form: str) -> None:
    option = form.format(text)
    called(extra_vars=(option,))
    got, why = None, ""
    try:
        got = extra(option)
    except (TidegateError, AnsibleError) as error:
        why = str(error)
    inner = text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
    assert got in (text, inner.strip()) or "write it like -e" in why or "unbalanced" in why  # which is ansible-core's own


@pytest.mark.parametrize(
    ("option", "right"),
    [
        ("tidegate_reason=Change log comes on Monday", '{"tidegate_reason": "Change log comes on Monday"}'),
        ("tidegate_comment=it is 'fine' really", '{"tidegate_comment": "it is \'fine\' really"}'),
        ("tidegate_reason=see ticket=5", '{"tidegate_reason": "see ticket=5"}'),
        ("tidegate_name=two words", '{"tidegate_name": "two words"}'),
    ],
)
def test_the_right_spelling_is_shown(called: Called, option: str, right: str) -> None:
    called(extra_vars=(option,))
    with pytest.raises(TidegateError) as raised:
        extra(option)
    assert shlex.split(str(raised.value).split("write it like ")[1]) == ["-e", right]


@pytest.mark.parametrize("path", sorted((ROOT / "roles").glob("*/meta/argument_specs.yml")), ids=lambda path: path.parts[-3])
def test_a_whole_text_may_be_followed_by_any_variable_of_a_verb(called: Called, path: Path) -> None:
    for entry in yaml.safe_load(path.read_text())["argument_specs"].values():
        for name in entry.get("options", {}):
            if name != "tidegate_reason":
                called(extra_vars=(f"tidegate_reason='its disk died' {name}=x",))
                assert extra("") == "its disk died", name


def test_the_words_of_a_secret_are_not_shown(called: Called) -> None:
    called(extra_vars=("tidegate_key_passphrase=correct horse battery",))
    with pytest.raises(TidegateError) as raised:
        extra("")
    assert "horse" not in str(raised.value)


@pytest.mark.parametrize(
    "option",
    [
        "{tidegate_reason: fix, more}",
        "{tidegate_reason: fix}  # 5",
        '{"tidegate_reason": "see {{ ticket }}"}',
        '{"tidegate_reason": "fix {# 5 #}"}',
        "tidegate_reason={{7*7}}",
    ],
)
def test_what_yaml_or_jinja_would_make_of_a_text_is_refused(called: Called, option: str) -> None:
    called(extra_vars=(option,))
    with pytest.raises(TidegateError, match="tidegate_reason"):
        extra(option)


def test_a_text_of_a_file_that_is_marked_as_it_is_may_have_anything_in_it(called: Called, tmp_path: Path) -> None:
    path = tmp_path / "answers.yml"
    path.write_text('tidegate_reason: !unsafe "see {{ ticket }}"\n')
    called(extra_vars=(f"@{path}",))
    assert extra("") == "see {{ ticket }}"
    path.write_text('tidegate_reason: "see {{ ticket }}"\n')
    called(extra_vars=(f"@{path}",))
    with pytest.raises(TidegateError, match="which Ansible would evaluate"):
        extra("")


def test_every_verb_begins_with_the_controller_and_comes_back_to_it() -> None:
    for path in sorted((ROOT / "playbooks").glob("*.yml")):
        plays = yaml.safe_load(path.read_text())
        hosts = [play["hosts"] for play in plays]
        holds = ", hold=true" if "tidegate.release.waves" in path.read_text() else ""  # what can be under way can be held
        assert hosts[0] == f"{{{{ lookup('tidegate.release.controller'{holds}) }}}}", path.name
        assert "localhost" not in hosts, path.name


def test_no_fact_is_how_a_step_tells_another_something() -> None:
    for folder in ("plugins", "playbooks", "roles", "molecule"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".yml"):
                # Which Python Ansible has found on a host is Ansible's own business.
                text = path.read_text().replace('.get("ansible_facts", {}).get("discovered_interpreter_python")', "")
                assert "ansible_facts" not in text, path
                assert "cacheable" not in text, path


def test_a_run_that_leaves_modules_on_hosts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    invocation.refuse_kept_files()
    monkeypatch.setattr(invocation.C, "DEFAULT_KEEP_REMOTE_FILES", True)
    monkeypatch.setattr(plan, "refuse_partial", lambda _tagged: None)
    action = object.__new__(plan.ActionModule)
    action._task = SimpleNamespace(tags=[])
    with pytest.raises(TidegateError, match="ANSIBLE_KEEP_REMOTE_FILES would leave each host's settings there"):
        action.execute({}, {})


@pytest.mark.parametrize(
    ("extra", "shown"),
    [
        ("tidegate_rfc=rfc.yml", "tidegate_rfc=rfc.yml"),
        ("tidegate_rfc=rfc.yml tidegate_dsl=/srv/dsl", "'tidegate_rfc=rfc.yml tidegate_dsl=/srv/dsl'"),
        ('{"tidegate_rfc": "rfc.yml"}', """'{"tidegate_rfc": "rfc.yml"}'"""),
        ("@vars.yml", "@vars.yml"),
        ("tidegate_cmdb=postgresql://tidegate:hunter2@db/cmdb", "'…'"),
        ("tidegate_rfc=https://sn.example/CHG1?token=hunter2", "'…'"),
        ("tidegate_key_passphrase=hunter2", "'…'"),
        ("ansible_become_pass=hunter2", "'…'"),
        ('{"tidegate_settings": {"pin": "hunter2"}}', "'…'"),
        ("tidegate_rfc=rfc.yml pin=hunter2", "'…'"),
        ('{"broken: hunter2', "'…'"),
    ],
)
def test_what_to_type_next_is_what_was_typed_without_a_secret(
    called: Called, monkeypatch: pytest.MonkeyPatch, extra: str, shown: str
) -> None:
    called(args=("tidegate.release.deploy",), extra_vars=[extra])
    monkeypatch.setattr(invocation.sys, "argv", ["/bin/ansible-playbook", "tidegate.release.deploy", "-i", "my hosts.yml", "-e", extra])
    forward, back = invocation.next_commands(undo=True)
    assert forward == f"To go on:   ansible-playbook tidegate.release.deploy -i 'my hosts.yml' -e {shown}"
    assert back == f"To undo it: ansible-playbook tidegate.release.backout -i 'my hosts.yml' -e {shown}"
    monkeypatch.setattr(invocation.sys, "argv", ["/bin/ansible-playbook", "tidegate.release.deploy", f"--extra-vars={extra}", f"-e{extra}"])
    assert ("hunter2" in extra) == ("…" in invocation.next_commands(undo=False)[0])
    assert "hunter2" not in "".join(invocation.next_commands(undo=True))


def test_who_uses_the_command_is_told_what_to_type_in_its_words(called: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    called(args=("tidegate.release.deploy",))
    monkeypatch.setattr(invocation.sys, "argv", ["ansible-playbook", "tidegate.release.deploy"])
    monkeypatch.setenv("TIDEGATE_NEXT", '["tidegate deploy rfc.yml", "tidegate backout rfc.yml"]')
    assert "ansible-playbook" in invocation.next_commands(undo=True)[0], "a playbook that a hook of a run starts is none of the command"
    monkeypatch.setenv("TIDEGATE_ONLY_WORDS", "true")
    assert invocation.next_commands(undo=True) == ("To go on:   tidegate deploy rfc.yml", "To undo it: tidegate backout rfc.yml")


def test_what_has_to_be_said_of_data_first_is_typed_behind_what_was_typed(called: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    called(args=("tidegate.release.deploy",), extra_vars=["tidegate_data=as_before:1"])
    monkeypatch.setattr(invocation.sys, "argv", ["ansible-playbook", "tidegate.release.deploy", "-e", "tidegate_data=as_before:1"])
    said = invocation.next_commands(True, {"If the data are migrated": "migrated:2", "If they are as before": "as_before:2"})
    assert said == (  # of two variables of one name the last counts
        "If the data are migrated: ansible-playbook tidegate.release.deploy -e tidegate_data=as_before:1 "
        "-e tidegate_data=migrated:2 -e tidegate_reason=…",
        "If they are as before: ansible-playbook tidegate.release.deploy -e tidegate_data=as_before:1 "
        "-e tidegate_data=as_before:2 -e tidegate_reason=…",
    )


def test_what_follows_staging_is_to_deploy_and_a_playbook_of_ones_own_goes_on_by_itself(
    called: Called, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = "To undo it: ansible-playbook tidegate.release.backout"
    for playbook, lines in {
        "tidegate.release.stage": ("To go on:   ansible-playbook tidegate.release.deploy", back),
        "tidegate.release.backout": ("To go on:   ansible-playbook tidegate.release.backout", back),
        "site.yml": ("To go on:   ansible-playbook site.yml",),
    }.items():
        called(args=(playbook,))
        monkeypatch.setattr(invocation.sys, "argv", ["ansible-playbook", playbook])
        assert invocation.next_commands(undo=True) == lines


@pytest.mark.parametrize(
    ("forks", "origin", "hosts", "callback", "words"),
    [
        (5, "default", 200, "default", ["forks is 5, so no more of the 200 hosts", "stdout_callback = tidegate.release.progress"]),
        (5, "default", 5, "default", ["stdout_callback = tidegate.release.progress"]),
        (5, "env", 200, "env", []),
        (50, "default", 200, "env", []),  # --forks 50
        (5, "default", 0, "default", []),  # nothing is about to change
    ],
)
def test_settings_that_nobody_has_made_are_named(
    called: Called, monkeypatch: pytest.MonkeyPatch, forks: int, origin: str, hosts: int, callback: str, words: list[str]
) -> None:
    called(forks=forks)
    settings = {"DEFAULT_FORKS": (5, origin), "DEFAULT_STDOUT_CALLBACK": ("default", callback)}
    config = SimpleNamespace(get_config_value_and_origin=settings.__getitem__)
    monkeypatch.setattr(invocation.C, "config", config)
    advice = invocation.missing_settings(hosts)
    assert len(advice) == len(words)
    assert all(part in line for part, line in zip(words, advice, strict=True))
