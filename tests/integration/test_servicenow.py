# Copyright (c) Tidegate maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RFCs in ServiceNow are read, and their course is written, through the Table API; whatever the instance answers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import servicenow
from ansible_collections.tidegate.release.plugins.plugin_utils.errors import DocumentError, TidegateError
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc import tableapi
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.course import Course
from ansible_collections.tidegate.release.plugins.plugin_utils.rfc.source import load_rfc, open_change, rfc_number
from servicenow import Instance

DIGEST = "sha256:" + "ab" * 32
RELEASE = ("hello", "1.0", DIGEST)
NUMBER = "CHG0030001"
START = datetime(2027, 3, 1, 21, 0, 5, tzinfo=UTC)
IMPLEMENTING = Course(-1, START)
DONE = Course(0, START, START.replace(hour=22), "successful", "hello 1.0 is live.")


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Instance]:
    with servicenow.serve(tmp_path) as instance:
        for name, value in instance.environment.items():
            monkeypatch.setenv(name, value)
        yield instance


def refusal(instance: Instance, query: str = "") -> str:
    with pytest.raises(TidegateError) as caught:
        load_rfc(instance.address(NUMBER, query))
    message = str(caught.value)
    for secret in (servicenow.PASSWORD, servicenow.TOKEN):
        assert secret not in message
    return message


def test_a_change_request_is_the_rfc(instance: Instance) -> None:
    instance.change(
        NUMBER,
        RELEASE,
        start_date="2027-03-01 21:00:00",
        end_date="2027-03-02 01:00:00",
        on_hold="true",
        assigned_to=instance.user("oscar"),
    )
    rfc = load_rfc(instance.address(NUMBER))
    assert (rfc.number, rfc.type, rfc.state, rfc.risk, rfc.on_hold) == (NUMBER, "normal", -2, 3, True)
    assert (rfc.release, rfc.version, rfc.digest, rfc.scope) == (*RELEASE, "[?class=='server']")
    assert (rfc.requested_by, rfc.assigned_to) == ("rita", "oscar")
    assert rfc.start_date == datetime(2027, 3, 1, 21, tzinfo=UTC)  # not as it is shown, in this user's zone
    assert [(one.approver, one.role, one.state) for one in rfc.approvals] == [("carl", "approver", "approved")]


@pytest.mark.parametrize(
    "address",
    [
        "servicenow+https://",
        "servicenow+https://one.example",
        "servicenow+https://one.example/",
        "servicenow+https://one.example/CHG1",
        "servicenow+https://one.example/chg0030001",
        "servicenow+https://one.example/../CHG0030001",
        "servicenow+https://one.example/CHG0030001#x",
        "servicenow+https://one.example/CHG0030001^state=-2",
        "servicenow+https://rita:geheim@one.example/CHG0030001",
        "servicenow+https://one.example:port/CHG0030001",
        "servicenow+https://one.example/CHG0030001?colour=u_red",
        "servicenow+https://one.example/CHG0030001?digest=U_Digest,state",
        "servicenow+https://one.example/CHG0030001?digest",
        "servicenow+https://[::1/CHG0030001",
    ],
)
def test_a_malformed_address_is_refused_before_anybody_is_asked(address: str) -> None:
    for use in (load_rfc, rfc_number, open_change):
        with pytest.raises(TidegateError, match="is no address of an RFC in ServiceNow") as caught:
            use(address)
        assert "geheim" not in str(caught.value)


def test_nobody_is_asked_without_tls() -> None:
    with pytest.raises(TidegateError, match="is no address of an RFC in ServiceNow"):
        load_rfc("servicenow+http://127.0.0.1:1/CHG0030001")


def test_the_number_is_known_without_asking(instance: Instance) -> None:
    instance.down = True
    assert rfc_number(instance.address(NUMBER)) == NUMBER
    assert instance.requests == []


def test_fields_of_ones_own_are_named_in_the_address(instance: Instance) -> None:
    sys_id = instance.change(NUMBER, RELEASE)
    row = instance.tables["change_request"][sys_id]
    row["u_what"] = row.pop("u_tidegate_digest")
    objectives = [{"name": "answers", "http": {"url": "http://127.0.0.1/"}, "timeout": 5}]
    row |= {"u_aims": json.dumps(objectives), "u_people": "service-desk, webshop\n", "u_plan": "Mail on the day before."}
    rfc = load_rfc(instance.address(NUMBER, "digest=u_what&objectives=u_aims&stakeholders=u_people&communication_plan=u_plan"))
    assert rfc.digest == DIGEST
    assert [check["name"] for check in rfc.objectives] == ["answers"]
    assert (rfc.stakeholders, rfc.communication_plan) == (("service-desk", "webshop"), "Mail on the day before.")


