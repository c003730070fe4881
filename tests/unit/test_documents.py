# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A document is read as its writer meant it, or refused with every fault, its line and what to do; whatever its bytes are."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.policy import load_policy
from ansible_collections.tidegate.release.plugins.plugin_utils.documents import Document, load_document, parse_time
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.manifest import load_manifest
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import DocumentError, Problem
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import load_rfc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

LOAD = {"release": load_manifest, "rfc": load_rfc, "policy": load_policy}
BASE = "schema: 1\n"


def faults(path: Path, content: str | bytes, kind: Any = "policy") -> tuple[Problem, ...]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DocumentError) as caught:
        LOAD[kind](path)
    return caught.value.problems


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "policy.yml"


def test_a_valid_document_is_accepted_as_yaml_and_as_json(file: Path, valid: tuple[str, dict[str, Any]]) -> None:
    kind, data = valid
    file.write_text(yaml.safe_dump(data))
    from_yaml = LOAD[kind](file)
    file.write_text(json.dumps({"$schema": "https://example.org/schema.json"} | data, indent=1))
    assert LOAD[kind](file) == from_yaml


def test_every_unknown_key_is_named(file: Path, valid: tuple[str, dict[str, Any]]) -> None:
    kind, data = valid
    (fault,) = faults(file, yaml.safe_dump(data | {"colour": "red"}), kind)
    assert "colour is not a key of the" in fault.what
    assert fault.remedy.startswith("what it may have besides: $schema, ")
    assert not {*fault.remedy.replace(",", "").split()} & data.keys()


@pytest.mark.parametrize("kind", ["release", "rfc", "policy"])
def test_every_missing_key_is_named(file: Path, kind: str) -> None:
    schema = json.loads((Path(load_document.__code__.co_filename).parent / "schemas" / f"{kind}.schema.json").read_text())
    found = faults(file, "# a comment\n$schema: x\n", kind)
    required = [*schema["required"], *(schema["anyOf"][0]["required"] if "anyOf" in schema else [])]  # or what stands for these
    assert [re.sub(" is missing from the .*", "", fault.what) for fault in found] == required
    assert {fault.where for fault in found} == {f"{file}:2"}


