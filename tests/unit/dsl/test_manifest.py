# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A manifest is refused unless a host could run it, and is the same after a stay in the library."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.manifest import Manifest, OwnAnsible, load_manifest
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import DocumentError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

Write = Callable[..., Path]


def test_defaults_are_filled_in(write: Write) -> None:
    manifest = load_manifest(write("release"))
    assert {name: hook["timeout"] for name, hook in manifest.hooks.items()} == {"prepare": 60, "start": 10}
    assert manifest.health[0]["http"]["status"] == 200
    assert manifest.settings == {"address": None, "port": 8080}
    least = load_manifest(write("release", licence=..., settings=..., hooks=..., health=[{"name": "a", "command": ["a"], "timeout": 0.5}]))
    assert (least.licence, least.settings, least.hooks) == (None, {}, {})


def test_a_manifest_is_the_same_after_a_stay_in_the_library(write: Write) -> None:
    needs = {
        "licensed_product": "acme",
        "requires": [{"release": "db", "versions": ">=2,<3"}, {"package": "openssl", "versions": ">=3"}, {"hardware": ["R750"]}],
        "conflicts": [{"firmware": "bios", "versions": "3.5, 3.5a", "scheme": "text"}, {"ci_class": ["test"]}],
    }
    lasting = {"stable": 2.5, "logs": ["log", "/var/log/${port}/x", {"unit": "hello@1.service"}]}
    least = {"licence": ..., "settings": ..., "hooks": ..., "health": [{"name": "a", "command": ["a"], "timeout": 5}]}
    for changes in ({}, least, needs, lasting, {"stable": 0}):
        manifest = load_manifest(write("release", documentation=["a.md", "b.md"], **changes))
        config = json.loads(json.dumps(manifest.to_config()))
        assert Manifest.from_config(config) == manifest
        assert Manifest.from_config(config).to_config() == config
        manifest.check()


READ = {"hooks": {"read": {"command": ["bin/read"]}}, "effect": "outside"}


def test_what_is_outside_the_tree_is_read_as_the_version_unless_it_says_otherwise(write: Write) -> None:
    for changes, reads in (({}, "1.0"), ({"reads": "R2 (build 7)"}, "R2 (build 7)")):
        manifest = load_manifest(write("release", **READ, **changes))
        assert manifest.reads == reads
        config = json.loads(json.dumps(manifest.to_config()))
        assert (config["effect"], config["reads"], config["hooks"]["read"]["timeout"]) == ("outside", reads, 60)
        assert Manifest.from_config(config) == manifest
        manifest.check()
    # What was archived before there was such a thing has the same bytes as ever.
    for changes in ({}, {"effect": "tree"}):
        manifest = load_manifest(write("release", **changes))
        assert manifest.reads is None
        assert not manifest.to_config().keys() & {"effect", "reads"}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"effect": "outside"}, "the effect is outside, and there is no hook read, so nobody could see it; add one under hooks"),
        ({**READ, "effect": "tree"}, "hooks.read is about an effect outside the tree, and the release has none; add effect: outside"),
        ({**READ, "effect": ...}, "hooks.read is about an effect outside the tree"),
        ({"reads": "1"}, "reads is about an effect outside the tree, and the release has none; add effect: outside, or leave it out"),
        (
            {**READ, "ansible": {"role": "a", "steps": ["check"], "on_first": "back_out", "atomic": False}},
            "the effect is outside, which hooks bring and not a role; bring it there by hooks",
        ),
        ({**READ, "effect": "elsewhere"}, "effect is 'elsewhere'"),
        *(({**READ, "reads": text}, "reads is ") for text in ("", " 1", "1 ", "1\n2", "x" * 201, "caf\u00e9", 1.0)),
    ],
)
def test_an_effect_outside_the_tree_that_nobody_could_read_is_refused(write: Write, changes: dict[str, Any], what: str) -> None:
    with pytest.raises(DocumentError) as error:
        load_manifest(write("release", **changes))
    assert what in str(error.value)


