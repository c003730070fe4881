# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Of what a host answers only what has the agreed form is believed."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from ansible_collections.tidegate.release.plugins.module_utils.redaction import Redactor
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout import host_answer as subject
from ansible_collections.tidegate.release.plugins.plugin_utils.rollout.host_answer import (
    REFUSED,
    STATES,
    MalformedAnswerError,
    parse_answer,
    parse_host_facts,
    printable,
)
from hypothesis import given
from hypothesis import strategies as st

DIGEST = "sha256:" + "a" * 64
STAGED = {"state": "staged", "changed": True, "clock": 1.8e9, "live": {"version": "1.0", "digest": DIGEST}, "sent": 3, "reused": 2}
LACKING = {**STAGED, "state": "lacking", "need": ["b" * 64]}
STARTED = {"state": "started", "changed": True, "clock": 1.8e9, "version": "2.0"}
ACTIVE = {**STARTED, "state": "active", "changed": False}
ASKING = {"state": "lacking", "changed": False, "clock": 1.8e9, "package": DIGEST, "need": []}
BACK = {"state": "backed_out", "changed": True, "clock": 1.8e9, "version": None}
ADOPTED = {"state": "adopted", "changed": True, "clock": 1.8e9, "version": "1.0"}
QUIET = {"state": "quiet", "detail": "", "clock": 5.0}
SOUND = {
    "stage": [STAGED, LACKING],
    "activate": [STARTED, ASKING],
    "confirm": [ACTIVE, ASKING],
    "backout": [BACK, ASKING],
    "wait": [QUIET],
    "arm": [{"state": "armed", "changed": False, "clock": 5.0, "version": "1.0"}],
    "arm_back": [{"state": "armed", "changed": False, "clock": 5.0, "version": "1.0", "took": 0.1}, ASKING],
    "tell": [{"state": "told", "changed": True, "clock": 5.0, "version": None}],
    "collect": [STARTED],
    "clock": [{"state": "clock", "clock": 5.0, "synchronised": True, "error": 0.01}],
    "adopt": [ADOPTED],
    "read": [{"state": "read", "clock": 5.0, "read": {"text": "1.0", "digest": ""}}],
    "baseline": [{"state": "baseline", "changed": True, "clock": 5.0, "version": "1.0"}],
}
MORE = {
    "detail": "",
    "need": [],
    "repaired": [],
    "damaged": False,
    "unconfirmed": False,
    "synchronised": False,
    "error": 0.0,
    "took": 0.0,
    "reason": "",
    "read": None,
}
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


def test_a_list_without_end_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_MOST", 2)
    assert parse_answer("stage", {**LACKING, "need": ["b" * 64] * 2})["need"] == ["b" * 64] * 2
    with pytest.raises(MalformedAnswerError):
        parse_answer("stage", {**LACKING, "need": ["b" * 64] * 3})


@pytest.mark.parametrize("operation", ["activate", "confirm", "backout", "read"])
def test_what_was_read_is_short_and_printable_and_names_a_release_or_none(operation: str) -> None:
    sound = SOUND[operation][0]
    said = {"text": "1.0", "digest": DIGEST, "more": 1}
    assert parse_answer(operation, {**sound, "read": said})["read"] == {"text": "1.0", "digest": DIGEST}
    read = parse_answer(operation, {**sound, "read": {"text": "\x1b[2J" + "x" * 500}})["read"]
    assert read is not None
    assert (read["text"][:5], len(read["text"]), read["digest"]) == ("?[2Jx", 200, "")
    for odd in ("1.0", {"text": 1}, {"text": None}, {"digest": DIGEST}, {"text": "1", "digest": "sha256:1"}, {"text": "1", "digest": 1}):
        with pytest.raises(MalformedAnswerError):
            parse_answer(operation, {**sound, "read": odd})


def test_what_was_read_has_no_setting_in_it() -> None:
    secret = Redactor({"token": "horse-battery-9"})
    answer = parse_answer("backout", {**BACK, "read": {"text": "it is horse-battery-9", "digest": ""}}, secret)
    assert "horse" not in str(answer)


def test_a_sound_answer_is_read_as_it_is_and_what_nobody_expects_is_left_out() -> None:
    assert parse_answer("stage", {**STAGED, "invocation": {}, "warnings": ["x"]}) == {
        **STAGED,
        "detail": "",
        "need": [],
        "mirror": {"bytes": 0},
        "unkept": "",
    }
    assert parse_answer("stage", {**STAGED, "unkept": "no room"})["unkept"] == "no room"
    assert parse_answer("stage", LACKING)["need"] == ["b" * 64]
    assert parse_answer("activate", STARTED) == {**STARTED, **MORE}
    assert parse_answer("confirm", ACTIVE) == {**ACTIVE, **MORE}
    assert parse_answer("backout", BACK) == {**BACK, **MORE}
    assert parse_answer("adopt", ADOPTED) == {**ADOPTED, **MORE}
    assert parse_answer("backout", ASKING) == {**ASKING, "detail": ""}
    damaged = {**STARTED, "state": "stuck", "detail": "gone", "damaged": True, "reason": "why", "repaired": ["a"]}
    assert parse_answer("activate", damaged) == {**MORE, **damaged}