def test_a_command_from_a_change_system_is_never_run_here(instance: Instance) -> None:
    instance.change(NUMBER, RELEASE, u_aims=json.dumps([{"name": "x", "command": ["rm", "-rf", "/"], "timeout": 5}]))
    assert "objectives.0 is a command, which whoever may edit the change could run" in refusal(instance, "objectives=u_aims")


def test_all_that_is_missing_is_named_at_once(instance: Instance) -> None:
    sys_id = instance.change(NUMBER, RELEASE)
    for name in ("u_tidegate_digest", "u_tidegate_scope"):
        del instance.tables["change_request"][sys_id][name]
    instance.hides = {"backout_plan"}
    assert "has no backout_plan, u_tidegate_digest, u_tidegate_scope, or this user may not read them" in refusal(instance)


def test_all_that_is_empty_or_wrong_is_named_at_once(instance: Instance) -> None:
    instance.change(NUMBER, ("", "1.0", "sha256:short"), risk="", state="-9", start_date="", requested_by="", u_tidegate_scope="[?x")
    with pytest.raises(DocumentError) as caught:
        load_rfc(instance.address(NUMBER))
    what = " ".join(problem.what for problem in caught.value.problems)
    for name in ("risk", "state", "start_date", "requested_by", "name", "release.digest", "scope"):
        assert name in what


@pytest.mark.parametrize(
    "text", ["no json", "{}", "[1]", "[[[[", '[{"name": "x"}]', "[" * 100_000, '[{"name": "x", "timeout": 1, "http": {"url": "${x}"}}]']
)
def test_objectives_that_are_none_are_refused(instance: Instance, text: str) -> None:
    instance.change(NUMBER, RELEASE, u_aims=text)
    assert "objectives" in refusal(instance, "objectives=u_aims")


def test_an_edit_is_another_fingerprint_and_progress_is_not(instance: Instance) -> None:
    sys_id = instance.change(NUMBER, RELEASE)
    address, row = instance.address(NUMBER), instance.tables["change_request"][sys_id]
    before = load_rfc(address).fingerprint
    row |= {"state": "-1", "on_hold": "true", "work_start": "2027-03-01 21:00:00", "close_notes": "x"}
    instance.approve(sys_id, "dora", "rejected")
    assert load_rfc(address).fingerprint == before
    for name, value in (
        ("backout_plan", "None."),
        ("u_tidegate_scope", "[*]"),
        ("end_date", "2030-01-01 00:00:00"),
        ("requested_by", instance.user("eve")),
    ):
        kept, row[name] = row[name], value
        assert load_rfc(address).fingerprint != before, name
        row[name] = kept


def test_approvals_are_of_this_change_and_none_is_lost(instance: Instance) -> None:
    sys_id = instance.change(NUMBER, RELEASE, approver="")
    other = instance.change("CHG0030002", RELEASE, approver="mallory")
    for index in range(230):  # several pages
        instance.approve(sys_id, f"person{index}", "requested")
    instance.approve(sys_id, "dora", "rejected")
    instance.approve(sys_id, "nobody", "not requested")
    assert other != sys_id
    for ignores in (set(), {"queries"}):
        instance.ignores = ignores  # then every approval comes back, whosever it is
        approvals = load_rfc(instance.address(NUMBER)).approvals
        assert len(approvals) == 231
        assert {one.approver for one in approvals if one.state == "rejected"} == {"dora"}


def test_an_instance_that_answers_every_query_with_everything_gives_no_other_change(instance: Instance) -> None:
    instance.ignores = {"queries"}
    instance.change("CHG0030002", RELEASE)
    assert f"there is no {NUMBER}" in refusal(instance)