OWN = {"role": "ansible/app", "steps": ["activate", "check"], "on_first": "back_out", "atomic": False}
MIGRATES = {"steps": ["migrate", "reverse"], "migrate_on": "[?name=='db1']"}
ALONE = {"payload": ..., "health": ..., "hooks": ...}


def test_a_role_has_defaults_and_is_the_same_after_a_stay_in_the_library(write: Write) -> None:
    own = load_manifest(write("release", ansible=OWN)).ansible
    assert own == OwnAnsible("ansible/app", ("activate", "check"), "previous", 1800, gather_facts=True)
    assert own.name == "app"
    collections = [{"name": "community.general", "version": ">=9"}, {"name": "ansible.posix"}]
    more = {"steps": ["restore", "check", "drain"], "back_out": "own", "timeout": 2.5, "gather_facts": False, "collections": collections}
    for_good = {"steps": ["migrate"], "migrate_on": "[0]", "reverse": "none"}
    for changes in (
        {"ansible": OWN},
        {"ansible": OWN | more},
        {"ansible": OWN, **ALONE},
        *({"ansible": OWN | x} for x in (MIGRATES, for_good)),
    ):
        manifest = load_manifest(write("release", **changes))
        config = json.loads(json.dumps(manifest.to_config()))
        assert Manifest.from_config(config) == manifest
        assert Manifest.from_config(config).to_config() == config
        assert config["ansible"]["on_first"] == "back_out"
        assert config["ansible"]["atomic"] is False
        assert config.keys() >= {"payload", "health"} or not config.keys() & {"payload", "health"}
        manifest.check()
    loaded = load_manifest(write("release", ansible=OWN | more)).ansible
    assert loaded
    assert loaded.steps == ("drain", "check", "restore")  # the order in which they run, and not that in which they are listed
    assert [collection["name"] for collection in loaded.collections] == ["ansible.posix", "community.general"]


def test_a_release_that_changes_data_says_where_and_how_that_is_undone(write: Write) -> None:
    own = load_manifest(write("release", ansible=OWN | MIGRATES)).ansible
    assert own
    assert (own.steps, own.migrate_on, own.no_return) == (("migrate", "reverse"), "[?name=='db1']", False)
    own = load_manifest(write("release", ansible=OWN | {"steps": ["migrate"], "migrate_on": "[0]", "reverse": "none"})).ansible
    assert own
    assert own.no_return
    # What was archived before there was such a thing has the same bytes as ever.
    own = load_manifest(write("release", ansible=OWN)).ansible
    assert own
    assert not own.to_config().keys() & {"migrate_on", "reverse"}