def test_a_host_that_refuses_has_touched_nothing_and_a_host_that_broke_off_is_not_known() -> None:
    assert parse_answer("activate", {"failed": True, "state": REFUSED, "msg": "no room"})["detail"] == "no room"
    for answer in (
        {"failed": True, "msg": "Traceback"},
        {"failed": True},
        {"failed": "yes"},
        {**STARTED, "failed": True},
        {**STARTED, "failed": 1},
    ):
        with pytest.raises(MalformedAnswerError, match="broke off"):
            parse_answer("activate", answer)


@pytest.mark.parametrize(
    ("operation", "change", "says"),
    [
        ("stage", {"clock": float("nan")}, "nan, which is not a clock's time"),
        ("stage", {"clock": float("inf")}, "inf, which is not a clock's time"),
        ("stage", {"clock": None}, "nothing, which is not a clock's time"),
        ("stage", {"clock": True}, "True, which is not a clock's time"),
        ("stage", {"clock": "12"}, "'12', which is not a clock's time"),
        ("stage", {"clock": 10**400}, "a huge number, which is not a clock's time"),
        ("stage", {"clock": -1}, "-1, which is not a clock's time"),
        ("stage", {"state": "whatever"}, "'whatever', which is no state after stage"),
        ("stage", {"state": "active"}, "'active', which is no state after stage"),
        ("stage", {"state": ["staged"]}, "a list, which is not a state"),
        ("stage", {"state": None}, "nothing, which is not a state"),
        ("stage", {"state": {}}, "an object, which is not a state"),
        ("stage", {"live": []}, "a list, which is not a release"),
        ("stage", {"live": {"version": "1.0\n", "digest": DIGEST}}, "which is not a version"),
        ("stage", {"live": {"version": "1.0"}}, "nothing, which is not a digest"),
        ("stage", {"live": {"version": "1.0", "digest": ["x"]}}, "a list, which is not a digest"),
        ("stage", {"live": {"version": "{{ lookup('pipe', 'id') }}", "digest": DIGEST}}, "which is not a version"),
        ("stage", {"need": ["b" * 64]}, "staged with 1 pieces"),
        ("stage", {"state": "lacking", "need": []}, "lacking with 0 pieces"),
        ("stage", {"state": "lacking", "need": ["../../etc/passwd"]}, "which is not a sha256"),
        ("stage", {"state": "lacking", "need": [["b" * 64]]}, "a list, which is not a sha256"),
        ("stage", {"state": "lacking", "need": "b" * 64}, "which is not a list of what it lacks"),
        ("stage", {"sent": True}, "True, which is not a count"),
        ("stage", {"sent": 1.5}, "1.5, which is not a count"),
        ("stage", {"reused": 10**400}, "a huge number, which is not a count"),
        ("stage", {"changed": "no"}, "'no', which is not a yes or no"),
        ("stage", {"changed": []}, "a list, which is not a yes or no"),
        ("stage", {"mirror": "all"}, "'all', which is not what came from a mirror"),
        ("activate", {"version": 2.0}, "2.0, which is not a version"),
        ("activate", {"detail": ["why"]}, "a list, which is not a detail"),
        ("activate", {"state": "staged"}, "no state after activate"),
        ("activate", {"state": "active"}, "no state after activate"),
        ("confirm", {"state": "started"}, "no state after confirm"),
        ("activate", {"state": "lacking", "package": "hello"}, "which is not the digest of a package"),
        ("activate", {"state": "lacking"}, "nothing, which is not the digest of a package"),
        ("backout", {"repaired": "all"}, "'all', which is not a list of files"),
        ("backout", {"damaged": 1}, "1, which is not a yes or no"),
        ("confirm", {"unconfirmed": 1}, "1, which is not a yes or no"),
        ("backout", {"reason": []}, "a list, which is not a reason"),
        ("activate", {"state": "backed_out"}, "no state after activate"),
        ("backout", {"state": "active"}, "no state after backout"),
    ],
)
def test_anything_else_is_the_hosts_own_failure_and_named(operation: str, change: dict[str, Any], says: str) -> None:
    with pytest.raises(MalformedAnswerError) as caught:
        parse_answer(operation, {**SOUND[operation][0], **change})
    assert says in str(caught.value)
    assert "run this again" in str(caught.value)


