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
import hashlib
import json
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from ..module_utils.endpoint import PLACEHOLDER, EndpointError, read_host, read_port, read_url
from .errors import DocumentError, Problem

Kind = Literal["release", "rfc", "policy", "model"]
Place = tuple[str | int, ...]

_LIMIT = 256 << 10  # bytes; a document that people write is far smaller
_PARTS = 10_000  # keys and values; keeps the time to check a hostile file in bounds
_TAG = "tag:yaml.org,2002:"
_SCHEMAS = Path(__file__).parent / "schemas"
_TITLES = {"release": "the manifest", "rfc": "the RFC", "policy": "the policy", "model": "the model"}
_EXPECTED = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}
_ALIAS = "an alias (*) is not allowed"
# What PyYAML says, in the words of somebody who writes a document.
_SYNTAX = {
    _ALIAS: (_ALIAS, "write the value out"),
    "but found another document": ("a second document begins here", "give each document a file of its own"),
    "found character '\\t' that cannot start any token": ("it is indented with a tab", "indent with spaces"),
}
_QUOTE = "correct it; a text that begins with a special sign, or has a colon and a space or a # in it, has to be in quotes"
# YAML 1.1 reads 0777 as octal, 12:30 as 750 and 1_0 as 10; nobody who writes that means it.
_NUMBER = {"int": re.compile(r"[-+]?(0|[1-9][0-9]{0,17})"), "float": re.compile(r"[-+]?(0|[1-9][0-9]{0,17})\.[0-9]{1,17}")}
_SCALARS: Mapping[str, Callable[[str], Any]] = {
    "str": str,
    "timestamp": str,  # so that it keeps its offset
    "int": int,
    "float": float,
    "bool": lambda text: yaml.SafeLoader.bool_values[text.lower()],
    "null": lambda text: {"": None, "~": None, "null": None}[text.lower()],
}
# Escapes can smuggle in what ends up on terminals, in file names and in environments.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?([Zz]|[-+][0-9]{2}:[0-9]{2})", re.ASCII)