def test_all_faults_are_told_at_once_each_with_its_line_and_remedy(file: Path) -> None:
    text = """schema: 1
nam: hello
version: 2.30
type: Minor
summary: ""
payload: ../payload
documentation: []
settings: {Port: 1, state: a, list: [1]}
health:
  - {name: a, timeout: 0, http: {url: "http://${adress}/"}, tcp: {host: a}}
  - {name: b, timeout: "5", tcp: {host: a, port: 70000}}
  - {name: c, timeout: 3601, command: bin/check}
  - web
"""
    found = [f"{str(fault).removeprefix(str(file) + ':')}" for fault in faults(file, text, "release")]
    for expected in (
        r"2: nam is not a key of the manifest; did you mean name\?",
        r'3: version is the number 2.30; it has to be a text: quote it, "2.30"',
        r"4: type is 'Minor'; it has to be one of major, minor, emergency",
        r"5: summary is empty; ",
        r"6: payload is '../payload'; expected is the directory beside this file",
        r"7: documentation is empty; expected is at least one file",
        r"8: Port can't be a key of settings; expected is lower case letters",
        r"8: state can't be a key of settings; ",
        r"8: settings.list is a list; it has to be a text or a whole number or null",
        r"10: health.0 has not exactly one of http, tcp, command; give one of them",
        r"10: port is missing from health.0.tcp; add port",
        r"10: health.0.timeout is the number 0; it has to be more than 0",
        r"10: \${adress} stands for nothing; declare it under settings",
        r"11: health.1.timeout is '5'; it has to be a number",
        r"11: health.1.tcp.port is the number 70000; expected is a port from 1 to 65535",
        r"12: health.2.timeout is the number 3601; it has to be 3600 or less",
        r"12: health.2.command is 'bin/check'; it has to be a list",
        r"13: health.3 is 'web'; it has to be a mapping",
    ):
        assert any(re.match(expected, line) for line in found), (expected, found)
    assert len(found) == 18  # that name is missing is the same fault as nam
    assert [int(line.split(":")[0]) for line in found] == sorted(int(line.split(":")[0]) for line in found)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", 1, "it is empty"),
        ("# nothing\n", 1, "it is empty"),
        ("- 1\n", 1, "it is not a mapping"),
        ("text\n", 1, "it is not a mapping"),
        (BASE + "rollout: {keep: 3}\nrollout: {keep: 5}\n", 3, "rollout is given twice"),
        (BASE + "rollout:\n  keep: 3\n  keep: 5\n", 4, "keep is given twice"),
        (BASE + "a: &x {keep: 3}\nrollout: *x\n", 3, "an alias (*) is not allowed"),
        (BASE + "rollout:\n  <<: {keep: 3}\n", 3, "<< is not a key"),
        (BASE + "---\nschema: 1\n", 2, "a second document begins here"),
        (BASE + "rollout: !!python/object:os.system {}\n", 2, "'python/object:os.system' values are not allowed"),
        (BASE + "rollout: {keep: !secret 3}\n", 2, "'!secret' values are not allowed"),
        (BASE + "rollout: {keep: !!binary aGk=}\n", 2, "binary values are not allowed"),
        (BASE + "rollout: {keep: !!null 3}\n", 2, "null values are not allowed"),
        (BASE + "rollout: {keep: !!bool 3}\n", 2, "bool values are not allowed"),
        (BASE + "rollout: !!set {a}\n", 2, "set values are not allowed"),
        (BASE + "[a]: 1\n", 2, "a key is not a plain word"),
        (BASE + "!x rollout: {}\n", 2, "a key is not a plain word"),
        (BASE + '"a\\e": {}\n', 2, "a key is not a plain word"),
        (BASE + 'rollout: {order_by: "a\\e[2J"}\n', 2, "has a control character"),
        (BASE + 'rollout: {order_by: "\\ud800"}\n', 2, "has a control character"),
        (BASE + 'rollout: {order_by: "\\UFFFFFFFF"}\n', 1, "it can't be read as YAML"),
        (BASE + 'rollout: {order_by: "\\U00110000"}\n', 1, "it can't be read as YAML"),
        (BASE + "rollout: [\n", 3, "it is not valid YAML"),
        (BASE + "\tkeep: 1\n", 2, "it is indented with a tab"),
        (BASE + "rollout:\n", 2, "rollout is empty"),
        (BASE + "rollout: {keep: true}\n", 2, "rollout.keep is true"),
        (BASE + "rollout: {keep: 3.0}\n", 2, "rollout.keep is the number 3.0"),
        (BASE + "rollout: {keep: 010}\n", 2, "010 is a number that is easily misread"),
        (BASE + "rollout: {keep: 1_0}\n", 2, "1_0 is a number that is easily misread"),
        (BASE + "rollout: {keep: 1:30}\n", 2, "'1:30' is a number that is easily misread"),
        (BASE + "rollout: {keep: 0x10}\n", 2, "0x10 is a number that is easily misread"),
        (BASE + "rollout: {keep: !!int ''}\n", 2, "is a number that is easily misread"),
        (BASE + f"rollout: {{keep: {'9' * 5000}}}\n", 2, "is a number that is easily misread"),
        (BASE + "rollout: {canary: {hosts: 1}}\n", 2, "rollout.canary is a mapping"),
        (BASE + "rollout: {canary: 101%}\n", 2, "rollout.canary is '101%'"),
        (BASE + "rollout: {steps: [50]}\n", 2, "the steps are [50]"),
        (BASE + "rollout: {steps: [100, 50, 100]}\n", 2, "the steps are"),
        (BASE + "rollout: {steps: [50, 50, 100]}\n", 2, "the steps are"),
        (BASE + "rollout: {steps: []}\n", 2, "rollout.steps is empty"),
        (BASE + "rollout: {keep: 1}\n", 2, "rollout.keep is the number 1"),
        (BASE + "approvals: {normal: -1}\n", 2, "approvals.normal is the number -1"),
        ("schema: 2\n", 1, "schema is the number 2"),
        ("schema: true\n", 1, "schema is true"),
    ],
)
def test_what_yaml_leaves_open_is_refused(file: Path, text: str, line: int, what: str) -> None:
    found = faults(file, text)
    assert any(fault.where == f"{file}:{line}" and what in fault.what for fault in found), found
    assert all(fault.remedy for fault in found)


@pytest.mark.parametrize("content", [b"schema: 1\n# \xff\n", "schema: 1\n".encode("utf-16"), b"\x00", b"schema: 1\n#\x07\n"])
def test_what_is_no_utf8_text_is_refused(file: Path, content: bytes) -> None:
    assert len(faults(file, content)) == 1


def test_the_line_of_a_wrong_byte_is_told(file: Path) -> None:
    assert faults(file, b"schema: 1\n# \xff\n")[0].where == f"{file}:2"