@pytest.mark.parametrize(
    ("changes", "own", "what", "remedy"),
    [
        ({}, {"atomic": ...}, "atomic is missing from ansible", "add atomic: Always false, and it has to be written down"),
        ({}, {"atomic": True}, "ansible.atomic is true", "it has to be false"),
        ({}, {"on_first": ...}, "on_first is missing from ansible", "add on_first: What brings a host back that had no release before"),
        ({}, {"on_first": "none"}, "ansible.on_first is 'none'", "it has to be back_out"),
        ({}, {"role": ...}, "role is missing from ansible", "add role"),
        ({}, {"steps": ...}, "steps is missing from ansible", "add steps"),
        ({}, {"steps": []}, "ansible.steps is empty", ""),
        ({}, {"steps": ["check", "check"]}, "ansible.steps lists something twice", "list each once"),
        ({}, {"steps": ["remove"]}, "ansible.steps.0 is 'remove'", "it has to be one of migrate, drain, activate, check, restore, reverse"),
        ({}, {"steps": ["migrate"], "migrate_on": "[0]"}, "nothing says how that is undone", "or write reverse: none, which is a point of"),
        ({}, {"steps": ["migrate", "reverse"]}, "nothing says on which host", "add migrate_on, a JMESPath expression over the CIs"),
        ({}, MIGRATES | {"migrate_on": "[?name=="}, "ansible.migrate_on is no JMESPath: ", "write an expression that gives one CI"),
        ({}, MIGRATES | {"migrate_on": ""}, "ansible.migrate_on is empty", ""),
        ({}, MIGRATES | {"reverse": "none"}, "there is the step reverse, and reverse: none", "leave one of them out"),
        ({}, MIGRATES | {"steps": ["migrate"], "reverse": "no"}, "ansible.reverse is 'no'", "it has to be none"),
        ({}, MIGRATES | {"steps": ["migrate"], "reverse": None}, "ansible.reverse is empty", ""),
        ({}, {"steps": ["reverse"]}, "there is reverse without migrate", "list migrate too, or leave reverse out"),
        ({}, {"migrate_on": "[0]"}, "ansible.migrate_on is about migrate, which is not listed", "list it under steps, or leave this out"),
        ({}, {"reverse": "none"}, "ansible.reverse is about migrate, which is not listed", "list it under steps, or leave this out"),
        ({}, {"steps": ["drain"]}, "there is drain without restore", "list restore too, or leave drain out"),
        ({}, {"steps": ["restore"]}, "there is restore without drain", "list drain too, or leave restore out"),
        ({}, {"back_out": "none"}, "ansible.back_out is 'none'", "it has to be one of previous, own"),
        ({}, {"timeout": 0}, "ansible.timeout is the number 0", "it has to be more than 0"),
        ({}, {"timeout": 86401}, "ansible.timeout is the number 86401", "it has to be 86400 or less"),
        ({}, {"gather_facts": "no"}, "ansible.gather_facts is 'no'", "it has to be true or false"),
        ({}, {"collections": [{"name": "general"}]}, "ansible.collections.0.name is 'general'", "expected is namespace and name"),
        ({}, {"collections": [{"name": "a.b", "version": "*"}]}, "ansible.collections.0.version can't be used", 'write it like ">=9,<11"'),
        ({}, {"collections": [{"name": "a.b"}, {"name": "a.b"}]}, "the collection a.b is listed twice", "list each once"),
        ({"health": ...}, {}, "health is missing from the manifest", "add at least one check"),
        ({"payload": ...}, {}, "health is about what a payload brings to the hosts, and there is none", "have the role do that"),
        ({"payload": ...}, {}, "hooks is about what a payload brings to the hosts, and there is none", "have the role do that"),
        (ALONE | {"logs": ["log"]}, {}, "logs is about what a payload", "have the role do that"),
        (ALONE | {"user": "app"}, {}, "user is about what a payload", "have the role do that"),
        (ALONE | {"stable": 5}, {}, "stable is about what a payload", "have the role do that"),
        (ALONE | {"portable_names": True}, {}, "portable_names is about what a payload", "have the role do that"),
        (ALONE, {"steps": ["check"]}, "without a payload the role has to activate", "list activate, and put tasks/activate.yml into the"),
        (ALONE, {"steps": ["activate"]}, "without a payload the role has to check", "list check, and put tasks/check.yml into the role"),
        ({"documentation": ["ansible.tar"]}, {}, "would be written over ansible.tar", "give the file another name"),
        ({"documentation": ["Ansible.JSON/x"]}, {}, "would be written over ansible.json", "give the file another name"),
    ],
)  # fmt: skip
def test_a_role_that_could_not_run_is_refused(write: Write, changes: dict[str, Any], own: dict[str, Any], what: str, remedy: str) -> None:
    ansible = {key: value for key, value in (OWN | own).items() if value is not ...}
    with pytest.raises(DocumentError) as caught:
        load_manifest(write("release", **changes, ansible=ansible))
    (problem,) = [problem for problem in caught.value.problems if what in problem.what]
    assert remedy in problem.remedy
    assert ":" in problem.where


