# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The JSON Schemas are of use to editors and programs: named, strict, described, and what is written is as they say."""

from __future__ import annotations

import importlib.util
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.clearance import Clearance
from ansible_collections.tidegate.release.plugins.plugin_utils.clearance.findings import Control, Result
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import load_rfc
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.states import DeploymentState, HostState, WaveState
from ansible_collections.tidegate.release.plugins.plugin_utils.steps.clear import Clearing

ROOT = Path(__file__).parents[2]
SCHEMAS = {path.name.removesuffix(".schema.json"): path for path in (ROOT / "plugins/plugin_utils/schemas").glob("*.json")}
EXAMPLES = sorted(path for path in (ROOT / "examples").rglob("*.yml") if path.name in ("rfc.yml", "policy.yml", "release.yml"))
# Beside which type each keyword has a meaning.
KEYWORDS = {
    "object": {"properties", "required", "additionalProperties", "propertyNames", "minProperties", "maxProperties"},
    "array": {"items", "minItems", "maxItems", "uniqueItems"},
    "string": {"minLength", "maxLength", "pattern", "format"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
}
KEYWORDS["integer"] = KEYWORDS["number"]
ANYWHERE = {"$schema", "$id", "$ref", "$defs", "title", "description", "default", "type", "enum", "const", "oneOf", "anyOf", "not"}


def parts(part: Any, types: tuple[str, ...] = ()) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
    """Every schema in a schema, and the types that those around it leave to it."""
    if not isinstance(part, dict):
        return
    given = part.get("type", types)
    own = tuple(given) if isinstance(given, list | tuple) else (given,)
    yield part, own
    for key in ("properties", "$defs"):
        for inner in part.get(key, {}).values():
            yield from parts(inner)
    for key in ("items", "additionalProperties"):
        yield from parts(part.get(key))
    yield from parts(part.get("propertyNames"), ("string",))
    yield from parts(part.get("not"), own)
    for key in ("oneOf", "anyOf"):
        for inner in part.get(key, []):
            yield from parts(inner, own)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_what_strict_readers_take(name: str) -> None:
    """As the strict mode of ajv has it: nothing that a reader would pass over, and no type that could be two."""
    schema = json.loads(SCHEMAS[name].read_text())
    assert schema["$id"] == f"https://tidegate.example/schemas/{name}.schema.json"
    for part, types in parts(schema):
        meaning = ANYWHERE.union(*(KEYWORDS.get(kind, set()) for kind in types))
        assert part.keys() <= meaning, f"{sorted(part.keys() - meaning)} says nothing of {types}: {part}"
        assert len([kind for kind in types if kind != "null"]) <= 1, f"a type that could be two: {part}"
        if "required" in part:
            assert set(part["required"]) <= part.get("properties", {}).keys(), part
        if part.get("format"):
            assert part["format"] == "date-time"
        if "pattern" in part:
            re.compile(part["pattern"])


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_key_has_a_meaning_in_words(name: str) -> None:
    """In a sentence that says something to somebody who sees it alone, as an editor shows it."""
    schema = json.loads(SCHEMAS[name].read_text())
    for part, _types in parts(schema):
        for key, value in part.get("properties", {}).items():
            if value is not True:  # it is described where it is declared
                meaning = value.get("description", "")
                assert meaning.endswith("."), f"{key} of {name}"
                assert len(meaning.split()) > 2, f"{key} of {name} says too little: {meaning}"


@pytest.mark.parametrize("name", ["policy", "release", "rfc"])
def test_a_number_that_may_be_left_out_says_what_it_is_then(name: str) -> None:
    schema = json.loads(SCHEMAS[name].read_text())
    for part, types in parts(schema):
        for key, value in part.get("properties", {}).items():
            if "object" not in types or value is True or key in part.get("required", ()) or value.get("type") not in ("integer", "number"):
                continue
            said = re.search(r"unless|without it|not given|left out|does not say|doesn't", value["description"])
            assert said or "default" in value, f"{key} of {name}: {value['description']}"


def test_the_defaults_in_the_schema_of_policies_are_those_that_apply() -> None:
    """An editor shows them, and so does the page; what applies is what the shipped policy says."""
    schema = json.loads(SCHEMAS["policy"].read_text())
    shipped = yaml.safe_load((ROOT / "plugins/plugin_utils/policy/default.yml").read_text())

    def leaves(part: dict[str, Any], values: dict[str, Any], place: str) -> Iterator[tuple[str, Any, Any]]:
        for key, value in part["properties"].items():
            inner = schema["$defs"][value["$ref"].rpartition("/")[2]] if "$ref" in value else value
            if inner.get("properties") and isinstance(values.get(key), dict):
                yield from leaves(inner, values[key], f"{place}{key}.")
            elif "const" not in inner:
                yield f"{place}{key}", value.get("default", "none"), values.get(key, "none")

    found = list(leaves(schema, shipped, ""))
    assert len(found) > 40
    assert [(place, shown) for place, shown, _applies in found] == [(place, applies) for place, _shown, applies in found]


def _pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("schema_pages", ROOT / "tools/schema_pages.py")
    assert spec
    assert spec.loader
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    return pages


def test_the_pages_of_the_schemas_are_current() -> None:
    pages = _pages()
    assert pages.names() == sorted(SCHEMAS)
    assert {path.stem for path in pages.PAGES.iterdir()} == set(SCHEMAS)
    for name in SCHEMAS:
        assert (pages.PAGES / f"{name}.md").read_text() == pages.page(name), "run tools/schema_pages.py"


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_key_is_on_the_page_of_its_schema(name: str) -> None:
    """With its meaning, as often as it is declared. What a choice only says of a key that its mapping declares is not counted."""
    schema = json.loads(SCHEMAS[name].read_text())
    page = (ROOT / "docs/schemas" / f"{name}.md").read_text()
    rows = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in page.splitlines() if line.startswith("| `")]
    shown = Counter((row[0].strip("`"), row[-1]) for row in rows)
    keys = Counter(
        (key, value["description"].replace("|", "\\|"))
        for part, _types in parts(schema)
        for key, value in part.get("properties", {}).items()
        if value is not True and not ("const" in value and part is not schema and key in schema["properties"])
    )
    assert keys - shown == Counter()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_an_example_names_its_schema_for_editors_and_holds_in_it(path: Path) -> None:
    first, rest = path.read_text().split("\n", 1)
    schema = (path.parent / first.removeprefix("# yaml-language-server: $schema=")).resolve()
    assert schema == SCHEMAS[path.stem]
    rest = rest.replace('"@PATIENCE@"', "20").replace("@", "")  # that of the demo is a template
    # As any reader of YAML has it: what it takes for a time is no text.
    document = yaml.safe_load(rest)
    _validate(path.stem, document)


