# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Strict loading of the YAML documents that people write: release.yml, rfc.yml, policy.yml.

Strict about what YAML leaves open (duplicate keys, tags, aliases, several documents), about unknown keys, and complete: every fault
is reported at once, each with its line and a remedy.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from .errors import DocumentError, Problem

with contextlib.suppress(ImportError):
    import jsonschema

Kind = Literal["release", "rfc", "policy"]
Place = tuple[str | int, ...]

_LIMIT = 1 << 20  # bytes; a document that people write is far smaller
_TAG = "tag:yaml.org,2002:"
_SCHEMAS = Path(__file__).parent / "schemas"
_EXPECTED = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}


class _Loader(yaml.SafeLoader):
    """Composes nodes with their lines; an alias could make a small file very large, and nobody needs one here."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.get_mark()
            raise yaml.composer.ComposerError(None, None, "an alias (*) is not allowed", mark)
        return super().compose_node(parent, index)


class Document:
    """A loaded document: its data, and where in the file each part stands. Collects problems until :meth:`finish`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.data: dict[str, Any] = {}
        self._lines: dict[Place, int] = {}
        self._problems: list[tuple[int, Place, Problem]] = []

    def problem(self, place: Place, what: str, remedy: str) -> None:
        """Note a fault at ``place``, or at the nearest part around it that is in the file."""
        line = next((self._lines[place[:depth]] for depth in range(len(place), -1, -1) if place[:depth] in self._lines), 1)
        self._problems.append((line, place, Problem(f"{self.path}:{line}", what, remedy)))

    def is_good(self, *places: Place) -> bool:
        """Whether each place is in the file and no problem was noted there: what may be looked at more closely."""
        wrong = [place for _line, place, _problem in self._problems]
        return all(place in self._lines and not any(bad[: len(place)] == place for bad in wrong) for place in places)

    def finish(self) -> None:
        """Raise :class:`DocumentError` with every problem, in file order, if there is any."""
        if self._problems:
            ordered = sorted(self._problems, key=lambda entry: (entry[0], str(entry[1])))
            raise DocumentError(list(dict.fromkeys(problem for _line, _place, problem in ordered)))

    def build(self, node: yaml.Node, place: Place = ()) -> Any:
        """The data of a YAML node; times stay texts, so that they keep their offset."""
        self._lines.setdefault(place, node.start_mark.line + 1)
        kind = node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.MappingNode) and kind == "map":
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            return [self.build(entry, (*place, index)) for index, entry in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and kind in ("str", "timestamp"):
            return node.value
        if isinstance(node, yaml.ScalarNode) and kind in ("int", "float", "bool", "null"):
            with contextlib.suppress(ValueError, KeyError):
                return getattr(yaml.constructor.SafeConstructor(), f"construct_yaml_{kind}")(node)
        self.problem(place, f"{kind} values are not allowed", "write a plain text, number, list or mapping")
        return None

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.problem(place, "a key is not a plain word", "write keys as plain words")
                continue
            key = key_node.value
            inner = (*place, key)
            if key in data:
                self._lines[inner] = key_node.start_mark.line + 1
                self.problem(inner, f"{key} is given twice", "keep one of them")
                continue
            self._lines[inner] = key_node.start_mark.line + 1
            data[key] = self.build(value_node, inner)
        return data


def load_document(path: str | Path, kind: Kind) -> Document:
    """Load a file as a document of ``kind`` and check it against its JSON Schema.

    Returns it with the schema's findings noted, so that the caller adds its own before :meth:`Document.finish`. Raises
    :class:`DocumentError` at once when it can't be read or is no YAML mapping.
    """
    document = Document(str(path))
    try:
        with Path(path).open("rb") as stream:
            raw = stream.read(_LIMIT + 1)
        if len(raw) > _LIMIT:
            raise DocumentError([Problem(f"{path}:1", f"the file is larger than {_LIMIT >> 10} KiB", f"give the {kind} file")])
        loader = _Loader(raw.decode("utf-8"))
        node = loader.get_single_node()
        data = document.build(node) if node is not None else None
    except OSError as error:
        raise DocumentError([Problem(f"{path}:1", f"it can't be read: {error.strerror}", f"give the {kind} file")]) from error
    except UnicodeDecodeError as error:
        raise DocumentError([Problem(f"{path}:1", "it is not UTF-8 text", "save it as UTF-8")]) from error
    except RecursionError as error:
        raise DocumentError([Problem(f"{path}:1", "it is nested too deeply", f"write it as the {kind} schema says")]) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise DocumentError([Problem(f"{path}:{mark.line + 1 if mark else 1}", f"it is not valid YAML: {what}", "correct it")]) from error
    if not isinstance(data, dict):
        raise DocumentError([Problem(f"{path}:1", "it is not a mapping", f"write it as the {kind} schema says")])
    document.data = data
    for fault in _validator(kind).iter_errors(data):
        _explain(document, fault)
    return document


def parse_time(text: str) -> datetime:
    """An RFC 3339 time; raises :class:`ValueError` when it has no offset or is none."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or len(text) < len("2026-01-01T00:00Z"):
        raise ValueError("no offset")
    return moment


@functools.cache
def _validator(kind: Kind) -> Any:
    checker = jsonschema.FormatChecker(formats=())
    checker.checks("date-time", raises=ValueError)(lambda text: not isinstance(text, str) or bool(parse_time(text)))
    schema = json.loads((_SCHEMAS / f"{kind}.schema.json").read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(schema, format_checker=checker)


def _explain(document: Document, error: Any) -> None:  # noqa: PLR0912 - one branch for each kind of fault
    place: Place = tuple(error.absolute_path)
    name = ".".join(str(part) for part in place) or "the document"
    rule, wanted, value = error.validator, error.validator_value, error.instance
    hint = error.schema.get("description", "").rstrip(".") if isinstance(error.schema, Mapping) else ""
    if rule == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        for key in (key for key in value if key not in known):
            close = difflib.get_close_matches(key, known, 1)
            document.problem(
                (*place, key), f"{key} is not a key of {name}", f"did you mean {close[0]}?" if close else f"known are: {', '.join(known)}"
            )
    elif rule == "required":
        for key in (key for key in wanted if key not in value):
            document.problem(place, f"{key} is missing from {name}", f"add {key}")
    elif rule == "type":
        document.problem(place, f"{name} is {_describe(value)}", _type_remedy(value, wanted if isinstance(wanted, list) else [wanted]))
    elif rule == "format":
        document.problem(place, f"{name} {value!r} is no time with an offset", "write it like 2026-03-01T22:00:00+01:00")
    elif rule in ("enum", "const"):
        choices = wanted if rule == "enum" else [wanted]
        document.problem(place, f"{name} is {_describe(value)}", f"it has to be one of: {', '.join(str(choice) for choice in choices)}")
    elif rule == "oneOf" and isinstance(value, dict):
        keys = [part["required"][0] for part in wanted]
        document.problem(place, f"{name} has not exactly one of {', '.join(keys)}", "give one of them")
    elif rule == "oneOf":
        document.problem(place, f"{name} is {_describe(value)}", hint or "see the schema")
    elif error.parent is None and "propertyNames" in error.absolute_schema_path:
        document.problem(
            (*place, value), f"{value} can't be the name of a setting", "use lower case letters, digits and _, not a reserved word"
        )
    elif rule == "pattern":
        document.problem(place, f"{name} is {value!r}", f"it has to match {wanted}" + (f": {hint}" if hint else ""))
    elif rule in ("minItems", "minLength"):
        document.problem(place, f"{name} is empty", hint or "give at least one")
    else:
        document.problem(place, f"{name} is {_describe(value)}", f"{rule} is {wanted}")


def _describe(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "empty"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return f"the number {value}" if isinstance(value, int | float) else repr(value)


def _type_remedy(value: object, wanted: Iterable[str]) -> str:
    expected = " or ".join(_EXPECTED[kind] for kind in wanted)
    if "string" in wanted and isinstance(value, bool | int | float):
        return f'it has to be {expected}: put it in quotes, "{_describe(value).removeprefix("the number ")}"'
    return f"it has to be {expected}"