def test_a_role_that_was_mistyped_is_no_lack_of_a_payload(write: Write) -> None:
    with pytest.raises(DocumentError) as caught:
        load_manifest(write("release", **ALONE, ansibel=OWN))
    assert [problem.remedy for problem in caught.value.problems] == ["did you mean ansible?"]


@pytest.mark.parametrize(
    "role", ["", ".", "..", "/app", "../app", "a/../app", "a//app", "app/", "a\\app", "a\nb", "a b", "a.b.c", ".app", "app\n"]
)
def test_a_role_has_a_path_and_a_name(write: Write, role: str) -> None:
    with pytest.raises(DocumentError, match=r"ansible\.role is"):
        load_manifest(write("release", ansible=OWN | {"role": role}))


@pytest.mark.parametrize("role", ["app", "ansible/app", "my roles/geerlingguy.nginx", ".ansible/a-b_c"])
def test_a_role_is_called_as_its_directory(write: Write, role: str) -> None:
    own = load_manifest(write("release", ansible=OWN | {"role": role})).ansible
    assert own
    assert own.name == role.rpartition("/")[2]


def test_documentation_is_called_as_a_role_where_there_is_none(write: Write) -> None:
    load_manifest(write("release", documentation=["ansible.tar"])).check()


def test_the_order_in_which_documentation_is_listed_does_not_matter(write: Write) -> None:
    one = load_manifest(write("release", documentation=["b.md", "a.md"]))
    assert one.to_config() == load_manifest(write("release", documentation=["a.md", "b.md"])).to_config()


def health(**check: Any) -> list[dict[str, Any]]:
    return [{"name": "a", "timeout": 5, **check}]


def test_what_each_release_has_and_settings_work_in_every_text(write: Write) -> None:
    own = "${release} ${version} ${digest} ${tree} ${state}"
    load_manifest(
        write(
            "release",
            hooks={"start": {"command": ["bin/start", f"{own} ${{previous}} ${{next}} ${{HOME}} ${{x:-y}} $name"]}},
            health=[
                *health(http={"url": "http://${address}/${version}/${digest}", "contains": f"{own} ${{port}}"}),
                *health(command=["x", own]),
            ],
            logs=["${tree}/log", "${state}/${version}.log"],
        )
    ).check()


@pytest.mark.parametrize("changes", [{"hooks": {"start": {"command": ["a", "-p${port}"]}}}, {"health": health(command=["a", "${port}"])}])
def test_a_setting_is_no_argument_of_a_command_where_everybody_sees_it(write: Write, changes: dict[str, Any]) -> None:
    with pytest.raises(DocumentError, match=r"\$\{port\} is a setting") as caught:
        load_manifest(write("release", **changes))
    assert [problem.remedy for problem in caught.value.problems] == ["read $TIDEGATE_PORT from the environment"]


def test_a_name_that_was_mistyped_gets_what_was_meant(write: Write) -> None:
    with pytest.raises(DocumentError) as caught:
        load_manifest(write("release", health=health(http={"url": "http://${adress}", "contains": "${verison}"})))
    assert [problem.remedy for problem in caught.value.problems] == ["did you mean ${address}?", "did you mean ${version}?"]