def test_a_text_is_made_printable_and_short() -> None:
    detail = parse_answer("activate", {**STARTED, "state": "failed", "detail": "\x1b[2Jred\u202e\ud800 {{ 1 + 1 }}" + "x" * 10_000})[
        "detail"
    ]
    assert detail.startswith("?[2Jred?? {{ 1 + 1 }}xxx")
    assert len(detail) == 4000
    assert printable("two\nlines") == "two\nlines"
    assert parse_answer("backout", {**BACK, "state": "owed"})["detail"] == "it does not say why"


@given(
    operation=st.sampled_from(sorted(STATES)),
    answer=ODD | st.dictionaries(st.sampled_from([*STAGED, *LACKING, "failed", "msg", "version", "mirror"]), ODD),
)
def test_any_answer_is_read_or_refused(operation: str, answer: Any) -> None:
    _reads_or_refuses(operation, answer)


@given(data=st.data(), operation=st.sampled_from(sorted(STATES)))
def test_any_change_of_a_sound_answer_is_read_or_refused(data: st.DataObject, operation: str) -> None:
    answer = dict(data.draw(st.sampled_from(SOUND[operation])))
    key = data.draw(st.sampled_from(sorted(answer)))
    answer[key] = data.draw(ODD)
    _reads_or_refuses(operation, answer)


def _reads_or_refuses(operation: str, answer: Any) -> None:
    try:
        parsed = parse_answer(operation, answer)
    except MalformedAnswerError as error:
        problem = str(error)
    else:
        problem = ""
    if problem:
        assert len(problem) < 500
        assert problem.isprintable()
        return
    assert parsed["state"] in STATES[operation] | {REFUSED}
    assert json.loads(json.dumps(parsed, allow_nan=False)) == parsed  # what the database is to take
    json.dumps(parsed, ensure_ascii=False).encode()


@given(found=ODD | st.dictionaries(st.sampled_from(["os", "python", "packages"]), ODD))
def test_any_facts_are_read_or_refused(found: Any) -> None:
    with contextlib.suppress(MalformedAnswerError):
        json.dumps(parse_host_facts(found), allow_nan=False, ensure_ascii=False).encode()


def test_facts_about_a_host_are_read_or_refused() -> None:
    facts = {"os": {"id": "debian", "version": "12", "architecture": "x86_64"}, "python": "3.11.2", "packages": {"openssl:amd64": "3.0"}}
    assert parse_host_facts({**facts, "changed": False}) == facts
    assert parse_host_facts({**facts, "os": None, "packages": None})["os"] is None
    for odd in (
        None,
        [],
        {**facts, "python": 3.11},
        {**facts, "os": "debian"},
        {**facts, "packages": ["x"]},
        {**facts, "packages": {"x": 1}},
    ):
        with pytest.raises(MalformedAnswerError):
            parse_host_facts(odd)


SECRET = "canary-" + "7f3a9b1c" * 20


@pytest.mark.parametrize(
    ("operation", "fields"),
    [
        ("activate", {"state": "failed", "detail": f"it said {SECRET}"}),
        ("activate", {"state": "stuck", "detail": "x" * 3950 + SECRET, "reason": SECRET, "damaged": True}),
        ("activate", {"state": "refused", "failed": True, "msg": SECRET}),
        ("activate", {"failed": True, "msg": SECRET}),
        ("activate", {"state": SECRET}),
        ("activate", {"state": "started", "version": SECRET}),
        ("activate", {"state": "started", "version": "1.0", "clock": SECRET}),
        ("stage", {"state": "staged", "live": {"version": f"!{SECRET}", "digest": "x"}}),
        ("stage", {"state": "lacking", "need": [SECRET]}),
        ("stage", {"state": "staged", "mirror": {"bytes": 1, "problem": SECRET}}),
    ],
)
def test_no_sentence_of_an_answer_repeats_a_setting(operation: str, fields: dict[str, Any]) -> None:
    """Whatever answers in the place of the host's half: whole, or the part that is left where a sentence is cut."""
    redactor = Redactor({"token": SECRET})
    try:
        said = str(parse_answer(operation, {"clock": 1, **fields}, redactor))
    except MalformedAnswerError as error:
        said = str(error)
    assert SECRET[:12].lower() not in said.lower()


def test_a_version_that_is_a_setting_too_stays_a_version() -> None:
    answer = parse_answer("activate", {"clock": 1, "state": "started", "version": "2027.1.1"}, Redactor({"release": "2027.1.1"}))
    assert answer["version"] == "2027.1.1"
