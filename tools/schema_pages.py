"""Writes docs/schemas: a page for each JSON Schema of the collection, from what the schema says. A test sees that they are current."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SCHEMAS = ROOT / "plugins/plugin_utils/schemas"
PAGES = ROOT / "docs/schemas"
_TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "null"}
_TYPES |= {"array": "list", "object": "mapping"}


def page(name: str) -> str:
    """The page of the schema ``name``, as Markdown."""
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))
    lines = [f"# {schema['title']}", "", schema["description"], ""]
    lines += [f"Schema: [`{name}.schema.json`](../../plugins/plugin_utils/schemas/{name}.schema.json), `$id` `{schema['$id']}`.", ""]
    if "$schema" in schema["properties"]:
        lines += ["An editor checks a file against it while you write, when its first line is", ""]
        lines += [f"    # yaml-language-server: $schema=<path to the collection>/plugins/plugin_utils/schemas/{name}.schema.json", ""]
    lines += ["This page is made from the schema by `tools/schema_pages.py`.", ""]
    for place, part in _mappings(schema, schema, ()):
        lines += _section(schema, place, part)
    return "\n".join(lines)


def _mappings(
    schema: Mapping[str, Any], part: Mapping[str, Any], place: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Every mapping with keys of its own, and where it stands."""
    part = _resolved(schema, part)
    properties = {key: value for key, value in part.get("properties", {}).items() if value is not True}
    if properties:
        yield place, part
    for key, value in properties.items():
        yield from _mappings(schema, value, (*place, key))
    for inner, step in _inner(part):
        yield from _mappings(schema, inner, (*place, step) if step else place)


def _inner(part: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str]]:
    if isinstance(part.get("items"), dict):
        yield part["items"], "[]"
    if isinstance(part.get("additionalProperties"), dict):
        yield part["additionalProperties"], "*"
    for key in ("anyOf", "oneOf"):
        for choice in part.get(key, []):
            if choice.get("type") == "object":
                yield choice, ""


def _section(schema: Mapping[str, Any], place: tuple[str, ...], part: Mapping[str, Any]) -> list[str]:
    lines = []
    if place:
        lines += [f"## `{'.'.join(place).replace('.[]', '[]')}`", ""]
        lines += [part["description"], ""] if "description" in part else []
    one_of = [choice["required"][0] for choice in part.get("oneOf", []) if "required" in choice and "type" not in choice]
    if one_of:
        lines += [f"Exactly one of {', '.join(f'`{key}`' for key in one_of)}.", ""]
    given = {
        key: f"`{json.dumps(value['default'])}`" for key, value in part["properties"].items() if value is not True and "default" in value
    }
    head = ["key", "required", "value", *(["default"] if given else []), "meaning"]
    lines += [_row(head), _row(["---"] * len(head))]
    usual, *others = [choice["required"] for choice in part.get("anyOf", []) if "required" in choice and "type" not in choice] or [[]]
    for key, written in part["properties"].items():
        value = {**_resolved(schema, written), **written}
        instead = [f"`{keys[0]}`" for keys in others if key not in keys] if key in usual else []
        required = "yes" if key in part.get("required", []) else f"unless there is {' or '.join(instead)}" if instead else ""
        row = [f"`{key}`", required, _value(schema, value), *([given.get(key, "")] if given else []), value.get("description", "")]
        lines.append(_row(row))
    return [*lines, ""]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _resolved(schema: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in part:
        part = schema["$defs"][part["$ref"].rpartition("/")[2]]
    return part


def _value(schema: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    """What may stand there, in a few words."""
    part = _resolved(schema, part)
    if "const" in part:
        return f"`{json.dumps(part['const'])}`"
    if "enum" in part:
        return ", ".join(f"`{choice if isinstance(choice, str) else json.dumps(choice)}`" for choice in part["enum"])
    choices = [choice for key in ("anyOf", "oneOf") for choice in part.get(key, []) if "type" in choice or "$ref" in choice]
    if choices:
        return " or ".join(dict.fromkeys(_value(schema, choice) for choice in choices))
    kinds = part["type"] if isinstance(part["type"], list) else [part["type"]]
    return " or ".join(_kind(schema, part, kind) for kind in kinds)


def _kind(schema: Mapping[str, Any], part: Mapping[str, Any], kind: str) -> str:
    if kind == "array":
        items = _value(schema, part["items"]) if "items" in part else "anything"
        return f"list of {items}{_between(part, 'minItems', 'maxItems', 'entries')}"
    if kind == "object" and isinstance(part.get("additionalProperties"), dict):
        return f"mapping of names to {_value(schema, part['additionalProperties'])}"
    if kind == "string":
        text = "time with an offset" if part.get("format") == "date-time" else "text"
        return text + _between(part, "minLength", "maxLength", "characters")
    if kind in ("integer", "number"):
        above = f", more than {part['exclusiveMinimum']}" if "exclusiveMinimum" in part else ""
        return _TYPES[kind] + above + _between(part, "minimum", "maximum", "")
    return _TYPES[kind]


def _between(part: Mapping[str, Any], least: str, most: str, unit: str) -> str:
    low, high = part.get(least), part.get(most)
    if low is None and high is None:
        return ""
    if high is None and low == 1 and unit:
        return " (not empty)"
    bounds = f"at most {high}" if low is None else f"at least {low}" if high is None else f"{low} to {high}"
    return f" ({bounds} {unit})" if unit else f" ({bounds})"


def names() -> list[str]:
    """The schemas."""
    return sorted(path.name.removesuffix(".schema.json") for path in SCHEMAS.glob("*.schema.json"))


if __name__ == "__main__":
    PAGES.mkdir(parents=True, exist_ok=True)
    for each in names():
        (PAGES / f"{each}.md").write_text(page(each), encoding="utf-8")