PATHS = ["", ".", "..", "/etc", "../x", "a/../b", "a/..", "./a", "a/./b", "a//b", "a/", "a\\b", "a\nb", "/"]


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("name", "Hello", "name is 'Hello'"),
        ("name", "../hello", "name is '../hello'"),
        ("name", "a" * 65, "name is 'aaa"),
        ("version", 2.3, "version is the number 2.3"),
        ("version", 2, "version is the number 2"),
        ("version", "../2", "version is '../2'"),
        ("version", ".2", "version is '.2'"),
        ("version", "1" * 129, "version is '111"),
        ("type", ..., "type is missing from the manifest"),
        ("licence", 2, "licence is the number 2"),
        ("licensed_product", "Acme DB", "licensed_product is 'Acme DB'"),
        ("requires", {"release": "a"}, "requires is a mapping"),
        ("requires", [{}], "requires.0 has not exactly one of release, package, ci_class, hardware, firmware"),
        ("requires", [{"release": "a", "package": "b"}], "requires.0 has not exactly one of"),
        ("requires", [{"release": "A"}], "requires.0.release is 'A'"),
        ("requires", [{"release": "a", "version": "1"}], "version is not a key of requires.0"),
        ("requires", [{"release": "a", "versions": "about 1"}], "requires.0.versions can't be used: 'about 1' is no range"),
        ("conflicts", [{"package": "a", "versions": ">=v1"}], "conflicts.0.versions can't be used: 'v1' is no version of the scheme deb"),
        ("conflicts", [{"ci_class": ["a"], "versions": ">=1"}], "conflicts.0 has versions, but names nothing that has any"),
        ("conflicts", [{"hardware": []}], "conflicts.0.hardware is empty"),
        ("conflicts", [{"firmware": "a", "versions": ">=1", "scheme": "calver"}], "conflicts.0.scheme is 'calver'"),
        ("settings", {"tree": 1}, "tree can't be a key of settings"),
        ("settings", {"previous": 1}, "previous can't be a key of settings"),
        ("settings", {"next": 1}, "next can't be a key of settings"),
        ("settings", {"hook": 1}, "hook can't be a key of settings"),
        ("hooks", {"remove": {"command": []}}, "hooks.remove.command is empty"),
        ("settings", {"a-b": 1}, "a-b can't be a key of settings"),
        ("settings", {"a": True}, "settings.a is true"),
        ("settings", {"a": "\0"}, "'\\x00' has a control character"),
        ("hooks", {"begin": {"command": ["a"]}}, "begin is not a key of hooks"),
        ("hooks", {"start": "bin/start"}, "hooks.start is 'bin/start'"),
        ("hooks", {"start": {"command": "bin/start"}}, "hooks.start.command is 'bin/start'"),
        ("hooks", {"start": {"command": []}}, "hooks.start.command is empty"),
        ("hooks", {"start": {"command": [""]}}, "hooks.start.command.0 is empty"),
        ("hooks", {"start": {"command": ["a"], "timeout": 0}}, "hooks.start.timeout is the number 0"),
        ("hooks", {"start": {"command": ["a"], "timeout": 3601}}, "hooks.start.timeout is the number 3601"),
        ("hooks", {"start": {"command": ["a"], "timeout": float("nan")}}, ".nan is a number that is easily misread"),
        ("hooks", {"start": {"timeout": 1}}, "command is missing from hooks.start"),
        ("health", ..., "health is missing from the manifest"),
        ("health", [], "health is empty"),
        ("health", health(), "health.0 has not exactly one of http, tcp, command"),
        ("health", health(command=["a"], tcp={"host": "a", "port": 1}), "health.0 has not exactly one of http, tcp, command"),
        ("health", [{"name": "a", "command": ["a"]}], "timeout is missing from health.0"),
        ("health", health(http={"url": "ftp://a"}), "health.0.http.url is 'ftp://a'"),
        ("health", health(http={"url": "file:///etc/passwd"}), "health.0.http.url is 'file:"),
        ("health", health(http={"url": "http://a", "status": 42}), "health.0.http.status is the number 42"),
        ("health", health(http={"url": "http://${b}"}), "${b} stands for nothing"),
        ("health", health(http={"url": "http://${}"}), "health.0.http.url has a ${ that names no setting"),
        ("health", health(tcp={"host": "${b}", "port": "${c}"}), "${b} stands for nothing"),
        ("health", health(tcp={"host": "a", "port": "${c}"}), "${c} stands for nothing"),
        ("health", health(tcp={"host": "a", "port": "80"}), "health.0.tcp.port is '80'"),
        ("health", health(http={"url": "http://a", "contains": "${varsion}"}), "${varsion} stands for nothing"),
        ("health", health(http={"url": "http://a", "contains": "${Version}"}), "health.0.http.contains has a ${ that names no setting"),
        ("health", health(http={"url": "http://a/${previous}"}), "${previous} stands for nothing"),
        ("health", health(command=["sh", "-c", "echo ${prot}"]), "${prot} stands for nothing"),
        ("health", [{"name": "${port}", "command": ["true"], "timeout": 1}], "health.0.name has a ${, which is not filled in there"),
        ("hooks", {"start": {"command": ["bin/start", "--port=${prot}"]}}, "${prot} stands for nothing"),
        ("hooks", {"stop": {"command": ["${treee}/bin/stop"]}}, "${treee} stands for nothing"),
        ("stable", -1, "stable is the number -1"),
        ("stable", 3601, "stable is the number 3601"),
        ("stable", "10", "stable is '10'"),
        ("logs", "log", "logs is 'log'"),
        ("logs", [], "logs is empty"),
        ("logs", [""], "logs.0 is empty"),
        ("logs", [5], "logs.0 is the number 5"),
        ("logs", ["a\nb"], "logs.0 is 'a\\nb'"),
        ("logs", ["${b}.log"], "${b} stands for nothing"),
        ("logs", ["${}"], "logs.0 has a ${ that names no setting"),
        ("logs", [{"unit": "-x"}], "logs.0.unit is '-x'"),
        ("logs", [{"unit": "a b.service"}], "logs.0.unit is 'a b.service'"),
        ("logs", [{"file": "x"}], "file is not a key of logs.0"),
        ("documentation", [], "documentation is empty"),
        ("documentation", ["a", "a"], "documentation lists something twice"),
        *(("payload", path, "payload is ") for path in PATHS),
        *(("documentation", [path], "documentation.0 is ") for path in PATHS),
    ],
)
def test_what_no_host_could_run_is_refused(write: Write, key: str, value: Any, what: str) -> None:
    with pytest.raises(DocumentError) as caught:
        load_manifest(write("release", **{key: value}))
    assert any(problem.what.startswith(what) for problem in caught.value.problems), caught.value