def _validate(name: str, document: Any) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMAS[name].read_text()), format_checker=jsonschema.FormatChecker())
    assert [error.message for error in validator.iter_errors(document)] == []


def test_a_clearance_is_what_its_schema_says() -> None:
    now = datetime(2027, 3, 1, 22, 30, tzinfo=UTC)
    controls = tuple(Control(str(result), result, "so\nand so", "") for result in Result)
    clearance = Clearance("CHG0030001", "hello 1.0", "sha256:" + "0" * 64, now, controls)
    rfc = load_rfc(ROOT / "examples/rfc.yml")
    cis = ({"name": "web1", "written_off": None},)
    _validate("clearance", Clearing(clearance, rfc, None, cis).document())
    unread = replace(clearance, rfc="the RFC", release="", digest="")
    _validate("clearance", Clearing(unread, None, None, ()).document())


def test_the_words_of_the_schemas_are_those_of_the_code() -> None:
    report, page, clearance = (json.loads(SCHEMAS[name].read_text()) for name in ("report", "report_deployment", "clearance"))
    deployment, wave = page["properties"], page["$defs"]["wave"]["properties"]
    assert deployment["state"] == report["properties"]["deployments"]["items"]["properties"]["state"]
    assert deployment["state"]["enum"] == [str(state) for state in DeploymentState]
    assert wave["state"]["enum"] == [str(state) for state in WaveState]
    assert wave["results"]["additionalProperties"]["properties"]["state"]["enum"] == [str(state) for state in HostState]
    assert clearance["properties"]["controls"]["items"]["properties"]["result"]["enum"] == [str(result) for result in Result]