PAGE = {"Content-Type": "text/html"}


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ((200, PAGE, servicenow.HTML), "not the Table API's, such as a page for people"),
        ((500, PAGE, servicenow.HTML), "answers 500; look at the instance's log"),
        ((403, {}, b'{"error": {"message": "ACL\\u001b[31m", "detail": ""}}'), "does not let this user do it (403: 'ACL\\x1b[31m')"),
        ((403, {}, b'{"error": {"message": "Basic dGlkZWdhdGU6b3BlbnNlc2FtZS00Mg== opensesame-42"}}'), "${password}')"),
        ((404, {}, b"{}"), "answers 404"),
        ((302, {"Location": "https://login.example/"}, b""), "points elsewhere"),
        ((200, {}, b"[]"), "not the Table API's"),
        ((200, {}, b'{"result": "x"}'), "not the Table API's"),
        ((200, {}, b'{"result": [{"number": 5}]}'), "not the Table API's"),
        ((200, {}, b'{"result": [{"number": {"value": [1]}}]}'), "not the Table API's"),
        ((200, {}, b'{"result": []}'), "how many records"),
        ((200, {}, b"[" * 100_000), "not the Table API's"),
        ((200, {}, b'{"result": [], "result": []}'), "not the Table API's"),
        ((302, {"Location": "/api/now/table/change_request"}, b""), "points elsewhere"),
        ((200, {}, b" " * (5 << 20)), "sends more than 4 MiB"),
        ((200, {"Content-Encoding": "gzip"}, b""), "packed"),
    ],
)
def test_what_is_no_answer_is_one_sentence(
    instance: Instance, fault: tuple[int, dict[str, str], bytes], sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    instance.change(NUMBER, RELEASE)
    instance.faults = [fault]
    message = refusal(instance)
    assert sentence in message
    assert "\x1b" not in message
    assert servicenow.PASSWORD not in message
    assert "\n" not in message
    assert "Traceback" not in capfd.readouterr().err


def test_credentials_go_nowhere_else(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SN_HOST", "https://another.example")
    assert "the credentials in the environment are for SN_HOST" in refusal(instance)
    assert instance.requests == []


def test_a_token_will_do_and_wrong_credentials_are_named(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    instance.change(NUMBER, RELEASE)
    monkeypatch.setenv("SN_ACCESS_TOKEN", servicenow.TOKEN)
    assert load_rfc(instance.address(NUMBER)).number == NUMBER
    monkeypatch.setenv("SN_ACCESS_TOKEN", "wrong")
    assert "does not know this user (401); correct SN_USERNAME and SN_PASSWORD, or SN_ACCESS_TOKEN" in refusal(instance)
    monkeypatch.delenv("SN_ACCESS_TOKEN")
    monkeypatch.delenv("SN_PASSWORD")
    assert "there are no credentials" in refusal(instance)


def test_an_unknown_certificate_is_refused(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    assert "certificate that is not trusted" in refusal(instance)


def test_a_busy_instance_is_asked_again_after_the_time_it_says(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    instance.change(NUMBER, RELEASE)
    instance.faults = [(429, {"Retry-After": "1"}, b""), (503, {"Retry-After": "0"}, servicenow.HTML)]
    pauses: list[float] = []
    monkeypatch.setattr(tableapi, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pauses.append))
    assert load_rfc(instance.address(NUMBER)).number == NUMBER
    assert pauses[0] >= 1
    instance.faults = [(429, {"Retry-After": "86400"}, b"")]
    assert "limits how often" in refusal(instance)


@pytest.mark.parametrize("how", ["slow", "body", "headers", "down"])
def test_an_instance_that_does_not_answer_is_not_waited_for(instance: Instance, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    instance.change(NUMBER, RELEASE)
    monkeypatch.setattr(tableapi, "_LIMIT", 2.0)
    monkeypatch.setattr(tableapi, "_PATIENCE", (1.0, 1.0))
    instance.delay, instance.down = (30.0 if how == "slow" else 0.0), how == "down"
    instance.trickle = how if how in ("body", "headers") else ""
    said = {"slow": "sent nothing for 1 s", "down": "can't be reached"}.get(how, "did not answer within 2 s")
    assert said in refusal(instance)
    instance.delay, instance.trickle = 0.0, ""


# -- writing -------------------------------------------------------------------


def test_a_course_is_written_step_by_step_and_once(instance: Instance) -> None:
    instance.change(NUMBER, RELEASE)
    change = open_change(instance.address(NUMBER))
    change.record(IMPLEMENTING, ["first", "second"], None)
    row = instance.record(NUMBER)
    assert (row["state"], row["work_start"], instance.said(NUMBER)) == ("-1", "2027-03-01 21:00:05", "first\nsecond")
    change.record(IMPLEMENTING, ["first", "second"], None)  # the answer was lost, and it is tried again
    assert len(instance.course) == 1
    change.record(DONE, [], IMPLEMENTING)
    row = instance.record(NUMBER)
    assert (row["state"], row["close_code"], row["work_end"]) == ("0", "successful", "2027-03-01 22:00:05")
    change.record(DONE, [], IMPLEMENTING)
    assert len(instance.course) == 2


def test_a_missed_start_is_made_up_for_without_leaving_out_a_state(instance: Instance) -> None:
    instance.change(NUMBER, RELEASE)
    open_change(instance.address(NUMBER)).record(DONE, ["done"], None)
    assert [entry["state"] for entry in instance.course] == ["-1", "0"]
    assert instance.record(NUMBER)["work_start"] == "2027-03-01 21:00:05"


def test_what_somebody_else_wrote_stays_and_our_own_words_change(instance: Instance) -> None:
    instance.change(NUMBER, RELEASE, state="0", close_code="successful_issues", close_notes="Look again", work_start="2027-03-01 20:00:00")
    open_change(instance.address(NUMBER)).record(DONE, [], IMPLEMENTING)
    row = instance.record(NUMBER)
    assert (row["close_code"], row["close_notes"], row["work_start"]) == ("successful_issues", "Look again", "2027-03-01 20:00:00")
    row |= {"close_code": DONE.close_code, "close_notes": DONE.close_notes, "work_end": "2027-03-01 22:00:05"}
    back = replace(DONE, close_code="unsuccessful", close_notes="Backed out.", work_end=START.replace(hour=23))
    open_change(instance.address(NUMBER)).record(back, [], DONE)
    assert (row["close_code"], row["close_notes"], row["work_end"]) == ("unsuccessful", "Backed out.", "2027-03-01 23:00:05")


@pytest.mark.parametrize("state", ["3", "4"])
def test_a_change_that_somebody_closed_or_canceled_gets_nothing_but_the_note(instance: Instance, state: str) -> None:
    instance.change(NUMBER, RELEASE, state=state)
    change = open_change(instance.address(NUMBER))
    for _turn in range(2):
        change.record(DONE, ["backed out"], IMPLEMENTING)
    assert instance.course == [{"work_notes": "backed out"}]


@pytest.mark.parametrize("name", ["state", "work_start", "work_end", "close_code", "close_notes", "work_notes"])
def test_a_write_that_is_ignored_in_silence_is_named(instance: Instance, name: str) -> None:
    instance.change(NUMBER, RELEASE, state="-1")
    instance.ignores = {name}
    with pytest.raises(TidegateError, match="ignored what was written without saying so") as caught:
        open_change(instance.address(NUMBER)).record(DONE, ["done"], None)
    said = {"state": "state should be '0' and is '-1'", "work_notes": "the work note is not there"}.get(name, f"{name} should be '")
    assert said in str(caught.value)


def test_a_move_that_the_instance_ignores_is_named_with_what_was_wanted_and_found(instance: Instance) -> None:
    instance.change(NUMBER, RELEASE)
    instance.ignores = {"state"}
    with pytest.raises(TidegateError, match="state should be '-1' and is '-2'"):
        open_change(instance.address(NUMBER)).record(IMPLEMENTING, [], None)


@pytest.mark.parametrize("state", ["-5", "-4", "-3", "3", "4", "17", "weird"])
def test_no_move_is_tried_that_the_change_model_does_not_have(instance: Instance, state: str) -> None:
    instance.change(NUMBER, RELEASE, state=state)
    with pytest.raises(TidegateError, match="can't become Implement"):
        open_change(instance.address(NUMBER)).record(IMPLEMENTING, [], None)
    assert instance.course == []


def test_a_write_is_not_repeated_when_its_answer_says_busy(instance: Instance) -> None:
    instance.change(NUMBER, RELEASE)
    instance.faults = []
    change = open_change(instance.address(NUMBER))
    count = len([1 for method, _path, _query in instance.requests if method == "PATCH"])
    original = instance.update

    def busy(*_: object) -> None:
        raise servicenow.Refused(503, "busy")

    instance.update = busy  # type: ignore[method-assign]
    with pytest.raises(TidegateError, match="answers 503"):
        change.record(IMPLEMENTING, [], None)
    assert len([1 for method, _path, _query in instance.requests if method == "PATCH"]) == count + 1
    instance.update = original  # type: ignore[method-assign]


def test_long_and_hostile_notes_are_written_as_plain_text(instance: Instance) -> None:
    instance.change(NUMBER, RELEASE)
    open_change(instance.address(NUMBER)).record(IMPLEMENTING, ["x" * 5000, "[code]<script>alert(1)</script>[/code]"], None)
    said = instance.said(NUMBER)
    assert len(said) <= 4000
    assert "[code]" not in said
    assert said.endswith("(code)<script>alert(1)</script>(/code)")