@pytest.mark.parametrize("path", ["payload", "a/b", "..a", "a..", ".hidden", "k\u00e4se", "with space"])
def test_paths_beside_the_manifest_are_accepted(write: Write, path: str) -> None:
    assert load_manifest(write("release", payload=path)).payload == path


def test_a_config_of_another_shape_is_refused(write: Write) -> None:
    config = load_manifest(write("release")).to_config()
    for key in config.keys() - {"schema", "licence"}:
        with pytest.raises((KeyError, TypeError, ValueError)):
            Manifest.from_config({name: value for name, value in config.items() if name != key})
    for key in ("documentation", "settings", "hooks", "health"):
        with pytest.raises((KeyError, TypeError, ValueError)):
            Manifest.from_config(config | {key: 1})


@pytest.mark.parametrize(
    ("key", "value"),
    [("name", "../hello"), ("version", "a/b"), ("settings", {"PATH": "/tmp"}), ("payload", "/"), ("health", [])],  # noqa: S108
)
def test_a_config_that_could_not_have_been_written_is_refused(write: Write, key: str, value: Any) -> None:
    config = load_manifest(write("release")).to_config()
    with pytest.raises(DocumentError, match=key):
        Manifest.from_config(config | {key: value}).check()


def test_a_config_whose_checks_name_unknown_settings_is_refused(write: Write) -> None:
    config = load_manifest(write("release")).to_config()
    with pytest.raises(DocumentError, match="stands for nothing"):
        Manifest.from_config(config | {"settings": {}}).check()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "http", "url", "command"]), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(["name", "version", "documentation", "settings", "hooks", "health", "payload"]), value=VALUES)
@example(key="settings", value=[[None, None]])
def test_a_hostile_config_is_read_or_refused(write: Write, key: str, value: Any) -> None:
    config = load_manifest(write("release")).to_config() | {key: value}
    try:
        manifest = Manifest.from_config(config)
    except (KeyError, TypeError, ValueError):
        return
    with contextlib.suppress(DocumentError):
        manifest.check()