def test_a_byte_order_mark_does_no_harm(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfschema: 1\n")
    load_policy(file)


def test_a_file_that_is_not_there_or_none_is_refused(tmp_path: Path) -> None:
    for path, what in ((tmp_path / "none.yml", "No such file"), (tmp_path, "it is not a file"), (Path("a\0b"), "can't be read")):
        with pytest.raises(DocumentError, match=what):
            load_rfc(path)


def test_a_hostile_size_or_depth_ends_soon_with_a_message(file: Path) -> None:
    started = time.process_time()
    assert "larger than 256 KiB" in faults(file, "a" * (1 << 20) + "\n")[0].what
    assert "nested too deeply" in faults(file, "a: " + "[" * 20_000)[0].what
    assert "more than 10000 keys" in faults(file, "documentation: [" + "a,{}," * 20_000 + "]", "release")[-1].what
    assert "more than 10000 keys" in faults(file, "".join(f"rolout{number}: 1\n" for number in range(15_000)))[-1].what
    many = faults(file, BASE + "documentation: [" + "a,{}," * 2_000 + "]", "release")
    assert len(many) > 1_000
    assert time.process_time() - started < 60


def test_times_keep_their_offset(file: Path) -> None:
    file.write_text("start_date: 2027-03-01T22:00:00+05:45\nend_date: 2027-03-01 22:00:00Z\n")
    data = load_document(file, "rfc").data
    assert data == {"start_date": "2027-03-01T22:00:00+05:45", "end_date": "2027-03-01 22:00:00Z"}
    assert parse_time(data["start_date"]).utcoffset() == timedelta(hours=5, minutes=45)
    assert parse_time("2027-03-01t22:00:00.25z") == datetime.fromisoformat("2027-03-01T22:00:00.25+00:00")


@pytest.mark.parametrize(
    "text",
    [
        "2027-03-01",
        "2027-03-01T22:00:00",
        "2027-03-01T22:00:00+1",
        "20270301T220000Z",
        "2027-W09-1T22:00:00Z",
        "2027-02-30T22:00:00Z",
        "2027-03-01T22:00:00Z\n",
        "2027-03-01T22:00:00+24:00",
        "\u0662027-03-01T22:00:00Z",
        "now",
        "",
    ],
)
def test_what_is_no_time_with_an_offset_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_time(text)


def test_a_line_break_at_the_end_does_not_slip_through_a_pattern(file: Path, valid: tuple[str, dict[str, Any]]) -> None:
    kind, data = valid
    for key in {"name", "version", "number", "payload"} & data.keys():
        (fault,) = faults(file, yaml.safe_dump(data | {key: f"{data[key]}\n"}), kind)
        assert fault.what.startswith(f"{key} is ")
    if kind == "release":
        assert (
            "can't be a key of settings" in faults(file, yaml.safe_dump(data | {"settings": {**data["settings"], "a\n": 1}}), kind)[0].what
        )


def test_a_long_value_is_shown_in_part_and_on_one_line(file: Path) -> None:
    for fault in faults(file, BASE + f'"{"k" * 5000}": 1\nrollout: {{on_failure: "{"x" * 5000}", order_by: "a\\nb", "a\\nb": 1}}\n'):
        assert "\n" not in fault.what
        assert len(fault.what) < 200


def test_data_without_a_file_is_checked_by_the_same_schema() -> None:
    document = Document("hello:1.0", {"schema": 1, "rollout": {"keep": 0}})
    document.check("policy")
    with pytest.raises(DocumentError, match=r"^hello:1\.0:1: rollout\.keep is the number 0"):
        document.finish()


def attempt(file: Path, kind: str, content: bytes) -> None:
    file.write_bytes(content)
    problems: tuple[Problem, ...] | None = None
    try:
        LOAD[kind](file)
    except DocumentError as error:
        problems = error.problems
    for problem in problems or ():
        assert problem.what
        assert problem.remedy
        assert re.fullmatch(rf"{re.escape(str(file))}:[1-9]\d*", problem.where)
    assert problems != ()


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
TOKENS = ["\n  ", ": ", "- ", "!!int ", "!!map ", "!x ", "&a ", "*a", "<<", "\\u", "\\U", "~", "0", "1.5", "a", "schema", "rollout", "name"]
TOKENS += ["health", "2027-03-01", "\u00e9", "\x85", "\u2028", "---\n", "...\n", "%TAG ", *"-:?[]{},#&*!|>'\"%@` \n\t"]
CONTENTS = (
    st.binary(max_size=300)
    | st.lists(st.sampled_from(TOKENS), max_size=40).map(lambda parts: "".join(parts).encode())
    | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
KEYS = st.sampled_from(["name", "http", "url", "tcp", "port", "wave", "x"])
VALUES = st.recursive(
    SCALARS | st.sampled_from(["${x}", "1%", "2027-03-01T00:00:00Z", "[?"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


@FUZZ
@given(kind=st.sampled_from(sorted(LOAD)), content=CONTENTS)
def test_no_bytes_bring_anything_but_a_message(file: Path, kind: str, content: bytes) -> None:
    attempt(file, kind, content)


def places(data: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(data) if isinstance(data, dict) else range(len(data)):
        yield data, key
        if isinstance(data[key], dict | list):
            yield from places(data[key])


@FUZZ
@given(changes=st.lists(st.tuples(st.integers(0, 100), VALUES), min_size=1, max_size=3))
def test_no_value_anywhere_brings_anything_but_a_message(
    file: Path, valid: tuple[str, dict[str, Any]], changes: list[tuple[int, Any]]
) -> None:
    kind, original = valid
    data = copy.deepcopy(original)
    for number, value in changes:
        found = list(places(data))
        container, key = found[number % len(found)]
        container[key] = copy.deepcopy(value)
    for content in (json.dumps(data), yaml.safe_dump(data)):
        attempt(file, kind, content.encode())