class _Loader(yaml.SafeLoader):
    """Composes nodes with their lines; an alias could make a small file very large, and nobody needs one here."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # it has no types
            raise yaml.composer.ComposerError(None, None, _ALIAS, mark)
        return super().compose_node(parent, index)


class Document:
    """A loaded document: its data, and where in the file each part stands. Collects problems until :meth:`finish`.

    ``path`` is what messages call the file, ``sha256`` is of its bytes, in hexadecimal. Made from ``data`` that has no file, every part
    is on line 1, and ``sha256`` is empty.
    """

    def __init__(self, path: str, data: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.sha256 = ""
        self.data: dict[str, Any] = dict(data or {})
        self._lines: dict[Place, int] = {} if data is None else dict.fromkeys(_places(data), 1)
        self._written: dict[Place, str] = {}
        self._unread: set[Place] = set()
        self._problems: list[tuple[int, Place, Problem]] = []
        self._bad: set[Place] = set()  # the places of the problems, and all places around them

    def problem(self, place: Place, what: str, remedy: str) -> None:
        """Note a fault at ``place``, or at the nearest part around it that is in the file."""
        line = next((self._lines[place[:depth]] for depth in range(len(place), -1, -1) if place[:depth] in self._lines), 1)
        self._problems.append((line, place, Problem(f"{self.path}:{line}", what, remedy)))
        self._bad.update(place[:depth] for depth in range(len(place) + 1))

    def is_good(self, *places: Place) -> bool:
        """Whether each place is in the file and no problem was noted there: what may be looked at more closely."""
        return all(place in self._lines and place not in self._bad for place in places)

    def finish(self) -> None:
        """Raise :class:`DocumentError` with every problem, in file order, if there is any."""
        if self._problems:
            ordered = sorted(self._problems, key=lambda entry: (entry[0], str(entry[1])))
            raise DocumentError(list(dict.fromkeys(problem for _line, _place, problem in ordered)))

    def read(self, node: yaml.Node) -> None:
        """Take the data of a YAML document."""
        data = self._build(node, ())
        if not isinstance(data, dict):
            self.problem((), "it is not a mapping", "write keys and values, one a line, as in name: value")
            self.finish()
        self.data = data

    def check(self, kind: Kind) -> None:
        """Note everything that the JSON Schema of ``kind`` finds wrong."""
        for fault in _validator(kind).iter_errors(self.data):
            if tuple(fault.absolute_path) not in self._unread:
                _explain(self, fault, _TITLES[kind])

    def written(self, place: Place, value: object) -> str:
        """The words in the file for a plain value, which may have lost its zeros and its spelling when it was read."""
        return self._written.get(place, str(value))

    def _build(self, node: yaml.Node, place: Place) -> Any:
        self._lines.setdefault(place, node.start_mark.line + 1)
        if len(self._lines) > _PARTS:
            self.problem((), f"it has more than {_PARTS} keys and values", "leave out what does not belong there")
            self.finish()
        kind = node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.MappingNode) and kind == "map":
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            return [self._build(entry, (*place, index)) for index, entry in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(kind, node.value, place)
        return self._unreadable(place, f"{_word(kind)} values are not allowed", "write a plain text, number, list or mapping")

    def _scalar(self, kind: str, text: str, place: Place) -> Any:
        self._written[place] = text
        if _UNPRINTABLE.search(text):
            return self._unreadable(place, f"{_word(text)} has a control character", "leave it out")
        if kind in _NUMBER and not _NUMBER[kind].fullmatch(text):
            remedy = "write its digits, or quote it as a text"
            return self._unreadable(place, f"{_word(text)} is a number that is easily misread", remedy)
        with contextlib.suppress(KeyError):
            return _SCALARS[kind](text)
        return self._unreadable(place, f"{_word(kind)} values are not allowed", "write a plain text, number, list or mapping")

    def _unreadable(self, place: Place, what: str, remedy: str) -> None:
        self._unread.add(place)
        self.problem(place, what, remedy)

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or not key_node.tag.startswith(_TAG) or _UNPRINTABLE.search(key_node.value):
                line = key_node.start_mark.line + 1
                self._lines[*place, f"the key in line {line}"] = line
                self.problem((*place, f"the key in line {line}"), "a key is not a plain word", "write keys as plain words")
                continue
            key = key_node.value
            inner = (*place, key)
            again = inner in self._lines
            self._lines[inner] = key_node.start_mark.line + 1
            if again:
                self.problem(inner, f"{_word(key)} is given twice", "keep one of them")
            else:
                data[key] = self._build(value_node, inner)
        return data


def check_placeholders(document: Document, place: Place, text: str, known: Collection[str], remedy: str) -> None:
    """Note every ``${name}`` in a text that is not ``known``, with ``remedy`` unless one of these was meant.

    In commands other ``${`` are a shell's business.
    """
    if "command" not in place and "${" in PLACEHOLDER.sub("", text):
        document.problem(place, f"{'.'.join(map(str, place))} has a ${{ that names no setting", "write it like ${port}")
    for name in dict.fromkeys(PLACEHOLDER.findall(text)):
        if name not in known:
            close = difflib.get_close_matches(name, known, 1, 0.6)
            advice = f"did you mean ${{{close[0]}}}?" if close else remedy
            shell = f", or write ${name} where a shell is meant" if "command" in place else ""
            document.problem(place, f"${{{name}}} stands for nothing", advice + shell)


def check_endpoint(document: Document, place: Place, text: str) -> None:
    """Note a problem unless ``text``, at ``place`` in a check, is a URL, a host or a port that can be connected to."""
    readers: dict[str, Callable[[str], object]] = {"url": read_url, "host": read_host, "port": read_port}
    try:
        readers[str(place[-1])](text)
    except EndpointError as error:
        document.problem(place, f"{'.'.join(map(str, place))} can't be used: {error}", "write it like http://host:8080/path, host or 8080")


def load_document(path: str | Path, kind: Kind) -> Document:
    """Load a file as a document of ``kind`` and check it against its JSON Schema.

    Returns it with the schema's findings noted, so that the caller adds its own before :meth:`Document.finish`. Raises
    :class:`DocumentError` at once when it can't be read or is no YAML mapping.
    """
    document = Document(str(path))

    def refuse(what: str, remedy: str, line: int = 1) -> DocumentError:
        return DocumentError([Problem(f"{path}:{line}", what, remedy)])

    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):  # opening a pipe would wait for a writer
            raise refuse("it is not a file", f"give the file of {_TITLES[kind]}")
        with Path(path).open("rb") as stream:
            raw = stream.read(_LIMIT + 1)
        if len(raw) > _LIMIT:
            raise refuse(f"the file is larger than {_LIMIT >> 10} KiB", f"give the file of {_TITLES[kind]}")
        document.sha256 = hashlib.sha256(raw).hexdigest()
        node = _Loader(raw.decode("utf-8-sig")).get_single_node()
        if node is None:
            raise refuse("it is empty", f"give the file of {_TITLES[kind]}")
        document.read(node)
        document.check(kind)
    except OSError as error:
        raise refuse(f"it can't be read: {error.strerror}", f"give the file of {_TITLES[kind]}") from error
    except UnicodeDecodeError as error:
        raise refuse("it is not UTF-8 text", "save it as UTF-8", raw.count(b"\n", 0, error.start) + 1) from error
    except RecursionError as error:
        raise refuse("it is nested too deeply", "leave out what does not belong there") from error
    except yaml.reader.ReaderError as error:
        line = raw.decode("utf-8-sig").count("\n", 0, error.position) + 1
        raise refuse(f"it has the character U+{error.character:04X} in it", "leave it out", line) from error
    except yaml.MarkedYAMLError as error:
        mark, problem = error.problem_mark or error.context_mark, error.problem or error.context or "it can't be parsed"
        what, remedy = _SYNTAX.get(problem, (f"it is not valid YAML: {problem}", _QUOTE))
        raise refuse(what, remedy, mark.line + 1 if mark else 1) from error
    except (ValueError, OverflowError) as error:  # an escape beyond Unicode, a path with a NUL
        raise refuse("it can't be read as YAML", "look for a wrong escape such as \\U in a quoted text, or in the file's name") from error
    return document


def parse_time(text: str) -> datetime:
    """An RFC 3339 time; raises :class:`ValueError` when it has no offset or is none."""
    if not _TIME.fullmatch(text):
        raise ValueError("not RFC 3339 with an offset")
    moment = datetime.fromisoformat(text.upper())
    try:
        moment.astimezone(UTC)
    except OverflowError as error:  # the year 1 or 9999, which has no UTC
        raise ValueError("outside the calendar") from error
    return moment


@functools.cache
def _validator(kind: Kind) -> Any:
    import jsonschema  # noqa: PLC0415 - slow to import, and each fork that stages a package loads this module

    def pattern(_validator: Any, wanted: str, value: object, schema: Mapping[str, Any]) -> Iterator[Any]:
        if value == "" and schema.get("minLength"):
            return  # that it is empty is said by that rule
        # Python's $ also matches before a last line break, ECMAScript's does not.
        if isinstance(value, str) and not re.search(re.sub(r"\$$", r"\\Z", wanted), value, re.ASCII):
            yield jsonschema.ValidationError(f"{value!r} does not match {wanted}")

    def unique(_validator: Any, _wanted: bool, value: object, _schema: object) -> Iterator[Any]:
        # Of a list that mixes types jsonschema compares every pair.
        texts = [entry for entry in value if isinstance(entry, str)] if isinstance(value, list) else []
        if len(set(texts)) < len(texts):
            yield jsonschema.ValidationError("not unique")

    draft = jsonschema.Draft202012Validator
    integers = draft.TYPE_CHECKER.redefine("integer", lambda _checker, value: isinstance(value, int) and not isinstance(value, bool))
    checker = jsonschema.FormatChecker(formats=())
    checker.checks("date-time", raises=ValueError)(lambda text: not isinstance(text, str) or bool(parse_time(text)))
    schema = json.loads((_SCHEMAS / f"{kind}.schema.json").read_text(encoding="utf-8"))
    keywords = {"pattern": pattern, "uniqueItems": unique}
    strict = jsonschema.validators.extend(draft, keywords, type_checker=integers)  # type: ignore[no-untyped-call]  # it has no types
    return strict(schema, format_checker=checker)


def _explain(document: Document, error: Any, title: str) -> None:
    """Note a schema's finding in a person's words."""
    place: Place = tuple(error.absolute_path)
    name = ".".join(_word(str(part)) for part in place) or title
    (rule, wanted), value = _broken_rule(error), error.instance
    hint = _hint(error.schema)
    expected = f"expected is {hint if hint[1:2].isupper() else hint[:1].lower() + hint[1:]}" if hint else ""
    found = f"{name} is {_describe(value, document.written(place, value))}"
    if rule == "additionalProperties":
        _explain_unknown(document, place, name, list(error.schema["properties"]), value)
    elif rule == "required":
        # One that is only mistyped is said to be so.
        mistyped = {close for key in value if key not in error.schema["properties"] for close in _close(key, error.schema["properties"])}
        meant = any(set(part["required"]) <= {*value, *mistyped} for part in error.validator_value) if error.validator == "anyOf" else False
        for key in (key for key in wanted if key not in value and key not in mistyped and not meant):
            meaning = _hint(error.schema.get("properties", {}).get(key))
            document.problem(place, f"{key} is missing from {name}", f"add {key}" + (f": {meaning}" if meaning else ""))
    elif "propertyNames" in error.absolute_schema_path:
        document.problem((*place, value), f"{_word(value)} can't be a key of {name}", expected)
    elif rule == "oneOf" and all("required" in part for part in wanted):
        keys = ", ".join(part["required"][0] for part in wanted)
        if isinstance(value, dict):  # the type is reported by its own rule
            document.problem(place, f"{name} has not exactly one of {keys}", "give one of them")
    elif rule in ("type", "anyOf"):
        _explain_type(document, error, title, found)
    elif rule == "format":
        document.problem(place, f"{name} is no time with an offset: {_describe(value, str(value))}", _TIME_REMEDY)
    elif rule in ("enum", "const"):
        known = wanted if rule == "enum" else [wanted]
        choices = ", ".join(choice if isinstance(choice, str) else json.dumps(choice) for choice in known)
        meaning = f" ({hint})" if hint and not any(character.islower() for character in choices) else ""
        document.problem(place, found, f"it has to be {'one of ' if ',' in choices else ''}{choices}{meaning}")
    elif rule in ("minItems", "minLength"):
        document.problem(place, f"{name} is empty", expected or "give at least one")
    elif rule == "uniqueItems":
        document.problem(place, f"{name} lists something twice", "list each once")
    else:
        document.problem(place, found, _LIMITS[rule].format(wanted) if rule in _LIMITS else expected or f"its {rule} is {wanted}")


def _broken_rule(error: Any) -> tuple[str, Any]:
    """The keyword that is not met, and what it wants. Of several sets of keys, one of which has to be there, that is the one for what the
    document says that it is, or else the usual one."""
    rule, wanted = error.validator, error.validator_value
    if rule == "anyOf" and all("required" in part for part in wanted):
        constants = [
            {key: value["const"] for key, value in part.get("properties", {}).items() if isinstance(value, Mapping) and "const" in value}
            for part in wanted
        ]
        said = [part for part, own in zip(wanted, constants, strict=True) if own and own.items() <= error.instance.items()]
        return "required", (said or wanted)[0]["required"]
    return rule, wanted


def _explain_type(document: Document, error: Any, title: str, found: str) -> None:
    """Note that a value is of a wrong type; where there is a schema for each type, what that of its own has against it."""
    place: Place = tuple(error.absolute_path)
    wanted, value = error.validator_value, error.instance
    if error.validator == "anyOf":
        of_another_type = {part.schema_path[0] for part in error.context if part.validator == "type" and not part.path}
        faults = [part for part in error.context if part.schema_path[0] not in of_another_type]
        for part in faults:
            _explain(document, part, title)
        if faults:
            return
        wanted = [part["type"] for part in wanted]
    kinds = wanted if isinstance(wanted, list) else [wanted]
    remedy = _TIME_REMEDY if "format" in error.schema else _type_remedy(value, kinds, document.written(place, value))
    document.problem(place, found, remedy)


_TIME_REMEDY = "write it like 2026-03-01T22:00:00+01:00"
_LIMITS = {
    "minimum": "it has to be {} or more",
    "exclusiveMinimum": "it has to be more than {}",
    "maximum": "it has to be {} or less",
    "maxLength": "make it {} characters or less",
    "maxItems": "list {} or less",
}


def _explain_unknown(document: Document, place: Place, name: str, known: list[str], value: Mapping[str, Any]) -> None:
    for key in (str(key) for key in value if key not in known):
        close = _close(key, known)
        others = [one for one in known if one not in value]
        remedy = f"did you mean {close[0]}?" if close else f"what it may have besides: {', '.join(others)}" if others else "leave it out"
        document.problem((*place, key), f"{_word(key)} is not a key of {name}", remedy)


def _close(key: object, known: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(str(key)[:64], list(known), 1, 0.7)


def _hint(schema: object) -> str:
    return str(schema.get("description", "")).rstrip(".") if isinstance(schema, Mapping) else ""


def _places(data: object, place: Place = ()) -> Iterator[Place]:
    yield place
    parts: Iterable[tuple[str | int, Any]] = ()
    if isinstance(data, Mapping):
        parts = data.items()
    elif isinstance(data, list):
        parts = enumerate(data)
    for key, value in parts:
        yield from _places(value, (*place, key))


def _word(text: str) -> str:
    """A word of the file as it can be shown: on one line, and not too long."""
    if re.fullmatch(r"[\w.<$-]{1,64}", text):
        return text
    return ascii(text) if len(text) <= 64 else f"{text[:60]!a}..."


def _describe(value: object, written: str) -> str:
    if value is None:
        return "empty"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return repr(value) if len(value) <= 80 else f"{value[:76]!r}..."
    return written if isinstance(value, bool) else f"the number {written}"


def _type_remedy(value: object, wanted: Iterable[str], written: str) -> str:
    expected = " or ".join(_EXPECTED[kind] for kind in wanted)
    if "string" in wanted and isinstance(value, bool | int | float):
        return f'it has to be {expected}: quote it, "{written}"'
    return f"it has to be {expected}"
