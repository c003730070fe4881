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
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.manifest import Manifest, load_manifest
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
        "conflicts": [{"firmware": "bios", "versions": "<2"}, {"ci_class": ["test"]}],
    }
    lasting = {"stable": 2.5, "logs": ["log", "/var/log/${port}/x", {"unit": "hello@1.service"}]}
    least = {"licence": ..., "settings": ..., "hooks": ..., "health": [{"name": "a", "command": ["a"], "timeout": 5}]}
    for changes in ({}, least, needs, lasting, {"stable": 0}):
        manifest = load_manifest(write("release", documentation=["a.md", "b.md"], **changes))
        config = json.loads(json.dumps(manifest.to_config()))
        assert Manifest.from_config(config) == manifest
        assert Manifest.from_config(config).to_config() == config
        manifest.check()


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
