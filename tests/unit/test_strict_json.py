# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON that decides something is read in one way or not at all, on the controller and on the host."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils.release_record import read_json as read_on_host
from ansible_collections.tidegate.release.plugins.module_utils.release_record import strict_json
from ansible_collections.tidegate.release.plugins.plugin_utils.dsl.descriptors import parse_json
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import IntegrityError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.evidence.statement import strict_json as read_statement
from ansible_collections.tidegate.release.plugins.plugin_utils.intake.sbom import check
from ansible_collections.tidegate.release.plugins.plugin_utils.strict_json import DEEPEST, read_json, read_object
from ansible_collections.tidegate.release.plugins.plugin_utils.verification.outcome import read_tests
from hypothesis import given
from hypothesis import strategies as st

TWICE = b'{"a": {"b": 1, "c": 2, "b": 1}}'
DEEP = b'{"a": ' * 50_000 + b"1" + b"}" * 50_000

AMBIGUOUS = {
    "has the key 'b' twice": TWICE,
    r"has the key '\xe9' twice": b'{"\xc3\xa9": 1, "\\u00e9": 2}',
    "has NaN, which is no JSON": b'{"a": NaN}',
    "has -Infinity, which is no JSON": b'{"a": [-Infinity]}',
    "has the number 1e999, which is too large": b'{"a": 1e999}',
    "has the number 9223372036854775808, which is too large": b'{"a": 9223372036854775808}',
    "has the number 999999999999999999999999999999, which is too large": b'{"a": ' + b"9" * 100_000 + b"}",
    "has half a character": b'{"a": ["\\uD83d"]}',
    f"has more than {DEEPEST} lists and objects in one another": DEEP,
    "is not JSON in UTF-8": '{"a": 1}'.encode("utf-16"),
    "is not a JSON object": b"[1]",
}


@pytest.mark.parametrize("what", AMBIGUOUS)
def test_what_two_readers_could_take_for_two_things_is_refused(what: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        read_object(AMBIGUOUS[what], "the index")
    assert str(caught.value) == f"the index {what}"


_NO_JSON = [b'{"a": "', b"", b"\xef\xbb\xbf{}", b"{'a': 1}", b'{"a": 1}x', b'{"a": 01}', b'{"a": "\xff"}', b'{"a": "\x01"}']


@pytest.mark.parametrize("content", _NO_JSON)
def test_what_is_no_json_is_refused(content: bytes) -> None:
    with pytest.raises(IntegrityError, match="the index is not JSON in UTF-8"):
        read_json(content, "the index")


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_one_level_too_many_is_refused_and_one_less_is_read(opening: bytes) -> None:
    closing = opening.replace(b'"a":', b"").translate(bytes.maketrans(b"[{", b"]}"))[::-1]
    levels = len(closing)
    read_json(opening * (DEEPEST // levels) + b"1" + closing * (DEEPEST // levels), "the index")
    with pytest.raises(IntegrityError, match="in one another"):
        read_json(b"[" + opening * (DEEPEST // levels) + b"1" + closing * (DEEPEST // levels) + b"]", "the index")


def test_what_is_plain_is_read_as_it_is() -> None:
    plain: dict[str, Any] = {
        "a": [1, -9223372036854775807, 1.5, True, None, "\U0001f600"],
        "b": [{} for _each in range(500)],
        "\u00e9": {"a": 1},
    }
    assert read_object(json.dumps(plain), "it") == read_object(json.dumps(plain, ensure_ascii=False), "it") == plain


_TEXTS = st.sampled_from(["a", "b", "\u00e9", '"', '":', ' "a" :', "\\", "{", "1"])
_SPACES = st.sampled_from(["", "", " ", "\n"])


@st.composite
def _written(draw: st.DrawFn, depth: int = 2) -> str:
    """A JSON value as text, which may have keys twice, spaces anywhere, and texts that look like keys."""
    kind = draw(st.integers(0, 3 if depth else 1))
    if kind == 0:
        return json.dumps(draw(_TEXTS), ensure_ascii=draw(st.booleans()))
    if kind == 1:
        return "1"
    parts = draw(st.lists(_written(depth - 1), max_size=3))
    if kind == 2:
        return f"[{','.join(parts)}]"
    keys = [json.dumps(draw(_TEXTS), ensure_ascii=draw(st.booleans())) for _each in parts]
    return "{" + ",".join(f"{draw(_SPACES)}{key}{draw(_SPACES)}:{part}" for key, part in zip(keys, parts, strict=True)) + "}"


@given(_written())
def test_a_key_is_there_twice_for_us_when_it_is_for_a_reader_of_pairs(text: str) -> None:
    twice = False

    def pairs_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal twice
        twice = twice or len(dict(pairs)) < len(pairs)
        return dict(pairs)

    wanted = json.loads(text, object_pairs_hook=pairs_of)
    if twice:
        with pytest.raises(IntegrityError, match="twice"):
            read_json(text, "it")
    else:
        assert read_json(text, "it") == wanted


@pytest.mark.parametrize("content", [TWICE, DEEP, b'{"a": NaN}'])
def test_every_reader_refuses_it(content: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"the manifest has .*; restore it"):
        parse_json(content, "the manifest")
    with pytest.raises(IntegrityError, match="the envelope has"):
        read_statement(content, "the envelope")
    with pytest.raises(TidegateError, match=r"bom\.json has"):
        check(content, "bom.json")
    with pytest.raises((ValueError, RecursionError)):
        strict_json(content)
    assert read_on_host(content) is None
    assert read_tests(content.decode()).cut_short
